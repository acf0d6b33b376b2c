//! What CRIU is shown of the host while it restores a container: a mount namespace of its own, in which a private tmpfs
//! holds the root file system and a clone of every source of a bind mount, each under its name.
//!
//! Nothing is mounted where anybody else could see it, so that nothing is left when this process or CRIU is killed. CRIU
//! makes no mount points, so those that are missing in the root file system are made here.

use super::launch::prepare;
use super::open::{Opened, PRIVATE};
use super::words;
use crate::criu::mountinfo::{self, Mount};
use crate::error::{Context, Error, Result};
use crate::plan::{Action, Node, Open, Plan, Source, What, outside};
use crate::sandbox::child::{Call, Fail};
use crate::sys::clone::{self, flags};
use crate::sys::inroot::{self, Make};
use crate::sys::mount::{self, Attrs, attr};
use crate::sys::{fs, process};
use nix::mount::{MntFlags, MsFlags, umount2};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is shown.
#[derive(Debug)]
pub struct Staged {
    /// The container's root file system, a mount point.
    pub root: CString,
    /// Sources of mounts: their names in the images, and their paths.
    pub sources: Vec<(CString, CString)>,
    /// Descriptors of what the plan lists, by slot; trees are mounted by now.
    slots: Vec<Opened>,
    place: PathBuf,
}

impl Staged {
    /// The namespace in a slot.
    pub fn namespace(&self, slot: crate::plan::Slot) -> Option<BorrowedFd<'_>> {
        match self.slots.get(slot.0) {
            Some(Opened::Fd(fd, _)) => Some(fd.as_fd()),
            _ => None,
        }
    }
}

/// Stages the plan's root and sources on the directory `place`, calls `then`, and returns to the mount namespace and the
/// directory that the caller was in. What `then` starts stays and sees what was staged.
pub fn with_stage<T>(plan: &Plan, place: &Path, then: impl FnOnce(&Staged) -> Result<T>) -> Result<(Staged, T)> {
    if plan.raise_open_files {
        process::raise_open_files().step("prlimit64", || "raise the soft limit of open files".into())?;
    }
    let step = || "show CRIU the container's mounts".to_owned();
    let place = place.canonicalize().step("readlink", step)?;
    // Opened in the host's namespace: a clone of a shared mount follows what happens there.
    let slots = prepare(plan, None)?;
    let enter = || clone::unshare(flags::NEWNS).step("unshare", step);
    elsewhere(enter, || stage(plan, slots, place).and_then(|staged| then(&staged).map(|value| (staged, value))))
}

/// Enters another mount namespace, does something there, and returns to the caller's namespace and directory.
fn elsewhere<T>(enter: impl FnOnce() -> Result<()>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let step = || "keep the runtime's mount namespace".to_owned();
    let home = fs::open(fs::cwd(), c"/proc/self/ns/mnt", libc::O_RDONLY, 0).step("openat", step)?;
    let cwd = fs::open(fs::cwd(), c".", libc::O_PATH | libc::O_DIRECTORY, 0).step("openat", step)?;
    let done = enter().and_then(|()| work());
    let back = clone::setns(home.as_fd(), flags::NEWNS)
        .and_then(|()| fs::chdir_fd(cwd.as_fd()))
        .step("setns", || "return to the runtime's mount namespace".into());
    done.and_then(|value| back.map(|()| value))
}

/// Makes the root of the restored process `pid` read-only if the plan says so: CRIU needs it writable and leaves it so.
/// The process must not run yet.
pub fn close_root(plan: &Plan, pid: i32) -> Result<()> {
    let Some(asked) = plan.steps.iter().find(|s| matches!(s.action, Action::ReadonlyRoot)) else { return Ok(()) };
    let step = || "make the restored root file system read-only".to_owned();
    let enter = || {
        let path = crate::store::init::proc_file(pid, "ns/mnt")?;
        let namespace = fs::open(fs::cwd(), &path, libc::O_RDONLY, 0).step("openat", step)?;
        clone::setns(namespace.as_fd(), flags::NEWNS).step("setns", step)
    };
    let attrs = Attrs { set: attr::RDONLY, ..Attrs::default() };
    let close = || mount::mount_setattr(fs::cwd(), c"/", false, attrs, None).step("mount_setattr", step);
    elsewhere(enter, close).map_err(|e| e.at(asked.field.clone()))
}

