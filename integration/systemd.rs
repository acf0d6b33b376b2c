//! Containers in units of systemd: limits there and in the files, reloads, what is left.
//!
//! The driver is named on `create` and `run` alone: the other commands are called without the flag, and here without an
//! environment too, as engines call them.

use crate::bundle::{Bundle, Container, eventually};
use crate::case;
use crate::case::Case;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const WORDS: &str = "words its errors otherwise";

pub fn cases() -> Vec<Case> {
    let cases = vec![
        case!(a_container_is_a_scope).except("crun", "puts it into a cgroup below"),
        case!(limits_are_told_and_written)
            .except("runc", "leaves the weight of block I/O to the file")
            .except("crun", "in parts"),
        case!(no_limit_is_told_too).except("crun", "leaves out what is unlimited"),
        case!(reloads_change_nothing).except("crun", "has programs loaded anew"),
        case!(an_update_is_told_and_survives).except("crun", "in parts"),
        case!(an_update_leaves_what_it_is_not_about).ours("others write less"),
        case!(a_unit_that_failed_is_cleared),
        case!(a_killed_create_is_cleared).ours("others leave a state that they cannot read"),
        case!(a_failed_create_leaves_nothing),
        case!(annotations_become_properties).except("crun", "reads fewer forms of a value"),
        case!(a_unit_that_is_there_is_named).ours(WORDS),
        case!(a_path_of_another_form_is_refused).except("crun", "takes it"),
        case!(a_slice_holds_a_container).except("crun", "has none"),
        case!(processes_are_executed_paused_and_listed).except("crun", "has no events"),
        case!(init_may_move_itself_below),
        case!(a_container_runs_in_the_foreground),
        case!(ten_at_once_have_units_of_their_own),
    ];
    cases.into_iter().map(|case| case.systemd()).collect()
}

/// A container that sleeps, in a scope of its own.
fn sleeper() -> Bundle {
    let bundle = Bundle::new().args(["sleep", "10000"]).namespace("cgroup");
    let path = format!("system.slice:test:{}", bundle.id);
    bundle.set("/linux/cgroupsPath", path)
}

pub fn scope(bundle: &Bundle) -> String {
    format!("test-{}.scope", bundle.id)
}

/// A command of the runtime without the flag, and without an environment.
fn bare<S: AsRef<str>>(bundle: &Bundle, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = bundle.command(args);
    command.env_clear();
    command
}

fn ok(bundle: &Bundle, args: &[&str]) -> String {
    let output = bundle.finish(bare(bundle, args));
    assert!(output.status == 0 && output.stderr.is_empty(), "{args:?}: {output:?}");
    output.stdout
}

/// `run --detach`, with the flag, which must succeed.
fn detach(bundle: &Bundle) -> Container<'_> {
    bundle.write();
    let pid_file = bundle.home.join("pid").display().to_string();
    let output = bundle.call(["--systemd-cgroup", "run", "--detach", "--pid-file", &pid_file, &bundle.id]);
    assert!(output.status == 0 && output.stderr.is_empty(), "{output:?}");
    let pid = fs::read_to_string(pid_file).expect("read the pid file").parse().expect("a number in the pid file");
    Container { bundle, pid }
}

pub fn systemctl(args: &[&str]) -> String {
    let output = Command::new("systemctl").args(args).output().expect("run systemctl");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A property of a unit.
fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "-p", name, unit])
}

/// Where a process is, as a directory.
pub fn group(pid: i32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read the cgroup of a process");
    Path::new("/sys/fs/cgroup").join(unified(&text).trim_start_matches('/'))
}

/// The place in cgroup2 that a `/proc/PID/cgroup` tells.
pub fn unified(text: &str) -> &str {
    text.lines().find_map(|line| line.strip_prefix("0::")).expect("a cgroup v2 membership")
}

pub fn read(group: &Path, file: &str) -> String {
    fs::read_to_string(group.join(file)).unwrap_or_else(|error| panic!("{file}: {error}")).trim().to_owned()
}

/// All settings in a cgroup: its files but those that count.
fn settings(group: &Path) -> BTreeMap<String, String> {
    const COUNTS: [&str; 9] = ["stat", "current", "peak", "events", "pressure", "procs", "threads", "numa", "reclaim"];
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let names = fs::read_dir(group).expect("list a cgroup").flatten().filter(|e| e.path().is_file()).map(name);
    let names = names.filter(|name| COUNTS.iter().all(|word| !name.contains(word)) && name != "cgroup.kill");
    names.map(|name| (name.clone(), fs::read_to_string(group.join(&name)).unwrap_or_default())).collect()
}

