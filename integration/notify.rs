//! NOTIFY_SOCKET: the runtime as the program of a unit of systemd (`Type=notify`). The test is the service manager.

use crate::bundle::{Bundle, Container, eventually, within};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use crate::namespaces::with_user_namespace;
use serde_json::json;
use std::fs;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::Duration;

const FIELDS: &str = "1.1 wants READY=1 at the beginning of a message";
const OTHERWISE: &str = "does it otherwise";

pub fn cases() -> Vec<Case> {
    vec![
        case!(start_hands_readiness_on).except("crun", OTHERWISE),
        case!(run_detached_hands_readiness_on).except("crun", OTHERWISE),
        case!(run_hands_on_while_it_runs).ours("runc passes on no signal before READY=1"),
        case!(a_user_of_the_container_s_reaches_the_socket).except("crun", OTHERWISE),
        case!(a_user_namespace_is_no_obstacle).except("crun", OTHERWISE),
        case!(an_abstract_socket_will_do).except("crun", OTHERWISE),
        case!(only_readiness_is_handed_on).except("runc", FIELDS).except("crun", OTHERWISE),
        case!(the_end_of_a_program_that_is_never_ready_ends_the_wait).except("crun", OTHERWISE),
        case!(other_commands_work_during_the_wait).except("crun", OTHERWISE),
        case!(the_variable_is_one_and_the_mount_cannot_be_written).except("crun", OTHERWISE),
        case!(exec_has_no_part_in_it).except("crun", OTHERWISE),
        case!(without_the_variable_nothing_is_there),
        case!(a_mount_of_the_engine_s_is_left_alone).ours("runc mounts over it"),
        case!(nobody_to_tell_is_no_obstacle).ours("runc fails to start"),
        case!(a_read_only_tmpfs_takes_the_socket).ours("runc 1.1 cannot make the mount point"),
        case!(a_killed_command_leaves_what_delete_clears).except("crun", OTHERWISE),
    ]
}

const READY: &str = "/inside notify READY=1 >/dev/null; exec sleep 1000";

/// Where the service manager listens.
struct Manager {
    socket: UnixDatagram,
    address: String,
}

impl Manager {
    fn of(bundle: &Bundle) -> Manager {
        let address = bundle.home.join("manager");
        Manager::at(UnixDatagram::bind(&address).expect("make a socket"), address.display().to_string())
    }

    fn at(socket: UnixDatagram, address: String) -> Manager {
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set a time limit");
        Manager { socket, address }
    }

    fn command(&self, bundle: &Bundle, words: &[&str]) -> Command {
        let mut command = bundle.command(words);
        command.env("NOTIFY_SOCKET", &self.address);
        command
    }

    /// The next message; a descriptor that comes with it is closed, which answers a barrier.
    fn hear(&self) -> String {
        let mut text = [0; 256];
        let (length, fd) = onggi::sys::socket::recv_maybe_fd(self.socket.as_fd(), &mut text).expect("a message");
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        assert_eq!(fd.is_some(), text == "BARRIER=1", "{text}");
        text
    }

    #[track_caller]
    fn hears_of(&self, main: u32) {
        assert_eq!([self.hear(), self.hear(), self.hear()], ["READY=1\n", &format!("MAINPID={main}\n"), "BARRIER=1"]);
        self.hears_nothing();
    }

    #[track_caller]
    fn hears_nothing(&self) {
        self.socket.set_nonblocking(true).expect("set a flag");
        assert_eq!(self.socket.recv(&mut [0; 64]).map_err(|e| e.kind()), Err(std::io::ErrorKind::WouldBlock));
        self.socket.set_nonblocking(false).expect("clear a flag");
    }
}

fn pid_file(bundle: &Bundle) -> String {
    bundle.home.join("pid").display().to_string()
}

