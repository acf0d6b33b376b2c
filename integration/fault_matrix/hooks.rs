//! F-18, F-24: nine ways in which a hook goes wrong, at each of the six stages; and a clock that is set meanwhile.

use super::{OURS, sleeper};
use crate::bundle::{Bundle, Output, limit};
use crate::case;
use crate::case::Case;
use crate::hostdelta::{CaseGroup, Snapshot};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

pub fn cases() -> Vec<Case> {
    vec![
        case!(f_18_prestart_hooks_end_in_time_and_leave_nothing).ours(OURS),
        case!(f_18_create_runtime_hooks_end_in_time_and_leave_nothing).ours(OURS),
        case!(f_18_create_container_hooks_end_in_time_and_leave_nothing).ours(OURS),
        case!(f_18_start_container_hooks_end_in_time_and_leave_nothing).ours(OURS),
        case!(f_18_poststart_hooks_end_in_time_and_leave_nothing).ours(OURS),
        case!(f_18_poststop_hooks_end_in_time_and_leave_nothing).ours(OURS),
        case!(f_24_a_clock_that_is_set_moves_no_time_limit).vm("a clock that may be set"),
    ]
}

/// Seconds that each hook has.
const TIMEOUT: u64 = 1;
/// More than that is not allowed.
const GRACE: Duration = Duration::from_millis(500);

/// A hook: what it does, as a script or a path, and whether it is a good one.
const BEHAVIOURS: [(&str, Result<&str, &str>, bool); 9] = [
    ("ends with a status", Ok("exit 3"), false),
    ("takes too long", Ok("exec sleep 1000"), false),
    ("hangs, deaf to signals", Ok("trap '' TERM INT HUP QUIT; while :; do sleep 1000; done"), false),
    ("forks twice and hangs", Ok("( (sleep 1000 & sleep 1001) & sleep 1002 & ) ; sleep 1003"), false),
    ("prints a mebibyte twice", Ok("head -c 1048576 /dev/zero; head -c 1048576 /dev/zero >&2"), true),
    ("closes its streams", Ok("exec <&- >&- 2>&-; sleep 0.1"), true),
    ("kills its parent", Ok("kill -9 $PPID; exec sleep 1000"), false),
    ("is missing", Err("/no/such/hook"), false),
    ("is not executable", Err("plain"), false),
];

fn with_hook(stage: &str, what: Result<&str, &str>) -> Bundle {
    let bundle = sleeper().file("/plain", 0o644, "#!/bin/sh\n");
    let plain = bundle.home.join("plain");
    fs::write(&plain, "#!/bin/sh\n").expect("write a file");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).expect("set its mode");
    let (path, args) = match what {
        Ok(script) => ("/bin/sh".to_owned(), json!(["sh", "-c", script])),
        Err("plain") if stage == "startContainer" => ("/plain".to_owned(), json!(["plain"])),
        Err("plain") => (plain.display().to_string(), json!(["plain"])),
        Err(path) => (path.to_owned(), json!([path])),
    };
    let env = json!(["PATH=/usr/bin:/bin"]);
    bundle.set(&format!("/hooks/{stage}"), json!([{"path": path, "args": args, "env": env, "timeout": TIMEOUT}]))
}

/// A command in the case's own cgroup, in which whatever it leaves can be found; and how long it took.
fn timed(bundle: &Bundle, group: &CaseGroup, words: &[&str]) -> (Output, Duration) {
    let command = bundle.command(words);
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"echo 0 >"$0/cgroup.procs" && exec "$@""#]).arg(group.path());
    shell.arg(command.get_program()).args(command.get_args()).current_dir(bundle.dir());
    let start = Instant::now();
    let output = bundle.finish(shell);
    (output, start.elapsed())
}

