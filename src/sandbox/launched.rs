//! The child as the parent sees it: what it says at the plan's pauses, and what is done there. Every wait is for a message or the
//! child's end, whichever comes first.

use super::channel::Ours;
use super::report::{Kind, Report, SIZE};
use super::{verify, words};
use crate::error::{Context, Error, Result};
use crate::plan::{Action, Pause, Plan};
use crate::seccomp::Filter;
use crate::store::init;
use crate::sys::pidfd::{self, Exit};
use crate::sys::{fs, process, seccomp, shared::Word};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A container's process on its way.
pub struct Launched {
    /// Not given back: the child may share its pages, which to give back would copy ([`crate::sys::heap::share`]).
    pub(super) plan: ManuallyDrop<Plan>,
    /// Its pid, as this process sees it.
    pub pid: i32,
    /// Its descriptor.
    pub pidfd: OwnedFd,
    pub(super) channel: Ours,
    pub(super) listener: Option<Word>,
}

/// Every kernel that this runs on knows SPEC_ALLOW (4.17).
pub(super) fn load_flags(filter: &Filter) -> u32 {
    filter.load_flags(true)
}

/// What a wait for the child brought.
enum Heard {
    Message(Report),
    /// The channel is closed: exec has done that, or the end of the process.
    Closed,
}

impl Launched {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// With a middle process: learns the pid of the init that it makes, and lets the middle process go.
    pub(super) fn follow_fork(&mut self) -> Result<()> {
        if !self.plan.namespaces.forks {
            return Ok(());
        }
        match self.hear()? {
            Heard::Message(Report { kind: Kind::Forked, value: pid, .. }) => {
                // Ours by CLONE_PARENT, and not reaped by anybody else: the number cannot name another.
                let init = pidfd::open(pid).step("pidfd_open", || "open the container's init".into())?;
                let middle = std::mem::replace(&mut self.pidfd, init);
                self.pid = pid;
                pidfd::wait(middle.as_fd()).step("waitid", || "reap the middle process".into())?;
                self.go_on()
            }
            Heard::Message(report) => Err(self.failed(&report)),
            Heard::Closed => Err(self.died()),
        }
    }

    /// Whether the plan has this pause.
    pub fn pauses_at(&self, pause: Pause) -> bool {
        self.plan.steps.iter().any(|s| matches!(s.action, Action::Pause(p) if p == pause))
    }

    /// Waits until the child has got to this pause; at [`Pause::Created`], reads back what it has set.
    pub fn reach(&self, pause: Pause) -> Result<()> {
        let place = self.plan.steps.iter().position(|s| matches!(s.action, Action::Pause(p) if p == pause));
        // Opened while the child works, and read when it has done so.
        let account = if pause == Pause::Created { Some(verify::Account::open(&self.plan, self.pid)?) } else { None };
        match self.hear()? {
            Heard::Message(Report { kind: Kind::Reached, step, .. }) if usize::try_from(step).ok() == place => {
                if pause == Pause::Created {
                    self.set_from_outside()?;
                }
                account.map_or(Ok(()), |account| account.verify())
            }
            Heard::Message(report) => Err(self.failed(&report)),
            Heard::Closed => Err(self.died()),
        }
    }

    /// Gives the child its filter, at [`Pause::Filtered`], which it may have yet to get to.
    pub fn send_filter(&mut self, filter: Filter) -> Result<()> {
        match seccomp::send(self.channel.socket()?, &filter.program, load_flags(&filter)) {
            // The child is gone: why is heard at the next pause.
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => {}
            Err(e) => return Err(Error::sys("hand the filter to the container's init", "sendmsg", e.into())),
        }
        self.plan.set_filter(filter);
        Ok(())
    }

    /// Lets the child go on from a pause.
    pub fn go_on(&self) -> Result<()> {
        process::send(self.channel.socket()?, b"!").step("sendto", || "let the container's init go on".into())
    }

    /// Lets the child go on from [`Pause::Cleared`], which it may have yet to get to.
    pub fn clear(&self) -> Result<()> {
        match process::send(self.channel.socket()?, b"!") {
            // It is gone: why is heard next.
            Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            other => other.step("sendto", || "let the container's process go on".into()),
        }
    }

    /// Waits until the program is executed (where no `start` stands between), or the child has ended without a word: only
    /// [`Launched::has_executed`] tells which.
    pub fn executed(&self) -> Result<()> {
        match self.hear()? {
            Heard::Message(report) => Err(self.failed(&report)),
            Heard::Closed => Ok(()),
        }
    }

    /// Whether it was the program that ended the channel. After "ready" little can end the child before that, and to the caller
    /// it is the program that was killed.
    pub fn has_executed(&self) -> Result<()> {
        if self.pauses_at(Pause::Created) {
            return Ok(());
        }
        // Where a caller ignores SIGCHLD it may be gone, and nothing speaks against it. And what executes the program gives lent
        // memory back (`exec_mmap` of fs/exec.c) before it is marked as one that has: while it lives it is looked at again.
        while init::has_executed(self.pid, None)? == Some(false) {
            match pidfd::poll_exit(&self.pidfd, Some(1)) {
                Ok(false) | Err(Errno::EINTR) => {}
                Ok(true) => return Err(self.died()),
                Err(e) => return Err(Error::sys("wait for the container's process", "poll", e.into())),
            }
        }
        Ok(())
    }