fn stage(plan: &Plan, slots: Vec<Opened>, place: PathBuf) -> Result<Staged> {
    let step = || "show CRIU the container's mounts".to_owned();
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>).step("mount", step)?;
    let context = mount::fsopen(c"tmpfs").step("fsopen", step)?;
    mount::fsconfig_string(context.as_fd(), c"mode", c"700").step("fsconfig", step)?;
    mount::fsconfig_create(context.as_fd()).step("fsconfig", step)?;
    let dir = mount::fsmount(context.as_fd(), 0).step("fsmount", step)?;
    let under = fs::open(fs::cwd(), &c_path(&place), libc::O_PATH | libc::O_DIRECTORY, 0).step("openat", step)?;
    mount::move_mount(dir.as_fd(), under.as_fd()).step("move_mount", step)?;

    let path = plan.steps.iter().find_map(|s| match &s.action {
        Action::Root { path, .. } => Some(path),
        _ => None,
    });
    let path = path.ok_or_else(|| Error::new("root", "is missing").at("/root"))?;
    let mut sources: Vec<(CString, CString)> = Vec::new();
    for out in outside::mounts(plan) {
        let Some(Opened::Fd(tree, directory)) = slots.get(out.slot.0) else { continue };
        let known = sources.iter().position(|(key, _)| key.as_c_str() == out.key);
        if out.mask && known.is_some() {
            continue;
        }
        let make = if *directory { Make::Dir } else { Make::File };
        let name = name_of(out.slot);
        let target = inroot::ensure(dir.as_fd(), &c_path(&name), make).step("openat2", step)?;
        mount::move_mount(tree.as_fd(), target.as_fd()).step("move_mount", step)?;
        let path = match plan.opens.get(out.slot.0) {
            // CRIU makes a mount that followed the host's a follower again, of the mount that its source lies on. It takes
            // one such mount for all sources on a file system, so that must be the whole one.
            Some(Open { what: What::Tree(tree), path, .. }) if tree.idmap.is_none() => {
                c_path(&as_path(path).canonicalize().step("readlink", step)?)
            }
            // One that CRIU gets at from inside the container's user namespace, too.
            Some(Open { what: What::Node(node), path, .. }) => node_path(path, node).step("readlink", step)?,
            _ => c_path(&place.join(name)),
        };
        // Of two on one place, the later one is seen.
        match known.and_then(|n| sources.get_mut(n)) {
            Some(source) => source.1 = path,
            None => sources.push((out.key.to_owned(), path)),
        }
    }
    // Once to make mount points in, with the binds that they may lie in, and once without anything for CRIU.
    let root = attach_root(&dir, path)?;
    make_mount_points(plan, &slots, root.as_fd())?;
    umount2(&place.join(ROOT), MntFlags::MNT_DETACH).step("umount2", step)?;
    drop(root);
    attach_root(&dir, path)?;
    Ok(Staged { root: c_path(&place.join(ROOT)), sources, slots, place })
}

/// Where the host has the node, which was found there before.
fn node_path(path: &CStr, node: &Node) -> std::io::Result<CString> {
    let there = std::fs::symlink_metadata(as_path(path)).is_ok_and(|file| file.rdev() == node.dev);
    let path = if there { path } else { &node.by_number };
    Ok(c_path(&as_path(path).canonicalize()?))
}

fn as_path(path: &CStr) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()))
}

/// The name of a source on the stage.
fn name_of(slot: crate::plan::Slot) -> PathBuf {
    format!("source-{}", slot.0).into()
}

/// The name of the root file system on the stage.
const ROOT: &str = "rootfs";

fn attach_root(dir: &OwnedFd, path: &CStr) -> Result<OwnedFd> {
    let step = || format!("bind the root file system {}", path.to_string_lossy());
    let at = |e: Error| e.at("/root/path");
    let place = inroot::ensure(dir.as_fd(), c"rootfs", Make::Dir).step("openat2", step)?;
    let source = fs::open(fs::cwd(), path, libc::O_PATH | libc::O_DIRECTORY, 0).step("openat", step).map_err(at)?;
    let tree = mount::open_tree(source.as_fd(), c"", true, false).step("open_tree", step).map_err(at)?;
    mount::mount_setattr(tree.as_fd(), c"", false, PRIVATE, None).step("mount_setattr", step)?;
    mount::move_mount(tree.as_fd(), place.as_fd()).step("move_mount", step)?;
    Ok(tree)
}

