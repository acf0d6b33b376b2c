//! Hooks of all six stages: when, where and with what they run, and what becomes of the container when one fails.

use crate::bundle::{Bundle, Container, find_program};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

/// In the order of a container's life.
const STAGES: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
/// Those whose failure undoes the container, of which `create` runs the first three.
const FATAL: [&str; 5] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"];

const EARLY: &str = "1.1 runs poststart hooks in create";
const LATE: &str = "its start does not wait for startContainer hooks";
const FIRST: &str = "stops at the first that fails";
const WAITS: &str = "waits until nobody holds the hook's output (runc#5186)";

pub fn cases() -> Vec<Case> {
    vec![
        case!(they_run_in_the_order_of_the_life_and_of_the_list).except("runc", EARLY).except("crun", LATE),
        case!(each_reads_the_state_and_then_the_end).except("runc", EARLY).except("crun", "its ociVersion there is 1.0"),
        case!(each_runs_in_the_mount_namespace_of_its_stage).except("crun", LATE),
        case!(they_hold_no_descriptors_but_three).except("runc", "lets descriptors of its own through"),
        case!(a_hook_that_fails_undoes_the_container).ours("others word it otherwise, and leave out poststop hooks"),
        case!(a_hook_that_fails_in_create_undoes_the_container).ours("others word it otherwise, and leave out poststop hooks"),
        case!(the_hooks_after_one_that_fails_do_not_run).except("crun", "1.8 does not mind poststart"),
        case!(a_start_container_hook_that_fails_is_told_by_start).ours("others leave a stopped container"),
        case!(a_poststart_hook_that_fails_stops_the_container).ours("crun lets it run, runc has it in create"),
        case!(a_poststop_hook_that_fails_is_a_warning).except("crun", FIRST).except("runc", FIRST),
        case!(a_hook_that_takes_too_long_is_killed),
        case!(a_hook_that_is_missing_is_named),
        case!(a_hook_that_is_not_executable_is_named).except("crun", "says exit code: 1"),
        case!(a_mebibyte_of_output_is_no_obstacle),
        case!(the_last_words_of_a_mebibyte_are_in_the_error).ours("crun keeps none, runc all of them"),
        case!(a_daemon_that_a_hook_leaves_holds_nothing_up).except("crun", WAITS).except("runc", WAITS),
        case!(a_hook_may_close_its_streams),
        case!(their_output_goes_to_the_files_of_the_annotations).except("runc", "knows no such annotation"),
        case!(a_file_for_their_output_that_cannot_be_opened_is_named).ours("others word it otherwise"),
        case!(a_hook_need_not_read_the_state).except("crun", "at times fails").except("runc", "at times fails"),
        case!(devices_are_restricted_before_a_hook_of_the_container).ours("when it loads the device program is ours"),
    ]
}

/// Puts a shell script at the end of a stage.
fn hook(bundle: Bundle, stage: &str, script: &str) -> Bundle {
    bundle.set(&format!("/hooks/{stage}/-"), json!({"path": "/bin/sh", "args": ["sh", "-c", script]}))
}

/// A bundle with a directory `out` that the container sees as `/out`, and each stage's script, in which `OUT` is that
/// directory and `SELF` the hook's own in procfs, by the names that are right there.
fn with(mut bundle: Bundle, stages: &[&str], script: &str) -> Bundle {
    let out = bundle.home.join("out");
    if !out.exists() {
        fs::create_dir(&out).expect("make a directory");
        bundle = bundle.mount("/out", "bind", &out.display().to_string(), &["bind"]);
    }
    for stage in stages {
        // createContainer hooks see the host's procfs, which knows them by other numbers than they do.
        let inside = *stage == "startContainer";
        let (place, own) = if inside { ("/out".into(), "/proc/$$") } else { (out.display().to_string(), "/proc/self") };
        bundle = hook(bundle, stage, &script.replace("OUT", &place).replace("SELF", own).replace("STAGE", stage));
    }
    bundle
}

