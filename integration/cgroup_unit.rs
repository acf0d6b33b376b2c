//! The cgroup floor alone against the kernel: directories, controllers, device programs, freezing, killing, removal.
//!
//! Needs root and a cgroup2 mount; without them each test says so and passes. Everything happens below one scratch
//! directory a test, which is removed at its end. Containers are tested elsewhere.

use onggi::cgroup::{Cgroup, Hierarchy, devices, limits};
use onggi::config::{DeviceRule, Memory, Resources};
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(5);

struct Scratch {
    hierarchy: Hierarchy,
    below: PathBuf,
    children: Vec<Child>,
}

impl Scratch {
    /// Nothing, with the reason printed, where these tests cannot run.
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: making cgroups needs root");
            return None;
        }
        let hierarchy = match Hierarchy::probe() {
            Ok(Some(h)) => h,
            Ok(None) => {
                println!("skipped: no cgroup2 is mounted");
                return None;
            }
            Err(e) => {
                println!("skipped: {e}");
                return None;
            }
        };
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let below = PathBuf::from(format!("onggi-unit-{}-{n}", std::process::id()));
        fs::create_dir(hierarchy.mount.join(&below)).unwrap();
        Some(Self { hierarchy, below, children: Vec::new() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.hierarchy.mount.join(&self.below).join(name)
    }

    fn create(&self, name: &str) -> onggi::error::Result<Cgroup> {
        Cgroup::create(&self.hierarchy, &self.below.join(name), &[])
    }

    /// A process that waits in the cgroup; its id.
    fn sleeper(&mut self, cgroup: &Cgroup) -> i32 {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        self.children.push(child);
        cgroup.enter(pid).unwrap();
        pid
    }

    /// Also ends those that a failing test left outside of the cgroup.
    fn reap(&mut self) {
        for mut child in self.children.drain(..) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = self.hierarchy.mount.join(&self.below);
        self.reap();
        if let Ok(Some(cgroup)) = Cgroup::open(&path) {
            cgroup.kill().unwrap();
            cgroup.remove(LIMIT).unwrap();
        }
        assert!(!path.exists());
    }
}

#[test]
fn a_life() {
    let Some(mut s) = Scratch::new() else { return };
    let cgroup = s.create("parent/made/leaf").unwrap();
    assert_eq!(cgroup.path(), s.path("parent/made/leaf"));
    assert!(!cgroup.populated().unwrap() && cgroup.pids().unwrap().is_empty());
    let pid = s.sleeper(&cgroup);
    let inner = cgroup.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let inner = Cgroup::open(&inner).unwrap().unwrap();
    let other = s.sleeper(&inner);
    let mut both = vec![pid, other];
    both.sort_unstable();
    assert_eq!(cgroup.pids().unwrap(), both);

    let started = Instant::now();
    cgroup.kill().unwrap();
    assert!(cgroup.wait_empty(LIMIT).unwrap());
    cgroup.remove(LIMIT).unwrap();
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(!cgroup.path().exists());
    assert!(s.path("parent/made").exists(), "parents stay, as with runc");
    // All of it once more, on what is gone.
    cgroup.kill().unwrap();
    assert!(cgroup.wait_empty(LIMIT).unwrap() && !cgroup.frozen().unwrap() && cgroup.pids().unwrap().is_empty());
    cgroup.remove(LIMIT).unwrap();
    Cgroup::remove_at(cgroup.path(), LIMIT).unwrap();
    assert!(Cgroup::open(cgroup.path()).unwrap().is_none());
}

/// F-23: the second create is refused, and the first unharmed.
#[test]
fn one_that_holds_processes_is_refused() {
    let Some(mut s) = Scratch::new() else { return };
    let first = s.create("busy").unwrap();
    let pid = s.sleeper(&first);
    let e = s.create("busy").unwrap_err();
    assert!(e.to_string().starts_with("container's cgroup is not empty: 1 process(es) found"), "{e}");
    assert_eq!(first.pids().unwrap(), [pid]);
    first.kill().unwrap();
    assert!(first.wait_empty(LIMIT).unwrap());
    s.create("busy").unwrap();
}

/// F-15: a process cloned into a frozen cgroup would never run.
#[test]
fn frozen_ones() {
    let Some(mut s) = Scratch::new() else { return };
    let cgroup = s.create("frozen/leaf").unwrap();
    s.sleeper(&cgroup);
    cgroup.freeze(LIMIT).unwrap();
    assert!(cgroup.frozen().unwrap());
    cgroup.thaw().unwrap();
    assert!(!cgroup.frozen().unwrap());
    cgroup.freeze(LIMIT).unwrap();
    cgroup.kill().unwrap();
    assert!(cgroup.wait_empty(Duration::from_secs(1)).unwrap(), "cgroup.kill works on a frozen cgroup");
    cgroup.remove(LIMIT).unwrap();

    fs::write(s.path("frozen/cgroup.freeze"), "1").unwrap();
    let e = s.create("frozen/leaf").unwrap_err().to_string();
    assert!(e.contains("unexpectedly frozen") && e.contains("frozen: it has cgroup.freeze 1"), "{e}");
    assert!(!s.path("frozen/leaf").exists());
}

