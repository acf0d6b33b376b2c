//! SIGKILL at every system call of every command (F-01, F-02, F-03): of the command alone, and of whichever process of its
//! tree makes the call. `delete --force` then leaves nothing; a command that was cut short can be said again.

use super::scene::{Scene, To, Who, confined};
use super::table::{Sweep, Tried};
use crate::bundle::{Bundle, Output};
use crate::case::{Case, name_of_runtime};
use serde_json::json;
use std::fs;
use std::time::Duration;

/// Leaving something behind at some points is the established runtimes' known state, not a fault of the test.
const LEAKS: &str = "leaves a cgroup, a process or an unreadable state at some points";

/// A command that is killed.
#[derive(Clone, Copy)]
struct Victim {
    /// Of the case.
    name: &'static str,
    words: &'static [&'static str],
    to: To,
    /// What the container's status has to become when the command is said again.
    again: Option<&'static str>,
    /// Every how many calls one is tried when time is short.
    step: u64,
    terminal: bool,
}

const COMMAND: Victim = Victim { name: "", words: &[], to: To::Running, again: None, step: 1, terminal: false };
const CONSOLE: &str = "--console-socket=HOME/console";

const VICTIMS: [Victim; 16] = [
    Victim { name: "create", words: &["create", "ID"], to: To::Nothing, step: 5, ..COMMAND },
    Victim {
        name: "create_with_a_terminal",
        words: &["create", CONSOLE, "ID"],
        to: To::Nothing,
        step: 20,
        terminal: true,
        ..COMMAND
    },
    Victim { name: "run", words: &["run", "ID"], to: To::Nothing, step: 7, ..COMMAND },
    Victim { name: "run_detached", words: &["run", "--detach", "ID"], to: To::Nothing, step: 20, ..COMMAND },
    Victim { name: "start", words: &["start", "ID"], to: To::Created, again: Some("running"), step: 2, ..COMMAND },
    Victim { name: "kill", words: &["kill", "ID", "KILL"], again: Some("stopped"), step: 2, ..COMMAND },
    Victim { name: "delete", words: &["delete", "ID"], to: To::Stopped, again: Some(""), step: 2, ..COMMAND },
    Victim { name: "forced_delete", words: &["delete", "--force", "ID"], again: Some(""), step: 2, ..COMMAND },
    Victim { name: "exec", words: &["exec", "ID", "true"], again: Some("running"), step: 10, ..COMMAND },
    Victim {
        name: "exec_detached",
        words: &["exec", "--detach", "ID", "sleep", "1000"],
        again: Some("running"),
        step: 10,
        ..COMMAND
    },
    Victim {
        name: "exec_with_a_terminal",
        words: &["exec", "--tty", "--detach", CONSOLE, "ID", "sleep", "1000"],
        again: Some("running"),
        step: 20,
        ..COMMAND
    },
    Victim { name: "update", words: &["update", "--resources=HOME/limits", "ID"], again: Some("running"), step: 3, ..COMMAND },
    Victim { name: "pause", words: &["pause", "ID"], again: Some("paused"), step: 2, ..COMMAND },
    Victim { name: "resume", words: &["resume", "ID"], to: To::Paused, again: Some("running"), step: 2, ..COMMAND },
    Victim { name: "checkpoint", words: &["checkpoint", "--image-path=HOME/image", "ID"], step: 10, ..COMMAND },
    Victim { name: "restore", words: &["restore", "--detach", "--image-path=HOME/image", "ID"], step: 20, ..COMMAND },
];

/// How long a process may outlive the command that was making its container.
const SURVIVES: Duration = Duration::from_secs(5);

