//! The rootfs itself: held, furnished with device nodes, links and a console, made the root.

use crate::plan::Device;
use crate::sandbox::child::{Call, Child, Fail, Parent, leave};
use crate::sandbox::open::{PRIVATE, look};
use crate::sys::inroot::{self, Make};
use crate::sys::mount::{self, Attrs, attr};
use crate::sys::{fs, tty};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Clones the rootfs tree and mounts it over itself: a mount point of our own, which pivot_root wants, and the last time
/// that its path is looked up.
pub(super) fn root(child: &mut Child, path: &CStr, private: bool) -> Result<(), Fail> {
    let place = fs::open(fs::cwd(), path, libc::O_PATH | libc::O_DIRECTORY, 0).call("openat")?;
    let tree = mount::open_tree(place.as_fd(), c"", true, false).call("open_tree")?;
    if private {
        mount::mount_setattr(tree.as_fd(), c"", false, PRIVATE, None).call("mount_setattr")?;
    }
    mount::move_mount(tree.as_fd(), place.as_fd()).call("move_mount")?;
    leave(place);
    child.root = Some(tree);
    Ok(())
}

/// Makes the mount that `path` lies on private. Its root is found by going up: mount_setattr works on mount roots only.
pub(super) fn private_parent(path: &CStr) -> Result<(), Fail> {
    let attrs = Attrs { propagation: libc::MS_PRIVATE, ..Attrs::default() };
    let mut at = fs::open(fs::cwd(), path, libc::O_PATH | libc::O_DIRECTORY, 0).call("openat")?;
    for _ in 0..libc::PATH_MAX {
        match mount::mount_setattr(at.as_fd(), c"", false, attrs, None) {
            // EINVAL: not the root of a mount.
            Err(Errno::EINVAL) => at = fs::open(at.as_fd(), c"..", libc::O_PATH | libc::O_DIRECTORY, 0).call("openat")?,
            other => return other.call("mount_setattr"),
        }
    }
    Err(Fail::call("mount_setattr", Errno::ELOOP))
}

/// One of `linux.devices` or of the default devices.
pub(super) fn device(child: &mut Child, device: &Device) -> Result<(), Fail> {
    if let Some(slot) = device.host {
        return bind_node(child.root()?, &device.path, child.slot(slot.0)?);
    }
    let name = parent(child, &device.path)?;
    let name = name.c_str().call("mknodat")?;
    let root = child.root()?;
    let Some((dir, _)) = &child.parent else { return Err(Fail::call("openat2", Errno::EBADF)) };
    match fs::mknod(dir.as_fd(), name, device.mode, device.dev) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return same_node(dir.as_fd(), name, device),
        Err(Errno::EPERM) => {
            // Nested without CAP_MKNOD, or a file system with nodev semantics of its own: the host's node will do, if it
            // is the same device.
            let node = mount::open_tree(fs::cwd(), &device.path, false, true).call("open_tree")?;
            if !is_device(node.as_fd(), device)? {
                return Err(Fail::call("mknodat", Errno::EPERM));
            }
            mount::mount_setattr(node.as_fd(), c"", false, PRIVATE, None).call("mount_setattr")?;
            return bind_node(root, &device.path, node.as_fd());
        }
        Err(e) => return Err(Fail::call("mknodat", e)),
    }
    if (device.uid, device.gid) != (0, 0) {
        fs::chown_at(dir.as_fd(), name, device.uid, device.gid).call("fchownat")?;
    }
    Ok(())
}

fn is_device(node: BorrowedFd<'_>, device: &Device) -> Result<bool, Fail> {
    let st = fs::stat(node).call("fstat")?;
    let special = fs::kind(st.st_mode) != libc::S_IFIFO;
    Ok(fs::kind(st.st_mode) == fs::kind(device.mode) && (!special || st.st_rdev == device.dev))
}

/// The name is taken: fine if it is the very device (spec, config-linux.md, Devices).
fn same_node(dir: BorrowedFd<'_>, name: &CStr, device: &Device) -> Result<(), Fail> {
    let node = inroot::open_beneath(dir, name, libc::O_PATH | libc::O_NOFOLLOW, 0).call("openat2")?;
    if is_device(node.as_fd(), device)? {
        return Ok(());
    }
    Err(Fail::refused("something else is there already"))
}

fn bind_node(root: BorrowedFd<'_>, path: &CStr, node: BorrowedFd<'_>) -> Result<(), Fail> {
    let target = inroot::ensure(root, path, Make::File).call("openat2")?;
    mount::move_mount(node, target.as_fd()).call("move_mount")
}

/// Whether the directory that `path` lies in is [`Child::parent`].
pub(super) fn knows_parent(child: &Child, path: &CStr) -> bool {
    let directory = inroot::split(path).map(|(directory, _)| directory);
    child.parent.as_ref().is_some_and(|(_, known)| directory.is_ok_and(|directory| known.is(directory)))
}

