//! What the programs that call a runtime count on: a test a rule, a file a consumer. The words of errors are in `wording`,
//! the specification's schemas in `schema`, whole command lines as they were captured in `captured`.
//!
//! A name's numbers are those of the list of rules that the tests were made from: `2_0` holds for every caller, `2_1` is
//! containerd's shim, `2_2` Docker, `2_3` BuildKit, `2_4` Podman and conmon, `2_5` CRI-O, `2_6` conmon-rs, `2_7` Buildah,
//! `2_8` nerdctl, `2_9` Kubernetes.

mod all;
mod captured;
mod containerd;
mod docker;
mod others;
mod podman;
mod schema;
mod wording;

use crate::bundle::{Bundle, Container, Output, eventually};
use crate::case::Case;
use std::fs;

/// Why crun is left out where words are matched.
pub const WORDS: &str = "words its errors otherwise";

pub fn cases() -> Vec<Case> {
    let files = [
        all::cases(),
        captured::cases(),
        containerd::cases(),
        docker::cases(),
        podman::cases(),
        others::cases(),
        schema::cases(),
        wording::cases(),
    ];
    files.into_iter().flatten().collect()
}

/// Runs until it is killed.
fn sleeper() -> Bundle {
    Bundle::new().args(["sleep", "1000"])
}

/// A container whose init has ended and was reaped.
fn stopped(bundle: &Bundle) -> Container<'_> {
    let container = bundle.create();
    container.kill("KILL").wait();
    eventually("stopped", || container.status() == "stopped");
    container
}

#[track_caller]
fn refused(output: &Output, text: &str) {
    assert!(output.status != 0 && output.error().contains(text), "{text:?} not in {output:?}");
}

/// Success, and nothing on either stream.
#[track_caller]
fn silent(output: &Output) {
    assert!(output.status == 0 && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

/// As go-runc, conmon-rs and BuildKit read a pid file: digits and nothing else.
#[track_caller]
fn pid_in(path: &std::path::Path) -> i32 {
    let text = fs::read_to_string(path).expect("read the pid file");
    assert!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()), "{text:?}");
    text.parse().expect("a pid")
}

/// A resources object that asks for nothing, in a file: what engines send when they were told nothing.
fn no_resources(bundle: &Bundle) -> String {
    let path = bundle.home.join("no-resources");
    fs::write(&path, "{\"memory\":{},\"cpu\":{}}").expect("write the resources");
    path.display().to_string()
}

/// The directory of a process's cgroup.
fn cgroup_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
    format!("/sys/fs/cgroup{}", text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default())
}

/// How many processes a cgroup has.
fn members(directory: &str) -> usize {
    fs::read_to_string(format!("{directory}/cgroup.procs")).map_or(0, |text| text.lines().count())
}
