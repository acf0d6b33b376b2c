//! What a seccomp agent does with the listener that it was given (seccomp_unotify(2)).
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use std::os::fd::{AsRawFd, BorrowedFd};

// `_IOWR('!', 0, struct seccomp_notif)` and `_IOWR('!', 1, struct seccomp_notif_resp)`.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;

/// A call that waits for an answer.
pub struct Request {
    id: u64,
    pub pid: u32,
    pub number: i32,
}

/// What becomes of it.
#[derive(Clone, Copy)]
pub enum Answer {
    Value(i64),
    Error(Errno),
    Continue,
}

/// Takes the next call. ENOENT if its caller has gone in between.
pub fn receive(listener: BorrowedFd) -> nix::Result<Request> {
    // SAFETY: plain numbers, for which all zeroes is valid, and what the kernel wants to find.
    let mut request: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one such struct, which lives until the call returns.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut request) })?;
    Ok(Request { id: request.id, pid: request.pid, number: request.data.nr })
}

/// Answers it.
pub fn answer(listener: BorrowedFd, request: &Request, answer: Answer) -> nix::Result<()> {
    let (val, error, flags) = match answer {
        Answer::Value(value) => (value, 0, 0),
        Answer::Error(errno) => (0, -(errno as i32), 0),
        Answer::Continue => (0, 0, 1),
    };
    let mut response = libc::seccomp_notif_resp { id: request.id, val, error, flags };
    // SAFETY: the kernel reads one such struct, which lives until the call returns.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut response) }).map(drop)
}
