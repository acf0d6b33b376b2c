//! exec: a further process in a container, by flags and by a process object, in the foreground and detached.

use crate::bundle::{Bundle, Container, Output, eventually, within};
use crate::case;
use crate::case::Case;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::Duration;

const WORDS: &str = "words its errors otherwise";

pub fn cases() -> Vec<Case> {
    vec![
        case!(runs_in_the_namespaces_of_the_container),
        case!(shares_the_namespaces_that_the_container_shares),
        case!(is_in_the_cgroup_of_the_container),
        case!(goes_to_the_cgroup_of_init_when_that_has_moved).except("crun", "1.8 fails").except("runc", "1.1 fails"),
        case!(runs_in_a_cgroup_below).except("crun", "the path is from the root").except("runc", "1.1 fails on cgroup v2"),
        case!(ends_with_the_status_of_the_program),
        case!(ends_with_128_and_the_signal),
        case!(own_failures_are_255).except("crun", "1").except("runc", "1.1: 1 for wrong usage"),
        case!(words_of_a_missing_program).ours("runc 1.1 has other words before it"),
        case!(words_of_a_missing_path).ours("runc 1.1 has other words before it"),
        case!(words_of_a_missing_cwd).except("crun", WORDS).except("runc", "1.1 has other words"),
        case!(words_of_a_stopped_container).except("crun", WORDS).except("runc", "1.1 has other words"),
        case!(words_of_an_unknown_container).except("crun", WORDS),
        case!(words_of_no_program).except("crun", WORDS).except("runc", "1.1 prints its usage too"),
        case!(a_paused_container_is_refused).except("crun", "has no such check").except("runc", "1.1 has other words"),
        case!(a_paused_container_is_entered_when_asked).except("crun", "has no --ignore-paused"),
        case!(works_before_start),
        case!(inherits_from_the_process_of_the_container).except("crun", "1.8 takes root when no user is given"),
        case!(flags_change_the_process).except("crun", "1.8 lacks --additional-gids"),
        case!(a_process_object_is_all_there_is).except("crun", "differs in what is not said"),
        case!(a_process_object_is_read_from_stdin).ours("others take files only"),
        case!(process_objects_of_engines_run).ours("crun takes no CAP_ that it does not know, runc 1.1 no ioPriority"),
        case!(the_seccomp_filter_is_that_of_the_container),
        case!(no_descriptor_of_the_runtime_is_open),
        case!(preserved_descriptors_are_3_and_up),
        case!(a_missing_preserved_descriptor_is_refused).except("crun", "does not look"),
        case!(detached_writes_the_pid_file_and_leaves),
        case!(a_failed_exec_writes_no_pid_file),
        case!(a_detached_process_is_an_orphan_of_the_caller),
        case!(a_terminal_goes_to_the_socket).except("crun", "sets the size when the program runs already"),
        case!(a_detached_terminal_needs_a_socket).except("crun", WORDS),
        case!(the_pidfd_is_that_of_the_process).ours("runc has it since 1.2"),
        case!(signals_are_passed_on),
        case!(affinity_is_as_asked).ours("runc has it since 1.3"),
        case!(oom_score_adj_is_as_asked).ours("runc takes the container's own alone"),
        case!(in_a_user_namespace).except("crun", "1.8 cannot make one here").except("runc", "1.1 cannot make one here"),
        case!(in_a_time_namespace).ours("the others are older"),
        case!(labels_are_refused_by_name).ours("ours until they are supported"),
        case!(a_hundred_in_a_row),
        case!(twenty_at_once),
        case!(stdout_is_intact_with_a_slow_reader),
    ]
}

fn sleeper() -> Bundle {
    Bundle::new().args(["sleep", "1000"])
}

/// `exec FLAGS ID ARGS`.
fn exec(container: &Container, flags: &[&str], args: &[&str]) -> Output {
    let id = container.bundle.id.as_str();
    container.bundle.call(["exec"].iter().chain(flags).chain([&id]).chain(args))
}

