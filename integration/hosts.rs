//! The hosts that tests run on: that the stage is what it says, and the hybrid host laid out for a single command.

use crate::bundle::{Bundle, Output};
use crate::case;
use crate::case::Case;
use serde_json::json;
use std::fs;
use std::process::Command;

const V1: &str = "uses cgroup v1 there, which tests leave alone";

pub fn cases() -> Vec<Case> {
    vec![
        case!(only_cgroup_2_is_seen),
        case!(a_hybrid_host_has_both),
        case!(the_default_bundle_runs_on_a_hybrid_host).except("runc", V1).except("crun", V1),
        case!(a_limit_whose_controller_is_on_v1_is_refused).except("runc", V1).except("crun", V1),
        case!(controllers_are_handed_down).vm("memory, cpu, io and pids on cgroup2"),
        case!(a_container_without_limits_is_counted_too).vm("memory, cpu, io and pids on cgroup2"),
    ]
}

/// Puts a command on a host with cgroup v1 controllers beside a cgroup2 on `unified`, as the kernel has them bound.
fn on_hybrid_host(bundle: &Bundle, command: &Command) -> Command {
    let script = r#"
        set -e
        top=/sys/fs/cgroup
        mount -t tmpfs tmpfs $top
        mkdir $top/unified
        mount -t cgroup2 cgroup2 $top/unified
        while IFS=: read -r number controllers path; do
            test "$number" != 0 || continue
            mkdir "$top/${controllers#name=}"
            case $controllers in name=*) options=none,$controllers ;; *) options=$controllers ;; esac
            mount -t cgroup -o "$options" cgroup "$top/${controllers#name=}"
        done </proc/self/cgroup
        exec "$@""#;
    let mut hybrid = Command::new("unshare");
    hybrid.args(["-m", "--propagation", "slave", "sh", "-c", script, "sh"]);
    hybrid.arg(command.get_program()).args(command.get_args()).current_dir(bundle.dir());
    hybrid
}

fn run(bundle: &Bundle) -> Output {
    bundle.write();
    bundle.finish(on_hybrid_host(bundle, &bundle.command(["run", &bundle.id])))
}

fn only_cgroup_2_is_seen() {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read the mounts");
    let cgroups: Vec<&str> = mounts.lines().filter(|line| line.contains("cgroup")).collect();
    assert!(cgroups.len() == 1 && cgroups[0].starts_with("cgroup2 /sys/fs/cgroup cgroup2 "), "{cgroups:?}");
    assert!(fs::read_to_string("/proc/self/cgroup").is_ok_and(|own| own.contains("0::/tests")));
}

fn a_hybrid_host_has_both() {
    let bundle = Bundle::new();
    let mut list = Command::new("cat");
    list.arg("/proc/self/mounts");
    let mounts = bundle.finish(on_hybrid_host(&bundle, &list)).stdout;
    assert!(mounts.contains("cgroup2 /sys/fs/cgroup/unified cgroup2 "), "{mounts}");
    let bound = fs::read_to_string("/proc/self/cgroup").expect("read our cgroups").contains(":memory:");
    assert_eq!(bound, mounts.contains(" /sys/fs/cgroup/memory cgroup "), "{mounts}");
}

fn the_default_bundle_runs_on_a_hybrid_host() {
    let output = run(&Bundle::new().args(["echo", "hello"]));
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (0, "hello\n", ""), "{output:?}");
}

fn a_limit_whose_controller_is_on_v1_is_refused() {
    if !fs::read_to_string("/proc/self/cgroup").expect("read our cgroups").contains(":memory:") {
        eprintln!("no controller of this kernel is bound to cgroup v1");
        return;
    }
    let bundle = Bundle::new().set("/linux/resources/memory", json!({"limit": 67108864}));
    let before = crate::hostdelta::Snapshot::of(&bundle);
    let output = run(&bundle);
    assert!(output.status != 0 && output.stderr.contains("memory") && output.stderr.contains("v1"), "{output:?}");
    before.assert_unchanged();
}

fn controllers_are_handed_down() {
    let down = fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").expect("read the controllers");
    for controller in ["memory", "cpu", "io", "pids", "cpuset", "hugetlb"] {
        assert!(down.split_whitespace().any(|word| word == controller), "{controller} not in {down}");
    }
    let limits = json!({"memory": {"limit": 67108864}, "pids": {"limit": 20}, "cpu": {"quota": 50000, "period": 100000}});
    let bundle = Bundle::new().namespace("cgroup").set("/linux/resources", limits);
    let bundle = bundle.sh("cd /sys/fs/cgroup && cat memory.max pids.max cpu.max");
    assert_eq!(bundle.stdout(), "67108864\n20\n50000 100000\n");
}

/// Engines show what it uses.
fn a_container_without_limits_is_counted_too() {
    let every = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").expect("read the controllers");
    let bundle = Bundle::new().namespace("cgroup").remove("/linux/resources");
    let path = format!("/above-{}/{}", bundle.id, bundle.id);
    let bundle = bundle.set("/linux/cgroupsPath", path.as_str()).sh("cat /sys/fs/cgroup/cgroup.controllers");
    assert_eq!(bundle.stdout(), every);
    // Parents stay.
    fs::remove_dir(format!("/sys/fs/cgroup/above-{}", bundle.id)).expect("remove the cgroup");
}
