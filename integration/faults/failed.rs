//! A failing system call at every place of the set-up (F-04, F-05), for eight errnos: the command either fails and says why,
//! leaving nothing even before any `delete`, or the program reports exactly the confinement of a good run. Nothing hangs for
//! five seconds, nothing panics.

use super::confinement::{differences, normal};
use super::driver::Report;
use super::scene::{Scene, To, Who, confined};
use super::table::{Sweep, Tried};
use crate::case::Case;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LEAKS: &str = "leaves a cgroup, a process or an unreadable state at some points";

const ERRNOS: [(&str, i32); 8] = [
    ("EPERM", libc::EPERM),
    ("EIO", libc::EIO),
    ("ENOSPC", libc::ENOSPC),
    ("ENOMEM", libc::ENOMEM),
    ("EMFILE", libc::EMFILE),
    ("ENOSYS", libc::ENOSYS),
    ("EAGAIN", libc::EAGAIN),
    ("EINTR", libc::EINTR),
];

/// What writes the report; the descriptor that the caller gave stays in sight.
const REPORT: [&str; 3] = ["sh", "-c", "exec /inside report 3>&1 >/out/report"];

#[derive(Clone, Copy)]
struct Subject {
    name: &'static str,
    words: &'static [&'static str],
    then: Option<&'static [&'static str]>,
    to: To,
    /// A failure is to leave what was there before the command, and not nothing.
    stays: bool,
    step: u64,
}

const CREATE: Subject = Subject { name: "create", words: &["create", "ID"], then: None, to: To::Nothing, stays: false, step: 40 };

const SUBJECTS: [Subject; 7] = [
    CREATE,
    Subject { name: "run", words: &["run", "ID"], step: 60, ..CREATE },
    Subject {
        name: "exec",
        words: &["exec", "ID", REPORT[0], REPORT[1], REPORT[2]],
        to: To::Running,
        stays: true,

        step: 60,
        ..CREATE
    },
    Subject { name: "start", words: &["start", "ID"], to: To::Created, stays: true, step: 6, ..CREATE },
    // Init's own calls after `start` has let it go on.
    Subject { name: "start_of_init", then: Some(&["start", "ID"]), stays: true, step: 1, ..CREATE },
    Subject { name: "delete", words: &["delete", "ID"], to: To::Stopped, stays: true, step: 10, ..CREATE },
    Subject { name: "forced_delete", words: &["delete", "--force", "ID"], to: To::Running, stays: true, step: 10, ..CREATE },
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for subject in SUBJECTS {
        for who in [Who::Root, Who::User] {
            // What a user does differently is in these.
            if who == Who::User && !matches!(subject.name, "create" | "exec" | "start" | "delete") {
                continue;
            }
            let by = if who == Who::User { "_by_a_user" } else { "" };
            let name = format!("{}{by}_with_any_call_failing_leaves_nothing_or_works", subject.name);
            cases.push(Case::of(module_path!(), &name, move || fails(subject, who)).ours(LEAKS));
        }
        let name = format!("{}_in_a_storm_of_interruptions_works", subject.name);
        cases.push(Case::of(module_path!(), &name, move || storm(subject)).ours("tests our words"));
        let name = format!("{}_stopped_and_continued_all_the_time_works", subject.name);
        cases.push(Case::of(module_path!(), &name, move || stopped_and_continued(subject)).ours("tests our words"));
    }
    let ended = "start_of_what_ends_at_once_in_a_storm_of_interruptions_works";
    cases.push(Case::of(module_path!(), ended, storm_over_what_ends_at_once).ours("tests our words"));
    cases
}

fn scene(subject: Subject, who: Who) -> Scene {
    let bundle = confined(who);
    let program = match subject.name {
        "exec" | "delete" | "forced_delete" => bundle.args(["sleep", "1000"]),
        _ => bundle.args(REPORT),
    };
    let scene = Scene::new(who, program);
    scene.bring(subject.to);
    scene
}

/// The program's report, once it is there.
fn report(scene: &Scene) -> Option<Result<Value, String>> {
    let text = fs::read_to_string(scene.bundle.home.join("out/report")).ok()?;
    Some(normal(&text, &scene.bundle.id))
}