#[track_caller]
fn ok(container: &Container, flags: &[&str], args: &[&str]) -> String {
    let output = exec(container, flags, args);
    assert!(output.status == 0 && output.error().is_empty(), "{flags:?} {args:?}: {output:?}");
    output.stdout
}

#[track_caller]
fn report(container: &Container, flags: &[&str]) -> Value {
    let printed = ok(container, flags, &["/inside", "report"]);
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

#[track_caller]
fn refused(output: &Output, text: &str) {
    assert!(output.status != 0 && output.error().contains(text), "{text:?} not in {output:?}");
}

/// The namespace's number.
fn link(pid: i32, namespace: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(format!("/proc/{pid}/ns/{namespace}")).expect("look at a namespace").ino()
}

fn runs_in_the_namespaces_of_the_container() {
    let bundle = sleeper();
    let container = bundle.detach();
    let report = report(&container, &[]);
    for kind in ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup"] {
        assert_eq!(report["namespaces"][kind], link(container.pid, kind), "{kind}");
    }
    assert_eq!(report["cmdline_of_1"], "sleep 1000");
    assert_eq!(report["cwd"], "/");
}

fn shares_the_namespaces_that_the_container_shares() {
    let bundle = sleeper();
    let list = bundle.config["linux"]["namespaces"].as_array().expect("namespaces").clone();
    let kept: Vec<Value> = list.into_iter().filter(|n| n["type"] == "mount" || n["type"] == "pid").collect();
    let bundle = bundle.set("/linux/namespaces", kept).remove("/hostname");
    let mounts = json!([{"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}]);
    let bundle = bundle.set("/mounts", mounts);
    let container = bundle.detach();
    let report = report(&container, &[]);
    let own = std::process::id().try_into().expect("a pid");
    assert_eq!(report["namespaces"]["net"], link(own, "net"));
    assert_eq!(report["namespaces"]["pid"], link(container.pid, "pid"));
}

fn cgroup_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read a cgroup").lines().last().unwrap_or_default().to_owned()
}

/// The detached process with the pid that the file gave.
fn detached(container: &Container, flags: &[&str], args: &[&str]) -> i32 {
    let pid_file = container.bundle.home.join("exec.pid").display().to_string();
    let flags: Vec<&str> = ["--detach", "--pid-file", &pid_file].iter().chain(flags).copied().collect();
    ok(container, &flags, args);
    fs::read_to_string(pid_file).expect("read the pid file").parse().expect("digits alone")
}

fn is_in_the_cgroup_of_the_container() {
    let bundle = sleeper();
    let container = bundle.detach();
    let pid = detached(&container, &[], &["sleep", "1000"]);
    assert_eq!(cgroup_of(pid), cgroup_of(container.pid));
}

/// The directory of the container's cgroup.
fn directory(container: &Container) -> String {
    let line = cgroup_of(container.pid);
    format!("/sys/fs/cgroup{}", line.trim_start_matches("0::"))
}

fn goes_to_the_cgroup_of_init_when_that_has_moved() {
    let bundle = sleeper();
    let container = bundle.detach();
    let top = directory(&container);
    fs::create_dir(format!("{top}/init")).expect("make a cgroup");
    fs::write(format!("{top}/init/cgroup.procs"), container.pid.to_string()).expect("move init");
    // Threaded or not, a cgroup that hands a controller down holds no process.
    let controllers = fs::read_to_string(format!("{top}/cgroup.controllers")).expect("read the controllers");
    let Some(one) = controllers.split_whitespace().next() else { return };
    fs::write(format!("{top}/cgroup.subtree_control"), format!("+{one}")).expect("hand a controller down");
    let pid = detached(&container, &[], &["sleep", "1000"]);
    assert_eq!(cgroup_of(pid), cgroup_of(container.pid));
}

fn runs_in_a_cgroup_below() {
    let bundle = sleeper();
    let container = bundle.detach();
    fs::create_dir(format!("{}/sub", directory(&container))).expect("make a cgroup");
    let pid = detached(&container, &["--cgroup", "sub"], &["sleep", "1000"]);
    assert_eq!(cgroup_of(pid), format!("{}/sub", cgroup_of(container.pid)));
    for away in ["../..", "absent"] {
        assert_eq!(exec(&container, &["--cgroup", away], &["true"]).status, 255, "{away}");
    }
}

fn ends_with_the_status_of_the_program() {
    let bundle = sleeper();
    let container = bundle.detach();
    for status in [0, 1, 42, 255] {
        assert_eq!(exec(&container, &[], &["sh", "-c", &format!("exit {status}")]).status, status);
    }
}

fn ends_with_128_and_the_signal() {
    let bundle = sleeper();
    assert_eq!(exec(&bundle.detach(), &[], &["sh", "-c", "kill -KILL $$"]).status, 137);
}

fn own_failures_are_255() {
    let bundle = sleeper();
    let container = bundle.detach();
    assert_eq!(exec(&container, &[], &["/absent"]).status, 255);
    assert_eq!(exec(&container, &["--nope"], &["true"]).status, 255);
    assert_eq!(exec(&container, &["--process", "/absent"], &[]).status, 255);
}

const BEFORE: &str = "exec failed: unable to start container process: ";

fn words_of_a_missing_program() {
    let bundle = sleeper();
    let text = format!("{BEFORE}exec: \"absent\": executable file not found in $PATH");
    refused(&exec(&bundle.detach(), &[], &["absent"]), &text);
}

fn words_of_a_missing_path() {
    let bundle = sleeper();
    let text = format!("{BEFORE}exec: \"/absent\": stat /absent: no such file or directory");
    refused(&exec(&bundle.detach(), &[], &["/absent"]), &text);
}

fn words_of_a_missing_cwd() {
    let bundle = sleeper();
    let text = format!("{BEFORE}chdir to cwd (\"/absent\") set in config.json failed: no such file or directory");
    refused(&exec(&bundle.detach(), &["--cwd", "/absent"], &["true"]), &text);
}

fn words_of_a_stopped_container() {
    let bundle = Bundle::new();
    let container = bundle.create();
    container.start().wait();
    eventually("stopped", || container.status() == "stopped");
    refused(&exec(&container, &[], &["true"]), "cannot exec in a stopped container");
}

fn words_of_an_unknown_container() {
    let bundle = sleeper();
    bundle.detach();
    refused(&bundle.call(["exec", "unknown-id", "true"]), "container does not exist");
}

fn words_of_no_program() {
    let bundle = sleeper();
    refused(&exec(&bundle.detach(), &[], &[]), "process args cannot be empty");
}

fn a_paused_container_is_refused() {
    let bundle = sleeper();
    let container = bundle.detach();
    container.ok("pause", &[]);
    let output = exec(&container, &[], &["true"]);
    container.ok("resume", &[]);
    refused(&output, "cannot exec in a paused container (use --ignore-paused to override)");
    assert_eq!(output.status, 255);
}

fn a_paused_container_is_entered_when_asked() {
    let bundle = sleeper();
    let container = bundle.detach();
    container.ok("pause", &[]);
    let mut command = bundle.command(["exec", "--ignore-paused", &bundle.id, "true"]);
    let mut child = command.spawn().expect("start an exec");
    std::thread::sleep(Duration::from_millis(100));
    assert!(child.try_wait().expect("look at it").is_none(), "it waits for resume");
    container.ok("resume", &[]);
    assert_eq!(within(&mut child, Duration::from_secs(10)), Some(0));
}

fn works_before_start() {
    let bundle = sleeper();
    let container = bundle.create();
    assert_eq!(ok(&container, &[], &["echo", "early"]), "early\n");
    assert_eq!(container.status(), "created");
}

fn inherits_from_the_process_of_the_container() {
    let bundle = sleeper()
        .set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [7]}))
        .set("/process/cwd", "/tmp")
        .set("/process/noNewPrivileges", true)
        .set("/process/env/-", "MINE=yes");
    let report = report(&bundle.detach(), &[]);
    assert_eq!(report["status"]["Uid"], "1000 1000 1000 1000");
    assert_eq!(report["status"]["Groups"], "7");
    assert_eq!(report["status"]["NoNewPrivs"], "1");
    assert_eq!(report["cwd"], "/tmp");
    assert_eq!(report["env"]["MINE"], "yes");
    assert_eq!(report["terminal"], false);
}

