//! create, start, state, kill, delete: what engines read and match. The words of the errors are runc's.

use crate::bundle::{Bundle, Output, eventually, within};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

const WORDS: &str = "words its errors otherwise";

pub fn cases() -> Vec<Case> {
    vec![
        case!(run_prints_what_the_program_prints),
        case!(run_ends_with_the_status_of_the_program),
        case!(run_ends_with_128_and_the_signal),
        case!(run_reads_our_standard_input),
        case!(run_leaves_nothing),
        case!(run_keep_leaves_a_stopped_container).except("crun", "1.8 has no --keep"),
        case!(run_detached_goes_on),
        case!(create_writes_the_pid_as_digits_without_a_newline),
        case!(create_replaces_an_old_pid_file),
        case!(a_failed_create_writes_no_pid_file),
        case!(the_program_does_not_run_before_start),
        case!(the_stdout_of_create_is_the_container_s),
        case!(the_first_process_is_an_orphan_of_the_caller),
        case!(state_tells_what_the_specification_asks_for),
        case!(state_has_the_annotations),
        case!(once_started_it_is_running_at_once),
        case!(a_name_that_is_no_text_hides_nothing),
        case!(a_stopped_container_has_pid_0),
        case!(a_killed_created_container_is_stopped),
        case!(a_container_deleted_before_start_is_gone),
        case!(a_container_that_was_never_started_goes_without_force).except("crun", "refuses it"),
        case!(a_created_container_outlives_its_config),
        case!(a_used_id_is_refused_and_its_container_unharmed).except("crun", WORDS),
        case!(bad_ids_are_refused).except("crun", "takes most of them"),
        case!(commands_on_an_unknown_id_say_so).except("crun", WORDS),
        case!(forced_delete_of_an_unknown_id_succeeds_in_silence).except("crun", "prints an error and succeeds"),
        case!(start_twice_is_refused).except("crun", WORDS),
        case!(start_after_the_end_is_refused).except("crun", WORDS),
        case!(delete_of_a_running_container_is_refused).except("crun", WORDS),
        case!(forced_delete_of_a_running_container_leaves_nothing),
        case!(kill_takes_names_and_numbers),
        case!(kill_sends_term_when_not_told_otherwise).except("crun", "has no default signal"),
        case!(kill_of_a_stopped_container_says_so).except("crun", WORDS),
        case!(kill_of_an_unknown_signal_fails).except("crun", "takes any word for signal 0"),
        case!(errors_go_to_the_log_and_to_stderr).except("crun", "logs the level only with --debug"),
        case!(a_text_log_is_the_default),
        case!(another_file_can_be_the_config).except("runc", "has no such flag"),
        case!(a_missing_config_is_named).except("crun", WORDS),
        case!(a_missing_program_is_named_as_engines_expect).except("crun", WORDS),
        case!(a_missing_path_is_named_as_engines_expect).except("crun", WORDS),
        case!(the_words_before_it_are_those_of_a_current_runc).ours("runc 1.1 has fewer of them"),
        case!(a_program_without_x_bit_is_named_as_engines_expect).except("crun", WORDS),
        case!(a_terminal_needs_a_socket_when_detached).except("crun", WORDS),
        case!(a_socket_needs_a_terminal).except("crun", "ignores it"),
        case!(preserved_descriptors_are_3_and_up),
        case!(other_descriptors_do_not_get_in),
        case!(spec_writes_a_config_that_runs),
        case!(spec_does_not_overwrite),
        case!(version_has_a_line_with_version_and_one_with_spec),
    ]
}

fn sleeper() -> Bundle {
    Bundle::new().args(["sleep", "1000"])
}

#[track_caller]
fn refused(output: &Output, text: &str) {
    assert!(output.status != 0 && output.stderr.contains(text), "{text:?} not in {output:?}");
}

fn run_prints_what_the_program_prints() {
    assert_eq!(Bundle::new().args(["echo", "hello"]).stdout(), "hello\n");
}

fn run_ends_with_the_status_of_the_program() {
    assert_eq!(Bundle::new().sh("exit 42").run().status, 42);
}

