//! F-03, F-10, F-13, F-15, F-16: processes that die early, come to bear another's number, do not go, or are too many.

use super::{OURS, sleeper, within_one_of_three};
use crate::bundle::{Bundle, Container, eventually, limit};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use crate::stage::this_program_as;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub fn cases() -> Vec<Case> {
    vec![
        case!(f_03_init_killed_before_start_is_told_at_once).except("crun", "words it otherwise"),
        case!(f_03_init_killed_in_a_hook_of_start_is_told_at_once)
            .ours("others have no such hooks in start, or word it otherwise"),
        case!(f_10_a_number_that_is_used_again_is_nobody_s_container).ours(OURS).both(),
        case!(f_13_an_init_that_does_not_go_is_named_and_deleted_later).ours(OURS),
        case!(f_13_a_process_that_does_not_go_is_named_and_deleted_later).ours(OURS),
        case!(f_15_a_frozen_container_is_killed_within_a_second).ours(OURS),
        case!(f_15_a_container_below_a_frozen_cgroup_is_killed_within_a_second).ours(OURS),
        case!(f_15_a_term_to_a_frozen_container_waits_for_its_thaw),
        case!(f_16_a_tree_that_ignores_signals_is_gone_in_two_seconds),
        case!(f_16_two_thousand_that_fork_are_gone_in_two_seconds).vm("the pids controller"),
    ]
}

fn group(container: &Container) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid)).expect("read a cgroup");
    PathBuf::from(format!("/sys/fs/cgroup{}", text.lines().last().unwrap_or_default().trim_start_matches("0::")))
}

/// Runs it; how long that took.
#[track_caller]
fn timed(container: &Container, words: &[&str]) -> Duration {
    let start = Instant::now();
    container.ok(words[0], &words[1..]);
    start.elapsed()
}

/// A second here; the virtual machine is emulated.
fn second() -> Duration {
    if crate::stage::vm() { Duration::from_secs(20) } else { Duration::from_secs(1) }
}

fn f_03_init_killed_before_start_is_told_at_once() {
    within_one_of_three(second(), killed_before_start);
}

fn killed_before_start() -> Duration {
    let bundle = sleeper();
    let before = Snapshot::of(&bundle);
    let container = bundle.create();
    let init = nix::unistd::Pid::from_raw(container.pid);
    nix::sys::signal::kill(init, nix::sys::signal::SIGKILL).expect("kill init");
    assert_eq!(container.wait(), 137);
    let start = Instant::now();
    let output = container.call("start", &[]);
    assert!(output.status == 1 && output.error().contains("stopped"), "{output:?}");
    let took = start.elapsed();
    assert_eq!(container.status(), "stopped");
    container.ok("delete", &[]);
    before.assert_unchanged();
    took
}

/// Between what `start` says to it and the program.
fn f_03_init_killed_in_a_hook_of_start_is_told_at_once() {
    within_one_of_three(second(), killed_in_a_hook);
}

fn killed_in_a_hook() -> Duration {
    let hooks = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo >/begun; sleep 1000"]}]});
    let bundle = sleeper().set("/hooks", hooks);
    let before = Snapshot::of(&bundle);
    let container = bundle.create();
    let said = bundle.home.join("start.said");
    let mut command = bundle.command(["start", &bundle.id]);
    let file = fs::File::create(&said).expect("make a file");
    let mut child = command.stdout(Stdio::null()).stderr(file).spawn().expect("start the container");
    eventually("in the hook", || bundle.rootfs().join("begun").exists());
    let init = nix::unistd::Pid::from_raw(container.pid);
    nix::sys::signal::kill(init, nix::sys::signal::SIGKILL).expect("kill init");
    let begin = Instant::now();
    let status = crate::bundle::within(&mut child, limit()).expect("start goes on waiting");
    let took = begin.elapsed();
    let said = fs::read_to_string(said).expect("read what start said");
    assert!(status == 1 && said.contains("container init died") && said.lines().count() == 1, "{status}: {said}");
    assert_eq!(container.status(), "stopped");
    container.ok("delete", &[]);
    before.assert_unchanged();
    took
}

