//! checkpoint and restore, with the CRIU that the machine has.

mod interrupted;
pub mod mounts;
mod refused;

use crate::bundle::{Bundle, Container, Output, eventually, limit, within};
use crate::case;
use crate::case::{Case, name_of_runtime};
use crate::hostdelta::Snapshot;
use crate::{stage, systemd};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

const FILES: &str = "cannot save a stream that is a file outside";

pub fn cases() -> Vec<Case> {
    let own = vec![
        case!(a_count_goes_on),
        case!(a_count_goes_on_in_files).except("runc", FILES),
        case!(streams_are_known_that_the_program_has_moved),
        case!(five_times_in_a_row),
        case!(what_is_left_running_runs),
        case!(a_paused_container_is_saved_and_stays_paused),
        case!(memory_saved_ahead_is_the_parent).vm("soft-dirty bits of pages"),
        case!(a_terminal_is_handed_out_again),
        case!(connections_inside_go_on).vm("a kernel older than 6.17: CRIU 4.1 cannot save TCP sockets of later ones"),
        case!(namespaces_of_others_are_joined_again),
        case!(hooks_run_and_one_that_fails_takes_it_away)
            .except("runc", "tells them that it is stopped, and has none at poststart"),
        case!(a_restore_in_the_foreground_is_like_run),
        case!(limits_are_set_again).vm("the pids controller"),
        case!(what_is_restored_is_in_its_scope).systemd(),
        case!(the_annotation_names_a_configuration),
    ];
    [own, mounts::cases(), refused::cases(), interrupted::cases()].into_iter().flatten().map(able).collect()
}

/// Runs where CRIU works.
pub fn able(case: Case) -> Case {
    match &*CANNOT {
        None => case.both().except("crun", "Debian's has no CRIU"),
        Some(reason) => case.except(&name_of_runtime(), reason),
    }
}

/// Why CRIU does not work here: it is made for kernels that were known when it was.
pub static CANNOT: LazyLock<Option<String>> = LazyLock::new(|| match Command::new("criu").arg("check").output() {
    Ok(output) if output.status.success() => None,
    Ok(output) => {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Some(format!("CRIU does not work here: {}", text.lines().find(|line| line.contains("Error")).unwrap_or_default()))
    }
    Err(error) => Some(format!("CRIU is not installed: {error}")),
});

/// Counts on its standard output and in a file of its own.
const COUNT: &str =
    "i=0; while :; do i=$((i+1)); echo $i; echo $i >/dev/shm/new; mv /dev/shm/new /dev/shm/count; sleep 0.02; done";

fn counting() -> Bundle {
    Bundle::new().sh(COUNT)
}

