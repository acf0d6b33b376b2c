//! `linux.resources` read back from the cgroup, and cgroups that are full, frozen, or somebody else's.

use crate::bundle::{Bundle, Container, eventually};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const CONTROLLERS: &str = "the controllers on cgroup2";
const WORDS: &str = "words its errors otherwise";

pub fn cases() -> Vec<Case> {
    vec![
        case!(intel_rdt_without_resctrl_is_refused).except("runc", "does nothing then").except("crun", "does nothing then"),
        case!(memory_limits_are_written).vm(CONTROLLERS),
        case!(swap_is_what_memory_and_swap_have_over_memory).vm(CONTROLLERS),
        case!(cpu_limits_are_written).vm(CONTROLLERS),
        case!(cpu_shares_become_a_weight).vm(CONTROLLERS),
        case!(cpu_sets_are_written).vm(CONTROLLERS),
        case!(pids_limits_are_written).vm(CONTROLLERS),
        case!(throttles_are_written_for_a_disk).vm("the io controller and a disk"),
        case!(io_weights_are_written_or_refused).vm("the io controller").except("runc", WORDS).except("crun", WORDS),
        case!(hugepage_limits_are_written).vm(CONTROLLERS),
        case!(unified_is_written_last).vm(CONTROLLERS),
        case!(a_limit_that_the_kernel_refuses_is_named).vm(CONTROLLERS).except("runc", WORDS).except("crun", WORDS),
        case!(limits_are_those_that_the_container_meets).vm(CONTROLLERS),
        case!(a_program_over_its_memory_limit_is_killed).vm(CONTROLLERS),
        case!(a_limit_too_small_for_init_is_told).vm(CONTROLLERS).except("runc", WORDS).except("crun", WORDS),
        case!(four_mebibytes_are_enough).vm(CONTROLLERS).except("runc", "needs more").except("crun", "needs more"),
        case!(a_fork_bomb_is_ended_by_a_forced_delete).vm("the pids controller"),
        case!(forked_processes_of_a_dead_init_are_ended),
        case!(a_frozen_container_is_paused).except("crun", "says running"),
        case!(a_frozen_container_can_be_killed_and_deleted).except("runc", "kill waits for the thaw"),
        case!(a_cgroup_with_processes_is_refused).except("crun", "joins them"),
        case!(two_containers_do_not_share_a_cgroup).except("crun", "joins them"),
        case!(a_full_hierarchy_is_named).except("runc", WORDS).except("crun", WORDS),
        case!(an_absent_controller_is_named).except("runc", WORDS).except("crun", WORDS),
        case!(empty_members_ask_for_no_controller).except("crun", "wants the memory controller"),
        case!(cgroups_below_the_container_s_are_removed),
    ]
}

fn with(resources: Value) -> Bundle {
    let mut bundle = Bundle::new().args(["sleep", "1000"]);
    for (member, value) in resources.as_object().expect("an object") {
        bundle = bundle.set(&format!("/linux/resources/{member}"), value.clone());
    }
    bundle
}

fn group(bundle: &Bundle) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(&bundle.id)
}