/// Makes what is missing of the places that things are mounted on, as the making of the container did: CRIU wants them
/// there. What lies in a file system of the container's own comes back with that.
fn make_mount_points(plan: &Plan, slots: &[Opened], root: BorrowedFd<'_>) -> Result<()> {
    let mut own: Vec<&CStr> = Vec::new();
    for (n, step) in plan.steps.iter().enumerate() {
        let (target, slot) = match &step.action {
            Action::Mount(m) => match &m.source {
                Source::Tree(slot) => (m, Some(*slot)),
                Source::Filesystem(_) | Source::Inside(_) => (m, None),
                Source::Remount(_) => continue,
            },
            _ => continue,
        };
        let inside = |dir: &&CStr| below(&target.target, dir);
        if own.iter().any(inside) {
            continue;
        }
        let failed = |Fail(mut report): Fail| {
            report.step = u32::try_from(n).unwrap_or(u32::MAX);
            words::of_step(plan, &report)
        };
        let make = |directory| if directory { Make::Dir } else { Make::File };
        match slot.map(|slot| slots.get(slot.0)) {
            // A link: it is part of the root file system.
            Some(Some(Opened::Fd(tree, directory))) => {
                let target = super::steps::mount_point(root, target, make(*directory)).map_err(failed)?;
                let copy = mount::open_tree(tree.as_fd(), c"", true, false).step("open_tree", || step.action.words())?;
                mount::move_mount(copy.as_fd(), target.as_fd()).step("move_mount", || step.action.words())?;
            }
            Some(_) => {}
            None => {
                let make = if is_file_inside(plan, &target.source, root).map_err(failed)? { Make::File } else { Make::Dir };
                super::steps::mount_point(root, target, make).map_err(failed)?;
                own.push(&target.target);
            }
        }
    }
    Ok(())
}

/// Whether a source inside the root is a file, as far as that can be told here: what lies in a file system of the container's
/// own is not there yet.
fn is_file_inside(plan: &Plan, source: &Source, root: BorrowedFd<'_>) -> std::result::Result<bool, Fail> {
    let Source::Inside(slot) = source else { return Ok(false) };
    let Some(open) = plan.opens.get(slot.0) else { return Ok(false) };
    let Some(found) = super::open::look(root, &open.path)? else { return Ok(false) };
    Ok(fs::kind(fs::stat(found.as_fd()).call("fstat")?.st_mode) != libc::S_IFDIR)
}

/// Whether `path` lies below `dir`.
fn below(path: &CStr, dir: &CStr) -> bool {
    let rest = path.to_bytes().strip_prefix(dir.to_bytes());
    rest.is_some_and(|rest| rest.starts_with(b"/"))
}

fn c_path(path: &Path) -> CString {
    // A path that was looked up has no NUL.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// Checks on the restored process `pid`, before it runs, that nothing that is to be read-only came back writable: the images
/// say how a mount was, and the container may have had a say in those. `criu` still sees the stage.
pub fn verify(plan: &Plan, staged: &Staged, criu: i32, pid: i32) -> Result<()> {
    let (shown, restored) = (mountinfo::of(criu)?, mountinfo::of(pid)?);
    let source = |slot| Mount::on(&shown, &staged.place.join(name_of(slot)));
    let outside = outside::mounts(plan);
    let writable: Vec<_> = outside.iter().filter(|o| !o.readonly).filter_map(|o| source(o.slot)).collect();
    for out in outside.iter().filter(|o| o.readonly) {
        let Some(source) = source(out.slot) else { continue };
        if writable.iter().any(|w| w.same_source(source)) {
            continue;
        }
        if let Some(bad) = restored.iter().find(|m| m.same_source(source) && !m.readonly) {
            let cause = format!("on {} it is writable", bad.point.display());
            return Err(Error::new("restore a read-only mount", cause).at(out.field));
        }
    }
    let readonly = plan.steps.iter().any(|s| matches!(s.action, Action::ReadonlyRoot));
    match Mount::on(&restored, Path::new("/")) {
        Some(root) if readonly && !root.readonly => {
            Err(Error::new("restore the root file system", "it is writable").at("/root/readonly"))
        }
        _ => Ok(()),
    }
}
