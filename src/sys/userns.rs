//! A process that does nothing in a user namespace of its own, so that the namespace can be mapped and kept by descriptor.

use super::check;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Whether the mount namespace of this process belongs to a user namespace above its own (NS_GET_USERNS, ioctl_ns(2)): then
/// no capability of ours counts for its mounts.
pub fn mounts_are_foreign() -> nix::Result<bool> {
    let namespace = super::fs::open(super::fs::cwd(), c"/proc/self/ns/mnt", libc::O_RDONLY, 0)?;
    // SAFETY: a descriptor of ours, and a request without an argument.
    match check(unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_USERNS) }.into()) {
        // The owner is outside of what the caller may see.
        Err(Errno::EPERM) => Ok(true),
        other => super::owned(other?).map(|_owner| false),
    }
}

/// Holds a new user namespace open until it is dropped.
#[derive(Debug)]
pub struct Holder {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    /// Closing it lets the child go, also if this process dies.
    _lifeline: OwnedFd,
}

impl Holder {
    /// Makes a user namespace, its maps still unwritten, with clone3(2) (Linux 5.3). Without privilege this fails with
    /// EPERM where the host forbids user namespaces, ENOSPC or EUSERS at their limit.
    pub fn new() -> nix::Result<Self> {
        let (lifeline, lifeline_end) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let mut pidfd: RawFd = -1;
        // SAFETY: clone_args is plain data for which all zeroes is valid; the unset members ask for nothing.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        let flags = libc::CLONE_NEWUSER | libc::CLONE_PIDFD;
        args.flags = u64::try_from(flags).map_err(|_| Errno::EINVAL)?;
        args.pidfd = (&raw mut pidfd).expose_provenance() as u64;
        args.exit_signal = u64::try_from(libc::SIGCHLD).map_err(|_| Errno::EINVAL)?;
        // SAFETY: `args` and the int that it points to are live; without CLONE_VM the child runs on a copy of this memory,
        // and makes raw system calls only.
        let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) })?;
        if pid == 0 {
            let mut byte = 0u8;
            // SAFETY: a descriptor of this process and one live byte. The read ends when the other process drops its end.
            unsafe {
                libc::close(lifeline_end.as_raw_fd());
                libc::read(lifeline.as_raw_fd(), (&raw mut byte).cast(), 1);
                libc::_exit(0)
            }
        }
        // SAFETY: the kernel has just put a new descriptor there.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Self { pid: libc::pid_t::try_from(pid).map_err(|_| Errno::EPROTO)?, pidfd, _lifeline: lifeline_end })
    }

    /// The process, alive as long as this value.
    pub fn pid(&self) -> libc::pid_t {
        self.pid
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Its end is certain after this; only if the caller ignores SIGCHLD is there nothing to reap.
        let _gone = super::pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _reaped = super::pidfd::wait(self.pidfd.as_fd());
    }
}