fn made(bundle: &Bundle) -> Container<'_> {
    let text = || fs::read_to_string(pid_file(bundle)).unwrap_or_default();
    eventually("a pid file", || !text().is_empty());
    Container { bundle, pid: text().parse().expect("a number in the pid file") }
}

/// `create` with the variable.
fn create<'a>(bundle: &'a Bundle, manager: &Manager) -> Container<'a> {
    bundle.write();
    let output = bundle.finish(manager.command(bundle, &["create", "--pid-file", &pid_file(bundle), &bundle.id]));
    assert!(output.status == 0 && output.stderr.is_empty(), "{output:?}");
    made(bundle)
}

/// A command that waits for the program goes on when the service manager has answered.
#[track_caller]
fn told(bundle: &Bundle, manager: &Manager, words: &[&str]) {
    let mut child = manager.command(bundle, words).stdout(quiet(bundle)).spawn().expect("start a command");
    let first = manager.hear();
    assert_eq!(first, "READY=1\n");
    assert_eq!(manager.hear(), format!("MAINPID={}\n", made(bundle).pid));
    assert_eq!(child.try_wait().expect("look at the command"), None, "it left before the barrier");
    assert_eq!(manager.hear(), "BARRIER=1");
    assert_eq!(within(&mut child, Duration::from_secs(10)), Some(0));
    manager.hears_nothing();
}

/// A file for what a container prints: it may outlive the test's own streams.
fn quiet(bundle: &Bundle) -> fs::File {
    fs::File::create(bundle.home.join("printed")).expect("make a file")
}

fn life(bundle: &Bundle) {
    let manager = Manager::of(bundle);
    let container = create(bundle, &manager);
    manager.hears_nothing();
    told(bundle, &manager, &["start", &bundle.id]);
    assert_eq!(container.status(), "running");
    container.kill("KILL");
    container.wait();
    container.ok("delete", &[]);
    assert!(!bundle.root().join(&bundle.id).exists());
}

fn start_hands_readiness_on() {
    let bundle = Bundle::new().sh(READY);
    let before = Snapshot::of(&bundle);
    life(&bundle);
    let _ = fs::remove_file(bundle.home.join("manager"));
    before.assert_unchanged();
}

fn run_detached_hands_readiness_on() {
    let bundle = Bundle::new().sh(READY);
    bundle.write();
    let manager = Manager::of(&bundle);
    told(&bundle, &manager, &["run", "--detach", "--pid-file", &pid_file(&bundle), &bundle.id]);
    let container = made(&bundle);
    assert_eq!(container.status(), "running");
    container.ok("delete", &["--force"]);
}

fn run_hands_on_while_it_runs() {
    let bundle =
        Bundle::new().sh("trap 'exit 7' TERM; for n in 1 2; do /inside notify READY=1; read line; done; sleep 1000 & wait");
    bundle.write();
    let manager = Manager::of(&bundle);
    let mut command = manager.command(&bundle, &["run", &bundle.id]);
    command.stdin(std::process::Stdio::piped()).stdout(quiet(&bundle));
    let mut child = command.spawn().expect("start a run");
    manager.hears_of(child.id());
    std::io::Write::write_all(child.stdin.as_mut().expect("its stdin"), b"on\n").expect("let it go on");
    manager.hears_of(child.id());
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signal it");
    drop(child.stdin.take());
    assert_eq!(within(&mut child, Duration::from_secs(10)), Some(7));
    assert!(!bundle.root().join(&bundle.id).exists());
}

fn a_user_of_the_container_s_reaches_the_socket() {
    life(&Bundle::new().sh(READY).set("/process/user", json!({"uid": 1000, "gid": 1000})));
}

fn a_user_namespace_is_no_obstacle() {
    life(&with_user_namespace().sh(READY).set("/process/user", json!({"uid": 7, "gid": 7})));
}

