//! What the file system says of a descriptor's mount.

use super::check;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Whether `fd` lies on a mount with `noexec` (fstatfs(2), ST_NOEXEC).
pub fn is_noexec(fd: BorrowedFd<'_>) -> nix::Result<bool> {
    // SAFETY: an all-zero statvfs is a valid value to be written over.
    let mut st: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `st` is a statvfs buffer of our own.
    check(unsafe { libc::fstatvfs(fd.as_raw_fd(), &raw mut st) }.into())?;
    Ok(st.f_flag & libc::ST_NOEXEC != 0)
}
