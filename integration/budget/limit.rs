//! The smallest `memory.max` with which a static program starts: what is charged to a container's cgroup before its program
//! is the program's no more.

use crate::bundle::{Bundle, Output};
use crate::case;
use crate::case::Case;
use crate::case::name_of_runtime;
use crate::hostdelta::Snapshot;
use serde_json::json;
use std::fs;

const MEMORY: &str = "the memory controller on cgroup2";
const KIB: u64 = 1024;
/// What must be enough, in KiB.
const ENOUGH: u64 = 512;

pub fn cases() -> Vec<Case> {
    vec![case!(a_static_program_starts_with_little_memory).vm(MEMORY), case!(what_is_charged_is_told).vm(MEMORY)]
}

fn with_limit(kib: u64) -> Bundle {
    let limit = kib * KIB;
    Bundle::new().args(["true"]).set("/linux/resources/memory", json!({"limit": limit, "swap": limit}))
}

fn tried(kib: u64) -> Output {
    let bundle = with_limit(kib);
    let before = Snapshot::of(&bundle);
    let output = bundle.run();
    if output.status != 0 && name_of_runtime() == "onggi" {
        // Ours says so while the process is ours; then it is the program that was killed, and the status is its.
        let told = output.status == 1 && output.error().contains("OOM-killed (memory limit too low?)");
        assert!(told || output.status == 137 && output.stderr.is_empty(), "{kib} KiB: {output:?}");
        before.assert_unchanged();
    }
    output
}

/// Three times of three.
fn works(kib: u64) -> bool {
    (0..3).all(|_| tried(kib).status == 0)
}

/// F-14: below the smallest limit the message names it, or the program is killed, and nothing is left.
fn a_static_program_starts_with_little_memory() {
    // Sixteen steps from 64 KiB to 8 MiB, each about 1.38 times the one before.
    let mut steps: Vec<u64> = (0..16u32).map(|n| (64.0 * 128f64.powf(f64::from(n) / 15.0) / 4.0).round() as u64 * 4).collect();
    let mut found: Vec<bool> = steps.iter().map(|kib| works(*kib)).collect();
    // For the others.
    while found.last() == Some(&false) && steps.last().is_some_and(|kib| *kib < 64 * KIB) {
        let next = steps.last().map_or(0, |kib| kib * 2);
        steps.push(next);
        found.push(works(next));
    }
    let first = found.iter().rposition(|works| !works).map_or(0, |last| last + 1);
    let mut enough = *steps.get(first).expect("64 MiB are enough");
    let mut little = first.checked_sub(1).map_or(0, |n| steps[n]);
    while enough - little > 4 {
        let middle = (enough + little) / 8 * 4;
        if works(middle) { enough = middle } else { little = middle }
    }
    let steps: Vec<String> =
        steps.iter().zip(found).map(|(kib, works)| format!("{kib}{}", if works { "+" } else { "-" })).collect();
    eprintln!("{}: the smallest memory.max is {enough} KiB; tried in KiB: {}", name_of_runtime(), steps.join(" "));
    if name_of_runtime() == "onggi" {
        assert!(enough <= ENOUGH, "{enough} KiB");
    }
}

/// So that a figure above that grows can be explained.
fn what_is_charged_is_told() {
    let bundle = Bundle::new().args(["sleep", "1000"]).set("/linux/resources/memory", json!({"limit": 64 << 20}));
    let container = bundle.create();
    let group = format!("/sys/fs/cgroup/{}", bundle.id);
    let read = |file: &str| fs::read_to_string(format!("{group}/{file}")).unwrap_or_default();
    for state in ["created", "running"] {
        if state == "running" {
            container.start();
        }
        eprintln!("{} {state}: current {} peak {}", name_of_runtime(), read("memory.current").trim(), read("memory.peak").trim());
        let stat = read("memory.stat");
        assert!(stat.lines().any(|line| line.starts_with("anon ")), "no memory.stat of {state}");
        let some = stat.lines().filter(|l| !l.ends_with(" 0")).take(24).collect::<Vec<_>>().join(", ");
        eprintln!("  {some}");
    }
}
