//! Docker and BuildKit.

use super::{pid_in, refused, silent, sleeper};
use crate::bundle::{Bundle, eventually, within};
use crate::case;
use crate::case::Case;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        case!(rule_2_2_one_line_has_the_word_version),
        case!(rule_2_2_a_prestart_hook_finds_a_waiting_container),
        case!(rule_2_2_a_time_namespace_without_offsets).ours("the others are older"),
        case!(rule_2_2_the_default_sysctls).except("crun", "1.8 lets no kernel.domainname through"),
        case!(rule_2_2_stdout_can_be_opened_anew_by_a_user),
        case!(rule_2_3_run_keep_leaves_the_cgroup_to_be_read).except("crun", "1.8 has no --keep"),
        case!(rule_2_3_state_has_status_bundle_and_rootfs).except("crun", "its rootfs is relative"),
        case!(rule_2_3_signals_reach_the_container),
        case!(rule_2_3_the_pid_file_of_exec_is_whole_when_it_appears),
        case!(rule_2_3_statuses_are_the_program_s).except("crun", super::WORDS),
        case!(rule_2_3_the_log_takes_many_runs_at_once),
    ]
}

fn rule_2_2_one_line_has_the_word_version() {
    let output = Bundle::new().call(["--version"]);
    assert_eq!(output.stdout.lines().filter(|line| line.contains("version")).count(), 1, "{output:?}");
}

/// As `libnetwork-setkey`: it reads the pid, whose network namespace it enters.
fn rule_2_2_a_prestart_hook_finds_a_waiting_container() {
    let bundle = Bundle::new();
    let out = bundle.home.join("seen").display().to_string();
    let script = format!("pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); readlink /proc/$pid/ns/net /proc/self/ns/net >{out}");
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]});
    let bundle = bundle.set("/hooks/prestart", json!([hook]));
    assert_eq!(bundle.run().status, 0);
    let seen = fs::read_to_string(out).expect("what the hook saw");
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines.len() == 2 && lines[0] != lines[1], "{seen}");
}

fn rule_2_2_a_time_namespace_without_offsets() {
    assert_eq!(sleeper().args(["true"]).namespace("time").run().status, 0);
}

fn rule_2_2_the_default_sysctls() {
    let sysctl = json!({"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647",
        "kernel.domainname": "d"});
    let bundle = Bundle::new().set("/linux/sysctl", sysctl).args(["cat", "/proc/sys/kernel/domainname"]);
    assert_eq!(bundle.stdout(), "d\n");
}

fn rule_2_2_stdout_can_be_opened_anew_by_a_user() {
    let bundle = Bundle::new().set("/process/user", json!({"uid": 1000, "gid": 1000})).sh("echo opened >/dev/stdout");
    bundle.write();
    let mut child = bundle.command(["run", &bundle.id]).stdout(Stdio::piped()).spawn().expect("run");
    assert_eq!(within(&mut child, Duration::from_secs(10)), Some(0));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().expect("a pipe"), &mut said).expect("read");
    assert_eq!(said, "opened\n");
}

fn rule_2_3_run_keep_leaves_the_cgroup_to_be_read() {
    let bundle = Bundle::new().sh("exit 4").set("/linux/cgroupsPath", format!("/keep-{}", std::process::id()));
    assert_eq!(bundle.run_with(&["--keep"]).status, 4);
    let events = format!("/sys/fs/cgroup/keep-{}/cgroup.events", std::process::id());
    assert!(fs::read_to_string(&events).is_ok_and(|t| t.contains("populated 0")));
    silent(&bundle.call(["delete", &bundle.id]));
    assert!(fs::read_to_string(&events).is_err());
}

fn rule_2_3_state_has_status_bundle_and_rootfs() {
    let bundle = sleeper();
    let state = bundle.detach().state();
    assert_eq!((&state["status"], &state["rootfs"]), (&json!("running"), &json!(bundle.rootfs().display().to_string())));
    assert_eq!(state["bundle"], bundle.dir().display().to_string());
}

fn foreground(bundle: &Bundle, words: &[&str]) -> Child {
    let out = File::create(bundle.home.join("said")).expect("a file");
    bundle.command(words).stdout(out).spawn().expect("start the runtime")
}

fn says(bundle: &Bundle, text: &str) {
    eventually(text, || fs::read_to_string(bundle.home.join("said")).is_ok_and(|t| t.contains(text)));
}

fn rule_2_3_signals_reach_the_container() {
    let bundle = Bundle::new().sh(
        "for s in HUP USR1 USR2 TSTP; do trap \"echo $s\" $s; done; trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done",
    );
    bundle.write();
    let mut child = foreground(&bundle, &["run", &bundle.id]);
    says(&bundle, "ready");
    let runtime = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    for (signal, name) in
        [(Signal::SIGHUP, "HUP"), (Signal::SIGUSR1, "USR1"), (Signal::SIGUSR2, "USR2"), (Signal::SIGTSTP, "TSTP")]
    {
        kill(runtime, signal).expect("signal the runtime");
        says(&bundle, name);
    }
    kill(runtime, Signal::SIGTERM).expect("signal the runtime");
    assert_eq!(within(&mut child, Duration::from_secs(10)), Some(9));
}

/// BuildKit polls until it exists, and reads it at once.
fn rule_2_3_the_pid_file_of_exec_is_whole_when_it_appears() {
    let bundle = sleeper();
    bundle.detach();
    for n in 0..5 {
        let path = bundle.home.join(format!("exec{n}.pid"));
        let words = ["exec", "--pid-file", &path.display().to_string(), &bundle.id, "sleep", "1000"];
        let mut child = foreground(&bundle, &words);
        while !path.exists() {
            assert!(child.try_wait().expect("look at it").is_none());
        }
        let pid = pid_in(&path);
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill it");
        assert_eq!(within(&mut child, Duration::from_secs(10)), Some(137));
    }
}

fn rule_2_3_statuses_are_the_program_s() {
    assert_eq!(Bundle::new().sh("exit 3").run().status, 3);
    let bundle = sleeper();
    let container = bundle.detach();
    assert_eq!(container.call("exec", &["sh", "-c", "exit 6"]).status, 6);
    assert_eq!(container.call("exec", &["sh", "-c", "kill -TERM $$"]).status, 128 + 15);
    refused(&container.call("exec", &["/absent"]), "no such file or directory");
}

fn rule_2_3_the_log_takes_many_runs_at_once() {
    let bundles: Vec<Bundle> = (0..6).map(|n| Bundle::new().sh(&format!("exit {n}"))).collect();
    let log = bundles[0].home.join("runc-log.json").display().to_string();
    let start = |bundle: &Bundle| {
        bundle.write();
        bundle.command(["--log", &log, "--log-format", "json", "run", &bundle.id]).spawn().expect("run")
    };
    for (n, mut child) in (0..).zip(bundles.iter().map(start).collect::<Vec<_>>()) {
        assert_eq!(within(&mut child, Duration::from_secs(30)), Some(n));
    }
    super::all::records(&fs::read_to_string(&log).unwrap_or_default());
}
