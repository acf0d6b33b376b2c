//! Rules that hold for every caller.

use super::{no_resources, pid_in, refused, silent, sleeper};
use crate::bundle::{Bundle, Output, within};
use crate::case;
use crate::case::{Case, name_of_runtime, runtime};
use crate::hostdelta::Snapshot;
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        case!(rule_2_0_1_success_is_silent),
        case!(rule_2_0_1_stdout_of_create_and_exec_is_the_program_s),
        case!(rule_2_0_2_a_failure_is_one_line_in_the_log_and_on_stderr).except("crun", "adds a time of its own to stderr"),
        case!(rule_2_0_3_pid_file),
        case!(rule_2_0_3_pid_file_of_a_failure).ours("crun and runc 1.1 leave an old one as it is only at times"),
        case!(rule_2_0_4_init_and_exec_are_orphans_of_the_caller),
        case!(rule_2_0_5_the_driver_of_create_counts_later)
            .except("crun", "takes no such flag then")
            .except("runc", "needs systemd"),
        case!(rule_2_0_6_a_bare_environment_is_enough),
        case!(rule_2_0_7_what_a_killed_create_leaves_is_cleared).ours("others leave processes at times"),
        case!(rule_2_0_7_a_state_directory_without_state_is_cleared).except("crun", "prints an error"),
        case!(rule_2_0_8_forced_delete_of_nothing_succeeds_in_silence).except("crun", "prints an error and succeeds"),
        case!(rule_2_0_9_called_runc_it_says_runc).except("crun", "says crun"),
        case!(debug_tells_what_is_done_and_nothing_does_otherwise).ours("the words are ours"),
        case!(rule_2_0_10_harmless_flags_are_taken).ours("each has some of them"),
    ]
}

fn rule_2_0_1_success_is_silent() {
    let bundle = sleeper();
    let container = bundle.create();
    let update = format!("--resources={}", no_resources(&bundle));
    for words in [&["start"][..], &["pause"], &["resume"], &["update", &update], &["kill", "KILL"]] {
        container.ok(words[0], &words[1..]);
    }
    container.wait();
    container.ok("delete", &[]);
    assert_eq!((container.stdout(), container.stderr()), (String::new(), String::new()));
}

fn rule_2_0_1_stdout_of_create_and_exec_is_the_program_s() {
    let bundle = Bundle::new().sh("echo one; echo two >&2; sleep 1000");
    let container = bundle.create();
    container.start();
    crate::bundle::eventually("printed", || container.stderr() == "two\n");
    assert_eq!(container.stdout(), "one\n");
    let output = bundle.call(["exec", &bundle.id, "sh", "-c", "echo three; echo four >&2"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("three\n", "four\n"));
}

/// The records of a log in JSON, as containerd decodes them: every one must be whole.
pub fn records(text: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(text).into_iter().map(|value| value.expect("a record in JSON")).collect()
}

fn rule_2_0_2_a_failure_is_one_line_in_the_log_and_on_stderr() {
    let bundle = Bundle::new().args(["/absent"]);
    bundle.write();
    let log = bundle.home.join("log.json").display().to_string();
    for words in
        [&["create", &bundle.id][..], &["state", "absent"], &["start", "absent"], &["kill", "absent"], &["exec", "absent", "x"]]
    {
        fs::write(&log, "").expect("empty the log");
        let output = bundle.call(["--log", &log, "--log-format", "json"].iter().chain(words));
        assert!(output.status != 0, "{words:?}: {output:?}");
        let records = records(&fs::read_to_string(&log).expect("read the log"));
        let errors: Vec<_> = records.iter().filter(|r| r["level"] == "error").collect();
        assert_eq!(errors.len(), 1, "{words:?}: {records:?}");
        let message = errors[0]["msg"].as_str().expect("a message");
        assert_eq!(output.error(), message, "{words:?}");
    }
}

fn rule_2_0_3_pid_file() {
    let bundle = sleeper();
    let path = bundle.home.join("pid");
    fs::write(&path, "1234567 old\n").expect("leave an old pid file");
    let container = bundle.create();
    assert_eq!(pid_in(&path), container.pid);
    assert_eq!(container.state()["pid"], container.pid);
    let exec = bundle.home.join("exec.pid");
    silent(&bundle.call(["exec", "--detach", "--pid-file", &exec.display().to_string(), &bundle.id, "sleep", "1000"]));
    let pid = pid_in(&exec);
    assert!(pid != container.pid);
    crate::bundle::eventually("its program", || fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "sleep\n"));
}

fn rule_2_0_3_pid_file_of_a_failure() {
    let bundle = Bundle::new().args(["/absent"]);
    bundle.write();
    let path = bundle.home.join("pid");
    assert!(bundle.call(["create", "--pid-file", &path.display().to_string(), &bundle.id]).status != 0);
    assert!(!path.exists());
    // CRI-O makes it beforehand, and reads nothing from it then.
    fs::write(&path, "").expect("make an empty pid file");
    assert!(bundle.call(["create", "--pid-file", &path.display().to_string(), &bundle.id]).status != 0);
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), "");
}

fn rule_2_0_4_init_and_exec_are_orphans_of_the_caller() {
    let bundle = Bundle::new().sh("while ! test -e /tmp/go; do sleep 0.02; done; exit 7");
    let container = bundle.create();
    container.start();
    let path = bundle.home.join("exec.pid");
    let words = ["exec", "--detach", "--pid-file", &path.display().to_string(), &bundle.id, "sh", "-c", "sleep 0.2; exit 5"];
    silent(&bundle.call(words));
    let pid = pid_in(&path);
    for pid in [container.pid, pid] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read its status");
        assert!(status.contains("PPid:\t1\n"), "{status}");
    }
    // By waitpid(2) of the sub-reaper: nobody else has.
    assert_eq!(crate::stage::exit_status(pid), Some(5));
    fs::write(bundle.rootfs().join("tmp/go"), "").expect("let it go");
    assert_eq!(container.wait(), 7);
}

