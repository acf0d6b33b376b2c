//! CRIU, which saves processes to files and brings them back: `criu swrk`, one process a command, asked over a socket.
//!
//! [`message`] is what is said, [`wire`] how it is encoded, [`log`] what CRIU wrote down of a failure, [`streams`] which
//! files of others the standard streams are. What is asked for is
//! the commands' business; which mounts and namespaces of a container lie outside of it is the plan's.

pub mod log;
pub mod message;
pub mod mountinfo;
pub mod streams;
pub mod wire;

use crate::error::{Context, Error, Result};
use crate::sys::{memfd, pidfd, process, socket};
use message::{Answer, Features, Kind, Options};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Where programs are when the caller has no PATH, and where a user's PATH does not look.
const PLACES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The oldest CRIU that is used: notifies of all that is waited for, freezes cgroup v2, and knows PID namespaces of others.
const OLDEST: i32 = 31_500;
/// Room for a message. The longest that CRIU sends has the words of an error in it.
const ROOM: usize = 64 << 10;

/// A `criu swrk` that waits for requests. Killed if it is dropped before it has ended by itself.
#[derive(Debug)]
pub struct Session {
    socket: OwnedFd,
    process: Child,
    ended: Option<ExitStatus>,
    /// What it says before it has a log; `None` where memory files are forbidden.
    said: Option<File>,
    version: i32,
}

