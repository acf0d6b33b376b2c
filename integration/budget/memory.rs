//! Memory of an init that waits and of the commands, bytes that a container writes to disk, size of the binary.

use super::{Ceiling, OURS, released};
use crate::bundle::{Bundle, eventually, find_program, limit, within};
use crate::case;
use crate::case::{Case, runtime};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// KiB. A debug build's code is ten times as large: its pages are the file's, not the container's.
const RESIDENT: Ceiling = Ceiling { debug: 1600, release: 600 };
const PRIVATE: Ceiling = Ceiling { debug: 268, release: 200 };
/// KiB.
const PEAK: Ceiling = Ceiling { debug: 6900, release: 2500 };
/// Bytes of files in the container's directory, `config.json` as it was given left out.
const STATE: Ceiling = Ceiling { debug: 640, release: 580 };
/// Bytes.
const BINARY: Ceiling = Ceiling { debug: u64::MAX, release: 2_500_000 };

/// Page faults of `state`: some 33, and 42 to 48 where what it runs is strewn over the file (`order.ld`).
const FAULTS: Ceiling = Ceiling { debug: u64::MAX, release: 40 };

pub fn cases() -> Vec<Case> {
    vec![
        case!(an_init_that_waits_is_small).ours(OURS),
        case!(commands_need_little_memory).ours(OURS),
        case!(the_state_is_small).ours(OURS),
        released(case!(the_binary_is_small).ours(OURS)),
        released(case!(few_pieces_of_the_binary_are_touched).ours(OURS)),
        case!(what_makes_it_small_is_not_missed),
    ]
}

fn an_init_that_waits_is_small() {
    // Pages of a binary that was linked a moment ago, and is not on disk yet, count as dirty in whoever maps them.
    let binary = fs::File::open(find_program(&runtime()).expect("find the runtime")).expect("open the runtime");
    binary.sync_all().expect("write the runtime to disk");
    let bundle = Bundle::new().args(["sleep", "1000"]);
    bundle.write();
    let container = bundle.create();
    // It has been told to go on, and gives memory back before it waits for `start`.
    let status = format!("/proc/{}/status", container.pid);
    eventually("asleep", || fs::read_to_string(&status).expect("read the status of init").contains("State:\tS"));
    let maps = fs::read_to_string(format!("/proc/{}/smaps", container.pid)).expect("read the mappings");
    let sum = |field: &str| -> u64 {
        maps.lines().filter_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse::<u64>().ok()).sum()
    };
    RESIDENT.holds("resident KiB of an init that waits", sum("Rss:"), 10);
    PRIVATE.holds("KiB of its own", sum("Private_Dirty:"), 10);
}

/// A foreground `run` has made its container, and stays: its own status has the most that it ever had.
fn commands_need_little_memory() {
    let bundle = Bundle::new().args(["sleep", "1000"]);
    bundle.write();
    let mut run = bundle.command(["run", &bundle.id]).spawn().expect("start run");
    eventually("running", || bundle.call(["state", &bundle.id]).stdout.contains("\"running\""));
    let status = fs::read_to_string(format!("/proc/{}/status", run.id())).expect("read the status of run");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib = line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number");
    assert_eq!(bundle.call(["kill", &bundle.id, "KILL"]).status, 0);
    assert_eq!(within(&mut run, limit()), Some(137));
    PEAK.holds("peak KiB of run", kib, 100);
}

fn the_state_is_small() {
    let bundle = Bundle::new().args(["sleep", "1000"]);
    let _container = bundle.create();
    let mut bytes = 0;
    for entry in fs::read_dir(bundle.root().join(&bundle.id)).expect("list the container's directory").flatten() {
        let meta = fs::symlink_metadata(entry.path()).expect("look at a file of the container");
        if meta.is_file() && entry.file_name() != "config.json" {
            eprintln!("{}: {} bytes", entry.path().display(), meta.size());
            bytes += meta.size();
        }
    }
    STATE.holds("bytes of state", bytes, 100);
}

fn the_binary_is_small() {
    let path = find_program(&runtime()).expect("find the runtime");
    BINARY.holds("bytes of the binary", fs::metadata(path).expect("look at the binary").len(), 100_000);
}

fn few_pieces_of_the_binary_are_touched() {
    let bundle = Bundle::new().args(["sleep", "1000"]);
    let _container = bundle.create();
    let words = bundle.command(["state", &bundle.id]);
    // The first may find that the file is not in memory.
    let faults = (0..3).map(|_| {
        // Without a copy of this process, whose faults would be counted too.
        let mut state = Command::new(words.get_program());
        let mut state = state.args(words.get_args()).stdout(Stdio::null()).spawn().expect("start state");
        let pid = Pid::from_raw(state.id().cast_signed());
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).expect("wait for its end");
        let stat = procfs::process::Process::new(pid.as_raw()).and_then(|zombie| zombie.stat()).expect("look at the zombie");
        assert!(state.wait().expect("reap it").success());
        stat.minflt
    });
    FAULTS.holds("page faults of state", faults.min().unwrap_or_default(), 10);
}

/// Tables for walking the stack: an error must not ask for them, whatever the caller's environment says.
fn what_makes_it_small_is_not_missed() {
    let bundle = Bundle::new();
    let mut state = bundle.command(["state", &bundle.id]);
    let output = bundle.finish({
        state.env("RUST_BACKTRACE", "full").env("RUST_LIB_BACKTRACE", "1");
        state
    });
    assert!(output.status == 1 && output.error().contains("does not exist"), "{output:?}");
}