/// Values that the sweep of `update` gives, and finds written.
const LIMITS: (&str, &str) = ("cgroup.max.descendants", "77");

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for victim in VICTIMS {
        for who in [Who::Root, Who::User] {
            for tree in [false, true] {
                let criu = matches!(victim.name, "checkpoint" | "restore");
                // Of these a user's differ in nothing from those without.
                if who == Who::User && (victim.terminal || victim.name.contains('_') && victim.name != "forced_delete") {
                    continue;
                }
                // CRIU makes thousands of calls of its own, and asks for root; what it does when killed is its affair.
                if criu && (tree || who == Who::User) {
                    continue;
                }
                let what = if tree { "with_any_process_killed" } else { "killed" };
                let by = if who == Who::User { "_by_a_user" } else { "" };
                let name = format!("{}{by}_{what}_at_any_call_leaves_nothing", victim.name);
                let case = Case::of(module_path!(), &name, move || sweep(victim, who, tree));
                let case = case.ours(LEAKS);
                cases.push(match crate::checkpoint::CANNOT.as_ref().filter(|_| criu) {
                    Some(reason) => case.without(reason),
                    None => case,
                });
            }
        }
    }
    cases.push(crate::case!(init_killed_between_start_and_its_program).ours("words its errors otherwise"));
    cases
}

fn sweep(victim: Victim, who: Who, tree: bool) {
    let (count, mode) = if tree { ("tree-count", "tree-kill") } else { ("count", "kill") };
    let (whole, calls) = point(victim, who, count, 0);
    assert!(whole.wrong.is_empty(), "{}, not disturbed: {:?}", victim.name, whole.wrong);
    assert!(calls > 10, "{} makes {calls} calls", victim.name);
    let mode_name = if tree { "SIGKILL of any process" } else { "SIGKILL of the command" };
    let words: Vec<&str> = victim.words.iter().filter(|word| !word.contains("HOME")).copied().collect();
    let name = format!("{}{}", words.join(" "), if victim.terminal { " (terminal)" } else { "" });
    let sweep = Sweep {
        command: name,
        who: who.name(),
        mode: mode_name.into(),
        calls,
        first: 1,
        step: victim.step * if who == Who::User { 2 } else { 1 },
    };
    let wrong = sweep.check(|at| point(victim, who, mode, at).0);
    assert!(wrong.is_empty(), "{wrong}");
}

fn bundle(victim: Victim, who: Who) -> Bundle {
    let bundle = confined(who).set("/process/terminal", victim.terminal);
    fs::write(bundle.home.join("limits"), json!({"unified": {LIMITS.0: LIMITS.1}}).to_string()).expect("write the limits");
    if victim.words[0] == "run" && victim.words.len() == 2 {
        return bundle.args(["true"]);
    }
    if matches!(victim.words[0], "checkpoint" | "restore") {
        return Bundle::new().args(["sleep", "1000"]);
    }
    bundle.args(["sleep", "1000"])
}

/// One try: the container brought to where the command applies, the command traced, and what it left.
fn point(victim: Victim, who: Who, mode: &str, at: u64) -> (Tried, u64) {
    let scene = Scene::new(who, bundle(victim, who));
    scene.bring(victim.to);
    if victim.words[0] == "restore" {
        scene.ok(&["checkpoint", "--image-path=HOME/image", "ID"]);
    }
    let mut wrong = Vec::new();
    let Some(report) = scene.trace(mode, at, victim.words, None, Duration::from_secs(30)) else {
        let hanging = Tried::hanging(at);
        scene.mop_up(&hanging.wrong);
        return (hanging, 0);
    };
    if report.place.is_none() && report.status != 0 {
        wrong.push(format!("undisturbed it ends with {}: {}", report.status, report.printed.trim()));
    }
    if report.printed.contains("panicked") {
        wrong.push(format!("panics: {}", report.printed.trim()));
    }
    match victim.words[0] {
        "create" | "run" | "restore" => survivors(&scene, &mut wrong),
        "checkpoint" => {}
        // Init has executed its program, or must within the second command: nothing else of the runtime's is left.
        _ if victim.to != To::Created => {
            let ours = name_of_runtime();
            if !scene.soon(|scene| !scene.before.processes().iter().any(|line| line.contains(&ours))) {
                wrong.push(format!("alive after a second: {:?}", scene.before.processes()));
            }
        }
        _ => {}
    }
    if let Some(status) = victim.again {
        again(&scene, victim, status, &mut wrong);
    }
    scene.clear(&mut wrong);
    (Tried { call: report.call, place: report.place, wrong, hangs: false }, report.calls)
}