/// F-12: nested and wide, as a container with its own cgroup mount can make them.
#[test]
fn nested_ones_go_too() {
    let Some(mut s) = Scratch::new() else { return };
    let cgroup = s.create("leaf").unwrap();
    let deep: PathBuf = std::iter::repeat_n("d", 50).collect();
    fs::create_dir_all(cgroup.path().join(&deep)).unwrap();
    (0..50).for_each(|n| fs::create_dir(cgroup.path().join(format!("w{n}"))).unwrap());
    let inner = Cgroup::open(&cgroup.path().join(deep)).unwrap().unwrap();
    let pid = s.sleeper(&inner);
    assert_eq!(cgroup.pids().unwrap(), [pid]);
    cgroup.kill().unwrap();
    cgroup.remove(LIMIT).unwrap();
    assert!(!cgroup.path().exists());
}

/// F-13: bounded, names who is left, can be repeated.
#[test]
fn a_removal_in_vain_says_who_is_left() {
    let Some(mut s) = Scratch::new() else { return };
    let cgroup = s.create("leaf").unwrap();
    let pid = s.sleeper(&cgroup);
    let started = Instant::now();
    let e = cgroup.remove(Duration::from_millis(100)).unwrap_err().to_string();
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(e.contains(&format!("1 process(es) left: {pid} (sleep, state S)")), "{e}");
    cgroup.kill().unwrap();
    cgroup.remove(LIMIT).unwrap();
}

#[test]
fn a_limit_on_descendants_is_named() {
    let Some(s) = Scratch::new() else { return };
    fs::write(s.path("cgroup.max.descendants"), "0").unwrap();
    let e = s.create("leaf").unwrap_err();
    assert_eq!(e.field(), "/linux/cgroupsPath");
    assert!(e.to_string().contains("cgroup.max.descendants is 0"), "{e}");
}

#[test]
fn a_failed_create_leaves_no_parent() {
    let Some(s) = Scratch::new() else { return };
    fs::write(s.path("cgroup.max.depth"), "2").unwrap();
    let e = s.create("a/b/c").unwrap_err().to_string();
    assert!(e.contains("cgroup.max.depth is 2"), "{e}");
    assert!(!s.path("a").exists());
}

#[test]
fn a_threaded_parent_is_named() {
    let Some(mut s) = Scratch::new() else { return };
    fs::create_dir(s.path("dom")).unwrap();
    fs::create_dir(s.path("dom/thr")).unwrap();
    fs::write(s.path("dom/thr/cgroup.type"), "threaded").unwrap();
    let cgroup = s.create("dom/thr/leaf").unwrap();
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    let id = i32::try_from(child.id()).unwrap();
    s.children.push(child);
    let e = cgroup.enter(id).unwrap_err().to_string();
    assert!(e.contains("cgroup.type is \"domain invalid\""), "{e}");
    // One that became threaded with processes in it is killed all the same.
    fs::write(s.path("dom/thr/leaf/cgroup.type"), "threaded").unwrap();
    let dom = Cgroup::open(&s.path("dom")).unwrap().unwrap();
    let pid = s.sleeper(&dom);
    fs::write(s.path("dom/thr/leaf/cgroup.threads"), pid.to_string()).unwrap();
    assert_eq!(cgroup.pids().unwrap(), [pid]);
    cgroup.kill().unwrap();
    assert!(cgroup.wait_empty(LIMIT).unwrap());
}

/// SEC-18: `exec --cgroup`.
#[test]
fn issue_5351_nothing_leads_out_of_a_cgroup() {
    let Some(s) = Scratch::new() else { return };
    let cgroup = s.create("a").unwrap();
    s.create("ab").unwrap();
    fs::create_dir(cgroup.path().join("x")).unwrap();
    for bad in ["..", "../ab", "b", "x/../../ab", "/../ab", "x/../..", &"x/".repeat(300)] {
        assert!(cgroup.open_below(bad).is_err(), "{bad}");
    }
    for good in ["", "/", "x", "/x", "x/../x", "./x"] {
        let got = fs::canonicalize(cgroup.open_below(good).unwrap().path()).unwrap();
        assert!(got.starts_with(cgroup.path()), "{good}");
    }
}