fn out(bundle: &Bundle, name: &str) -> String {
    fs::read_to_string(bundle.home.join("out").join(name)).unwrap_or_default()
}

fn whole_life(bundle: &Bundle) -> i32 {
    let container = bundle.create();
    container.start().kill("KILL").wait();
    container.ok("delete", &[]);
    container.pid
}

fn sleeper() -> Bundle {
    Bundle::new().args(["sleep", "1000"])
}

fn they_run_in_the_order_of_the_life_and_of_the_list() {
    let bundle = with(with(sleeper(), &STAGES, "echo STAGE 0 >>OUT/log"), &STAGES, "echo STAGE 1 >>OUT/log");
    let expected = |stages: &[&str]| stages.iter().map(|stage| format!("{stage} 0\n{stage} 1\n")).collect::<String>();
    let container = bundle.create();
    assert_eq!(out(&bundle, "log"), expected(&STAGES[..3]));
    container.start();
    assert_eq!(out(&bundle, "log"), expected(&STAGES[..5]));
    container.kill("KILL").wait();
    assert_eq!(out(&bundle, "log"), expected(&STAGES[..5]));
    container.ok("delete", &[]);
    assert_eq!(out(&bundle, "log"), expected(&STAGES));
}

fn each_reads_the_state_and_then_the_end() {
    let script = "cat >OUT/STAGE; test STAGE = poststop || kill -0 $(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' OUT/STAGE)";
    let bundle = with(sleeper(), &STAGES, script).set("/annotations", json!({"org.example.a": "b \"c\""}));
    let pid = whole_life(&bundle);
    for stage in STAGES {
        let text = out(&bundle, stage);
        let state: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{stage}: {error}: {text:?}"));
        let status = match stage {
            "startContainer" => "created",
            "poststart" => "running",
            "poststop" => "stopped",
            _ => "creating",
        };
        assert_eq!(state["id"], bundle.id, "{stage}");
        assert_eq!(state["status"], status, "{stage}");
        assert_eq!(state["bundle"], bundle.dir().display().to_string(), "{stage}");
        assert_eq!(state["annotations"]["org.example.a"], "b \"c\"", "{stage}");
        assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{stage}: {state}");
        // The number by which the hook itself can see it.
        match stage {
            "createContainer" | "startContainer" => assert_eq!(state["pid"], 1, "{stage}"),
            "poststop" => assert!(state["pid"].is_null() || state["pid"] == 0, "{state}"),
            _ => assert_eq!(state["pid"], pid, "{stage}"),
        }
    }
}

fn each_runs_in_the_mount_namespace_of_its_stage() {
    let bundle =
        with(sleeper(), &STAGES, "stat -L -c %i /proc/self/ns/mnt >OUT/STAGE; test ! -e /inside || echo root >>OUT/STAGE");
    let inode = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/mnt")).expect("look at a namespace").ino();
    let container = bundle.create();
    let inside = inode(&container.pid.to_string());
    container.start().kill("KILL").wait();
    container.ok("delete", &[]);
    for stage in STAGES {
        let expected = match stage {
            "createContainer" => format!("{inside}\n"),
            "startContainer" => format!("{inside}\nroot\n"),
            _ => format!("{}\n", inode("self")),
        };
        assert_eq!(out(&bundle, stage), expected, "{stage}");
    }
}

/// What each hook finds in the environment that it was executed with, in a runtime that has `LEAK` in its own.
fn environments(env: Option<Value>) -> Vec<String> {
    let mut bundle = with(Bundle::new(), &STAGES, "tr '\\0' '\\n' <SELF/environ >OUT/STAGE; :");
    if let Some(env) = env {
        bundle = STAGES.iter().fold(bundle, |bundle, stage| bundle.set(&format!("/hooks/{stage}/0/env"), env.clone()));
    }
    bundle.write();
    let mut run = bundle.command(["run", &bundle.id]);
    run.env("LEAK", "yes");
    let output = bundle.finish(run);
    assert_eq!(output.status, 0, "{output:?}");
    STAGES.iter().map(|stage| out(&bundle, stage)).collect()
}