/// Nothing of the bundle's is known to systemd or there as a cgroup.
pub fn gone(bundle: &Bundle, group: &Path) {
    assert!(!group.exists(), "{} is left", group.display());
    let units = systemctl(&["list-units", "--all", "--plain", "--no-legend"]);
    assert!(!units.contains(&bundle.id), "{units}");
    assert!(!bundle.root().join(&bundle.id).exists(), "its state is left");
}

fn a_container_is_a_scope() {
    let bundle = sleeper();
    let container = detach(&bundle);
    let unit = scope(&bundle);
    assert_eq!(group(container.pid), Path::new("/sys/fs/cgroup/system.slice").join(&unit));
    let show = |name: &str| property(&unit, name);
    assert_eq!((show("ActiveState"), show("Delegate"), show("Slice")), ("active".into(), "yes".into(), "system.slice".into()));
    assert_eq!(
        unified(&ok(&bundle, &["exec", &bundle.id, "cat", "/proc/self/cgroup"])),
        "/",
        "the namespace's root is the scope"
    );
    let group = group(container.pid);
    ok(&bundle, &["delete", "--force", &bundle.id]);
    gone(&bundle, &group);
}

/// Limits, the files that they are read back from, and the properties.
#[track_caller]
fn limited(resources: Value, files: &[(&str, &str)], properties: &[(&str, &str)]) {
    let mut bundle = sleeper();
    for (member, value) in resources.as_object().expect("an object") {
        bundle = bundle.set(&format!("/linux/resources/{member}"), value.clone());
    }
    let container = detach(&bundle);
    let group = group(container.pid);
    for (file, want) in files {
        assert_eq!(read(&group, file), *want, "{file}");
    }
    for (name, want) in properties {
        assert_eq!(property(&scope(&bundle), name), *want, "{name}");
    }
}

fn limits_are_told_and_written() {
    limited(
        json!({
            "memory": {"limit": 67108864, "swap": 100663296, "reservation": 33554432},
            "pids": {"limit": 20},
            "cpu": {"shares": 512, "quota": 150000, "period": 50000, "cpus": "0-1", "mems": "0"},
            "blockIO": {"weight": 500},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
            "unified": {"memory.high": "50331648"}
        }),
        &[
            ("memory.max", "67108864"),
            ("memory.swap.max", "33554432"),
            ("memory.low", "33554432"),
            ("memory.high", "50331648"),
            ("pids.max", "20"),
            ("cpu.weight", "59"),
            ("cpu.max", "150000 50000"),
            ("cpuset.cpus", "0-1"),
            ("cpuset.mems", "0"),
            ("io.weight", "default 4950"),
            ("hugetlb.2MB.max", "4194304"),
        ],
        &[
            ("MemoryMax", "67108864"),
            ("MemorySwapMax", "33554432"),
            ("MemoryLow", "33554432"),
            ("MemoryHigh", "50331648"),
            ("TasksMax", "20"),
            ("CPUWeight", "59"),
            ("CPUQuotaPerSecUSec", "3s"),
            ("CPUQuotaPeriodUSec", "50ms"),
            ("AllowedCPUs", "0-1"),
            ("AllowedMemoryNodes", "0"),
            ("IOWeight", "4950"),
        ],
    );
}

