//! What the kernel told this process at its start (getauxval(3)).

use std::ffi::CStr;

/// The effective user id that the program was started with.
pub fn euid() -> u32 {
    // SAFETY: as below.
    let id = unsafe { libc::getauxval(libc::AT_EUID) };
    // Ids have 32 bits; a vector without the entry says 0 for everything.
    u32::try_from(id).unwrap_or(u32::MAX)
}

/// The effective group id that the program was started with.
pub fn egid() -> u32 {
    // SAFETY: as below.
    let id = unsafe { libc::getauxval(libc::AT_EGID) };
    u32::try_from(id).unwrap_or(u32::MAX)
}

/// Bytes of a page of memory. ENOTSUP where the kernel does not say.
pub fn page_size() -> nix::Result<usize> {
    // SAFETY: as below.
    let size = usize::try_from(unsafe { libc::getauxval(libc::AT_PAGESZ) }).unwrap_or(0);
    if size.is_power_of_two() { Ok(size) } else { Err(nix::errno::Errno::ENOTSUP) }
}

/// Whether the program runs with more rights than its caller: set-user-ID, set-group-ID or file capabilities.
pub fn is_secure() -> bool {
    // SAFETY: getauxval reads the auxiliary vector of the process and has no other effect.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The path that the program was executed by; one that was executed by its descriptor has `/dev/fd/` and the number (execveat(2)).
pub fn executed_name() -> Option<&'static CStr> {
    // SAFETY: as above.
    let at = unsafe { libc::getauxval(libc::AT_EXECFN) };
    let at: *const libc::c_char = std::ptr::with_exposed_provenance(usize::try_from(at).ok().filter(|at| *at != 0)?);
    // SAFETY: the kernel has put a string there, on the stack, for the life of the process.
    Some(unsafe { CStr::from_ptr(at) })
}