pub fn their_environment_is_the_one_they_name() {
    let found = environments(Some(json!(["A=1", "PATH=/usr/bin:/bin", "EMPTY="])));
    assert_eq!(found, ["A=1\nPATH=/usr/bin:/bin\nEMPTY=\n"; 6]);
}

pub fn without_an_environment_theirs_is_empty_or_the_program_s() {
    let mut found = environments(None);
    let inside = found.remove(3);
    assert!(inside.lines().any(|line| line.starts_with("PATH=")) && !inside.contains("LEAK"), "{inside}");
    assert_eq!(found, [""; 5]);
}

pub fn they_start_in_the_bundle() {
    let bundle = with(sleeper(), &STAGES, "readlink /proc/self/cwd >OUT/STAGE");
    bundle.write();
    let (id, dir) = (bundle.id.as_str(), bundle.dir().display().to_string());
    // Called from elsewhere.
    for words in [&["create", "--bundle", &dir, id][..], &["start", id], &["delete", "--force", id]] {
        let mut command = bundle.command(words);
        command.current_dir("/");
        assert_eq!(bundle.finish(command).status, 0, "{words:?}");
    }
    for stage in STAGES.iter().filter(|stage| **stage != "startContainer") {
        assert_eq!(out(&bundle, stage), format!("{}\n", bundle.dir().display()), "{stage}");
    }
    // The bundle is out of reach there.
    assert_eq!(out(&bundle, "startContainer"), "/\n");
}

fn they_hold_no_descriptors_but_three() {
    let bundle = with(sleeper(), &STAGES, "for fd in /proc/self/fd/*; do test ! -L $fd || echo ${fd##*/}; done >OUT/STAGE");
    whole_life(&bundle);
    for stage in STAGES {
        // Shells have the one that they keep the old stdout on, from 10 up.
        let all = out(&bundle, stage);
        let numbers: Vec<&str> = all.lines().filter(|number| number.len() == 1).collect();
        assert_eq!(numbers, ["0", "1", "2"], "{stage}: {all}");
    }
}

/// Of all six stages, on both sides of the pivot and of the wait for start.
fn their_output_goes_to_the_files_of_the_annotations() {
    let bundle = STAGES.iter().fold(sleeper(), |b, stage| hook(b, stage, &format!("echo {stage}; echo {stage} >&2")));
    let path = |name: &str| bundle.home.join(name).display().to_string();
    let (stdout, stderr) = (path("hooks.out"), path("hooks.err"));
    let bundle = bundle.set("/annotations", json!({"run.oci.hooks.stdout": stdout, "run.oci.hooks.stderr": stderr}));
    fs::write(&stdout, "before\n").expect("begin the file");
    let container = bundle.create();
    // What waits for start holds these two and what it waits on, once it has heard that `create` is done with it.
    let held = || fs::read_dir(format!("/proc/{}/fd", container.pid)).expect("list its descriptors").count();
    if crate::case::name_of_runtime() == "onggi" {
        crate::bundle::eventually("it holds no more", || held() == 3 + 2 + 1);
    }
    container.start().kill("KILL").wait();
    container.ok("delete", &[]);
    let all = STAGES.map(|stage| format!("{stage}\n")).concat();
    assert_eq!(fs::read_to_string(stdout).expect("read it"), format!("before\n{all}"));
    assert_eq!(fs::read_to_string(stderr).expect("read it"), all);
}

fn a_file_for_their_output_that_cannot_be_opened_is_named() {
    let bundle = hook(Bundle::new(), "startContainer", "echo").set("/annotations", json!({"run.oci.hooks.stdout": "/absent/x"}));
    let output = bundle.fails("/annotations/run.oci.hooks.stdout: open /absent/x for the output of hooks");
    assert!(output.error().contains("no such file or directory"), "{output:?}");
}

