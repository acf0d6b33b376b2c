//! What a number of containers has left in the system: every cgroup, mount, state directory, network namespace, device
//! program, process, before and after.

use crate::bpf;
use crate::here::{Here, patience};
use crate::stage::vm;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where runtimes and shims keep what they know of containers. Docker's files for network namespaces are not among them: it
/// removes them every minute. While one is in use it is a mount, and the namespace is counted besides.
const STATE: [&str; 8] = [
    "/run/onggi",
    "/run/runc",
    "/run/crun",
    "/run/containerd/runc",
    "/run/containerd/io.containerd.runtime.v2.task",
    "/run/docker/runtime-runc",
    "/var/run/docker/runtime-runc",
    "/run/libpod",
];

/// Runs the script so many times, a shell for ten, and fails if anything is left.
///
/// The first few are not counted: engines make what they need at first use, and keep it.
pub fn check(here: &Here, times: u32, script: &str) {
    let repeat = |times: u32| {
        let script = format!("for i in $(seq {times}); do\n{script}\ndone >/dev/null");
        here.sh(&script).ok();
    };
    repeat(2);
    let before = Snapshot::settled(None);
    let mut left = times;
    while left > 0 {
        let now = left.min(10);
        repeat(now);
        left -= now;
    }
    let after = Snapshot::settled(Some(&before));
    let difference = after.beyond(&before);
    assert!(difference.is_empty(), "left after {times} times:\n{}", difference.join("\n"));
    // Other systems on this kernel come and go as well; what each container left would show all the same.
    let allowed = if vm() { 0 } else { u64::from(times) / 2 };
    assert!(after.programs <= before.programs + allowed, "BPF programs: {} before, {} after", before.programs, after.programs);
}

struct Snapshot {
    lines: BTreeSet<String>,
    /// How many BPF programs the kernel has, of all systems on it.
    programs: u64,
}

impl Snapshot {
    /// A look at the system, repeated for some time until there is nothing beyond the other one, or it stands
    /// still for a second.
    fn settled(other: Option<&Snapshot>) -> Snapshot {
        let until = Instant::now() + Duration::from_secs(patience(20).into());
        loop {
            let look = Snapshot::now();
            match other {
                Some(other) if look.beyond(other).is_empty() && look.programs <= other.programs => return look,
                None => {
                    sleep(Duration::from_secs(1));
                    if Snapshot::now().lines == look.lines {
                        return look;
                    }
                }
                Some(_) => sleep(Duration::from_millis(100)),
            }
            if Instant::now() > until {
                return look;
            }
        }
    }

    fn beyond(&self, other: &Snapshot) -> Vec<String> {
        self.lines.difference(&other.lines).cloned().collect()
    }

    fn now() -> Snapshot {
        let mut lines = BTreeSet::new();
        tree("cgroup", Path::new("/sys/fs/cgroup"), 8, &mut lines);
        for place in STATE {
            tree("state", Path::new(place), 4, &mut lines);
        }
        for line in fs::read_to_string("/proc/self/mountinfo").expect("read the mounts").lines() {
            // Numbers are given anew.
            let words: Vec<&str> = line.split(' ').skip(3).collect();
            lines.insert(format!("mount {}", words.join(" ")));
        }
        processes(&mut lines);
        Snapshot { lines, programs: bpf::count_programs() }
    }
}

/// Every directory below this one, so many levels deep.
fn tree(kind: &str, directory: &Path, depth: u32, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory || kind == "state" {
            lines.insert(format!("{kind} {}", entry.path().display()));
        }
        if is_directory && depth > 0 {
            tree(kind, &entry.path(), depth - 1, lines);
        }
    }
}

/// How many processes of a name there are, and in how many network namespaces they are.
fn processes(lines: &mut BTreeSet<String>) {
    let mut count: BTreeMap<String, u32> = BTreeMap::new();
    let mut networks = BTreeSet::new();
    for entry in fs::read_dir("/proc").expect("list the processes").flatten() {
        // Kernel threads have no program, and come and go.
        let Ok(program) = fs::read_link(entry.path().join("exe")) else { continue };
        // Built anew meanwhile, it is still the same.
        let name = program.display().to_string().trim_end_matches(" (deleted)").to_owned();
        *count.entry(name).or_default() += 1;
        if let Ok(meta) = fs::metadata(entry.path().join("ns/net")) {
            networks.insert(meta.ino());
        }
    }
    for (name, count) in count {
        lines.extend((1..=count).map(|number| format!("process {number} {name}")));
    }
    lines.extend((1..=networks.len()).map(|number| format!("network namespace {number}")));
}