/// What went wrong, if something did; and how long the command with the hook took.
fn one(stage: &str, name: &str, what: Result<&str, &str>, good: bool) -> (Vec<String>, Duration) {
    let bundle = with_hook(stage, what);
    let group = CaseGroup::new(&bundle);
    let before = Snapshot::of(&bundle);
    bundle.write();
    let id = bundle.id.as_str();
    let life = [vec!["create", id], vec!["start", id], vec!["delete", "--force", id]];
    let at = match stage {
        "poststop" => 2,
        "startContainer" | "poststart" => 1,
        _ => 0,
    };
    let mut wrong = Vec::new();
    for words in &life[..at] {
        let (output, _) = timed(&bundle, &group, words);
        wrong.extend((output.status != 0).then(|| format!("{words:?}: {output:?}")));
    }
    let (output, took) = timed(&bundle, &group, &life[at]);
    // The parent of those that init runs is init, whom a PID namespace protects from its own.
    let killed = name == "kills its parent" && !["createContainer", "startContainer"].contains(&stage);
    let expected = match (good || stage == "poststop", killed) {
        (_, true) => 137,
        (true, _) => 0,
        (false, _) => 1,
    };
    wrong.extend((output.status != expected).then(|| format!("not {expected}: {output:?}")));
    if expected == 1 {
        let told = output.stderr.contains(&format!("/hooks/{stage}/0: ")) && output.stderr.lines().count() == 1;
        wrong.extend((!told).then(|| format!("not told: {output:?}")));
        // It is taken away at once; what was killed has `delete` for that.
        wrong.extend(before.delta());
    }
    if killed && at == 0 {
        let until = Instant::now() + Duration::from_secs(1);
        while before.has_processes() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        wrong.extend(before.has_processes().then(|| "a process is alive after a second".to_owned()));
    }
    let (delete, _) = timed(&bundle, &group, &life[2]);
    // With poststop hooks that kill their parent there is no end but without them.
    if killed && stage == "poststop" {
        let _ = fs::remove_dir_all(bundle.root().join(id));
    } else {
        wrong.extend((delete.status != 0).then(|| format!("delete: {delete:?}")));
    }
    wrong.extend(before.delta());
    if !wrong.is_empty() {
        group.sweep_up(&bundle);
    }
    (wrong, took)
}

fn stage(stage: &str) {
    let most = Duration::from_secs(TIMEOUT) + GRACE;
    let (mut wrong, mut longest) = (Vec::new(), Duration::ZERO);
    for (name, what, good) in BEHAVIOURS {
        // A machine that is busy with something else for half a second is not what is tested.
        let (found, took) = (0..3)
            .map(|_| one(stage, name, what, good))
            .find(|(w, t)| !w.is_empty() || *t <= most)
            .unwrap_or_else(|| (vec![format!("takes more than {most:?}, three times")], most));
        longest = longest.max(took);
        wrong.extend(found.iter().map(|line| format!("{name}: {line}")));
    }
    eprintln!("{stage}: the longest of {} took {longest:?}", BEHAVIOURS.len());
    assert!(wrong.is_empty(), "{stage}:\n{}", wrong.join("\n"));
}

fn f_18_prestart_hooks_end_in_time_and_leave_nothing() {
    stage("prestart");
}

fn f_18_create_runtime_hooks_end_in_time_and_leave_nothing() {
    stage("createRuntime");
}

fn f_18_create_container_hooks_end_in_time_and_leave_nothing() {
    stage("createContainer");
}

fn f_18_start_container_hooks_end_in_time_and_leave_nothing() {
    stage("startContainer");
}

fn f_18_poststart_hooks_end_in_time_and_leave_nothing() {
    stage("poststart");
}

fn f_18_poststop_hooks_end_in_time_and_leave_nothing() {
    stage("poststop");
}

/// A day ahead ends no hook early, a day back lets none go on.
fn f_24_a_clock_that_is_set_moves_no_time_limit() {
    let set = |seconds: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let to = now.cast_signed() + seconds;
        super::host(&["date", "-s", &format!("@{to}")]);
    };
    let during = |script: &str, timeout: u64, seconds: i64| {
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": timeout}]);
        let bundle = Bundle::new().set("/hooks/createRuntime", hook);
        bundle.write();
        let start = Instant::now();
        let mut child = bundle.command(["run", &bundle.id]).spawn().expect("start a run");
        crate::bundle::eventually("in the hook", || bundle.dir().join("begun").exists());
        set(seconds);
        let status = crate::bundle::within(&mut child, limit());
        set(-seconds);
        (status, start.elapsed())
    };
    let (status, _) = during("touch begun; sleep 3", 60, 86_400);
    assert_eq!(status, Some(0));
    let (status, took) = during("touch begun; sleep 1000", 5, -86_400);
    assert!(status == Some(1) && took < Duration::from_secs(30), "{status:?} {took:?}");
}
