//! What the kernel told this process at its start (getauxval(3)).

/// The effective user id that the program was started with.
pub fn euid() -> u32 {
    // SAFETY: as below.
    let id = unsafe { libc::getauxval(libc::AT_EUID) };
    // Ids have 32 bits; a vector without the entry says 0 for everything.
    u32::try_from(id).unwrap_or(u32::MAX)
}

/// Whether the program runs with more rights than its caller: set-user-ID, set-group-ID or file capabilities.
pub fn is_secure() -> bool {
    // SAFETY: getauxval reads the auxiliary vector of the process and has no other effect.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
