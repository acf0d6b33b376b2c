//! The trace rules T1 to T10 over the system calls of whole lives of containers, as strace logs them.

mod log;
mod made;
mod rules;

use crate::bundle::{Bundle, eventually, find_program, within};
use crate::case;
use crate::case::{Case, runtime};
use crate::rootless::{as_user, of_user};
use made::*;
use nix::pty::openpty;
use rules::{Checked, Run, check};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const OURS: &str = "the rules are ours";

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_whole_life_keeps_them).ours(OURS),
        case!(a_life_with_a_terminal_keeps_them).ours(OURS),
        case!(a_user_s_container_keeps_them).ours(OURS),
        case!(hooks_and_joined_namespaces_keep_them).ours(OURS),
        case!(t1_a_mount_by_path_is_found),
        case!(t2_a_path_of_the_root_file_system_is_found),
        case!(t3_a_lookup_that_is_not_bounded_is_found),
        case!(t4_a_descriptor_that_stays_open_is_found),
        case!(t5_a_write_to_a_procfs_that_is_not_ours_is_found),
        case!(t6_what_comes_too_late_is_found),
        case!(t7_who_can_be_traced_is_found),
        case!(t8_a_signal_by_number_is_found),
        case!(t9_a_terminal_by_name_and_a_write_below_the_root_are_found),
        case!(t10_another_program_is_found),
    ]
}

/// The command under strace, and where its log goes.
fn traced(bundle: &Bundle, command: &Command, name: &str) -> (Command, PathBuf) {
    assert!(find_program("strace").is_some(), "strace is not here (package strace)");
    let log = bundle.home.join(format!("{name}.strace"));
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--string-limit=4096", "--output"]).arg(&log);
    strace.arg(command.get_program()).args(command.get_args());
    strace.current_dir(bundle.dir()).stdin(Stdio::null());
    (strace, log)
}

/// Runs it to its end, which must be a good one.
fn finish(bundle: &Bundle, words: &[&str], name: &str) -> PathBuf {
    let (strace, log) = traced(bundle, &bundle.command(words), name);
    let output = bundle.finish(strace);
    assert_eq!(output.status, 0, "{words:?}: {output:?}");
    log
}

/// Starts a `create` whose strace stays with init.
fn create(bundle: &Bundle) -> (Child, PathBuf) {
    bundle.write();
    let (mut strace, log) = traced(bundle, &bundle.command(["create", &bundle.id]), "create");
    let said = fs::File::create(bundle.home.join("create.said")).expect("make a file");
    let child = strace.stdout(Stdio::null()).stderr(said).spawn().expect("start strace");
    eventually("created", || bundle.root().join(&bundle.id).join("state.json").exists());
    (child, log)
}

/// What there is must keep the rules, and be what it is taken for.
#[track_caller]
fn keeps(bundle: &Bundle, log: &Path, program: &str, programs: &[&str], needed: &[&str]) -> Checked {
    let text = fs::read_to_string(log).expect("read strace's log");
    for call in needed {
        assert!(text.contains(&format!("{call}(")), "{}: no {call} in\n{text}", log.display());
    }
    let rootfs = bundle.rootfs().display().to_string();
    let checked = check(&text, &Run { rootfs: &rootfs, runtime: program, programs });
    assert!(checked.found.is_empty(), "{}: {}", log.display(), checked.found.join("\n"));
    if needed.contains(&"pivot_root") {
        assert!(checked.lookups >= 10, "{}: the root file system is not known: {checked:?}", log.display());
    }
    checked
}

