//! The runtime or CRIU is killed in the middle.

use super::{checkpoint, counting, restore_words, restored, started, unknown, words};
use crate::bundle::{Bundle, limit, within};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::process::Child;
use std::time::{Duration, Instant};

const THEIRS: &str = "what they leave is theirs";

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_killed_checkpoint_leaves_nothing).ours(THEIRS),
        case!(a_killed_restore_leaves_nothing).ours(THEIRS),
        case!(a_checkpoint_without_its_criu_leaves_a_container).ours(THEIRS),
        case!(a_restore_without_its_criu_leaves_nothing).ours(THEIRS),
    ]
}

/// Times from the start of a command to its end, by how long it takes when nothing happens.
fn moments(uninterrupted: impl FnOnce()) -> impl Iterator<Item = Duration> {
    let begin = Instant::now();
    uninterrupted();
    let whole = begin.elapsed();
    (0..=PARTS).map(move |n| whole * n / PARTS)
}

/// Into how many parts a command is cut.
const PARTS: u32 = 10;

/// Starts a command whose output nobody sees but the test.
fn begin(bundle: &Bundle, words: &[String]) -> Child {
    let mut command = bundle.command(words);
    command.stdout(File::options().write(true).open("/dev/null").expect("open /dev/null"));
    command.stderr(File::create(bundle.home.join("errors")).expect("make a file"));
    command.spawn().expect("start the runtime")
}

/// Kills a command after a while; then all must be there that `delete --force` needs.
fn killed_after(bundle: &Bundle, words: &[String], after: Duration) {
    let mut child = begin(bundle, words);
    std::thread::sleep(after);
    let _ = child.kill();
    let _ = child.wait();
    deleted(bundle, after);
}

fn deleted(bundle: &Bundle, after: Duration) {
    let output = bundle.call(["delete", "--force", &bundle.id]);
    assert!(output.status == 0 && output.error().is_empty(), "after {after:?}: {output:?}");
}

fn a_killed_checkpoint_leaves_nothing() {
    let bundle = counting();
    let before = Snapshot::of(&bundle);
    let (_container, _lines) = started(&bundle);
    for moment in moments(|| checkpoint(&bundle, &[])) {
        let (_container, _lines) = started(&bundle);
        killed_after(&bundle, &words("checkpoint", &bundle, &[]), moment);
        before.assert_unchanged();
    }
}

fn a_killed_restore_leaves_nothing() {
    let bundle = counting();
    let before = Snapshot::of(&bundle);
    let (_container, _lines) = started(&bundle);
    checkpoint(&bundle, &[]);
    let all = moments(|| drop(restored(&bundle, &[])));
    deleted(&bundle, Duration::ZERO);
    for moment in all {
        killed_after(&bundle, &restore_words(&bundle, &[]), moment);
        before.assert_unchanged();
    }
}

/// Starts a command and kills its CRIU after a while; whether that was there, how the command ended, and its errors.
fn without_criu_after(bundle: &Bundle, words: &[String], after: Duration) -> (bool, i32, String) {
    let mut child = begin(bundle, words);
    std::thread::sleep(after);
    let criu = criu_of(&child);
    if let Some(criu) = criu {
        let _ = kill(criu, Signal::SIGKILL);
    }
    let status = within(&mut child, limit()).unwrap_or_else(|| panic!("after {after:?} it hangs"));
    (criu.is_some(), status, fs::read_to_string(bundle.home.join("errors")).expect("read the errors"))
}

/// The oldest one: what CRIU restores is a child of the runtime, too, and called the same at first.
fn criu_of(runtime: &Child) -> Option<Pid> {
    let id = runtime.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    let is_criu = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&b| b == 0).any(|word| word == b"swrk")
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_criu).min().map(Pid::from_raw)
}

/// The container is what it is then, but can be deleted.
fn a_checkpoint_without_its_criu_leaves_a_container() {
    let bundle = counting();
    let before = Snapshot::of(&bundle);
    let (_container, _lines) = started(&bundle);
    let mut killed = 0;
    for moment in moments(|| checkpoint(&bundle, &[])) {
        let (container, _lines) = started(&bundle);
        let (found, status, errors) = without_criu_after(&bundle, &words("checkpoint", &bundle, &[]), moment);
        if status != 0 {
            assert!(found && errors.lines().count() == 1, "after {moment:?}: {errors}");
            assert_ne!(container.status(), "paused", "after {moment:?}");
            container.ok("delete", &["--force"]);
            killed += 1;
        }
        before.assert_unchanged();
    }
    assert!(killed > 0, "CRIU was never killed at its work");
}

fn a_restore_without_its_criu_leaves_nothing() {
    let bundle = counting();
    let before = Snapshot::of(&bundle);
    let (_container, _lines) = started(&bundle);
    checkpoint(&bundle, &[]);
    let mut killed = 0;
    let all = moments(|| drop(restored(&bundle, &[])));
    deleted(&bundle, Duration::ZERO);
    for moment in all {
        let (found, status, errors) = without_criu_after(&bundle, &restore_words(&bundle, &[]), moment);
        if status == 0 {
            deleted(&bundle, moment);
        } else {
            assert!(found && errors.lines().count() == 1, "after {moment:?}: {errors}");
            unknown(&bundle);
            killed += 1;
        }
        before.assert_unchanged();
    }
    assert!(killed > 0, "CRIU was never killed at its work");
}
