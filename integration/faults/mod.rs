//! What is left when a command is killed, or one of its system calls fails, at each of its system calls in turn.
//!
//! `FAULT_STEP=10` tries every tenth point only.

pub mod ftkill;
mod masked;

use crate::bundle::{Bundle, eventually, find_program};
use crate::case;
use crate::case::Case;
use crate::hostdelta::{CaseGroup, Snapshot};
use crate::stage::this_program_as;
use nix::libc;
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Leaving something behind at some points is the established runtimes' known state, not a fault of the test.
const LEAKS: &str = "leaves a cgroup, a process or an unreadable state at some points";

pub fn cases() -> Vec<Case> {
    let ours = |case: Case| case.except("runc", LEAKS).except("crun", LEAKS);
    let sweeps = vec![
        ours(case!(create_killed_at_any_call_leaves_nothing)),
        ours(case!(create_with_any_process_killed_leaves_nothing)),
        ours(case!(run_killed_at_any_call_leaves_nothing)),
        ours(case!(run_with_any_process_killed_leaves_nothing)),
        case!(start_killed_at_any_call_leaves_nothing),
        case!(start_with_any_process_killed_leaves_nothing),
        case!(delete_killed_at_any_call_leaves_nothing),
        case!(delete_with_any_process_killed_leaves_nothing),
        case!(forced_delete_killed_at_any_call_leaves_nothing),
        case!(create_with_any_call_failing_leaves_nothing_or_works).ours(LEAKS),
        case!(the_tracer_makes_a_call_fail),
        case!(the_tracer_runs_a_command_before_a_call),
        case!(the_tracer_counts_the_same_calls_as_strace),
    ];
    sweeps.into_iter().chain(masked::cases()).collect()
}

fn create_killed_at_any_call_leaves_nothing() {
    sweep("create", "kill");
}

fn create_with_any_process_killed_leaves_nothing() {
    sweep("create", "tree-kill");
}

fn run_killed_at_any_call_leaves_nothing() {
    sweep("run", "kill");
}

fn run_with_any_process_killed_leaves_nothing() {
    sweep("run", "tree-kill");
}

fn start_killed_at_any_call_leaves_nothing() {
    sweep("start", "kill");
}

fn start_with_any_process_killed_leaves_nothing() {
    sweep("start", "tree-kill");
}

fn delete_killed_at_any_call_leaves_nothing() {
    sweep("delete", "kill");
}

fn delete_with_any_process_killed_leaves_nothing() {
    sweep("delete", "tree-kill");
}

fn forced_delete_killed_at_any_call_leaves_nothing() {
    sweep("delete --force", "kill");
}