fn count(pid: i32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/root/dev/shm/count")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// A command with pipes for its output, as engines give them; the lines that come out.
fn piped(bundle: &Bundle, args: &[&str]) -> (Output, BufReader<PipeReader>) {
    let (reader, writer) = std::io::pipe().expect("make a pipe");
    let (mut errors, its_errors) = std::io::pipe().expect("make a pipe");
    let mut command = bundle.command(args);
    command.stdout(writer).stderr(its_errors);
    let mut child = command.spawn().expect("start the runtime");
    drop(command);
    let status = within(&mut child, limit()).expect("an end");
    // The container has the other end, too.
    fcntl(&errors, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("set a flag");
    let mut stderr = String::new();
    let end = errors.read_to_string(&mut stderr);
    assert!(end.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::WouldBlock), "{end:?}");
    (Output { status, stdout: String::new(), stderr }, BufReader::new(reader))
}

fn number(lines: &mut BufReader<PipeReader>) -> u64 {
    let mut line = String::new();
    lines.read_line(&mut line).expect("read a line");
    line.trim().parse().unwrap_or_else(|_| panic!("no number: {line:?}"))
}

/// Starts the container on a pipe, and waits until it counts.
fn started(bundle: &Bundle) -> (Container<'_>, BufReader<PipeReader>) {
    bundle.write();
    let pid_file = bundle.home.join("pid").display().to_string();
    let (output, lines) = piped(bundle, &["run", "--detach", "--pid-file", &pid_file, &bundle.id]);
    assert!(output.status == 0 && output.error().is_empty(), "{output:?}");
    let container = Container { bundle, pid: pid_in(&pid_file) };
    eventually("it counts", || count(container.pid) > 3);
    (container, lines)
}

fn pid_in(file: impl AsRef<Path>) -> i32 {
    fs::read_to_string(file).expect("read the pid file").parse().expect("digits in the pid file")
}

fn images(bundle: &Bundle) -> String {
    bundle.home.join("images").display().to_string()
}

/// The words of a call with the directories that all these tests use.
fn words(command: &str, bundle: &Bundle, flags: &[&str]) -> Vec<String> {
    let work = bundle.home.join("work").display().to_string();
    let mut words: Vec<String> = [command, "--image-path", &images(bundle), "--work-path", &work].map(Into::into).into();
    words.extend(flags.iter().map(|flag| (*flag).to_owned()));
    words.push(bundle.id.clone());
    words
}

fn checkpoint(bundle: &Bundle, flags: &[&str]) {
    let output = saved(bundle, flags);
    assert!(output.status == 0 && output.error().is_empty(), "{output:?}");
}

/// What a checkpoint answers. In an emulated machine it happens that CRIU's hardware breakpoint does not stop a task, which
/// then lives on as if nothing were: CRIU gives up, and it is tried again.
fn saved(bundle: &Bundle, flags: &[&str]) -> Output {
    for _ in 0..3 {
        let output = bundle.call(words("checkpoint", bundle, flags));
        if !output.stderr.contains("Can't stop daemon in parasite") {
            return output;
        }
        eprintln!("CRIU lost a task: {}", output.stderr);
    }
    bundle.call(words("checkpoint", bundle, flags))
}

fn restore_words(bundle: &Bundle, flags: &[&str]) -> Vec<String> {
    let pid_file = bundle.home.join("restored").display().to_string();
    let flags: Vec<&str> = ["--detach", "--pid-file", &pid_file].iter().chain(flags).copied().collect();
    words("restore", bundle, &flags)
}

/// Restores the container on a pipe.
fn restored<'a>(bundle: &'a Bundle, flags: &[&str]) -> (Container<'a>, BufReader<PipeReader>) {
    let words = restore_words(bundle, flags);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (output, lines) = piped(bundle, &words);
    assert!(output.status == 0 && output.error().is_empty(), "{output:?}");
    (Container { bundle, pid: pid_in(bundle.home.join("restored")) }, lines)
}

fn unknown(bundle: &Bundle) {
    for command in ["state", "delete"] {
        let output = bundle.call([command, &bundle.id]);
        assert!(output.status != 0 && output.error().contains("does not exist"), "{output:?}");
    }
}

/// The last of what a container that has been saved has printed.
fn last_number(lines: BufReader<PipeReader>) -> u64 {
    let last = lines.lines().last().expect("a line").expect("read a line");
    last.trim().parse().expect("a number")
}

fn a_count_goes_on() {
    let bundle = counting();
    let before = Snapshot::of(&bundle);
    let (_container, lines) = started(&bundle);
    checkpoint(&bundle, &[]);
    unknown(&bundle);
    before.assert_unchanged();
    let last = last_number(lines);
    let (container, mut lines) = restored(&bundle, &[]);
    assert_eq!(number(&mut lines), last + 1);
    assert_eq!(number(&mut lines), last + 2);
    assert_eq!((container.status().as_str(), container.state()["pid"].as_i64()), ("running", Some(container.pid.into())));
    // As any other container.
    let output = container.call("exec", &["cat", "/dev/shm/count"]);
    assert!(output.stdout.trim().parse::<u64>().is_ok_and(|n| n > last), "{output:?}");
    container.ok("pause", &[]);
    assert_eq!(container.status(), "paused");
    container.ok("resume", &[]);
    let pids: Vec<i64> = serde_json::from_str(&container.call("ps", &["--format=json"]).stdout).expect("pids");
    assert!(pids.contains(&container.pid.into()));
    container.kill("KILL");
    assert_eq!(container.wait(), 137);
    eventually("stopped", || container.status() == "stopped");
    container.ok("delete", &[]);
    before.assert_unchanged();
}

