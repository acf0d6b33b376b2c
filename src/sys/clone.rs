//! clone3(2), and setns(2)/unshare(2) with the 64-bit flags that go with it.

use super::{check, owned};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// `CLONE_NEW*`, as clone3 and setns take them.
pub mod flags {
    /// New time namespace (Linux 5.6).
    pub const NEWTIME: u64 = 0x80;
    /// New mount namespace.
    pub const NEWNS: u64 = 0x0002_0000;
    /// New cgroup namespace.
    pub const NEWCGROUP: u64 = 0x0200_0000;
    /// New UTS namespace.
    pub const NEWUTS: u64 = 0x0400_0000;
    /// New IPC namespace.
    pub const NEWIPC: u64 = 0x0800_0000;
    /// New user namespace.
    pub const NEWUSER: u64 = 0x1000_0000;
    /// New PID namespace.
    pub const NEWPID: u64 = 0x2000_0000;
    /// New network namespace.
    pub const NEWNET: u64 = 0x4000_0000;
    pub(super) const PIDFD: u64 = 0x1000;
    pub(super) const PARENT: u64 = 0x8000;
    pub(super) const INTO_CGROUP: u64 = 0x2_0000_0000;
}

/// Which side of the clone this is.
pub enum Side {
    /// The new process.
    Child,
    /// The caller, with the new process's id (in the caller's PID namespace) and descriptor.
    Parent(i32, OwnedFd),
}

/// Clones this process, which must have one thread, or beside it such a one as [`super::netns`] starts: the child gets a copy of
/// the one and nothing that others may hold locked. With `cgroup` the child starts inside that cgroup (Linux 5.7). With `sibling`
/// the new process is a child of the caller's parent.
pub fn clone3(namespaces: u64, cgroup: Option<BorrowedFd<'_>>, sibling: bool) -> nix::Result<Side> {
    let mut pidfd: i32 = -1;
    // SAFETY: an all-zero clone_args is valid; fields are set below.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | flags::PIDFD;
    args.pidfd = std::ptr::from_mut(&mut pidfd).expose_provenance() as u64;
    if sibling {
        // The kernel refuses an exit signal with CLONE_PARENT: it is taken from the caller.
        args.flags |= flags::PARENT;
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(fd) = cgroup {
        args.flags |= flags::INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is fork(2): the child has a copy of all memory, on the same stack. No lock can be
    // held by a thread that is not copied: the one that this crate starts takes none.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match check(ret)? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(i32::try_from(pid).unwrap_or(-1), owned(pidfd.into())?)),
    }
}

/// Enters the namespace behind `fd`; `kind` is the one `CLONE_NEW*` flag it must be.
pub fn setns(fd: BorrowedFd<'_>, kind: u64) -> nix::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), kind) }).map(drop)
}

/// Leaves namespaces for new ones.
pub fn unshare(kinds: u64) -> nix::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_unshare, kinds) }).map(drop)
}