fn flags_change_the_process() {
    let bundle = sleeper();
    let flags = [
        "--cwd",
        "/tmp",
        "--env",
        "A=1",
        "--env",
        "B=2",
        "--user",
        "5:6",
        "--additional-gids",
        "8",
        "--additional-gids",
        "9",
        "--cap",
        "CAP_SYS_TIME",
        "--no-new-privs",
    ];
    let report = report(&bundle.detach(), &flags);
    assert_eq!((&report["env"]["A"], &report["env"]["B"]), (&json!("1"), &json!("2")));
    assert_eq!((&report["status"]["Uid"], &report["status"]["Gid"]), (&json!("5 5 5 5"), &json!("6 6 6 6")));
    assert_eq!(report["status"]["Groups"], "8 9");
    assert_eq!((&report["cwd"], &report["status"]["NoNewPrivs"]), (&json!("/tmp"), &json!("1")));
    let bounding = u64::from_str_radix(report["status"]["CapBnd"].as_str().unwrap_or_default(), 16).expect("a mask");
    assert!(bounding & caps::Capability::CAP_SYS_TIME.bitmask() != 0, "{bounding:x}");
}

fn process_file(bundle: &Bundle, process: &Value) -> String {
    let path = bundle.home.join("process.json");
    fs::write(&path, process.to_string()).expect("write the process object");
    path.display().to_string()
}

