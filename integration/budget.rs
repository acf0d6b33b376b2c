//! What the common commands cost: processes, messages, system calls, memory of an init that waits. A debug build makes a
//! call more for each descriptor that it closes, so the release build is well below these figures. A ceiling is a little above what is counted today, so
//! that a change which costs something is seen; it is lowered when a change saves something.

use crate::bundle::{Bundle, find_program};
use crate::case;
use crate::case::Case;
use crate::faults::count;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

const CREATE: u64 = 378;
const RUN: u64 = 424;
const START: u64 = 46;
const DELETE: u64 = 43;
const FORCED_DELETE: u64 = 60;
const STATE: u64 = 27;
const KILL: u64 = 30;
/// One container: the next adds ten.
const LIST: u64 = 34;
/// With those of the program that is executed, some fifteen.
const EXEC: u64 = 215;

const OURS: &str = "the budget is ours";

pub fn cases() -> Vec<Case> {
    vec![
        case!(create_makes_two_processes_and_one_message_goes_up).ours(OURS),
        case!(create_keeps_its_budget).ours(OURS),
        case!(run_keeps_its_budget).ours(OURS),
        case!(start_keeps_its_budget).ours(OURS),
        case!(state_keeps_its_budget).ours(OURS),
        case!(kill_keeps_its_budget).ours(OURS),
        case!(list_keeps_its_budget).ours(OURS),
        case!(exec_keeps_its_budget).ours(OURS),
        case!(delete_keeps_its_budget).ours(OURS),
        case!(forced_delete_keeps_its_budget).ours(OURS),
        case!(an_init_that_waits_is_small).ours(OURS),
    ]
}

#[track_caller]
fn within(command: &str, ceiling: u64) {
    let calls = count(command);
    eprintln!("{command}: {calls} system calls of {ceiling}");
    assert!(calls > 10 && calls <= ceiling, "{command}: {calls} system calls, the ceiling is {ceiling}");
}

fn create_keeps_its_budget() {
    within("create", CREATE);
}

fn run_keeps_its_budget() {
    within("run", RUN);
}

fn start_keeps_its_budget() {
    within("start", START);
}

fn state_keeps_its_budget() {
    within("state", STATE);
}

fn kill_keeps_its_budget() {
    within("kill", KILL);
}

fn list_keeps_its_budget() {
    running_within(&["list"], LIST);
}

fn exec_keeps_its_budget() {
    running_within(&["exec", "ID", "true"], EXEC);
}

/// With a container that runs.
fn running_within(command: &[&str], ceiling: u64) {
    assert!(find_program("strace").is_some(), "strace is not here (package strace)");
    let bundle = Bundle::new().args(["sleep", "1000"]);
    bundle.write();
    bundle.create().start();
    let log = bundle.home.join("strace");
    let words = command.iter().map(|word| if *word == "ID" { bundle.id.as_str() } else { word });
    let line = bundle.command(words);
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--signal=none", "--output"]).arg(&log);
    strace.arg(line.get_program()).args(line.get_args());
    assert_eq!(bundle.finish(strace).status, 0);
    let text = fs::read_to_string(log).expect("read strace's log");
    // A call that another process's came in between of has two lines.
    let calls = text.lines().filter(|line| !line.contains("+++") && !line.contains(" resumed>")).count();
    let calls = u64::try_from(calls).expect("few calls");
    eprintln!("{command:?}: {calls} system calls of {ceiling}");
    assert!(calls > 10 && calls <= ceiling, "{command:?}: {calls} system calls, the ceiling is {ceiling}");
}

fn delete_keeps_its_budget() {
    within("delete", DELETE);
}

fn forced_delete_keeps_its_budget() {
    within("delete --force", FORCED_DELETE);
}

/// KiB of a debug build, whose code is three times as large: its pages are the file's, not the container's.
fn an_init_that_waits_is_small() {
    let bundle = Bundle::new().args(["sleep", "1000"]);
    bundle.write();
    let container = bundle.create();
    let maps = fs::read_to_string(format!("/proc/{}/smaps", container.pid)).expect("read the mappings");
    let sum = |field: &str| -> u64 {
        maps.lines().filter_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse::<u64>().ok()).sum()
    };
    let (resident, own) = (sum("Rss:"), sum("Anonymous:"));
    eprintln!("resident {resident} KiB, of its own {own} KiB");
    assert!(resident < 1800, "{resident} KiB");
    assert!((10..250).contains(&own), "{own} KiB");
}

fn create_makes_two_processes_and_one_message_goes_up() {
    assert!(find_program("strace").is_some(), "strace is not here (package strace)");
    let bundle = Bundle::new().args(["sleep", "1000"]);
    bundle.write();
    let log = bundle.home.join("strace");
    let create = bundle.command(["create", &bundle.id]);
    let mut strace = Command::new("strace");
    // Not through the file system, so that a number of another process is never taken for a descriptor of ours.
    strace.args(["--follow-forks", "--decode-fds=socket", "--trace=write,writev,sendto,sendmsg,sendmmsg", "--output"]);
    strace.arg(&log).arg(create.get_program()).args(create.get_args()).current_dir(bundle.dir());
    let mut child = strace.stdout(std::process::Stdio::null()).spawn().expect("start strace");
    // It stays with the container's init, which waits; so the end of `create` is told by the state.
    crate::bundle::eventually("created", || bundle.root().join(&bundle.id).join("state.json").exists());
    let output = bundle.call(["delete", "--force", &bundle.id]);
    assert_eq!(output.status, 0, "{output:?}");
    crate::bundle::within(&mut child, std::time::Duration::from_secs(10)).expect("strace does not end");
    let text = fs::read_to_string(log).expect("read strace's log");
    let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let processes: BTreeSet<&str> = lines.iter().map(|(pid, _)| *pid).collect();
    assert_eq!(processes.len(), 2, "{text}");
    let parent = lines.first().expect("a line").0;
    let is_message = |call: &str| call.split(['(', ',']).nth(1).is_some_and(|fd| fd.contains("UNIX") || fd.contains("socket"));
    let up = lines.iter().filter(|(pid, call)| *pid != parent && is_message(call.trim_start())).count();
    let down = lines.iter().filter(|(pid, call)| *pid == parent && is_message(call.trim_start())).count();
    assert_eq!((up, down), (1, 1), "{text}");
}
