//! Processes by descriptor: open, signal, wait, take a descriptor (pidfd_open(2), Linux 5.3; pidfd_getfd(2), 5.6).
//!
//! A number can come to name another process, a pidfd cannot. Nothing here allocates, so that a process between clone
//! and exec can use it.

use super::{check, fs, owned};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By exit(2), with this status, 0..=255.
    Code(u8),
    /// By a signal.
    Signal {
        /// Its number, 1..=64.
        signal: u8,
        /// Whether a core was dumped.
        core: bool,
    },
}

impl Exit {
    /// The status a shell would show: the code, or 128 + signal.
    pub fn status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal { signal, .. } => signal.saturating_add(128),
        }
    }

    /// Whether it ended with status 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// A descriptor of the process `pid`. ESRCH when there is none; a zombie has one.
pub fn open(pid: libc::pid_t) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers and touches no memory of ours.
    match owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }) {
        // Linux 6.12 (6.18 says ESRCH): it is reaped, but processes that it left still have its number as their session.
        Err(Errno::EINVAL) if pid > 0 => Err(Errno::ESRCH),
        other => other,
    }
}

/// The inode number of a process on pidfs (Linux 6.9), which no other process gets until the machine boots again; `None` on an
/// older kernel.
pub fn inode(pidfd: BorrowedFd) -> nix::Result<Option<u64>> {
    /// `PID_FS_MAGIC` of <linux/magic.h>.
    const PIDFS: i64 = 0x5049_4446;
    if fs::magic(pidfd)? != PIDFS {
        return Ok(None);
    }
    Ok(Some(fs::stat(pidfd)?.st_ino))
}

/// Sends `signal` (0 only asks); ESRCH when the process has been reaped.
pub fn send_signal(pidfd: BorrowedFd, signal: libc::c_int) -> nix::Result<()> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null siginfo makes the kernel fill it as kill(2) does; the other arguments are numbers.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) })?;
    Ok(())
}

/// Waits for a child to end and reaps it. ECHILD when it is not ours, or reaped already.
pub fn wait(pidfd: BorrowedFd) -> nix::Result<Exit> {
    wait_with(pidfd, 0)?.ok_or(Errno::ECHILD)
}

/// Reaps a child if it has ended; `None` while it runs.
pub fn try_wait(pidfd: BorrowedFd) -> nix::Result<Option<Exit>> {
    wait_with(pidfd, libc::WNOHANG)
}

/// How a child ended, without reaping it; `None` while it runs. Its number stays taken until [`wait`].
pub fn peek(pidfd: BorrowedFd) -> nix::Result<Option<Exit>> {
    wait_with(pidfd, libc::WNOHANG | libc::WNOWAIT)
}

/// The same for one of whose end the descriptor has told. If somebody traces it, this waits for the tracer, who learns of
/// its end first.
pub fn peek_ended(pidfd: BorrowedFd) -> nix::Result<Option<Exit>> {
    wait_with(pidfd, libc::WNOWAIT)
}

fn wait_with(pidfd: BorrowedFd, flags: libc::c_int) -> nix::Result<Option<Exit>> {
    let id = libc::id_t::try_from(pidfd.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    wait_id(libc::P_PIDFD, id, flags).map(|found| found.map(|(_, exit)| exit))
}

/// Reaps any one child that has ended, whatever its signal of termination (`__WALL`): its pid and how it ended, `None`
/// when every child still runs or there is none. For a sub-reaper.
pub fn reap_any() -> nix::Result<Option<(libc::pid_t, Exit)>> {
    match wait_id(libc::P_ALL, 0, libc::WNOHANG | libc::__WALL) {
        Err(Errno::ECHILD) => Ok(None),
        found => found,
    }
}

fn wait_id(kind: libc::idtype_t, id: libc::id_t, flags: libc::c_int) -> nix::Result<Option<(libc::pid_t, Exit)>> {
    loop {
        // SAFETY: siginfo_t is plain data for which all zeroes is a valid value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is a live siginfo_t that the call may write to.
        let ret = unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED | flags) };
        if ret == -1 {
            match Errno::last() {
                Errno::EINTR => continue,
                e => return Err(e),
            }
        }
        // SAFETY: waitid fills these members, and with WNOHANG leaves them zero when nobody has ended.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        let status = u8::try_from(status).map_err(|_| Errno::EPROTO)?;
        let exit = match info.si_code {
            libc::CLD_EXITED => Exit::Code(status),
            code => Exit::Signal { signal: status, core: code == libc::CLD_DUMPED },
        };
        return Ok(Some((pid, exit)));
    }
}

/// A copy of descriptor `number` of another process, close-on-exec. Needs ptrace access to it.
pub fn getfd(pidfd: BorrowedFd, number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_getfd takes three numbers and touches no memory of ours.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })
}

/// Waits until the process has ended (without reaping it) or `timeout_ms` milliseconds are over; `None` waits for ever.
/// True when it has ended. EINTR is passed on: the caller knows whether its clock has run out.
pub fn poll_exit(pidfd: impl AsFd, timeout_ms: Option<i32>) -> nix::Result<bool> {
    let mut poll = libc::pollfd { fd: pidfd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `poll` is one live pollfd, and the count says one.
    check(libc::c_long::from(unsafe { libc::poll(&raw mut poll, 1, timeout_ms.unwrap_or(-1)) })).map(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn spawn(script: &str) -> (OwnedFd, std::process::Child) {
        let child = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = libc::pid_t::try_from(child.id()).unwrap();
        (open(pid).unwrap(), child)
    }

    #[test]
    fn a_code_and_a_signal_are_told_apart() {
        let (fd, _child) = spawn("exit 7");
        assert_eq!(wait(fd.as_fd()), Ok(Exit::Code(7)));
        assert_eq!(wait(fd.as_fd()), Err(Errno::ECHILD));
        let (fd, _child) = spawn("ulimit -c 0; kill -TERM $$");
        assert_eq!(wait(fd.as_fd()).map(Exit::status), Ok(143));
    }

    #[test]
    fn a_signal_reaches_the_process_and_a_real_time_one_is_reported() {
        let (fd, _child) = spawn("exec sleep 60");
        assert_eq!(try_wait(fd.as_fd()), Ok(None));
        assert_eq!(poll_exit(&fd, Some(0)), Ok(false));
        send_signal(fd.as_fd(), 40).unwrap();
        assert_eq!(poll_exit(&fd, None), Ok(true));
        let end = Some(Exit::Signal { signal: 40, core: false });
        assert_eq!(peek(fd.as_fd()), Ok(end));
        assert_eq!(try_wait(fd.as_fd()), Ok(end));
        assert_eq!(send_signal(fd.as_fd(), 0), Err(Errno::ESRCH));
    }

    #[test]
    fn a_descriptor_of_another_process_can_be_taken() {
        let (fd, mut child) = spawn("read line; test \"$line\" = word");
        let stdin = getfd(fd.as_fd(), 0).unwrap();
        // Both ends of the pipe are named by now, so what is written can be read back on the copy of its reading end.
        child.stdin.as_mut().unwrap().write_all(b"word\n").unwrap();
        assert_eq!(wait(fd.as_fd()), Ok(Exit::Code(0)));
        assert_eq!(getfd(stdin.as_fd(), 0).unwrap_err(), Errno::EBADF);
    }

    #[test]
    fn no_process_no_descriptor() {
        assert_eq!(open(libc::pid_t::MAX).unwrap_err(), Errno::ESRCH);
    }
}