fn an_abstract_socket_will_do() {
    let bundle = Bundle::new().sh(READY);
    let address = SocketAddr::from_abstract_name(format!("notify-{}", bundle.id)).expect("a name");
    let manager = Manager::at(UnixDatagram::bind_addr(&address).expect("make a socket"), format!("@notify-{}", bundle.id));
    let container = create(&bundle, &manager);
    told(&bundle, &manager, &["start", &bundle.id]);
    container.ok("delete", &["--force"]);
}

fn only_readiness_is_handed_on() {
    let script = "/inside notify \"$(printf 'MAINPID=1\\nSTOPPING=1')\"; /inside notify \"$(printf 'STATUS=up\\nREADY=1')\"; exec sleep 1000";
    let bundle = Bundle::new().sh(script);
    let manager = Manager::of(&bundle);
    let container = create(&bundle, &manager);
    told(&bundle, &manager, &["start", &bundle.id]);
    container.ok("delete", &["--force"]);
}

fn the_end_of_a_program_that_is_never_ready_ends_the_wait() {
    let bundle = Bundle::new().sh("/inside notify STATUS=no; exit 3");
    let manager = Manager::of(&bundle);
    let container = create(&bundle, &manager);
    let output = bundle.finish(manager.command(&bundle, &["start", &bundle.id]));
    assert!(output.status == 0 && output.stderr.is_empty(), "{output:?}");
    assert_eq!(container.wait(), 3);
    manager.hears_nothing();
}

fn other_commands_work_during_the_wait() {
    let bundle = Bundle::new().args(["sleep", "1000"]);
    let manager = Manager::of(&bundle);
    let container = create(&bundle, &manager);
    let mut start = manager.command(&bundle, &["start", &bundle.id]).spawn().expect("start a command");
    eventually("it runs", || container.status() == "running");
    container.ok("pause", &[]);
    container.ok("resume", &[]);
    assert_eq!(start.try_wait().expect("look at the command"), None);
    container.ok("delete", &["--force"]);
    assert_eq!(within(&mut start, Duration::from_secs(10)), Some(0));
}

fn the_variable_is_one_and_the_mount_cannot_be_written() {
    let script = "/inside report >&2; touch /run/notify/x && echo written; /inside notify READY=1; exec sleep 1000";
    let bundle = Bundle::new().sh(script).set("/process/env/-", "NOTIFY_SOCKET=/config");
    let manager = Manager::of(&bundle);
    let container = create(&bundle, &manager);
    told(&bundle, &manager, &["start", &bundle.id]);
    let text = container.stderr();
    let (report, rest) = text.split_at(text.rfind('}').map_or(0, |n| n + 1));
    let report: serde_json::Value = serde_json::from_str(report).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(report["env"]["NOTIFY_SOCKET"], "/run/notify/notify.sock");
    let mounts = report["mounts"].as_array().expect("mounts");
    let mount = mounts.iter().find(|m| m["target"] == "/run/notify").expect("the mount");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(mount["options"].as_str().unwrap_or_default().split(',').any(|o| o == option), "{option}: {mount}");
    }
    assert!(rest.contains("Read-only file system"), "{text}");
    // It is about to execute `sleep`: for a moment it has none.
    let environ = || fs::read_to_string(format!("/proc/{}/environ", container.pid)).expect("its environment");
    eventually("the variable is there once", || environ().matches("NOTIFY_SOCKET=").count() == 1);
}

fn exec_has_no_part_in_it() {
    let bundle = Bundle::new().sh(READY);
    let manager = Manager::of(&bundle);
    let _container = create(&bundle, &manager);
    told(&bundle, &manager, &["start", &bundle.id]);
    let exec = bundle.finish(manager.command(&bundle, &["exec", &bundle.id, "sh", "-c", "echo \"<$NOTIFY_SOCKET>\""]));
    assert_eq!((exec.status, exec.stdout.as_str()), (0, "<>\n"), "{exec:?}");
    manager.hears_nothing();
}

