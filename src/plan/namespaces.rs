//! Which namespaces are made in the clone, which are entered and by whom, and when the id maps are written.
//!
//! * No user namespace: all new ones in the one clone3; the child enters the others. PID and time namespaces can only be
//!   entered by the parent of the process that lives in them, so the parent enters those around the clone and comes back.
//! * A new user namespace: made in the clone with the PID namespace; the rest is unshared once the ids are mapped, because
//!   the owner of an IPC namespace's mqueue is whoever makes it.
//! * A user namespace by path: the parent, while it still may, enters every other one around the clone; a new PID
//!   namespace must belong to the joined user namespace, so the child forks once more after entering it.
//! * A child that systemd moves into its cgroup: a new cgroup namespace is made after that, since its root is where its
//!   maker is.
//! * The runtime is root of a user namespace, and its own namespaces may belong to one above: whoever enters another cannot
//!   come back. What the parent would do around the clone is done by a middle process, which makes init and is gone.

use super::{Action, Open, Slot, Step, What, c_string};
use crate::config::{LinuxIdMapping, Spec};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::sys::clone::flags;

/// The namespaces' part of a plan.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// `CLONE_NEW*` of clone3.
    pub clone: u64,
    /// Slots that the parent enters before the clone and leaves after it, with their kinds.
    pub outer: Vec<(Slot, u64)>,
    /// Lines for /proc/self/timens_offsets of a new time namespace, made by the parent around the clone.
    pub time: Option<String>,
    /// The maps to write at the [`super::Pause::Mapped`].
    pub maps: Option<Maps>,
    /// The child forks once more: its pid is told in a message.
    pub forks: bool,
    /// The user namespace that is joined by path.
    pub joined_user: Option<Slot>,
    /// All kinds that are the container's own, new or by path.
    pub own: u64,
    /// All kinds that are new.
    pub new: u64,
}

/// What is written for a new user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maps {
    /// `linux.uidMappings`.
    pub uids: Vec<LinuxIdMapping>,
    /// `linux.gidMappings`.
    pub gids: Vec<LinuxIdMapping>,
}

impl Namespaces {
    /// Whether the container has its own namespace of that kind.
    pub fn has(&self, kind: u64) -> bool {
        self.own & kind != 0
    }
}

/// `CLONE_NEW*` by the spec's name.
pub fn kind(name: &str) -> Option<u64> {
    Some(match name {
        "pid" => flags::NEWPID,
        "network" => flags::NEWNET,
        "mount" => flags::NEWNS,
        "ipc" => flags::NEWIPC,
        "uts" => flags::NEWUTS,
        "user" => flags::NEWUSER,
        "cgroup" => flags::NEWCGROUP,
        "time" => flags::NEWTIME,
        _ => return None,
    })
}

/// The spec's name of one `CLONE_NEW*`.
pub fn name(kind: u64) -> &'static str {
    match kind {
        flags::NEWPID => "pid",
        flags::NEWNET => "network",
        flags::NEWNS => "mount",
        flags::NEWIPC => "ipc",
        flags::NEWUTS => "uts",
        flags::NEWUSER => "user",
        flags::NEWCGROUP => "cgroup",
        _ => "time",
    }
}

/// Whether a new network namespace may be made before the clone, by another thread: it is the caller's user namespace that owns it
/// then, and there is a time in which this process has two threads, when it can enter no time namespace.
pub fn network_can_be_apart(spec: &Spec) -> bool {
    let is_new = |kind: &str| spec.linux.namespaces.iter().any(|n| n.kind == kind && n.path.is_empty());
    let has = |kind: &str| spec.linux.namespaces.iter().any(|n| n.kind == kind);
    is_new("network") && !has("user") && !has("time")
}

/// The order of setns: the user namespace first, for the rights it gives; the mount namespace last.
const ORDER: [u64; 6] = [flags::NEWUSER, flags::NEWNET, flags::NEWUTS, flags::NEWIPC, flags::NEWCGROUP, flags::NEWNS];

