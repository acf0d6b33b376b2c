//! list: its three forms, and that it tells the same as state.

use crate::bundle::Bundle;
use crate::case;
use crate::case::Case;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::OpenOptionsExt;

pub fn cases() -> Vec<Case> {
    vec![
        case!(list_prints_a_table_json_and_ids).except("crun", "its table has other columns"),
        case!(a_stranger_at_the_fifo_is_no_init),
        case!(list_and_state_tell_the_same).except("crun", "calls an init that waits running when it is frozen"),
    ]
}

fn sleeper() -> Bundle {
    Bundle::new().args(["sleep", "1000"])
}

fn list_prints_a_table_json_and_ids() {
    let bundle = sleeper();
    let empty = bundle.call(["list", "--format", "json"]);
    assert_eq!((empty.status, empty.stdout.trim()), (0, "null"), "{empty:?}");
    let container = bundle.create();
    assert_eq!(bundle.call(["list", "--quiet"]).stdout, format!("{}\n", bundle.id));
    let table = bundle.call(["list"]).stdout;
    let words: Vec<&str> = table.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert!(table.starts_with("ID "), "{table}");
    assert_eq!(&words[..4], [&bundle.id, &container.pid.to_string(), "created", &bundle.dir().display().to_string()]);
    let list: Value = serde_json::from_str(&bundle.call(["list", "--format", "json"]).stdout).expect("parse the list");
    assert_eq!((&list[0]["id"], &list[0]["status"], &list[0]["owner"]), (&json!(bundle.id), &json!("created"), &json!("root")));
}

fn list_and_state_tell_the_same() {
    // Annotations and a name whose JSON has escapes, and one whose JSON has none.
    let odd = sleeper().set("/annotations", json!({"a\"b": "c\\d\n"}));
    for bundle in [sleeper(), sleeper().set("/annotations", json!({"a": "{b}"})), odd] {
        let container = bundle.create();
        let same = |status: &str| {
            let list: Value = serde_json::from_str(&bundle.call(["list", "--format", "json"]).stdout).expect("parse the list");
            let (mut listed, mut state) = (list[0].clone(), container.state());
            listed["owner"].take();
            state["owner"].take();
            assert_eq!(listed, state, "{status}");
            assert_eq!(state["status"], status);
            let table = bundle.call(["list"]).stdout;
            let row: Vec<&str> = table.lines().nth(1).unwrap_or_default().split_whitespace().collect();
            let pid = state["pid"].to_string();
            let cells = [
                &bundle.id,
                &pid,
                status,
                &bundle.dir().display().to_string(),
                state["created"].as_str().unwrap_or_default(),
                "root",
            ];
            assert_eq!(row, cells, "{table}");
        };
        same("created");
        container.ok("pause", &[]);
        same("paused");
        container.ok("resume", &[]);
        container.start();
        same("running");
        container.ok("pause", &[]);
        same("paused");
        container.ok("resume", &[]);
        container.kill("KILL");
        container.wait();
        same("stopped");
    }
}

fn a_stranger_at_the_fifo_is_no_init() {
    let bundle = sleeper();
    let container = bundle.create();
    let fifo = bundle.root().join(&bundle.id).join("exec.fifo");
    let mut open = fs::OpenOptions::new();
    open.read(true).custom_flags(nix::libc::O_NONBLOCK);
    let listed = || bundle.call(["list", "--format", "json"]).stdout;
    let stranger = open.open(&fifo).expect("open the FIFO");
    assert!(listed().contains("\"created\""), "{}", listed());
    container.kill("KILL");
    container.wait();
    assert!(listed().contains("\"stopped\""), "{}", listed());
    assert_eq!(container.status(), "stopped");
    drop(stranger);
    assert!(listed().contains("\"stopped\""), "{}", listed());
}
