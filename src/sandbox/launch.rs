//! The parent: opens what the plan lists, clones into the cgroup and the namespaces, and walks the plan's pauses with the
//! child. Every wait is for a message or the child's end, whichever comes first.

use super::around::Around;
use super::child::{self, Fail, Inheritance};
use super::open::{self, Opened};
use super::report::{Kind, Report, SIZE};
use super::{verify, words};
use crate::cgroup::Cgroup;
use crate::config::LinuxIdMapping;
use crate::error::{Context, Error, Result};
use crate::plan::{Action, Idmap, Pause, Plan, Slot, Step, What};
use crate::seal::Sealed;
use crate::seccomp::Filter;
use crate::store::init;
use crate::sys::clone::{self, Side, flags};
use crate::sys::netns::Beside;
use crate::sys::pidfd::{self, Exit};
use crate::sys::seccomp::{self, Room};
use crate::sys::{fs, heap, process, shared::Word};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};

/// What a launch needs beside the plan.
#[derive(Default)]
pub struct Equipment<'a> {
    /// Where the child is cloned into.
    pub cgroup: Option<&'a Cgroup>,
    /// The FIFO between init and `start`.
    pub fifo: Option<OwnedFd>,
    /// Where the child is cloned into when `cgroup` takes no processes (EBUSY; EOPNOTSUPP when it became a threaded domain):
    /// init's own, below it.
    pub fallback: Option<&'a dyn Fn() -> Result<Cgroup>>,
    /// Moves the child into its cgroup where the clone did not, at [`Pause::Placed`].
    pub place: Option<&'a dyn Fn(i32) -> Result<()>>,
    /// Where `cgroup` may not be entered (EACCES: an ordinary user who calls from a cgroup that was not delegated), the child
    /// stays in the caller's, as with runc, and a warning says so.
    pub may_stay_outside: bool,
    /// The container's init, for [`What::Init`].
    pub init: Option<OwnedFd>,
    /// Where the master of the terminal is sent.
    pub console: Option<OwnedFd>,
    /// The network namespace that is being made, for a plan that would have the clone make it.
    pub network: Option<Beside>,
}

/// A container's init on its way.
pub struct Launched {
    /// Not given back: it is memory that is shared with the child ([`heap::share`]).
    plan: ManuallyDrop<Plan>,
    /// Its pid, as this process sees it.
    pub pid: i32,
    /// Its descriptor.
    pub pidfd: OwnedFd,
    channel: OwnedFd,
    listener: Option<Word>,
}

/// Room for `HOME=` and a path, NUL included.
const HOME_ROOM: usize = libc::PATH_MAX as usize + 8;