    /// Waits for the seccomp listener, whose number the child leaves in shared memory: any call that it could make to say
    /// so may be one that the filter holds up until an agent answers.
    pub fn seccomp_listener(&self) -> Result<Option<OwnedFd>> {
        let Some(word) = &self.listener else { return Ok(None) };
        loop {
            if let Some(number) = word.get() {
                return pidfd::getfd(self.pidfd.as_fd(), number)
                    .step("pidfd_getfd", || "take the seccomp listener".into())
                    .map_err(|e| e.at("/linux/seccomp/listenerPath"))
                    .map(Some);
            }
            // A message before that can only be of a failure. The word is looked at again once there is one: it is written
            // before the next pause is reached.
            if self.wait(PollTimeout::from(1u8))? && word.get().is_none() {
                return match self.hear()? {
                    Heard::Message(report) => Err(self.failed(&report)),
                    Heard::Closed => Err(self.died()),
                };
            }
        }
    }

    /// Sets on the waiting child what it may not set itself.
    fn set_from_outside(&self) -> Result<()> {
        for step in &self.plan.from_outside {
            let (call, done) = match &step.action {
                Action::Rlimit { resource, soft, hard } => ("prlimit64", process::set_rlimit(self.pid, *resource, *soft, *hard)),
                Action::OomScoreAdj(score) => {
                    let file = crate::store::init::proc_file(self.pid, "oom_score_adj")?;
                    let open = fs::open(fs::cwd(), &file, libc::O_WRONLY, 0);
                    ("write", open.and_then(|file| fs::write_all(file.as_fd(), score.to_bytes())))
                }
                _ => continue,
            };
            if let Err(e) = done {
                let error = Error::sys(step.action.words(), call, e.into());
                return Err(words::hint(error, &step.action, e as i32).at(step.field.clone()));
            }
        }
        Ok(())
    }

    /// Lets the child go on in its cgroup.
    pub(super) fn place(&self, place: Option<&dyn Fn(i32) -> Result<()>>) -> Result<()> {
        if !self.pauses_at(Pause::Placed) {
            return Ok(());
        }
        if let Some(place) = place {
            place(self.pid)?;
        }
        self.go_on()
    }

    pub(super) fn write_maps(&self) -> Result<()> {
        let Some(maps) = &self.plan.namespaces.maps else { return Ok(()) };
        let proc = std::fs::File::open("/proc").step("open", || "open /proc".into())?;
        crate::idmap::write_maps(proc.as_fd(), self.pid, "/linux", &maps.uids, &maps.gids)?;
        self.go_on()
    }

    /// Waits for a message or the child's end; false when the time is over first.
    fn wait(&self, timeout: PollTimeout) -> Result<bool> {
        let channel = self.channel.socket()?;
        loop {
            let mut fds = [PollFd::new(channel, PollFlags::POLLIN), PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Err(Errno::EINTR) => {}
                other => return Ok(other.step("poll", || "wait for the container's init".into())? > 0),
            }
        }
    }

    fn hear(&self) -> Result<Heard> {
        if let Ours::Left(report) = &self.channel {
            return Ok(report.map_or(Heard::Closed, Heard::Message));
        }
        self.wait(PollTimeout::NONE)?;
        let mut bytes = [0u8; SIZE];
        let flags = nix::sys::socket::MsgFlags::MSG_DONTWAIT;
        let channel = self.channel.socket()?.as_raw_fd();
        let mut received = nix::sys::socket::recv(channel, &mut bytes, flags);
        // A child that ends with a message unread (ours to go on) resets the channel, and that is told, once, before what it has
        // said itself.
        while matches!(received, Err(Errno::EINTR | Errno::ECONNRESET)) {
            received = nix::sys::socket::recv(channel, &mut bytes, flags);
        }
        match received {
            Ok(0) | Err(Errno::EAGAIN) => Ok(Heard::Closed),
            Ok(n) => Report::from_bytes(bytes.get(..n).unwrap_or_default())
                .map(Heard::Message)
                .ok_or_else(|| Error::new("listen to the container's init", "it said something that is no message")),
            Err(e) => Err(Error::sys("listen to the container's init", "recvfrom", e.into())),
        }
    }

    fn failed(&self, report: &Report) -> Error {
        let error = words::of_step(&self.plan, report);
        // A module takes the capabilities from a user namespace that it lets be made: any step can fail of that.
        let refused = matches!(report.value, libc::EPERM | libc::EACCES) && self.plan.namespaces.maps.is_some();
        if !refused || !error.hint_text().is_empty() || nix::unistd::geteuid().is_root() {
            return error;
        }
        match crate::idmap::why_it_is_powerless() {
            Some(why) => error.hint(why),
            None => error,
        }
    }

    /// The child is gone without a word.
    fn died(&self) -> Error {
        let how = match pidfd::peek(self.pidfd.as_fd()) {
            Ok(Some(Exit::Signal { signal, .. })) => format!("killed by signal {signal}"),
            Ok(Some(Exit::Code(code))) => format!("exit status {code}"),
            _ => "no word from it".into(),
        };
        Error::new("container init died", how)
    }

    /// Kills the child and reaps it: what a failed command leaves behind is nothing.
    pub fn kill(&self) {
        // It may have gone by itself; then both calls have nothing to do.
        let _gone = pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _reaped = pidfd::wait(self.pidfd.as_fd());
    }

    /// The network namespace of init, to move devices into.
    pub fn network_namespace(&self) -> Result<OwnedFd> {
        let path = format!("/proc/{}/ns/net", self.pid);
        let fd = std::fs::File::open(&path).step("open", || format!("open {path}"))?;
        Ok(fd.into())
    }
}