/// F-04: a failed call is an error that leaves nothing even before `delete`, or it makes no difference; nothing hangs.
fn create_with_any_call_failing_leaves_nothing_or_works() {
    let (whole, _) = point("create", "tree-count", 0);
    let mut wrong = String::new();
    for errno in [libc::EPERM, libc::EIO, libc::ENOSPC, libc::ENOMEM, libc::EMFILE, libc::ENOSYS, libc::EAGAIN, libc::EINTR] {
        let mode = format!("tree-errno={errno}");
        wrong += &check(&format!("create, {mode}"), whole.calls, 1, step(), |at| failing_create(&mode, at));
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn failing_create(mode: &str, at: u64) -> (i64, Vec<String>) {
    let bundle = Bundle::new().args(["sleep", "1000"]);
    let group = CaseGroup::new(&bundle);
    let before = Snapshot::of(&bundle);
    bundle.write();
    let mut wrong = Vec::new();
    let command = words(&bundle.command(["create", &bundle.id]));
    let Some(report) = try_trace(&bundle, &group, mode, at, &command, Duration::from_secs(5)) else {
        group.sweep_up(&bundle);
        let _ = fs::remove_dir_all(bundle.root());
        return (-1, vec!["hangs".into()]);
    };
    if report.printed.contains("panicked") {
        wrong.push(format!("panics: {}", report.printed));
    }
    if report.status == 0 {
        if !is_whole(&bundle) {
            wrong.push("succeeds, but has made no container".into());
        }
    } else {
        // A call that the C library makes before `main` ends in a signal.
        if report.printed.trim().is_empty() && report.status < 128 {
            wrong.push(format!("ends with {} and says nothing", report.status));
        }
        wrong.extend(before.delta());
    }
    let delete = bundle.call(["delete", "--force", &bundle.id]);
    wrong.extend((delete.status != 0).then(|| format!("delete --force: {}", delete.stderr.trim())));
    wrong.extend(before.delta().into_iter().map(|line| format!("after delete: {line}")));
    if !wrong.is_empty() {
        group.sweep_up(&bundle);
        let _ = fs::remove_dir_all(bundle.root());
    }
    (report.call, wrong)
}

fn the_tracer_counts_the_same_calls_as_strace() {
    let bundle = Bundle::new();
    let group = CaseGroup::new(&bundle);
    let ours = trace(&bundle, &group, "count", 0, &["busybox", "true"]);
    if find_program("strace").is_none() {
        eprintln!("strace is not here to compare with");
        return;
    }
    let mut strace = Command::new("strace");
    let log = bundle.home.join("strace").display().to_string();
    strace.args(["-o", &log, "busybox", "true"]);
    assert_eq!(bundle.finish(strace).status, 0);
    // Its first line is the execve that starts the program, its last one tells the exit.
    let theirs = fs::read_to_string(log).expect("read strace's log").lines().count() - 2;
    assert_eq!(ours.calls, theirs as u64);
}

fn the_tracer_makes_a_call_fail() {
    let bundle = Bundle::new();
    let group = CaseGroup::new(&bundle);
    let whole = trace(&bundle, &group, "count", 0, &["busybox", "mkdir", "made"]);
    assert_eq!(whole.call, -1);
    fs::remove_dir(bundle.dir().join("made")).expect("remove the directory");
    // One of its calls is the mkdir, and told that the disk is full it says so.
    let said_so = (1..=whole.calls).any(|at| {
        let report = trace(&bundle, &group, "errno=28", at, &["busybox", "mkdir", "made"]);
        let _ = fs::remove_dir(bundle.dir().join("made"));
        report.call == libc::SYS_mkdir && report.printed.contains("No space left on device")
    });
    assert!(said_so);
}

fn the_tracer_runs_a_command_before_a_call() {
    let bundle = Bundle::new();
    let group = CaseGroup::new(&bundle);
    trace(&bundle, &group, "run=mkdir made", 1, &["busybox", "rmdir", "made"]);
    assert!(!bundle.dir().join("made").exists());
    let report = trace(&bundle, &group, "run=mkdir made", 1, &["busybox", "mkdir", "made"]);
    assert!(report.printed.contains("exists"), "{}", report.printed);
}

/// What the tracer reports.
pub struct Report {
    pub calls: u64,
    /// Number of the call at which it acted, -1 if it did not.
    call: i64,
    /// Exit status of the command.
    pub status: i64,
    /// What the command wrote to standard error.
    pub printed: String,
}

pub fn trace(bundle: &Bundle, group: &CaseGroup, mode: &str, at: u64, command: &[&str]) -> Report {
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    try_trace(bundle, group, mode, at, &command, Duration::from_secs(30)).unwrap_or_else(|| panic!("{command:?} hangs at {at}"))
}

fn try_trace(b: &Bundle, group: &CaseGroup, mode: &str, at: u64, command: &[String], limit: Duration) -> Option<Report> {
    let report = b.home.join("report");
    let mut tracer = this_program_as("ftkill");
    tracer.args([mode, &at.to_string()]).arg(&report).arg(group.path()).arg("--").args(command);
    tracer.current_dir(b.dir());
    let output = b.finish_within(tracer, limit)?;
    assert_eq!(output.status, 0, "the tracer fails: {output:?}");
    let report = fs::read_to_string(report).expect("read the report");
    let numbers: Vec<i64> = report.split(' ').map(|number| number.parse().expect("a number in the report")).collect();
    let [calls, call, status] = numbers[..] else { panic!("a report of three numbers: {report}") };
    Some(Report { calls: calls.cast_unsigned(), call, status, printed: output.stderr })
}

/// The words of a command that has not been started.
pub fn words(command: &Command) -> Vec<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

/// System calls that a command makes, with those of all processes that it starts, a payload's excepted.
pub fn count(command: &str) -> u64 {
    point(command, "tree-count", 0).0.calls
}

/// One try: the container brought to where the command applies, the command traced, and what it left.
fn point(command: &str, mode: &str, at: u64) -> (Report, Vec<String>) {
    let bundle = match command {
        "run" => Bundle::new(),
        _ => Bundle::new().args(["sleep", "1000"]),
    };
    let group = CaseGroup::new(&bundle);
    let before = Snapshot::of(&bundle);
    bundle.write();
    if command != "create" && command != "run" {
        let container = bundle.create();
        if command != "start" {
            container.start();
        }
        if command == "delete" {
            container.kill("KILL");
            eventually("stopped", || container.status() == "stopped");
        }
    }
    let program: &[&str] = if command == "exec" { &["true"] } else { &[] };
    let line = words(&bundle.command(command.split(' ').chain([bundle.id.as_str()]).chain(program.iter().copied())));
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let report = trace(&bundle, &group, mode, at, &line);

    let mut wrong = Vec::new();
    if (command == "create" || command == "run") && before.has_processes() && !is_whole(&bundle) {
        let until = Instant::now() + Duration::from_secs(1);
        while before.has_processes() && Instant::now() < until {
            sleep(Duration::from_millis(10));
        }
        if before.has_processes() {
            wrong.push("a process is alive after a second, and no state says so".into());
        }
    }
    let delete = bundle.call(["delete", "--force", &bundle.id]);
    if delete.status != 0 {
        wrong.push(format!("delete --force: {} {}", delete.status, delete.stderr.trim()));
    }
    wrong.extend(before.delta());
    if !wrong.is_empty() {
        group.sweep_up(&bundle);
        let _ = fs::remove_dir_all(bundle.root());
    }
    (report, wrong)
}

/// Whether there is a container: what a kill after the last step that matters leaves.
fn is_whole(bundle: &Bundle) -> bool {
    let state = bundle.call(["state", &bundle.id]);
    let status = serde_json::from_str(&state.stdout).unwrap_or(Value::Null)["status"].clone();
    status == "created" || status == "running"
}

/// Tries every point at which a command can be killed.
fn sweep(command: &str, mode: &str) {
    let count = if mode.starts_with("tree-") { "tree-count" } else { "count" };
    let (whole, wrong) = point(command, count, 0);
    assert!(wrong.is_empty(), "{command}, not disturbed, leaves: {wrong:?}");
    assert!(whole.calls > 10, "{command} makes {} calls", whole.calls);
    let wrong = check(&format!("{command}, {mode}"), whole.calls, 1, step(), |at| {
        let (report, wrong) = point(command, mode, at);
        (report.call, wrong)
    });
    assert!(wrong.is_empty(), "{wrong}");
}

fn step() -> u64 {
    std::env::var("FAULT_STEP").map_or(1, |step| step.parse().expect("a number in FAULT_STEP"))
}

/// Tries the points on two threads and prints a table of those where something was wrong; the table if there was one.
fn check(what: &str, calls: u64, first: u64, step: u64, point: impl Fn(u64) -> (i64, Vec<String>) + Sync) -> String {
    let next = AtomicU64::new(first);
    let tried = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(step, Ordering::Relaxed);
                    if at > calls {
                        return;
                    }
                    let (call, wrong) = point(at);
                    tried.fetch_add(1, Ordering::Relaxed);
                    if !wrong.is_empty() {
                        found.lock().expect("no panic under the lock").push((at, call, wrong));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no panic under the lock");
    found.sort_unstable();
    let tried = tried.into_inner();
    let mut table = format!("{what}: {calls} calls, {tried} points tried, {} left something\n", found.len());
    for (at, call, wrong) in &found {
        let _ = writeln!(table, "  at {at:4} (call {call:3}): {}", wrong.join("; "));
    }
    eprint!("{table}");
    if found.is_empty() { String::new() } else { table }
}