/// A run to which nothing is done; how many calls it makes before a second command, and in all, and its report.
fn good(subject: Subject, who: Who) -> (u64, u64, Option<Value>) {
    let scene = scene(subject, who);
    // As many calls as those that an errno is for.
    let traced = scene.trace("tree-errno=0", 0, subject.words, subject.then, Duration::from_secs(30)).expect("an end");
    assert_eq!((traced.status, traced.printed.as_str()), (0, ""), "{} by {}", subject.name, who.name());
    if subject.name == "create" {
        scene.ok(&["start", "ID"]);
    }
    let mut wrong = Vec::new();
    let report = is_reporting(subject).then(|| wait_for_report(&scene, &mut wrong)).flatten();
    scene.clear(&mut wrong);
    assert!(wrong.is_empty(), "{} by {}, not disturbed: {wrong:?}", subject.name, who.name());
    (traced.ended.unwrap_or(0), traced.calls, report)
}

fn is_reporting(subject: Subject) -> bool {
    !matches!(subject.name, "delete" | "forced_delete")
}

fn wait_for_report(scene: &Scene, wrong: &mut Vec<String>) -> Option<Value> {
    let mut last = None;
    // It is written by a program that nobody waits for.
    let whole = scene.within(Duration::from_secs(10), |scene| {
        last = report(scene);
        last.as_ref().is_some_and(Result::is_ok)
    });
    match last {
        Some(Ok(report)) if whole => Some(report),
        other => {
            wrong.push(format!("no report of the program: {other:?}"));
            None
        }
    }
}

fn fails(subject: Subject, who: Who) {
    let (first, calls, good) = good(subject, who);
    let mut text = String::new();
    for (name, errno) in ERRNOS {
        let sweep = Sweep {
            command: if subject.then.is_some() { "start ID, in init".into() } else { shown(subject) },
            who: who.name(),
            mode: name.into(),
            calls,
            first: first + 1,
            step: subject.step * if who == Who::User { 2 } else { 1 },
        };
        let mode = format!("tree-errno={errno}");
        text += &sweep.check(|at| point(subject, who, &mode, at, good.as_ref()));
    }
    assert!(text.is_empty(), "{text}");
}

fn shown(subject: Subject) -> String {
    if subject.name == "exec" { "exec ID".into() } else { subject.words.join(" ") }
}

fn point(subject: Subject, who: Who, mode: &str, at: u64, good: Option<&Value>) -> Tried {
    let scene = scene(subject, who);
    let there = if subject.stays && subject.then.is_none() { Some(crate::hostdelta::Snapshot::of(&scene.bundle)) } else { None };
    let mut wrong = Vec::new();
    let Some(traced) = scene.trace(mode, at, subject.words, subject.then, super::hangs()) else {
        let hanging = Tried::hanging(at);
        scene.mop_up(&hanging.wrong);
        return hanging;
    };
    judge(&scene, subject, &traced, good, there.as_ref(), &mut wrong);
    scene.clear(&mut wrong);
    Tried { call: traced.call, place: traced.place, wrong, hangs: false }
}

fn judge(
    scene: &Scene,
    subject: Subject,
    traced: &Report,
    good: Option<&Value>,
    there: Option<&crate::hostdelta::Snapshot>,
    wrong: &mut Vec<String>,
) {
    if traced.printed.contains("panicked") {
        wrong.push(format!("panics: {}", traced.printed.trim()));
    }
    if traced.status != 0 {
        // A call that the C library makes before `main` ends in a signal.
        if traced.printed.trim().is_empty() && traced.status < 128 {
            wrong.push(format!("ends with {} and says nothing", traced.status));
        }
        match (subject.name, there) {
            ("exec", Some(there)) => wrong.extend(there.delta()),
            // What is left of a container whose program was to start, or that was to go, is known and can be deleted. So is
            // what the end of `run` leaves when it fails: the program has run by then.
            _ if subject.stays || matches!(report(scene), Some(Ok(_))) => {}
            _ => wrong.extend(scene.before.delta()),
        }
    } else if subject.name == "delete" || subject.name == "forced_delete" {
        wrong.extend(scene.before.delta());
    } else if subject.name == "create" {
        let start = scene.call(&["start", "ID"]);
        if start.status != 0 {
            wrong.push(format!("created, but does not start: {}", start.stderr.trim()));
        }
    }
    // Whatever the command says, a program that ran was confined.
    let ran = traced.status == 0 && is_reporting(subject);
    let seen = if ran { wait_for_report(scene, wrong) } else { report(scene).and_then(Result::ok) };
    if let (Some(good), Some(seen)) = (good, seen) {
        let documented = documented(scene.who, traced.call);
        let differences = differences(good, &seen).into_iter();
        let differences = differences.filter(|line| documented.is_none_or(|part| !line.starts_with(part)));
        wrong.extend(differences.map(|line| format!("weaker or other: {line}")));
    }
}

