//! kill and delete come to an end whatever the container is like, and many commands on one container do each other no harm.

use crate::bundle::{Bundle, eventually, within};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use crate::stage::this_program_as;
use crate::survival::at_once;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const OTHERS: &str = "others leave processes or a cgroup at times";

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_paused_container_dies_of_kill),
        case!(a_threaded_cgroup_is_emptied).ours(OTHERS),
        case!(a_shared_pid_namespace_is_emptied_by_kill).except("crun", "leaves them without --all").except("runc", "1.1 too"),
        case!(what_outlives_init_goes_with_delete).except("crun", "leaves them").except("runc", "1.1 leaves them"),
        case!(kill_ends_what_has_outlived_init).except("crun", "finds no container").except("runc", "1.1 signals init alone"),
        case!(what_forks_constantly_is_ended),
        case!(what_forks_constantly_beside_init_is_ended).ours(OTHERS),
        case!(an_init_without_its_first_thread_runs).ours("others say that it has stopped"),
        case!(zombies_inside_are_no_obstacle),
        case!(execs_do_not_hold_a_delete_up).ours(OTHERS),
        case!(starts_at_once_have_one_winner).ours("others start a container twice at times"),
        case!(deletes_at_once_have_one_winner).ours("others fail otherwise"),
        case!(forced_deletes_at_once_all_succeed).ours(OTHERS),
        case!(kills_at_once_do_no_harm).ours("others word the late ones otherwise"),
        case!(pauses_and_resumes_at_once_do_no_harm).ours("others word the late ones otherwise"),
        case!(six_different_commands_at_once_leave_nothing).ours(OTHERS),
    ]
}

fn sleeper() -> Bundle {
    Bundle::new().args(["sleep", "1000"])
}

/// Without a PID namespace of its own.
fn shared(bundle: Bundle) -> Bundle {
    let list = bundle.config["linux"]["namespaces"].as_array().expect("namespaces").clone();
    bundle.set("/linux/namespaces", list.into_iter().filter(|n| n["type"] != "pid").collect::<Vec<Value>>())
}

fn cgroup_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
    format!("/sys/fs/cgroup{}", text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default())
}

fn members(directory: &str) -> usize {
    fs::read_to_string(format!("{directory}/cgroup.procs")).map_or(0, |text| text.lines().count())
}

/// A parent that never reaps the container's init: it becomes a sub-reaper, runs the command, and waits for the end of its
/// stdin. The program behind the name `keeper`.
pub fn keeper() -> ExitCode {
    nix::sys::prctl::set_child_subreaper(true).expect("become a sub-reaper");
    let words: Vec<String> = std::env::args().skip(1).collect();
    let status = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).status().expect("run a command");
    println!("{}", status.code().unwrap_or(255));
    let _end = std::io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

/// A running [`keeper`].
pub struct Keeper {
    child: Child,
    pid: i32,
}

impl Keeper {
    /// `run --detach` below it.
    pub fn detach(bundle: &Bundle) -> Keeper {
        bundle.write();
        let file = bundle.home.join("kept.pid");
        let run = bundle.command(["run", "--detach", "--pid-file", &file.display().to_string(), &bundle.id]);
        let mut keeper = this_program_as("keeper");
        keeper.arg(run.get_program()).args(run.get_args()).current_dir(bundle.dir());
        let out = fs::File::create(bundle.home.join("kept.out")).expect("make a file");
        let child = keeper.stdin(Stdio::piped()).stdout(out).spawn().expect("start a keeper");
        eventually("the container", || fs::read_to_string(bundle.home.join("kept.out")).is_ok_and(|t| t.ends_with("0\n")));
        let pid = fs::read_to_string(file).expect("read the pid file").parse().expect("a pid");
        Keeper { child, pid }
    }

