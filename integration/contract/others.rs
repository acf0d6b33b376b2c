//! CRI-O, conmon-rs, Buildah, nerdctl, and what Kubernetes needs through them.

use super::{cgroup_of, members, pid_in, refused, silent, sleeper, stopped};
use crate::bundle::{Bundle, eventually};
use crate::case;
use crate::case::{Case, runtime};
use crate::converge::Keeper;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::Command;

pub fn cases() -> Vec<Case> {
    vec![
        case!(rule_2_5_update_with_a_space_before_the_dash),
        case!(rule_2_5_stop_signals_are_decimals_and_names),
        case!(rule_2_5_kill_a_of_a_stopped_container).except("crun", "fails then"),
        case!(rule_2_5_state_is_decoded_from_stdout_alone),
        case!(rule_2_5_the_pid_file_was_made_empty_beforehand),
        case!(rule_2_5_not_found_is_told_by_the_words).except("crun", super::WORDS),
        case!(rule_2_5_pause_and_resume),
        case!(rule_2_5_features_and_version_by_combined_output).except("runc", "1.1 has no idmap").except("crun", "1.8 has none"),
        case!(rule_2_6_global_flags_come_twice).except("runc", "needs systemd").except("crun", "needs systemd"),
        case!(rule_2_6_exec_takes_all_words_after_the_id),
        case!(rule_2_6_exec_inherits_the_container_s_process).except("crun", "1.8 takes root when no user is given"),
        case!(rule_2_7_kill_without_a_signal).except("crun", "has no default signal"),
        case!(rule_2_7_a_zombie_is_stopped_and_can_be_deleted).except("crun", super::WORDS),
        case!(rule_2_7_the_bundle_is_the_working_directory),
        case!(rule_2_7_the_status_goes_from_running_to_stopped),
        case!(rule_2_8_the_first_line_of_runc_version).except("crun", "says crun"),
        case!(rule_2_8_what_its_tests_look_for).except("crun", super::WORDS),
        case!(rule_2_9_update_changes_only_what_is_given),
        case!(rule_2_9_the_processes_of_a_shared_pid_namespace_end).except("crun", "leaves them without --all"),
        case!(rule_2_9_recursive_read_only).except("runc", "1.1.5 has none"),
        case!(rule_2_9_proc_unmasked),
        case!(rule_2_9_safe_sysctls),
    ]
}

fn rule_2_5_update_with_a_space_before_the_dash() {
    let bundle = sleeper();
    bundle.detach();
    let path = bundle.home.join("resources");
    fs::write(&path, "{\"cpu\":{},\"memory\":{},\"unified\":{}}").expect("write the resources");
    let mut command = bundle.command(["update", "--resources", "-", &bundle.id]);
    command.stdin(File::open(&path).expect("open the resources"));
    silent(&bundle.finish(command));
}

fn rule_2_5_stop_signals_are_decimals_and_names() {
    // 37 is SIGRTMIN+3, by which systemd in a container is stopped.
    let bundle = Bundle::new().sh("for s in 15 37; do trap \"echo got $s\" $s; done; echo ready; while :; do sleep 0.01; done");
    let container = bundle.detach();
    eventually("ready", || container.stdout().contains("ready"));
    for signal in ["15", "37"] {
        container.kill(signal);
        eventually(signal, || container.stdout().contains(&format!("got {signal}")));
    }
    container.kill("KILL");
    assert_eq!(container.wait(), 137);
}

fn rule_2_5_kill_a_of_a_stopped_container() {
    let bundle = sleeper();
    stopped(&bundle);
    silent(&bundle.call(["kill", "-a", &bundle.id, "9"]));
}

fn rule_2_5_state_is_decoded_from_stdout_alone() {
    let bundle = sleeper();
    let container = bundle.create();
    for status in ["created", "running", "paused", "stopped"] {
        match status {
            "running" => drop(container.start()),
            "paused" => container.ok("pause", &[]),
            "stopped" => {
                container.ok("resume", &[]);
                container.kill("KILL").wait();
            }
            _ => {}
        }
        eventually(status, || container.status() == status);
        let output = container.call("state", &[]);
        let state: Value = serde_json::from_str(&output.stdout).expect("JSON alone");
        assert!(state["created"].is_string() && state["pid"].is_u64() && output.stderr.is_empty(), "{output:?}");
    }
    assert!(bundle.call(["state", "absent"]).status != 0);
}

