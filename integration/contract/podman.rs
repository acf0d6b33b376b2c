//! Podman and conmon.

use super::all::bare;
use super::{pid_in, refused, silent, sleeper};
use crate::bundle::{Bundle, eventually};
use crate::case;
use crate::case::Case;
use serde_json::Value;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

pub fn cases() -> Vec<Case> {
    vec![
        case!(rule_2_4_the_log_is_one_json_object).except("runc", "logs warnings too").except("crun", "logs otherwise"),
        case!(rule_2_4_errors_say_what_podman_looks_for),
        case!(rule_2_4_init_and_exec_lead_sessions_of_their_own).except("crun", "1.8 makes none for exec"),
        case!(rule_2_4_a_failed_exec_says_why_and_leaves_no_pid_file).except("crun", super::WORDS),
        case!(rule_2_4_exec_hands_its_terminal_over),
        case!(rule_2_4_no_cgroup_manager).except("runc", "has no such flag"),
        case!(rule_2_4_a_killed_container_is_gone_once_reaped),
        case!(rule_2_4_delete_has_no_path_in_its_environment),
        case!(rule_2_4_preserved_descriptors_arrive),
        case!(rule_2_4_listen_fds_arrive).except("crun", "does not set LISTEN_FDS"),
        case!(rule_2_4_stdin_is_the_null_device),
    ]
}

fn rule_2_4_the_log_is_one_json_object() {
    // A warning would be a second one.
    let bundle = Bundle::new().args(["/absent"]).set("/process/capabilities/bounding/-", "CAP_UNKNOWN");
    bundle.write();
    let log = bundle.home.join("log").display().to_string();
    let output =
        bundle.call(["--log-format=json", "--log", &log, "create", "--bundle", &bundle.dir().display().to_string(), &bundle.id]);
    assert!(output.status != 0);
    let text = fs::read_to_string(&log).expect("read the log");
    let record: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(record["level"], "error");
    assert!(record["msg"].as_str().is_some_and(|m| m.contains("no such file or directory")) && record["time"].is_string());
}

/// `(?i).*permission denied.*`, `(?i).*executable file not found in.*|.*no such file or directory.*`.
fn rule_2_4_errors_say_what_podman_looks_for() {
    for (program, text) in
        [("nonesuch", "executable file"), ("/nonesuch", "no such file or directory"), ("/plain", "permission denied")]
    {
        let bundle = Bundle::new().file("/plain", 0o644, "x").args([program]);
        let output = bundle.run();
        assert!(output.status != 0 && output.stderr.to_lowercase().contains(text), "{program}: {output:?}");
    }
}

fn session(pid: i32) -> i32 {
    nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid))).expect("its session").as_raw()
}

/// conmon's time-out kills process groups.
fn rule_2_4_init_and_exec_lead_sessions_of_their_own() {
    let bundle = sleeper();
    let container = bundle.create();
    container.start();
    let path = bundle.home.join("exec.pid");
    let words = ["exec", "--pid-file", &path.display().to_string(), "--detach", &bundle.id, "sleep", "1000"];
    silent(&bundle.call(words));
    let exec = pid_in(&path);
    for pid in [container.pid, exec] {
        assert_eq!(session(pid), pid);
    }
}

/// conmon takes the pid file for success and nothing else.
fn rule_2_4_a_failed_exec_says_why_and_leaves_no_pid_file() {
    let bundle = sleeper();
    bundle.detach();
    let path = bundle.home.join("exec_pid");
    let call = |args: &[&str]| {
        let pid_file = path.display().to_string();
        bundle.call(["exec", "--pid-file", &pid_file, "--detach"].iter().chain(args))
    };
    let output = call(&[&bundle.id, "/absent"]);
    refused(&output, "no such file or directory");
    assert!(!path.exists());
    refused(&call(&["--cwd", "/absent", &bundle.id, "true"]), "no such file or directory");
    assert!(!path.exists());
}

