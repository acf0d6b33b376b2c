//! The words that callers match on, as runc 1.5 has them. Matching is case-sensitive in some (the docker CLI, CRI-O, the
//! shim), so it is here.

use super::{WORDS, refused, sleeper, stopped};
use crate::bundle::{Bundle, Container, Output};
use crate::case;
use crate::case::Case;
use serde_json::json;

/// runc 1.1 has these words too; those marked are of runc 1.5.
const NEWER: &str = "1.1 has other words";

/// Situation, what the error must have, and how it comes about.
type Row = (&'static str, &'static str, fn(&Bundle) -> Output);

/// Those that runc 1.1 words alike.
const ROWS: &[Row] = &[
    ("unknown_container_state", "container does not exist", |b| b.call(["state", "absent"])),
    ("unknown_container_kill", "container does not exist", |b| b.call(["kill", "absent", "9"])),
    ("unknown_container_delete", "container does not exist", |b| b.call(["delete", "absent"])),
    ("unknown_container_start", "container does not exist", |b| b.call(["start", "absent"])),
    ("unknown_container_exec", "container does not exist", |b| b.call(["exec", "absent", "true"])),
    ("unknown_container_pause", "container does not exist", |b| b.call(["pause", "absent"])),
    ("unknown_container_resume", "container does not exist", |b| b.call(["resume", "absent"])),
    ("unknown_container_ps", "container does not exist", |b| b.call(["ps", "absent"])),
    ("unknown_container_update", "container does not exist", |b| b.call(["update", "--pids-limit=5", "absent"])),
    ("unknown_container_events", "container does not exist", |b| b.call(["events", "--stats", "absent"])),
    ("kill_of_a_stopped_container", "container not running", |b| stopped(b).call("kill", &["9"])),
    ("signal_of_a_stopped_container", "container not running", |b| stopped(b).call("kill", &["TERM"])),
    ("used_id", "container with given ID already exists", |b| b.create().call("create", &[])),
    ("bad_id", "invalid container ID format", |b| b.call(["create", "a/b"])),
    ("delete_of_a_running_container", "is not stopped: running", |b| b.detach().call("delete", &[])),
    ("start_twice", "cannot start an already running container", |b| b.create().start().call("start", &[])),
    ("start_of_a_stopped_container", "cannot start a container that has stopped", |b| stopped(b).call("start", &[])),
    ("pause_of_a_stopped_container", "container not running", |b| stopped(b).call("pause", &[])),
    ("pause_of_a_paused_container", "container not running", |b| paused(b, "pause", &[])),
    ("resume_of_a_running_container", "container not paused", |b| b.detach().call("resume", &[])),
    ("no_terminal_socket", "cannot allocate tty if runc will detach without setting console socket", |b| {
        b.call(["create", &b.id])
    }),
    ("socket_without_a_terminal", "cannot use console socket if runc will not detach or allocate tty", |b| {
        b.write();
        b.call(["create", "--console-socket", "/run/absent", &b.id])
    }),
    ("config_missing", "JSON specification file config.json not found", |b| b.call(["create", &b.id])),
    ("program_not_found", "exec: \"NAME\": executable file not found in $PATH", |b| b.call(["run", &b.id])),
    ("program_path_missing", "exec: \"/NAME\": stat /NAME: no such file or directory", |b| b.call(["run", &b.id])),
    ("program_not_executable", "exec: \"/NAME\": permission denied", |b| b.call(["run", &b.id])),
];