/// The part of the report that may be another when this call is refused, because README says what stands in for it then.
fn documented(who: Who, call: i64) -> Option<&'static str> {
    match call {
        // It cannot fail, and is not asked whether it has (umask(2)).
        libc::SYS_umask => Some("/status/Umask"),
        // No right to a cgroup: the container does without.
        libc::SYS_faccessat2 if who == Who::User => Some("/mounts"),
        // A kernel without keyrings has none to share.
        libc::SYS_keyctl => Some("/keyring"),
        // The host's node of the same device, bound.
        libc::SYS_mknodat => Some("/mounts"),
        // In a user namespace, clones of the host's, read-only where they cannot be mounted.
        libc::SYS_fsopen | libc::SYS_fsconfig | libc::SYS_fsmount if who == Who::User => Some("/mounts"),
        _ => None,
    }
}

/// F-05: every call that can be interrupted is, every other time.
fn storm(subject: Subject) {
    let (_, _, good) = good(subject, Who::Root);
    let scene = scene(subject, Who::Root);
    let mut wrong = Vec::new();
    let traced = scene.trace("tree-storm", 1, subject.words, subject.then, Duration::from_secs(10)).expect("an end");
    assert!(traced.place.is_some(), "nothing was interrupted: {traced:?}");
    assert_eq!((traced.status, traced.printed.as_str()), (0, ""), "{traced:?}");
    judge(&scene, subject, &traced, good.as_ref(), None, &mut wrong);
    scene.clear(&mut wrong);
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// F-05: likewise where the program has ended and is reaped before `start` looks at it, so that what init has said is read.
fn storm_over_what_ends_at_once() {
    for _ in 0..5 {
        let scene = Scene::new(Who::Root, confined(Who::Root).args(["true"]));
        scene.bring(To::Created);
        let traced = scene.trace("tree-storm", 1, &["start", "ID"], None, Duration::from_secs(10)).expect("an end");
        assert_eq!((traced.status, traced.printed.as_str()), (0, ""), "{traced:?}");
        let mut wrong = Vec::new();
        scene.clear(&mut wrong);
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

/// F-05: waits that a stop and a SIGCONT end early (signal(7)) are gone back to.
fn stopped_and_continued(subject: Subject) {
    let (_, _, good) = good(subject, Who::Root);
    for _ in 0..5 {
        let scene = scene(subject, Who::Root);
        let over = AtomicBool::new(false);
        let mut wrong = Vec::new();
        std::thread::scope(|scope| {
            let before = &scene.before;
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    for pid in before.pids() {
                        let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
                        let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let mut lines = vec![subject.words];
            lines.extend(subject.then);
            for words in lines {
                let output = scene.call(words);
                if output.status != 0 || !output.stderr.is_empty() {
                    wrong.push(format!("{words:?}: {output:?}"));
                }
            }
            if subject.name == "create" {
                scene.ok(&["start", "ID"]);
            }
            over.store(true, Ordering::Relaxed);
        });
        if let (true, Some(good)) = (is_reporting(subject), &good) {
            let seen = wait_for_report(&scene, &mut wrong);
            // Without the tracer its streams are others.
            let others = |line: &String| !line.starts_with("/fds/");
            wrong.extend(seen.iter().flat_map(|seen| differences(good, seen)).filter(others));
        }
        scene.clear(&mut wrong);
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
