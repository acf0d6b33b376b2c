//! `linux.resources` -> what is written to which file of cgroup v2. Pure.
//!
//! Not the device rules: those are a program, see [`super::devices`]. Members that only cgroup v1 has are ignored, as
//! runc ignores them, since engines send them to every host: `memory.kernel`, `memory.kernelTCP`, `memory.swappiness`,
//! `memory.disableOOMKiller`, `memory.useHierarchy`, `cpu.realtimeRuntime`, `cpu.realtimePeriod`, `blockIO.leafWeight`
//! (also in `weightDevice`) and `network`.
//!
//! A member that is absent, null or an unset value (0 for most) writes nothing and asks for no controller: engines send
//! empty objects.

mod cpu;
mod io;
mod memory;
mod named;

use super::Hierarchy;
use crate::config::Resources;
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// One write(2) to a file of the container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The controller that has the file; `cgroup` for the core files, which are always there.
    pub controller: String,
    /// Name of the file, never with a slash.
    pub file: String,
    /// What is written, in one call.
    pub value: String,
    /// The member of `config.json` that asked for it, as a JSON pointer.
    pub field: String,
    /// What to do when the kernel refuses.
    pub rule: Rule,
}

/// What a refused [`Write`] means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// An error.
    Must,
    /// Nothing when there is no such file, since what was asked for then holds anyway.
    IfThere,
    /// When there is no such file, write `value` to `file` instead.
    Else {
        /// The other file.
        file: String,
        /// What it gets.
        value: String,
    },
    /// On EINVAL, write it again when the file named here has been written: the two depend on each other, and which
    /// order the kernel takes depends on the values that are there.
    AgainAfter(&'static str),
}

/// All writes for `resources`, in the order in which they are made.
///
/// Fails on values that no kernel takes, on names that would reach another file, and on a controller that `hierarchy`
/// does not have: absent, or bound to cgroup v1.
pub fn writes(resources: &Resources, hierarchy: &Hierarchy) -> Result<Vec<Write>> {
    let mut list = List(Vec::new());
    if let Some(limit) = resources.pids.as_ref().and_then(|p| p.limit) {
        // 0 would let not even init in; it stands for the least that works.
        let value = if limit < 0 { "max".to_owned() } else { limit.max(1).to_string() };
        list.add("pids", "pids.max", value, "pids/limit");
    }
    if let Some(m) = &resources.memory {
        memory::add(&mut list, m)?;
    }
    if let Some(b) = &resources.block_io {
        io::add(&mut list, b)?;
    }
    if let Some(c) = &resources.cpu {
        cpu::add(&mut list, c)?;
    }
    named::hugepages(&mut list, &resources.hugepage_limits)?;
    named::rdma(&mut list, &resources.rdma)?;
    named::unified(&mut list, &resources.unified)?;
    for w in &list.0 {
        if w.controller != "cgroup" {
            hierarchy.check(&w.controller).map_err(|(cause, hint)| {
                Error::new(format!("set {} to {:?}", w.file, w.value), cause).at(w.field.clone()).hint(hint)
            })?;
        }
    }
    Ok(list.0)
}

/// The controllers that these writes need in the container's cgroup.
pub fn controllers(writes: &[Write]) -> BTreeSet<String> {
    writes.iter().filter(|w| w.controller != "cgroup").map(|w| w.controller.clone()).collect()
}

/// Writes under way, with the start of every field in one place.
struct List(Vec<Write>);

impl List {
    fn add(&mut self, controller: &str, file: impl Into<String>, value: impl ToString, member: impl AsRef<str>) -> &mut Write {
        self.0.push(Write {
            controller: controller.to_owned(),
            file: file.into(),
            value: value.to_string(),
            field: field(member.as_ref()),
            rule: Rule::Must,
        });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }
}

/// The JSON pointer of a member of `linux.resources`.
fn field(member: &str) -> String {
    format!("/linux/resources/{member}")
}