/// Those of runc 1.5.
const NEWER_ROWS: &[Row] = &[
    ("exec_in_a_stopped_container", "exec failed: cannot exec in a stopped container", |b| stopped(b).call("exec", &["true"])),
    ("exec_in_a_paused_container", "exec failed: cannot exec in a paused container (use --ignore-paused to override)", |b| {
        paused(b, "exec", &["true"])
    }),
    ("program_is_a_directory", "exec: \"/tmp\": is a directory", |b| b.call(["run", &b.id])),
    (
        "before_a_program_of_create",
        "runc create failed: unable to start container process: error during container init: exec: ",
        |b| b.call(["create", &b.id]),
    ),
    ("cwd_trouble_of_exec", "chdir to cwd (\"/x\") set in config.json failed: no such file or directory", |b| {
        let container = b.detach();
        container.bundle.call(["exec", "--cwd", "/x", &b.id, "true"])
    }),
    ("exec_wrapper", "exec failed: unable to start container process: exec: \"NAME\": executable file not found in $PATH", |b| {
        b.detach().call("exec", &["NAME"])
    }),
];

fn paused(bundle: &Bundle, command: &str, args: &[&str]) -> Output {
    let container: Container = bundle.detach();
    container.ok("pause", &[]);
    let output = container.call(command, args);
    container.ok("resume", &[]);
    output
}

/// What the row wants of the bundle.
fn bundle_of(name: &str) -> Bundle {
    let bundle = match name {
        "no_terminal_socket" => sleeper().set("/process/terminal", true),
        "program_not_found" => Bundle::new().args(["NAME"]),
        "program_path_missing" | "before_a_program_of_create" => Bundle::new().args(["/NAME"]),
        "program_not_executable" => Bundle::new().file("/NAME", 0o644, "x").args(["/NAME"]),
        "program_is_a_directory" => Bundle::new().args(["/tmp"]),
        _ => sleeper(),
    };
    if name != "config_missing" {
        bundle.write();
    }
    bundle
}

fn row((name, text, run): Row) -> Case {
    Case::of(module_path!(), &format!("wording_{name}"), move || {
        let bundle = bundle_of(name);
        let output = run(&bundle);
        refused(&output, text);
        assert_eq!(output.error().lines().count(), 1, "one line: {output:?}");
        let exec = name.starts_with("exec") || name.ends_with("_exec");
        assert_eq!(output.status, if exec { 255 } else { 1 }, "{output:?}");
    })
    .except("crun", WORDS)
}

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = ROWS.iter().copied().map(row).collect();
    cases.extend(NEWER_ROWS.iter().copied().map(|r| row(r).except("runc", NEWER)));
    cases.extend([
        case!(wording_delete_names_the_container).except("crun", WORDS),
        case!(wording_oom_in_init).vm("the memory controller"),
        case!(wording_busy_cgroup).ours("runc 1.1 takes it"),
        case!(wording_of_errno_is_lower_case).except("crun", WORDS),
    ]);
    cases
}

fn wording_delete_names_the_container() {
    let bundle = sleeper();
    let text = format!("cannot delete container {} that is not stopped: running", bundle.id);
    refused(&bundle.detach().call("delete", &[]), &text);
}

fn wording_oom_in_init() {
    let bundle = Bundle::new().set("/linux/resources/memory", json!({"limit": 12288, "swap": 12288}));
    bundle.write();
    refused(&bundle.call(["create", &bundle.id]), "container init was OOM-killed (memory limit too low?)");
}

fn wording_busy_cgroup() {
    let bundle = sleeper();
    let first = bundle.detach();
    let path = super::cgroup_of(first.pid);
    let second = sleeper().set("/linux/cgroupsPath", path.trim_start_matches("/sys/fs/cgroup"));
    second.write();
    refused(&second.call(["create", &second.id]), "container's cgroup is not empty: 1 process(es) found");
}

/// The docker CLI and CRI-O compare without folding case.
fn wording_of_errno_is_lower_case() {
    let bundle = sleeper();
    let _container = bundle.detach();
    for (flags, text) in [(["--process", "/absent"], "no such file or directory"), (["--process", "/"], "is a directory")] {
        let output = bundle.call(["exec"].iter().chain(&flags).chain(&[bundle.id.as_str()]));
        refused(&output, text);
        assert!(!output.error().contains("os error"), "{output:?}");
    }
}
