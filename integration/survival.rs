//! What a container survives: the loss of the binary, of its configuration, of its state; a reboot, a reused pid; many
//! commands at once. And how it ends before its program runs.

use crate::bundle::{Bundle, Container, eventually};
use crate::case;
use crate::case::{Case, runtime};
use crate::hostdelta::Snapshot;
use crate::stage::WORK;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const STATE: &str = "its state file is another";

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_created_container_survives_its_binary_and_config),
        case!(a_running_container_survives_its_binary_and_config),
        case!(a_container_whose_bundle_is_gone_can_be_deleted),
        case!(a_created_container_ends_when_it_is_asked_to).except("crun", "its init ignores the signals"),
        case!(a_program_starts_with_default_signals_after_the_wait).ours("others hand down what their caller ignores"),
        case!(start_tells_of_an_init_that_died_before_the_program).ours("others word it otherwise, or call it a success"),
        case!(a_broken_state_of_a_created_container_is_cleared).ours(STATE),
        case!(a_broken_state_of_a_running_container_is_cleared).ours(STATE),
        case!(a_broken_state_of_a_stopped_container_is_cleared).ours(STATE),
        case!(what_is_no_container_does_not_disturb_the_list).ours(STATE),
        case!(after_a_reboot_a_container_is_stopped).ours(STATE),
        case!(a_stranger_with_the_pid_is_never_signalled).ours(STATE),
        case!(many_commands_at_once_leave_one_winner).ours("others fail two at once, with other statuses"),
        case!(creates_of_one_id_at_once_have_one_winner).ours("others leave the loser's cgroup at times"),
        case!(twenty_containers_at_once_do_not_mix),
    ]
}

fn sleeper() -> Bundle {
    Bundle::new().args(["sleep", "1000"])
}

/// A copy of the runtime, to be removed.
struct Copy(PathBuf);

impl Copy {
    fn new(bundle: &Bundle) -> Copy {
        let copy = bundle.home.join(crate::case::name_of_runtime());
        let found = crate::bundle::find_program(&runtime()).expect("find the runtime");
        // By another process: a file that we write would be open in whatever another thread starts meanwhile.
        let status = Command::new("cp").arg(found).arg(&copy).status().expect("run cp");
        assert!(status.success());
        Copy(copy)
    }

    fn call(&self, bundle: &Bundle, words: &[&str]) {
        let command = bundle.command(words);
        let mut copied = Command::new(&self.0);
        copied.args(command.get_args()).current_dir(bundle.dir()).stdin(Stdio::null());
        let output = bundle.finish(copied);
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{words:?}: {output:?}");
    }
}

fn a_created_container_ends_when_it_is_asked_to() {
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        let bundle = sleeper();
        let container = bundle.create();
        // At once: it must not be lost on an init that was made known a moment ago.
        container.kill(signal).wait();
        assert_eq!(container.status(), "stopped", "{signal}");
        assert_ne!(container.call("start", &[]).status, 0, "{signal}");
        container.ok("delete", &[]);
    }
}