fn rule_2_5_the_pid_file_was_made_empty_beforehand() {
    let bundle = sleeper();
    bundle.detach();
    let path = bundle.home.join("exec.pid");
    fs::write(&path, "").expect("make an empty pid file");
    let words = ["exec", "--pid-file", &path.display().to_string(), "--detach", &bundle.id, "sleep", "1000"];
    silent(&bundle.call(words));
    pid_in(&path);
    fs::write(&path, "").expect("make an empty pid file");
    let output = bundle.call(["exec", "--pid-file", &path.display().to_string(), "--detach", &bundle.id, "/absent"]);
    assert!(output.status != 0 && !output.stderr.is_empty(), "{output:?}");
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), "");
}

fn rule_2_5_not_found_is_told_by_the_words() {
    let bundle = sleeper();
    let output = stopped(&bundle).call("kill", &["15"]);
    let known = ["no such process", "container not running", "invalid process"];
    assert!(known.iter().any(|text| output.stderr.contains(text)), "{output:?}");
}

fn rule_2_5_pause_and_resume() {
    let bundle = sleeper();
    let container = bundle.detach();
    container.ok("pause", &[]);
    assert_eq!(container.status(), "paused");
    container.ok("resume", &[]);
    container.kill("KILL");
    eventually("stopped", || container.status() == "stopped");
}

fn rule_2_5_features_and_version_by_combined_output() {
    let bundle = Bundle::new();
    for words in ["features", "--version"] {
        let output = bundle.call([words]);
        assert!(output.status == 0 && output.stderr.is_empty(), "{output:?}");
    }
    let features: Value = serde_json::from_str(&bundle.call(["features"]).stdout).expect("JSON");
    assert!(features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string());
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
}

fn rule_2_6_global_flags_come_twice() {
    let bundle = sleeper();
    let root = format!("--root={}", bundle.root().display());
    bundle.write();
    let pid = bundle.home.join("pid").display().to_string();
    let create =
        ["--systemd-cgroup=false", &root, "--systemd-cgroup=false", "create", "--bundle", ".", "--pid-file", &pid, &bundle.id];
    silent(&bundle.call(create));
    silent(&bundle.call([&root, "--systemd-cgroup", &root, "--systemd-cgroup", "start", &bundle.id]));
    pid_in(pid.as_ref());
}

fn rule_2_6_exec_takes_all_words_after_the_id() {
    let bundle = sleeper();
    bundle.detach();
    let output = bundle.call(["exec", &bundle.id, "echo", "-d", "--tty", "--", "-e", "--pid-file=x"]);
    assert_eq!(output.stdout, "-d --tty -- -e --pid-file=x\n");
}

fn rule_2_6_exec_inherits_the_container_s_process() {
    let bundle =
        sleeper().set("/process/user", json!({"uid": 7, "gid": 8})).set("/process/cwd", "/tmp").set("/process/env/-", "X=y");
    bundle.detach();
    let output = bundle.call(["exec", &bundle.id, "sh", "-c", "echo $(id -u) $(id -g) $PWD $X"]);
    assert_eq!(output.stdout, "7 8 /tmp y\n");
}

fn rule_2_7_kill_without_a_signal() {
    let bundle = Bundle::new().sh("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done");
    let container = bundle.detach();
    eventually("ready", || container.stdout().contains("ready"));
    container.ok("kill", &[]);
    assert_eq!(container.wait(), 3);
}

/// Its parent reaps it later, or never.
fn rule_2_7_a_zombie_is_stopped_and_can_be_deleted() {
    let bundle = sleeper();
    let keeper = Keeper::detach(&bundle);
    silent(&bundle.call(["kill", &bundle.id, "KILL"]));
    eventually("a zombie", || keeper.is_zombie());
    let state: Value = serde_json::from_str(&bundle.call(["state", &bundle.id]).stdout).expect("JSON");
    assert_eq!((&state["status"], &state["pid"]), (&json!("stopped"), &json!(0)));
    refused(&bundle.call(["kill", &bundle.id, "KILL"]), "container not running");
    silent(&bundle.call(["delete", &bundle.id]));
    assert!(keeper.is_zombie(), "nobody else reaps it");
}