fn no_limit_is_told_too() {
    limited(
        json!({"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1, "shares": 0}}),
        &[
            ("memory.max", "max"),
            ("memory.swap.max", "max"),
            ("pids.max", "max"),
            ("cpu.max", "max 100000"),
            ("cpu.weight", "100"),
        ],
        &[("MemoryMax", "infinity"), ("MemorySwapMax", "infinity"), ("TasksMax", "infinity"), ("CPUQuotaPerSecUSec", "infinity")],
    );
    limited(json!({"memory": {"limit": 33554432, "swap": 33554432}}), &[("memory.swap.max", "0")], &[("MemorySwapMax", "0")]);
    limited(json!({"cpu": {"idle": 1}}), &[("cpu.idle", "1")], &[]);
}

/// What opening a device for reading and for writing gives in the container: the rules allow only the first.
fn devices(bundle: &Bundle) -> String {
    let open = |mode: &str| ok(bundle, &["exec", &bundle.id, "/inside", "open", mode, "/dev/kmsg"]);
    open("r") + &open("w")
}

fn reloads_change_nothing() {
    let with = |bundle: Bundle| {
        bundle
            .capabilities(&["CAP_SYSLOG", "CAP_SYS_ADMIN"])
            .set("/linux/devices", json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]))
            .set("/linux/resources/memory", json!({"limit": 67108864, "swap": 67108864, "reservation": 1048576}))
            .set("/linux/resources/pids", json!({"limit": 77}))
            .set("/linux/resources/cpu", json!({"shares": 2048, "quota": 33000, "cpus": "1", "mems": "0", "burst": 1000}))
            .set("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": 2097152}]))
            .set("/linux/resources/unified", json!({"memory.high": "60000000", "memory.oom.group": "1", "cgroup.max.depth": "5"}))
            .set(
                "/linux/resources/devices",
                json!([{"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]),
            )
    };
    let (ours, theirs) = (with(Bundle::new().args(["sleep", "10000"])), with(sleeper()));
    let ours = ours.set("/linux/cgroupsPath", "/test-cgroupfs");
    let pids = [ours.detach().pid, detach(&theirs).pid];
    ok(&theirs, &["update", "--memory", "83886080", "--memory-swap", "83886080", "--cpu-quota", "12000", &theirs.id]);
    let look = || {
        let groups = pids.map(|pid| settings(&group(pid)));
        let programs = pids.map(|pid| {
            let directory = fs::File::open(group(pid)).expect("open a cgroup");
            onggi::sys::bpf::attached(&directory).expect("list programs").into_iter().map(|(_, name)| name).collect::<Vec<_>>()
        });
        (groups, programs, [devices(&ours), devices(&theirs)])
    };
    let before = look();
    assert_eq!(before.0[1]["memory.max"], "83886080\n");
    assert!(before.2.iter().all(|opened| opened.contains("ok\n") && opened.ends_with("EPERM\n")), "{:?}", before.2);
    for n in 0..50 {
        systemctl(&["daemon-reload"]);
        // A new neighbour is what makes systemd write its properties into the files again.
        let neighbour = Command::new("systemd-run").args(["--scope", "--quiet", "true"]).status().expect("run systemd-run");
        assert!(neighbour.success());
        if n % 10 == 9 {
            assert_eq!(look(), before, "after {n}");
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(look(), before);
}

fn an_update_is_told_and_survives() {
    let bundle = sleeper().set("/linux/resources/memory", json!({"limit": 67108864}));
    let container = detach(&bundle);
    let group = group(container.pid);
    let flags = ["--memory", "50331648", "--pids-limit", "33", "--cpu-quota", "50000", "--cpuset-cpus", "1"];
    ok(&bundle, &[&["update"], &flags[..], &[&bundle.id]].concat());
    let files = [("memory.max", "50331648"), ("pids.max", "33"), ("cpu.max", "50000 100000"), ("cpuset.cpus", "1")];
    let check = || files.map(|(file, want)| assert_eq!(read(&group, file), want, "{file}"));
    check();
    let unit = scope(&bundle);
    let shown = ["MemoryMax", "TasksMax", "CPUQuotaPerSecUSec", "AllowedCPUs"].map(|name| property(&unit, name));
    assert_eq!(shown, ["50331648", "33", "500ms", "1"]);
    (0..3).for_each(|_| drop(systemctl(&["daemon-reload"])));
    check();
    // What a reload leaves to be done later does not undo an update.
    for limit in ["50331648", "67108864", "50331648", "67108864"] {
        systemctl(&["daemon-reload"]);
        ok(&bundle, &["update", "--memory", limit, &bundle.id]);
        assert_eq!(read(&group, "memory.max"), limit);
    }
    // Back to none.
    ok(&bundle, &["update", "--memory", "-1", "--pids-limit", "-1", "--cpu-quota", "-1", &bundle.id]);
    let unlimited = ["memory.max", "pids.max", "cpu.max"].map(|file| read(&group, file));
    assert_eq!(unlimited, ["max", "max", "max 100000"]);
    assert_eq!(["MemoryMax", "TasksMax"].map(|name| property(&unit, name)), ["infinity", "infinity"]);
}

fn an_update_leaves_what_it_is_not_about() {
    let bundle = sleeper()
        .set("/linux/resources/cpu", json!({"quota": 33333}))
        .set("/linux/resources/unified", json!({"memory.oom.group": "1", "memory.high": "60000000"}));
    let container = detach(&bundle);
    let before = settings(&group(container.pid));
    ok(&bundle, &["update", "--pids-limit", "33", &bundle.id]);
    let mut after = settings(&group(container.pid));
    assert_eq!(after.insert("pids.max".into(), before["pids.max"].clone()), Some("33\n".into()));
    assert_eq!(after, before);
}

/// The unit has failed, and would be remembered; its processes are gone.
fn a_unit_that_failed_is_cleared() {
    let bundle = sleeper()
        .set("/annotations/org.systemd.property.CollectMode", "'inactive'")
        .set("/annotations/org.systemd.property.RuntimeMaxUSec", "uint64 1000000")
        // The first process of a PID namespace takes no SIGTERM.
        .set("/annotations/org.systemd.property.TimeoutStopUSec", "uint64 1000000");
    let container = detach(&bundle);
    let group = group(container.pid);
    let unit = scope(&bundle);
    eventually("failed", || property(&unit, "ActiveState") == "failed");
    assert_eq!(ok(&bundle, &["state", &bundle.id]).matches("stopped").count(), 1);
    // The name is taken for whoever does not clear it.
    ok(&bundle, &["delete", &bundle.id]);
    gone(&bundle, &group);
    // And what somebody else left is no obstacle.
    detach(&bundle);
    eventually("failed again", || property(&unit, "ActiveState") == "failed");
    fs::remove_dir_all(bundle.root().join(&bundle.id)).expect("lose the state");
    detach(&bundle);
    // It is new; on a slow machine its second may be over already.
    assert!(["active", "deactivating"].contains(&property(&unit, "ActiveState").as_str()), "{}", property(&unit, "ActiveState"));
}

fn a_killed_create_is_cleared() {
    let bundle = sleeper();
    bundle.write();
    let unit = scope(&bundle);
    let place = Path::new("/sys/fs/cgroup/system.slice").join(&unit);
    for round in 0..25u64 {
        let mut command = bundle.command(["--systemd-cgroup", "create", &bundle.id]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("start create");
        std::thread::sleep(Duration::from_millis(round * 20));
        child.kill().expect("kill it");
        child.wait().expect("reap it");
        ok(&bundle, &["delete", "--force", &bundle.id]);
        gone(&bundle, &place);
    }
}

fn a_failed_create_leaves_nothing() {
    for bundle in [
        sleeper().args(["/no/such/program"]),
        sleeper().set("/linux/resources/unified", json!({"memory.max": "lots"})),
        sleeper().set("/hooks/prestart", json!([{"path": "/bin/false"}])),
    ] {
        bundle.write();
        let output = bundle.call(["--systemd-cgroup", "run", &bundle.id]);
        assert!(output.status != 0 && !output.stderr.is_empty(), "{output:?}");
        gone(&bundle, &Path::new("/sys/fs/cgroup/system.slice").join(scope(&bundle)));
    }
}

fn annotations_become_properties() {
    let mut bundle = sleeper();
    for (name, value) in [
        ("TimeoutStopUSec", "uint64 7000000"),
        ("RuntimeMaxSec", "90"),
        ("CollectMode", "'inactive'"),
        ("DefaultDependencies", "true"),
        ("After", "['basic.target']"),
    ] {
        bundle = bundle.set(&format!("/annotations/org.systemd.property.{name}"), value);
    }
    let _container = detach(&bundle);
    let show = |name: &str| property(&scope(&bundle), name);
    assert_eq!((show("TimeoutStopUSec"), show("RuntimeMaxUSec")), ("7s".into(), "1min 30s".into()));
    assert_eq!((show("CollectMode"), show("DefaultDependencies")), ("inactive".into(), "yes".into()));
    assert!(show("After").contains("basic.target"));
}

fn a_unit_that_is_there_is_named() {
    let bundle = sleeper();
    bundle.write();
    let unit = scope(&bundle);
    let name = format!("--unit={unit}");
    let mut other = Command::new("systemd-run").args(["--scope", "--quiet", &name, "sleep", "1000"]).spawn().expect("a scope");
    eventually("active", || property(&unit, "ActiveState") == "active");
    let output = bundle.call(["--systemd-cgroup", "run", &bundle.id]);
    let alive = property(&unit, "ActiveState");
    other.kill().expect("end the scope");
    other.wait().expect("reap it");
    assert_eq!(output.status, 1, "{output:?}");
    assert!(output.stderr.contains(&unit) && output.stderr.contains("systemctl stop"), "{output:?}");
    assert_eq!(alive, "active", "what is another's is left alone");
}

fn a_path_of_another_form_is_refused() {
    let bundle = sleeper().set("/linux/cgroupsPath", "/test/abc");
    bundle.write();
    let output = bundle.call(["--systemd-cgroup", "run", &bundle.id]);
    let text = "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"/test/abc\" instead";
    assert!(output.status != 0 && output.error().contains(text), "{output:?}");
}

fn a_slice_holds_a_container() {
    let bundle = sleeper().set("/linux/resources/pids", json!({"limit": 44}));
    let slice = format!("test-{}.slice", bundle.id.replace('-', "_"));
    let bundle = bundle.set("/linux/cgroupsPath", format!("test.slice:test:{slice}"));
    let container = detach(&bundle);
    let group = group(container.pid);
    assert_eq!(group, Path::new("/sys/fs/cgroup/test.slice").join(&slice));
    assert_eq!((read(&group, "pids.max"), property(&slice, "TasksMax")), ("44".into(), "44".into()));
    ok(&bundle, &["delete", "--force", &bundle.id]);
    gone(&bundle, &group);
}

fn processes_are_executed_paused_and_listed() {
    let bundle = sleeper();
    let container = detach(&bundle);
    let id = &bundle.id;
    ok(&bundle, &["exec", "--detach", id, "sleep", "10001"]);
    assert_eq!(read(&group(container.pid), "cgroup.procs").lines().count(), 2);
    assert_eq!(ok(&bundle, &["ps", "--format", "json", id]).matches(',').count(), 1);
    ok(&bundle, &["pause", id]);
    assert_eq!(container.status(), "paused");
    systemctl(&["daemon-reload"]);
    assert_eq!(container.status(), "paused");
    ok(&bundle, &["resume", id]);
    assert!(ok(&bundle, &["events", "--stats", id]).contains("\"pids\""));
    ok(&bundle, &["kill", "--all", id, "KILL"]);
    eventually("stopped", || container.status() == "stopped");
    ok(&bundle, &["delete", id]);
    gone(&bundle, &Path::new("/sys/fs/cgroup/system.slice").join(scope(&bundle)));
}

/// As a systemd in a container does: the container's cgroup hands controllers down, and takes no process any more.
fn init_may_move_itself_below() {
    let script = "mkdir /sys/fs/cgroup/init && echo 1 >/sys/fs/cgroup/init/cgroup.procs && \
                  echo +pids >/sys/fs/cgroup/cgroup.subtree_control && exec sleep 10000";
    let bundle = sleeper().sh(script).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw", "nosuid", "nodev", "noexec"]);
    let container = detach(&bundle);
    eventually("below", || group(container.pid).ends_with("init"));
    let whole = group(container.pid).parent().expect("a parent").to_owned();
    eventually("handed down", || read(&whole, "cgroup.subtree_control").contains("pids"));
    assert_eq!(unified(&ok(&bundle, &["exec", &bundle.id, "cat", "/proc/self/cgroup"])), "/init");
    ok(&bundle, &["update", "--pids-limit", "50", &bundle.id]);
    assert_eq!(read(&whole, "pids.max"), "50");
    ok(&bundle, &["delete", "--force", &bundle.id]);
    gone(&bundle, &whole);
}

fn a_container_runs_in_the_foreground() {
    let bundle = sleeper().sh("cat /proc/self/cgroup; exit 7");
    bundle.write();
    let output = bundle.call(["--systemd-cgroup", "run", &bundle.id]);
    assert_eq!((output.status, unified(&output.stdout), output.stderr.as_str()), (7, "/", ""));
    gone(&bundle, &Path::new("/sys/fs/cgroup/system.slice").join(scope(&bundle)));
}

fn ten_at_once_have_units_of_their_own() {
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let bundle = sleeper();
                let container = detach(&bundle);
                let group = group(container.pid);
                assert_eq!(read(&group, "cgroup.procs"), container.pid.to_string());
                ok(&bundle, &["delete", "--force", &bundle.id]);
                gone(&bundle, &group);
            });
        }
    });
}
