//! What the kernel told this process at its start (getauxval(3)).

/// Whether the program runs with more rights than its caller: set-user-ID, set-group-ID or file capabilities.
pub fn is_secure() -> bool {
    // SAFETY: getauxval reads the auxiliary vector of the process and has no other effect.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