fn a_program_starts_with_default_signals_after_the_wait() {
    let bundle = Bundle::new().args(["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]);
    let container = bundle.create();
    container.start().wait();
    let none = "0".repeat(16);
    assert_eq!(container.stdout(), format!("SigBlk:\t{none}\nSigIgn:\t{none}\nSigCgt:\t{none}\n"));
}

fn start_tells_of_an_init_that_died_before_the_program() {
    let script = "touch /waits; exec sleep 1000";
    let bundle = sleeper().set("/hooks/startContainer/-", json!({"path": "/bin/sh", "args": ["sh", "-c", script]}));
    let container = bundle.create();
    let mut start = bundle.command(["start", &bundle.id]);
    let start = start.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run start");
    eventually("the hook runs", || bundle.rootfs().join("waits").exists());
    let killed = Command::new("kill").args(["-9", &container.pid.to_string()]).status().expect("run kill");
    assert!(killed.success());
    let output = start.wait_with_output().expect("wait for start");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && words.contains("container init died"), "{output:?}");
    assert_eq!(container.status(), "stopped");
    container.ok("delete", &[]);
}

fn status(bundle: &Bundle) -> String {
    let output = bundle.call(["state", &bundle.id]);
    serde_json::from_str(&output.stdout).unwrap_or(Value::Null)["status"].as_str().unwrap_or(&output.stderr).to_owned()
}

fn lose_binary_and_config(start: bool) {
    let bundle = sleeper();
    let before = Snapshot::of(&bundle);
    let copy = Copy::new(&bundle);
    bundle.write();
    copy.call(&bundle, &["create", &bundle.id]);
    if start {
        copy.call(&bundle, &["start", &bundle.id]);
    }
    fs::remove_file(&copy.0).expect("remove the binary");
    fs::remove_file(bundle.dir().join("config.json")).expect("remove config.json");
    assert_eq!(status(&bundle), if start { "running" } else { "created" });
    if !start {
        assert_eq!(bundle.call(["start", &bundle.id]).status, 0);
        assert_eq!(status(&bundle), "running");
    }
    assert_eq!(bundle.call(["kill", &bundle.id, "KILL"]).status, 0);
    eventually("stopped", || status(&bundle) == "stopped");
    assert_eq!(bundle.call(["delete", &bundle.id]).status, 0);
    before.assert_unchanged();
}

fn a_created_container_survives_its_binary_and_config() {
    lose_binary_and_config(false);
}

fn a_running_container_survives_its_binary_and_config() {
    lose_binary_and_config(true);
}

fn a_container_whose_bundle_is_gone_can_be_deleted() {
    let bundle = sleeper();
    let container = bundle.detach();
    fs::rename(bundle.dir(), bundle.home.join("elsewhere")).expect("move the bundle away");
    let call = |words: &[&str]| {
        let mut command = bundle.command(words);
        command.current_dir("/");
        bundle.finish(command)
    };
    assert_eq!(call(&["state", &bundle.id]).status, 0);
    assert_eq!(call(&["kill", &bundle.id, "KILL"]).status, 0);
    container.wait();
    let output = call(&["delete", &bundle.id]);
    fs::rename(bundle.home.join("elsewhere"), bundle.dir()).expect("move the bundle back");
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
}

pub fn state_file(bundle: &Bundle) -> PathBuf {
    bundle.root().join(&bundle.id).join("state.json")
}

/// The checksum that `src/store/record.rs` writes.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A state file that holds this.
pub fn sealed(json: &str) -> String {
    format!("{json}\n{:016x}\n", checksum(json.as_bytes()))
}

/// Changes a valid state into another valid one.
fn edit_state(bundle: &Bundle, edit: impl FnOnce(&mut Value)) {
    let text = fs::read_to_string(state_file(bundle)).expect("read the state");
    let json = text.lines().next().expect("a line");
    assert_eq!(text, sealed(json), "the checksum is not what this test knows");
    let mut value = serde_json::from_str(json).expect("parse the state");
    edit(&mut value);
    fs::write(state_file(bundle), sealed(&value.to_string())).expect("write the state");
}

/// Does something to a state file.
type Damage = fn(&Path);

/// F-07: the shapes in which a state file can be found.
const SHAPES: [(&str, Damage); 8] = [
    ("empty", |path| fs::write(path, "").expect("write")),
    ("half", |path| {
        let text = fs::read(path).expect("read");
        fs::write(path, &text[..text.len() / 2]).expect("write");
    }),
    ("garbage", |path| fs::write(path, b"\xff\x00{{{\n0\n").expect("write")),
    ("of a newer version", |path| {
        let text = fs::read_to_string(path).expect("read");
        let json = text.lines().next().expect("a line").replacen("\"version\":1", "\"version\":99", 1);
        fs::write(path, sealed(&json)).expect("write");
    }),
    ("missing", |path| fs::remove_file(path).expect("remove")),
    ("huge", |path| fs::File::create(path).and_then(|file| file.set_len(1 << 30)).expect("grow")),
    ("a directory of another's", |path| {
        // A valid file, but it says nothing that belongs to this container.
        fs::write(path, sealed("{\"version\":1}")).expect("write");
        std::os::unix::fs::chown(path, Some(1000), Some(1000)).expect("give it away");
    }),
    ("a FIFO", |path| {
        fs::remove_file(path).expect("remove");
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("make a FIFO");
    }),
];

fn broken(bring: fn(&Container)) {
    let mut wrong = Vec::new();
    for (shape, damage) in SHAPES {
        let good = sleeper();
        let bad = sleeper();
        // In one state directory.
        std::os::unix::fs::symlink(good.root(), bad.root()).expect("link the state directory");
        let healthy = good.create();
        let before = Snapshot::of(&bad);
        let container = bad.create();
        bring(&container);
        damage(&state_file(&bad));
        let list = bad.call(["list"]);
        let healthy_is_listed = list.stdout.contains(&format!("{} ", good.id)) && list.stdout.contains("created");
        if list.status != 0 || !healthy_is_listed || !list.stdout.contains(&bad.id) {
            wrong.push(format!("{shape}: list: {list:?}"));
        }
        let json = bad.call(["list", "--format", "json"]);
        if !serde_json::from_str::<Value>(&json.stdout).is_ok_and(|list| list[0]["id"] == good.id) {
            wrong.push(format!("{shape}: list in JSON: {json:?}"));
        }
        let state = bad.call(["state", &bad.id]);
        if state.status != 1 || state.stderr.lines().count() != 1 {
            wrong.push(format!("{shape}: state: {state:?}"));
        }
        let delete = bad.call(["delete", "--force", &bad.id]);
        if delete.status != 0 {
            wrong.push(format!("{shape}: delete --force: {delete:?}"));
        }
        let left: Vec<String> = before.delta();
        if !left.is_empty() {
            wrong.push(format!("{shape}: left: {left:?}"));
        }
        if healthy.status() != "created" {
            wrong.push(format!("{shape}: the other container has come to harm"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn a_broken_state_of_a_created_container_is_cleared() {
    broken(|_| ());
}

fn a_broken_state_of_a_running_container_is_cleared() {
    broken(|container| {
        container.start();
    });
}

fn a_broken_state_of_a_stopped_container_is_cleared() {
    broken(|container| {
        container.kill("KILL").wait();
    });
}

fn what_is_no_container_does_not_disturb_the_list() {
    let bundle = sleeper();
    let _container = bundle.create();
    let root = bundle.root();
    fs::write(root.join("file"), "").expect("write a file");
    fs::create_dir(root.join("empty")).expect("make a directory");
    fs::create_dir(root.join("a b")).expect("make a directory");
    std::os::unix::fs::symlink("/", root.join("link")).expect("make a link");
    let list = bundle.call(["list"]);
    assert!(list.status == 0 && list.stdout.contains(&bundle.id), "{list:?}");
    let delete = bundle.call(["delete", "--force", "empty"]);
    assert!(delete.status == 0 && !root.join("empty").exists(), "{delete:?}");
    for id in ["file", "link"] {
        let state = bundle.call(["state", id]);
        assert!(state.status == 1 && state.stderr.contains("container does not exist"), "{id}: {state:?}");
    }
    assert!(Path::new("/proc").exists() && root.join("file").exists());
}

/// F-11.
fn after_a_reboot_a_container_is_stopped() {
    let bundle = sleeper();
    let before = Snapshot::of(&bundle);
    let container = bundle.create();
    edit_state(&bundle, |state| state["bootId"] = json!("00000000-0000-0000-0000-000000000000"));
    assert_eq!(container.status(), "stopped");
    let kill = container.call("kill", &["KILL"]);
    assert!(kill.status == 1 && kill.stderr.contains("container not running"), "{kill:?}");
    container.ok("delete", &[]);
    before.assert_unchanged();
}

fn start_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read stat");
    let field = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19));
    field.and_then(|ticks| ticks.parse().ok()).expect("a start time")
}

/// F-10.
fn a_stranger_with_the_pid_is_never_signalled() {
    let mut stranger = Command::new("sleep").arg("1000").spawn().expect("start a stranger");
    // Before Linux 6.9 a process is known by its start time, in ticks of 10 ms.
    std::thread::sleep(std::time::Duration::from_millis(30));
    let bundle = sleeper();
    let before = Snapshot::of(&bundle);
    let container = bundle.detach();
    container.kill("KILL").wait();
    edit_state(&bundle, |state| {
        state["pid"] = json!(stranger.id());
        if !state["pidfs"].is_null() {
            // As if both had been started in the same tick.
            state["startTime"] = json!(start_time(stranger.id()));
        }
    });
    assert_eq!(container.status(), "stopped");
    for words in [&["kill", &bundle.id, "KILL"][..], &["kill", "--all", &bundle.id, "KILL"], &["delete", "--force", &bundle.id]] {
        bundle.call(words);
        assert!(stranger.try_wait().expect("look at the stranger").is_none(), "{words:?} ended it");
    }
    let _ = stranger.kill();
    let _ = stranger.wait();
    before.assert_unchanged();
}

/// Starts all at once; what each ended with and said.
pub fn at_once(bundle: &Bundle, commands: &[Vec<&str>]) -> Vec<(i32, String)> {
    let start = |(n, words): (usize, &Vec<&str>)| -> (Child, PathBuf) {
        let path = bundle.home.join(format!("at-once.{n}"));
        let mut command = bundle.command(words);
        command.stdout(Stdio::null()).stderr(fs::File::create(&path).expect("make a file for a stream"));
        (command.spawn().expect("start a command"), path)
    };
    let children: Vec<_> = commands.iter().enumerate().map(start).collect();
    let end = |(mut child, path): (Child, PathBuf)| {
        // Less than the ten seconds that a command waits for what does not come.
        let limit = std::time::Duration::from_secs(8);
        let status = crate::bundle::within(&mut child, limit).expect("a command hangs");
        (status, fs::read_to_string(path).expect("read a stream"))
    };
    children.into_iter().map(end).collect()
}

/// F-08: start, kill, delete and state of one container at once. Whatever comes first, the rest say one clean line, and
/// nothing is left.
fn many_commands_at_once_leave_one_winner() {
    for round in 0..30 {
        let bundle = sleeper();
        let before = Snapshot::of(&bundle);
        let _container = bundle.create();
        let id = bundle.id.as_str();
        let commands = [
            vec!["start", id],
            vec!["start", id],
            vec!["kill", id, "KILL"],
            vec!["state", id],
            vec!["delete", "--force", id],
            vec!["list"],
        ];
        for ((status, said), words) in at_once(&bundle, &commands).iter().zip(&commands) {
            let clean = if *status == 0 { said.is_empty() } else { *status == 1 && said.lines().count() == 1 };
            assert!(clean, "round {round}: {words:?} ends with {status} and says {said:?}");
            let must = matches!(words[0], "delete" | "list");
            assert!(!must || *status == 0, "round {round}: {words:?} ends with {status} and says {said:?}");
        }
        before.assert_unchanged();
    }
}

fn creates_of_one_id_at_once_have_one_winner() {
    for round in 0..5 {
        let bundle = sleeper();
        let before = Snapshot::of(&bundle);
        bundle.write();
        let ends = at_once(&bundle, &vec![vec!["create", bundle.id.as_str()]; 4]);
        let winners = ends.iter().filter(|(status, _)| *status == 0).count();
        assert_eq!(winners, 1, "round {round}: {ends:?}");
        for (status, said) in &ends {
            assert!(*status == 0 || said.contains("container with given ID already exists"), "round {round}: {ends:?}");
        }
        assert_eq!(status(&bundle), "created", "round {round}");
        assert_eq!(bundle.call(["delete", "--force", &bundle.id]).status, 0);
        before.assert_unchanged();
    }
}

/// F-09.
fn twenty_containers_at_once_do_not_mix() {
    let failed: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|n| {
                scope.spawn(move || {
                    let bundle = Bundle::new().sh(&format!("echo {n}; exit {n}"));
                    let before = Snapshot::of(&bundle);
                    let container = bundle.create();
                    let (status, printed) = (container.start().wait(), container.stdout());
                    container.ok("delete", &[]);
                    let left = before.delta();
                    let fine = status == n && printed == format!("{n}\n") && left.is_empty();
                    (!fine).then(|| format!("{n}: status {status}, printed {printed:?}, left {left:?}"))
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(failed.is_empty(), "{failed:#?} in {WORK}");
}
