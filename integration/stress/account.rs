//! Counts of what the kernel keeps for containers, before and after.
//!
//! Other tests run meanwhile, and what they have is counted too: a difference is looked at again until it is gone, and told
//! as one only where it stays. With `ONGGI_STRESS=full` there are no others.

use crate::bundle::Bundle;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How many of each there are.
pub struct Account {
    id: String,
    counts: BTreeMap<&'static str, u64>,
}

/// Others' containers come and go; how many of something are no leak of ours.
const OTHERS: u64 = 12;

impl Account {
    pub fn take(bundle: &Bundle) -> Account {
        Account { id: bundle.id.clone(), counts: count(&bundle.id) }
    }

    /// What there is more of now.
    pub fn delta(&self) -> Vec<String> {
        let now = count(&self.id);
        let more = |(what, n): (&&'static str, &u64)| {
            let had = self.counts.get(what).copied().unwrap_or_default();
            (*n > had).then(|| format!("{what}: {had}, now {n}"))
        };
        now.iter().filter_map(more).collect()
    }

    /// Waits for up to 20 seconds: the kernel takes network namespaces down in its own time. In full for two minutes: what
    /// all systems on the kernel share may be another's, as here, a hundred at once.
    pub fn assert_unchanged(&self) {
        let alone = std::env::var_os("ONGGI_STRESS").is_some();
        let until = Instant::now() + Duration::from_secs(if alone { 120 } else { 20 });
        loop {
            // Since Linux 6.13 the memory of those that were taken down last is freed when the next one is (cleanup_net of
            // net/core/net_namespace.c): without another end it would be counted for ever.
            let ended = std::process::Command::new("unshare").args(["--net", "true"]).status();
            assert!(ended.is_ok_and(|status| status.success()), "no network namespace can be made");
            let now = count(&self.id);
            let more = |what: &&str| now[what].saturating_sub(self.counts[what]);
            // By the id there is nobody else's; the rest is everybody's.
            let allowed = |what: &str| match (what, alone) {
                // Of all systems on this kernel.
                ("network namespaces without a process" | "BPF programs" | "session keyrings", _) => OTHERS,
                (_, alone) if alone || what.ends_with("its id") => 0,
                _ => OTHERS,
            };
            let left: Vec<_> = now.keys().filter(|what| more(what) > allowed(what)).collect();
            if left.is_empty() {
                eprintln!("before {:?}\nafter  {now:?}", self.counts);
                return;
            }
            assert!(Instant::now() < until, "left: {left:?}\nbefore {:?}\nafter  {now:?}", self.counts);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn count(id: &str) -> BTreeMap<&'static str, u64> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let (mut cgroups, mut own) = (0, 0);
    walk(Path::new("/sys/fs/cgroup"), id, &mut cgroups, &mut own);
    BTreeMap::from([
        ("cgroups", cgroups),
        ("cgroups with its id", own),
        ("mounts", mounts.lines().count() as u64),
        ("mounts with its id", mounts.lines().filter(|line| line.contains(id)).count() as u64),
        ("descriptors of this process", entries("/proc/self/fd")),
        ("network namespaces without a process", network_namespaces()),
        ("BPF programs", bpf_programs()),
        ("processes", entries("/proc")),
        ("session keyrings", fs::read_to_string("/proc/keys").map_or(0, |text| text.matches("_ses.").count() as u64)),
    ])
}

fn entries(path: &str) -> u64 {
    fs::read_dir(path).map_or(0, |entries| entries.count() as u64)
}

fn walk(path: &Path, id: &str, all: &mut u64, own: &mut u64) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            *all += 1;
            *own += u64::from(entry.file_name().to_string_lossy().contains(id));
            walk(&entry.path(), id, all, own);
        }
    }
}

/// Those that no process is in, dead ones that the kernel still keeps included: what is in its slab, less what processes have.
/// Where that is hidden or merged with another there is nothing to count.
///
/// A slab that a processor allocates from counts as full. To be shrunk it is given back, and counts as what is in it.
fn network_namespaces() -> u64 {
    // Without the right to it the count is too high by some slabs, before and after.
    let _ = fs::write("/sys/kernel/slab/net_namespace/shrink", "1");
    let slab = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    let line = slab.lines().find_map(|line| line.strip_prefix("net_namespace "));
    let Some(active) = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()) else { return 0 };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lived_in: std::collections::BTreeSet<_> =
        processes.filter_map(|entry| fs::read_link(entry.path().join("ns/net")).ok()).collect();
    active.saturating_sub(lived_in.len() as u64)
}

/// By the numbers that bpf(2) hands out, whoever they belong to.
fn bpf_programs() -> u64 {
    crate::bpf::count_programs()
}