fn without_the_variable_nothing_is_there() {
    let bundle = Bundle::new().sh("echo \"<$NOTIFY_SOCKET>\"; test ! -e /run/notify; echo $?");
    bundle.write();
    for empty in [false, true] {
        let mut run = bundle.command(["run", &bundle.id]);
        if empty {
            run.env("NOTIFY_SOCKET", "")
        } else {
            run.env_remove("NOTIFY_SOCKET")
        };
        let output = bundle.finish(run);
        assert_eq!((output.status, output.stdout.as_str()), (0, "<>\n0\n"), "{output:?}");
    }
    // Only `start` has it: there is no socket to wait at.
    let bundle = Bundle::new().args(["sleep", "1000"]);
    let manager = Manager::of(&bundle);
    let _container = bundle.create();
    if crate::case::name_of_runtime() == "onggi" {
        let output = bundle.finish(manager.command(&bundle, &["start", &bundle.id]));
        assert!(output.status == 0 && output.stderr.is_empty(), "{output:?}");
        assert!(!bundle.root().join(&bundle.id).join("notify").exists());
    }
}

fn a_mount_of_the_engine_s_is_left_alone() {
    let bundle = Bundle::new().sh("echo $NOTIFY_SOCKET; ls /run/notify; exec sleep 1000");
    let source = bundle.home.join("monitor");
    fs::create_dir_all(source.join("engine.sock")).expect("make a directory");
    let bundle = bundle.mount("/run/notify/", "bind", &source.display().to_string(), &["bind"]);
    let bundle = bundle.set("/process/env/-", "NOTIFY_SOCKET=/run/notify/engine.sock");
    let manager = Manager::of(&bundle);
    let container = create(&bundle, &manager);
    let output = bundle.finish(manager.command(&bundle, &["start", &bundle.id]));
    assert_eq!(output.status, 0, "{output:?}");
    eventually("it prints", || container.stdout() == "/run/notify/engine.sock\nengine.sock\n");
}

fn nobody_to_tell_is_no_obstacle() {
    let bundle = Bundle::new().sh("/inside notify READY=1");
    bundle.write();
    for address in ["/nowhere/at/all", "neither", "vsock:2:1"] {
        let log = bundle.home.join("log").display().to_string();
        let mut run = bundle.command(["--log", &log, "--log-level", "warning", "run", &bundle.id]);
        run.env("NOTIFY_SOCKET", address);
        let output = bundle.finish(run);
        assert_eq!((output.status, output.stdout.as_str()), (0, "ok\n"), "{output:?}");
        let log = fs::read_to_string(log).expect("read the log");
        assert!(log.contains("level=warning") && log.contains(&format!("connect to NOTIFY_SOCKET={address}: ")), "{log}");
    }
}

fn a_read_only_tmpfs_takes_the_socket() {
    life(&Bundle::new().sh(READY).mount("/run", "tmpfs", "tmpfs", &["ro", "nosuid"]));
}

fn a_killed_command_leaves_what_delete_clears() {
    let bundle = Bundle::new().args(["sleep", "1000"]);
    bundle.write();
    let before = Snapshot::of(&bundle);
    let manager = Manager::of(&bundle);
    let mut command = manager.command(&bundle, &["run", "--detach", "--pid-file", &pid_file(&bundle), &bundle.id]);
    let mut run = command.spawn().expect("start a run");
    let container = made(&bundle);
    eventually("it runs", || container.status() == "running");
    run.kill().expect("kill the run");
    run.wait().expect("wait for it");
    assert_eq!(container.status(), "running");
    assert!(bundle.root().join(&bundle.id).join("notify/notify.sock").exists());
    container.ok("delete", &["--force"]);
    assert!(!bundle.root().join(&bundle.id).exists());
    let _ = fs::remove_file(bundle.home.join("manager"));
    let _ = fs::remove_file(pid_file(&bundle));
    before.assert_unchanged();
}