fn run_ends_with_128_and_the_signal() {
    // As the first process of a PID namespace it is safe from its own signals.
    let bundle = sleeper();
    bundle.write();
    let mut run = bundle.command(["run", &bundle.id]).spawn().expect("start a run");
    eventually("running", || state_of(&bundle)["status"] == "running");
    let output = bundle.call(["kill", &bundle.id, "KILL"]);
    assert_eq!(output.status, 0, "{output:?}");
    assert_eq!(within(&mut run, Duration::from_secs(10)), Some(137));
}

fn state_of(bundle: &Bundle) -> Value {
    let mut command = bundle.command(["state", &bundle.id]);
    let output = command.output().expect("run state");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

fn run_reads_our_standard_input() {
    let bundle = Bundle::new().args(["cat"]);
    bundle.write();
    fs::write(bundle.home.join("in"), "spoken").expect("write the input");
    let mut run = bundle.command(["run", &bundle.id]);
    run.stdin(fs::File::open(bundle.home.join("in")).expect("open the input"));
    assert_eq!(bundle.finish(run).stdout, "spoken");
}

fn run_leaves_nothing() {
    let bundle = Bundle::new();
    let before = Snapshot::of(&bundle);
    bundle.stdout();
    before.assert_unchanged();
}

fn run_keep_leaves_a_stopped_container() {
    let bundle = Bundle::new();
    assert_eq!(bundle.run_with(&["--keep"]).status, 0);
    assert_eq!(state_of(&bundle)["status"], "stopped");
    assert_eq!(bundle.call(["delete", &bundle.id]).status, 0);
}

fn run_detached_goes_on() {
    let bundle = sleeper();
    let container = bundle.detach();
    assert_eq!(container.status(), "running");
    assert!(fs::read_to_string(format!("/proc/{}/cmdline", container.pid)).unwrap_or_default().starts_with("sleep"));
}

fn create_writes_the_pid_as_digits_without_a_newline() {
    let bundle = sleeper();
    let container = bundle.create();
    let text = fs::read_to_string(bundle.home.join("pid")).expect("read the pid file");
    assert!(text.bytes().all(|byte| byte.is_ascii_digit()), "{text:?}");
    assert_eq!(container.state()["pid"], container.pid);
}

fn create_replaces_an_old_pid_file() {
    let bundle = sleeper();
    fs::write(bundle.home.join("pid"), "4000000000000 and more").expect("write an old pid file");
    assert_eq!(bundle.create().status(), "created");
}

fn a_failed_create_writes_no_pid_file() {
    let bundle = Bundle::new().args(["/absent"]);
    bundle.write();
    let pid_file = bundle.home.join("pid");
    let output = bundle.call(["create", "--pid-file", &pid_file.display().to_string(), &bundle.id]);
    assert!(output.status != 0 && !pid_file.exists(), "{output:?}");
}

fn the_program_does_not_run_before_start() {
    let bundle = Bundle::new().args(["touch", "/tmp/ran"]);
    let container = bundle.create();
    std::thread::sleep(Duration::from_millis(50));
    assert!(!bundle.rootfs().join("tmp/ran").exists());
    assert_eq!(container.start().wait(), 0);
    assert!(bundle.rootfs().join("tmp/ran").exists());
}

fn the_stdout_of_create_is_the_container_s() {
    let bundle = Bundle::new().sh("echo out; echo err >&2");
    let container = bundle.create();
    container.start().wait();
    assert_eq!((container.stdout().as_str(), container.stderr().as_str()), ("out\n", "err\n"));
}

fn the_first_process_is_an_orphan_of_the_caller() {
    // Its exit status reaches the subreaper: nobody else has waited for it.
    let bundle = Bundle::new().sh("exit 7");
    let container = bundle.create();
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid)).expect("read its status");
    assert!(status.contains("PPid:\t1\n"), "{status}");
    assert_eq!(container.start().wait(), 7);
}