fn a_count_goes_on_in_files() {
    let bundle = counting();
    let container = bundle.detach();
    eventually("it counts", || count(container.pid) > 3);
    checkpoint(&bundle, &[]);
    let last: u64 = container.stdout().lines().last().expect("a line").parse().expect("a number");
    // CRIU goes on at the place where the file was left.
    let path = bundle.home.join("0.stdout");
    let mut command = bundle.command(restore_words(&bundle, &[]));
    command.stdout(File::options().write(true).open(&path).expect("open the file"));
    command.stderr(File::create(bundle.home.join("errors")).expect("make a file"));
    let status = within(&mut command.spawn().expect("start the runtime"), limit());
    assert_eq!(status, Some(0), "{:?}", fs::read_to_string(bundle.home.join("errors")));
    let printed = || fs::read_to_string(&path).expect("read the file");
    eventually("it prints", || printed().lines().count() as u64 > last + 3);
    assert!(printed().lines().take(last as usize + 3).enumerate().all(|(n, line)| line == (n + 1).to_string()), "{}", printed());
}

/// As a shell does for the time of `echo >file`.
fn streams_are_known_that_the_program_has_moved() {
    let bundle = Bundle::new().sh(&format!("exec 5>&1 >/dev/shm/log; {}", COUNT.replacen("echo $i;", "echo $i >&5;", 1)));
    let (_container, mut lines) = started(&bundle);
    for round in 0..2 {
        let last = number(&mut lines);
        let _ = fs::remove_dir_all(images(&bundle));
        checkpoint(&bundle, &[]);
        lines = restored(&bundle, &[]).1;
        let now = number(&mut lines);
        assert!(now > last, "round {round}: {now} after {last}");
    }
}

fn five_times_in_a_row() {
    let bundle = counting();
    let before = Snapshot::of(&bundle);
    let (mut container, mut lines) = started(&bundle);
    let mut last = 0;
    for _ in 0..5 {
        let now = number(&mut lines);
        assert!(now > last, "{now} after {last}");
        last = now;
        let pid = container.pid;
        let _ = fs::remove_dir_all(images(&bundle));
        checkpoint(&bundle, &[]);
        assert_eq!(stage::exit_status(pid), Some(137));
        before.assert_unchanged();
        (container, lines) = restored(&bundle, &[]);
    }
    container.ok("delete", &["--force"]);
    before.assert_unchanged();
}

fn what_is_left_running_runs() {
    let bundle = counting();
    let (container, _lines) = started(&bundle);
    // Podman says it twice.
    checkpoint(&bundle, &["--leave-running", "--leave-running"]);
    assert_eq!(container.status(), "running");
    let saved = count(container.pid);
    eventually("it counts on", || count(container.pid) > saved + 3);
    container.ok("delete", &["--force"]);
    let (container, mut lines) = restored(&bundle, &[]);
    assert!(number(&mut lines) <= saved + 1);
    container.ok("delete", &["--force"]);
}

fn a_paused_container_is_saved_and_stays_paused() {
    let bundle = counting();
    let (container, _lines) = started(&bundle);
    container.ok("pause", &[]);
    let saved = count(container.pid);
    checkpoint(&bundle, &["--leave-running"]);
    assert_eq!(container.status(), "paused");
    container.ok("resume", &[]);
    eventually("it counts on", || count(container.pid) > saved + 3);
    container.ok("pause", &[]);
    let _ = fs::remove_dir_all(images(&bundle));
    checkpoint(&bundle, &[]);
    unknown(&bundle);
    let (container, _lines) = restored(&bundle, &[]);
    assert_eq!(container.status(), "running");
    eventually("it counts on", || count(container.pid) > saved + 5);
}

fn memory_saved_ahead_is_the_parent() {
    // A megabyte that does not change.
    let bundle = Bundle::new().sh(&format!("big=$(head -c 1000000 /dev/zero | tr '\\0' x); {COUNT}"));
    let (container, _lines) = started(&bundle);
    let ahead = bundle.home.join("ahead").display().to_string();
    let work = bundle.home.join("work").display().to_string();
    let output = bundle.call(["checkpoint", "--pre-dump", "--image-path", &ahead, "--work-path", &work, &bundle.id]);
    assert!(output.status == 0 && output.error().is_empty(), "{output:?}");
    assert_eq!(container.status(), "running");
    let saved = count(container.pid);
    eventually("it counts on", || count(container.pid) > saved + 3);
    checkpoint(&bundle, &["--parent-path", "../ahead"]);
    assert!(Path::new(&images(&bundle)).join("parent").is_symlink());
    // The first file is init's. Another is of a child that happens to be there, whose memory may be all that init's was.
    let pages = |dir: &str| fs::metadata(format!("{dir}/pages-1.img")).expect("look at an image").len();
    let (first, second) = (pages(&ahead), pages(&images(&bundle)));
    assert!(first > 1_000_000 && second < first - 900_000, "{first} bytes ahead, then {second}");
    let (container, _lines) = restored(&bundle, &[]);
    eventually("it counts on", || count(container.pid) > saved + 6);
}

