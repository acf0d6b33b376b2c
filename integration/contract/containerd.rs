//! containerd's shim and its library go-runc.

use super::all::{bare, records};
use super::{cgroup_of, members, pid_in, refused, silent, sleeper, stopped};
use crate::bundle::{Bundle, eventually, within};
use crate::case;
use crate::case::Case;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        case!(rule_2_1_the_log_is_shared_and_appended_to).except("crun", "adds records of its own"),
        case!(rule_2_1_the_terminal_is_sent_before_anybody_accepts),
        case!(rule_2_1_init_is_in_its_cgroup_when_create_returns),
        case!(rule_2_1_no_stream_is_kept_open),
        case!(rule_2_1_exec_of_a_process_file),
        case!(rule_2_1_kill_all_after_init_has_exited).except("crun", "fails then"),
        case!(rule_2_1_kill_all_ends_what_init_left).except("crun", "fails then"),
        case!(rule_2_1_kill_errors_are_told_apart).except("crun", super::WORDS),
        case!(rule_2_1_delete_of_a_deleted_one).except("crun", super::WORDS),
        case!(rule_2_1_state_is_pure_json).except("crun", "its rootfs is relative"),
        case!(rule_2_1_ps_is_one_array).except("crun", "in a line each"),
        case!(rule_2_1_update_reads_stdin),
        case!(rule_2_1_features_need_nothing).except("runc", "1.1 has fewer").except("crun", "1.8 has fewer"),
        case!(rule_2_1_version_lines).except("crun", "says crun"),
        case!(rule_2_1_pidfd_socket).ours("runc has it since 1.2"),
        case!(rule_2_1_what_go_runc_has_besides).except("crun", "has no events"),
    ]
}