fn a_hook_that_fails_undoes_the_container() {
    for stage in FATAL {
        let bundle = with(Bundle::new(), &["poststop"], "echo STAGE >>OUT/log");
        let bundle = hook(bundle, stage, "echo first; echo last words >&2; exit 3").args(["sleep", "1000"]);
        let text = format!("/hooks/{stage}/0: error running {stage} hook #0: /bin/sh: exit status 3");
        let output = bundle.fails(&text);
        assert!(output.stderr.contains("first; last words"), "{output:?}");
        assert_eq!((output.status, out(&bundle, "log").as_str()), (1, "poststop\n"), "{stage}: {output:?}");
    }
}

fn a_hook_that_fails_in_create_undoes_the_container() {
    for stage in &FATAL[..3] {
        let bundle = hook(with(sleeper(), &["poststop"], "echo STAGE >>OUT/log"), stage, "kill -9 $$");
        bundle.write();
        let before = Snapshot::of(&bundle);
        let output = bundle.call(["create", &bundle.id]);
        assert!(output.status == 1 && output.stderr.contains("killed by signal SIGKILL"), "{stage}: {output:?}");
        assert_eq!(out(&bundle, "log"), "poststop\n", "{stage}");
        before.assert_unchanged();
    }
}

fn the_hooks_after_one_that_fails_do_not_run() {
    for stage in FATAL {
        let bundle = with(Bundle::new().args(["sleep", "1000"]), &[stage], "exit 1");
        let bundle = with(bundle, &[stage], "echo STAGE >>OUT/log");
        assert!(bundle.run().status != 0, "{stage}");
        assert_eq!(out(&bundle, "log"), "", "{stage}");
    }
}

/// `start`, which must fail with one line that holds `text` and leave nothing, but run the poststop hooks.
fn start_fails(container: &Container<'_>, before: &Snapshot, text: &str) {
    let output = container.call("start", &[]);
    assert!(output.status == 1 && output.stderr.contains(text) && output.stderr.lines().count() == 1, "{output:?}");
    assert_eq!(out(container.bundle, "log"), "poststop\n");
    before.assert_unchanged();
}

fn a_start_container_hook_that_fails_is_told_by_start() {
    let bundle = with(sleeper(), &["poststop"], "echo STAGE >>OUT/log");
    let bundle = hook(bundle, "startContainer", "echo no >&2; exit 5");
    let before = Snapshot::of(&bundle);
    let container = bundle.create();
    assert_eq!(container.status(), "created");
    start_fails(&container, &before, "error running startContainer hook #0: /bin/sh: exit status 5, stderr: no");
}

fn a_poststart_hook_that_fails_stops_the_container() {
    let bundle = hook(with(sleeper(), &["poststop"], "echo STAGE >>OUT/log"), "poststart", "exit 5");
    let before = Snapshot::of(&bundle);
    let container = bundle.create();
    start_fails(&container, &before, "error running poststart hook #0: /bin/sh: exit status 5");
}

fn a_poststop_hook_that_fails_is_a_warning() {
    let bundle = with(hook(sleeper(), "poststop", "exit 6"), &["poststop"], "echo STAGE >>OUT/log");
    let before = Snapshot::of(&bundle);
    bundle.create();
    // Warnings are not shown unless asked for.
    let output = bundle.call(["--debug", "delete", "--force", &bundle.id]);
    assert!(output.status == 0 && output.stderr.contains("exit status 6"), "{output:?}");
    assert_eq!(out(&bundle, "log"), "poststop\n");
    before.assert_unchanged();
}

fn a_hook_that_takes_too_long_is_killed() {
    // One in the runtime's namespaces, one in the container's.
    for stage in ["createRuntime", "createContainer"] {
        let bundle = with(Bundle::new(), &[stage], "echo $$ >OUT/pid; exec sleep 1000");
        let bundle = bundle.set(&format!("/hooks/{stage}/0/timeout"), 1);
        let before = Snapshot::of(&bundle);
        let start = Instant::now();
        let output = bundle.run();
        assert!(output.status != 0 && start.elapsed() < Duration::from_secs(8), "{:?} {output:?}", start.elapsed());
        before.assert_unchanged();
        let pid = out(&bundle, "pid");
        if stage == "createRuntime" {
            let command = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
            assert!(!pid.is_empty() && !command.contains("1000"), "{pid} lives: {command}");
        }
    }
}

