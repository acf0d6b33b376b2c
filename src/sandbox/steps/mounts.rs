//! Mounts inside the assembled root: trees, new file systems, masked and read-only paths. All by descriptor; a mount has
//! its final flags before it can be seen.

use super::copyup;
use crate::plan::{Filesystem, Kept, Mount, Open, Plan, Remount, Source, What};
use crate::sandbox::child::{Call, Child, Fail, leave};
use crate::sandbox::open::{Opened, clone_inside, look};
use crate::sandbox::report::Detail;
use crate::sys::inroot::{self, Make};
use crate::sys::mount::{self, Attrs, attr};
use crate::sys::{fs, fs::PROC_MAGIC};
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One of `mounts`.
pub(super) fn mount(child: &mut Child, plan: &Plan, m: &Mount) -> Result<(), Fail> {
    match &m.source {
        Source::Tree(slot) => {
            let opened = child.given.slots.get_mut(slot.0).map(|s| std::mem::replace(s, Opened::Nothing));
            match opened {
                Some(Opened::Fd(tree, directory)) => bind(child, m, tree, directory),
                Some(Opened::Link(to)) => {
                    let made = super::rootfs::symlink(child, &m.target, &to, false, None);
                    // Freed with the rest of memory, at exec.
                    std::mem::forget(to);
                    made
                }
                _ => Err(Fail::call("open_tree", Errno::EBADF)),
            }
        }
        Source::Inside(slot) => {
            let Some(Open { path, what: What::Inside(tree), .. }) = plan.opens.get(slot.0) else {
                return Err(Fail::call("open_tree", Errno::EBADF));
            };
            let userns = tree.idmap.as_ref().map(|_| child.slot(slot.0)).transpose()?;
            match clone_inside(child.root()?, path, tree, userns)? {
                Opened::Fd(tree, directory) => bind(child, m, tree, directory),
                _ => Err(Fail::call("open_tree", Errno::EBADF)),
            }
        }
        Source::Filesystem(new) => {
            // Looked for before it is made: a mount point of ours has no mode that anyone has chosen.
            let inherit = new.inherit_mode && look(child.root()?, &m.target)?.map(leave).is_some();
            let target = place(child, m, Make::Dir)?;
            let mounted = match (filesystem(new, target.as_fd(), inherit), &new.otherwise) {
                (Err(Fail(report)), Some((path, attrs))) if report.value == libc::EPERM => instead(path, *attrs)?,
                (made, _) => made?,
            };
            if let Some(label) = &m.label {
                super::labels::relabel(mounted.as_fd(), label)?;
            }
            attach(mounted.as_fd(), target.as_fd())?;
            leave(target);
            match m.kept {
                Some(Kept::Devpts) => child.devpts = Some(mounted),
                Some(Kept::Procfs) => child.proc = Some(mounted),
                None => leave(mounted),
            }
            Ok(())
        }
        Source::Remount(changes) => {
            let target = inroot::open(child.root()?, &m.target, libc::O_PATH, 0).call("openat2")?;
            remount(changes, target.as_fd())?;
            leave(target);
            Ok(())
        }
    }
}

/// Attaches a clone, and makes its mount point where that is missing.
fn bind(child: &mut Child, m: &Mount, tree: OwnedFd, directory: bool) -> Result<(), Fail> {
    let target = place(child, m, if directory { Make::Dir } else { Make::File })?;
    attach(tree.as_fd(), target.as_fd())?;
    leave(target);
    // An attached tree needs no descriptor any more.
    leave(tree);
    Ok(())
}

/// Attaches a detached mount. A directory on a file, or the other way round, is EINVAL to move_mount(2), as much else is;
/// mount(2) says ENOTDIR, and engines know that.
fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Fail> {
    let directory = |fd| fs::stat(fd).is_ok_and(|st| fs::kind(st.st_mode) == libc::S_IFDIR);
    match mount::move_mount(tree, target) {
        Err(Errno::EINVAL) if directory(tree) != directory(target) => Err(Fail::call("move_mount", Errno::ENOTDIR)),
        other => other.call("move_mount"),
    }
}

/// The mount point of one of `mounts`, which come one after another: several are made in the same directory, /dev, that is
/// looked up but once. What is mounted on a directory made here covers no other that is known.
fn place(child: &mut Child, m: &Mount, make: Make) -> Result<OwnedFd, Fail> {
    let mut found = None;
    if make == Make::Dir && !m.strict && !m.nofollow {
        // Where one was missing, others are.
        if super::rootfs::knows_parent(child, &m.target)
            && let Some(made) = super::rootfs::new_directory(child, &m.target)?
        {
            return Ok(made);
        }
        match inroot::open(child.root()?, &m.target, libc::O_PATH, 0) {
            Err(Errno::ENOENT) => {
                // It is not on procfs: nothing can be made there.
                if let Some(made) = super::rootfs::new_directory(child, &m.target)? {
                    return Ok(made);
                }
            }
            other => found = Some(other.call("openat2")?),
        }
    }
    if let Some((known, _)) = child.parent.take() {
        leave(known);
    }
    match found {
        Some(fd) => outside_proc(m, fd),
        None => target(child.root()?, m, make),
    }
}