/// Without a state that says so no process lives on. It may have to come out of a system call first, and setting up a network
/// waits for those that others have left to be taken down: on a busy machine that is more than a second.
fn survivors(scene: &Scene, wrong: &mut Vec<String>) {
    let is_whole = |scene: &Scene| matches!(scene.status().as_str(), "created" | "running");
    let gone = |scene: &Scene| !scene.before.has_processes();
    if scene.before.has_processes() && !is_whole(scene) && !scene.within(SURVIVES, gone) {
        // It may have become whole meanwhile.
        if !is_whole(scene) {
            wrong.push(format!("alive after {SURVIVES:?}, and no state says so: {:?}", scene.before.processes()));
        }
    }
}

/// The command once more: it does its work, or says that it is done.
fn again(scene: &Scene, victim: Victim, status: &str, wrong: &mut Vec<String>) {
    let output: Output = scene.call(victim.words);
    let done = |output: &Output| {
        let said = ["already running", "not running", "not paused", "does not exist", "has stopped"];
        output.status == 0 || said.iter().any(|words| output.stderr.contains(words))
    };
    if !done(&output) {
        wrong.push(format!("said again: {} {}", output.status, output.stderr.trim()));
    }
    if victim.words[0] == "exec" && output.status != 0 {
        wrong.push(format!("a later exec: {} {}", output.status, output.stderr.trim()));
    }
    if !scene.soon(|scene| scene.status() == status) {
        wrong.push(format!("said again, its status is {:?}, not {status:?}", scene.status()));
    }
    if victim.words[0] == "update" {
        let value = scene.limit(LIMITS.0);
        if value.trim() != LIMITS.1 {
            wrong.push(format!("said again, {} is {value:?}", LIMITS.0));
        }
    }
}

/// F-03: init is killed at each of its calls from where it waits to its program's execution. `start` ends
/// at once, and the status is `stopped`. It says so if init died before it was let go; after that nobody but its parent can tell
/// its end from that of a program.
fn init_killed_between_start_and_its_program() {
    let victim = Victim { name: "start", words: &["start", "ID"], ..COMMAND };
    let whole = Scene::new(Who::Root, bundle(victim, Who::Root));
    let second = super::hangs();
    let counted = whole.trace("tree-count", 0, &["create", "ID"], Some(&["start", "ID"]), second).expect("an end");
    let ended = counted.ended.expect("an end of create");
    let sweep = Sweep {
        command: "start ID".into(),
        who: "root",
        mode: "SIGKILL of init".into(),
        calls: counted.calls,
        first: ended + 1,
        step: 1,
    };
    let wrong = sweep.check(|at| {
        let scene = Scene::new(Who::Root, bundle(victim, Who::Root));
        let mut wrong = Vec::new();
        let report = scene.trace("tree-kill", at, &["create", "ID"], Some(&["start", "ID"]), second);
        let Some(report) = report else {
            let hanging = Tried::hanging(at);
            scene.mop_up(&hanging.wrong);
            return hanging;
        };
        // `create` may make a call more than when they were counted, for a wait, and be the one that was killed then; and init does
        // its last call before the wait beside the end of `create`, which may then have this number.
        let of_init = report.place.is_some() && report.ended.is_some() && report.call != libc::SYS_exit_group;
        if of_init && report.status != 0 && report.printed.trim().is_empty() {
            wrong.push("fails and says nothing".into());
        }
        if of_init && scene.status() != "stopped" {
            wrong.push(format!("its status is {:?}", scene.status()));
        }
        scene.clear(&mut wrong);
        Tried { call: report.call, place: report.place, wrong, hangs: false }
    });
    assert!(wrong.is_empty(), "{wrong}");
}