fn a_whole_life_keeps_them() {
    let source = Bundle::new();
    fs::write(source.home.join("file"), "x").expect("write a file");
    let path = |name: &str| source.home.join(name).display().to_string();
    let bundle = Bundle::new()
        .args(["sleep", "1000"])
        .mount("/made/for/a/file", "bind", &path("file"), &["rbind", "ro"])
        .mount("/made/for/a/directory", "bind", &path("bundle"), &["rbind", "rprivate"])
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "9000"}))
        .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}))
        .set("/process/oomScoreAdj", 500)
        .set("/process/cwd", "/made/here")
        .set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5]}));
    let (mut init, created) = create(&bundle);
    let started = finish(&bundle, &["start", &bundle.id], "start");
    let executed = finish(&bundle, &["exec", &bundle.id, "true"], "exec");
    let killed = finish(&bundle, &["kill", &bundle.id, "KILL"], "kill");
    within(&mut init, Duration::from_secs(20)).expect("strace does not end");
    let deleted = finish(&bundle, &["delete", &bundle.id], "delete");
    let all = ["clone3", "pivot_root", "seccomp", "fsmount", "move_mount", "execve"];
    let checked = keeps(&bundle, &created, &runtime(), &[], &all);
    // Two sysctls and the score.
    assert!(checked.writes >= 3, "{checked:?}");
    keeps(&bundle, &started, &runtime(), &[], &["poll"]);
    keeps(&bundle, &executed, &runtime(), &[], &["clone3", "setns", "seccomp", "execve"]);
    keeps(&bundle, &killed, &runtime(), &[], &["pidfd_send_signal"]);
    keeps(&bundle, &deleted, &runtime(), &[], &["unlinkat"]);
}

fn a_life_with_a_terminal_keeps_them() {
    let alone = Bundle::new().args(["test", "-t", "0"]).set("/process/terminal", true);
    alone.write();
    on_a_terminal(&alone, &["run", &alone.id]);
    let shared = Bundle::new().args(["sleep", "1000"]);
    shared.detach();
    on_a_terminal(&shared, &["exec", "--tty", &shared.id, "true"]);
}

fn on_a_terminal(bundle: &Bundle, words: &[&str]) {
    let (mut strace, log) = traced(bundle, &bundle.command(words), words[0]);
    let pty = openpty(None, None).expect("make a terminal");
    let end = || pty.slave.try_clone().expect("the terminal once more");
    let mut child = strace.stdin(end()).stdout(end()).stderr(end()).spawn().expect("start strace");
    assert_eq!(within(&mut child, Duration::from_secs(20)), Some(0), "{}", words[0]);
    keeps(bundle, &log, &runtime(), &[], &["ioctl", "execve"]);
}

/// The tracer is root: a user could not read the memory of what is undumpable.
fn a_user_s_container_keeps_them() {
    let setpriv = find_program("setpriv").expect("find setpriv").display().to_string();
    let bundle = of_user().args(["sleep", "1000"]);
    bundle.write();
    let log = |name: &str| bundle.home.join(format!("{name}.strace"));
    let traced = |words: &[&str]| {
        let user = as_user(&bundle.command(words));
        let mut strace = traced(&bundle, &user, words[0]).0;
        strace.env_remove("XDG_RUNTIME_DIR");
        (strace, user.get_args().nth(3).expect("the runtime").to_string_lossy().into_owned())
    };
    let (mut strace, program) = traced(&["run", &bundle.id]);
    let mut run = strace.stdout(Stdio::null()).spawn().expect("start strace");
    eventually("running", || bundle.call(["state", &bundle.id]).stdout.contains("\"running\""));
    for words in [vec!["exec", &bundle.id, "true"], vec!["delete", "--force", &bundle.id]] {
        let output = bundle.finish(traced(&words).0);
        assert_eq!(output.status, 0, "{words:?}: {output:?}");
    }
    within(&mut run, Duration::from_secs(20)).expect("strace does not end");
    let programs = [setpriv.as_str()];
    keeps(&bundle, &log("run"), &program, &programs, &["clone3", "pivot_root", "execve"]);
    keeps(&bundle, &log("exec"), &program, &programs, &["clone3", "setns", "execve"]);
    keeps(&bundle, &log("delete"), &program, &programs, &["unlinkat"]);
}

fn hooks_and_joined_namespaces_keep_them() {
    let other = Bundle::new().args(["sleep", "1000"]);
    let other = other.detach();
    let mut bundle = Bundle::new();
    bundle.config["linux"]["namespaces"][0] = json!({"type": "pid", "path": format!("/proc/{}/ns/pid", other.pid)});
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "sleep 1000 & sleep 1000"], "timeout": 1}]);
    let bundle = bundle.set("/hooks", json!({"poststop": hook, "createRuntime": [{"path": "/bin/true"}]}));
    bundle.write();
    let log = finish(&bundle, &["run", &bundle.id], "run");
    keeps(&bundle, &log, &runtime(), &["/bin/sh", "/bin/true"], &["clone3", "setns", "kill"]);
}