fn rule_2_7_the_bundle_is_the_working_directory() {
    let bundle = sleeper();
    bundle.write();
    let mut command = bundle.command(["create", "--bundle", ".", "--pid-file", "pid", &bundle.id]);
    command.current_dir(bundle.dir());
    silent(&bundle.finish(command));
    pid_in(&bundle.dir().join("pid"));
    let state: Value = serde_json::from_str(&bundle.call(["state", &bundle.id]).stdout).expect("JSON");
    assert_eq!(state["bundle"], bundle.dir().display().to_string());
}

fn rule_2_7_the_status_goes_from_running_to_stopped() {
    let bundle = Bundle::new().args(["sleep", "0.3"]);
    let container = bundle.create();
    container.start();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|s| s != "stopped") {
        let status = container.status();
        if seen.last() != Some(&status) {
            seen.push(status);
        }
    }
    assert_eq!(seen, ["running", "stopped"]);
    container.ok("delete", &[]);
}

fn rule_2_8_the_first_line_of_runc_version() {
    let output = Command::new(runtime()).arg0("runc").arg("--version").output().expect("run it");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let first: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    assert!(first.len() == 3 && first[0] == "runc", "{text}");
    assert!(lines.all(|line| line.split_once(':').is_some()), "{text}");
}

fn rule_2_8_what_its_tests_look_for() {
    refused(&Bundle::new().args(["nonesuch"]).run(), "executable file not found in $PATH");
}

fn rule_2_9_update_changes_only_what_is_given() {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").expect("read the controllers");
    if !controllers.contains("pids") {
        return;
    }
    let bundle = sleeper().set("/linux/resources/pids", json!({"limit": 50}));
    let container = bundle.detach();
    let file = format!("{}/pids.max", cgroup_of(container.pid));
    let limit = || fs::read_to_string(&file).expect("its limit").trim().to_owned();
    let path = bundle.home.join("resources");
    for (given, want) in [(json!({"cpu": {}}), "50"), (json!({"pids": {"limit": 60}}), "60"), (json!({"memory": {}}), "60")] {
        fs::write(&path, given.to_string()).expect("write the resources");
        container.bundle.call(["update", "--resources", &path.display().to_string(), &bundle.id]);
        assert_eq!(limit(), want, "{given}");
    }
}

fn rule_2_9_the_processes_of_a_shared_pid_namespace_end() {
    let bundle = sleeper().sh("sleep 1000 & sleep 1001 & wait");
    let list = bundle.config["linux"]["namespaces"].as_array().expect("namespaces").clone();
    let bundle = bundle.set("/linux/namespaces", list.into_iter().filter(|n| n["type"] != "pid").collect::<Vec<_>>());
    let container = bundle.detach();
    let cgroup = cgroup_of(container.pid);
    eventually("three processes", || members(&cgroup) == 3);
    container.ok("kill", &["--all", "KILL"]);
    container.wait();
    eventually("none", || members(&cgroup) == 0);
    container.ok("delete", &[]);
}

fn rule_2_9_recursive_read_only() {
    let bundle = Bundle::new();
    let source = bundle.home.join("volume");
    fs::create_dir(&source).expect("make a volume");
    let bundle =
        bundle.mount("/tmp", "bind", &source.display().to_string(), &["rbind", "rro", "ro"]).sh("touch /tmp/x || echo refused");
    assert!(bundle.run().stdout.contains("refused"));
}

fn rule_2_9_proc_unmasked() {
    let bundle = Bundle::new().set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    assert_eq!(bundle.sh("grep -c ' /proc/' /proc/self/mounts; true").stdout(), "0\n");
}

fn rule_2_9_safe_sysctls() {
    let bundle =
        Bundle::new().set("/linux/sysctl", json!({"net.ipv4.ip_unprivileged_port_start": "1", "kernel.shm_rmid_forced": "1"}));
    assert_eq!(bundle.args(["cat", "/proc/sys/kernel/shm_rmid_forced"]).stdout(), "1\n");
}
