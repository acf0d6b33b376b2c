//! ps, pause, resume, update, events: commands on a running container.

use crate::bundle::{Bundle, Container, Output, eventually, within};
use crate::case;
use crate::case::Case;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

const WORDS: &str = "words its errors otherwise";
const NO_EVENTS: &str = "has no such command";

pub fn cases() -> Vec<Case> {
    vec![
        case!(ps_prints_the_pids_as_one_array).except("crun", "in a line each"),
        case!(ps_prints_the_container_s_lines_of_the_table).except("crun", "its table is the pids alone"),
        case!(ps_finds_processes_in_cgroups_below),
        case!(ps_finds_every_one_of_many_processes),
        case!(ps_of_a_stopped_container_is_empty).ours("crun and runc 1.1 fail"),
        case!(pause_freezes_and_resume_thaws),
        case!(pause_works_before_start).except("crun", "calls it created"),
        case!(pause_of_a_paused_container_is_refused).except("crun", WORDS),
        case!(resume_of_a_running_container_is_refused).except("crun", WORDS),
        case!(pause_of_a_stopped_container_is_refused).except("crun", WORDS),
        case!(a_paused_container_can_be_deleted),
        case!(update_changes_only_what_is_given),
        case!(update_reads_resources_from_stdin_and_from_a_file),
        case!(update_is_kept).ours("it is our file"),
        case!(update_replaces_device_rules_only_when_given).vm("eBPF for devices"),
        case!(update_of_a_stopped_container_is_refused).except("crun", WORDS),
        case!(update_refuses_what_it_cannot_read).except("crun", WORDS).except("runc", WORDS),
        case!(update_that_fails_changes_nothing).ours("what is put back differs"),
        case!(update_of_memory_takes_units).vm("the memory controller"),
        case!(events_stats_have_the_form_of_runc).except("crun", NO_EVENTS),
        case!(events_come_at_the_interval_and_end_with_the_container)
            .except("crun", NO_EVENTS)
            .except("runc", "1.1 needs the memory controller"),
        case!(events_tell_of_an_oom_kill).except("crun", NO_EVENTS).vm("the memory controller"),
        case!(events_of_a_stopped_container_are_refused).except("crun", NO_EVENTS),
    ]
}

fn sleeper() -> Bundle {
    Bundle::new().args(["sleep", "1000"])
}

#[track_caller]
fn refused(output: &Output, text: &str) {
    assert!(output.status != 0 && output.error().contains(text), "{text:?} not in {output:?}");
}

fn directory(container: &Container) -> String {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid)).expect("read a cgroup");
    format!("/sys/fs/cgroup{}", text.lines().last().unwrap_or_default().trim_start_matches("0::"))
}

fn read(container: &Container, name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", directory(container))).expect("read a file of the cgroup").trim().to_owned()
}

/// Whether the cgroup's parent has a controller to give.
fn has(controller: &str) -> bool {
    let text = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").expect("read the controllers");
    text.split_whitespace().any(|c| c == controller)
}

fn stopped(bundle: &Bundle) -> Container<'_> {
    let container = bundle.create();
    container.kill("KILL").wait();
    eventually("stopped", || container.status() == "stopped");
    container
}

fn ps_prints_the_pids_as_one_array() {
    let bundle = sleeper();
    let container = bundle.detach();
    let output = container.call("ps", &["--format=json"]);
    assert_eq!(output.stdout.trim_end(), format!("[{}]", container.pid), "{output:?}");
    assert!(output.stderr.is_empty() && output.status == 0);
}

fn ps_prints_the_container_s_lines_of_the_table() {
    if crate::bundle::find_program("ps").is_none() {
        return;
    }
    let bundle = sleeper();
    let container = bundle.detach();
    let pid = container.pid.to_string();
    let output = container.call("ps", &[]);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("PID") && lines[1].contains(&pid), "{output:?}");
    assert!(lines[1].contains("sleep 1000"), "{output:?}");
    let output = container.call("ps", &["-o", "pid,args", "ax"]);
    assert_eq!(output.stdout.lines().count(), 2, "{output:?}");
    refused(&container.call("ps", &["-o", "args"]), "couldn't find PID field in ps output");
}

/// A container that runs systemd moves all it has.
fn ps_finds_every_one_of_many_processes() {
    // More than a page of numbers.
    let bundle = Bundle::new().sh("i=0; while [ $i -lt 1000 ]; do sleep 1000 & i=$((i+1)); done; echo all; wait");
    let bundle = bundle.remove("/process/rlimits");
    let container = bundle.detach();
    crate::bundle::eventually("they are there", || container.stdout() == "all\n");
    let output = container.call("ps", &["--format=json"]);
    let pids: Vec<u32> = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(pids.len(), 1001);
}