#[test]
fn delegation_gives_the_listed_files_and_no_limits() {
    use std::os::unix::fs::MetadataExt;
    let Some(s) = Scratch::new() else { return };
    let cgroup = s.create("leaf").unwrap();
    cgroup.delegate(12345).unwrap();
    let owner = |name: &str| fs::metadata(cgroup.path().join(name)).unwrap().uid();
    for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        assert_eq!(owner(name), 12345, "{name}");
    }
    for name in ["cgroup.freeze", "cgroup.kill", "cgroup.max.descendants"] {
        assert_eq!(owner(name), 0, "{name}");
    }
}

#[test]
fn paths_out_of_cgroup2_are_refused() {
    let Some(_s) = Scratch::new() else { return };
    let e = Cgroup::open(std::path::Path::new("/tmp")).unwrap_err().to_string();
    assert!(e.contains("not in a cgroup2 file system"), "{e}");
}

fn allow(major: i64, minor: i64, access: &str) -> DeviceRule {
    DeviceRule { allow: true, kind: "c".into(), major: Some(major), minor: Some(minor), access: access.into() }
}

/// What a shell in the cgroup can do with a node: "r", "w", "rw" or less, in one word for each of the given.
fn opens(cgroup: &Cgroup, nodes: &[&str]) -> Vec<String> {
    let script = "read go; for n; do o=; (: <$n) 2>/dev/null && o=r; (: >>$n) 2>/dev/null && o=${o}w; echo =$o; done";
    let mut child =
        Command::new("sh").args(["-c", script, "sh"]).args(nodes).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    cgroup.enter(i32::try_from(child.id()).unwrap()).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.wait().unwrap();
    out.lines().map(|l| l.trim_start_matches('=').to_owned()).collect()
}

#[test]
fn device_programs_load_decide_and_are_replaced() {
    let Some(s) = Scratch::new() else { return };
    let cgroup = s.create("leaf").unwrap();
    let nodes = tempfile::tempdir().unwrap();
    let node = |name: &str, minor| {
        let path = nodes.path().join(name);
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFCHR, mode, nix::sys::stat::makedev(1, minor)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // null, kmsg; kmsg is no default device.
    let (null, kmsg) = (node("null", 3), node("kmsg", 11));
    let nodes = [null.as_str(), kmsg.as_str()];
    assert_eq!(opens(&cgroup, &nodes), ["rw", "rw"]);
    let put = |cgroup: &Cgroup, rules: &[DeviceRule]| {
        cgroup.attach_devices(devices::program(rules, &[]).unwrap().as_deref()).unwrap();
    };
    put(&cgroup, &[]);
    assert_eq!(opens(&cgroup, &nodes), ["rw", ""]);
    // As `update` does it: opened anew, ours is found and replaced.
    let again = Cgroup::open(cgroup.path()).unwrap().unwrap();
    put(&again, &[allow(1, 11, "r")]);
    assert_eq!(opens(&cgroup, &nodes), ["rw", "r"]);
    // 60 rules, the last two of them about this device.
    let mut many: Vec<_> = (100..158).map(|n| allow(n, n, "rw")).collect();
    many.extend([allow(1, 11, "rw"), DeviceRule { allow: false, ..allow(1, 11, "r") }]);
    put(&again, &many);
    assert_eq!(opens(&cgroup, &nodes), ["rw", "w"]);
    put(&again, &[DeviceRule { allow: true, ..DeviceRule::default() }]);
    assert_eq!(opens(&cgroup, &nodes), ["rw", "rw"], "nothing is left attached");
}

/// The verifier takes programs of every shape, the longest that is allowed among them.
#[test]
fn large_device_programs_load() {
    let Some(s) = Scratch::new() else { return };
    let cgroup = s.create("leaf").unwrap();
    for count in [1, 100, 1000, 4000] {
        let rules: Vec<_> = (0..count).map(|n| allow(n % 4000, n * 7 % 1000, "rw")).collect();
        let program = devices::program(&rules, &[]).unwrap().unwrap();
        let started = Instant::now();
        cgroup.attach_devices(Some(&program)).unwrap();
        println!("{count} rules: {} instructions, {:?}", program.len(), started.elapsed());
    }
}

#[test]
fn a_program_that_the_verifier_refuses_is_quoted() {
    let Some(s) = Scratch::new() else { return };
    let cgroup = s.create("leaf").unwrap();
    // exit, with r0 never written.
    let exit = u64::from_ne_bytes([0x95, 0, 0, 0, 0, 0, 0, 0]);
    let e = cgroup.attach_devices(Some(&[exit])).unwrap_err();
    assert_eq!(e.field(), "/linux/resources/devices");
    assert!(e.to_string().contains("the verifier says: R0 !read_ok"), "{e}");
}

fn writes(s: &Scratch, json: &str) -> onggi::error::Result<Vec<limits::Write>> {
    limits::writes(&serde_json::from_str::<Resources>(json).unwrap(), &s.hierarchy)
}

#[test]
fn limits_are_handed_down_and_written() {
    let Some(s) = Scratch::new() else { return };
    if !s.hierarchy.has("hugetlb") {
        println!("skipped: this cgroup2 has no hugetlb controller");
        return;
    }
    let list =
        writes(&s, r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}],"unified":{"cgroup.max.depth":"7"}}"#).unwrap();
    let cgroup = Cgroup::create(&s.hierarchy, &s.below.join("a/leaf"), &list).unwrap();
    cgroup.apply(&list).unwrap();
    let read = |name: &str| fs::read_to_string(cgroup.path().join(name)).unwrap();
    assert_eq!(read("hugetlb.2MB.max").trim(), "4194304");
    assert_eq!(read("hugetlb.2MB.rsvd.max").trim(), "4194304");
    assert_eq!(read("cgroup.max.depth").trim(), "7");
    assert_eq!(read("cgroup.controllers").trim(), "hugetlb");

    let odd = writes(&s, r#"{"hugepageLimits":[{"pageSize":"3MB","limit":1}]}"#).unwrap();
    let e = cgroup.apply(&odd).unwrap_err();
    assert_eq!(e.field(), "/linux/resources/hugepageLimits/0/limit");
    assert!(e.to_string().contains("no such file or directory"), "{e}");
}