/// Contents of files of the container's cgroup, one line each.
fn read(bundle: &Bundle, files: &[&str]) -> Vec<String> {
    let text = |file: &&str| fs::read_to_string(group(bundle).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    files.iter().map(text).map(|text| text.trim().to_owned()).collect()
}

#[track_caller]
fn written(resources: Value, files: &[(&str, &str)]) {
    let bundle = with(resources);
    let _container = bundle.create();
    for (file, want) in files {
        assert_eq!(read(&bundle, &[file]), [*want], "{file}");
    }
}

fn memory_limits_are_written() {
    let memory = json!({"limit": 67108864, "reservation": 33554432});
    written(json!({"memory": memory}), &[("memory.max", "67108864"), ("memory.low", "33554432"), ("memory.swap.max", "max")]);
    written(json!({"memory": {"limit": -1}}), &[("memory.max", "max"), ("memory.swap.max", "max")]);
}

fn swap_is_what_memory_and_swap_have_over_memory() {
    for (swap, want) in [(json!(100663296), "33554432"), (json!(67108864), "0"), (json!(-1), "max")] {
        written(json!({"memory": {"limit": 67108864, "swap": swap}}), &[("memory.swap.max", want), ("memory.max", "67108864")]);
    }
    with(json!({"memory": {"limit": 67108864, "swap": 1}})).fails("memory+swap limit should be >= memory limit");
}

fn cpu_limits_are_written() {
    let cpu = json!({"quota": 50000, "period": 20000, "burst": 1000});
    written(json!({"cpu": cpu}), &[("cpu.max", "50000 20000"), ("cpu.max.burst", "1000")]);
    written(json!({"cpu": {"quota": -1}}), &[("cpu.max", "max 100000")]);
    written(json!({"cpu": {"quota": 30000}}), &[("cpu.max", "30000 100000")]);
    written(json!({"cpu": {"idle": 1}}), &[("cpu.idle", "1")]);
}

fn cpu_shares_become_a_weight() {
    let mut weights = Vec::new();
    for shares in [2, 1024, 262144] {
        let bundle = with(json!({"cpu": {"shares": shares}}));
        let _container = bundle.create();
        weights.push(read(&bundle, &["cpu.weight"])[0].parse::<u32>().expect("a weight"));
    }
    // The middle differs between the two formulas that runtimes have used.
    assert!(weights[0] == 1 && (39..=100).contains(&weights[1]) && weights[2] == 10000, "{weights:?}");
}

fn cpu_sets_are_written() {
    written(json!({"cpu": {"cpus": "1", "mems": "0"}}), &[("cpuset.cpus", "1"), ("cpuset.mems", "0")]);
    let bundle = Bundle::new().set("/linux/resources/cpu", json!({"cpus": "1"})).report(&[]);
    assert_eq!(bundle["status"]["Cpus_allowed_list"], "1");
}

fn pids_limits_are_written() {
    written(json!({"pids": {"limit": 20}}), &[("pids.max", "20")]);
    written(json!({"pids": {"limit": -1}}), &[("pids.max", "max")]);
}

/// `MAJOR` and `MINOR` of the first disk.
fn disk() -> (u64, u64) {
    let text = fs::read_to_string("/sys/block/vda/dev").expect("find the disk");
    let (major, minor) = text.trim().split_once(':').expect("two numbers");
    (major.parse().expect("a number"), minor.parse().expect("a number"))
}

fn throttles_are_written_for_a_disk() {
    let (major, minor) = disk();
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let io = json!({
        "throttleReadBpsDevice": rate(1048576), "throttleWriteBpsDevice": rate(2097152),
        "throttleReadIOPSDevice": rate(100), "throttleWriteIOPSDevice": rate(200),
    });
    written(json!({"blockIO": io}), &[("io.max", &format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=100 wiops=200"))]);
}

fn io_weights_are_written_or_refused() {
    let bundle = with(json!({"blockIO": {"weight": 500}}));
    // Either file belongs to a part of the kernel that may be absent.
    let there = |file: &str| Path::new("/sys/fs/cgroup/tests").join(file).exists();
    if there("io.bfq.weight") || there("io.weight") {
        let _container = bundle.create();
        let file = if there("io.bfq.weight") { "io.bfq.weight" } else { "io.weight" };
        assert!(["default 500", "default 4950"].contains(&read(&bundle, &[file])[0].as_str()), "{:?}", read(&bundle, &[file]));
    } else {
        bundle.fails("/linux/resources/blockIO/weight");
    }
}

fn hugepage_limits_are_written() {
    let limits = json!([{"pageSize": "2MB", "limit": 4194304}]);
    written(json!({"hugepageLimits": limits}), &[("hugetlb.2MB.max", "4194304"), ("hugetlb.2MB.rsvd.max", "4194304")]);
}

fn unified_is_written_last() {
    let unified = json!({"memory.high": "50003968", "cgroup.max.depth": "3", "pids.max": "33"});
    written(
        json!({"unified": unified, "pids": {"limit": 20}}),
        &[("memory.high", "50003968"), ("cgroup.max.depth", "3"), ("pids.max", "33")],
    );
}

fn a_limit_that_the_kernel_refuses_is_named() {
    with(json!({"cpu": {"cpus": "77"}})).fails("/linux/resources/cpu/cpus");
    with(json!({"unified": {"memory.max": "much"}})).fails("/linux/resources/unified/memory.max");
    with(json!({"unified": {"memory.nosuch": "1"}})).fails("/linux/resources/unified/memory.nosuch");
    with(json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]})).fails("/linux/resources/hugepageLimits/0");
}

fn limits_are_those_that_the_container_meets() {
    let bundle = with(json!({"memory": {"limit": 67108864}, "pids": {"limit": 6}, "cpu": {"quota": 50000}})).namespace("cgroup");
    let script = "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max; for n in 1 2 3 4 5 6 7; do sleep 0.2 & done 2>/dev/null; cat pids.current";
    let output = bundle.sh(script).run();
    assert!(output.stdout.starts_with("67108864\n6\n50000 100000\n"), "{output:?}");
    assert!(output.status != 0 || output.stdout.ends_with("6\n"), "{output:?}");
}

fn a_program_over_its_memory_limit_is_killed() {
    let bundle = with(json!({"memory": {"limit": 16777216, "swap": 16777216}}));
    let output = bundle.sh("exec dd if=/dev/zero of=/dev/shm/x bs=1M count=64 2>/dev/null").run();
    assert_eq!(output.status, 137, "{output:?}");
}

/// F-14.
fn a_limit_too_small_for_init_is_told() {
    for limit in [4096, 65536] {
        let bundle = with(json!({"memory": {"limit": limit, "swap": limit}}));
        let output = bundle.fails("container init was OOM-killed (memory limit too low?)");
        assert_eq!(output.status, 1, "{limit}: {output:?}");
    }
}

fn four_mebibytes_are_enough() {
    let bundle = with(json!({"memory": {"limit": 4194304, "swap": 4194304}})).args(["echo", "ran"]);
    assert_eq!(bundle.stdout(), "ran\n");
}

fn processes(bundle: &Bundle) -> usize {
    fs::read_to_string(group(bundle).join("cgroup.procs")).unwrap_or_default().lines().count()
}

/// F-16.
fn a_fork_bomb_is_ended_by_a_forced_delete() {
    let bundle = with(json!({"pids": {"limit": 300}})).sh("trap '' TERM; b() { b | b & }; b; while :; do b; done 2>/dev/null");
    let before = Snapshot::of(&bundle);
    let container = bundle.detach();
    eventually("many processes", || processes(&bundle) > 100);
    let start = Instant::now();
    container.ok("delete", &["--force"]);
    eprintln!("a fork bomb of up to 300 processes ended in {:?}", start.elapsed());
    before.assert_unchanged();
}

fn forked_processes_of_a_dead_init_are_ended() {
    // In a PID namespace of somebody else's nothing but the cgroup holds them together.
    let other = with(json!({}));
    let other = other.detach();
    let mut bundle = Bundle::new().sh("for n in 1 2 3 4 5; do setsid sleep 1000 </dev/null >/dev/null 2>&1 & done; exit 0");
    bundle.config["linux"]["namespaces"][0] = json!({"type": "pid", "path": format!("/proc/{}/ns/pid", other.pid)});
    let before = Snapshot::of(&bundle);
    let container = bundle.detach();
    container.wait();
    assert_eq!(container.status(), "stopped");
    assert_eq!(processes(&bundle), 5);
    container.ok("delete", &[]);
    before.assert_unchanged();
}

/// Freezes the container behind the runtime's back.
fn freeze(container: &Container) {
    let group = group(container.bundle);
    fs::write(group.join("cgroup.freeze"), "1").expect("freeze the cgroup");
    eventually("frozen", || fs::read_to_string(group.join("cgroup.events")).is_ok_and(|text| text.contains("frozen 1")));
}

fn a_frozen_container_is_paused() {
    let bundle = with(json!({}));
    let container = bundle.detach();
    freeze(&container);
    assert_eq!(container.status(), "paused");
    let start = container.call("start", &[]);
    assert!(start.status == 1 && start.stderr.contains("cannot start a paused container"), "{start:?}");
}

/// F-15.
fn a_frozen_container_can_be_killed_and_deleted() {
    let bundle = with(json!({}));
    let before = Snapshot::of(&bundle);
    let container = bundle.create();
    freeze(&container);
    container.kill("KILL").wait();
    container.ok("delete", &[]);
    before.assert_unchanged();
    let container = bundle.detach();
    freeze(&container);
    let start = Instant::now();
    container.ok("delete", &["--force"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    before.assert_unchanged();
}

/// A cgroup of the test's own, and a process in it if it is to have one.
struct Foreign(PathBuf, Option<Child>);

impl Foreign {
    fn new(bundle: &Bundle, populated: bool) -> Foreign {
        let path = Path::new("/sys/fs/cgroup").join(format!("foreign-{}", bundle.id.replacen('t', "x", 1)));
        fs::create_dir(&path).expect("make a cgroup");
        let child = populated.then(|| {
            let child = Command::new("sleep").arg("1000").spawn().expect("start a process");
            fs::write(path.join("cgroup.procs"), child.id().to_string()).expect("move it");
            child
        });
        Foreign(path, child)
    }

    /// As `linux.cgroupsPath` has it.
    fn path(&self) -> String {
        format!("/{}", self.0.file_name().expect("a name").display())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(child) = &mut self.1 {
            let _ = child.kill();
            let _ = child.wait();
        }
        let until = Instant::now() + Duration::from_secs(2);
        while fs::remove_dir(&self.0).is_err() && self.0.exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// F-23.
fn a_cgroup_with_processes_is_refused() {
    let bundle = with(json!({}));
    let mut foreign = Foreign::new(&bundle, true);
    let bundle = bundle.set("/linux/cgroupsPath", foreign.path());
    let output = bundle.fails("");
    assert!(output.stderr.contains("empty") || output.stderr.contains("process"), "{output:?}");
    let child = foreign.1.as_mut().expect("a process");
    assert!(child.try_wait().expect("look at the process").is_none(), "it was killed");
}

fn two_containers_do_not_share_a_cgroup() {
    let first = with(json!({}));
    let path = format!("/{}", first.id);
    let first = first.set("/linux/cgroupsPath", path.as_str());
    let container = first.detach();
    let second = with(json!({})).set("/linux/cgroupsPath", path);
    let before = Snapshot::of(&second);
    assert!(second.run().status != 0);
    before.assert_unchanged();
    assert_eq!(container.status(), "running");
    assert_eq!(processes(&first), 1);
}

/// F-12.
fn a_full_hierarchy_is_named() {
    let bundle = with(json!({}));
    let foreign = Foreign::new(&bundle, false);
    fs::write(foreign.0.join("cgroup.max.descendants"), "0").expect("set the limit");
    let bundle = bundle.set("/linux/cgroupsPath", format!("{}/below", foreign.path()));
    let output = bundle.fails("cgroup.max.descendants is 0");
    assert!(output.stderr.starts_with("/linux/cgroupsPath: "), "{output:?}");
}

fn an_absent_controller_is_named() {
    let have = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").expect("read the controllers");
    let absent = |controller: &str| have.split_whitespace().all(|word| word != controller);
    for (controller, field, resources) in [
        ("rdma", "/linux/resources/rdma/", json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}})),
        ("misc", "/linux/resources/unified/misc.max", json!({"unified": {"misc.max": "x 1"}})),
        ("nosuch", "/linux/resources/unified/nosuch.max", json!({"unified": {"nosuch.max": "1"}})),
    ] {
        if absent(controller) {
            let output = with(resources).fails(&format!("controller {controller} "));
            assert!(output.stderr.starts_with(field), "{output:?}");
        }
    }
}

fn empty_members_ask_for_no_controller() {
    let resources = json!({
        "memory": {}, "cpu": {}, "pids": {}, "blockIO": {"weight": 0}, "hugepageLimits": [], "network": {}, "rdma": {}, "unified": {},
    });
    assert_eq!(with(resources).args(["echo", "ran"]).stdout(), "ran\n");
}

fn cgroups_below_the_container_s_are_removed() {
    let bundle = with(json!({}));
    let before = Snapshot::of(&bundle);
    let container = bundle.detach();
    let mut inner = group(&bundle);
    for depth in 0..20 {
        inner.push(format!("d{depth}"));
        fs::create_dir(&inner).expect("make a cgroup");
    }
    fs::write(inner.join("cgroup.procs"), container.pid.to_string()).expect("move the process");
    container.ok("delete", &["--force"]);
    before.assert_unchanged();
}

/// The processors that tests run on have none; what is done with it is tested on a tree of files.
fn intel_rdt_without_resctrl_is_refused() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    if mounts.contains(" - resctrl ") {
        return;
    }
    for asked in [json!({}), json!({"closID": "gold"}), json!({"memBwSchema": "MB:0=50", "enableMonitoring": true})] {
        Bundle::new().set("/linux/intelRdt", asked).fails("/linux/intelRdt: use Intel RDT: no resctrl file system is mounted");
    }
    let bundle = Bundle::new().args(["sleep", "100"]);
    let container = bundle.detach();
    let output = container.call("update", &["--mem-bw-schema=MB:0=50"]);
    assert!(output.status != 0 && output.error().contains("the container was made without Intel RDT"), "{output:?}");
}
