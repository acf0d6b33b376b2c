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