/// Natively mostly skipped, since cgroup v1 has the controllers; a virtual machine has them all.
#[test]
fn each_controller_takes_its_values() {
    let Some(s) = Scratch::new() else { return };
    for (controller, json, want) in [
        ("pids", r#"{"pids":{"limit":100}}"#, vec![("pids.max", "100")]),
        ("pids", r#"{"pids":{"limit":-1}}"#, vec![("pids.max", "max")]),
        (
            "memory",
            r#"{"memory":{"limit":67108864,"swap":67108864,"reservation":33554432}}"#,
            vec![("memory.max", "67108864"), ("memory.low", "33554432")],
        ),
        ("memory", r#"{"unified":{"memory.high":"50331648"}}"#, vec![("memory.high", "50331648")]),
        (
            "cpu",
            r#"{"cpu":{"shares":2048,"quota":10000,"burst":5000}}"#,
            vec![("cpu.weight", "174"), ("cpu.max", "10000 100000"), ("cpu.max.burst", "5000")],
        ),
        // Above the old quota, so only taken after the new one.
        (
            "cpu",
            r#"{"cpu":{"quota":50000,"period":50000,"burst":40000}}"#,
            vec![("cpu.max", "50000 50000"), ("cpu.max.burst", "40000")],
        ),
        ("cpu", r#"{"cpu":{"shares":1024,"idle":1}}"#, vec![("cpu.idle", "1")]),
        ("cpu", r#"{"cpu":{"shares":1024,"idle":0}}"#, vec![("cpu.idle", "0"), ("cpu.weight", "100")]),
        ("cpuset", r#"{"cpu":{"cpus":"0","mems":"0"}}"#, vec![("cpuset.cpus", "0"), ("cpuset.mems", "0")]),
    ] {
        if !s.hierarchy.has(controller) {
            println!("skipped: this cgroup2 has no {controller} controller");
            continue;
        }
        let list = writes(&s, json).unwrap();
        let cgroup = Cgroup::create(&s.hierarchy, &s.below.join("leaf"), &list).unwrap();
        cgroup.apply(&list).unwrap();
        for (file, value) in want {
            assert_eq!(fs::read_to_string(cgroup.path().join(file)).unwrap().trim(), value, "{file} after {json}");
        }
    }
}

#[test]
fn a_parent_with_processes_is_named() {
    let Some(mut s) = Scratch::new() else { return };
    if !s.hierarchy.has("hugetlb") {
        println!("skipped: this cgroup2 has no hugetlb controller");
        return;
    }
    let parent = s.create("full").unwrap();
    let pid = s.sleeper(&parent);
    let list = writes(&s, r#"{"hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#).unwrap();
    let e = Cgroup::create(&s.hierarchy, &s.below.join("full/leaf"), &list).unwrap_err();
    assert_eq!(e.field(), "/linux/resources/hugepageLimits/0/limit");
    let want = format!("full holds 1 process(es) of its own ({pid}), so it can hand down no controller");
    assert!(e.to_string().contains(&want), "{e}");
    assert!(!parent.path().join("leaf").exists());
}

#[test]
fn without_the_memory_controller_there_is_nothing_to_count() {
    let Some(s) = Scratch::new() else { return };
    let cgroup = s.create("leaf").unwrap();
    assert_eq!(cgroup.oom_kills().unwrap(), None);
    cgroup.check_memory(&Memory { limit: Some(1), check_before_update: true, ..Memory::default() }).unwrap();
}