fn a_process_object_is_all_there_is() {
    let bundle = sleeper().set("/process/env/-", "MINE=yes");
    let container = bundle.detach();
    let process = json!({
        "args": ["/inside", "report"], "cwd": "/tmp", "env": ["PATH=/bin"], "user": {"uid": 3, "gid": 4, "umask": 0o77},
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}], "oomScoreAdj": 321,
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
                         "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
    });
    let report = report_of(&ok(&container, &["--process", &process_file(&bundle, &process)], &[]));
    assert_eq!(report["status"]["Uid"], "3 3 3 3");
    assert_eq!(report["env"]["MINE"], Value::Null);
    let mask = format!("{:016x}", caps::Capability::CAP_KILL.bitmask());
    assert_eq!((&report["status"]["CapEff"], &report["status"]["CapAmb"]), (&json!(mask), &json!(mask)));
    assert_eq!(report["env"]["HOME"], "/");
    assert_eq!(report["rlimits"]["Max core file size"], json!(["1", "2"]), "{}", report["rlimits"]);
}

fn report_of(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

fn a_process_object_is_read_from_stdin() {
    let bundle = sleeper();
    bundle.detach();
    let process = json!({"args": ["echo", "spoken"], "cwd": "/", "env": ["PATH=/bin"]});
    let mut command = bundle.command(["exec", "--process", "-", &bundle.id]);
    command.stdin(File::open(process_file(&bundle, &process)).expect("open the process object"));
    assert_eq!(bundle.finish(command).stdout, "spoken\n");
}

/// Captured from real engines; what they run is replaced, since only a shell is here.
fn process_objects_of_engines_run() {
    let bundle = sleeper();
    let container = bundle.detach();
    let mut seen = 0;
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/exec")).expect("list the captured files") {
        let path = entry.expect("an entry").path();
        let mut process: Value = serde_json::from_slice(&fs::read(&path).expect("read a file")).expect("parse a file");
        process["args"] = json!(["sh", "-c", "echo in; exit 5"]);
        process["cwd"] = json!("/");
        process["terminal"] = json!(false);
        for label in ["apparmorProfile", "selinuxLabel"] {
            process.as_object_mut().expect("an object").remove(label);
        }
        let output = exec(&container, &["--process", &process_file(&bundle, &process)], &[]);
        assert_eq!((output.status, output.stdout.as_str()), (5, "in\n"), "{path:?}: {output:?}");
        seen += 1;
    }
    assert!(seen > 5, "only {seen} files");
}