fn a_hook_that_is_missing_is_named() {
    for stage in &FATAL[..4] {
        let bundle = Bundle::new().set(&format!("/hooks/{stage}"), json!([{"path": "/no/such/hook"}]));
        let before = Snapshot::of(&bundle);
        let output = bundle.run();
        assert!(output.status != 0 && output.error().contains("/no/such/hook"), "{stage}: {output:?}");
        before.assert_unchanged();
    }
}

fn a_hook_that_is_not_executable_is_named() {
    let bundle = Bundle::new();
    let path = bundle.home.join("plain");
    fs::write(&path, "#!/bin/sh\n").expect("write a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set its mode");
    let path = path.display().to_string();
    let bundle = bundle.set("/hooks/createRuntime", json!([{"path": path}]));
    let output = bundle.run();
    assert!(output.status != 0 && output.error().contains(&path), "{output:?}");
    assert!(output.error().to_lowercase().contains("permission denied"), "{output:?}");
}

fn a_mebibyte_of_output_is_no_obstacle() {
    let script = "head -c 1048576 /dev/zero; head -c 1048576 /dev/zero >&2";
    let bundle = STAGES.iter().fold(Bundle::new(), |bundle, stage| hook(bundle, stage, script));
    bundle.stdout();
}

fn the_last_words_of_a_mebibyte_are_in_the_error() {
    for stage in ["createRuntime", "createContainer"] {
        let bundle = hook(Bundle::new(), stage, "yes | head -c 1048576 >&2; echo the end >&2; exit 1");
        let output = bundle.fails("the end");
        assert!(output.stderr.len() < 20_000, "{} bytes", output.stderr.len());
    }
}

fn a_daemon_that_a_hook_leaves_holds_nothing_up() {
    let bundle = with(Bundle::new(), &["createRuntime"], "(setsid sleep 1000 & echo $! >OUT/pid)");
    let start = Instant::now();
    let output = bundle.run();
    let pid = out(&bundle, "pid").trim().parse().expect("a process id");
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
    assert!(output.status == 0 && start.elapsed() < Duration::from_secs(10), "{:?} {output:?}", start.elapsed());
}

fn a_hook_may_close_its_streams() {
    let script = "exec <&- >&- 2>&-; i=0; while test $i -lt 2000; do i=$((i + 1)); done";
    STAGES.iter().fold(Bundle::new(), |bundle, stage| hook(bundle, stage, script)).stdout();
}

fn a_hook_need_not_read_the_state() {
    // More than a pipe holds.
    let bundle = STAGES.iter().fold(Bundle::new(), |bundle, stage| hook(bundle, stage, "exit 0"));
    bundle.set("/annotations", json!({"long": "x".repeat(200_000)})).stdout();
}

/// Without hooks the device program is loaded beside the child, which then runs nothing of the container's yet.
fn devices_are_restricted_before_a_hook_of_the_container() {
    assert!(find_program("strace").is_some(), "strace is not here (package strace)");
    let bundle = hook(Bundle::new().args(["true"]), "createContainer", "true");
    bundle.write();
    let log = bundle.home.join("strace");
    let run = bundle.command(["run", &bundle.id]);
    let mut strace = Command::new("strace");
    strace.args(["--trace=bpf,clone3", "--output"]).arg(&log).arg(run.get_program()).args(run.get_args());
    strace.current_dir(bundle.dir());
    let output = bundle.finish(strace);
    assert_eq!(output.status, 0, "{output:?}");
    let calls = fs::read_to_string(log).expect("read strace's log");
    let at = |text: &str| calls.lines().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text}: {calls}"));
    assert!(at("BPF_PROG_ATTACH") < at("clone3("), "{calls}");
}
