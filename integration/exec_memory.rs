//! The process that `exec` brings in works in the runtime's memory until it executes the program: for whom, and what becomes of
//! the one when the other is killed.

use crate::bundle::{Bundle, find_program};
use crate::case;
use crate::case::Case;
use crate::exec::sleeper;
use crate::faults;
use crate::hostdelta::CaseGroup;
use std::fs;
use std::process::{Command, Stdio};

/// The status that a shell shows of what was killed.
const KILLED: i64 = 137;

pub fn cases() -> Vec<Case> {
    const OURS: &str = "their processes have memory of their own";
    vec![
        case!(memory_is_lent_where_nobody_may_trace).ours(OURS),
        case!(a_runtime_that_is_killed_runs_no_program).ours(OURS),
        case!(an_end_before_the_program_is_no_end_of_the_program).ours(OURS),
    ]
}

/// The flags of the clones that `exec` makes.
fn clones(bundle: &Bundle, flags: &[&str]) -> String {
    let command = bundle.command(["exec"].iter().chain(flags).chain(&[bundle.id.as_str(), "true"]));
    let log = bundle.home.join("clones.strace");
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--trace=clone3", "--output"]).arg(&log);
    strace.arg(command.get_program()).args(command.get_args()).current_dir(bundle.dir()).stdin(Stdio::null());
    assert_eq!(bundle.finish(strace).status, 0, "{flags:?}");
    fs::read_to_string(log).expect("read strace's log")
}

fn memory_is_lent_where_nobody_may_trace() {
    assert!(find_program("strace").is_some(), "strace is not here (package strace)");
    let may_trace = |bundle: Bundle| bundle.capabilities(&["CAP_KILL", "CAP_SYS_PTRACE"]);
    let filtered = |bundle: Bundle| bundle.set("/linux/seccomp", serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    for (bundle, flags, lent) in [
        (sleeper(), &[][..], true),
        (filtered(sleeper()), &[], true),
        (sleeper(), &["--user", "1000:1000"], true),
        (sleeper(), &["--detach"], true),
        (may_trace(sleeper()), &[], false),
        (sleeper().namespace("time"), &[], false),
    ] {
        bundle.detach();
        let clones = clones(&bundle, flags);
        assert_eq!(clones.contains("CLONE_VM|") && clones.contains("CLONE_VFORK"), lent, "{flags:?}: {clones}");
    }
}

/// At each call of the new process the runtime is killed, which stands still then: what was half made must not run.
fn a_runtime_that_is_killed_runs_no_program() {
    let bundle = sleeper();
    let (group, container) = (CaseGroup::new(&bundle), bundle.detach());
    let kill = "parent=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$FTKILL_PID/status); \
                case $(cat /proc/$parent/comm) in onggi) kill -KILL $parent;; esac";
    let ran = bundle.rootfs().join("tmp/ran");
    let words = faults::words(&bundle.command(["exec", &bundle.id, "touch", "/tmp/ran"]));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let calls = faults::trace(&bundle, &group, "tree-count", 0, &words).calls;
    fs::remove_file(&ran).expect("it runs when nobody is killed");
    let (mut killed, mut late) = (0, Vec::new());
    for at in (1..=calls).rev().step_by(7) {
        let report = faults::trace(&bundle, &group, &format!("tree-run={kill}"), at, &words);
        if report.status != KILLED {
            assert_eq!((report.status, ran.exists()), (0, true), "at {at}: {report:?}");
            fs::remove_file(&ran).expect("remove a file");
            continue;
        }
        killed += 1;
        // Nobody waits for it any more.
        std::thread::sleep(std::time::Duration::from_millis(100));
        if fs::remove_file(&ran).is_ok() {
            late.push(at);
        }
    }
    // Once it is about to execute the program nothing holds it back.
    assert!(killed > 5 && late.len() <= 1, "{killed} of {calls}, the program runs after {late:?}");
    assert_eq!(container.status(), "running");
}

/// The new process is killed at each of its calls. The runtime, which has not watched it, says so.
fn an_end_before_the_program_is_no_end_of_the_program() {
    let bundle = sleeper();
    let (group, container) = (CaseGroup::new(&bundle), bundle.detach());
    let words = faults::words(&bundle.command(["exec", &bundle.id, "true"]));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let calls = faults::trace(&bundle, &group, "tree-count", 0, &words).calls;
    let mut told = 0;
    for at in (1..=calls).rev().step_by(5) {
        let report = faults::trace(&bundle, &group, "tree-kill", at, &words);
        // It was the runtime itself.
        if report.status == KILLED {
            continue;
        }
        let wanted = "exec failed: unable to start container process: container init died: killed by signal 9";
        assert!(report.status == 255 && report.printed.contains(wanted), "at {at}: {report:?}");
        told += 1;
    }
    assert!(told > 10, "{told} of {calls}");
    assert_eq!(container.status(), "running");
}
