//! What is left when a command is killed, when one of its system calls fails, when the ground moves under it, and when another
//! command is called, at each of its system calls in turn.
//!
//! A plain run tries some of the points, others each time; FAULT_STEP=1 (`make sweeps`) tries all. Either prints one table.

mod confinement;
mod driver;
mod failed;
pub mod ftkill;
mod killed;
mod masked;
pub mod overmount;
mod rivals;
mod scene;
mod swapped;
pub mod table;

use crate::bundle::{Bundle, find_program};
use crate::case;
use crate::case::Case;
use crate::hostdelta::CaseGroup;
use driver::Order;
pub use driver::Report;
use nix::libc;
use std::fs;
use std::process::Command;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    let tracer = vec![
        case!(the_tracer_makes_a_call_fail),
        case!(the_tracer_runs_a_command_before_a_call),
        case!(the_tracer_counts_the_same_calls_as_strace),
        case!(the_tracer_exchanges_names_and_changes_them_back),
        case!(the_tracer_interrupts_every_other_time),
    ];
    [tracer, killed::cases(), failed::cases(), swapped::cases(), masked::cases(), rivals::cases()].into_iter().flatten().collect()
}

/// A command that takes longer hangs. The emulator is ten times as slow.
fn hangs() -> Duration {
    Duration::from_secs(if crate::stage::vm() { 50 } else { 5 })
}

/// System calls that a command makes, with those of all processes that it starts, a payload's excepted.
pub fn count(command: &str) -> u64 {
    let bundle = if command == "run" { Bundle::new() } else { Bundle::new().args(["sleep", "1000"]) };
    let group = CaseGroup::new(&bundle);
    bundle.write();
    if command != "create" && command != "run" {
        let container = bundle.create();
        // Of one that waits, `list` asks as much as of one that runs.
        if command != "start" && command != "list" {
            container.start();
        }
        if command == "delete" {
            container.kill("KILL");
            crate::bundle::eventually("stopped", || container.status() == "stopped");
        }
    }
    let program: &[&str] = if command == "exec" { &["true"] } else { &[] };
    let id = Some(bundle.id.as_str()).filter(|_| command != "list");
    let line = bundle.command(command.split(' ').chain(id).chain(program.iter().copied()));
    let words = words(&line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    trace(&bundle, &group, "tree-count", 0, &words).calls
}

/// The words of a command that has not been started.
pub fn words(command: &Command) -> Vec<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

pub fn trace(bundle: &Bundle, group: &CaseGroup, mode: &str, at: u64, command: &[&str]) -> Report {
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    let order = Order { mode, at, command: &command, program: None, own: false, then: None, limit: 2 * crate::bundle::limit() };
    driver::trace(bundle, group.path(), &order).unwrap_or_else(|| panic!("{command:?} hangs at {at}"))
}

fn the_tracer_exchanges_names_and_changes_them_back() {
    let bundle = Bundle::new();
    let group = CaseGroup::new(&bundle);
    for name in ["a", "b"] {
        fs::write(bundle.dir().join(name), name).expect("write a file");
    }
    let whole = trace(&bundle, &group, "count", 0, &["busybox", "cat", "a"]);
    for (mode, expected) in [("swap", "b"), ("flip", "a")] {
        let report = trace(&bundle, &group, &format!("{mode}=a:b"), 1, &["busybox", "cat", "a"]);
        assert_eq!((report.place, report.stdout.as_str()), (Some(1), expected), "{mode}");
        assert_eq!(fs::read_to_string(bundle.dir().join("a")).expect("read a file"), expected);
        if mode == "swap" {
            trace(&bundle, &group, "swap=a:b", 1, &["busybox", "true"]);
        }
    }
    // At one place it is the open that sees the other name.
    assert!((1..=whole.calls).any(|at| trace(&bundle, &group, "flip=a:b", at, &["busybox", "cat", "a"]).stdout == "b"));
}

fn the_tracer_interrupts_every_other_time() {
    let bundle = Bundle::new();
    let group = CaseGroup::new(&bundle);
    let report = trace(&bundle, &group, "storm", 1, &["busybox", "cat", "absent"]);
    // It does not go back to what was interrupted.
    assert!(report.call >= 0 && report.printed.contains("Interrupted system call"), "{report:?}");
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
