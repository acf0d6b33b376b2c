//! F-06: the state's disk is full, has no inodes left, or is read-only.

use super::{OURS, host, sleeper};
use crate::bundle::Bundle;
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use std::fs;
use std::io::Write;

pub fn cases() -> Vec<Case> {
    vec![
        case!(f_06_full_state_disk_fails_create).ours(OURS),
        case!(f_06_no_inodes_left_fails_create).ours(OURS),
        case!(f_06_read_only_state_fails_create).ours(OURS),
        case!(f_06_full_state_disk_lets_a_container_be_used_and_deleted).ours(OURS),
        case!(f_06_read_only_state_lets_a_container_be_deleted_later).ours(OURS),
    ]
}

/// A disk of the test's own for the state.
struct Disk<'a>(&'a Bundle);

impl Disk<'_> {
    fn new<'a>(bundle: &'a Bundle, options: &str) -> Disk<'a> {
        let root = bundle.root();
        fs::create_dir_all(&root).expect("make the state root");
        host(&["mount", "-t", "tmpfs", "-o", &format!("mode=0700,{options}"), "tmpfs", &root.display().to_string()]);
        Disk(bundle)
    }

    fn remount(&self, options: &str) {
        host(&["mount", "-o", &format!("remount,{options}"), &self.0.root().display().to_string()]);
    }

    /// Writes until not one byte more has room.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.root().join("filler")).expect("make a file");
        for size in [4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    /// What is there besides what `fill` has written.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.root()).expect("list the state root").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name != "filler").collect()
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        self.remount("rw");
        let _ = self.0.call(["delete", "--force", &self.0.id]);
        host(&["umount", "--lazy", &self.0.root().display().to_string()]);
    }
}

/// `create` must fail with one line that has all of these, and leave nothing at all.
fn create_fails(bundle: &Bundle, disk: &Disk, texts: &[&str]) {
    bundle.write();
    let before = Snapshot::of(bundle);
    let output = bundle.call(["create", &bundle.id]);
    assert!(output.status == 1 && output.stderr.lines().count() == 1, "{output:?}");
    for text in texts {
        assert!(output.stderr.contains(text), "{text:?} not in {output:?}");
    }
    before.assert_unchanged();
    assert!(disk.left().is_empty(), "{:?}", disk.left());
}

fn f_06_full_state_disk_fails_create() {
    for pages in 0..3 {
        let bundle = sleeper();
        let disk = Disk::new(&bundle, &format!("size={}k", 4 * (pages + 1)));
        if pages == 0 {
            disk.fill();
            create_fails(&bundle, &disk, &["config.json", "no space left on device"]);
        } else {
            // The first page or two are taken by config.json: then it is the state that has no room.
            let annotated = "x".repeat(if pages == 1 { 0 } else { 3000 });
            let bundle = sleeper().set("/annotations", serde_json::json!({"org.example": annotated}));
            let disk = Disk::new(&bundle, &format!("size={}k", 4 * pages));
            create_fails(&bundle, &disk, &["state", "no space left on device"]);
        }
    }
}

/// Each inode fewer stops it one file earlier: the directory, the links, the FIFOs, the files.
fn f_06_no_inodes_left_fails_create() {
    let mut failed = 0;
    for inodes in 1..12 {
        let bundle = sleeper();
        let disk = Disk::new(&bundle, &format!("nr_inodes={inodes}"));
        bundle.write();
        let before = Snapshot::of(&bundle);
        let output = bundle.call(["create", &bundle.id]);
        if output.status == 0 {
            break;
        }
        failed += 1;
        let root = bundle.root().display().to_string();
        let named = output.stderr.contains(&root) && output.stderr.contains("no space left on device");
        assert!(named && output.stderr.lines().count() == 1, "{inodes}: {output:?}");
        before.assert_unchanged();
        assert!(disk.left().is_empty(), "{inodes}: {:?}", disk.left());
    }
    assert!((5..11).contains(&failed), "{failed} sizes are too small");
}

fn f_06_read_only_state_fails_create() {
    let bundle = sleeper();
    let disk = Disk::new(&bundle, "ro");
    let directory = bundle.root().join(&bundle.id).display().to_string();
    create_fails(&bundle, &disk, &[&directory, "read-only file system"]);
}

fn f_06_full_state_disk_lets_a_container_be_used_and_deleted() {
    for state in ["created", "running", "stopped"] {
        let bundle = sleeper();
        let disk = Disk::new(&bundle, "size=64k");
        let before = Snapshot::of(&bundle);
        let container = bundle.create();
        disk.fill();
        if state != "created" {
            container.start();
            let exec = container.call("exec", &["true"]);
            assert_eq!(exec.status, 0, "{exec:?}");
        }
        if state == "stopped" {
            container.kill("KILL").wait();
        }
        assert_eq!(container.status(), state);
        let delete = container.call("delete", &["--force"]);
        assert_eq!((delete.status, delete.stderr.as_str()), (0, ""), "{state}: {delete:?}");
        fs::remove_file(bundle.root().join("filler")).expect("remove the filler");
        before.assert_unchanged();
    }
}

/// What cannot be removed is named, after all that runs has ended; and the next try goes on from there.
fn f_06_read_only_state_lets_a_container_be_deleted_later() {
    let bundle = sleeper();
    let disk = Disk::new(&bundle, "size=64k");
    let before = Snapshot::of(&bundle);
    let container = bundle.detach();
    disk.remount("ro");
    assert_eq!(container.status(), "running");
    for _ in 0..2 {
        let delete = container.call("delete", &["--force"]);
        let root = bundle.root().join(&bundle.id).display().to_string();
        assert!(delete.status == 1 && delete.stderr.contains("read-only file system"), "{delete:?}");
        assert!(delete.stderr.contains(&root) && delete.stderr.lines().count() == 1, "{delete:?}");
        assert!(!before.has_processes());
    }
    disk.remount("rw");
    container.ok("delete", &["--force"]);
    before.assert_unchanged();
}