fn state_tells_what_the_specification_asks_for() {
    let bundle = sleeper();
    let container = bundle.create();
    let state = container.state();
    assert_eq!(state["id"], bundle.id);
    assert_eq!(state["status"], "created");
    assert_eq!(state["pid"], container.pid);
    assert_eq!(state["bundle"], bundle.dir().display().to_string());
    assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{state}");
    assert!(state["created"].as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{state}");
    assert_eq!(container.start().status(), "running");
    container.kill("KILL").wait();
    assert_eq!(container.status(), "stopped");
}

fn state_has_the_annotations() {
    let bundle = sleeper().set("/annotations", json!({"org.example.a": "b"}));
    assert_eq!(bundle.create().state()["annotations"]["org.example.a"], "b");
}

fn once_started_it_is_running_at_once() {
    // Exec lets go of what tells the status in an order of its own.
    for _ in 0..10 {
        let bundle = sleeper();
        let container = bundle.create();
        assert_eq!(container.start().status(), "running");
    }
}

/// A process gives itself a name of any bytes, and so does the kernel: it cuts that of a file after 15.
fn a_name_that_is_no_text_hides_nothing() {
    let bundle = Bundle::new().sh("printf '\\355\\225' > /proc/self/comm; sleep 1000; true");
    let container = bundle.create();
    container.start();
    let name = format!("/proc/{}/comm", container.pid);
    eventually("another name", || fs::read(&name).is_ok_and(|name| name == b"\xed\x95\n"));
    assert_eq!(container.status(), "running");
    container.ok("exec", &["true"]);
    container.kill("KILL");
    container.wait();
    assert_eq!(container.status(), "stopped");
}

fn a_stopped_container_has_pid_0() {
    let bundle = Bundle::new();
    let container = bundle.create();
    container.start().wait();
    eventually("stopped", || container.status() == "stopped");
    assert_eq!(container.state()["pid"], 0);
}

fn a_killed_created_container_is_stopped() {
    let bundle = sleeper();
    let container = bundle.create();
    container.kill("KILL").wait();
    assert_eq!(container.status(), "stopped");
    container.ok("delete", &[]);
}

fn a_container_deleted_before_start_is_gone() {
    let bundle = sleeper();
    let before = Snapshot::of(&bundle);
    let container = bundle.create();
    container.ok("delete", &["--force"]);
    before.assert_unchanged();
}

fn a_container_that_was_never_started_goes_without_force() {
    let bundle = Bundle::new();
    let container = bundle.create();
    container.ok("delete", &[]);
    refused(&container.call("state", &[]), "container does not exist");
}

fn a_created_container_outlives_its_config() {
    let bundle = sleeper();
    let container = bundle.create();
    fs::remove_file(bundle.dir().join("config.json")).expect("remove config.json");
    container.start();
    assert_eq!(container.status(), "running");
    container.kill("KILL").wait();
    container.ok("delete", &[]);
}

fn a_used_id_is_refused_and_its_container_unharmed() {
    let bundle = sleeper();
    let container = bundle.create();
    refused(&container.call("create", &[]), "container with given ID already exists");
    assert_eq!(container.status(), "created");
    assert_eq!(container.start().status(), "running");
}

fn bad_ids_are_refused() {
    let bundle = Bundle::new();
    bundle.write();
    for id in ["a/b", "..", ".", "a b", "ä", "../x", "a\n"] {
        refused(&bundle.call(["create", id]), "invalid container ID format");
    }
}

fn commands_on_an_unknown_id_say_so() {
    let bundle = Bundle::new();
    for command in ["state", "start", "kill", "delete"] {
        let output = bundle.call([command, "absent"]);
        assert_eq!(output.status, 1, "{command}: {output:?}");
        refused(&output, "container does not exist");
    }
}

fn forced_delete_of_an_unknown_id_succeeds_in_silence() {
    let output = Bundle::new().call(["delete", "--force", "absent"]);
    assert!(output.status == 0 && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

fn start_twice_is_refused() {
    let bundle = sleeper();
    let container = bundle.create();
    refused(&container.start().call("start", &[]), "cannot start an already running container");
    assert_eq!(container.status(), "running");
}

fn start_after_the_end_is_refused() {
    let bundle = Bundle::new();
    let container = bundle.create();
    container.start().wait();
    eventually("stopped", || container.status() == "stopped");
    refused(&container.call("start", &[]), "cannot start a container that has stopped");
}

fn delete_of_a_running_container_is_refused() {
    let bundle = sleeper();
    let container = bundle.detach();
    let text = format!("cannot delete container {} that is not stopped: running", bundle.id);
    refused(&container.call("delete", &[]), &text);
    assert_eq!(container.status(), "running");
}

fn forced_delete_of_a_running_container_leaves_nothing() {
    let bundle = Bundle::new().sh("sleep 1000 & sleep 1001 & trap '' TERM; wait");
    let before = Snapshot::of(&bundle);
    bundle.detach().ok("delete", &["--force"]);
    before.assert_unchanged();
}

fn kill_takes_names_and_numbers() {
    let bundle =
        Bundle::new().sh("for s in USR1 USR2 HUP; do trap \"echo $s\" $s; done; echo ready; while :; do sleep 0.01; done");
    let container = bundle.detach();
    let seen = |text: &str| eventually(text, || container.stdout().contains(text));
    seen("ready");
    for (signal, name) in [("USR1", "USR1"), ("SIGUSR2", "USR2"), ("1", "HUP")] {
        container.kill(signal);
        seen(name);
    }
}

fn kill_sends_term_when_not_told_otherwise() {
    let bundle = Bundle::new().sh("trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
    let container = bundle.detach();
    eventually("ready", || container.stdout().contains("ready"));
    container.ok("kill", &[]);
    assert_eq!(container.wait(), 3);
}

fn kill_of_a_stopped_container_says_so() {
    let bundle = Bundle::new();
    let container = bundle.create();
    container.start().wait();
    eventually("stopped", || container.status() == "stopped");
    refused(&container.call("kill", &["KILL"]), "container not running");
}

fn kill_of_an_unknown_signal_fails() {
    let bundle = sleeper();
    let container = bundle.detach();
    for signal in ["NOSUCH", "1000", "9x"] {
        let output = container.call("kill", &[signal]);
        assert!(output.status != 0 && !output.stderr.is_empty(), "{signal:?}: {output:?}");
    }
    assert_eq!(container.status(), "running");
}

fn errors_go_to_the_log_and_to_stderr() {
    let bundle = Bundle::new();
    let log = bundle.home.join("log");
    let bundle = bundle.flag("--log").flag(&log.display().to_string()).flag("--log-format").flag("json");
    let output = bundle.call(["state", "absent"]);
    refused(&output, "container does not exist");
    let text = fs::read_to_string(log).expect("read the log");
    let entry: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).expect("parse the log");
    assert_eq!(entry["level"], "error", "{text}");
    assert!(entry["msg"].as_str().is_some_and(|msg| msg.contains("container does not exist")), "{text}");
    assert!(entry["time"].as_str().is_some_and(|time| time.starts_with("20") && time.contains('T')), "{text}");
}

fn a_text_log_is_the_default() {
    let bundle = Bundle::new();
    let log = bundle.home.join("log");
    bundle.call(["--log", &log.display().to_string(), "state", "absent"]);
    let text = fs::read_to_string(log).expect("read the log");
    assert!(!text.is_empty() && !text.starts_with('{'), "{text}");
}

fn another_file_can_be_the_config() {
    let bundle = Bundle::new().args(["echo", "other"]);
    fs::write(bundle.dir().join("other.json"), bundle.config.to_string()).expect("write another file");
    for form in [["--config", "other.json"], ["-f", "other.json"]] {
        assert_eq!(bundle.call(["run"].iter().chain(&form).chain(&[bundle.id.as_str()])).stdout, "other\n");
    }
}

fn a_missing_config_is_named() {
    let bundle = Bundle::new();
    refused(&bundle.call(["create", &bundle.id]), "JSON specification file config.json not found");
}

fn a_missing_program_is_named_as_engines_expect() {
    Bundle::new().args(["nonesuch"]).fails("exec: \"nonesuch\": executable file not found in $PATH");
}

fn a_missing_path_is_named_as_engines_expect() {
    Bundle::new().args(["/nonesuch"]).fails("exec: \"/nonesuch\": stat /nonesuch: no such file or directory");
}

fn the_words_before_it_are_those_of_a_current_runc() {
    let bundle = Bundle::new().args(["nonesuch"]);
    bundle.write();
    let text = "runc create failed: unable to start container process: error during container init: exec: \"nonesuch\": ";
    refused(&bundle.call(["create", &bundle.id]), text);
}

fn a_program_without_x_bit_is_named_as_engines_expect() {
    Bundle::new().file("/plain", 0o644, "x").args(["/plain"]).fails("exec: \"/plain\": permission denied");
}

fn a_terminal_needs_a_socket_when_detached() {
    let bundle = sleeper().set("/process/terminal", true);
    bundle.write();
    let text = "cannot allocate tty if runc will detach without setting console socket";
    refused(&bundle.call(["create", &bundle.id]), text);
}

fn a_socket_needs_a_terminal() {
    let bundle = sleeper();
    bundle.write();
    let text = "cannot use console socket if runc will not detach or allocate tty";
    refused(&bundle.call(["create", "--console-socket", "/run/absent", &bundle.id]), text);
}

fn preserved_descriptors_are_3_and_up() {
    let bundle = Bundle::new().sh("cat <&3; cat <&4");
    bundle.write();
    for (name, text) in [("a", "first "), ("b", "second")] {
        fs::write(bundle.home.join(name), text).expect("write a file");
    }
    let run = bundle.command(["run", "--preserve-fds", "2", &bundle.id]);
    let output = bundle.finish(through_shell(&run, "exec 3<a 4<b", &bundle));
    assert_eq!((output.status, output.stdout.as_str()), (0, "first second"), "{output:?}");
}

fn other_descriptors_do_not_get_in() {
    let bundle = Bundle::new().inside(&["report"]);
    bundle.write();
    let run = bundle.command(["run", &bundle.id]);
    let output = bundle.finish(through_shell(&run, "exec 7</dev/null 9</ 100</etc", &bundle));
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let numbers: Vec<&String> = report["fds"].as_object().expect("descriptors").keys().collect();
    assert_eq!(numbers, ["0", "1", "2"], "{}", report["fds"]);
}

/// The same command after a line of shell, which starts in the directory `home`.
pub fn through_shell(command: &std::process::Command, line: &str, bundle: &Bundle) -> std::process::Command {
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &format!("cd \"$0\"; {line}; cd bundle; exec \"$@\"")]).arg(&bundle.home);
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

fn spec_writes_a_config_that_runs() {
    let bundle = Bundle::new();
    let output = bundle.call(["spec"]);
    assert_eq!(output.status, 0, "{output:?}");
    let path = bundle.dir().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("read config.json")).expect("parse config.json");
    assert_eq!(config["process"]["args"], json!(["sh"]));
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["echo", "ran"]);
    // What this machine lets us do is not what is tested.
    if crate::case::name_of_runtime() == "crun" && !crate::stage::vm() {
        config["linux"]["resources"] = json!({});
    }
    fs::write(path, config.to_string()).expect("write config.json");
    let output = bundle.call(["run", &bundle.id]);
    assert_eq!((output.status, output.stdout.as_str()), (0, "ran\n"), "{output:?}");
}

fn spec_does_not_overwrite() {
    let bundle = Bundle::new();
    bundle.write();
    let before = fs::read(bundle.dir().join("config.json")).expect("read config.json");
    assert!(bundle.call(["spec"]).status != 0);
    assert_eq!(fs::read(bundle.dir().join("config.json")).expect("read config.json"), before);
}

fn version_has_a_line_with_version_and_one_with_spec() {
    let output = Bundle::new().call(["--version"]);
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stdout.lines().next().is_some_and(|line| line.contains(" version ")), "{output:?}");
    assert!(output.stdout.lines().any(|line| line.starts_with("spec: 1.")), "{output:?}");
    assert!(output.stdout.lines().any(|line| line.starts_with("commit: ")), "{output:?}");
}
