//! What else a process is before it runs its program: session, names, limits, scheduling, keyring, exec.

use super::spawn::StringList;
use super::{check, creds::prctl};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Leaves at once, without the C library's exit handlers (they belong to the parent's copy of memory).
pub fn exit_now(status: i32) -> ! {
    // SAFETY: does not return and touches no memory.
    unsafe { libc::_exit(status) }
}

/// getpid(2), as this process's own PID namespace sees it.
pub fn pid() -> i32 {
    // SAFETY: cannot fail. The raw call: a C library may remember the parent's answer over a raw clone3.
    let pid = unsafe { libc::syscall(libc::SYS_getpid) };
    i32::try_from(pid).unwrap_or(0)
}

/// Lets `signal` end this process until it executes a program: as it does without a handler or, where the kernel keeps that
/// from the first process of a PID namespace, with the exit status that shells have for such an end.
pub fn end_by(signal: i32) -> nix::Result<()> {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: integers only; both calls are safe in a handler. The default action is in force again (SA_RESETHAND).
        unsafe {
            libc::syscall(libc::SYS_kill, pid(), signal);
            libc::_exit(128 + signal)
        }
    }
    // SAFETY: an all-zero sigaction is a valid value to be written over.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = end as *const () as usize;
    action.sa_flags = libc::SA_RESETHAND | libc::SA_NODEFER;
    // SAFETY: the structure is live, and the handler does nothing that a handler may not.
    check(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }.into()).map(drop)
}

/// setsid(2).
pub fn new_session() -> nix::Result<()> {
    // SAFETY: no arguments.
    check(unsafe { libc::syscall(libc::SYS_setsid) }).map(drop)
}

/// umask(2); cannot fail.
pub fn umask(mask: u32) {
    // SAFETY: integers only.
    unsafe { libc::umask(mask) };
}

/// PR_SET_NAME: what `ps` shows; at most 15 bytes.
pub fn set_name(name: &CStr) -> nix::Result<()> {
    // SAFETY: a NUL-terminated string; the kernel reads at most 16 bytes of it up to its NUL.
    check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) }).map(drop)
}

/// PR_SET_CHILD_SUBREAPER: orphans below us become our children.
pub fn become_subreaper() -> nix::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// sethostname(2).
pub fn set_hostname(name: &[u8]) -> nix::Result<()> {
    // SAFETY: pointer and length of one slice.
    check(unsafe { libc::syscall(libc::SYS_sethostname, name.as_ptr(), name.len()) }).map(drop)
}

/// setdomainname(2).
pub fn set_domainname(name: &[u8]) -> nix::Result<()> {
    // SAFETY: pointer and length of one slice.
    check(unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.len()) }).map(drop)
}

/// `RLIMIT_NOFILE`, in the type that the kernel takes; the C libraries have different ones.
#[allow(clippy::unnecessary_cast)]
pub const OPEN_FILES: u32 = libc::RLIMIT_NOFILE as u32;

/// prlimit(2) on a process, 0 for this one.
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = [soft, hard];
    // SAFETY: struct rlimit64 is two u64, soft then hard.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, limit.as_ptr(), std::ptr::null_mut::<u64>()) }).map(drop)
}

/// Soft and hard limit of open files of this process.
pub fn open_files() -> nix::Result<(u64, u64)> {
    let mut limit = [0u64; 2];
    // SAFETY: struct rlimit64 is two u64, soft then hard.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, OPEN_FILES, std::ptr::null::<u64>(), limit.as_mut_ptr()) })?;
    Ok((limit[0], limit[1]))
}

/// Raises the soft limit of open files to the hard one.
pub fn raise_open_files() -> nix::Result<()> {
    let (_, hard) = open_files()?;
    set_rlimit(0, OPEN_FILES, hard, hard)
}

/// sched_setattr(2), struct of version 0 (48 bytes).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// Set by [`set_scheduler`].
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20..=19, SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// 1..=99, SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// ns, SCHED_DEADLINE.
    pub runtime: u64,
    /// ns, SCHED_DEADLINE.
    pub deadline: u64,
    /// ns, SCHED_DEADLINE.
    pub period: u64,
}

/// sched_setattr(2) on this thread.
pub fn set_scheduler(mut attr: SchedAttr) -> nix::Result<()> {
    attr.size = 48;
    // SAFETY: `attr` is struct sched_attr and says its size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

/// sched_setaffinity(2) on this thread; `cpus` has a bit a CPU. CPUs that the cpuset does not have are left out; EINVAL
/// when none is left.
pub fn set_affinity(cpus: &[u64]) -> nix::Result<()> {
    // SAFETY: pointer and size in bytes of one slice.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(cpus), cpus.as_ptr()) }).map(drop)
}

/// The processors that this thread may run on, a bit each: sched_getaffinity(2), 8192 at most.
fn affinity() -> nix::Result<[u64; 128]> {
    let mut set = [0u64; 128];
    // SAFETY: pointer and size in bytes of one array, which any bits make a value of.
    check(unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&set), set.as_mut_ptr()) })?;
    Ok(set)
}

