//! The systemd unit of a container: made by `create` and `run`, told of new limits by `update`, joined by `exec`, ended by
//! `delete`. Which unit it is was stored: callers give `--systemd-cgroup` where a container is made, and not later.

use crate::cgroup::limits::Write;
use crate::cgroup::systemd::{Instance, Registered, Systemd, Unit, properties};
use crate::cgroup::{Cgroup, Driver, Hierarchy, Setup};
use crate::cli::CgroupManager;
use crate::error::{Errno, Error, Result};
use crate::store::{Entry, Record};
use std::cell::{Cell, OnceCell, RefCell};
use std::path::{Path, PathBuf};

/// What the flag means for this caller.
pub fn driver(manager: CgroupManager) -> Driver {
    match manager {
        CgroupManager::Cgroupfs => Driver::Cgroupfs,
        CgroupManager::Systemd => Driver::Systemd(Instance::of_caller()),
        CgroupManager::Disabled => Driver::Disabled,
    }
}

/// A unit that is being made.
pub struct Making {
    systemd: RefCell<Systemd>,
    /// Where it is to be found.
    pub registered: Registered,
    /// It was asked for: from then on what has the name is ours.
    ours: Cell<bool>,
    /// Its directory, once it is there.
    pub cgroup: OnceCell<Cgroup>,
}

impl Making {
    /// Connects to systemd, sees that the name is free, and names the unit on disk before it is made.
    pub fn begin(entry: &Entry, unit: &Unit) -> Result<Self> {
        let mut systemd = Systemd::connect(unit.instance)?;
        systemd.claim(&unit.name.unit)?;
        let registered = systemd.register(&unit.name.unit);
        entry.name_unit(&registered.to_string())?;
        Ok(Self { systemd: RefCell::new(systemd), registered, ours: Cell::new(false), cgroup: OnceCell::new() })
    }

    /// Makes the unit with the container's waiting process in it, and sets there what systemd cannot.
    pub fn place(&self, entry: &Entry, setup: &Setup, pid: i32) -> Result<()> {
        let Some(unit) = &setup.unit else { return Ok(()) };
        let mut systemd = self.systemd.borrow_mut();
        let job = systemd.start(unit, number(pid)?)?;
        self.ours.set(true);
        systemd.finish(&unit.name.unit, &job)?;
        let below = if unit.name.is_slice() {
            systemd.root()?.join(unit.name.path()?)
        } else {
            // The truth, wherever the manager itself lies.
            PathBuf::from(Hierarchy::place_of(pid)?.trim_start_matches('/'))
        };
        let path = setup.hierarchy.mount.join(&below);
        if !unit.name.is_slice() && below.file_name() != Some(unit.name.unit.as_ref()) {
            let cause = format!("systemd has made it, and the container's process is in {}", path.display());
            return Err(Error::new(format!("enter the unit {}", unit.name.unit), cause)
                .hint("is this a PID namespace other than systemd's?"));
        }
        entry.name_cgroup(&path)?;
        let gone = || Error::new(format!("open the cgroup {}", path.display()), "it is gone");
        let cgroup = Cgroup::open(&path)?.ok_or_else(gone)?;
        let cgroup = self.cgroup.get_or_init(|| cgroup);
        if unit.name.is_slice() {
            cgroup.enter(pid)?;
        }
        Cgroup::hand_down_to(&setup.hierarchy, &below, &setup.writes).map_err(|e| match (unit.instance, e.errno()) {
            (Instance::User, Some(Errno(libc::EACCES | libc::EPERM | libc::ENOENT))) => {
                e.hint("systemd hands users only some controllers: a drop-in of user@.service says which, Delegate=cpu cpuset io memory pids")
            }
            _ => e,
        })?;
        let weights = later(cgroup, &setup.writes);
        if !weights.is_empty() {
            systemd.set(&unit.name.unit, &weights)?;
        }
        cgroup.apply(&setup.writes)?;
        if let Some(owner) = setup.owner {
            cgroup.delegate(owner)?;
        }
        if setup.devices.is_some() {
            cgroup.attach_devices(setup.devices.as_deref())?;
        }
        Ok(())
    }

    /// Ends the unit again.
    pub fn undo(&self) -> Result<()> {
        if self.ours.get() { end(&self.registered, self.cgroup.get()) } else { Ok(()) }
    }
}

/// The properties that depend on which files the cgroup has.
fn later(cgroup: &Cgroup, writes: &[Write]) -> Vec<properties::Property> {
    let mut all = properties::limits(writes, Some(cgroup.has("io.bfq.weight")));
    all.retain(|(name, _)| name == "IOWeight");
    all
}

/// Tells systemd of limits that were written, so that they survive its next reload.
pub fn tell(record: &Record, cgroup: &Cgroup, writes: &[Write]) -> Result<()> {
    let Some(unit) = stored(record)? else { return Ok(()) };
    let properties = properties::limits(writes, Some(cgroup.has("io.bfq.weight")));
    if properties.is_empty() {
        return Ok(());
    }
    let mut systemd = Systemd::of(&unit)?;
    // systemd writes all files of the controllers anew, some less exactly than they were.
    let others: Vec<&str> = properties::FILES.into_iter().filter(|name| writes.iter().all(|w| w.file != *name)).collect();
    cgroup.keep(&others, || systemd.set(&unit.unit, &properties))?;
    // And what a reload had left it to do it may have done after our writes, with the old values.
    cgroup.apply(writes)
}

/// The unit of a container.
pub fn stored(record: &Record) -> Result<Option<Registered>> {
    record.unit.as_deref().map(Registered::parse).transpose()
}

/// Moves a process into the container's unit: to where init is, which may have moved itself below, or `below` the
/// container's cgroup.
pub fn attach(record: &Record, unit: &Registered, below: Option<&str>, pid: i32) -> Result<()> {
    let place = match (below, &record.cgroup) {
        (Some(below), Some(path)) => path.join(below.trim_start_matches('/')),
        _ => PathBuf::from(Hierarchy::place_of(record.pid)?),
    };
    let inside = place.components().skip_while(|c| c.as_os_str() != unit.unit.as_str()).skip(1).collect::<PathBuf>();
    let inside = Path::new("/").join(inside);
    Systemd::of(unit)?.attach(&unit.unit, &inside.to_string_lossy(), number(pid)?)
}

/// Ends a unit with all that is in it. Without its `cgroup` systemd kills.
pub fn end(unit: &Registered, cgroup: Option<&Cgroup>) -> Result<()> {
    let killed = match cgroup {
        Some(cgroup) => cgroup.kill().and_then(|()| cgroup.wait_empty(super::create::EMPTY).map(drop)),
        None => Ok(()),
    };
    let stopped = Systemd::of(unit).and_then(|mut systemd| {
        if cgroup.is_none() {
            systemd.kill(&unit.unit)?;
        }
        systemd.stop(&unit.unit)
    });
    killed?;
    match (stopped, cgroup) {
        // The session is over, and took the unit with it; or systemd will see the empty cgroup once it is back.
        (Err(e), Some(_)) => crate::log::warn(&e.to_string()),
        (stopped, _) => stopped?,
    }
    cgroup.map_or(Ok(()), |cgroup| cgroup.remove(super::create::EMPTY))
}

fn number(pid: i32) -> Result<u32> {
    u32::try_from(pid).map_err(|_| Error::new("name a process to systemd", format!("{pid} is no process")))
}