/// What comes of the socket's next connection.
fn master(socket: &UnixListener) -> File {
    let (connection, _) = socket.accept().expect("accept the runtime");
    onggi::sys::socket::recv_fd(connection.as_fd(), &mut [0; 4096]).expect("one descriptor").0.into()
}

fn a_terminal_is_handed_out_again() {
    let bundle = counting().set("/process/terminal", true);
    let path = bundle.home.join("console");
    let socket = UnixListener::bind(&path).expect("make a socket");
    let console = path.display().to_string();
    let container = bundle.create_with(&["--console-socket", &console]);
    let first = master(&socket);
    container.start();
    eventually("it counts", || count(container.pid) > 3);
    checkpoint(&bundle, &[]);
    drop(first);
    let (container, _lines) = restored(&bundle, &["--console-socket", &console]);
    let mut lines = BufReader::new(master(&socket));
    let mut line = String::new();
    for _ in 0..2 {
        line.clear();
        lines.read_line(&mut line).expect("read a line");
    }
    let n: u64 = line.trim().parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
    eventually("it counts on", || count(container.pid) > n);
}

fn connections_inside_go_on() {
    // The counter goes through a connection, and the file is written at its other end.
    let script = format!(
        "ifconfig lo up; nc -l -p 80 -e sh -c 'while read n; do echo $n >/dev/shm/count; done' & sleep 0.3; ({}) | nc 127.0.0.1 80",
        "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"
    );
    let bundle = Bundle::new().capabilities(&["CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"]).sh(&script);
    let (container, _lines) = started(&bundle);
    let output = saved(&bundle, &[]);
    assert!(output.status != 0, "{output:?}");
    if name_of_runtime() == "onggi" {
        assert!(output.stderr.contains("--tcp-established"), "{output:?}");
    }
    // Nothing has happened to it.
    let saved = count(container.pid);
    eventually("it counts on", || count(container.pid) > saved + 3);
    checkpoint(&bundle, &["--tcp-established"]);
    let (container, _lines) = restored(&bundle, &["--tcp-established"]);
    eventually("it counts on", || count(container.pid) > saved + 6);
}

fn namespaces_of_others_are_joined_again() {
    let holder = Bundle::new().args(["sleep", "1000"]);
    let other = holder.detach();
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", other.pid);
    let mut bundle = counting();
    let list = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
    for (kind, file) in [("network", "net"), ("ipc", "ipc")] {
        let entry = list.iter_mut().find(|entry| entry["type"] == kind).expect("the namespace");
        entry["path"] = Value::from(path(file));
    }
    let (container, _lines) = started(&bundle);
    checkpoint(&bundle, &[]);
    let saved = count(container.pid);
    let (container, _lines) = restored(&bundle, &[]);
    eventually("it counts on", || count(container.pid) > saved + 3);
    for file in ["net", "ipc"] {
        let inode = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{file}")).expect("read a namespace");
        assert_eq!(inode(container.pid), inode(other.pid));
    }
}

fn hook(path: &Path) -> Value {
    json!([{"path": path.display().to_string()}])
}

fn hooks_run_and_one_that_fails_takes_it_away() {
    let bundle = counting();
    let note = bundle.home.join("notes");
    let script = |name: &str, tail: &str| -> PathBuf {
        let path = bundle.home.join(name);
        let text = format!(
            "#!/bin/sh\ns=$(cat); echo {name} $(echo $s | grep -o '\"status\":\"[a-z]*\"') >>{}; {tail}\n",
            note.display()
        );
        fs::write(&path, text).expect("write a hook");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set its mode");
        path
    };
    let names = ["prestart", "createRuntime", "poststart", "poststop"];
    let scripts = names.map(|name| script(name, ""));
    let failing = script("failing", "exit 3");
    let mut bundle = names.iter().zip(&scripts).fold(bundle, |b, (name, path)| b.set(&format!("/hooks/{name}"), hook(path)));
    let (_container, _lines) = started(&bundle);
    checkpoint(&bundle, &[]);
    let before = Snapshot::of(&bundle);
    let _ = fs::remove_file(&note);
    let (container, _lines) = restored(&bundle, &[]);
    container.ok("delete", &["--force"]);
    let want = ["creating", "creating", "running", "stopped"].iter().zip(names).map(|(s, n)| format!("{n} \"status\":\"{s}\"\n"));
    assert_eq!(fs::read_to_string(&note).expect("read the notes"), want.collect::<String>());

    for stage in ["createRuntime", "poststart"] {
        bundle = bundle.set(&format!("/hooks/{stage}"), hook(&failing));
        bundle.write();
        let output = bundle.call(restore_words(&bundle, &[]));
        assert!(output.status == 1 && output.stderr.contains(&format!("error running {stage} hook #0")), "{output:?}");
        before.assert_unchanged();
        bundle = bundle.set(&format!("/hooks/{stage}"), hook(&scripts[0]));
    }
}