/// Opens the directory that `path` lies in, as [`Child::parent`], and returns the last component.
fn parent(child: &mut Child, path: &CStr) -> Result<inroot::Name, Fail> {
    let (directory, name) = inroot::split(path).call("mkdirat")?;
    if child.parent.as_ref().is_none_or(|(_, known)| !known.is(directory)) {
        let fd = inroot::ensure_directory(child.root()?, directory).call("mkdirat")?;
        // A path too long to be remembered is looked up each time.
        let known = Parent::new(directory).or_else(|| Parent::new(b"")).ok_or_else(|| Fail::call("mkdirat", Errno::EINVAL))?;
        if let Some((old, _)) = child.parent.replace((fd, known)) {
            leave(old);
        }
    }
    Ok(name)
}

/// Makes the directory `path`, the last component of which is not there; nothing when something came to be there.
pub(super) fn new_directory(child: &mut Child, path: &CStr) -> Result<Option<OwnedFd>, Fail> {
    let name = parent(child, path)?;
    let Some((dir, _)) = &child.parent else { return Err(Fail::call("openat2", Errno::EBADF)) };
    inroot::new_directory(dir.as_fd(), name.c_str().call("mkdirat")?).call("mkdirat")
}

/// A link. A name that is taken stays, unless it is to be replaced (`/dev/ptmx`).
pub(super) fn symlink(child: &mut Child, path: &CStr, target: &CStr, replace: bool, only_if: Option<&CStr>) -> Result<(), Fail> {
    if let Some(needed) = only_if {
        match look(child.root()?, needed)? {
            Some(there) => leave(there),
            None => return Ok(()),
        }
    }
    let name = parent(child, path)?;
    let name = name.c_str().call("symlinkat")?;
    let Some((dir, _)) = &child.parent else { return Err(Fail::call("openat2", Errno::EBADF)) };
    match fs::symlink(target, dir.as_fd(), name) {
        Err(Errno::EEXIST) if replace => {
            fs::unlink(dir.as_fd(), name, false).call("unlinkat")?;
            fs::symlink(target, dir.as_fd(), name).call("symlinkat")
        }
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(Fail::call("symlinkat", e)),
    }
}

/// A pseudo-terminal of the container's own devpts (of a private one if it has none): the master is handed out, the slave
/// becomes the controlling terminal, the standard streams, and /dev/console. No path of the container is trusted
/// (CVE-2025-52565, CVE-2026-88264).
pub(super) fn console(child: &mut Child, rows: u16, columns: u16, uid: u32, node: bool) -> Result<(), Fail> {
    let private;
    let devpts = match &child.devpts {
        Some(fd) => fd.as_fd(),
        None => {
            private = private_devpts()?;
            private.as_fd()
        }
    };
    let (master, slave) = tty::open_pair(devpts).call("openat")?;
    if rows != 0 || columns != 0 {
        tty::set_size(slave.as_fd(), tty::Size { height: rows, width: columns }).call("ioctl")?;
    }
    if uid != 0 {
        fs::chown_at(slave.as_fd(), c"", uid, u32::MAX).call("fchownat")?;
    }
    // Attached only where the slave's mount is part of our tree; a private devpts is not, and cannot be cloned from.
    if node && child.devpts.is_some() {
        let node = mount::open_tree(slave.as_fd(), c"", false, false).call("open_tree")?;
        console_node(child.root()?, node.as_fd())?;
    }
    if let Some(socket) = child.given.console.take() {
        crate::sys::socket::send_fd(socket.as_fd(), master.as_fd(), b"/dev/ptmx").call("sendmsg")?;
    }
    drop(master);
    tty::take_control(slave.as_fd()).call("ioctl")?;
    for n in 0..=2 {
        fs::become_stdio(slave.as_fd(), n).call("dup3")?;
    }
    Ok(())
}

/// Takes hold of a container that was entered: its root, and what is mounted on /dev/pts if that is devpts.
pub(super) fn inside(child: &mut Child, devpts: bool) -> Result<(), Fail> {
    let root = fs::open(fs::cwd(), c"/", libc::O_PATH | libc::O_DIRECTORY, 0).call("openat")?;
    if devpts {
        match inroot::open(root.as_fd(), c"/dev/pts", libc::O_PATH | libc::O_DIRECTORY, 0) {
            Ok(pts) if fs::magic(pts.as_fd()).call("fstatfs")? == DEVPTS_MAGIC => child.devpts = Some(pts),
            // Then the terminal comes from a devpts of its own, as it did for init.
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
            Err(e) => return Err(Fail::call("openat2", e)),
        }
    }
    child.root = Some(root);
    Ok(())
}

const DEVPTS_MAGIC: i64 = 0x1cd1;

fn private_devpts() -> Result<OwnedFd, Fail> {
    let context = mount::fsopen(c"devpts").call("fsopen")?;
    mount::fsconfig_string(context.as_fd(), c"ptmxmode", c"0666").call("fsconfig")?;
    mount::fsconfig_string(context.as_fd(), c"mode", c"0620").call("fsconfig")?;
    mount::fsconfig_create(context.as_fd()).call("fsconfig")?;
    mount::fsmount(context.as_fd(), attr::NOSUID | attr::NOEXEC).call("fsmount")
}

