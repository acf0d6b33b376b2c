//! The descriptor-based mount calls (fsopen, open_tree, mount_setattr, move_mount; Linux 5.2 to 5.12) and pivot_root.

use super::{check, owned};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// `MOUNT_ATTR_*` of mount_setattr(2).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Ignore set-user-id bits.
    pub const NOSUID: u64 = 0x2;
    /// No device nodes.
    pub const NODEV: u64 = 0x4;
    /// No program may be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The id-mapped mount (Linux 5.12).
    pub const IDMAP: u64 = 0x0010_0000;
}

const AT_EMPTY_PATH: libc::c_uint = 0x1000;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const CLOEXEC: libc::c_uint = 1;

/// Opens a context for a new file system of type `name`.
pub fn fsopen(name: &CStr) -> nix::Result<OwnedFd> {
    // SAFETY: `name` is a NUL-terminated string.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), CLOEXEC) })
}

fn fsconfig(fs: BorrowedFd<'_>, command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>) -> nix::Result<()> {
    let key = key.map_or(std::ptr::null(), CStr::as_ptr);
    let value = value.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: both pointers are null or NUL-terminated strings, as the command asks.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, key, value, 0) }).map(drop)
}

/// Sets a flag of the new file system.
pub fn fsconfig_flag(fs: BorrowedFd<'_>, key: &CStr) -> nix::Result<()> {
    fsconfig(fs, 0, Some(key), None)
}

/// Sets a parameter of the new file system.
pub fn fsconfig_string(fs: BorrowedFd<'_>, key: &CStr, value: &CStr) -> nix::Result<()> {
    fsconfig(fs, 1, Some(key), Some(value))
}

/// Makes the superblock.
pub fn fsconfig_create(fs: BorrowedFd<'_>) -> nix::Result<()> {
    fsconfig(fs, 6, None, None)
}

/// Opens the file system of the mount at `path` to change its parameters.
pub fn fspick(path: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    const EMPTY_PATH: libc::c_uint = 8;
    // SAFETY: a static string and integers.
    owned(unsafe { libc::syscall(libc::SYS_fspick, path.as_raw_fd(), c"".as_ptr(), CLOEXEC | EMPTY_PATH) })
}

/// Applies the parameters to the file system picked.
pub fn fsconfig_reconfigure(fs: BorrowedFd<'_>) -> nix::Result<()> {
    fsconfig(fs, 7, None, None)
}

/// A detached mount of the file system, with `MOUNT_ATTR_*`.
pub fn fsmount(fs: BorrowedFd<'_>, attrs: u64) -> nix::Result<OwnedFd> {
    // SAFETY: integers only.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), CLOEXEC, attrs) })
}

/// The kernel's own words about what went wrong with `fs`, one message, `e tmpfs: Unknown parameter 'x'`; 0 for none.
pub fn fs_message(fs: BorrowedFd<'_>, buffer: &mut [u8]) -> usize {
    let mut last = 0;
    // Messages queue up; the last one before an error is the one that explains it. ENODATA ends the queue.
    for _ in 0..8 {
        match super::fs::read_once(fs, buffer) {
            Ok(n) if n > 0 => last = n,
            _ => break,
        }
    }
    last
}

/// A detached clone of the mount (with `recursive`, of the tree) at `path`.
pub fn open_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool, nofollow: bool) -> nix::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
    if path.is_empty() {
        flags |= AT_EMPTY_PATH;
    }
    if recursive {
        flags |= AT_RECURSIVE;
    }
    if nofollow {
        flags |= libc::AT_SYMLINK_NOFOLLOW as libc::c_uint;
    }
    // SAFETY: `path` is a NUL-terminated string.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// Attaches the detached mount `from` at the place that `to` names.
pub fn move_mount(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> nix::Result<()> {
    const F_EMPTY_PATH: libc::c_uint = 0x4;
    const T_EMPTY_PATH: libc::c_uint = 0x40;
    // SAFETY: the empty paths are static NUL-terminated strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from.as_raw_fd(),
            c"".as_ptr(),
            to.as_raw_fd(),
            c"".as_ptr(),
            F_EMPTY_PATH | T_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// What mount_setattr(2) changes; all zero changes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attrs {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
}

/// Changes the mount at `path` (with `recursive`, the tree). `userns` goes with [`attr::IDMAP`].
pub fn mount_setattr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    attrs: Attrs,
    userns: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let arg = MountAttr {
        set: attrs.set,
        clear: attrs.clear,
        propagation: attrs.propagation,
        userns_fd: userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let mut flags = if path.is_empty() { AT_EMPTY_PATH } else { 0 };
    if recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: `path` is NUL-terminated, `arg` is struct mount_attr and its size goes with it.
    check(unsafe {
        libc::syscall(libc::SYS_mount_setattr, dir.as_raw_fd(), path.as_ptr(), flags, &raw const arg, size_of::<MountAttr>())
    })
    .map(drop)
}

/// pivot_root(".", "."): the working directory becomes the root, the old root lies on top of it until it is unmounted.
pub fn pivot_root_here() -> nix::Result<()> {
    // SAFETY: static strings.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }).map(drop)
}

/// Unmounts what is on top of the working directory, lazily.
pub fn detach_here() -> nix::Result<()> {
    // SAFETY: static string.
    check(unsafe { libc::syscall(libc::SYS_umount2, c".".as_ptr(), libc::MNT_DETACH) }).map(drop)
}

/// Unmounts what is mounted on `path`, with all below it, lazily (umount2(2)).
pub fn detach(path: &CStr) -> nix::Result<()> {
    // SAFETY: `path` is a NUL-terminated string.
    check(unsafe { libc::syscall(libc::SYS_umount2, path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }).map(drop)
}