fn a_restore_in_the_foreground_is_like_run() {
    let bundle = Bundle::new().sh(&format!("trap 'exit 7' TERM; {COUNT}"));
    let before = Snapshot::of(&bundle);
    let (container, _lines) = started(&bundle);
    checkpoint(&bundle, &[]);
    let saved = count(container.pid);
    let mut command = bundle.command(words("restore", &bundle, &[]));
    command
        .stdout(File::create(bundle.home.join("out")).expect("a file"))
        .stderr(File::create(bundle.home.join("err")).expect("a file"));
    let mut child = command.spawn().expect("start the runtime");
    let pid = || -> i32 {
        let state: Value = serde_json::from_str(&bundle.call(["state", &bundle.id]).stdout).unwrap_or_default();
        state["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0)
    };
    eventually("it counts on", || count(pid()) > saved + 3);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::SIGTERM)
        .expect("send a signal");
    assert_eq!(within(&mut child, Duration::from_secs(10)), Some(7));
    unknown(&bundle);
    before.assert_unchanged();
}

fn limits_are_set_again() {
    let bundle = counting().set("/linux/resources/pids/limit", 77);
    let (_container, _lines) = started(&bundle);
    checkpoint(&bundle, &[]);
    let (container, _lines) = restored(&bundle, &[]);
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", container.pid)).expect("read the cgroup");
    let group = groups.lines().last().unwrap_or_default().trim_start_matches("0::").to_owned();
    let limit = fs::read_to_string(format!("/sys/fs/cgroup{group}/pids.max")).expect("read the limit");
    assert_eq!((group.contains(&bundle.id), limit.trim()), (true, "77"));
}

fn what_is_restored_is_in_its_scope() {
    let bundle = counting().namespace("cgroup").flag("--systemd-cgroup").set("/linux/resources/pids/limit", 77);
    let path = format!("system.slice:test:{}", bundle.id);
    let bundle = bundle.set("/linux/cgroupsPath", path);
    let unit = systemd::scope(&bundle);
    let place = Path::new("/sys/fs/cgroup/system.slice").join(&unit);
    let (mut container, mut lines) = started(&bundle);
    for _ in 0..2 {
        assert_eq!(systemd::group(container.pid), place);
        let last = number(&mut lines);
        let _ = fs::remove_dir_all(images(&bundle));
        checkpoint(&bundle, &[]);
        systemd::gone(&bundle, &place);
        (container, lines) = restored(&bundle, &[]);
        assert!(number(&mut lines) > last);
    }
    assert_eq!(systemd::group(container.pid), place);
    let shown = ["ActiveState", "TasksMax"].map(|name| systemd::systemctl(&["show", "--value", "-p", name, &unit]));
    assert_eq!(shown, ["active", "77"]);
    assert_eq!(systemd::read(&place, "pids.max"), "77");
    // The namespace's root is the scope, as before.
    let seen = container.call("exec", &["cat", "/proc/self/cgroup"]);
    assert_eq!(systemd::unified(&seen.stdout), "/", "{seen:?}");
    container.ok("pause", &[]);
    assert_eq!(container.status(), "paused");
    container.ok("resume", &[]);
    container.ok("delete", &["--force"]);
    systemd::gone(&bundle, &place);
}

fn the_annotation_names_a_configuration() {
    let bundle = counting();
    let file = bundle.home.join("criu.conf");
    fs::write(&file, "log-file other.log\n").expect("write a file");
    let bundle = bundle.set("/annotations/org.criu.config", file.display().to_string());
    let (_container, _lines) = started(&bundle);
    checkpoint(&bundle, &[]);
    assert!(bundle.home.join("work/other.log").exists());
}