/// Works out the namespaces and appends the child's first steps. `placed` says that the child is moved into its cgroup before
/// those, not by the clone.
pub fn plan(spec: &Spec, host: &Host, placed: bool, opens: &mut Vec<Open>, steps: &mut Vec<Step>) -> Result<Namespaces> {
    let mut ns = Namespaces::default();
    let mut joined: Vec<(u64, Slot, String)> = Vec::new();
    for (n, entry) in spec.linux.namespaces.iter().enumerate() {
        let field = format!("/linux/namespaces/{n}");
        let Some(kind) = kind(&entry.kind) else {
            return Err(Error::new(format!("namespace type {:?}", entry.kind), "unknown").at(format!("{field}/type")));
        };
        ns.own |= kind;
        if entry.path.is_empty() {
            ns.new |= kind;
        } else {
            let slot = Slot(opens.len());
            opens.push(Open {
                field: format!("{field}/path"),
                path: c_string(&entry.path, &format!("{field}/path"))?,
                what: What::Namespace(kind),
            });
            if kind == flags::NEWUSER {
                ns.joined_user = Some(slot);
            }
            joined.push((kind, slot, field));
        }
    }
    if !ns.has(flags::NEWNS) {
        return Err(Error::new("namespaces", "a container needs a mount namespace of its own").at("/linux/namespaces"));
    }
    let user_joined = joined.iter().any(|(kind, ..)| *kind == flags::NEWUSER);
    let user_new = ns.new & flags::NEWUSER != 0;
    let outer = |kind: u64| match kind {
        flags::NEWPID | flags::NEWTIME => true,
        flags::NEWUSER | flags::NEWNS => false,
        // Rights over the host's namespaces are gone once a user namespace is entered.
        _ => (user_new || user_joined) && host.privileged,
    };
    let enters = ns.new & flags::NEWTIME != 0 || joined.iter().any(|(kind, ..)| outer(*kind));
    let middle = host.privileged && host.nested && enters;
    if ns.new & flags::NEWTIME != 0 {
        time(&mut ns, spec, host, middle, steps)?;
    }
    for (kind, slot, field) in &joined {
        if outer(*kind) {
            if *kind == flags::NEWPID && user_joined && !host.privileged {
                return Err(Error::new("join a PID namespace", "needs privileges that this user does not have").at(field.clone()));
            }
            if middle {
                steps.push(Step { field: field.clone(), action: Action::Join(*slot, *kind) });
            } else {
                ns.outer.push((*slot, *kind));
            }
        } else if *kind == flags::NEWNS && user_new {
            return Err(Error::new("join a mount namespace", "cannot be combined with a new user namespace").at(field.clone()));
        }
    }
    let join = |kind: u64, steps: &mut Vec<Step>| {
        for (k, slot, field) in joined.iter().filter(|(k, ..)| *k == kind && !outer(*k)) {
            steps.push(Step { field: field.clone(), action: Action::Join(*slot, *k) });
        }
    };
    let in_clone = ns.new & !flags::NEWTIME;
    let list = "/linux/namespaces".to_string();
    let add = |steps: &mut Vec<Step>, action| steps.push(Step { field: list.clone(), action });
    let mut first = in_clone;
    ns.forks = middle;
    if user_new {
        first &= flags::NEWUSER | flags::NEWPID;
        if middle {
            add(steps, Action::Fork(first));
        } else {
            ns.clone = first;
        }
        let maps = Maps { uids: spec.linux.uid_mappings.clone(), gids: spec.linux.gid_mappings.clone() };
        steps.push(Step { field: "/linux/uidMappings".into(), action: Action::Pause(super::Pause::Mapped) });
        steps.push(identity(&maps.uids, &maps.gids));
        ns.maps = Some(maps);
    } else if user_joined {
        join(flags::NEWUSER, steps);
        steps.push(identity(&spec.linux.uid_mappings, &spec.linux.gid_mappings));
        if middle || in_clone & flags::NEWPID != 0 {
            ns.forks = true;
            add(steps, Action::Fork(in_clone));
        } else if in_clone != 0 {
            add(steps, Action::Unshare(in_clone));
        }
    } else if middle {
        add(steps, Action::Fork(in_clone));
    } else {
        first = if placed { in_clone & !flags::NEWCGROUP } else { in_clone };
        ns.clone = first;
    }
    for kind in ORDER.into_iter().filter(|k| *k != flags::NEWUSER) {
        join(kind, steps);
    }
    let late = in_clone & !first;
    if late != 0 {
        add(steps, Action::Unshare(late));
    }
    Ok(ns)
}

/// A new time namespace: its offsets must be written before the first process is in it, so it is the work of whoever makes
/// init. An unprivileged one may not.
fn time(ns: &mut Namespaces, spec: &Spec, host: &Host, middle: bool, steps: &mut Vec<Step>) -> Result<()> {
    let lines: String = spec
        .linux
        .time_offsets
        .iter()
        .map(|(clock, o)| format!("{clock} {} {}\n", o.secs().unwrap_or(0), o.nanosecs().unwrap_or(0)))
        .collect();
    if middle {
        steps.push(Step { field: "/linux/namespaces".into(), action: Action::Unshare(flags::NEWTIME) });
        if !lines.is_empty() {
            let at = "/linux/timeOffsets".to_string();
            let action = Action::WriteProc { path: c"self/timens_offsets".into(), value: c_string(&lines, &at)? };
            steps.push(Step { field: at.clone(), action: Action::OpenProc });
            steps.push(Step { field: at, action });
        }
        return Ok(());
    }
    if host.privileged {
        ns.time = Some(lines);
        return Ok(());
    }
    Err(Error::new("make a time namespace", "needs privileges that this user does not have").at("/linux/namespaces"))
}

/// The ids to work under inside a user namespace: its root, or the first that is mapped.
pub(super) fn identity(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Step {
    let pick = |maps: &[LinuxIdMapping]| {
        let root = maps.iter().any(|m| m.container_id() == 0);
        if root { 0 } else { maps.first().map_or(0, |m| m.container_id()) }
    };
    Step { field: "/linux/uidMappings".into(), action: Action::Identity { uid: pick(uids), gid: pick(gids) } }
}
