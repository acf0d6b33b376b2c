//! Who a process is and what it may do: ids, groups, capabilities, no_new_privs. Raw calls, so that no C library lock
//! or thread broadcast (setxid) stands between clone and exec.

use super::check;
use nix::errno::Errno;

/// setresuid(2), all three.
pub fn set_uid(uid: u32) -> nix::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// setresgid(2), all three.
pub fn set_gid(gid: u32) -> nix::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// setgroups(2).
pub fn set_groups(groups: &[u32]) -> nix::Result<()> {
    // SAFETY: the pointer and the count are of one slice.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// One prctl(2) call that takes integers.
pub(super) fn prctl(option: i32, a: u64, b: u64) -> nix::Result<i32> {
    // SAFETY: only options that take integers are called with this.
    let ret = check(unsafe { libc::syscall(libc::SYS_prctl, option, a, b, 0u64, 0u64) })?;
    i32::try_from(ret).map_err(|_| Errno::EINVAL)
}

/// Makes the process undumpable: no ptrace, no /proc/PID/exe for whoever shares its PID namespace (CVE-2016-9962).
pub fn set_undumpable() -> nix::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0).map(drop)
}

/// Sets no_new_privs (prctl(2), Linux 3.5).
pub fn set_no_new_privs() -> nix::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Keeps the permitted set over a change of user ids (PR_SET_KEEPCAPS).
pub fn keep_caps(on: bool) -> nix::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, on.into(), 0).map(drop)
}

/// Takes one capability out of the bounding set.
pub fn drop_bounding(cap: u8) -> nix::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, cap.into(), 0).map(drop)
}

/// Empties the ambient set.
pub fn clear_ambient() -> nix::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0).map(drop)
}

/// Raises one capability in the ambient set.
pub fn raise_ambient(cap: u8) -> nix::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, cap.into()).map(drop)
}

/// The three sets that capget(2) and capset(2) know, a bit a capability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: 64-bit sets in two halves (Linux 2.6.26).
const HEADER: Header = Header { version: 0x2008_0522, pid: 0 };

fn low(set: u64) -> u32 {
    u32::try_from(set & 0xffff_ffff).unwrap_or_default()
}

/// capset(2) on this thread.
pub fn set_caps(caps: Caps) -> nix::Result<()> {
    let half = |shift: u32| Half {
        effective: low(caps.effective >> shift),
        permitted: low(caps.permitted >> shift),
        inheritable: low(caps.inheritable >> shift),
    };
    let data = [half(0), half(32)];
    let header = HEADER;
    // SAFETY: header and two data halves, as version 3 asks.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}