fn the_seccomp_filter_is_that_of_the_container() {
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]});
    for no_new_privileges in [true, false] {
        let bundle = sleeper().set("/linux/seccomp", filter.clone()).set("/process/noNewPrivileges", no_new_privileges);
        let container = bundle.detach();
        assert_eq!(report(&container, &[])["status"]["Seccomp"], "2");
        let number = libc::SYS_sethostname.to_string();
        assert_eq!(ok(&container, &[], &["/inside", "call", &number, "0", "0"]), "EOPNOTSUPP\n");
    }
}

/// Numbers of the open descriptors, without the one that the listing takes.
fn numbers(printed: &str) -> Vec<i32> {
    let mut all: Vec<i32> = printed.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    all.sort_unstable();
    all.pop();
    all
}

fn no_descriptor_of_the_runtime_is_open() {
    let bundle = sleeper();
    let container = bundle.detach();
    assert_eq!(numbers(&ok(&container, &[], &["ls", "/proc/self/fd"])), [0, 1, 2]);
    // What the caller left open without close-on-exec is not for the container either.
    let line = format!("exec 7</; exec \"$@\"");
    let shown = bundle.command(["exec", &bundle.id, "ls", "/proc/self/fd"]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &line, "sh"]).arg(shown.get_program()).args(shown.get_args());
    assert_eq!(numbers(&bundle.finish(command).stdout), [0, 1, 2]);
}

fn preserved_descriptors_are_3_and_up() {
    let bundle = sleeper();
    bundle.detach();
    let shown = bundle.command(["exec", "--preserve-fds", "2", &bundle.id, "ls", "/proc/self/fd"]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec 3</ 4</ 5</; exec \"$@\"", "sh"]).arg(shown.get_program()).args(shown.get_args());
    assert_eq!(numbers(&bundle.finish(command).stdout), [0, 1, 2, 3, 4]);
}

fn a_missing_preserved_descriptor_is_refused() {
    let bundle = sleeper();
    assert_eq!(exec(&bundle.detach(), &["--preserve-fds", "40"], &["true"]).status, 255);
}

fn detached_writes_the_pid_file_and_leaves() {
    let bundle = sleeper();
    let container = bundle.detach();
    let pid = detached(&container, &[], &["sleep", "77"]);
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("read its command line");
    assert_eq!(line, "sleep\u{0}77\u{0}");
}

fn a_failed_exec_writes_no_pid_file() {
    let bundle = sleeper();
    let container = bundle.detach();
    let pid_file = bundle.home.join("exec.pid");
    let output = exec(&container, &["-d", "--pid-file", &pid_file.display().to_string()], &["/absent"]);
    assert!(output.status != 0 && !pid_file.exists(), "{output:?}");
}

fn a_detached_process_is_an_orphan_of_the_caller() {
    let bundle = sleeper();
    let container = bundle.detach();
    let pid = detached(&container, &[], &["sh", "-c", "sleep 0.3; exit 9"]);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read its status");
    assert!(status.contains("PPid:\t1\n"), "{status}");
    assert_eq!(crate::stage::exit_status(pid), Some(9));
}

