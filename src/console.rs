//! The parent's side of a container's terminal: who gets its master, and the caller's own terminal in the meantime.
//!
//! The terminal itself is made by the container's init, in its own devpts instance ([`crate::sys::tty`]).

use crate::error::{Context, Error, Result};
use crate::sys::open::open;
use crate::sys::{fs, pidfd, socket, tty};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What becomes of a process's terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Console {
    /// There is none: stdio is the caller's.
    Inherit,
    /// The caller's own terminal stands in for it while the runtime waits in the foreground.
    Foreground,
    /// Its master goes to the listener at this path.
    Socket(PathBuf),
}

/// Decides from `process.terminal`, whether the runtime leaves before the process ends (`create`, `--detach`), and
/// `--console-socket`.
pub fn plan_console(terminal: bool, detached: bool, console_socket: Option<&Path>) -> Result<Console> {
    match console_socket {
        None if terminal && detached => {
            Err(Error::exact("cannot allocate tty if runc will detach without setting console socket"))
        }
        None if terminal => Ok(Console::Foreground),
        None => Ok(Console::Inherit),
        Some(path) if terminal && detached => Ok(Console::Socket(path.to_owned())),
        Some(_) => Err(Error::exact("cannot use console socket if runc will not detach or allocate tty")),
    }
}

/// Connects to a listening stream socket of the caller. It is opened first and then addressed by its descriptor: a path
/// longer than the 107 bytes of `sun_path` works, and what was checked is what is connected. Does not wait: a listener
/// whose queue is full is an error (EAGAIN). The socket stays non-blocking, and so does a message that is sent on it.
pub fn connect_to(path: &Path) -> Result<OwnedFd> {
    let step = || format!("connect to {}", path.display());
    let file = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).step("open", step)?;
    let kind = SFlag::from_bits_truncate(fstat(&file).step("fstat", step)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFSOCK {
        return Err(Error::new(step(), "it is not a socket"));
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).step("socket", step)?;
    let address = UnixAddr::new(format!("/proc/self/fd/{}", file.as_raw_fd()).as_str()).step("connect", step)?;
    connect(socket.as_raw_fd(), &address).step("connect", step).map_err(|e| match e.errno().map(|e| e.0) {
        Some(libc::ECONNREFUSED) => e.hint("is anybody listening?"),
        Some(libc::EPROTOTYPE) => e.hint("it must be a stream socket"),
        Some(libc::EAGAIN) => e.hint("the listener does not take connections"),
        _ => e,
    })?;
    Ok(socket)
}

/// Sends the descriptor of a process to the listener at `path` (`--pidfd-socket`), with `payload` (at least one byte)
/// beside it.
pub fn send_pidfd(path: &Path, pidfd: BorrowedFd, payload: &[u8]) -> Result<()> {
    let listener = connect_to(path)?;
    socket::send_fd(listener.as_fd(), pidfd, payload).step("sendmsg", || format!("send the pidfd to {}", path.display()))
}

/// Takes the master that the container's init sends over `channel`; an error if init ends first. `timeout_ms` is the
/// longest wait, in milliseconds.
pub fn receive_master(channel: BorrowedFd, init: BorrowedFd, timeout_ms: u16) -> Result<OwnedFd> {
    let step = || "receive the terminal of the container".to_owned();
    loop {
        let mut fds = [PollFd::new(channel, PollFlags::POLLIN), PollFd::new(init, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(timeout_ms)) {
            Err(Errno::EINTR) => continue,
            other => other.step("poll", step)?,
        };
        if fds[0].any().unwrap_or(true) {
            return Ok(socket::recv_fd(channel, &mut [0; 64]).step("recvmsg", step)?.0);
        }
        if fds[1].any().unwrap_or(true) {
            let how = pidfd::peek_ended(init).step("waitid", step)?;
            return Err(Error::new(step(), format!("init ended first, {how:?}")));
        }
        return Err(Error::new(step(), format!("init sent none in {timeout_ms} ms")));
    }
}

/// A terminal that passes everything through, until this is dropped.
#[derive(Debug)]
pub struct RawMode {
    tty: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Makes `tty` raw, but for the processing of output: the container's terminal leaves the carriage return to this one
    /// ([`tty::clear_onlcr`]). In the background this stops the process unless SIGTTOU is blocked.
    pub fn new(tty: BorrowedFd) -> Result<Self> {
        let step = || "set the terminal to raw mode".to_owned();
        let tty = tty.try_clone_to_owned().step("dup", step)?;
        let before = tcgetattr(&tty).step("tcgetattr", step)?;
        let mode = Self { tty, before };
        mode.apply()?;
        Ok(mode)
    }

    /// Sets the mode again, after a shell has put its own in its place.
    pub fn apply(&self) -> Result<()> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        raw.output_flags.insert(OutputFlags::OPOST);
        tcsetattr(&self.tty, SetArg::TCSANOW, &raw).step("tcsetattr", || "set the terminal to raw mode".into())
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Not TCSADRAIN, which waits for a stopped terminal. One that is gone needs no restoring, and there is nobody left to tell.
        let _gone = tcsetattr(&self.tty, SetArg::TCSANOW, &self.before);
    }
}

