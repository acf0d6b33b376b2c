//! What fails, and in which words.

use super::{COUNT, checkpoint, count, counting, restore_words, restored, saved, started};
use crate::bundle::{Bundle, eventually};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use nix::libc;
use std::fs;

const WORDS: &str = "words its errors otherwise";

pub fn cases() -> Vec<Case> {
    vec![
        case!(failures_quote_criu).except("runc", WORDS),
        case!(what_cannot_be_saved_is_refused),
        case!(what_is_no_checkpoint_is_refused).except("runc", "makes the directory that it is to read"),
        case!(a_used_id_is_refused),
    ]
}

fn failures_quote_criu() {
    // A lock is a thing that is not saved unasked.
    let flock = |how: i32| format!("exec 9>/dev/shm/lock; /inside call {} 9 {how}", libc::SYS_flock);
    let bundle = Bundle::new().sh(&format!("{} >/dev/null; {COUNT}", flock(libc::LOCK_EX)));
    let (container, _lines) = started(&bundle);
    let output = saved(&bundle, &[]);
    assert!(output.status == 1 && output.error().lines().count() == 1, "{output:?}");
    for text in ["Error (criu/", "--file-locks", "work/dump.log"] {
        assert!(output.stderr.contains(text), "{text} not in {output:?}");
    }
    assert_eq!(container.status(), "running");
    let saved = count(container.pid);
    eventually("it counts on", || count(container.pid) > saved + 3);
    checkpoint(&bundle, &["--file-locks"]);
    let (container, _lines) = restored(&bundle, &["--file-locks"]);
    eventually("it counts on", || count(container.pid) > saved + 6);
    let output = container.call("exec", &["sh", "-c", &flock(libc::LOCK_EX | libc::LOCK_NB)]);
    assert_eq!(output.stdout.trim(), "EAGAIN", "{output:?}");
}

fn what_cannot_be_saved_is_refused() {
    let bundle = counting();
    let container = bundle.create();
    let refused = |state: &str| {
        let output = saved(&bundle, &[]);
        let text = format!("annot be checkpointed in {state} state");
        assert!(output.status == 1 && output.error().contains(&text), "{output:?}");
    };
    refused("created");
    container.kill("KILL").wait();
    eventually("stopped", || container.status() == "stopped");
    refused("stopped");
    container.ok("delete", &[]);
    let output = saved(&bundle, &[]);
    assert!(output.status == 1 && output.error().contains("container does not exist"), "{output:?}");
}

fn what_is_no_checkpoint_is_refused() {
    let bundle = counting();
    bundle.write();
    let before = Snapshot::of(&bundle);
    let refused = |text: &str| {
        let output = bundle.call(restore_words(&bundle, &[]));
        assert!(output.status == 1 && output.error().contains(text), "{text} not in {output:?}");
        assert_eq!(output.error().lines().count(), 1, "{output:?}");
        assert!(!bundle.home.join("restored").exists());
        before.assert_unchanged();
    };
    refused("no such file or directory");
    let images = bundle.home.join("images");
    fs::create_dir(&images).expect("make a directory");
    refused("it holds no checkpoint: inventory.img is missing");
    fs::write(images.join("inventory.img"), "nonsense").expect("write a file");
    fs::write(images.join("descriptors.json"), "[]").expect("write a file");
    refused("restore the container: Error (criu/");
}

fn a_used_id_is_refused() {
    let bundle = counting();
    let (container, _lines) = started(&bundle);
    checkpoint(&bundle, &["--leave-running"]);
    let output = bundle.call(restore_words(&bundle, &[]));
    assert!(output.status == 1 && output.error().contains("container with given ID already exists"), "{output:?}");
    let saved = count(container.pid);
    eventually("it counts on", || count(container.pid) > saved + 3);
}
