//! The kernel: system calls that `nix` lacks or wraps too thickly for a process between clone and exec, each a thin
//! function with a safe signature. The only place with `unsafe`.
//!
//! Everything returns [`nix::Result`]: no allocation, no text; the caller says what it was doing. Descriptors are
//! `OwnedFd` and close-on-exec, always.
#![allow(unsafe_code)]

pub mod auxv;
pub mod bpf;
pub mod clone;
pub mod creds;
pub mod dirent;
pub mod elf;
pub mod exe;
pub mod fs;
pub mod heap;
pub mod helper;
pub mod inroot;
pub mod memfd;
pub mod mount;
pub mod namespaces;
pub mod netlink;
pub mod netns;
pub mod open;
pub mod pidfd;
pub mod process;
pub mod seccomp;
pub mod shared;
pub mod socket;
pub mod spawn;
pub mod start;
pub mod tty;
pub mod userns;
pub mod vfs;
pub mod xattr;

use nix::errno::Errno;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Turns the -1/errno of a raw call into a result.
pub(crate) fn check(ret: libc::c_long) -> nix::Result<libc::c_long> {
    if ret == -1 { Err(Errno::last()) } else { Ok(ret) }
}

/// Takes ownership of the descriptor that a raw call returned.
pub(crate) fn owned(ret: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = RawFd::try_from(check(ret)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: a system call just returned this descriptor, so it is open and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