/// Opens what the plan lists, and clones: not without the proof that nothing of this process leads to the host's binary.
pub fn launch(plan: Plan, equipment: Equipment<'_>, sealed: Sealed) -> Result<Launched> {
    let slots = prepare(&plan, equipment.init)?;
    // SEQPACKET: a message is whole or not there, and the end of one side is the end of file of the other.
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .step("socketpair", || "make the channel to the container's init".into())?;
    let listens = |s: &Step| if let Action::Seccomp { listens, .. } = s.action { Some(listens) } else { None };
    let filtered = plan.steps.iter().find_map(listens);
    let listener =
        if filtered == Some(true) { Some(Word::new().step("mmap", || "share memory with init".into())?) } else { None };
    let mut given = Inheritance {
        channel: theirs,
        slots,
        start: equipment.fifo,
        console: equipment.console,
        network: None,
        home: vec![0u8; HOME_ROOM].leak(),
        filter: filtered.map(|_| Room::new()),
        listener: listener.as_ref().map(Word::share),
    };

    if let Some(cpus) = &plan.affinity {
        process::set_affinity(cpus)
            .step("sched_setaffinity", || "move to the initial CPUs".into())
            .map_err(|e| e.at("/process/execCPUAffinity/initial"))?;
    }
    let around = Around::enter(&plan, &given.slots)?;
    let dir = equipment.cgroup.map(AsFd::as_fd);
    let mut namespaces = plan.namespaces.clone;
    let network = equipment.network.and_then(Beside::take);
    given.network = network.filter(|_| namespaces & flags::NEWNET != 0);
    if given.network.is_some() {
        namespaces &= !flags::NEWNET;
    }
    // Not while the network namespace is made: the kernel's own thread for this may be put behind that.
    drop(sealed);
    heap::share();
    let mut side = clone::clone3(namespaces, dir, false);
    if let (Err(Errno::EBUSY | Errno::EOPNOTSUPP), Some(fallback)) = (&side, equipment.fallback)
        && let Ok(other) = fallback()
    {
        crate::log::debug(|| format!("the container's cgroup takes no processes: going to init's, {}", other.path().display()));
        side = clone::clone3(namespaces, Some(other.as_fd()), false);
    }
    if let (Err(Errno::EOPNOTSUPP), Some(cgroup)) = (&side, equipment.cgroup)
        && cgroup.become_threaded()
    {
        side = clone::clone3(namespaces, dir, false);
    }
    let mut place = equipment.place;
    let mut outside = false;
    if matches!(side, Err(Errno::EACCES)) {
        // A user may not move a process out of a cgroup that is not the user's: systemd may.
        outside = place.is_none() && equipment.may_stay_outside && dir.is_some();
        if outside || place.is_some() {
            side = clone::clone3(namespaces, None, false);
        }
    } else if dir.is_some() {
        place = None;
    }
    let cloned = match side {
        Err(e) => Err(refused(&plan, equipment.cgroup, e)),
        Ok(Side::Child) => {
            // Else the end of the parent would not be an end of file.
            drop(ours);
            child::run(plan, given)
        }
        Ok(Side::Parent(pid, pidfd)) => Ok((pid, pidfd)),
    };
    let back = around.leave();
    if outside && cloned.is_ok() {
        crate::log::warn(
            "the process is not in the container's cgroup, which cannot be entered from the caller's: no limit applies to it",
        );
    }
    let (pid, pidfd) = cloned?;
    given.slots.clear();
    drop(given);
    let mut launched = Launched { plan: ManuallyDrop::new(plan), pid, pidfd, channel: ours, listener };
    if let Err(e) =
        back.and_then(|()| launched.place(place)).and_then(|()| launched.follow_fork()).and_then(|()| launched.write_maps())
    {
        launched.kill();
        return Err(e);
    }
    Ok(launched)
}

/// Words a clone that failed.
fn refused(plan: &Plan, cgroup: Option<&Cgroup>, errno: Errno) -> Error {
    let error = match (errno, cgroup) {
        // The security module of a new user namespace answers with the same.
        (Errno::EACCES, Some(_)) if crate::idmap::why_no_user_namespace(errno).is_some() => refused_clone(errno),
        (Errno::EBUSY | Errno::EOPNOTSUPP | Errno::ENODEV | Errno::EACCES, Some(cgroup)) => {
            return cgroup.refused_entry("clone3", errno);
        }
        _ => refused_clone(errno),
    };
    if plan.namespaces.clone & flags::NEWUSER != 0
        && let Some(why) = crate::idmap::why_no_user_namespace(errno)
    {
        return error.hint(why);
    }
    match errno {
        Errno::EPERM => error.hint("root is needed, or a user namespace in linux.namespaces"),
        Errno::EMFILE => error.hint("the limit of open files (ulimit -n) is too low"),
        Errno::ENOSPC | Errno::EUSERS => error.hint(
            crate::idmap::why_no_namespace()
                .unwrap_or_else(|| "the limits in /proc/sys/user/max_*_namespaces, or of nesting, are reached".into()),
        ),
        _ => error,
    }
}

fn refused_clone(errno: Errno) -> Error {
    Error::sys("make the container's process", "clone3", errno.into()).at("/linux/namespaces")
}