/// In a PID namespace of its own, where the next number can be chosen and nobody else counts. The stranger comes some clock
/// ticks later, in which start times are told: all numbers of a machine are not used up in one.
fn f_10_a_number_that_is_used_again_is_nobody_s_container() {
    let script = r#"
        set -e
        id=$1; shift
        "$@" run --detach --pid-file pid "$id" >/dev/null 2>&1
        pid=$(cat pid)
        "$@" kill "$id" KILL
        while [ -e /proc/$pid ]; do sleep 0.01 & wait $!; done
        sleep 0.05 & wait $!
        stranger=0
        for n in $(seq 200); do
            echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid
            sleep 1000 & stranger=$!
            [ $stranger != $pid ] || break
            kill $stranger; wait $stranger || true
        done
        echo same $((stranger == pid))
        "$@" state "$id" | grep -o '"status": *"[a-z]*"'
        "$@" list | grep -o "$id .* stopped "  | sed 's/.* \([a-z]*\) /list \1/'
        for words in "kill $id KILL" "kill --all $id KILL" "exec $id true" "pause $id" "start $id" "delete --force $id"; do
            status=0
            "$@" $words 2>/dev/null || status=$?
            echo ${words%% *} $status
        done
        kill -0 $stranger && echo unharmed
        kill -KILL $stranger"#;
    let bundle = sleeper();
    bundle.write();
    let before = Snapshot::of(&bundle);
    let runtime = bundle.command::<&str>([]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount", "--mount-proc", "--kill-child", "sh", "-c", script, "sh", &bundle.id]);
    command.arg(runtime.get_program()).args(runtime.get_args()).current_dir(bundle.dir());
    let output = bundle.finish(command);
    let said: Vec<String> = output.stdout.lines().map(|line| line.replace("\": \"", "\":\"")).collect();
    let expected = [
        "same 1",
        "\"status\":\"stopped\"",
        "list stopped",
        "kill 1",
        "kill 0",
        "exec 255",
        "pause 1",
        "start 1",
        "delete 0",
        "unharmed",
    ];
    assert_eq!(said, expected, "{output:?}");
    before.assert_unchanged();
}

/// A process that a kill does not end, until this is dropped.
struct Held(Child);

impl Held {
    fn new(pid: i32) -> Held {
        let mut holder = this_program_as("holder");
        holder.arg(pid.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = holder.spawn().expect("start a holder");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut said).expect("wait for it");
        assert_eq!(said, "held\n");
        Held(child)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A try in vain, of ten seconds at most, then one that does it.
fn held(bundle: &Bundle, pick: fn(&Container) -> i32) {
    let before = Snapshot::of(bundle);
    let container = bundle.detach();
    let pid = pick(&container);
    let held = Held::new(pid);
    let start = Instant::now();
    let mut delete = bundle.command(["delete", "--force", &bundle.id]);
    delete.current_dir("/");
    let output = bundle.finish_within(delete, limit()).expect("delete goes on for ever");
    let took = start.elapsed();
    assert!(output.status == 1 && output.stderr.lines().count() == 1, "{output:?}");
    assert!(output.stderr.contains(&pid.to_string()), "{pid} not in {output:?}");
    assert!((9..20).contains(&took.as_secs()), "{took:?}");
    assert!(bundle.root().join(&bundle.id).join("state.json").exists());
    // Another look at it is not held up.
    assert_eq!(bundle.call(["list"]).status, 0);
    drop(held);
    container.ok("delete", &["--force"]);
    before.assert_unchanged();
}

fn f_13_an_init_that_does_not_go_is_named_and_deleted_later() {
    held(&sleeper(), |container| container.pid);
}

/// Beside an init that dies, in a PID namespace of others'.
fn f_13_a_process_that_does_not_go_is_named_and_deleted_later() {
    let bundle = Bundle::new().sh("sleep 1000 & exec sleep 1001");
    let list = bundle.config["linux"]["namespaces"].as_array().expect("namespaces").clone();
    let list: Vec<Value> = list.into_iter().filter(|n| n["type"] != "pid").collect();
    held(&bundle.set("/linux/namespaces", list), |container| {
        let file = group(container).join("cgroup.procs");
        let pids = || fs::read_to_string(&file).unwrap_or_default();
        eventually("two processes", || pids().lines().count() == 2);
        pids().lines().filter_map(|pid| pid.parse().ok()).find(|pid| *pid != container.pid).expect("another process")
    });
}

fn freeze(group: &std::path::Path) {
    fs::write(group.join("cgroup.freeze"), "1").expect("freeze");
    eventually("frozen", || fs::read_to_string(group.join("cgroup.events")).is_ok_and(|text| text.contains("frozen 1")));
}

/// `kill KILL` and then `delete`, or `delete --force` alone; and what is refused meanwhile.
fn frozen(prepare: fn(&Container) -> PathBuf) {
    for words in [["kill", "KILL"], ["delete", "--force"]] {
        within_one_of_three(second(), || ended_frozen(&words, prepare));
    }
}

fn ended_frozen(words: &[&str], prepare: fn(&Container) -> PathBuf) -> Duration {
    let bundle = sleeper();
    let path = format!("/frozen-{0}/{0}", bundle.id);
    let bundle = bundle.set("/linux/cgroupsPath", path);
    let before = Snapshot::of(&bundle);
    let container = bundle.detach();
    let froze = prepare(&container);
    freeze(&froze);
    assert_eq!(container.status(), "paused");
    let exec = container.call("exec", &["true"]);
    assert!(exec.status == 255 && exec.stderr.contains("cannot exec in a paused container"), "{exec:?}");
    let took = timed(&container, words);
    if words[0] == "kill" {
        assert_eq!(container.wait(), 137);
        container.ok("delete", &[]);
    }
    // The cgroup above is the caller's: it stays, and is as it was left.
    let above = PathBuf::from(format!("/sys/fs/cgroup/frozen-{}", bundle.id));
    if froze == above {
        assert_eq!(fs::read_to_string(above.join("cgroup.freeze")).expect("read it").trim(), "1");
    }
    fs::remove_dir(above).expect("remove the cgroup above");
    before.assert_unchanged();
    took
}

fn f_15_a_frozen_container_is_killed_within_a_second() {
    frozen(group);
}

fn f_15_a_container_below_a_frozen_cgroup_is_killed_within_a_second() {
    frozen(|container| group(container).parent().expect("a parent").to_owned());
}

/// The signal is not lost, and nothing thaws the container behind its owner's back.
fn f_15_a_term_to_a_frozen_container_waits_for_its_thaw() {
    let bundle = Bundle::new().sh("trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done");
    let container = bundle.detach();
    eventually("ready", || container.stdout() == "ready\n");
    freeze(&group(&container));
    container.kill("TERM");
    assert_eq!(container.status(), "paused");
    container.ok("resume", &[]);
    assert_eq!(container.wait(), 9);
}

/// How long the end of `least` processes or more takes.
fn tree(bundle: &Bundle, least: usize) -> Duration {
    let before = Snapshot::of(bundle);
    let container = bundle.detach();
    let file = group(&container).join("cgroup.procs");
    let count = || fs::read_to_string(&file).unwrap_or_default().lines().count();
    // Two thousand take their time in an emulated machine.
    let begin = Instant::now();
    while count() < least {
        assert!(begin.elapsed() < Duration::from_secs(120), "{} processes of {least}", count());
        std::thread::sleep(Duration::from_millis(20));
    }
    container.kill("TERM");
    std::thread::sleep(Duration::from_millis(50));
    let there = count();
    let took = timed(&container, &["delete", "--force"]);
    eprintln!("{there} processes are gone after {took:?}");
    assert!(there >= least * 9 / 10, "{there} processes are left by the signal");
    before.assert_unchanged();
    took
}

fn f_16_a_tree_that_ignores_signals_is_gone_in_two_seconds() {
    let script =
        "trap '' TERM INT HUP QUIT; f() { test $1 = 0 || { f $(($1 - 1)) & f $(($1 - 1)) & }; while :; do sleep 1; done; }; f 5";
    within_one_of_three(Duration::from_secs(2), || tree(&Bundle::new().sh(script), 60));
}

/// Emulated, two seconds are many: what is measured is that it does not depend on how they fork.
fn f_16_two_thousand_that_fork_are_gone_in_two_seconds() {
    let bomb = "trap '' TERM; n=0; while [ $n != 1000 ]; do n=$((n+1)); (while :; do sleep 20; done) & done 2>/dev/null; wait";
    let bundle = Bundle::new().sh(bomb).set("/linux/resources/pids", json!({"limit": 2000}));
    let took = tree(&bundle, 1900);
    assert!(took < Duration::from_secs(60), "{took:?}");
}
