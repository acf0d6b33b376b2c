//! Extended attributes from one open file to another, without allocation.

use super::check;
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets one attribute of an open file.
pub fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> nix::Result<()> {
    // SAFETY: a NUL-terminated name; pointer and length of one slice.
    let set = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(libc::c_long::from(set)).map(drop)
}

/// Copies all attributes that the target's file system takes. Lists over 1 KiB and values over 4 KiB are refused (E2BIG,
/// ERANGE): a runtime that copies less than it was asked to must say so.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> nix::Result<()> {
    let mut names = [0u8; 1024];
    // SAFETY: pointer and length of one buffer.
    let n = match check(unsafe { libc::flistxattr(from.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) as libc::c_long }) {
        // A file system without attributes has none to copy.
        Err(Errno::EOPNOTSUPP) => return Ok(()),
        other => usize::try_from(other?).map_err(|_| Errno::EINVAL)?,
    };
    let mut rest = names.get(..n).unwrap_or_default();
    while let Ok(name) = CStr::from_bytes_until_nul(rest) {
        rest = rest.get(name.to_bytes().len() + 1..).unwrap_or_default();
        let mut value = [0u8; 4096];
        // SAFETY: a NUL-terminated name; pointer and length of one buffer.
        let got = check(unsafe {
            libc::fgetxattr(from.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) as libc::c_long
        })?;
        let len = usize::try_from(got).map_err(|_| Errno::EINVAL)?;
        // SAFETY: a NUL-terminated name; `len` bytes of the buffer were written.
        let set = check(unsafe { libc::fsetxattr(to.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), len, 0) as libc::c_long });
        match set {
            // tmpfs of an older kernel has no user.* attributes; labels are the security module's to set.
            Ok(_) | Err(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