fn ps_finds_processes_in_cgroups_below() {
    let bundle = sleeper();
    let container = bundle.detach();
    let below = format!("{}/init.scope", directory(&container));
    fs::create_dir(&below).expect("make a cgroup");
    fs::write(format!("{below}/cgroup.procs"), container.pid.to_string()).expect("move init");
    let listed: Value = serde_json::from_str(&container.call("ps", &["--format=json"]).stdout).expect("an array");
    assert_eq!(listed, json!([container.pid]));
    container.ok("delete", &["--force"]);
    assert!(!std::path::Path::new(&below).exists());
}

fn ps_of_a_stopped_container_is_empty() {
    let bundle = sleeper();
    assert_eq!(stopped(&bundle).call("ps", &["--format=json"]).stdout, "[]\n");
}

fn pause_freezes_and_resume_thaws() {
    let bundle = sleeper();
    let container = bundle.detach();
    container.ok("pause", &[]);
    assert_eq!((container.status().as_str(), read(&container, "cgroup.freeze").as_str()), ("paused", "1"));
    container.ok("resume", &[]);
    assert_eq!((container.status().as_str(), read(&container, "cgroup.freeze").as_str()), ("running", "0"));
}

fn pause_works_before_start() {
    let bundle = sleeper();
    let container = bundle.create();
    container.ok("pause", &[]);
    assert_eq!(container.status(), "paused");
    container.ok("resume", &[]);
    assert_eq!(container.status(), "created");
}

fn pause_of_a_paused_container_is_refused() {
    let bundle = sleeper();
    let container = bundle.detach();
    container.ok("pause", &[]);
    let output = container.call("pause", &[]);
    container.ok("resume", &[]);
    refused(&output, "container not running");
}

fn resume_of_a_running_container_is_refused() {
    let bundle = sleeper();
    refused(&bundle.detach().call("resume", &[]), "container not paused");
}

fn pause_of_a_stopped_container_is_refused() {
    let bundle = sleeper();
    let container = stopped(&bundle);
    refused(&container.call("pause", &[]), "container not running");
    refused(&container.call("resume", &[]), "container not paused");
}

fn a_paused_container_can_be_deleted() {
    let bundle = sleeper();
    let container = bundle.detach();
    container.ok("pause", &[]);
    let before = directory(&container);
    container.ok("delete", &["--force"]);
    assert!(!std::path::Path::new(&before).exists());
}

fn update_changes_only_what_is_given() {
    if !has("pids") || !has("cpu") {
        return;
    }
    let bundle =
        sleeper().set("/linux/resources/cpu", json!({"shares": 1024})).set("/linux/resources/pids", json!({"limit": 50}));
    let container = bundle.detach();
    let weight = read(&container, "cpu.weight");
    container.ok("update", &["--pids-limit=77"]);
    assert_eq!((read(&container, "pids.max"), read(&container, "cpu.weight")), ("77".into(), weight.clone()));
    container.ok("update", &["--cpu-quota=20000"]);
    assert_eq!(read(&container, "cpu.max"), "20000 100000");
    container.ok("update", &["--cpu-period=50000"]);
    let max = read(&container, "cpu.max");
    assert!(max.ends_with(" 50000"), "{max}");
    container.ok("update", &["--pids-limit=-1"]);
    assert_eq!((read(&container, "pids.max"), read(&container, "cpu.weight")), ("max".into(), weight));
}

fn update_reads_resources_from_stdin_and_from_a_file() {
    if !has("pids") {
        return;
    }
    // The controller was not asked for at create: it is handed down now.
    let bundle = sleeper();
    let container = bundle.detach();
    let path = bundle.home.join("resources.json");
    for (n, form) in ["--resources=-", "--resources"].iter().enumerate() {
        let limit = 60 + n;
        let resources = json!({"pids": {"limit": limit}, "cpu": {}, "memory": {}, "devices": null, "unified": {}});
        fs::write(&path, resources.to_string()).expect("write the resources");
        let mut command = match n {
            0 => bundle.command(["update", form, &bundle.id]),
            _ => bundle.command(["update", form, &path.display().to_string(), &bundle.id]),
        };
        command.stdin(fs::File::open(&path).expect("open the resources"));
        let output = bundle.finish(command);
        assert!(output.status == 0 && output.stdout.is_empty() && output.error().is_empty(), "{output:?}");
        assert_eq!(read(&container, "pids.max"), limit.to_string());
    }
}