/// Opens the plan's list, or leaves that to the child, which then opens all but the namespaces.
pub(super) fn prepare(plan: &Plan, mut init: Option<OwnedFd>) -> Result<Vec<Opened>> {
    let by_child = plan.steps.iter().any(|s| matches!(s.action, Action::Opens));
    let mut slots = Vec::with_capacity(plan.opens.len());
    let mut maps: Vec<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>, OwnedFd)> = Vec::new();
    for entry in &plan.opens {
        let word = |Fail(report)| words::of_open(entry, &report);
        if matches!(entry.what, What::Init) {
            slots.push(init.take().map_or(Opened::Nothing, |init| Opened::Fd(init, false)));
            continue;
        }
        let tree = if let What::Tree(tree) | What::Inside(tree) = &entry.what { Some(tree) } else { None };
        if tree.is_some_and(|t| t.copy_symlink)
            && let Some(target) = open::link_target(entry).map_err(word)?
        {
            slots.push(Opened::Link(target));
            continue;
        }
        if by_child && !matches!(entry.what, What::Namespace(_) | What::Append) {
            if tree.is_some_and(|t| t.idmap.is_some()) {
                let error = Error::new("make an idmapped mount", "an unprivileged user may not").at(entry.field.clone());
                return Err(error);
            }
            slots.push(Opened::Nothing);
            continue;
        }
        let userns = match tree.and_then(|t| t.idmap.as_ref()) {
            None => None,
            Some(Idmap { joined: Some(Slot(joined)), .. }) => match slots.get(*joined) {
                Some(Opened::Fd(userns, _)) => Some(userns.as_fd()),
                _ => None,
            },
            Some(map) => {
                let known = maps.iter().position(|(u, g, _)| (u, g) == (&map.uids, &map.gids));
                let at = match known {
                    Some(at) => at,
                    None => {
                        let at = entry.field.trim_end_matches("/source").to_string();
                        let proc = std::fs::File::open("/proc").step("open", || "open /proc".into())?;
                        let fd = crate::idmap::user_namespace_for(proc.as_fd(), &at, &map.uids, &map.gids)?;
                        maps.push((map.uids.clone(), map.gids.clone(), fd));
                        maps.len() - 1
                    }
                };
                maps.get(at).map(|(_, _, fd)| fd.as_fd())
            }
        };
        let opened = open::open(entry, userns).map_err(word)?;
        slots.push(opened);
    }
    Ok(slots)
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
    fn follow_fork(&mut self) -> Result<()> {
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
        // Every kernel that this runs on knows SPEC_ALLOW (4.17).
        match seccomp::send(self.channel.as_fd(), &filter.program, filter.load_flags(true)) {
            // The child is gone: why is heard at the next pause.
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => {}
            Err(e) => return Err(Error::sys("hand the filter to the container's init", "sendmsg", e.into())),
        }
        self.plan.set_filter(filter);
        Ok(())
    }

    /// Lets the child go on from a pause.
    pub fn go_on(&self) -> Result<()> {
        process::send(self.channel.as_fd(), b"!").step("sendto", || "let the container's init go on".into())
    }

    /// Lets the child go on from [`Pause::Cleared`], which it may have yet to get to.
    pub fn clear(&self) -> Result<()> {
        match process::send(self.channel.as_fd(), b"!") {
            // It is gone: why is heard next.
            Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            other => other.step("sendto", || "let the container's process go on".into()),
        }
    }

    /// Waits until the program is executed (where no `start` stands between).
    pub fn executed(&self) -> Result<()> {
        match self.hear()? {
            Heard::Message(report) => Err(self.failed(&report)),
            // Close-on-exec, or the end of the process: only a look at it tells. After "ready" little can end it before the program,
            // and to the caller it is the program that was killed.
            Heard::Closed if !self.pauses_at(Pause::Cleared) => Ok(()),
            // Where a caller ignores SIGCHLD it may be gone, and nothing speaks against it.
            Heard::Closed => match init::has_executed(self.pid, None)? {
                Some(false) => Err(self.died()),
                _ => Ok(()),
            },
        }
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
    fn place(&self, place: Option<&dyn Fn(i32) -> Result<()>>) -> Result<()> {
        if !self.pauses_at(Pause::Placed) {
            return Ok(());
        }
        if let Some(place) = place {
            place(self.pid)?;
        }
        self.go_on()
    }

    fn write_maps(&self) -> Result<()> {
        let Some(maps) = &self.plan.namespaces.maps else { return Ok(()) };
        let proc = std::fs::File::open("/proc").step("open", || "open /proc".into())?;
        crate::idmap::write_maps(proc.as_fd(), self.pid, "/linux", &maps.uids, &maps.gids)?;
        self.go_on()
    }

    /// Waits for a message or the child's end; false when the time is over first.
    fn wait(&self, timeout: PollTimeout) -> Result<bool> {
        loop {
            let mut fds =
                [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN), PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Err(Errno::EINTR) => {}
                other => return Ok(other.step("poll", || "wait for the container's init".into())? > 0),
            }
        }
    }

    fn hear(&self) -> Result<Heard> {
        self.wait(PollTimeout::NONE)?;
        let mut bytes = [0u8; SIZE];
        let flags = nix::sys::socket::MsgFlags::MSG_DONTWAIT;
        let channel = std::os::fd::AsRawFd::as_raw_fd(&self.channel);
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
