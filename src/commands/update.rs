//! `update`: limits of a running container changed. Only what is given is written; the result is kept with the
//! container's configuration.

use super::status::{self, Status};
use crate::cgroup::{Cgroup, Hierarchy, devices, limits};
use crate::cli::{Global, UpdateArgs};
use crate::config::{Resources, Spec, check};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::store::{Store, unknown};
use limits::Write;
use serde_json::{Value, json};
use std::path::Path;

/// `update`.
pub fn update(global: &Global, args: &UpdateArgs) -> Result<u8> {
    let mut given = match &args.resources {
        None => json!({}),
        Some(path) => parse(&super::exec::read(path)?)?,
    };
    merge(&mut given, args.flags.clone());
    let entry = Store::open(global.root.as_deref())?.ok_or_else(unknown)?.entry(&args.id)?;
    let record = entry.state()?.ok_or_else(unknown)?;
    if status::of(&entry, &record)?.0 == Status::Stopped {
        return Err(Error::exact("container not running"));
    }
    let mut config: Value =
        serde_json::from_slice(&entry.config()?).map_err(|e| Error::new("read the kept config.json", e.to_string()))?;
    let change = Change::new(&mut config, given)?;
    let lines = super::rdt::update(&mut config, &args.rdt)?;
    let bytes = serde_json::to_vec(&config).map_err(|e| Error::new("write config.json", e.to_string()))?;
    let spec = Spec::parse(&bytes)?;
    check::check(&spec)?;

    super::rdt::change(&record, &lines)?;
    let host = Host::probe(&spec)?;
    let hierarchy = host.hierarchy.clone().unwrap_or_default();
    // Without the host's root none was loaded, and none can be.
    let change_devices = change.devices && host.cgroups().may_load_programs;
    let writes = change.writes(&hierarchy)?;
    if !writes.is_empty() || change_devices {
        let path = record.cgroup.as_ref().ok_or_else(|| super::no_cgroup("update"))?;
        let cgroup = Cgroup::open(path)?.ok_or_else(|| Error::exact("container not running"))?;
        if let Some(memory) = &change.asked.memory {
            cgroup.check_memory(memory)?;
        }
        let below = path.strip_prefix(&hierarchy.mount).unwrap_or(Path::new(""));
        Cgroup::hand_down_to(&hierarchy, below, &writes)?;
        if change_devices {
            let resources = spec.linux.resources.as_ref();
            let program = devices::program(resources.map_or(&[], |r| &r.devices), &spec.linux.devices)?;
            cgroup.attach_devices(program.as_deref())?;
        }
        cgroup.change(&writes, || super::unit::tell(&record, &cgroup, &writes))?;
    }
    entry.replace_config(&bytes).map(|()| 0)
}

/// What is to be changed.
#[derive(Debug)]
struct Change {
    /// What was given, with the stored values that it depends on.
    asked: Resources,
    /// JSON pointers of what was given, below `/linux/resources/`.
    given: Vec<String>,
    /// There are new device rules.
    devices: bool,
}

impl Change {
    /// Merges `given` into the configuration.
    fn new(config: &mut Value, mut given: Value) -> Result<Self> {
        prune(&mut given);
        let stored = config.pointer("/linux/resources").cloned().unwrap_or(Value::Null);
        let swap = swap_that_follows(&given, &stored);
        // The kernel forgets the weight of an idle group.
        if let (Some(0), Some(shares)) = (given["cpu"].get("idle").and_then(Value::as_i64), stored["cpu"].get("shares")) {
            let Value::Object(cpu) = &mut given["cpu"] else { return Err(Error::new("cpu", "not an object")) };
            cpu.entry("shares").or_insert(shares.clone());
        }
        let mut asked = given.clone();
        // The kernel has one file for each of these pairs.
        for (group, pair) in [("memory", ["limit", "swap"]), ("cpu", ["quota", "period"])] {
            let is_given = |member: &str| given[group].get(member).is_some();
            for (member, other) in [(pair[0], pair[1]), (pair[1], pair[0])] {
                // A new limit of memory leaves swap as it is: it is counted apart.
                let alone = is_given(other) && !is_given(member) && (group, member) != ("memory", "swap");
                if let (true, Some(value)) = (alone, stored[group].get(member).filter(|v| !v.is_null())) {
                    asked[group][member] = value.clone();
                }
            }
        }
        let pointers = pointers(&given);
        let devices = given.get("devices").is_some();
        let root = config.as_object_mut().ok_or_else(|| Error::new("read the kept config.json", "it is not an object"))?;
        let linux = root.entry("linux").or_insert_with(|| json!({}));
        if !linux.is_object() {
            *linux = json!({});
        }
        merge(&mut linux["resources"], given);
        if let Some(swap) = swap {
            linux["resources"]["memory"]["swap"] = json!(swap);
        }
        let bytes = serde_json::to_vec(&asked).map_err(|e| Error::new("read the resources", e.to_string()))?;
        let asked = Resources::parse(&bytes).map_err(|e| e.under("/linux/resources"))?;
        check::resources(&asked).map_err(|e| e.under("/linux/resources"))?;
        Ok(Self { asked, given: pointers, devices })
    }

    /// The writes for what was given, without those for what was only looked up.
    fn writes(&self, hierarchy: &Hierarchy) -> Result<Vec<Write>> {
        let mut writes = limits::writes(&self.asked, hierarchy)?;
        writes.retain(|w| {
            let member = w.field.strip_prefix("/linux/resources/").unwrap_or(&w.field);
            let is_given = |m: &str| self.given.iter().any(|g| g == m || m.starts_with(&format!("{g}/")));
            // One file for two members, named after the first.
            is_given(member) || w.file == "cpu.max" && (is_given("cpu/quota") || is_given("cpu/period"))
        });
        Ok(writes)
    }
}

