//! list: its three forms, and that it tells the same as state.

use crate::bundle::Bundle;
use crate::case;
use crate::case::Case;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;

pub fn cases() -> Vec<Case> {
    vec![
        case!(list_prints_a_table_json_and_ids).except("crun", "its table has other columns"),
        case!(a_stranger_at_the_fifo_is_no_init),
        case!(hundreds_are_listed_in_order_each_once).ours("their state is ours to copy"),
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

/// Where they are many, more than one process looks; where none can be had, one looks at all.
fn hundreds_are_listed_in_order_each_once() {
    let bundle = sleeper();
    let container = bundle.create();
    let root = bundle.root();
    let state = fs::read(root.join(&bundle.id).join("state.json")).expect("read the state");
    for many in [127, 128, 129, 200, 555] {
        let ids: Vec<String> = (0..many).map(|n| format!("copy-{n:03}")).collect();
        for (n, id) in ids.iter().enumerate() {
            let dir = root.join(id);
            if dir.exists() {
                continue;
            }
            fs::create_dir(&dir).expect("make a directory");
            // Some are damaged.
            let text = if n % 50 == 7 { &state[..100] } else { &state };
            fs::write(dir.join("state.json"), text).expect("write a state");
        }
        let damaged = (0..many).filter(|n| n % 50 == 7).count();
        let at_once = |args: &[&str]| bundle.call([&["list"], args].concat());
        let alone = |args: &[&str]| {
            let mut command = bundle.command([&["list"], args].concat());
            // SAFETY: between fork and exec one system call is made.
            unsafe { command.pre_exec(no_processes) };
            bundle.finish(command)
        };
        for output in [at_once(&[]), alone(&[])] {
            let rows: Vec<Vec<&str>> = output.stdout.lines().skip(1).map(|row| row.split_whitespace().collect()).collect();
            let mut listed: Vec<&str> = rows.iter().map(|row| row[0]).collect();
            assert!(output.status == 0 && listed.is_sorted(), "{output:?}");
            assert_eq!(rows.iter().filter(|row| row[2] == "unreadable").count(), damaged);
            assert_eq!(rows.iter().filter(|row| row[1] == container.pid.to_string()).count(), many + 1 - damaged);
            listed.retain(|id| *id != bundle.id);
            assert_eq!(listed, ids);
        }
        assert_eq!(at_once(&[]).stdout, alone(&[]).stdout);
        let json = at_once(&["--format", "json"]).stdout;
        assert_eq!(json, alone(&["--format", "json"]).stdout);
        let list: Vec<Value> = serde_json::from_str(&json).expect("parse the list");
        assert_eq!(list.len(), many + 1 - damaged);
        assert_eq!(at_once(&["--quiet"]).stdout.lines().count(), many + 1);
    }
    for entry in fs::read_dir(&root).expect("list the state root").flatten() {
        if entry.file_name().to_string_lossy().starts_with("copy-") {
            fs::remove_dir_all(entry.path()).expect("remove a copy");
        }
    }
    container.ok("delete", &["--force"]);
}

/// A filter: clone3(2) and clone(2) answer EAGAIN, as where a limit of processes is reached.
fn no_processes() -> std::io::Result<()> {
    use nix::libc::{self, sock_filter, sock_fprog};
    let number = |call: nix::libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let insn = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let program = [
        insn(0x20, 0, 0, 0),
        insn(0x15, 1, 0, number(libc::SYS_clone3)),
        insn(0x15, 0, 1, number(libc::SYS_clone)),
        insn(0x06, 0, 0, 0x5_0000 | libc::EAGAIN.unsigned_abs()),
        insn(0x06, 0, 0, 0x7fff_0000),
    ];
    let filter = sock_fprog { len: 5, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program outlives the call, which copies it.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
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
