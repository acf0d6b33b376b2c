//! seccomp(2): loading a filter and asking what the kernel knows. Never sets no_new_privs: without it the caller needs
//! CAP_SYS_ADMIN in its user namespace, or loading fails with `EACCES`.

use super::check;
use nix::errno::Errno;
use seccompiler::sock_filter;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `SECCOMP_FILTER_FLAG_LOG` (4.14): denials are logged.
pub const FLAG_LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW` (4.17): no speculative store bypass mitigation.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` (5.0): the call returns a listener.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (5.19): only with a listener.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// The most instructions that the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

const SET_MODE_FILTER: libc::c_long = 1;
const GET_ACTION_AVAIL: libc::c_long = 2;

/// Loads `program` for the calling thread; with [`FLAG_NEW_LISTENER`] returns the listener, close-on-exec.
///
/// Makes one system call and allocates nothing, so it may run between clone and exec. Errors: `EINVAL` for a program longer than
/// 4096 instructions or an unknown flag, `EACCES` without no_new_privs or CAP_SYS_ADMIN, `EBUSY` for a second listener.
pub fn load(program: &[sock_filter], flags: u32) -> nix::Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    if flags == 0 {
        // SAFETY: `filter` and the `len` instructions behind it live through the call, which only reads them; the instruction
        // type has the layout of `struct sock_filter` (`repr(C)`, same members).
        check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) }.into())?;
        return Ok(None);
    }
    // SAFETY: as above.
    let ret = check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, libc::c_long::from(flags), &raw const filter) })?;
    if flags & FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    let fd = i32::try_from(ret).map_err(|_| Errno::EBADF)?;
    // SAFETY: with NEW_LISTENER the call returns a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Sends a filter, of at most [`MAX_INSTRUCTIONS`], and the flags to load it with to who has [`Room`] for it, in one message.
/// Never raises SIGPIPE; `EPIPE` or `ECONNRESET` when nobody is there any more.
pub fn send(socket: BorrowedFd<'_>, program: &[sock_filter], flags: u32) -> nix::Result<()> {
    let mut parts = [
        libc::iovec { iov_base: (&raw const flags).cast_mut().cast(), iov_len: size_of_val(&flags) },
        libc::iovec { iov_base: program.as_ptr().cast_mut().cast(), iov_len: size_of_val(program) },
    ];
    let message = in_parts(&mut parts);
    loop {
        // SAFETY: the parts are live memory of these lengths, which the kernel only reads; sock_filter has no padding.
        let sent = check(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) } as libc::c_long);
        match sent {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Room for a filter that is yet to come: made before a clone, since nothing is allocated after it.
pub struct Room {
    program: Vec<sock_filter>,
    flags: u32,
}

impl Room {
    /// For any filter. What is not used costs no memory.
    pub fn new() -> Self {
        Self { program: Vec::with_capacity(MAX_INSTRUCTIONS), flags: 0 }
    }

    /// With the filter in it.
    pub fn of(program: Vec<sock_filter>, flags: u32) -> Self {
        Self { program, flags }
    }

    /// Whether a filter is in it.
    pub fn is_filled(&self) -> bool {
        !self.program.is_empty()
    }

    /// Waits for what [`send`] sends; `false` when the other side is gone. `EBADMSG` for anything else.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> nix::Result<bool> {
        self.program.clear();
        let space = self.program.spare_capacity_mut();
        let mut parts = [
            libc::iovec { iov_base: (&raw mut self.flags).cast(), iov_len: size_of::<u32>() },
            libc::iovec { iov_base: space.as_mut_ptr().cast(), iov_len: size_of_val(space) },
        ];
        let mut message = in_parts(&mut parts);
        let received = loop {
            // SAFETY: the parts are live memory of these lengths, to which nobody else has a reference.
            match check(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) } as libc::c_long) {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        if received == 0 {
            return Ok(false);
        }
        let bytes = usize::try_from(received).ok().and_then(|n| n.checked_sub(size_of::<u32>())).ok_or(Errno::EBADMSG)?;
        if message.msg_flags & libc::MSG_TRUNC != 0 || bytes % size_of::<sock_filter>() != 0 {
            return Err(Errno::EBADMSG);
        }
        // SAFETY: the kernel has written so many instructions into the spare capacity; any bytes make one.
        unsafe { self.program.set_len(bytes / size_of::<sock_filter>()) };
        Ok(true)
    }

    /// [`load`]s it.
    pub fn load(&self) -> nix::Result<Option<OwnedFd>> {
        load(&self.program, self.flags)
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

fn in_parts(parts: &mut [libc::iovec; 2]) -> libc::msghdr {
    // SAFETY: msghdr is plain data for which all zeroes is valid: no name, no control message, no flags.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = 2;
    message
}

/// The kernel knows `flag`, one of the `FLAG_*`. [`FLAG_WAIT_KILLABLE_RECV`] is asked for together with the listener that it needs.
pub fn flag_known(flag: u32) -> bool {
    let flags = if flag == FLAG_WAIT_KILLABLE_RECV { flag | FLAG_NEW_LISTENER } else { flag };
    let none = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: a null program is never read; the call fails with EFAULT after it has looked at the flags.
    let ret = check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, libc::c_long::from(flags), none) });
    ret == Err(Errno::EFAULT)
}

