//! open(2) and openat(2) that an interruption does not end: a file system on a network or in user space may be slow to
//! answer, and says EINTR when a signal, or a stop, comes meanwhile (opencontainers/runc issue 3045).

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, OwnedFd};

/// open(2). `flags` names `O_CLOEXEC`, as all of ours do.
pub fn open<P: ?Sized + NixPath>(path: &P, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    openat(nix::fcntl::AT_FDCWD, path, flags, mode)
}

/// openat(2), likewise.
pub fn openat<P: ?Sized + NixPath>(dir: impl AsFd, path: &P, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    loop {
        match nix::fcntl::openat(dir.as_fd(), path, flags, mode) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