fn rule_2_1_the_log_is_shared_and_appended_to() {
    let bundle = sleeper();
    let log = bundle.home.join("log.json");
    fs::write(&log, "{\"level\":\"info\",\"msg\":\"earlier\",\"time\":\"2024-01-01T00:00:00Z\"}\n").expect("begin the log");
    let path = log.display().to_string();
    let start = |n: usize| {
        let id = format!("absent-{n}");
        let words = ["--log", &path, "--log-format", "json", if n.is_multiple_of(2) { "state" } else { "delete" }, &id];
        bundle.command(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start a command")
    };
    for mut child in (0..20).map(start).collect::<Vec<_>>() {
        assert_eq!(within(&mut child, Duration::from_secs(20)), Some(1));
    }
    let text = fs::read_to_string(&log).expect("read the log");
    let records = records(&text);
    assert_eq!((records.len(), text.lines().count(), &records[0]["msg"]), (21, 21, &json!("earlier")), "{text}");
    for record in &records {
        let time = record["time"].as_str().unwrap_or_default();
        assert!(time.len() >= 20 && time.as_bytes()[10] == b'T', "{record}");
        let level = record["level"].as_str().unwrap_or_default();
        assert!(["error", "warning", "info", "debug"].contains(&level) && record["msg"].is_string(), "{record}");
    }
}

fn rule_2_1_the_terminal_is_sent_before_anybody_accepts() {
    let bundle = sleeper().set("/process/terminal", true);
    let path = bundle.home.join("pty.sock").display().to_string();
    let socket = UnixListener::bind(&path).expect("listen");
    bundle.create_with(&["--console-socket", &path]);
    let (mut connection, _) = socket.accept().expect("accept");
    let mut name = [0; 4096];
    let (_master, length) = onggi::sys::socket::recv_fd(connection.as_fd(), &mut name).expect("one descriptor");
    assert!((1..4096).contains(&length));
    connection.set_read_timeout(Some(Duration::from_secs(5))).expect("set a time limit");
    assert_eq!(connection.read(&mut name).expect("read on"), 0, "one message");
}

fn rule_2_1_init_is_in_its_cgroup_when_create_returns() {
    let bundle = sleeper().set("/linux/cgroupsPath", format!("/contract-{}", std::process::id()));
    let container = bundle.create();
    assert!(cgroup_of(container.pid).ends_with(&format!("/contract-{}", std::process::id())));
}

/// The shim copies until the end of file.
fn rule_2_1_no_stream_is_kept_open() {
    let bundle = Bundle::new().sh("echo said");
    bundle.write();
    let mut command = bundle.command(["create", "--pid-file", &bundle.home.join("pid").display().to_string(), &bundle.id]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("create");
    let (mut out, mut err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    assert_eq!(within(&mut child, Duration::from_secs(10)), Some(0));
    silent(&bundle.call(["start", &bundle.id]));
    let reader = std::thread::spawn(move || {
        let (mut said, mut complained) = (String::new(), String::new());
        out.read_to_string(&mut said).expect("read to the end");
        err.read_to_string(&mut complained).expect("read to the end");
        (said, complained)
    });
    eventually("the end of both streams", || reader.is_finished());
    assert_eq!(reader.join().expect("the reader"), ("said\n".into(), String::new()));
    crate::stage::exit_status(pid_in(&bundle.home.join("pid")));
}

fn rule_2_1_exec_of_a_process_file() {
    let bundle = sleeper();
    bundle.detach();
    let process =
        json!({"args": ["sh", "-c", "echo in; exit 3"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    let file = bundle.home.join("runc-process1");
    fs::write(&file, process.to_string()).expect("write the process");
    let pid = bundle.home.join("e1.pid");
    let words =
        ["exec", "--process", &file.display().to_string(), "--detach", "--pid-file", &pid.display().to_string(), &bundle.id];
    let output = bundle.call(words);
    assert_eq!((output.status, output.error()), (0, String::new()));
    assert_eq!(crate::stage::exit_status(pid_in(&pid)), Some(3));
}

fn rule_2_1_kill_all_after_init_has_exited() {
    let bundle = sleeper();
    silent(&stopped(&bundle).bundle.call(["kill", "--all", &bundle.id, "9"]));
}

/// A container that shares the host's PID namespace.
fn shared(script: &str) -> Bundle {
    let bundle = Bundle::new().sh(script);
    let list = bundle.config["linux"]["namespaces"].as_array().expect("namespaces").clone();
    let kept: Vec<Value> = list.into_iter().filter(|n| n["type"] != "pid").collect();
    bundle.set("/linux/namespaces", kept)
}

fn rule_2_1_kill_all_ends_what_init_left() {
    let bundle = shared("sleep 1000 & sleep 1001 & exit 0");
    let container = bundle.create();
    let cgroup = cgroup_of(container.pid);
    container.start().wait();
    eventually("stopped", || container.status() == "stopped");
    assert_eq!(members(&cgroup), 2);
    silent(&bundle.call(["kill", "--all", &bundle.id, "9"]));
    eventually("nobody left", || members(&cgroup) == 0);
    container.ok("delete", &[]);
}

fn rule_2_1_kill_errors_are_told_apart() {
    let bundle = sleeper();
    refused(&stopped(&bundle).call("kill", &["9"]), "container not running");
    refused(&bundle.call(["kill", "absent", "9"]), "does not exist");
}

fn rule_2_1_delete_of_a_deleted_one() {
    let bundle = sleeper();
    let container = stopped(&bundle);
    container.ok("delete", &[]);
    refused(&container.call("delete", &[]), "does not exist");
}

fn rule_2_1_state_is_pure_json() {
    let bundle = sleeper().set("/annotations", json!({"k": "v"}));
    let container = bundle.detach();
    let output = container.call("state", &[]);
    assert!(output.stderr.is_empty());
    let state: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!((&state["id"], &state["pid"], &state["status"]), (&json!(bundle.id), &json!(container.pid), &json!("running")));
    assert_eq!(state["rootfs"], bundle.rootfs().display().to_string());
    assert_eq!((&state["bundle"], &state["annotations"]["k"]), (&json!(bundle.dir().display().to_string()), &json!("v")));
    let created = state["created"].as_str().unwrap_or_default();
    assert!(created.len() >= 20 && created.ends_with('Z') && created.as_bytes()[10] == b'T', "{created}");
}

fn rule_2_1_ps_is_one_array() {
    let bundle = sleeper();
    let container = bundle.detach();
    let output = container.call("ps", &["--format=json"]);
    assert_eq!((output.stdout.trim_end(), output.stderr.as_str()), (format!("[{}]", container.pid).as_str(), ""));
}

fn rule_2_1_update_reads_stdin() {
    let bundle = sleeper();
    bundle.detach();
    let path = bundle.home.join("resources");
    fs::write(&path, json!({"memory": {}, "cpu": {}, "devices": null}).to_string()).expect("write the resources");
    let mut command = bundle.command(["update", "--resources=-", &bundle.id]);
    command.stdin(File::open(&path).expect("open the resources"));
    silent(&bundle.finish(command));
}

fn rule_2_1_features_need_nothing() {
    let bundle = Bundle::new();
    let output = bare(&bundle, &["features"]);
    assert!(output.status == 0 && output.stderr.is_empty(), "{output:?}");
    let features: Value = serde_json::from_str(&output.stdout).expect("JSON alone");
    let has = |pointer: &str, word: &str| {
        features.pointer(pointer).and_then(Value::as_array).is_some_and(|list| list.iter().any(|v| v == word))
    };
    assert!(has("/mountOptions", "rro") && has("/linux/namespaces", "user"), "{features}");
    assert_eq!(features.pointer("/linux/mountExtensions/idmap/enabled"), Some(&json!(true)));
    assert!(!bundle.root().exists(), "features makes nothing");
}

fn rule_2_1_version_lines() {
    let output = Bundle::new().call(["--version"]);
    let starts = |text: &str| output.stdout.lines().any(|line| line.starts_with(text));
    assert!(output.status == 0 && starts("commit: ") && starts("spec: 1."), "{output:?}");
}

fn rule_2_1_pidfd_socket() {
    use std::os::fd::AsRawFd;
    for words in [&["create"][..], &["run", "--detach"]] {
        let bundle = sleeper();
        bundle.write();
        let (path, pid) = (bundle.home.join("pidfd").display().to_string(), bundle.home.join("pid"));
        let socket = UnixListener::bind(&path).expect("listen");
        let flags = ["--pidfd-socket", &path, "--pid-file", &pid.display().to_string(), &bundle.id];
        silent(&bundle.call(words.iter().chain(&flags)));
        let (connection, _) = socket.accept().expect("accept");
        let (fd, _) = onggi::sys::socket::recv_fd(connection.as_fd(), &mut [0; 64]).expect("one descriptor");
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).expect("read fdinfo");
        assert!(info.contains(&format!("Pid:\t{}\n", pid_in(&pid))), "{info}");
    }
}

fn rule_2_1_what_go_runc_has_besides() {
    let bundle = sleeper();
    let container = bundle.detach();
    let list: Value = serde_json::from_str(&bundle.call(["list", "--format=json"]).stdout).expect("JSON");
    assert_eq!((&list[0]["id"], &list[0]["pid"]), (&json!(bundle.id), &json!(container.pid)));
    let event: Value = serde_json::from_str(&container.call("events", &["--stats"]).stdout).expect("JSON");
    assert_eq!(event["type"], "stats");
    assert!(!event.to_string().contains(":-"), "unsigned in go-runc: {event}");
    if crate::bundle::find_program("ps").is_some() {
        let table = bundle.call(["ps", "--format", "table", &bundle.id, "-o", "pid,args", "ax"]).stdout;
        assert!(table.lines().nth(1).is_some_and(|l| l.trim_start().starts_with(&container.pid.to_string())), "{table}");
    }
}
