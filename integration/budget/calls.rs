//! System calls, those of the container's first process before its program among them.

use super::{Ceiling, OURS};
use crate::case;
use crate::case::Case;
use crate::faults::count;

// A debug build makes one more for each descriptor that it closes; how often a process waits for the other differs by one or two.
const CREATE: Ceiling = Ceiling { debug: 356, release: 330 };
const RUN: Ceiling = Ceiling { debug: 408, release: 370 };
const START: Ceiling = Ceiling { debug: 38, release: 36 };
const DELETE: Ceiling = Ceiling { debug: 43, release: 38 };
const FORCED_DELETE: Ceiling = Ceiling { debug: 52, release: 48 };
const STATE: Ceiling = Ceiling { debug: 24, release: 24 };
const KILL: Ceiling = Ceiling { debug: 21, release: 21 };
// Of one container that waits for `start`: nine calls for each more.
const LIST: Ceiling = Ceiling { debug: 40, release: 35 };
const EXEC: Ceiling = Ceiling { debug: 170, release: 158 };

pub fn cases() -> Vec<Case> {
    vec![
        case!(create_keeps_its_budget).ours(OURS),
        case!(run_keeps_its_budget).ours(OURS),
        case!(start_keeps_its_budget).ours(OURS),
        case!(state_keeps_its_budget).ours(OURS),
        case!(kill_keeps_its_budget).ours(OURS),
        case!(list_keeps_its_budget).ours(OURS),
        case!(exec_keeps_its_budget).ours(OURS),
        case!(delete_keeps_its_budget).ours(OURS),
        case!(forced_delete_keeps_its_budget).ours(OURS),
    ]
}

#[track_caller]
fn within(command: &str, ceiling: Ceiling) {
    // The least of three: beside other tests a few more come now and then, of waits and of what is tried in another way then.
    let least = (0..3).map(|_| count(command)).min().unwrap_or(u64::MAX);
    ceiling.holds(&format!("system calls of {command}"), least, 10);
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
    within("list", LIST);
}

fn exec_keeps_its_budget() {
    within("exec", EXEC);
}

fn delete_keeps_its_budget() {
    within("delete", DELETE);
}

fn forced_delete_keeps_its_budget() {
    within("delete --force", FORCED_DELETE);
}
