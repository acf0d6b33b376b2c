//! The parent: opens what the plan lists, and clones into the cgroup and the namespaces.

use super::around::Around;
use super::channel::{self, Ours, Theirs};
use super::child::{self, Fail, Inheritance};
use super::launched::{Launched, load_flags};
use super::open::{self, Opened};
use super::words;
use crate::cgroup::Cgroup;
use crate::config::LinuxIdMapping;
use crate::error::{Context, Error, Result};
use crate::plan::{Action, Idmap, Plan, Slot, Step, What};
use crate::seal::Sealed;
use crate::seccomp::Filter;
use crate::sys::clone::{self, Life, Side, flags};
use crate::sys::namespaces::Namespaces;
use crate::sys::netns::Beside;
use crate::sys::seccomp::Room;
use crate::sys::{fs, heap, process, shared::Word};
use nix::errno::Errno;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

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
    /// Moves the child into its cgroup where the clone did not, at [`crate::plan::Pause::Placed`].
    pub place: Option<&'a dyn Fn(i32) -> Result<()>>,
    /// Where `cgroup` may not be entered (EACCES: an ordinary user who calls from a cgroup that was not delegated), the child
    /// stays in the caller's, as with runc, and a warning says so.
    pub may_stay_outside: bool,
    /// The runtime's namespaces, if they have been looked up. Closed before the clone.
    pub own: Option<Namespaces>,
    /// The container's init, for [`What::Init`].
    pub init: Option<OwnedFd>,
    /// Where the master of the terminal is sent.
    pub console: Option<OwnedFd>,
    /// The seccomp filter, where it is there before the clone.
    pub filter: Option<Filter>,
    /// The network namespace that is being made, for a plan that would have the clone make it.
    pub network: Option<Beside>,
}

/// Room for `HOME=` and a path, NUL included.
const HOME_ROOM: usize = libc::PATH_MAX as usize + 8;

/// Opens what the plan lists, and clones: not without the proof that nothing of this process leads to the host's binary.
pub fn launch(mut plan: Plan, equipment: Equipment<'_>, sealed: Sealed) -> Result<Launched> {
    let slots = prepare(&plan, equipment.init)?;
    let (ours, theirs) = if plan.lent {
        (Ours::Left(None), Theirs::Memory(None, Life::own()))
    } else {
        channel::sockets().step("socketpair", || "make the channel to the container's init".into())?
    };
    let finds_home = plan.steps.iter().any(|step| matches!(step.action, Action::Home { .. }));
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
        home: if finds_home { vec![0u8; HOME_ROOM].leak() } else { &mut [] },
        filter: filtered.map(|_| match &equipment.filter {
            Some(filter) => Room::of(filter.program.clone(), load_flags(filter)),
            None => Room::new(),
        }),
        listener: listener.as_ref().map(Word::share),
    };

    if let Some(cpus) = &plan.affinity {
        process::set_affinity(cpus)
            .step("sched_setaffinity", || "move to the initial CPUs".into())
            .map_err(|e| e.at("/process/execCPUAffinity/initial"))?;
    }
    let around = Around::enter(&plan, &given.slots, equipment.own)?;
    let dir = equipment.cgroup.map(AsFd::as_fd);
    let mut namespaces = plan.namespaces.clone;
    let network = equipment.network.and_then(Beside::take);
    given.network = network.filter(|_| namespaces & flags::NEWNET != 0);
    if given.network.is_some() {
        namespaces &= !flags::NEWNET;
    }
    // Not while the network namespace is made: the kernel's own thread for this may be put behind that.
    drop(sealed);
    let mut child = Work { plan: &mut plan, given: &mut given, ours: &ours };
    let mut side = child.clone(namespaces, dir);
    if let (Err(Errno::EBUSY | Errno::EOPNOTSUPP), Some(fallback)) = (&side, equipment.fallback)
        && let Ok(other) = fallback()
    {
        crate::log::debug(|| format!("the container's cgroup takes no processes: going to init's, {}", other.path().display()));
        side = child.clone(namespaces, Some(other.as_fd()));
    }
    if let (Err(Errno::EOPNOTSUPP), Some(cgroup)) = (&side, equipment.cgroup)
        && cgroup.become_threaded()
    {
        side = child.clone(namespaces, dir);
    }
    let mut place = equipment.place;
    let mut outside = false;
    if matches!(side, Err(Errno::EACCES)) {
        // A user may not move a process out of a cgroup that is not the user's: systemd may.
        outside = place.is_none() && equipment.may_stay_outside && dir.is_some();
        if outside || place.is_some() {
            side = child.clone(namespaces, None);
        }
    } else if dir.is_some() {
        place = None;
    }
    let cloned = side.map_err(|e| refused(&plan, equipment.cgroup, e));
    let back = around.leave();
    if outside && cloned.is_ok() {
        crate::log::warn(
            "the process is not in the container's cgroup, which cannot be entered from the caller's: no limit applies to it",
        );
    }
    let (pid, pidfd) = cloned?;
    let ours = if let Theirs::Memory(left, _) = &mut given.channel { Ours::Left(left.take()) } else { ours };
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

/// All that the child has.
struct Work<'a> {
    plan: &'a mut Plan,
    given: &'a mut Inheritance,
    /// The parent's end of the channel.
    ours: &'a Ours,
}

impl Work<'_> {
    /// Clones, into the cgroup if there is one; the parent gets the child's pid and descriptor.
    fn clone(&mut self, namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> nix::Result<(i32, OwnedFd)> {
        if self.plan.lent {
            return clone::lend(cgroup, |work: &mut Work<'_>| work.run(), self);
        }
        heap::share();
        match clone::clone3(namespaces, cgroup, false)? {
            Side::Child => self.run(),
            Side::Parent(pid, pidfd) => Ok((pid, pidfd)),
        }
    }

    /// The child.
    fn run(&mut self) -> ! {
        // Else the end of the parent would not be an end of file. By number: it is the parent's value.
        if let Ours::Socket(ours) = self.ours
            && let Ok(ours) = u32::try_from(ours.as_raw_fd())
        {
            // Refused, it costs that: no reason to do nothing.
            let _kept = fs::close_between(ours, ours);
        }
        child::run(self.plan, self.given)
    }
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
