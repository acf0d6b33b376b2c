//! Two commands on one container (F-08): at each system call of the first the second begins. It comes to its end there, or
//! waits for a lock that the first holds, which then goes on. So each order of two commands is tried in which one interrupts
//! the other once: what a model of the lock would be checked by, on the commands themselves.
//!
//! Neither hangs, dies of a signal or says more than one line; of two that cannot both have done it one has; nothing is left.

use super::scene::{Scene, To, Who, confined};
use super::table::{Sweep, Tried};
use crate::case::Case;
use std::fs;
use std::time::Duration;

/// Two commands, and where they find the container.
struct Pair {
    to: To,
    first: &'static [&'static str],
    second: &'static [&'static str],
    /// They do the same thing, which can be done once.
    one_winner: bool,
    step: u64,
}

const CREATE: &[&str] = &["create", "ID"];
const START: &[&str] = &["start", "ID"];
const KILL: &[&str] = &["kill", "ID", "KILL"];
const DELETE: &[&str] = &["delete", "ID"];
const FORCE: &[&str] = &["delete", "--force", "ID"];
const EXEC: &[&str] = &["exec", "ID", "true"];
const STATE: &[&str] = &["state", "ID"];
const PAUSE: &[&str] = &["pause", "ID"];

const PAIRS: [Pair; 19] = [
    Pair { to: To::Nothing, first: CREATE, second: CREATE, one_winner: true, step: 60 },
    Pair { to: To::Nothing, first: CREATE, second: FORCE, one_winner: false, step: 60 },
    Pair { to: To::Nothing, first: CREATE, second: STATE, one_winner: false, step: 60 },
    Pair { to: To::Nothing, first: CREATE, second: START, one_winner: false, step: 60 },
    Pair { to: To::Created, first: START, second: START, one_winner: true, step: 10 },
    Pair { to: To::Created, first: START, second: FORCE, one_winner: false, step: 10 },
    Pair { to: To::Created, first: START, second: KILL, one_winner: false, step: 10 },
    Pair { to: To::Created, first: FORCE, second: START, one_winner: false, step: 20 },
    Pair { to: To::Running, first: KILL, second: FORCE, one_winner: false, step: 10 },
    Pair { to: To::Running, first: FORCE, second: FORCE, one_winner: false, step: 20 },
    Pair { to: To::Running, first: FORCE, second: KILL, one_winner: false, step: 20 },
    Pair { to: To::Running, first: FORCE, second: EXEC, one_winner: false, step: 20 },
    Pair { to: To::Running, first: FORCE, second: CREATE, one_winner: false, step: 20 },
    Pair { to: To::Running, first: EXEC, second: FORCE, one_winner: false, step: 60 },
    Pair { to: To::Running, first: EXEC, second: KILL, one_winner: false, step: 60 },
    Pair { to: To::Running, first: PAUSE, second: FORCE, one_winner: false, step: 20 },
    Pair { to: To::Running, first: PAUSE, second: PAUSE, one_winner: false, step: 20 },
    Pair { to: To::Stopped, first: DELETE, second: DELETE, one_winner: true, step: 10 },
    Pair { to: To::Stopped, first: DELETE, second: CREATE, one_winner: false, step: 10 },
];

pub fn cases() -> Vec<Case> {
    let case = |pair: &'static Pair| {
        let words = |words: &[&str]| words.join("_").replace("_ID", "").replace("--", "").replace("_KILL", "");
        let name = format!("{}_with_{}_at_any_call_both_end_well", words(pair.first), words(pair.second));
        Case::of(module_path!(), &name, move || sweep(pair)).ours("others lose states and die of signals")
    };
    PAIRS.iter().map(case).collect()
}

fn sweep(pair: &Pair) {
    let (whole, calls) = point(pair, "count", 0);
    assert!(whole.wrong.is_empty(), "alone: {:?}", whole.wrong);
    let sweep = Sweep {
        command: pair.first.join(" "),
        who: "root",
        mode: format!("{} beside it", pair.second.join(" ")),
        calls,
        first: 1,
        step: pair.step,
    };
    let wrong = sweep.check(|at| point(pair, "run=sh rival", at).0);
    assert!(wrong.is_empty(), "{wrong}");
}

/// One try. With `count` the first command is alone.
fn point(pair: &Pair, mode: &str, at: u64) -> (Tried, u64) {
    let scene = Scene::new(Who::Root, confined(Who::Root).args(["sleep", "1000"]));
    scene.bring(pair.to);
    lie_in_wait(&scene, pair.second);
    let mut wrong = Vec::new();
    let Some(report) = scene.trace(mode, at, pair.first, None, Duration::from_secs(10)) else {
        let hanging = Tried::hanging(at);
        scene.mop_up(&hanging.wrong);
        return (hanging, 0);
    };
    let mut statuses = vec![(pair.first, report.status, report.printed.clone())];
    if report.place.is_some() {
        let Some((status, printed)) = end_of_rival(&scene) else {
            let hanging = Tried::hanging(at);
            scene.mop_up(&hanging.wrong);
            return (hanging, 0);
        };
        statuses.push((pair.second, status, printed));
    }
    for (words, status, printed) in &statuses {
        // What a command that is killed with its container says is the container's status.
        let program = words[0] == "exec" && *status == 137;
        if (*status < 0 || *status > 1) && !program && !(words[0] == "exec" && *status == 255) {
            wrong.push(format!("{words:?} ends with {status}: {}", printed.trim()));
        }
        if *status != 0 && !program && printed.trim().lines().count() != 1 || printed.contains("panicked") {
            wrong.push(format!("{words:?} ends with {status} and says {printed:?}"));
        }
    }
    let won = statuses.iter().filter(|(_, status, _)| *status == 0).count();
    if report.place.is_none() && won != 1 {
        wrong.push(format!("alone it fails: {statuses:?}"));
    }
    if report.place.is_some() && pair.one_winner && won != 1 {
        wrong.push(format!("{won} of two have done it: {statuses:?}"));
    }
    if won == 0 {
        wrong.push(format!("none of two has done it: {statuses:?}"));
    }
    // A status is there or the container is not.
    let status = scene.status();
    if !["", "creating", "created", "running", "paused", "stopped"].contains(&status.as_str()) || status == "creating" {
        wrong.push(format!("its status is {status:?}"));
    }
    scene.clear(&mut wrong);
    (Tried { call: report.call, place: report.place, wrong, hangs: false }, report.calls)
}

/// Puts the second command into a script in the bundle, which begins it, gives it a moment to end, and lets the first go on.
fn lie_in_wait(scene: &Scene, words: &[&str]) {
    let quoted: Vec<String> = super::words(&scene.command(words)).iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        r#"exec </dev/null >/dev/null 2>&1
        ({} >rival.out 2>rival.err; echo $? >rival.new; mv rival.new rival.status) &
        n=0; while [ ! -e rival.status ] && [ $n -lt 10 ]; do sleep 0.02; n=$((n+1)); done"#,
        quoted.join(" ")
    );
    fs::write(scene.bundle.dir().join("rival"), script).expect("write a script");
}

/// Its status and what it said; `None` if it does not come to an end.
fn end_of_rival(scene: &Scene) -> Option<(i64, String)> {
    let dir = scene.bundle.dir();
    let ended = || fs::read_to_string(dir.join("rival.status")).ok();
    if !scene.within(Duration::from_secs(10), |_| ended().is_some()) {
        return None;
    }
    let status = ended()?.trim().parse().ok()?;
    Some((status, fs::read_to_string(dir.join("rival.err")).unwrap_or_default()))
}
