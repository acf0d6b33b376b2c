//! The kernel: system calls that `nix` lacks or wraps too thickly for a process between clone and exec, each a thin
//! function with a safe signature. The only place with `unsafe`.
//!
//! Everything returns [`nix::Result`]: no allocation, no text; the caller says what it was doing. Descriptors are
//! `OwnedFd` and close-on-exec, always.
#![allow(unsafe_code)]

pub mod auxv;
pub mod exe;
pub mod memfd;

use nix::errno::Errno;

/// Turns the -1/errno of a raw call into a result.
pub(crate) fn check(ret: libc::c_long) -> nix::Result<libc::c_long> {
    if ret == -1 { Err(Errno::last()) } else { Ok(ret) }
}