/// The kernel knows `action`, a `SECCOMP_RET_*` without data (4.14).
pub fn action_known(action: u32) -> bool {
    // SAFETY: the kernel reads four bytes at `action`, which lives through the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0 as libc::c_long, &raw const action) }).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked() {
        assert!(flag_known(FLAG_LOG) && flag_known(FLAG_SPEC_ALLOW) && flag_known(FLAG_NEW_LISTENER));
        assert!(!flag_known(1 << 30));
        assert!(action_known(libc::SECCOMP_RET_USER_NOTIF) && action_known(libc::SECCOMP_RET_KILL_PROCESS));
        assert!(!action_known(0x1234_0000));
    }

    #[test]
    fn a_filter_is_sent_whole_or_refused() {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
        use std::os::fd::AsFd;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).unwrap();
        let insn = |k| sock_filter { code: 6, jt: 1, jf: 2, k };
        let mut room = Room::new();
        for len in [1, 229, MAX_INSTRUCTIONS] {
            let program: Vec<_> = (0..u32::try_from(len).unwrap()).map(insn).collect();
            send(ours.as_fd(), &program, FLAG_LOG).unwrap();
            assert_eq!(room.receive(theirs.as_fd()), Ok(true));
            assert_eq!((&room.program, room.flags), (&program, FLAG_LOG));
        }
        send(ours.as_fd(), &vec![insn(0); MAX_INSTRUCTIONS + 1], 0).unwrap();
        assert_eq!(room.receive(theirs.as_fd()), Err(Errno::EBADMSG));
        for odd in [&b"!"[..], b"abcd1234abc"] {
            crate::sys::process::send(ours.as_fd(), odd).unwrap();
            assert_eq!(room.receive(theirs.as_fd()), Err(Errno::EBADMSG));
        }
        drop(ours);
        assert_eq!(room.receive(theirs.as_fd()), Ok(false));
        assert_eq!(send(theirs.as_fd(), &[insn(0)], 0), Err(Errno::EPIPE));
    }

    #[test]
    fn a_program_too_long_or_wrong_is_refused() {
        assert_eq!(load(&vec![sock_filter { code: 6, jt: 0, jf: 0, k: 0 }; 1 << 16], 0).unwrap_err(), Errno::EINVAL);
        assert_eq!(load(&[], 0).unwrap_err(), Errno::EINVAL);
        assert_eq!(load(&[], FLAG_LOG).unwrap_err(), Errno::EINVAL);
    }

    /// What /proc says of the calling thread.
    fn status(key: &str) -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
        line.trim().to_owned()
    }

    #[test]
    fn filters_hold_for_the_thread_that_loads_them() {
        let allow = [sock_filter { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];
        let thread = std::thread::spawn(move || {
            // SAFETY: prctl with plain numbers, for this thread only.
            check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()).unwrap();
            let before: u32 = status("Seccomp_filters").parse().unwrap();
            assert!(load(&allow, 0).unwrap().is_none());
            assert!(load(&allow, FLAG_LOG | FLAG_SPEC_ALLOW).unwrap().is_none());
            let listener = load(&allow, FLAG_NEW_LISTENER).unwrap().unwrap();
            let flags = nix::fcntl::fcntl(&listener, nix::fcntl::F_GETFD).unwrap();
            assert_eq!(flags, libc::FD_CLOEXEC);
            assert_eq!(load(&allow, FLAG_NEW_LISTENER).unwrap_err(), Errno::EBUSY);
            let after: u32 = status("Seccomp_filters").parse().unwrap();
            assert_eq!((status("Seccomp").as_str(), after - before), ("2", 3));
        });
        thread.join().unwrap();
    }

    #[test]
    fn no_new_privs_is_left_alone() {
        let allow = [sock_filter { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];
        let thread = std::thread::spawn(move || {
            let before = status("NoNewPrivs");
            match load(&allow, 0) {
                Ok(listener) => assert!(listener.is_none()),
                Err(e) => assert_eq!(e, Errno::EACCES), // without CAP_SYS_ADMIN
            }
            assert_eq!(status("NoNewPrivs"), before);
        });
        thread.join().unwrap();
    }
}