/// Members as `cpu/quota`; those that are lists or maps of their own as `unified`.
fn pointers(given: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for (group, value) in given.as_object().into_iter().flatten() {
        match value {
            Value::Object(members) if matches!(group.as_str(), "memory" | "cpu" | "pids" | "blockIO") => {
                all.extend(members.keys().map(|m| format!("{group}/{m}")));
            }
            _ => all.push(group.clone()),
        }
    }
    all
}

/// Takes out what says nothing: null, empty lists, objects and words, and the zeros that callers written in Go send for
/// what they were not told.
fn prune(value: &mut Value) {
    let Value::Object(members) = value else { return };
    members.values_mut().for_each(prune);
    members.retain(|_, v| match v {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    });
    for (group, names) in
        [("memory", &["limit", "reservation", "swap"][..]), ("cpu", &["shares", "quota", "period"]), ("blockIO", &["weight"])]
    {
        if let Some(Value::Object(members)) = members.get_mut(group) {
            members.retain(|name, v| !(names.contains(&name.as_str()) && v.as_i64() == Some(0)));
        }
    }
}

/// What becomes of the stored `swap`, which is memory and swap together, by a new limit of memory alone.
fn swap_that_follows(given: &Value, stored: &Value) -> Option<i64> {
    let number = |of: &Value, member: &str| of["memory"].get(member).and_then(Value::as_i64);
    let (Some(limit), None) = (number(given, "limit"), number(given, "swap")) else { return None };
    match (limit, number(stored, "limit"), number(stored, "swap")) {
        (-1, _, Some(_)) => Some(-1),
        (limit, Some(old), Some(swap)) if old > 0 && swap >= old => Some(limit.saturating_add(swap - old)),
        _ => None,
    }
}

/// Puts `new` over `old`, member by member; lists are replaced.
fn merge(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in new {
                merge(old.entry(name).or_insert(Value::Null), value);
            }
        }
        (old, Value::Object(new)) => {
            *old = json!({});
            merge(old, Value::Object(new));
        }
        (old, new) => *old = new,
    }
}

fn parse(bytes: &[u8]) -> Result<Value> {
    // For the words of an error with field, line and column.
    Resources::parse(bytes)?;
    serde_json::from_slice(bytes).map_err(|e| Error::new("parse resources", e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy() -> Hierarchy {
        let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"].map(String::from).into();
        Hierarchy { mount: "/sys/fs/cgroup".into(), controllers, v1: vec![], own: "/".into() }
    }

    /// The writes, and what is stored.
    fn change(stored: Value, given: Value) -> (Vec<String>, Value) {
        let mut config = json!({"linux": {"resources": stored}});
        let change = Change::new(&mut config, given).unwrap();
        let writes = change.writes(&hierarchy()).unwrap();
        (writes.iter().map(|w| format!("{}={}", w.file, w.value)).collect(), config["linux"]["resources"].take())
    }

    #[test]
    fn only_what_is_given_is_written() {
        let stored = json!({"memory": {"limit": 100, "swap": 300}, "pids": {"limit": 5}, "unified": {"memory.high": "9"}});
        let (writes, kept) = change(stored, json!({"pids": {"limit": 7}, "memory": null, "cpu": {}, "unified": {}}));
        assert_eq!(writes, ["pids.max=7"]);
        assert_eq!(kept["memory"]["limit"], 100);
        assert_eq!(kept["pids"]["limit"], 7);
        assert_eq!(kept["unified"]["memory.high"], "9");
    }

    #[test]
    fn memory_and_swap() {
        let stored = json!({"memory": {"limit": 100, "swap": 300}});
        // Swap stays 200, whatever becomes of memory.
        let (writes, kept) = change(stored.clone(), json!({"memory": {"limit": 1000}}));
        assert_eq!((writes, &kept["memory"]), (vec!["memory.max=1000".to_string()], &json!({"limit": 1000, "swap": 1200})));
        let (writes, _) = change(stored.clone(), json!({"memory": {"swap": 150}}));
        assert_eq!(writes, ["memory.swap.max=50"]);
        let (writes, kept) = change(stored.clone(), json!({"memory": {"limit": -1}}));
        assert_eq!((writes.len(), &kept["memory"]["swap"]), (2, &json!(-1)), "{writes:?}");
        // What a caller written in Go says when told nothing of swap.
        let (writes, _) = change(stored, json!({"memory": {"limit": 50, "swap": 0, "reservation": 0}}));
        assert_eq!(writes, ["memory.max=50"]);
    }

    #[test]
    fn quota_and_period() {
        let stored = json!({"cpu": {"quota": 5000, "period": 20000, "shares": 512}});
        assert_eq!(change(stored.clone(), json!({"cpu": {"quota": 9000}})).0, ["cpu.max=9000 20000"]);
        assert_eq!(change(stored.clone(), json!({"cpu": {"period": 50000}})).0, ["cpu.max=5000 50000"]);
        assert_eq!(change(stored, json!({"cpu": {"cpus": "0"}})).0, ["cpuset.cpus=0"]);
    }

    #[test]
    fn devices_count_when_they_are_there() {
        let mut config = json!({});
        assert!(!Change::new(&mut config, json!({"devices": []})).unwrap().devices);
        assert!(Change::new(&mut config, json!({"devices": [{"allow": true}]})).unwrap().devices);
        assert_eq!(config["linux"]["resources"]["devices"], json!([{"allow": true}]));
    }

    #[test]
    fn io_and_unified() {
        let given = json!({"unified": {"memory.high": "7"}, "blockIO": {"weight": 100}});
        assert_eq!(change(json!({}), given).0, ["io.bfq.weight=100", "memory.high=7"]);
    }
}