fn a_terminal_goes_to_the_socket() {
    let bundle = sleeper();
    let container = bundle.detach();
    let path = bundle.home.join("console").display().to_string();
    let listener = UnixListener::bind(&path).expect("listen");
    let script = "test -t 0 && test -t 2 && stty size && echo ready && sleep 1000";
    let process = json!({"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "terminal": true,
        "consoleSize": {"height": 33, "width": 101}});
    detached(&container, &["--console-socket", &path, "--process", &process_file(&bundle, &process)], &[]);
    let (socket, _) = listener.accept().expect("accept");
    let master = receive(&socket);
    let mut said = String::new();
    let mut file = File::from(master);
    while !said.contains("ready") {
        let mut buffer = [0; 256];
        let n = file.read(&mut buffer).expect("read the terminal");
        said.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert_eq!(said.replace("\r\n", "\n"), "33 101\nready\n");
    // Its own devpts: the container can see it there.
    assert!(ok(&container, &[], &["ls", "/dev/pts"]).contains('0'));
}

fn receive(socket: &std::os::unix::net::UnixStream) -> std::os::fd::OwnedFd {
    use std::os::fd::AsFd;
    onggi::sys::socket::recv_fd(socket.as_fd(), &mut [0; 64]).expect("receive a descriptor").0
}

fn a_detached_terminal_needs_a_socket() {
    let bundle = sleeper();
    let text = "cannot allocate tty if runc will detach without setting console socket";
    refused(&exec(&bundle.detach(), &["--tty", "--detach"], &["true"]), text);
}

fn the_pidfd_is_that_of_the_process() {
    use std::os::fd::AsRawFd;
    let bundle = sleeper();
    let container = bundle.detach();
    let path = bundle.home.join("pidfd").display().to_string();
    let listener = UnixListener::bind(&path).expect("listen");
    let pid = detached(&container, &["--pidfd-socket", &path], &["sleep", "1000"]);
    let fd = receive(&listener.accept().expect("accept").0);
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).expect("read fdinfo");
    assert!(info.contains(&format!("Pid:\t{pid}\n")), "{info}");
}

fn signals_are_passed_on() {
    let bundle = sleeper();
    bundle.detach();
    let script = "trap 'exit 33' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child =
        bundle.command(["exec", &bundle.id, "sh", "-c", script]).stdout(Stdio::piped()).spawn().expect("start an exec");
    let mut ready = [0; 6];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("wait for the program");
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signal the runtime");
    assert_eq!(within(&mut child, Duration::from_secs(10)), Some(33));
}

fn affinity_is_as_asked() {
    let bundle = sleeper().set("/process/execCPUAffinity", json!({"initial": "0", "final": "0"}));
    assert_eq!(report(&bundle.detach(), &[])["status"]["Cpus_allowed_list"], "0");
    let bundle = sleeper().set("/process/execCPUAffinity", json!({"initial": "0"}));
    let container = bundle.detach();
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid)).expect("read a status");
    let own = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:\t")).expect("its CPUs");
    assert_eq!(report(&container, &[])["status"]["Cpus_allowed_list"], own);
}

fn oom_score_adj_is_as_asked() {
    let bundle = sleeper().set("/process/oomScoreAdj", 100);
    let container = bundle.detach();
    assert_eq!(report(&container, &[])["oom_score_adj"], 100);
    let process = json!({"args": ["/inside", "report"], "cwd": "/", "oomScoreAdj": 321});
    let printed = ok(&container, &["--process", &process_file(&bundle, &process)], &[]);
    assert_eq!(report_of(&printed)["oom_score_adj"], 321);
}

fn in_a_user_namespace() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = sleeper().namespace("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let bundle = bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}]));
    open_up(&bundle);
    let container = bundle.detach();
    let report = report(&container, &[]);
    assert_eq!(report["namespaces"]["user"], link(container.pid, "user"));
    assert_eq!(report["status"]["Uid"], "0 0 0 0");
    let user = self::report(&container, &["--user", "1000:1000"]);
    assert_eq!(user["status"]["Uid"], "1000 1000 1000 1000");
}