fn console_node(root: BorrowedFd<'_>, node: BorrowedFd<'_>) -> Result<(), Fail> {
    let target = match inroot::open(root, c"/dev/console", libc::O_PATH | libc::O_NOFOLLOW, 0) {
        Err(Errno::ENOENT) => inroot::ensure(root, c"/dev/console", Make::File).call("openat2")?,
        other => other.call("openat2")?,
    };
    if fs::kind(fs::stat(target.as_fd()).call("fstat")?.st_mode) == libc::S_IFLNK {
        return Err(Fail::refused("/dev/console is a link"));
    }
    mount::move_mount(node, target.as_fd()).call("move_mount")
}

/// A stream on the host's null device keeps a mount of the host within reach, and its node's owner is the host's affair: the
/// container's own node takes its place. Where that cannot be had the host's does its work.
pub(super) fn null_streams(child: &Child) {
    let is_null = |st: libc::stat| fs::kind(st.st_mode) == libc::S_IFCHR && st.st_rdev == libc::makedev(1, 3);
    let on_null = [0, 1, 2].map(|n| fs::stat_stdio(n).is_ok_and(is_null));
    if on_null == [false; 3] {
        return;
    }
    let Some(root) = &child.root else { return };
    // It may be anything if /dev is shared: nothing that is opened so waits or takes a terminal.
    let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let Ok(null) = inroot::open(root.as_fd(), c"/dev/null", flags, 0) else { return };
    if !fs::stat(null.as_fd()).is_ok_and(is_null) || fs::set_status_flags(null.as_fd(), 0).is_err() {
        return;
    }
    for (n, _) in (0..=2).zip(on_null).filter(|(_, on_null)| *on_null) {
        // Fails for no reason but those that leave the stream as it was.
        let _as_it_was = fs::become_stdio(null.as_fd(), n);
    }
    fs::leave(null);
}

/// Makes the held tree the root. Old root and new lie at one place, on top of each other, so the old one is never
/// reachable by a name.
pub(super) fn pivot(child: &mut Child, old_root_shared: bool) -> Result<(), Fail> {
    let old = if old_root_shared { Some(fs::open(fs::cwd(), c"/", libc::O_PATH, 0).call("openat")?) } else { None };
    fs::chdir_fd(child.root()?).call("fchdir")?;
    mount::pivot_root_here().call("pivot_root")?;
    if let Some(old) = old {
        // The unmount below must not travel to the host.
        let attrs = Attrs { propagation: libc::MS_SLAVE, ..Attrs::default() };
        mount::mount_setattr(old.as_fd(), c"", true, attrs, None).call("mount_setattr")?;
    }
    mount::detach_here().call("umount2")?;
    enter_root(child)
}

/// Goes to the container's root.
fn enter_root(child: &mut Child) -> Result<(), Fail> {
    fs::chdir(c"/").call("chdir")?;
    child.at_root = true;
    Ok(())
}

/// The same where pivot_root cannot work (the host's root is a ramfs).
pub(super) fn move_root(child: &mut Child) -> Result<(), Fail> {
    fs::chdir_fd(child.root()?).call("fchdir")?;
    let slash = fs::open(fs::cwd(), c"/", libc::O_PATH, 0).call("openat")?;
    mount::move_mount(child.root()?, slash.as_fd()).call("move_mount")?;
    fs::chroot_here().call("chroot")?;
    enter_root(child)
}

/// Takes a mount of the host's out of the container's mount namespace, with all below it. One that is locked to its place,
/// as a less privileged mount namespace has them (mount_namespaces(7)), is covered instead.
pub(super) fn unexpose(path: &CStr) -> Result<(), Fail> {
    match mount::detach(path) {
        // Gone with another one.
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EINVAL | Errno::EPERM) => {
            let place = fs::open(fs::cwd(), path, libc::O_PATH | libc::O_DIRECTORY, 0).call("openat")?;
            let cover = super::mounts::empty_directory(None)?;
            mount::move_mount(cover.as_fd(), place.as_fd()).call("move_mount")?;
            leave(cover);
            leave(place);
            Ok(())
        }
        Err(e) => Err(Fail::call("umount2", e)),
    }
}

/// `root.readonly`.
pub(super) fn readonly_root(child: &Child) -> Result<(), Fail> {
    let attrs = Attrs { set: attr::RDONLY, ..Attrs::default() };
    mount::mount_setattr(child.root()?, c"", false, attrs, None).call("mount_setattr")
}

/// `process.cwd`, made where it is missing.
pub(super) fn make_working_directory(child: &Child, path: &CStr) -> Result<(), Fail> {
    inroot::ensure(child.root()?, path, Make::Dir).call("mkdirat").map(drop)
}
