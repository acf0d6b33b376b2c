//! F-25: states of other releases: one that an earlier binary wrote is as good as ours; one of a later is refused, in words
//! that say so, and can be deleted.

use super::{OURS, sleeper};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use crate::survival::{sealed, state_file};
use serde_json::Value;
use std::fs;

pub fn cases() -> Vec<Case> {
    vec![
        case!(f_25_states_of_earlier_releases_are_read).ours(OURS),
        case!(f_25_states_of_later_releases_are_refused_and_deleted).ours(OURS),
    ]
}

/// A file for every form that a release has written, oldest first. Never edited: a new form is a new file.
const EARLIER: [(&str, &str); 2] = [
    ("the first", include_str!("../data/state/1-first.json")),
    ("with units and groups", include_str!("../data/state/1-units.json")),
];
/// What a later one may look like: more members, other members, other types.
const LATER: [(&str, &str); 3] = [
    ("with more members", include_str!("../data/state/later-more.json")),
    ("with other members", include_str!("../data/state/later-other.json")),
    ("with other types", include_str!("../data/state/later-types.json")),
];

/// The golden text with what belongs to this container.
fn fill(golden: &str, own: &Value) -> String {
    let text = |name: &str| match &own[name] {
        // On a tmpfs today's state names no boot; earlier ones did.
        Value::Null if name == "bootId" => {
            fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("read the boot's id").trim().into()
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let names = ["id", "pid", "startTime", "bootId", "bundle", "rootfs", "cgroup"];
    let filled = names.iter().fold(golden.trim().to_owned(), |filled, name| filled.replace(&format!("@{name}@"), &text(name)));
    serde_json::from_str::<Value>(&filled).unwrap_or_else(|error| panic!("{error}: {filled}"));
    filled
}

fn f_25_states_of_earlier_releases_are_read() {
    for (what, golden) in EARLIER {
        let bundle = sleeper();
        let before = Snapshot::of(&bundle);
        let container = bundle.create();
        let own = fs::read_to_string(state_file(&bundle)).expect("read the state");
        let own: Value = serde_json::from_str(own.lines().next().unwrap_or_default()).expect("parse the state");
        fs::write(state_file(&bundle), sealed(&fill(golden, &own))).expect("write the state");
        assert_eq!(container.status(), "created", "{what}");
        assert_eq!(container.state()["bundle"], bundle.dir().display().to_string(), "{what}");
        container.start();
        assert_eq!(container.call("exec", &["sh", "-c", "exit 4"]).status, 4, "{what}");
        container.ok("pause", &[]);
        container.ok("resume", &[]);
        assert!(bundle.call(["list"]).stdout.contains("running"), "{what}");
        container.kill("KILL").wait();
        container.ok("delete", &[]);
        before.assert_unchanged();
    }
}

fn f_25_states_of_later_releases_are_refused_and_deleted() {
    for (what, golden) in LATER {
        let bundle = sleeper();
        let before = Snapshot::of(&bundle);
        let container = bundle.detach();
        let own = fs::read_to_string(state_file(&bundle)).expect("read the state");
        let own: Value = serde_json::from_str(own.lines().next().unwrap_or_default()).expect("parse the state");
        fs::write(state_file(&bundle), sealed(&fill(golden, &own))).expect("write the state");
        for words in [&["state"][..], &["kill", "KILL"], &["start"], &["exec", "true"], &["pause"], &["delete"]] {
            let output = container.call(words[0], &words[1..]);
            let refused = output.status != 0 && output.stderr.lines().count() == 1;
            assert!(refused && output.stderr.contains("newer onggi"), "{what}: {words:?}: {output:?}");
        }
        assert!(std::path::Path::new(&format!("/proc/{}", container.pid)).exists(), "{what}: it was killed");
        container.ok("delete", &["--force"]);
        before.assert_unchanged();
    }
}