/// How many processors this thread may run on, at least 1.
pub fn cpus() -> usize {
    let all: u32 = affinity().map_or(1, |set| set.iter().map(|word| word.count_ones()).sum());
    usize::try_from(all).unwrap_or(1).max(1)
}

/// Keeps a new thread or process off the processor that the caller runs on, if there is another: the kernel mostly leaves it there
/// for its first fraction of a millisecond, in which the two would take turns. Where it has put it elsewhere it stays. What
/// inherits from it is bound too.
///
/// # Errors
/// Those of sched_getaffinity(2), getcpu(2), sched_setaffinity(2); ESRCH when the thread has ended.
pub fn keep_off_this_cpu(thread: i32) -> nix::Result<()> {
    let mut set = affinity()?;
    // SAFETY: only tells a number; mostly without a system call.
    let at = usize::try_from(unsafe { libc::sched_getcpu() }).map_err(|_| Errno::last())?;
    *set.get_mut(at / 64).ok_or(Errno::EINVAL)? &= !(1 << (at % 64));
    if set == [0; 128] {
        return Ok(());
    }
    // SAFETY: pointer and size in bytes of one array.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, thread, size_of_val(&set), set.as_ptr()) }).map(drop)
}

/// ioprio_set(2) for this process.
pub fn set_io_priority(value: u32) -> nix::Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) }).map(drop)
}

/// personality(2).
pub fn set_personality(persona: u64) -> nix::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_personality, persona) }).map(drop)
}

/// set_mempolicy(2); `nodes` has a bit a node.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> nix::Result<()> {
    // The kernel takes the number of bits plus one.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the mask has at least `bits - 1` bits.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// Joins a new session keyring of that name (keyctl(2)) and lets the possessor search it. `ENOSYS`: no keyrings.
pub fn join_session_keyring(name: &CStr) -> nix::Result<()> {
    const JOIN_SESSION_KEYRING: i32 = 1;
    const DESCRIBE: i32 = 6;
    const SETPERM: i32 = 5;
    // SAFETY: a NUL-terminated string.
    let mut id = check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    if id == 0 {
        // The one that we are in has that name: it belongs to an outer container of the same id. A nameless one is new.
        // SAFETY: a null pointer stands for no name.
        id = check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) })?;
    }
    let mut text = [0u8; 512];
    // SAFETY: pointer and length of one buffer.
    let n = check(unsafe { libc::syscall(libc::SYS_keyctl, DESCRIBE, id, text.as_mut_ptr(), text.len()) })?;
    // `type;uid;gid;perm;description`, perm in hexadecimal.
    let text = usize::try_from(n).ok().and_then(|n| text.get(..n)).unwrap_or_default();
    let perm = text.split(|&c| c == b';').nth(3).and_then(hex).ok_or(nix::errno::Errno::EINVAL)?;
    // The user who owns the keyring may search it: setuid programs in the container find it that way (runc does so).
    const USER_SEARCH: u32 = 0x0008_0000;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, id, perm | USER_SEARCH) }).map(drop)
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |n, &c| Some(n.checked_mul(16)? + char::from(c).to_digit(16)?))
}

/// execveat(2) of an absolute or relative path; comes back only with an error.
pub fn exec(path: &CStr, argv: &StringList, envp: &StringList) -> nix::errno::Errno {
    // SAFETY: NUL-terminated path; both arrays end with a null pointer and point at strings that live as long as they.
    unsafe { libc::execve(path.as_ptr(), argv.laid_out().as_ptr(), envp.laid_out().as_ptr()) };
    nix::errno::Errno::last()
}

/// Unblocks every signal: exec keeps the mask.
pub fn unblock_signals() -> nix::Result<()> {
    let none = 0u64;
    // SAFETY: a set of the kernel's size.
    check(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, std::ptr::null_mut::<u64>(), 8) })
        .map(drop)
}

/// send(2) on a stream or packet socket, without SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, data: &[u8]) -> nix::Result<()> {
    loop {
        // SAFETY: pointer and length of one slice.
        let sent = check(unsafe {
            libc::sendto(socket.as_raw_fd(), data.as_ptr().cast(), data.len(), libc::MSG_NOSIGNAL, std::ptr::null(), 0)
                as libc::c_long
        });
        match sent {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}