/// Opens the mount point, making it where it is missing.
pub(in crate::sandbox) fn target(root: BorrowedFd<'_>, m: &Mount, make: Make) -> Result<OwnedFd, Fail> {
    if m.strict {
        // A link here would mount procfs somewhere else, and masks and labels would apply to nothing (CVE-2019-19921).
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let fd = match inroot::open(root, &m.target, flags, inroot::NO_SYMLINKS) {
            Err(Errno::ENOENT) => {
                inroot::ensure(root, &m.target, Make::Dir).call("mkdirat")?;
                inroot::open(root, &m.target, flags, inroot::NO_SYMLINKS)
            }
            other => other,
        };
        return match fd {
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                Err(Fail::refused("must be mounted on ordinary directory, not on a link or a file"))
            }
            other => other.call("openat2"),
        };
    }
    let fd = if m.nofollow {
        match inroot::open(root, &m.target, libc::O_PATH | libc::O_NOFOLLOW, 0) {
            Err(Errno::ENOENT) => inroot::ensure(root, &m.target, make),
            other => other,
        }
        .call("openat2")?
    } else {
        inroot::ensure(root, &m.target, make).call("openat2")?
    };
    outside_proc(m, fd)
}

fn outside_proc(m: &Mount, fd: OwnedFd) -> Result<OwnedFd, Fail> {
    if !m.may_cover_proc && fs::magic(fd.as_fd()).call("fstatfs")? == PROC_MAGIC {
        return Err(Fail::refused("the mount point lies inside /proc"));
    }
    Ok(fd)
}

/// Adds what the kernel has to say of a file system to the failure.
fn explain(context: BorrowedFd<'_>, result: nix::Result<()>) -> Result<(), Fail> {
    result.map_err(|e| {
        let mut text = [0u8; 216];
        let n = mount::fs_message(context, &mut text);
        let Fail(report) = Fail::call("fsconfig", e);
        Fail(if n > 0 { report.detail(Detail::Kernel, text.get(..n).unwrap_or_default()) } else { report })
    })
}

fn configure(context: BorrowedFd<'_>, parameters: &[(CString, Option<CString>)]) -> Result<(), Fail> {
    for (key, value) in parameters {
        let set = match value {
            Some(value) => mount::fsconfig_string(context, key, value),
            None => mount::fsconfig_flag(context, key),
        };
        explain(context, set)?;
    }
    Ok(())
}

fn propagate(mounted: BorrowedFd<'_>, changes: &[(u64, bool)]) -> Result<(), Fail> {
    for &(propagation, recursive) in changes {
        let attrs = Attrs { propagation, ..Attrs::default() };
        mount::mount_setattr(mounted, c"", recursive, attrs, None).call("mount_setattr")?;
    }
    Ok(())
}

/// Changes the mount that `target` is the root of.
fn remount(changes: &Remount, target: BorrowedFd<'_>) -> Result<(), Fail> {
    if !changes.parameters.is_empty() {
        let context = mount::fspick(target).call("fspick")?;
        configure(context.as_fd(), &changes.parameters)?;
        explain(context.as_fd(), mount::fsconfig_reconfigure(context.as_fd()))?;
        leave(context);
    }
    for (attrs, recursive) in [(changes.recursive_attrs, true), (changes.attrs, false)] {
        if attrs != Attrs::default() {
            mount::mount_setattr(target, c"", recursive, attrs, None).call("mount_setattr")?;
        }
    }
    propagate(target, &changes.propagation)
}

/// A detached mount of a new file system.
fn filesystem(new: &Filesystem, target: BorrowedFd<'_>, inherit_mode: bool) -> Result<OwnedFd, Fail> {
    let context = mount::fsopen(&new.kind).call("fsopen")?;
    configure(context.as_fd(), &new.parameters)?;
    if inherit_mode {
        let mode = fs::stat(target).call("fstat")?.st_mode & 0o7777;
        let mut digits = [0u8; 8];
        explain(context.as_fd(), mount::fsconfig_string(context.as_fd(), c"mode", octal(mode, &mut digits)))?;
    }
    explain(context.as_fd(), mount::fsconfig_create(context.as_fd()))?;
    let readonly = new.attrs & attr::RDONLY;
    let at_once = if new.copy_up { new.attrs & !attr::RDONLY } else { new.attrs };
    let mounted = mount::fsmount(context.as_fd(), at_once).call("fsmount")?;
    if new.copy_up {
        copyup::copy(target, mounted.as_fd())?;
        if readonly != 0 {
            let attrs = Attrs { set: readonly, ..Attrs::default() };
            mount::mount_setattr(mounted.as_fd(), c"", false, attrs, None).call("mount_setattr")?;
        }
    }
    propagate(mounted.as_fd(), &new.propagation)?;
    leave(context);
    Ok(mounted)
}