/// A key of an object as a part of a JSON pointer (RFC 6901, section 3).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A refusal of a value, before anything is written.
fn refuse(step: &str, cause: impl Into<String>, member: impl AsRef<str>) -> Error {
    Error::new(step, cause).at(field(member.as_ref()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cgroup) fn everything() -> Hierarchy {
        Hierarchy {
            mount: "/sys/fs/cgroup".into(),
            controllers: ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"].map(String::from).into(),
            v1: vec![],
            own: "/".into(),
        }
    }

    pub(super) fn parse(json: &str) -> Resources {
        serde_json::from_str(json).unwrap()
    }

    /// `file=value` of each write.
    pub(super) fn plain(json: &str) -> Vec<String> {
        writes(&parse(json), &everything()).unwrap().iter().map(|w| format!("{}={}", w.file, w.value)).collect()
    }

    pub(super) fn refused(json: &str) -> Error {
        writes(&parse(json), &everything()).unwrap_err()
    }

    #[test]
    fn pids() {
        for (json, want) in [
            (r#"{"pids":{"limit":100}}"#, vec!["pids.max=100"]),
            (r#"{"pids":{"limit":0}}"#, vec!["pids.max=1"]),
            (r#"{"pids":{"limit":-1}}"#, vec!["pids.max=max"]),
            (r#"{"pids":{"limit":-7}}"#, vec!["pids.max=max"]),
            (r#"{"pids":{}}"#, vec![]),
            (r#"{"pids":{"limit":null}}"#, vec![]),
        ] {
            assert_eq!(plain(json), want, "{json}");
        }
    }

    #[test]
    fn empty_objects_ask_for_nothing() {
        let json = r#"{"memory":{"disableOOMKiller":false,"limit":0},"cpu":{"shares":0,"quota":0},"blockIO":{"weight":0},
            "pids":{},"hugepageLimits":[],"rdma":{"mlx5":{}},"unified":{},"network":{"classID":1}}"#;
        let bare = Hierarchy::default();
        assert_eq!(writes(&parse(json), &bare).unwrap(), []);
        assert!(controllers(&[]).is_empty());
    }

    #[test]
    fn members_of_v1_are_ignored() {
        let json = r#"{"memory":{"kernel":1,"kernelTCP":2,"swappiness":60,"disableOOMKiller":true,"useHierarchy":true},
            "cpu":{"realtimeRuntime":1,"realtimePeriod":2},"blockIO":{"leafWeight":500},"network":{"priorities":[]}}"#;
        assert_eq!(plain(json), Vec::<String>::new());
    }

    #[test]
    fn unified_is_written_last_and_counts_its_controllers() {
        let json = r#"{"unified":{"memory.high":"5","cgroup.max.depth":"3"},"pids":{"limit":5},"cpu":{"cpus":"0-1"}}"#;
        let all = writes(&parse(json), &everything()).unwrap();
        let files: Vec<_> = all.iter().map(|w| w.file.as_str()).collect();
        assert_eq!(files, ["pids.max", "cpuset.cpus", "cgroup.max.depth", "memory.high"]);
        assert_eq!(controllers(&all).into_iter().collect::<Vec<_>>(), ["cpuset", "memory", "pids"]);
        assert_eq!(all[3].field, "/linux/resources/unified/memory.high");
    }

    #[test]
    fn a_controller_on_v1_is_an_error_that_says_so() {
        let mut hybrid = everything();
        hybrid.controllers.retain(|c| c != "memory");
        hybrid.v1.push("memory".into());
        let e = writes(&parse(r#"{"memory":{"limit":1048576}}"#), &hybrid).unwrap_err().to_string();
        assert!(
            e.starts_with(
                "/linux/resources/memory/limit: set memory.max to \"1048576\": controller memory is bound to cgroup v1 on this host ("
            ),
            "{e}"
        );
    }
}
