//! What a test has left on the host: the difference between two looks, as far as it carries the test's id.
//!
//! Tests run side by side, so a plain difference of the whole host would blame one for another's work. An id is in every
//! path that a test uses (state, bundle, cgroup), and processes are told by the cgroup that they are in.

use crate::bundle::{Bundle, find_program};
use crate::delegation::delegate;
use crate::stage::{LEAF, remove_tree};
use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What the host looks like, a line a thing, for one id.
pub struct Snapshot {
    id: String,
    root: PathBuf,
    lines: BTreeSet<String>,
}

impl Snapshot {
    pub fn of(bundle: &Bundle) -> Snapshot {
        let mut snapshot = Snapshot { id: bundle.id.clone(), root: bundle.root(), lines: BTreeSet::new() };
        snapshot.lines = snapshot.look();
        snapshot
    }

    /// What has come (`+`) and gone (`-`) since; waits up to a second for it to become nothing.
    pub fn delta(&self) -> Vec<String> {
        let until = Instant::now() + Duration::from_secs(1);
        loop {
            let now = self.look();
            let came = now.difference(&self.lines).map(|line| format!("+ {line}"));
            let gone = self.lines.difference(&now).map(|line| format!("- {line}"));
            let delta: Vec<String> = came.chain(gone).collect();
            if delta.is_empty() || Instant::now() > until {
                return delta;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether a process of this test is alive now.
    pub fn has_processes(&self) -> bool {
        !self.processes().is_empty()
    }

    /// The processes of this test that have come since, with their command lines.
    pub fn processes(&self) -> Vec<String> {
        self.look().difference(&self.lines).filter(|line| line.starts_with("process")).cloned().collect()
    }

    /// The numbers of these processes.
    pub fn pids(&self) -> Vec<i32> {
        self.processes().iter().filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect()
    }

    pub fn assert_unchanged(&self) {
        let delta = self.delta();
        assert!(delta.is_empty(), "left on the host:\n{}", delta.join("\n"));
    }

    fn look(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for line in read("/proc/self/mountinfo").lines().filter(|line| line.contains(&self.id)) {
            lines.insert(format!("mount {line}"));
        }
        let mut groups = Vec::new();
        directories(Path::new("/sys/fs/cgroup"), &mut groups);
        for group in groups.iter().filter(|group| self.is_mine(group)) {
            // The group that a sweep runs its commands in is not theirs, what is left in it is.
            let case = case_group(&self.id);
            if **group != case && **group != case.join(CALLER) {
                lines.insert(format!("cgroup {}", group.display()));
            }
            for pid in read(group.join("cgroup.procs")).lines() {
                let command = read(format!("/proc/{pid}/cmdline")).replace('\0', " ");
                // Numbers differ between two looks; that there is a process does not.
                if !command.is_empty() {
                    lines.insert(format!("process {pid} {command}"));
                }
            }
        }
        entries(&self.root, &mut lines);
        lines.insert(format!("core_pattern {}", read("/proc/sys/kernel/core_pattern")));
        lines.insert(format!("hostname {}", read("/proc/sys/kernel/hostname")));
        lines.insert(binary());
        lines
    }

    fn is_mine(&self, group: &Path) -> bool {
        group.components().any(|part| part.as_os_str().to_string_lossy().contains(&self.id))
    }
}

/// Where a user's commands are called from, below the cgroup of the case.
const CALLER: &str = "caller";

/// A cgroup for the commands that a test starts, so that whatever they start can be found. Removed with all in it.
pub struct CaseGroup(PathBuf);

fn case_group(id: &str) -> PathBuf {
    Path::new(LEAF).with_file_name(format!("case-{id}"))
}

impl CaseGroup {
    pub fn new(bundle: &Bundle) -> CaseGroup {
        let group = case_group(&bundle.id);
        fs::create_dir(&group).expect("make the cgroup of a case");
        CaseGroup(group)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// One that is delegated to a user, who calls from a cgroup in it: that one.
    pub fn delegated(&self, user: u32) -> PathBuf {
        let caller = self.0.join(CALLER);
        fs::create_dir(&caller).expect("make the cgroup of a caller");
        delegate(&self.0, user);
        delegate(&caller, user);
        caller
    }

    /// Kills all that carries this id and removes its cgroups: for a run that has failed its test.
    pub fn sweep_up(&self, bundle: &Bundle) {
        let mut groups = vec![self.0.clone()];
        directories(Path::new("/sys/fs/cgroup"), &mut groups);
        for group in groups.iter().filter(|group| group.to_string_lossy().contains(&bundle.id)) {
            let _ = fs::write(group.join("cgroup.freeze"), "0");
            let _ = fs::write(group.join("cgroup.kill"), "1");
            remove_tree(group);
        }
    }
}

impl Drop for CaseGroup {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let until = Instant::now() + Duration::from_secs(2);
        while self.0.exists() && Instant::now() < until {
            remove_tree(&self.0);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned()).unwrap_or_default()
}

/// All directories below this one.
fn directories(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            directories(&entry.path(), found);
            found.push(entry.path());
        }
    }
}

/// Everything below a state directory. The directory itself may stay, and so may a lock that belongs to no container.
fn entries(directory: &Path, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        lines.insert(format!("state {}", entry.path().display()));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            entries(&entry.path(), lines);
        }
    }
}

/// The runtime's own file: content, inode, time of its last change.
fn binary() -> String {
    let path = find_program(&crate::case::runtime()).expect("find the runtime");
    let meta = fs::metadata(&path).expect("look at the runtime");
    static LAST: Mutex<Option<([i64; 3], u64)>> = Mutex::new(None);
    // Reading megabytes at each look would be most of a sweep's time. A change of content changes ctime as well.
    let key = [meta.ino().cast_signed(), meta.ctime(), meta.ctime_nsec()];
    let mut last = LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let hash = last.filter(|(known, _)| *known == key).map_or_else(
        || {
            let mut hasher = DefaultHasher::new();
            fs::read(&path).expect("read the runtime").hash(&mut hasher);
            hasher.finish()
        },
        |(_, hash)| hash,
    );
    *last = Some((key, hash));
    format!("binary {} {:x} {:?}", path.display(), hash, (meta.ino(), meta.mtime(), meta.mtime_nsec()))
}