/// A clone of a tree of the host, cut off from it, with these attributes on all of it. None is taken away: in a user namespace
/// they are locked.
fn instead(path: &CStr, attrs: u64) -> Result<OwnedFd, Fail> {
    let tree = mount::open_tree(fs::cwd(), path, true, false).call("open_tree")?;
    let private = Attrs { propagation: libc::MS_PRIVATE, ..Attrs::default() };
    mount::mount_setattr(tree.as_fd(), c"", true, private, None).call("mount_setattr")?;
    let attrs = Attrs { set: attrs & !libc::MOUNT_ATTR__ATIME, ..Attrs::default() };
    if attrs != Attrs::default() {
        mount::mount_setattr(tree.as_fd(), c"", true, attrs, None).call("mount_setattr")?;
    }
    Ok(tree)
}

/// `mode` in octal digits.
fn octal(mode: u32, digits: &mut [u8; 8]) -> &CStr {
    for (place, digit) in digits.iter_mut().take(4).enumerate() {
        let shift = 9 - 3 * place;
        *digit = b'0' + u8::try_from((mode >> shift) & 7).unwrap_or_default();
    }
    CStr::from_bytes_until_nul(digits).unwrap_or_default()
}

/// One of `linux.maskedPaths`: an empty read-only directory over a directory, the null device over anything else. Both
/// are our own objects, never something that the container's /dev offers (CVE-2025-31133).
pub(super) fn mask(child: &mut Child, plan: &Plan, path: &CStr, label: Option<&(CString, CString)>) -> Result<(), Fail> {
    let Some(target) = look(child.root()?, path)? else { return Ok(()) };
    if fs::kind(fs::stat(target.as_fd()).call("fstat")?.st_mode) == libc::S_IFDIR {
        let cover = match &child.mask_dir {
            Some(attached) => mount::open_tree(attached.as_fd(), c"", false, false).call("open_tree")?,
            None => empty_directory(label)?,
        };
        mount::move_mount(cover.as_fd(), target.as_fd()).call("move_mount")?;
        leave(target);
        match child.mask_dir {
            Some(_) => leave(cover),
            None => child.mask_dir = Some(cover),
        }
        return Ok(());
    }
    let slot = plan.opens.iter().position(|o| matches!(o.what, What::Null)).ok_or(Fail::call("open_tree", Errno::EBADF))?;
    let null = child.slot(slot)?;
    if child.null_attached {
        let cover = mount::open_tree(null, c"", false, false).call("open_tree")?;
        mount::move_mount(cover.as_fd(), target.as_fd()).call("move_mount")?;
        leave(cover);
        leave(target);
        return Ok(());
    }
    mount::move_mount(null, target.as_fd()).call("move_mount")?;
    leave(target);
    child.null_attached = true;
    Ok(())
}

pub(super) fn empty_directory(label: Option<&(CString, CString)>) -> Result<OwnedFd, Fail> {
    let context = mount::fsopen(c"tmpfs").call("fsopen")?;
    for (key, value) in [(c"mode", c"755"), (c"nr_inodes", c"2"), (c"size", c"4k")] {
        mount::fsconfig_string(context.as_fd(), key, value).call("fsconfig")?;
    }
    if let Some((key, label)) = label {
        explain(context.as_fd(), mount::fsconfig_string(context.as_fd(), key, label))?;
    }
    mount::fsconfig_create(context.as_fd()).call("fsconfig")?;
    let mounted = mount::fsmount(context.as_fd(), attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC).call("fsmount")?;
    leave(context);
    Ok(mounted)
}

/// One of `linux.readonlyPaths`: a read-only clone of the path over itself.
pub(super) fn readonly(child: &Child, path: &CStr) -> Result<(), Fail> {
    let Some(target) = look(child.root()?, path)? else { return Ok(()) };
    let tree = mount::open_tree(target.as_fd(), c"", true, false).call("open_tree")?;
    let attrs = Attrs { set: attr::RDONLY, ..Attrs::default() };
    mount::mount_setattr(tree.as_fd(), c"", false, attrs, None).call("mount_setattr")?;
    mount::move_mount(tree.as_fd(), target.as_fd()).call("move_mount")?;
    leave(tree);
    leave(target);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_digits() {
        assert_eq!(octal(0o1777, &mut [0; 8]), c"1777");
        assert_eq!(octal(0o755, &mut [0; 8]), c"0755");
    }
}