/// Lets the root of the user namespace pass the directories down to the root file system.
fn open_up(bundle: &Bundle) {
    use std::os::unix::fs::PermissionsExt;
    for dir in [&bundle.home, &bundle.dir(), &bundle.rootfs()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("change a mode");
    }
}

fn in_a_time_namespace() {
    let bundle = sleeper().namespace("time").set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000}}));
    let container = bundle.detach();
    assert_eq!(report(&container, &[])["namespaces"]["time"], link(container.pid, "time"));
}

fn labels_are_refused_by_name() {
    let bundle = sleeper();
    let container = bundle.detach();
    refused(&exec(&container, &["--apparmor", "x"], &["true"]), "AppArmor profiles cannot be applied");
    refused(&exec(&container, &["--process-label", "x"], &["true"]), "SELinux labels cannot be applied");
}

fn a_hundred_in_a_row() {
    let bundle = sleeper();
    let container = bundle.detach();
    for n in 0..100 {
        let output = exec(&container, &[], &["sh", "-c", &format!("echo {n}; exit {}", n % 7)]);
        assert_eq!((output.status, output.stdout), (n % 7, format!("{n}\n")));
    }
    // Nobody stays behind.
    eventually("alone", || pids(&container) == [container.pid]);
}

fn pids(container: &Container) -> Vec<i32> {
    let text = fs::read_to_string(format!("{}/cgroup.procs", directory(container))).expect("read the members");
    text.lines().filter_map(|l| l.parse().ok()).collect()
}

fn twenty_at_once() {
    let bundle = sleeper();
    let container = bundle.detach();
    let start = |n: i32| {
        let script = format!("echo {n}; exit {n}");
        let mut command = bundle.command(["exec", &bundle.id, "sh", "-c", &script]);
        command.stdout(Stdio::piped()).spawn().expect("start an exec")
    };
    let children: Vec<_> = (0..20).map(start).collect();
    for (n, mut child) in (0..).zip(children) {
        assert_eq!(within(&mut child, Duration::from_secs(30)), Some(n));
        let mut said = String::new();
        child.stdout.take().expect("a pipe").read_to_string(&mut said).expect("read");
        assert_eq!(said, format!("{n}\n"));
    }
    eventually("alone", || pids(&container) == [container.pid]);
}

/// 20 MiB, to a reader that stops now and then, and a terminal's worth through the runtime itself.
fn stdout_is_intact_with_a_slow_reader() {
    const LENGTH: usize = 20 << 20;
    let bundle = sleeper();
    let container = bundle.detach();
    let script = "dd if=/dev/urandom of=/tmp/data bs=65536 count=320 2>/dev/null; sha256sum </tmp/data";
    let wanted = ok(&container, &[], &["sh", "-c", script]);
    let mut child =
        bundle.command(["exec", &bundle.id, "cat", "/tmp/data"]).stdout(Stdio::piped()).spawn().expect("start an exec");
    let mut pipe = child.stdout.take().expect("a pipe");
    let copy = bundle.home.join("copy");
    let mut out = File::create(&copy).expect("make a file");
    let mut total = 0;
    let mut buffer = vec![0; 100_000];
    loop {
        let n = pipe.read(&mut buffer).expect("read");
        if n == 0 {
            break;
        }
        std::io::Write::write_all(&mut out, &buffer[..n]).expect("write");
        if total / (1 << 20) != (total + n) / (1 << 20) {
            std::thread::sleep(Duration::from_millis(20));
        }
        total += n;
    }
    assert_eq!((within(&mut child, Duration::from_secs(10)), total), (Some(0), LENGTH));
    assert_eq!(hash_of(&copy), wanted);
}

fn hash_of(path: &std::path::Path) -> String {
    let input = File::open(path).expect("open the copy");
    let printed = std::process::Command::new("busybox").arg("sha256sum").stdin(input).output().expect("run sha256sum");
    String::from_utf8_lossy(&printed.stdout).into_owned()
}