fn update_is_kept() {
    if !has("pids") {
        return;
    }
    let bundle = sleeper();
    let container = bundle.detach();
    container.ok("update", &["--pids-limit=61"]);
    let kept: Value = serde_json::from_slice(&fs::read(bundle.root().join(&bundle.id).join("config.json")).expect("read it"))
        .expect("parse it");
    assert_eq!(kept["linux"]["resources"]["pids"]["limit"], 61);
    assert_eq!(kept["process"], bundle.config["process"]);
}

fn update_replaces_device_rules_only_when_given() {
    let bundle = sleeper();
    let container = bundle.detach();
    container.ok("update", &["--pids-limit=61"]);
    let open = |id: &str| bundle.call(["exec", id, "/inside", "open", "r", "/dev/zero"]).stdout;
    assert_eq!(open(&bundle.id), "/dev/zero ok\n");
}

fn update_of_a_stopped_container_is_refused() {
    let bundle = sleeper();
    refused(&stopped(&bundle).call("update", &["--pids-limit=5"]), "container not running");
}

fn update_refuses_what_it_cannot_read() {
    let bundle = sleeper();
    let container = bundle.detach();
    refused(&container.call("update", &["--memory=12x"]), "--memory");
    refused(&container.call("update", &["--cpu-quota=much"]), "--cpu-quota");
    refused(&container.call("update", &["--resources=/absent"]), "no such file or directory");
}

fn update_that_fails_changes_nothing() {
    if !has("pids") || !has("cpu") {
        return;
    }
    let bundle = sleeper().set("/linux/resources/pids", json!({"limit": 50}));
    let container = bundle.detach();
    // The kernel takes no quota under a millisecond.
    refused(&container.call("update", &["--pids-limit=77", "--cpu-quota=5"]), "invalid argument");
    assert_eq!(read(&container, "pids.max"), "50");
}

fn update_of_memory_takes_units() {
    let bundle = sleeper();
    let container = bundle.detach();
    container.ok("update", &["--memory=64M", "--memory-swap=96M"]);
    assert_eq!(read(&container, "memory.max"), (64u64 << 20).to_string());
    container.ok("update", &["--memory=128M"]);
    assert_eq!(read(&container, "memory.max"), (128u64 << 20).to_string());
    let check = json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}}).to_string();
    let path = bundle.home.join("resources.json");
    fs::write(&path, check).expect("write the resources");
    let output = bundle.call(["update", "--resources", &path.display().to_string(), &bundle.id]);
    assert!(output.status != 0 && container.status() == "running", "{output:?}");
}

fn events_stats_have_the_form_of_runc() {
    let bundle = sleeper();
    let container = bundle.detach();
    let output = container.call("events", &["--stats"]);
    assert!(output.status == 0 && output.error().is_empty(), "{output:?}");
    assert_eq!(output.stdout.lines().count(), 1);
    let event: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(bundle.id)));
    assert!(event["data"]["cpu"]["usage"]["kernel"].is_u64(), "{event}");
    assert!(event["data"]["memory"]["usage"].is_object(), "{event}");
    assert!(event["data"]["blkio"].is_object(), "{event}");
}

fn events_come_at_the_interval_and_end_with_the_container() {
    let bundle = sleeper();
    let container = bundle.detach();
    let mut child =
        bundle.command(["events", "--interval=50ms", &bundle.id]).stdout(Stdio::piped()).spawn().expect("start events");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for _ in 0..3 {
        let line = lines.next().expect("a line").expect("read a line");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(event["type"], "stats");
    }
    container.kill("KILL");
    container.wait();
    assert_eq!(within(&mut child, Duration::from_secs(10)), Some(0));
}

fn events_tell_of_an_oom_kill() {
    let bundle = Bundle::new()
        .sh("read x; tail /dev/zero; sleep 1000")
        .set("/linux/resources/memory", json!({"limit": 33_554_432, "swap": 33_554_432}));
    bundle.write();
    let container = bundle.create();
    let mut child = bundle.command(["events", "--interval=1h", &bundle.id]).stdout(Stdio::piped()).spawn().expect("start events");
    std::thread::sleep(Duration::from_millis(500));
    container.start();
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let event: Value = serde_json::from_str(&lines.next().expect("a line").expect("read a line")).expect("JSON");
    assert_eq!(event, json!({"type": "oom", "id": bundle.id}));
    container.kill("KILL");
    within(&mut child, Duration::from_secs(10));
}

fn events_of_a_stopped_container_are_refused() {
    let bundle = sleeper();
    refused(&stopped(&bundle).call("events", &["--stats"]), "is not running");
}
