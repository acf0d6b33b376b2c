//! What the file system says of a path's mount.

use super::check;
use std::ffi::CStr;

/// Whether `path` lies on a mount with `noexec` (statvfs(3), ST_NOEXEC).
pub fn is_noexec(path: &CStr) -> nix::Result<bool> {
    // SAFETY: an all-zero statvfs is a valid value to be written over.
    let mut st: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a NUL-terminated path and a statvfs buffer of our own.
    check(unsafe { libc::statvfs(path.as_ptr(), &raw mut st) }.into())?;
    Ok(st.f_flag & libc::ST_NOEXEC != 0)
}
