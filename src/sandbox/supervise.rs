//! The runtime in the foreground: hands on signals, keeps the terminal going, and ends as the process ends.
//!
//! One loop over one poll(2); nothing in it blocks but that. Not for `create` and `--detach`, where the runtime leaves.

use super::relay::Relay;
use crate::error::{Context, Error, Result};
use crate::sys::pidfd::{self, Exit};
use crate::sys::spawn::default_signal;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

pub use super::relay::Terminal;

/// All signals, blocked and readable. Made before the clone: a child that ends at once then still leaves its SIGCHLD here.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// The mask as it was. The child sets it again before it executes anything.
    pub fn before(&self) -> &SigSet {
        &self.before
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Cannot fail: the mask is one that the kernel gave out.
        let _same = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Blocks every signal that can be blocked, until the value is dropped, and gives SIGCHLD its default disposition: a
/// caller that ignores it would make the kernel throw exit statuses away.
pub fn block_signals() -> Result<Signals> {
    default_signal(libc::SIGCHLD).step("rt_sigaction", || "reset SIGCHLD".into())?;
    let (all, mut before) = (SigSet::all(), SigSet::empty());
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut before)).step("rt_sigprocmask", || "block signals".into())?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    match SignalFd::with_flags(&all, flags) {
        Ok(fd) => Ok(Signals { fd, before }),
        Err(e) => {
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).step("rt_sigprocmask", || "unblock signals".into())?;
            Err(Error::sys("make a descriptor for signals", "signalfd4", e.into()))
        }
    }
}

/// Waits for `init`, a child with this `pid` and descriptor, and reaps it; meanwhile hands every signal on to it and, with
/// a `terminal`, copies between the caller's and the container's. Returns the exit status for the shell: the code, or 128 + signal.
///
/// After the end of `init` everything that it wrote is still copied, however slow the reader; SIGINT, SIGTERM, SIGHUP or
/// SIGQUIT ends that.
pub fn supervise<'a>(
    pid: i32,
    init: BorrowedFd<'a>,
    signals: &'a Signals,
    terminal: Option<Terminal<'a>>,
    duties: Duties<'a>,
) -> Result<u8> {
    let relay = terminal.map(Relay::start).transpose()?;
    let mut loop_ = Loop { pid, init, signals, relay, duties, exit: None, trouble: None, stop: false };
    loop {
        // Whatever is left of the relay is dropped with the loop, so that the terminal is restored on every way out.
        if let Some(exit) = loop_.turn()? {
            return match loop_.trouble.or_else(|| loop_.relay.and_then(Relay::into_trouble)) {
                None => Ok(exit.status()),
                Some(error) => Err(error),
            };
        }
    }
}

/// What else there may be to do meanwhile.
#[derive(Default)]
pub struct Duties<'a> {
    /// Every other child that ends is reaped too (for a child sub-reaper).
    pub reaper: bool,
    /// Something to look after.
    pub aside: Option<Aside<'a>>,
    /// Asked when `init` has ended with another status than 0 and is not reaped: what is wrong with that end is told in
    /// the place of the status.
    pub look: Option<&'a dyn Fn() -> Result<()>>,
}

/// Something to look after.
pub struct Aside<'a> {
    /// Readable when there is something to do.
    pub fd: BorrowedFd<'a>,
    /// Does it, without waiting.
    pub act: &'a mut dyn FnMut(),
}

struct Loop<'a> {
    pid: i32,
    init: BorrowedFd<'a>,
    signals: &'a Signals,
    relay: Option<Relay<'a>>,
    duties: Duties<'a>,
    exit: Option<Exit>,
    /// What went wrong without being a reason to leave a running container alone; told at the end.
    trouble: Option<Error>,
    /// Somebody asked us to end, and init is gone already.
    stop: bool,
}

