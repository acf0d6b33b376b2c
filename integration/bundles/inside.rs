//! The same configurations with a program that reports how it is confined.

use super::Captured;
use super::stand_in::{Prepared, controllers};
use crate::case::name_of_runtime;
use serde_json::{Value, json};

const GROUP: &str = "/sys/fs/cgroup";

/// Files of the container's own cgroup.
const FILES: [&str; 6] = ["memory.max", "memory.swap.max", "pids.max", "cpu.max", "cpu.weight", "io.max"];

impl Captured {
    /// The test that looks at it from inside.
    pub(super) fn inside(&self) {
        let Prepared { bundle, neighbour: _neighbour } = own_cgroup_view(Prepared::new(self));
        let files: Vec<String> = FILES.iter().map(|file| format!("{GROUP}/{file}")).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let config = bundle.config.clone();
        let report = bundle.report(&files);
        let process = &config["process"];
        check_capabilities(process, &report);
        let status = &report["status"];
        let filtered = config["linux"]["seccomp"].is_object();
        assert_eq!(status["Seccomp"], if filtered { "2" } else { "0" });
        let locked = process["noNewPrivileges"] == true;
        assert_eq!(status["NoNewPrivs"], if locked { "1" } else { "0" });
        check_ids(process, &report);
        for limit in process["rlimits"].as_array().into_iter().flatten() {
            let name = if limit["type"] == "RLIMIT_NOFILE" { "Max open files" } else { "Max processes" };
            assert_eq!(report["rlimits"][name], json!([limit["soft"].to_string(), limit["hard"].to_string()]), "{name}");
        }
        if let (Some(name), true) = (config["hostname"].as_str(), config["hostname"] != "") {
            assert_eq!(report["hostname"], name);
        }
        for limit in expected_limits(&config) {
            let (file, value) = limit;
            let found = report["files"][format!("{GROUP}/{file}")].as_str().map(str::trim);
            assert_eq!(found, Some(value.as_str()), "{file}");
        }
    }
}

/// A cgroup namespace and a mount of it, so that the container sees its own limits.
fn own_cgroup_view(mut prepared: Prepared) -> Prepared {
    let config = &mut prepared.bundle.config;
    let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    if !namespaces.iter().any(|n| n["type"] == "cgroup") {
        namespaces.push(json!({"type": "cgroup"}));
    }
    let mounts = config["mounts"].as_array_mut().expect("mounts");
    if !mounts.iter().any(|mount| mount["destination"] == GROUP) {
        mounts.push(json!({"destination": GROUP, "type": "cgroup", "source": "cgroup", "options": ["ro"]}));
    }
    prepared
}

/// The five sets after the exec, by the rules of capabilities(7).
fn check_capabilities(process: &Value, report: &Value) {
    let set = |name: &str| {
        let list = process["capabilities"][name].as_array();
        let known = list.into_iter().flatten().filter_map(|n| n.as_str()?.parse::<caps::Capability>().ok());
        known.fold(0u64, |all, capability| all | capability.bitmask())
    };
    let (bounding, inheritable, permitted) = (set("bounding"), set("inheritable"), set("permitted"));
    let ambient = set("ambient") & permitted & inheritable;
    let root = process["user"]["uid"].as_u64().unwrap_or(0) == 0;
    let mut gained = if root { inheritable | bounding | ambient } else { ambient };
    if process["noNewPrivileges"] == true {
        gained &= permitted;
    }
    let expected = [bounding, inheritable, gained, gained, ambient];
    for (name, value) in ["CapBnd", "CapInh", "CapPrm", "CapEff", "CapAmb"].iter().zip(expected) {
        assert_eq!(report["status"][name], format!("{value:016x}"), "{name}");
    }
}

fn check_ids(process: &Value, report: &Value) {
    let number = |name: &str| process["user"][name].as_u64().unwrap_or(0);
    let four = |id: u64| [id.to_string().as_str(); 4].join(" ");
    assert_eq!(report["status"]["Uid"], four(number("uid")));
    assert_eq!(report["status"]["Gid"], four(number("gid")));
    let mut groups: Vec<u64> =
        process["user"]["additionalGids"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    groups.sort_unstable();
    let groups: Vec<String> = groups.iter().map(u64::to_string).collect();
    assert_eq!(report["status"]["Groups"], groups.join(" "));
}

/// File and value of each limit that is asked for, where its controller is.
fn expected_limits(config: &Value) -> Vec<(&'static str, String)> {
    let resources = &config["linux"]["resources"];
    let number = |pointer: &str| resources.pointer(pointer).and_then(Value::as_i64).filter(|n| *n != 0);
    let mut limits = Vec::new();
    // The kernel counts in whole pages.
    let pages = |n: i64| (n / 4096 * 4096).to_string();
    let memory = number("/memory/limit");
    limits.extend(memory.map(|n| ("memory.max", pages(n))));
    if let (Some(memory), Some(both)) = (memory, number("/memory/swap")) {
        limits.push(("memory.swap.max", pages(both - memory)));
    }
    limits.extend(number("/pids/limit").map(|n| ("pids.max", n.to_string())));
    if let (Some(quota), Some(period)) = (number("/cpu/quota"), number("/cpu/period")) {
        limits.push(("cpu.max", format!("{quota} {period}")));
    }
    // Others of this age have the straight line of before: 39.
    if number("/cpu/shares") == Some(1024) && name_of_runtime() == "onggi" {
        limits.push(("cpu.weight", "100".into()));
    }
    assert!(limits.is_empty() || !controllers().is_empty(), "limits that nothing enforces: {limits:?}");
    limits
}