impl Session {
    /// Starts CRIU. It gets our descriptors `keep` under their numbers and, if `stdin`, our standard input.
    ///
    /// # Errors
    /// It is not installed, too old, or cannot work on this kernel; the error has its own words.
    pub fn start(keep: &[BorrowedFd<'_>], stdin: bool) -> Result<Self> {
        let path = find(std::env::var_os("PATH").as_deref())?;
        let step = || format!("start {}", path.display());
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .step("socketpair", || "make the socket to CRIU".into())?;
        let said = memfd::create(c"criu").ok().map(File::from);
        let its_end = said.as_ref().map(File::try_clone).transpose().step("fcntl", step)?;
        let mut command = Command::new(&path);
        command.arg("swrk").arg(theirs.as_raw_fd().to_string());
        command.stdin(if stdin { Stdio::inherit() } else { Stdio::null() }).stdout(Stdio::null());
        command.stderr(its_end.map_or_else(Stdio::null, Stdio::from));
        // It runs ip, iptables-restore and tar by their names.
        if std::env::var_os("PATH").is_none_or(|p| p.is_empty()) {
            command.env("PATH", PLACES);
        }
        crate::sys::spawn::default_signal(libc::SIGCHLD).step("rt_sigaction", step)?;
        let all = || keep.iter().copied().chain([theirs.as_fd()]);
        for fd in all() {
            inherit(fd, true).step("fcntl", step)?;
        }
        let started = command.spawn().step("execve", step);
        for fd in all() {
            inherit(fd, false).step("fcntl", step)?;
        }
        let mut session = Self { socket: ours, process: started?, ended: None, said, version: 0 };
        drop(theirs);
        session.version = session.ask(Kind::Version, None)?.version;
        session.at_least(OLDEST, "checkpoint and restore")?;
        Ok(session)
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.process.id().cast_signed()
    }

    /// Fails if it is older than `version` (as in [`Answer::version`]), which `what` needs.
    pub fn at_least(&self, version: i32, what: &str) -> Result<()> {
        if self.version >= version {
            return Ok(());
        }
        let words = |v: i32| format!("{}.{}", v / 10_000, v / 100 % 100);
        Err(Error::new(what, format!("needs CRIU {} or newer, and this is {}", words(version), words(self.version))))
    }

    /// Fails if this CRIU on this kernel lacks one of `features`.
    pub fn require(&mut self, features: Features) -> Result<()> {
        let has = self.ask(Kind::FeatureCheck, Some(features))?.features;
        for (wanted, there, flag, what) in [
            (features.mem_track, has.mem_track, "--pre-dump", "soft-dirty bits of pages (CONFIG_MEM_SOFT_DIRTY)"),
            (features.lazy_pages, has.lazy_pages, "--lazy-pages", "userfaultfd with events (CONFIG_USERFAULTFD)"),
        ] {
            if wanted && !there {
                return Err(Error::new(flag, format!("CRIU says that the kernel lacks {what}")));
            }
        }
        Ok(())
    }

    /// A question that leaves the session open.
    fn ask(&mut self, kind: Kind, features: Option<Features>) -> Result<Answer> {
        self.send(kind, &message::request(kind, None, features, true))?;
        let (answer, _) = self.hear(kind)?;
        if answer.kind == Some(kind) && answer.success { Ok(answer) } else { Err(self.failed(kind, &answer, None)) }
    }

    /// Has a process tree saved or restored. `reached` is called at each point that CRIU stops at, with the descriptor
    /// that it sends there; an error of it makes CRIU undo its work, and is the result. `log` is CRIU's log of this.
    pub fn work(
        &mut self,
        kind: Kind,
        options: &Options,
        log: &Path,
        reached: &mut dyn FnMut(&Answer, Option<OwnedFd>) -> Result<()>,
    ) -> Result<()> {
        // Whatever an earlier one left there is not about this.
        match std::fs::remove_file(log) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).step("unlink", || format!("replace {}", log.display()));
            }
            _ => {}
        }
        self.send(kind, &message::request(kind, Some(options), None, false))?;
        let mut refused = None;
        loop {
            let (answer, fd) = match self.hear(kind) {
                Ok(heard) => heard,
                Err(e) => return Err(refused.unwrap_or_else(|| quoting(e, log))),
            };
            if answer.kind == Some(Kind::Notify) && answer.success {
                let done = reached(&answer, fd);
                let success = done.is_ok();
                if let (Err(e), None) = (done, &refused) {
                    refused = Some(e);
                }
                self.send(kind, &message::acknowledge(success))?;
                continue;
            }
            if let Some(e) = refused {
                self.wait()?;
                return Err(e);
            }
            if answer.kind != Some(kind) || !answer.success {
                return Err(self.failed(kind, &answer, Some(log)));
            }
            // In a pre-dump it waits for the next request, and ends with an error when none comes.
            let status = self.wait()?;
            return match status.success() || kind == Kind::PreDump {
                true => Ok(()),
                false => Err(quoting(Error::new(kind.words(), format!("CRIU ended with {}", ending(status))), log)),
            };
        }
    }

    fn send(&mut self, kind: Kind, bytes: &[u8]) -> Result<()> {
        match process::send(self.socket.as_fd(), bytes) {
            Err(nix::errno::Errno::EPIPE | nix::errno::Errno::ECONNRESET) => Err(self.lost(kind)),
            other => other.step("sendto", || kind.words().into()),
        }
    }

    fn hear(&mut self, kind: Kind) -> Result<(Answer, Option<OwnedFd>)> {
        if !self.speaks(kind)? {
            return Err(self.lost(kind));
        }
        let mut room = vec![0u8; ROOM];
        let (length, fd) = match socket::recv_maybe_fd(self.socket.as_fd(), &mut room) {
            Err(nix::errno::Errno::ECONNRESET) => (0, None),
            other => other.step("recvmsg", || kind.words().into())?,
        };
        if length == 0 {
            return Err(self.lost(kind));
        }
        let answer = Answer::parse(room.get(..length).unwrap_or_default());
        Ok((answer.ok_or_else(|| Error::new(kind.words(), "CRIU said something that is no message"))?, fd))
    }

    /// Waits until it has said something (true), or has ended. What it restores has its end of the socket at first, so
    /// the end of file may never come.
    fn speaks(&self, kind: Kind) -> Result<bool> {
        let step = || kind.words().to_owned();
        let ended = pidfd::open(self.pid()).step("pidfd_open", step)?;
        let mut ready = [&self.socket, &ended].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        while let Err(e) = poll(&mut ready, PollTimeout::NONE) {
            if e != nix::errno::Errno::EINTR {
                return Err(e).step("poll", step);
            }
        }
        Ok(ready[0].any().unwrap_or(true))
    }

    /// Lets it end, and waits for that.
    fn wait(&mut self) -> Result<ExitStatus> {
        nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both)
            .or_else(|e| if e == nix::errno::Errno::ENOTCONN { Ok(()) } else { Err(e) })
            .step("shutdown", || "close the socket to CRIU".into())?;
        let status = self.process.wait().step("waitid", || "wait for CRIU".into())?;
        self.ended = Some(status);
        Ok(status)
    }

    /// It has gone without an answer.
    fn lost(&mut self, kind: Kind) -> Error {
        let how = match self.wait() {
            Ok(status) => ending(status),
            Err(e) => return e,
        };
        let cause = match self.words() {
            words if words.is_empty() => format!("CRIU ended with {how}"),
            words => words,
        };
        Error::new(kind.words(), cause)
    }

    /// It says that it has failed.
    fn failed(&mut self, kind: Kind, answer: &Answer, log: Option<&Path>) -> Error {
        if let Err(e) = self.wait() {
            return e;
        }
        let said = [log.map(log::quote).unwrap_or_default(), self.words(), log::errors(&answer.message)];
        let cause = said.into_iter().find(|words| !words.is_empty()).unwrap_or_else(|| match answer.errno {
            0 => "CRIU has failed".into(),
            errno => format!("CRIU has failed: {}", crate::error::Errno(errno.saturating_abs())),
        });
        let error = hinting(Error::new(kind.words(), cause.clone()), &cause, log);
        // Without a word, or with one about the kernel: as when it is older than what the kernel has come to be.
        if kind == Kind::FeatureCheck { error.hint("does `criu check` say that it works on this kernel?") } else { error }
    }

    /// The errors that it printed.
    fn words(&mut self) -> String {
        let mut text = String::new();
        let read = self.said.as_mut().map(|said| said.seek(SeekFrom::Start(0)).and_then(|_| said.read_to_string(&mut text)));
        if matches!(read, Some(Ok(_))) { log::errors(&text) } else { String::new() }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Nothing was asked of it yet, or the socket failed; a process that has gone already is as good.
            let _gone = self.process.kill();
            let _reaped = self.process.wait();
        }
    }
}

