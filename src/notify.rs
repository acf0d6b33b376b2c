//! Readiness of a program in a container, for units of systemd that run the runtime (`Type=notify`): a socket of ours that
//! the container sees, and what is said to the service manager then (sd_notify(3)).
//!
//! Of what the program says only READY=1 is handed on: a process id of its own means another process out here, and the unit's
//! status is not the container's to set. Ours is said beside it.

use crate::error::{Context, Error, Result};
use crate::log;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

/// The socket's name in its directory.
const SOCKET: &str = "notify.sock";
/// Longest message that systemd takes (NOTIFY_BUFFER_MAX), in bytes.
const LONGEST: usize = 4096;
/// How long the service manager may take to answer BARRIER=1 (sd_notify_barrier(3)), in milliseconds.
const BARRIER: u16 = 30_000;
/// How long it may take to make room for a message.
const SEND: Duration = Duration::from_secs(5);

/// Where the caller's service manager listens; `None` without one.
pub fn address() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|value| !value.is_empty())
}

/// A socket in the container's directory, and one to the service manager.
#[derive(Debug)]
pub struct Proxy {
    inside: UnixDatagram,
    /// `None` where it could not be reached: the container runs all the same.
    manager: Option<UnixDatagram>,
}

impl Proxy {
    /// Makes the socket in `directory`, for every user to write to, and connects to the service manager at `address`. That
    /// nobody is there is a warning: a variable that was left over is no reason to run nothing.
    pub fn open(directory: BorrowedFd<'_>, address: &OsStr) -> Result<Self> {
        // By the descriptor: the path may be longer than a socket's can be.
        let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
        let step = || format!("make the socket {SOCKET} for the container");
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).step("unlink", step),
            _ => {}
        }
        let inside = UnixDatagram::bind(&path).step("bind", step)?;
        inside.set_nonblocking(true).step("fcntl", step)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).step("chmod", step)?;
        let manager = connect(address).inspect_err(|e| log::warn(&e.to_string())).ok();
        Ok(Self { inside, manager })
    }

    /// Readable when the program has said something; `None` when there is nobody to hand it on to.
    pub fn said(&self) -> Option<BorrowedFd<'_>> {
        self.manager.as_ref().map(|_| self.inside.as_fd())
    }

    /// Reads what the program has said, and tells the service manager if that is READY=1, with `main` as the unit's main
    /// process. Gives the pipe whose end tells that it has been heard.
    pub fn hand_on(&self, main: u32) -> Result<Option<OwnedFd>> {
        let mut text = [0; LONGEST];
        let Some(manager) = &self.manager else { return Ok(None) };
        while let Some(length) = self.receive(&mut text)? {
            if is_ready(text.get(..length).unwrap_or_default()) {
                return tell(manager, main).map(Some);
            }
        }
        Ok(None)
    }

    /// Hands on until the program is ready and the service manager has heard of it, or `init` has ended. Failures are
    /// warnings: the container runs.
    pub fn wait(&self, main: u32, init: BorrowedFd<'_>) {
        if let Err(e) = self.until_ready(main, init) {
            log::warn(&e.to_string());
        }
    }

    fn until_ready(&self, main: u32, init: BorrowedFd<'_>) -> Result<()> {
        let Some(said) = self.said() else { return Ok(()) };
        loop {
            let mut fds = [PollFd::new(said, PollFlags::POLLIN), PollFd::new(init, PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.step("poll", || "wait for the program to be ready".into())?,
            };
            // Before the end of init: it may have said so last.
            if let Some(barrier) = self.hand_on(main)? {
                return heard(barrier.as_fd());
            }
            if fds[1].any().unwrap_or(true) {
                return Ok(());
            }
        }
    }

    /// One message; descriptors that come with it are closed by the kernel, since nobody takes them.
    fn receive(&self, text: &mut [u8]) -> Result<Option<usize>> {
        match self.inside.recv(text) {
            Ok(length) => Ok(Some(length)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(e) => Err(e).step("recvfrom", || "read what the program says to NOTIFY_SOCKET".into()),
        }
    }
}

/// Whether one of the lines says so.
pub fn is_ready(text: &[u8]) -> bool {
    text.split(|&byte| byte == b'\n').any(|line| line == b"READY=1")
}

/// Connects to a datagram socket: an absolute path, or `@` and an abstract name.
fn connect(address: &OsStr) -> Result<UnixDatagram> {
    let step = || format!("connect to NOTIFY_SOCKET={}", address.display());
    let socket = UnixDatagram::unbound().step("socket", step)?;
    socket.set_write_timeout(Some(SEND)).step("setsockopt", step)?;
    match address.as_bytes() {
        [b'@', name @ ..] => {
            let address = SocketAddr::from_abstract_name(name).step("connect", step)?;
            socket.connect_addr(&address).step("connect", step)?;
        }
        [b'/', ..] => {
            use nix::fcntl::{OFlag, open};
            let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
            let file = open(Path::new(address), flags, nix::sys::stat::Mode::empty()).step("open", step)?;
            socket.connect(format!("/proc/self/fd/{}", file.as_raw_fd())).step("connect", step)?;
        }
        _ => return Err(Error::new(step(), "it is neither an absolute path nor an abstract name")),
    }
    Ok(socket)
}

/// Three messages, as runc sends them: whoever compares finds them alike.
fn tell(manager: &UnixDatagram, main: u32) -> Result<OwnedFd> {
    let step = || "tell the service manager that the program is ready".to_owned();
    manager.send(b"READY=1\n").step("sendto", step)?;
    manager.send(format!("MAINPID={main}\n").as_bytes()).step("sendto", step)?;
    let (end, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).step("pipe2", step)?;
    crate::sys::socket::send_fd(manager.as_fd(), theirs.as_fd(), b"BARRIER=1").step("sendmsg", step)?;
    log::info(|| format!("the program is ready; the main process is {main}"));
    Ok(end)
}

/// Waits until the service manager has read everything: it looks the sender up, who must be there until then.
fn heard(barrier: BorrowedFd<'_>) -> Result<()> {
    loop {
        let mut fds = [PollFd::new(barrier, PollFlags::POLLIN)];
        return match poll(&mut fds, PollTimeout::from(BARRIER)) {
            Err(Errno::EINTR) => continue,
            Ok(0) => Err(Error::new("wait for the service manager", format!("it does not answer BARRIER=1 in {BARRIER} ms"))),
            other => other.step("poll", || "wait for the service manager".into()).map(drop),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_a_line_of_its_own() {
        for (text, ready) in [
            ("READY=1", true),
            ("STATUS=warm\nREADY=1\n", true),
            ("READY=10", false),
            ("STATUS=READY=1", false),
            ("XREADY=1", false),
            ("", false),
        ] {
            assert_eq!(is_ready(text.as_bytes()), ready, "{text:?}");
        }
    }

    #[test]
    fn a_manager_is_found_by_path_and_by_name_and_told_three_things() {
        let home = tempfile::tempdir().unwrap();
        // Longer than a socket's path can be.
        let deep = home.path().join("d".repeat(150));
        std::fs::create_dir(&deep).unwrap();
        let handle = std::fs::File::open(&deep).unwrap();
        let by_path = UnixDatagram::bind(format!("/proc/self/fd/{}/s", handle.as_raw_fd())).unwrap();
        let name = format!("onggi-notify-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (manager, address) in [(by_path, deep.join("s").into_os_string()), (by_name, format!("@{name}").into())] {
            let inside = tempfile::tempdir_in(home.path()).unwrap();
            let proxy = Proxy::open(std::fs::File::open(inside.path()).unwrap().as_fd(), &address).unwrap();
            let program = UnixDatagram::unbound().unwrap();
            program.send_to(b"MAINPID=1\nSTATUS=x", inside.path().join(SOCKET)).unwrap();
            assert!(proxy.hand_on(42).unwrap().is_none());
            program.send_to(b"READY=1", inside.path().join(SOCKET)).unwrap();
            assert!(proxy.hand_on(42).unwrap().is_some());
            let mut said = Vec::new();
            for _ in 0..3 {
                let mut text = [0; 64];
                let length = manager.recv(&mut text).unwrap();
                said.push(String::from_utf8_lossy(&text[..length]).into_owned());
            }
            assert_eq!(said, ["READY=1\n", "MAINPID=42\n", "BARRIER=1"]);
        }
    }

    #[test]
    fn a_manager_that_is_not_there_is_no_obstacle() {
        let home = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(home.path()).unwrap();
        for address in ["/none", "relative", "@onggi-nobody", "vsock:2:1"] {
            let proxy = Proxy::open(directory.as_fd(), OsStr::new(address)).unwrap();
            assert!(proxy.said().is_none(), "{address}");
        }
    }
}