    /// Whether the container's init is dead and not reaped.
    pub fn is_zombie(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| stat.contains(") Z "))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn a_paused_container_dies_of_kill() {
    let bundle = sleeper();
    let before = Snapshot::of(&bundle);
    let container = bundle.detach();
    container.ok("pause", &[]);
    container.kill("KILL");
    assert_eq!(container.wait(), 137);
    container.ok("delete", &[]);
    before.assert_unchanged();
}

fn a_threaded_cgroup_is_emptied() {
    let bundle = sleeper().sh("sleep 1000 & sleep 1001 & sleep 1002");
    let before = Snapshot::of(&bundle);
    let container = bundle.detach();
    let cgroup = cgroup_of(container.pid);
    eventually("three processes", || members(&cgroup) >= 3);
    // Its own becomes the domain of a threaded one, which lists no processes.
    let threaded = format!("{cgroup}/threaded");
    fs::create_dir(&threaded).expect("make a cgroup");
    fs::write(format!("{threaded}/cgroup.type"), "threaded").expect("make it a threaded one");
    for pid in fs::read_to_string(format!("{cgroup}/cgroup.procs")).expect("list the processes").lines() {
        fs::write(format!("{threaded}/cgroup.threads"), pid).expect("move a thread");
    }
    assert!(fs::read_to_string(format!("{threaded}/cgroup.procs")).is_err());
    let listed: Value = serde_json::from_str(&container.call("ps", &["--format=json"]).stdout).expect("an array");
    assert!(listed.as_array().is_some_and(|pids| pids.len() >= 3), "{listed}");
    let exec = container.call("exec", &["true"]);
    assert_eq!(exec.status, 0, "{exec:?}");
    container.ok("pause", &[]);
    container.ok("resume", &[]);
    container.ok("kill", &["--all", "TERM"]);
    container.ok("delete", &["--force"]);
    before.assert_unchanged();
}

fn a_shared_pid_namespace_is_emptied_by_kill() {
    let bundle = shared(sleeper().sh("sleep 1000 & sleep 1001 & wait"));
    let container = bundle.detach();
    let cgroup = cgroup_of(container.pid);
    eventually("three processes", || members(&cgroup) == 3);
    container.kill("KILL").wait();
    eventually("none", || members(&cgroup) == 0);
    container.ok("delete", &[]);
}

fn what_outlives_init_goes_with_delete() {
    let bundle = shared(Bundle::new().sh("sleep 1000 & sleep 1001 & exit 0"));
    let before = Snapshot::of(&bundle);
    let container = bundle.create();
    container.start().wait();
    eventually("stopped", || container.status() == "stopped");
    assert!(before.has_processes());
    container.ok("delete", &[]);
    before.assert_unchanged();
}

fn kill_ends_what_has_outlived_init() {
    let bundle = shared(Bundle::new().sh("sleep 1000 & sleep 1001 & exit 0"));
    let container = bundle.create();
    let cgroup = cgroup_of(container.pid);
    container.start().wait();
    eventually("stopped", || container.status() == "stopped");
    assert_eq!(members(&cgroup), 2);
    // Only that signal: no other has somebody to go to.
    for signal in ["TERM", "0"] {
        let output = container.call("kill", &[signal]);
        assert!(output.status == 1 && output.stderr.contains("container not running"), "{output:?}");
    }
    container.kill("KILL");
    eventually("nobody is left", || members(&cgroup) == 0);
    let output = container.call("kill", &["KILL"]);
    assert!(output.status == 1 && output.stderr.contains("container not running"), "{output:?}");
    container.ok("delete", &[]);
}

const FORKS: &str = "for i in 1 2 3; do (while :; do (sleep 0.01 &); done) & done; wait";

fn ends_in_time(bundle: &Bundle) {
    let before = Snapshot::of(bundle);
    let container = bundle.detach();
    let cgroup = cgroup_of(container.pid);
    eventually("many", || members(&cgroup) > 4);
    let start = Instant::now();
    container.ok("delete", &["--force"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    before.assert_unchanged();
}

fn what_forks_constantly_is_ended() {
    ends_in_time(&Bundle::new().sh(FORKS));
}

fn what_forks_constantly_beside_init_is_ended() {
    ends_in_time(&shared(Bundle::new().sh(FORKS)));
}

/// It is shown as a zombie, and its parent is told of no end.
fn an_init_without_its_first_thread_runs() {
    let bundle = Bundle::new().inside(&["linger"]);
    let before = Snapshot::of(&bundle);
    let container = bundle.detach();
    eventually("the end of its first thread", || {
        fs::read_to_string(format!("/proc/{}/stat", container.pid)).is_ok_and(|stat| stat.contains(") Z "))
    });
    assert_eq!(container.status(), "running");
    let list: Value = serde_json::from_str(&bundle.call(["list", "--format", "json"]).stdout).expect("an array");
    assert_eq!(list[0]["status"], "running");
    let delete = container.call("delete", &[]);
    assert!(delete.status == 1 && delete.stderr.contains("running"), "{delete:?}");
    container.kill("KILL");
    assert_eq!(container.wait(), 137);
    assert_eq!(container.status(), "stopped");
    container.ok("delete", &[]);
    before.assert_unchanged();
}

/// A first process that never waits for its children.
fn zombies_inside_are_no_obstacle() {
    let bundle = Bundle::new().sh("for i in 1 2 3 4; do sleep 0 & done; exec sleep 1000");
    let before = Snapshot::of(&bundle);
    let container = bundle.detach();
    eventually("its program", || {
        fs::read_to_string(format!("/proc/{}/cmdline", container.pid)).is_ok_and(|c| c.starts_with("sleep\u{0}1000"))
    });
    container.ok("delete", &["--force"]);
    before.assert_unchanged();
}

fn execs_do_not_hold_a_delete_up() {
    for _ in 0..5 {
        let bundle = shared(sleeper());
        let before = Snapshot::of(&bundle);
        bundle.detach();
        let start = |_| {
            let mut command = bundle.command(["exec", "--detach", &bundle.id, "sleep", "1000"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start an exec")
        };
        let mut children: Vec<Child> = (0..6).map(start).collect();
        let started = Instant::now();
        assert_eq!(bundle.call(["delete", "--force", &bundle.id]).status, 0);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        for child in &mut children {
            assert!(within(child, Duration::from_secs(10)).is_some());
        }
        before.assert_unchanged();
    }
}

/// Six times the same; how many won, when each loser says one of the texts.
fn six(bundle: &Bundle, words: &[&str], texts: &[&str]) -> usize {
    let ends = at_once(bundle, &vec![words.to_vec(); 6]);
    for (status, said) in &ends {
        let known = said.lines().count() == 1 && texts.iter().any(|text| said.contains(text));
        assert!(*status == 0 && said.is_empty() || *status == 1 && known, "{words:?}: {ends:?}");
    }
    ends.iter().filter(|(status, _)| *status == 0).count()
}

fn starts_at_once_have_one_winner() {
    let bundle = sleeper();
    bundle.create();
    assert_eq!(six(&bundle, &["start", &bundle.id], &["cannot start an already running container"]), 1);
}

fn deletes_at_once_have_one_winner() {
    let bundle = sleeper();
    let before = Snapshot::of(&bundle);
    let container = bundle.create();
    container.start().kill("KILL").wait();
    assert_eq!(six(&bundle, &["delete", &bundle.id], &["container does not exist"]), 1);
    before.assert_unchanged();
}

fn forced_deletes_at_once_all_succeed() {
    let bundle = sleeper();
    let before = Snapshot::of(&bundle);
    bundle.detach();
    assert_eq!(six(&bundle, &["delete", "--force", &bundle.id], &[]), 6);
    before.assert_unchanged();
}

fn kills_at_once_do_no_harm() {
    let bundle = sleeper();
    let container = bundle.detach();
    assert!(six(&bundle, &["kill", &bundle.id, "KILL"], &["container not running"]) >= 1);
    assert_eq!(container.wait(), 137);
}

fn pauses_and_resumes_at_once_do_no_harm() {
    let bundle = sleeper();
    let container = bundle.detach();
    assert!(six(&bundle, &["pause", &bundle.id], &["container not running"]) >= 1);
    assert_eq!(container.status(), "paused");
    assert!(six(&bundle, &["resume", &bundle.id], &["container not paused"]) >= 1);
    assert_eq!(container.status(), "running");
}

fn six_different_commands_at_once_leave_nothing() {
    for round in 0..10 {
        let bundle = sleeper();
        let before = Snapshot::of(&bundle);
        bundle.detach();
        let id = bundle.id.as_str();
        let commands = [
            vec!["pause", id],
            vec!["exec", "--detach", id, "sleep", "1000"],
            vec!["resume", id],
            vec!["kill", id, "TERM"],
            vec!["ps", "--format=json", id],
            vec!["delete", "--force", id],
        ];
        for ((status, said), words) in at_once(&bundle, &commands).iter().zip(&commands) {
            let clean = if *status == 0 { said.is_empty() } else { [1, 255].contains(status) && said.lines().count() == 1 };
            assert!(clean, "round {round}: {words:?} ends with {status} and says {said:?}");
            assert!(words[0] != "delete" || *status == 0, "round {round}: {said:?}");
        }
        before.assert_unchanged();
    }
}
