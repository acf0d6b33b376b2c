//! The runtime or CRIU is killed in the middle.

use super::{checkpoint, counting, restore_words, started, unknown, words};
use crate::bundle::{Bundle, limit, within};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::process::Child;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_killed_checkpoint_leaves_nothing).except("runc", "at one moment CRIU and init wait for each other"),
        case!(a_killed_restore_leaves_nothing).except("runc", "leaves a mount"),
        case!(a_checkpoint_without_its_criu_leaves_a_container).except("runc", "says two things"),
        case!(a_restore_without_its_criu_leaves_nothing),
    ]
}

/// Times after the start of a command, until one is after its end.
fn moments() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(Duration::from_millis(4)), |last| Some(*last * 3 / 2))
}

/// Starts a command, and waits for a while; whether it has ended in that.
fn begin(bundle: &Bundle, words: &[String], after: Duration) -> (Child, bool) {
    let mut command = bundle.command(words);
    command.stdout(File::options().write(true).open("/dev/null").expect("open /dev/null"));
    command.stderr(File::create(bundle.home.join("errors")).expect("make a file"));
    let mut child = command.spawn().expect("start the runtime");
    std::thread::sleep(after);
    let ended = child.try_wait().expect("look at the runtime").is_some();
    (child, ended)
}

fn deleted(bundle: &Bundle, after: Duration) {
    let output = bundle.call(["delete", "--force", &bundle.id]);
    assert!(output.status == 0 && output.error().is_empty(), "after {after:?}: {output:?}");
}

/// Kills a command after a while; then all must be there that `delete --force` needs. Whether it had ended before.
fn killed_after(bundle: &Bundle, words: &[String], after: Duration) -> bool {
    let (mut child, ended) = begin(bundle, words, after);
    let _ = child.kill();
    let _ = child.wait();
    deleted(bundle, after);
    ended
}

fn a_killed_checkpoint_leaves_nothing() {
    let bundle = counting();
    let before = Snapshot::of(&bundle);
    for moment in moments() {
        let (_container, _lines) = started(&bundle);
        let ended = killed_after(&bundle, &words("checkpoint", &bundle, &[]), moment);
        before.assert_unchanged();
        if ended {
            break;
        }
    }
}

fn a_killed_restore_leaves_nothing() {
    let bundle = counting();
    let before = Snapshot::of(&bundle);
    let (_container, _lines) = started(&bundle);
    checkpoint(&bundle, &[]);
    for moment in moments() {
        let ended = killed_after(&bundle, &restore_words(&bundle, &[]), moment);
        before.assert_unchanged();
        if ended {
            break;
        }
    }
}

/// A command whose CRIU was killed.
struct Bereft {
    /// The command had ended before.
    ended: bool,
    status: i32,
}

/// Kills the CRIU of a command so long after it is there.
fn without_criu_after(bundle: &Bundle, words: &[String], after: Duration) -> Bereft {
    let (mut child, mut ended) = begin(bundle, words, Duration::ZERO);
    let mut criu = None;
    while criu.is_none() && !ended {
        criu = criu_of(&child);
        ended = child.try_wait().expect("look at the runtime").is_some();
    }
    std::thread::sleep(after);
    ended |= child.try_wait().expect("look at the runtime").is_some();
    // Its number is its own as long as its parent is there.
    if let Some(criu) = criu.filter(|_| !ended) {
        let _ = kill(criu, Signal::SIGKILL);
    }
    let status = within(&mut child, limit()).unwrap_or_else(|| panic!("after {after:?} it hangs"));
    let errors = fs::read_to_string(bundle.home.join("errors")).expect("read the errors");
    assert!(status == 0 || criu.is_some() && errors.lines().count() == 1, "after {after:?}: {errors}");
    Bereft { ended, status }
}

/// The oldest one: what CRIU restores is a child of the runtime, too, and called the same at first.
fn criu_of(runtime: &Child) -> Option<Pid> {
    let tasks = fs::read_dir(format!("/proc/{}/task", runtime.id())).ok()?;
    let children: Vec<String> =
        tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok()).collect();
    let is_criu = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&b| b == 0).any(|word| word == b"swrk")
    };
    children
        .iter()
        .flat_map(|list| list.split_whitespace())
        .filter_map(|pid| pid.parse().ok())
        .filter(is_criu)
        .min()
        .map(Pid::from_raw)
}

/// The container is what it is then, but can be deleted.
fn a_checkpoint_without_its_criu_leaves_a_container() {
    let bundle = counting();
    let before = Snapshot::of(&bundle);
    let mut killed = 0;
    for moment in moments() {
        let (container, _lines) = started(&bundle);
        let ran = without_criu_after(&bundle, &words("checkpoint", &bundle, &[]), moment);
        if ran.status != 0 {
            assert_ne!(container.status(), "paused", "after {moment:?}");
            container.ok("delete", &["--force"]);
            killed += 1;
        }
        before.assert_unchanged();
        if ran.ended {
            break;
        }
    }
    assert!(killed > 0, "CRIU was never killed at its work");
}

fn a_restore_without_its_criu_leaves_nothing() {
    let bundle = counting();
    let before = Snapshot::of(&bundle);
    let (_container, _lines) = started(&bundle);
    checkpoint(&bundle, &[]);
    let mut killed = 0;
    for moment in moments() {
        let ran = without_criu_after(&bundle, &restore_words(&bundle, &[]), moment);
        if ran.status == 0 {
            deleted(&bundle, moment);
        } else {
            unknown(&bundle);
            killed += 1;
        }
        before.assert_unchanged();
        if ran.ended {
            break;
        }
    }
    assert!(killed > 0, "CRIU was never killed at its work");
}
