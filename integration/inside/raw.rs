//! System calls by number. Not wrapped by nix, and needed by number: filters work on numbers.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use serde_json::{Value, json};

/// Makes the call of that number (first value) with those arguments.
pub fn call([number, a, b, c, d, e, f]: [i64; 7]) -> nix::Result<i64> {
    // SAFETY: the arguments are numbers from the tests; this process exists to make such a call and has nothing to lose.
    Errno::result(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

/// Makes the call of that number among those of i386; -1 and up of what it returns, as it is.
pub fn call32(number: i64) -> i64 {
    let result: i64;
    // SAFETY: takes nothing but registers, all of which it may use; a kernel without this entry ends the process, which
    // exists to make such a call.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") number => result, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
    };
    result
}

/// Of the terminal on stdin: its size, session and foreground process group, and that this process may do job control.
pub fn terminal() -> Value {
    // SAFETY: four numbers, for which all zeroes is valid.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one such struct, which lives until the call returns.
    let known = unsafe { libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size) } == 0;
    // SAFETY: takes and gives numbers.
    let (session, group, here) = unsafe { (libc::tcgetsid(0), libc::tcgetpgrp(0), libc::getpgrp()) };
    json!({
        "size": known.then_some([size.ws_row, size.ws_col]), "session": session, "foreground": group, "group": here,
        "control": std::fs::File::open("/dev/tty").is_ok(),
    })
}

/// TIOCSTI: what the caller of a terminal must never let others do.
pub fn push_input(terminal: &std::fs::File) -> nix::Result<()> {
    use std::os::fd::AsRawFd;
    let byte = b'%';
    // SAFETY: the kernel reads one byte, which lives until the call returns.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSTI, &raw const byte) }).map(drop)
}

/// Description of the session keyring: `type;uid;gid;permissions;name`.
pub fn session_keyring() -> Option<String> {
    let mut text = vec![0u8; 256];
    // SAFETY: KEYCTL_DESCRIBE writes at most the given number of bytes to the buffer, which lives until the call returns.
    let length = unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_DESCRIBE, libc::KEY_SPEC_SESSION_KEYRING, text.as_mut_ptr(), text.len())
    };
    text.truncate(usize::try_from(length).ok()?.saturating_sub(1));
    String::from_utf8(text).ok()
}

/// SELinux label of the session keyring.
pub fn key_label() -> Option<String> {
    let mut text = vec![0u8; 256];
    let (get, session) = (libc::KEYCTL_GET_SECURITY, libc::KEY_SPEC_SESSION_KEYRING);
    // SAFETY: KEYCTL_GET_SECURITY writes at most the given number of bytes to the buffer, which lives until the call returns.
    let length = unsafe { libc::syscall(libc::SYS_keyctl, get, session, text.as_mut_ptr(), text.len()) };
    text.truncate(usize::try_from(length).ok()?.saturating_sub(1));
    String::from_utf8(text).ok()
}

/// `sched_getattr(2)`: policy, nice value, priority, flags, and the three times of a deadline.
pub fn scheduler() -> Value {
    let mut words = [0u32; 14];
    let size = size_of_val(&words);
    // SAFETY: the kernel writes at most `size` bytes to the array, which lives until the call returns.
    if unsafe { libc::syscall(libc::SYS_sched_getattr, 0, words.as_mut_ptr(), size, 0) } < 0 {
        return Value::Null;
    }
    let long = |index: usize| u64::from(words[index]) | u64::from(words[index + 1]) << 32;
    json!({
        "policy": words[1], "flags": long(2), "nice": words[4].cast_signed(), "priority": words[5],
        "runtime": long(6), "deadline": long(8), "period": long(10),
    })
}

/// `ioprio_get(2)`: class and level.
pub fn io_priority() -> Option<(i64, i64)> {
    let value = call([libc::SYS_ioprio_get, 1, 0, 0, 0, 0, 0]).ok()?;
    Some((value >> 13, value & 0x1fff))
}

/// `get_mempolicy(2)`: mode, with its flags, and the nodes as a bit mask.
pub fn memory_policy() -> Option<(i32, u64)> {
    let mut mode = 0i32;
    let mut nodes = [0u64; 16];
    // SAFETY: mode and a mask of 1024 bits are written, to variables that live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, nodes.as_mut_ptr(), 1024, 0, 0) };
    (result == 0).then_some((mode, nodes[0]))
}

/// Whether this process may read that one's memory, whatever lies at the address.
pub fn may_read_memory(pid: i64) -> bool {
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 1 };
    // SAFETY: at most one byte is written, to a variable that lives until the call returns; nothing lies at the other address.
    let result = unsafe { libc::syscall(libc::SYS_process_vm_readv, pid, &raw const local, 1, &raw const remote, 1, 0) };
    matches!(Errno::result(result), Ok(_) | Err(Errno::EFAULT))
}

/// Whether this process may take that one's standard input.
pub fn takes_a_descriptor(pid: i64) -> bool {
    let Ok(pidfd) = call([libc::SYS_pidfd_open, pid, 0, 0, 0, 0, 0]) else { return false };
    let taken = call([libc::SYS_pidfd_getfd, pidfd, 0, 0, 0, 0, 0]);
    for fd in taken.iter().chain([&pidfd]) {
        let _closed = call([libc::SYS_close, *fd, 0, 0, 0, 0, 0]);
    }
    taken.is_ok()
}

/// Whether this process may trace that one, which it lets go again.
pub fn seizes(pid: i64) -> bool {
    const SEIZE: i64 = 0x4206;
    const INTERRUPT: i64 = 0x4207;
    const DETACH: i64 = 17;
    if call([libc::SYS_ptrace, SEIZE, pid, 0, 0, 0, 0]).is_err() {
        return false;
    }
    // Only what has stopped can be let go.
    let _stopped = call([libc::SYS_ptrace, INTERRUPT, pid, 0, 0, 0, 0]).and_then(|_| {
        let waited = nix::sys::wait::waitpid(i32::try_from(pid).ok().map(nix::unistd::Pid::from_raw), None);
        waited.and_then(|_| call([libc::SYS_ptrace, DETACH, pid, 0, 0, 0, 0]))
    });
    true
}

/// Whether a file that is open for reading can be mapped so that writes reach it.
pub fn maps_for_writing(fd: i32) -> bool {
    // SAFETY: a new mapping, of which nothing is touched; the process ends soon.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), 1, libc::PROT_WRITE, libc::MAP_SHARED, fd, 0) };
    mapped != libc::MAP_FAILED
}