/// Gives a master its window's size: that of the first terminal among `candidates`. False if none is a terminal.
pub fn copy_size(candidates: &[BorrowedFd], master: BorrowedFd) -> Result<bool> {
    let Some(size) = candidates.iter().find_map(|tty| tty::size(tty).ok()) else { return Ok(false) };
    tty::set_size(master, size).step("TIOCSWINSZ", || "set the size of the container's terminal".into())?;
    Ok(true)
}

/// Sets up the terminal of a program in the foreground, before it runs: the size is that of the caller's, if that has one.
pub fn set_up(master: BorrowedFd) -> Result<()> {
    tty::clear_onlcr(master).step("ioctl", || "set up the container's terminal".into())?;
    copy_size(&fs::streams(), master).map(drop)
}

/// Sets or clears O_NONBLOCK on an open file description.
pub fn set_nonblocking(fd: BorrowedFd, on: bool) -> nix::Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, on);
    fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    #[test]
    fn the_four_rules_and_their_words() {
        let path = Some(Path::new("/s"));
        let words = |terminal, detached, socket| plan_console(terminal, detached, socket).unwrap_err().to_string();
        let no_socket = "cannot allocate tty if runc will detach without setting console socket";
        let no_use = "cannot use console socket if runc will not detach or allocate tty";
        assert_eq!(words(true, true, None), no_socket);
        for (terminal, detached) in [(false, false), (false, true), (true, false)] {
            assert_eq!(words(terminal, detached, path), no_use);
        }
        assert_eq!(plan_console(true, false, None), Ok(Console::Foreground));
        assert_eq!(plan_console(false, true, None), Ok(Console::Inherit));
        assert_eq!(plan_console(true, true, path), Ok(Console::Socket("/s".into())));
    }

    #[test]
    fn a_long_path_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(100)).join("e".repeat(200));
        std::fs::create_dir_all(&deep).unwrap();
        let handle = std::fs::File::open(&deep).unwrap();
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/s", handle.as_raw_fd())).unwrap();
        let sent = std::fs::File::open("/dev/null").unwrap();
        // The listener accepts after the message is sent, as containerd does.
        send_pidfd(&deep.join("s"), sent.as_fd(), b"standard").unwrap();
        let mut payload = [0; 32];
        let (_fd, length) = socket::recv_fd(listener.accept().unwrap().0.as_fd(), &mut payload).unwrap();
        assert_eq!(&payload[..length], b"standard");
    }

    #[test]
    fn what_is_not_a_listening_stream_socket_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let error = |name: &str| connect_to(&at(name)).unwrap_err().to_string();
        assert!(error("none").ends_with(": no such file or directory"));
        std::fs::write(at("file"), "").unwrap();
        assert!(error("file").ends_with(": it is not a socket"));
        let _datagram = UnixDatagram::bind(at("datagram")).unwrap();
        assert!(error("datagram").contains("stream socket"));
        drop(UnixListener::bind(at("dead")).unwrap());
        assert!(error("dead").contains("is anybody listening?"));
        let _full = UnixListener::bind(at("full")).unwrap();
        let connections: Vec<_> = (0..10_000).map(|_| connect_to(&at("full"))).take_while(Result::is_ok).collect();
        assert!(connections.len() < 10_000);
    }

    #[test]
    fn a_master_comes_or_the_reason_why_not() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let init = pidfd::open(i32::try_from(child.id()).unwrap()).unwrap();
        let error = receive_master(here.as_fd(), init.as_fd(), 20).unwrap_err().to_string();
        assert!(error.ends_with("init sent none in 20 ms"), "{error}");
        socket::send_fd(there.as_fd(), here.as_fd(), b"/dev/ptmx").unwrap();
        receive_master(here.as_fd(), init.as_fd(), 20).unwrap();
        drop(child.stdin.take());
        let error = receive_master(here.as_fd(), init.as_fd(), 5000).unwrap_err().to_string();
        assert!(error.contains("init ended first"), "{error}");
        child.wait().unwrap();
    }

    #[test]
    fn raw_mode_ends_with_its_guard_and_keeps_output_processing() {
        let (_master, slave) = tty::open_pair(std::fs::File::open("/dev/pts").unwrap().as_fd()).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let raw = RawMode::new(slave.as_fd()).unwrap();
        let during = tcgetattr(&slave).unwrap();
        assert!(during.output_flags.contains(OutputFlags::OPOST | OutputFlags::ONLCR));
        assert!(!during.local_flags.intersects(nix::sys::termios::LocalFlags::ECHO | nix::sys::termios::LocalFlags::ISIG));
        drop(raw);
        assert_eq!(tcgetattr(&slave).unwrap(), before);
    }
}
