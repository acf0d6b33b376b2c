//! `linux.cgroupsPath` and `linux.resources` -> what is to be made of them on this host. Pure.

use super::limits::{self, Write};
use super::systemd::{self, Instance, Name, Unit};
use super::{Delegation, Denied, Hierarchy, delegation, devices, place};
use crate::config::Linux;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Who makes the cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// This program, in the cgroup2 file system.
    Cgroupfs,
    /// A systemd.
    Systemd(Instance),
    /// Nobody: the container stays in the caller's.
    Disabled,
}

/// What the caller may do with cgroups here.
#[derive(Debug, Clone, Copy)]
pub struct Rights<'a> {
    /// The cgroup2 hierarchy; `None` where none is mounted.
    pub hierarchy: Option<&'a Hierarchy>,
    /// What may be done in it.
    pub delegation: &'a Delegation,
    /// May load device programs: they need CAP_BPF over the first user namespace.
    pub may_load_programs: bool,
}

/// The cgroup's part of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// The hierarchy it is made in.
    pub hierarchy: Hierarchy,
    /// Its place below the mount.
    pub path: PathBuf,
    /// Limits, in order.
    pub writes: Vec<Write>,
    /// The device program; `None` allows every device.
    pub devices: Option<Vec<u64>>,
    /// The host's user who is root in the container, and may make cgroups below: given the cgroup where the container has
    /// a user and a cgroup namespace of its own and mounts the cgroup writable.
    pub owner: Option<u32>,
    /// The unit that systemd makes; `None` makes the cgroup in the file system.
    pub unit: Option<Unit>,
}

impl Setup {
    /// Plans the cgroup. `None` runs the container in the caller's own: where no cgroup can be made and nothing asks for
    /// one (an unprivileged user without limits, a host without cgroup2).
    ///
    /// # Errors
    /// A limit that cannot be applied here, with its field.
    pub fn plan(linux: &Linux, id: &str, owner: Option<u32>, rights: &Rights<'_>) -> Result<Option<Self>> {
        let none = crate::config::Resources::default();
        let resources = linux.resources.as_ref().unwrap_or(&none);
        let Some(hierarchy) = rights.hierarchy else {
            return match limits::writes(resources, &Hierarchy::default()) {
                Ok(_) => Ok(None),
                Err(e) => Err(Error::new("apply a limit", "no cgroup2 is mounted on this host")
                    .at(e.field())
                    .hint("mount -t cgroup2 cgroup2 /sys/fs/cgroup")),
            };
        };
        let writes = limits::writes(resources, hierarchy)?;
        if let Some(denied) = &rights.delegation.denied {
            return match writes.first() {
                None => Ok(None),
                Some(w) => Err(not_delegated(denied).at(w.field.clone())),
            };
        }
        let devices = if rights.may_load_programs { devices::program(&resources.devices, &linux.devices)? } else { None };
        let below = rights.delegation.below_own.then(|| delegation::inside(&hierarchy.own));
        let path = place::directory(&linux.cgroups_path, id, below.as_ref().unwrap_or(&hierarchy.own))?;
        Ok(Some(Self { hierarchy: hierarchy.clone(), path, writes, devices, owner, unit: None }))
    }

    /// Plans a unit of systemd, for a container with these annotations.
    ///
    /// # Errors
    /// `cgroupsPath` is not of systemd's form, a limit cannot be applied here, or an annotation cannot be read.
    pub fn plan_unit(
        (linux, annotations): (&Linux, &BTreeMap<String, String>),
        id: &str,
        owner: Option<u32>,
        rights: &Rights<'_>,
        instance: Instance,
    ) -> Result<Self> {
        let none = crate::config::Resources::default();
        let resources = linux.resources.as_ref().unwrap_or(&none);
        let name = Name::parse(&linux.cgroups_path, id, instance.default_slice())?;
        let annotated = systemd::properties::annotated(annotations)?;
        let hierarchy = rights.hierarchy.ok_or_else(|| {
            Error::new("--systemd-cgroup", "no cgroup2 is mounted on this host")
                .hint("boot it with systemd and cgroup v2: systemd.unified_cgroup_hierarchy=1")
        })?;
        let writes = limits::writes(resources, hierarchy)?;
        let devices = if rights.may_load_programs { devices::program(&resources.devices, &linux.devices)? } else { None };
        let path = name.path()?;
        let limits = systemd::properties::limits(&writes, None);
        let unit = Some(Unit::new(name, instance, id, annotated, limits));
        Ok(Self { hierarchy: hierarchy.clone(), path, writes, devices, owner, unit })
    }

    /// Its absolute path; of a unit, what it is where the manager's own cgroup is the root.
    pub fn directory(&self) -> PathBuf {
        self.hierarchy.mount.join(&self.path)
    }
}

/// A limit needs a cgroup, and none can be had.
fn not_delegated(denied: &Denied) -> Error {
    let cause = match denied {
        Denied::Directory(dir) => format!("{} is not delegated to this user, so no cgroup can be made there", dir.display()),
        Denied::Entry(dir) => {
            format!("no process can be moved there: that takes the right to write {}", dir.join("cgroup.procs").display())
        }
    };
    Error::new("apply a limit", cause).hint(
        "start it in a delegated cgroup, as systemd-run --user --scope -p Delegate=yes or a unit with Delegate=yes gives one, or remove the limit",
    )
}