/// The error with the words of CRIU's log in the place of its own.
fn quoting(error: Error, log: &Path) -> Error {
    let quote = log::quote(log);
    let error = if quote.is_empty() { error } else { Error::new(error.step(), quote.as_str()) };
    hinting(error, &quote, Some(log))
}

fn hinting(error: Error, quote: &str, log: Option<&Path>) -> Error {
    match (log::missing_program(quote), log.filter(|log| log.exists())) {
        (Some(name), _) if name.contains("tables") => {
            error.hint(format!("CRIU needs the program {name}, or --network-lock nftables or skip"))
        }
        (Some(name), _) => error.hint(format!("CRIU needs the program {name}")),
        (None, Some(log)) => error.hint(format!("all of it is in {}", log.display())),
        (None, None) => error,
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".into(),
    }
}

fn inherit(fd: BorrowedFd<'_>, on: bool) -> nix::Result<()> {
    let flags = if on { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    fcntl(fd, FcntlArg::F_SETFD(flags)).map(drop)
}

/// The program, in the caller's PATH or where such programs are.
fn find(path: Option<&OsStr>) -> Result<PathBuf> {
    let own = path.map(std::env::split_paths).into_iter().flatten();
    let all = own.chain(std::env::split_paths(OsStr::new(PLACES))).filter(|dir| dir.is_absolute());
    let executable = |file: &PathBuf| file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    all.map(|dir| dir.join("criu")).find(executable).ok_or_else(|| {
        Error::new("find CRIU", format!("no program criu in PATH or {PLACES}"))
            .hint("it must be installed: the package is called criu nearly everywhere")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criu_is_looked_for_in_the_path_and_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("criu");
        std::fs::write(&program, "").unwrap();
        // Not executable, so not it.
        assert_ne!(find(Some(dir.path().as_os_str())).ok().as_ref(), Some(&program));
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(Some(dir.path().as_os_str())).unwrap(), program);
    }
}
