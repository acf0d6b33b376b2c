//! F-12, F-14, F-23: cgroups that are full, busy, deep, gone, too small, or another's.

use super::{OURS, sleeper};
use crate::bundle::{Bundle, eventually};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

pub fn cases() -> Vec<Case> {
    vec![
        case!(f_12_fifty_nested_cgroups_of_the_container_s_own_go).ours(OURS),
        case!(f_12_a_busy_cgroup_is_tried_again).ours("others give up after fewer tries, or never"),
        case!(f_12_a_cgroup_that_is_gone_is_no_obstacle),
        case!(f_12_a_cgroup_that_another_removes_meanwhile_is_no_obstacle).ours(OURS),
        case!(f_14_a_memory_limit_is_named_or_enough).ours("its words").vm("the memory controller"),
        case!(f_23_two_containers_of_one_bundle_live_side_by_side),
    ]
}

fn group(pid: i32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read a cgroup");
    PathBuf::from(format!("/sys/fs/cgroup{}", text.lines().last().unwrap_or_default().trim_start_matches("0::")))
}

/// It makes them itself, on a cgroup file system that it may write to, and goes to the lowest.
fn f_12_fifty_nested_cgroups_of_the_container_s_own_go() {
    let script =
        "cd /sys/fs/cgroup; for n in $(seq 50); do mkdir d w$n; cd d; done; echo 0 >cgroup.procs; sleep 1000 & sleep 1000";
    // Its own are the only ones that it sees.
    let mut bundle = Bundle::new().sh(script).namespace("cgroup");
    for mount in bundle.config["mounts"].as_array_mut().expect("mounts") {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
        }
    }
    let before = Snapshot::of(&bundle);
    let container = bundle.detach();
    eventually("in the lowest", || group(container.pid).components().filter(|part| part.as_os_str() == "d").count() == 50);
    assert_eq!(container.status(), "running");
    let exec = container.call("exec", &["true"]);
    assert_eq!(exec.status, 0, "{exec:?}");
    container.ok("pause", &[]);
    container.ok("resume", &[]);
    let listed: serde_json::Value = serde_json::from_str(&container.call("ps", &["--format=json"]).stdout).expect("an array");
    assert!(listed.as_array().is_some_and(|pids| !pids.is_empty()), "{listed}");
    container.ok("delete", &["--force"]);
    before.assert_unchanged();
}

/// The command with some of its calls made to fail by strace.
fn injected(bundle: &Bundle, words: &[&str], fault: &str) -> crate::bundle::Output {
    let command = bundle.command(words);
    let mut strace = Command::new("strace");
    strace.args(["--quiet=all", "--output=/dev/null", "--inject", fault]);
    strace.arg(command.get_program()).args(command.get_args()).current_dir(bundle.dir());
    bundle.finish(strace)
}

fn f_12_a_busy_cgroup_is_tried_again() {
    for busy in ["1..5", "1..40"] {
        let bundle = sleeper();
        let before = Snapshot::of(&bundle);
        let container = bundle.create();
        container.kill("KILL").wait();
        let output = injected(&bundle, &["delete", &bundle.id], &format!("unlinkat:error=EBUSY:when={busy}"));
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{busy}: {output:?}");
        before.assert_unchanged();
    }
}

fn f_12_a_cgroup_that_is_gone_is_no_obstacle() {
    let bundle = sleeper();
    let before = Snapshot::of(&bundle);
    let container = bundle.create();
    let path = group(container.pid);
    container.kill("KILL").wait();
    eventually("removed", || fs::remove_dir(&path).is_ok());
    assert_eq!(container.status(), "stopped");
    container.ok("delete", &[]);
    before.assert_unchanged();
}

/// As when systemd or another `delete` is quicker: what is read or removed is not there, or dead.
fn f_12_a_cgroup_that_another_removes_meanwhile_is_no_obstacle() {
    for errno in ["ENOENT", "ENODEV"] {
        let bundle = sleeper();
        let container = bundle.create();
        let path = group(container.pid);
        container.kill("KILL").wait();
        let output = injected(&bundle, &["delete", "--force", &bundle.id], &format!("unlinkat:error={errno}:when=1"));
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{errno}: {output:?}");
        // It was told so, and so did not remove it.
        eventually("removed", || fs::remove_dir(&path).is_ok() || !path.exists());
    }
}

/// From a page up to 8 MiB: too small is said, with the limit in mind, and leaves nothing; 4 MiB and more are enough.
fn f_14_a_memory_limit_is_named_or_enough() {
    let mut least = None;
    for step in 1..=16_u64 {
        // 64 KiB to 1 MiB by powers of two and their middles, then by half a MiB.
        let kib = [64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 5120, 6144, 8192]
            [usize::try_from(step - 1).expect("an index")];
        let limit = kib << 10;
        let bundle = Bundle::new().args(["echo", "ran"]).set("/linux/resources/memory", json!({"limit": limit, "swap": limit}));
        let before = Snapshot::of(&bundle);
        let output = bundle.run();
        if output.status == 0 {
            assert_eq!(output.stdout, "ran\n");
            least.get_or_insert(kib);
        } else {
            let told = output.stderr.contains("OOM-killed") || output.status == 137 && output.stderr.is_empty();
            assert!(told && kib < 4096, "{kib} KiB: {output:?}");
        }
        before.assert_unchanged();
    }
    eprintln!("the least memory limit that is enough is {least:?} KiB");
    assert!(least.is_some());
}

/// A bundle is nobody's: each has its own state, cgroup and mounts, over one root file system.
fn f_23_two_containers_of_one_bundle_live_side_by_side() {
    let bundle = sleeper();
    let first = bundle.detach();
    let second = format!("{}-second", bundle.id);
    let before = Snapshot::of(&bundle);
    let output = bundle.call(["run", "--detach", &second]);
    assert_eq!(output.status, 0, "{output:?}");
    assert_eq!(bundle.call(["exec", &second, "true"]).status, 0);
    assert_eq!(bundle.call(["delete", "--force", &second]).status, 0);
    before.assert_unchanged();
    assert_eq!(first.status(), "running");
}