fn rule_2_0_5_the_driver_of_create_counts_later() {
    let bundle = sleeper();
    let container = bundle.create();
    let update = format!("--resources={}", no_resources(&bundle));
    for words in [&["start"][..], &["pause"], &["resume"], &["update", &update], &["kill", "KILL"], &["delete", "--force"]] {
        let output = bundle.call(["--systemd-cgroup"].iter().chain(&words[..1]).chain(&[bundle.id.as_str()]).chain(&words[1..]));
        silent(&output);
    }
    refused(&container.call("state", &[]), "container does not exist");
}

/// As a follow-up call of Podman's: no PATH, no HOME, nothing.
pub fn bare(bundle: &Bundle, words: &[&str]) -> Output {
    let mut command = bundle.command(words);
    // A bare name is looked up before the environment is emptied.
    let program = crate::bundle::find_program(&runtime()).expect("find the runtime");
    let mut bare = Command::new(program);
    bare.args(command.get_args()).env_clear().current_dir(bundle.dir()).stdin(Stdio::null());
    std::mem::swap(&mut command, &mut bare);
    bundle.finish(command)
}

fn rule_2_0_6_a_bare_environment_is_enough() {
    let bundle = sleeper();
    let container = bundle.create();
    let update = format!("--resources={}", no_resources(&bundle));
    for words in [&["start"][..], &["pause"], &["resume"], &["update", &update], &["kill", "KILL"]] {
        let (flags, rest): (Vec<&str>, Vec<&str>) = words[1..].iter().partition(|word| word.starts_with("--"));
        silent(&bare(&bundle, &[&words[..1], &flags, &[bundle.id.as_str()], &rest].concat()));
        assert_eq!(bare(&bundle, &["state", &bundle.id]).status, 0);
    }
    container.wait();
    silent(&bare(&bundle, &["delete", "--force", &bundle.id]));
}

fn rule_2_0_7_what_a_killed_create_leaves_is_cleared() {
    let bundle = sleeper();
    bundle.write();
    let before = Snapshot::of(&bundle);
    for n in 0..20 {
        let mut child =
            bundle.command(["create", &bundle.id]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("create");
        std::thread::sleep(Duration::from_micros(n * 250));
        child.kill().expect("kill the runtime");
        child.wait().expect("reap the runtime");
        silent(&bundle.call(["delete", "--force", &bundle.id]));
        before.assert_unchanged();
    }
}

fn rule_2_0_7_a_state_directory_without_state_is_cleared() {
    let bundle = Bundle::new();
    let place = bundle.root().join(&bundle.id);
    fs::create_dir_all(&place).expect("make a state directory");
    silent(&bundle.call(["delete", "--force", &bundle.id]));
    assert!(!place.exists());
}

fn rule_2_0_8_forced_delete_of_nothing_succeeds_in_silence() {
    let bundle = Bundle::new();
    silent(&bundle.call(["delete", "--force", "never-made"]));
    silent(&bundle.call(["delete", "-f", "never-made"]));
}

fn rule_2_0_9_called_runc_it_says_runc() {
    let output = Command::new(runtime()).arg0("/usr/bin/runc").arg("--version").output().expect("run it");
    let text = String::from_utf8_lossy(&output.stdout);
    let first: Vec<&str> = text.lines().next().unwrap_or_default().split(' ').collect();
    assert_eq!((first.len(), first[0], first[1]), (3, "runc", "version"), "{text}");
    assert!(name_of_runtime() == "runc" || runtime().ends_with("onggi"));
}

fn debug_tells_what_is_done_and_nothing_does_otherwise() {
    let secret = "TOKEN=hush";
    let bundle = Bundle::new().set("/process/env/-", secret);
    bundle.write();
    let log = bundle.home.join("log.json");
    let path = log.display().to_string();
    silent(&bundle.call(["--log", &path, "--log-format", "json", "run", &bundle.id]));
    assert_eq!(fs::read_to_string(&log).expect("read the log"), "");
    silent(&bundle.call(["--debug", "--log", &path, "--log-format", "json", "run", &bundle.id]));
    let text = fs::read_to_string(&log).expect("read the log");
    let said: Vec<String> = records(&text).iter().filter_map(|r| r["msg"].as_str().map(str::to_owned)).collect();
    for words in
        ["is process", "host: Host", "plan: child  pivot to the rootfs", "cloned process", "is made, its init is", "is deleted"]
    {
        assert!(said.iter().any(|line| line.contains(words)), "{words:?} not in {said:#?}");
    }
    assert!(!text.contains("hush"), "an environment may hold secrets");
}

fn rule_2_0_10_harmless_flags_are_taken() {
    let bundle = sleeper();
    bundle.write();
    let root = bundle.root().display().to_string();
    let create = ["--rootless=true", "--root", &root, "create", "-no-subreaper", "--detach", "--no-new-keyring", &bundle.id];
    silent(&bundle.call(create));
    silent(&bundle.call(["start", &bundle.id]));
    // Bool flags as Go writes and repeats them, flags after the id.
    silent(&bundle.call(["kill", "--all=false", &bundle.id, "KILL"]));
    silent(&bundle.call(["delete", &bundle.id, "-f", "--force=true"]));
    let other = sleeper();
    other.write();
    let mut run = other.command(["run", "--keep", "--keep=false", "-no-subreaper=true", "--detach=1", &other.id]);
    run.stdout(File::create(other.home.join("out")).expect("a file"));
    assert_eq!(within(&mut run.spawn().expect("run"), Duration::from_secs(10)), Some(0));
}