fn rule_2_4_exec_hands_its_terminal_over() {
    let bundle = sleeper();
    bundle.detach();
    let path = bundle.home.join("term").display().to_string();
    let socket = UnixListener::bind(&path).expect("listen");
    let pid = bundle.home.join("exec_pid").display().to_string();
    let words = ["exec", "--pid-file", &pid, "--tty", "--detach", "--console-socket", &path, &bundle.id, "sleep", "1000"];
    silent(&bundle.call(words));
    let (connection, _) = socket.accept().expect("accept");
    onggi::sys::socket::recv_fd(connection.as_fd(), &mut [0; 4096]).expect("one descriptor");
}

fn rule_2_4_no_cgroup_manager() {
    let bundle = sleeper().flag("--cgroup-manager").flag("disabled").set("/linux/resources", serde_json::json!({}));
    let container = bundle.create();
    let of = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a cgroup");
    assert_eq!(of(&container.pid.to_string()), of("self"));
    container.start().kill("KILL").wait();
    container.ok("delete", &["--force"]);
}

fn rule_2_4_a_killed_container_is_gone_once_reaped() {
    let bundle = sleeper();
    let container = bundle.create();
    container.start().kill("9").wait();
    eventually("gone", || !std::path::Path::new(&format!("/proc/{}", container.pid)).exists());
    assert_eq!(container.status(), "stopped");
}

fn rule_2_4_delete_has_no_path_in_its_environment() {
    let bundle = sleeper();
    bundle.detach();
    silent(&bare(&bundle, &["delete", "--force", &bundle.id]));
    silent(&bare(&bundle, &["delete", "--force", &bundle.id]));
}

fn with_descriptors(bundle: &Bundle, line: &str, words: &[&str]) -> crate::bundle::Output {
    bundle.write();
    let run = bundle.command(words);
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &format!("{line}; exec \"$@\""), "bash"]).arg(run.get_program()).args(run.get_args());
    shell.current_dir(bundle.dir());
    bundle.finish(shell)
}

fn rule_2_4_preserved_descriptors_arrive() {
    let bundle = Bundle::new().sh("cat <&3; cat <&4");
    let line = "exec 3<<<three 4<<<four 7</dev/null";
    assert_eq!(with_descriptors(&bundle, line, &["run", "--preserve-fds", "2", &bundle.id]).stdout, "three\nfour\n");
    let bundle = Bundle::new();
    // A hole: nothing else may take its place.
    let output = with_descriptors(&bundle, "exec 3<&- 4</dev/null", &["run", "--preserve-fds", "2", &bundle.id]);
    assert!(crate::case::name_of_runtime() != "onggi" || output.status != 0, "{output:?}");
}

fn rule_2_4_listen_fds_arrive() {
    let bundle = Bundle::new().sh("echo $LISTEN_FDS $LISTEN_PID $(cat <&3)");
    let line = "exec 3<<<three; export LISTEN_FDS=1 LISTEN_PID=$$";
    assert_eq!(with_descriptors(&bundle, line, &["run", &bundle.id]).stdout, "1 1 three\n");
}

/// The container's own, once it is there: the mount that it was opened on is not the host's any more.
fn rule_2_4_stdin_is_the_null_device() {
    use std::os::unix::fs::MetadataExt;
    let bundle = Bundle::new().sh("cat; stat -L -c %t:%T /proc/self/fd/0; sleep 1000");
    let container = bundle.create();
    container.start();
    eventually("printed", || container.stdout() == "1:3\n");
    let null = |path: String| fs::metadata(path).map(|m| (m.dev(), m.ino())).expect("look at a device");
    let stdin = null(format!("/proc/{}/fd/0", container.pid));
    assert_eq!(stdin, null(format!("/proc/{}/root/dev/null", container.pid)));
    assert_ne!(stdin, null("/dev/null".into()));
}
