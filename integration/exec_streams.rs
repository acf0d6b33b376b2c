//! exec, its surroundings: descriptors, pid files, terminals, signals, many at once, much output.

use crate::bundle::{Container, eventually, within};
use crate::case;
use crate::case::Case;
use crate::exec::{WORDS, detached, directory, exec, ok, process_file, refused, sleeper};
use serde_json::json;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        case!(no_descriptor_of_the_runtime_is_open),
        case!(no_descriptor_of_the_runtime_is_open_detached_or_on_a_terminal),
        case!(preserved_descriptors_are_3_and_up),
        case!(a_missing_preserved_descriptor_is_refused).except("crun", "does not look"),
        case!(detached_writes_the_pid_file_and_leaves),
        case!(a_failed_exec_writes_no_pid_file),
        case!(a_detached_process_is_an_orphan_of_the_caller),
        case!(a_terminal_goes_to_the_socket).except("crun", "sets the size when the program runs already"),
        case!(a_detached_terminal_needs_a_socket).except("crun", WORDS),
        case!(the_pidfd_is_that_of_the_process).ours("runc has it since 1.2"),
        case!(signals_are_passed_on),
        case!(a_thousand_in_a_row),
        case!(fifty_at_once),
        case!(a_hundred_mebibytes_are_intact),
        case!(output_is_intact_with_a_slow_reader),
        case!(a_terminal_s_output_is_intact_with_a_slow_reader),
    ]
}

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
    let line = "exec 7</; exec \"$@\"";
    let shown = bundle.command(["exec", &bundle.id, "ls", "/proc/self/fd"]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", line, "sh"]).arg(shown.get_program()).args(shown.get_args());
    assert_eq!(numbers(&bundle.finish(command).stdout), [0, 1, 2]);
}

fn no_descriptor_of_the_runtime_is_open_detached_or_on_a_terminal() {
    let bundle = sleeper();
    let container = bundle.detach();
    let open = |pid: i32| {
        let list = fs::read_dir(format!("/proc/{pid}/fd")).expect("list its descriptors");
        let mut numbers: Vec<i32> = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(open(detached(&container, &[], &["sleep", "1000"])), [0, 1, 2]);
    let path = bundle.home.join("console").display().to_string();
    let listener = UnixListener::bind(&path).expect("listen");
    let pid = detached(&container, &["--tty", "--console-socket", &path], &["sleep", "1000"]);
    let _master = receive(&listener.accept().expect("accept").0);
    assert_eq!(open(pid), [0, 1, 2]);
    for n in 0..3 {
        let target = fs::read_link(format!("/proc/{pid}/fd/{n}")).expect("look at a descriptor");
        assert!(target.starts_with("/dev/pts"), "{target:?}");
    }
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

/// A probe a second for a quarter of an hour.
fn a_thousand_in_a_row() {
    let bundle = sleeper();
    let container = bundle.detach();
    for n in 0..1000 {
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

fn fifty_at_once() {
    let bundle = sleeper();
    let container = bundle.detach();
    let start = |n: i32| {
        let script = format!("echo {n}; exit {n}");
        let mut command = bundle.command(["exec", &bundle.id, "sh", "-c", &script]);
        command.stdout(Stdio::piped()).spawn().expect("start an exec")
    };
    let children: Vec<_> = (0..50).map(start).collect();
    for (n, mut child) in (0..).zip(children) {
        assert_eq!(within(&mut child, Duration::from_secs(60)), Some(n));
        let mut said = String::new();
        child.stdout.take().expect("a pipe").read_to_string(&mut said).expect("read");
        assert_eq!(said, format!("{n}\n"));
    }
    eventually("alone", || pids(&container) == [container.pid]);
}

/// Random data in the container, and its hash as sha256sum prints it.
fn data(container: &Container, mebibytes: usize) -> String {
    let script = format!("dd if=/dev/urandom of=/tmp/data bs=1048576 count={mebibytes} 2>/dev/null; sha256sum </tmp/data");
    ok(container, &[], &["sh", "-c", &script])
}

/// Copies what a program prints into a file; `pause` is slept after each mebibyte.
fn copy(mut from: impl Read, to: &std::path::Path, pause: Duration) -> usize {
    let mut out = File::create(to).expect("make a file");
    let (mut total, mut buffer) = (0, vec![0; 100_000]);
    // EIO is a terminal's end.
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        std::io::Write::write_all(&mut out, &buffer[..n]).expect("write");
        if total >> 20 != (total + n) >> 20 {
            std::thread::sleep(pause);
        }
        total += n;
    }
    total
}

fn read_from_an_exec(mebibytes: usize, pause: Duration) {
    let bundle = sleeper();
    let container = bundle.detach();
    let wanted = data(&container, mebibytes);
    let mut child =
        bundle.command(["exec", &bundle.id, "cat", "/tmp/data"]).stdout(Stdio::piped()).spawn().expect("start an exec");
    let path = bundle.home.join("copy");
    let total = copy(child.stdout.take().expect("a pipe"), &path, pause);
    assert_eq!((within(&mut child, Duration::from_secs(10)), total), (Some(0), mebibytes << 20));
    assert_eq!(hash_of(&path), wanted);
}

fn a_hundred_mebibytes_are_intact() {
    read_from_an_exec(100, Duration::ZERO);
}

fn output_is_intact_with_a_slow_reader() {
    read_from_an_exec(10, Duration::from_millis(50));
}

/// Here every byte goes through the runtime, which must not lose what the reader is slow to take.
fn a_terminal_s_output_is_intact_with_a_slow_reader() {
    let bundle = sleeper();
    let container = bundle.detach();
    let script = "dd if=/dev/urandom bs=65536 count=24 2>/dev/null | od -An -tx1 -v >/tmp/data; sha256sum </tmp/data";
    let wanted = ok(&container, &[], &["sh", "-c", script]);
    let mut command = bundle.command(["exec", "--tty", &bundle.id, "cat", "/tmp/data"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("start an exec");
    let path = bundle.home.join("copy");
    copy(child.stdout.take().expect("a pipe"), &path, Duration::from_millis(50));
    assert_eq!(within(&mut child, Duration::from_secs(20)), Some(0));
    assert_eq!(hash_of(&path), wanted);
}

fn hash_of(path: &std::path::Path) -> String {
    let input = File::open(path).expect("open the copy");
    let printed = std::process::Command::new("busybox").arg("sha256sum").stdin(input).output().expect("run sha256sum");
    String::from_utf8_lossy(&printed.stdout).into_owned()
}