impl Loop<'_> {
    /// One poll and what follows from it; the exit status when all is done.
    fn turn(&mut self) -> Result<Option<Exit>> {
        if let Some(exit) = self.exit
            && (self.stop || self.relay.as_ref().is_none_or(Relay::done))
        {
            return Ok(Some(exit));
        }
        let mut fds = vec![PollFd::new(self.signals.fd.as_fd(), PollFlags::POLLIN)];
        // An ended process is readable for ever.
        if self.exit.is_none() {
            fds.push(PollFd::new(self.init, PollFlags::POLLIN));
        }
        let relay_from = fds.len();
        let mut timeout = PollTimeout::NONE;
        if let Some(relay) = &self.relay {
            relay.interests(&mut fds);
            timeout = relay.timeout(self.exit.is_some());
        }
        let relay_to = fds.len();
        fds.extend(self.duties.aside.as_ref().map(|aside| PollFd::new(aside.fd, PollFlags::POLLIN)));
        let ready = match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => return Ok(None),
            other => other.step("poll", || "wait for the container".into())?,
        };
        let events: Vec<_> = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        drop(fds);
        if let Some(relay) = &mut self.relay {
            relay.serve(ready == 0, self.exit.is_some(), events.get(relay_from..relay_to).unwrap_or_default())?;
        }
        if let Some(aside) = &mut self.duties.aside
            && events.get(relay_to).is_some_and(|events| !events.is_empty())
        {
            (aside.act)();
        }
        if events.first().is_some_and(|events| !events.is_empty()) {
            self.take_signals()?;
        }
        // It was polled if it had not ended by then; reaping twice does no harm.
        if relay_from == 2 && events.get(1).is_some_and(|events| !events.is_empty()) {
            self.reap()?;
        }
        Ok(None)
    }

    fn take_signals(&mut self) -> Result<()> {
        loop {
            let info = match self.signals.fd.read_signal() {
                Err(Errno::EINTR) => continue,
                other => other.step("read", || "read a signal".into())?,
            };
            let Some(info) = info else { break };
            let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
            let own = || i64::from(info.ssi_pid) == i64::from(nix::unistd::getpid().as_raw());
            match signal {
                libc::SIGCHLD => self.reap()?,
                // Of our own writing to a pipe without a reader: the write has said so itself.
                libc::SIGPIPE if own() => {}
                // They are about our own place in a terminal's job control.
                libc::SIGTTIN | libc::SIGTTOU => {}
                libc::SIGWINCH if self.relay.is_some() => self.relay.as_ref().map_or(Ok(()), Relay::resize)?,
                _ if self.exit.is_some() => {
                    self.stop |= [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT].contains(&signal);
                }
                _ => {
                    if signal == libc::SIGCONT
                        && let Some(relay) = &mut self.relay
                    {
                        relay.resume()?;
                    }
                    self.forward(signal);
                }
            }
        }
        Ok(())
    }

    fn forward(&mut self, signal: i32) {
        match pidfd::send_signal(self.init, signal) {
            // It ended in between; the pidfd tells.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => {
                let step = format!("hand signal {signal} on to the container");
                self.trouble.get_or_insert_with(|| Error::sys(step, "pidfd_send_signal", e.into()));
            }
        }
    }

    fn reap(&mut self) -> Result<()> {
        let step = || "wait for the container".to_owned();
        if self.exit.is_none() {
            let ended = pidfd::peek(self.init).step("waitid", step)?;
            if let (Some(look), Some(exit)) = (self.duties.look, ended)
                && !exit.success()
            {
                self.trouble = look().err();
            }
            if ended.is_some() {
                self.exit = pidfd::try_wait(self.init).step("waitid", step)?;
            }
        }
        while self.duties.reaper
            && let Some((pid, exit)) = pidfd::reap_any().step("waitid", step)?
        {
            if pid == self.pid {
                self.exit = Some(exit);
            }
        }
        Ok(())
    }
}

/// Makes this process the parent of the container's orphans, so that they can be reaped with it (PR_SET_CHILD_SUBREAPER).
pub fn become_reaper() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).step("prctl", || "become the sub-reaper of the container".into())
}
