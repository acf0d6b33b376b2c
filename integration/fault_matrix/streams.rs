//! F-20: streams that are closed, full, or read by nobody: nothing hangs, nothing spins, nothing is lost.

use super::{OURS, sleeper};
use crate::bundle::{Bundle, eventually, within};
use crate::case;
use crate::case::Case;
use crate::lifecycle::through_shell;
use nix::pty::openpty;
use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        case!(f_20_closed_streams_are_no_obstacle_to_any_command).ours(OURS),
        case!(f_20_an_error_that_nobody_reads_leaves_nothing).ours(OURS),
        case!(f_20_an_answer_that_cannot_be_written_is_an_error).ours("others do not look"),
        case!(f_20_a_full_pipe_is_the_program_s_affair).except("crun", "its delete --force fails beside run"),
        case!(f_20_a_reader_that_is_gone_is_told_to_the_program),
        case!(f_20_a_terminal_that_nobody_reads_costs_nothing).ours("others wait for the reader for ever"),
        case!(f_20_a_hundred_mebibytes_go_in_intact),
    ]
}

const CLOSED: [&str; 7] = ["0<&-", "1>&-", "2>&-", "0<&- 1>&-", "0<&- 2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"];

fn f_20_closed_streams_are_no_obstacle_to_any_command() {
    for closed in CLOSED {
        let bundle = sleeper();
        bundle.write();
        let before = crate::hostdelta::Snapshot::of(&bundle);
        let id = bundle.id.as_str();
        for (words, status) in [
            (vec!["create", id], 0),
            (vec!["state", id], 0),
            (vec!["start", id], 0),
            (vec!["exec", id, "sh", "-c", "ls -l /proc/self/fd >/log; exit 5"], 5),
            (vec!["exec", "--detach", id, "sleep", "1000"], 0),
            (vec!["kill", id, "KILL"], 0),
            (vec!["delete", "--force", id], 0),
        ] {
            let command = through_shell(&bundle.command(&words), &format!("exec {closed}"), &bundle);
            let output = bundle.finish(command);
            // `state` has nobody to tell.
            let wanted = if words[0] == "state" && closed.contains("1>") { 1 } else { status };
            assert!(output.status == wanted || output.status == status, "{closed}: {words:?}: {output:?}");
        }
        let log = fs::read_to_string(bundle.rootfs().join("log")).expect("read what it wrote");
        assert!(!log.contains("state.json") && !log.contains("cgroup"), "{closed}: {log}");
        before.assert_unchanged();
    }
}

/// Both ends; not one byte more has room.
fn full() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("make a pipe");
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(flags)).expect("do not wait");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).expect("wait");
    (reader, writer)
}

/// By the time that it has something to say, all is cleared away; and it does not wait for ever to say it.
fn f_20_an_error_that_nobody_reads_leaves_nothing() {
    let bundle = Bundle::new().args(["/absent"]);
    bundle.write();
    let before = crate::hostdelta::Snapshot::of(&bundle);
    let (_reader, writer) = full();
    let mut child = bundle.command(["create", &bundle.id]).stderr(writer).spawn().expect("start a create");
    eventually("cleared away", || !bundle.root().join(&bundle.id).exists());
    assert_eq!(within(&mut child, Duration::from_secs(10)), Some(1));
    before.assert_unchanged();
}

fn f_20_an_answer_that_cannot_be_written_is_an_error() {
    let bundle = sleeper();
    let _container = bundle.detach();
    for words in [vec!["state", &bundle.id], vec!["list"], vec!["ps", &bundle.id], vec!["events", "--stats", &bundle.id]] {
        let mut command = bundle.command(&words);
        let full = File::options().write(true).open("/dev/full").expect("open /dev/full");
        let output = command.stdout(full).stderr(Stdio::piped()).output().expect("run it");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("no space left on device"), "{words:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{words:?}: {said}");
    }
}

/// Time on a processor of a process, in clock ticks of 10 ms.
fn ticks(child: &Child) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("read its times");
    let (_, rest) = stat.rsplit_once(')').expect("a name in brackets");
    let fields: Vec<u64> = rest.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    fields.iter().sum()
}

/// Less than a hundredth of two seconds, to the next tick, is spent on waiting: once what there is to copy has been copied, which
/// takes a while on a slow machine. Who polls in vain is never idle.
#[track_caller]
fn idles(child: &Child) {
    let mut spent = Vec::new();
    for _ in 0..5 {
        let before = ticks(child);
        std::thread::sleep(Duration::from_secs(2));
        spent.push(ticks(child) - before);
        if spent.last().is_some_and(|spent| *spent <= 2) {
            return;
        }
    }
    panic!("ticks in two seconds, and the next: {spent:?}");
}

/// In time, also with output that is left over.
fn ends_by_delete(bundle: &Bundle, child: &mut Child) {
    assert_eq!(bundle.call(["delete", "--force", &bundle.id]).status, 0);
    assert_eq!(within(child, Duration::from_secs(15)), Some(137));
}

fn f_20_a_full_pipe_is_the_program_s_affair() {
    let bundle = Bundle::new().sh("echo begun >/begun; echo more than there is room for; exit 0");
    bundle.write();
    let (_reader, writer) = full();
    let both = writer.try_clone().expect("one more");
    let mut child = bundle.command(["run", &bundle.id]).stdout(writer).stderr(both).spawn().expect("start a run");
    let known = || bundle.call(["state", &bundle.id]).stdout.contains("running");
    eventually("it runs", || bundle.rootfs().join("begun").exists() && known());
    idles(&child);
    assert!(child.try_wait().expect("look at it").is_none());
    let exec = bundle.call(["exec", &bundle.id, "true"]);
    assert_eq!(exec.status, 0, "{exec:?}");
    ends_by_delete(&bundle, &mut child);
}

fn f_20_a_reader_that_is_gone_is_told_to_the_program() {
    // Not as the first process, which signals without a handler do not reach.
    let bundle = Bundle::new().sh("yes; exit $?");
    bundle.write();
    let (reader, writer) = std::io::pipe().expect("make a pipe");
    drop(reader);
    let output = bundle.command(["run", &bundle.id]).stdout(writer).stderr(Stdio::piped()).output().expect("run it");
    // SIGPIPE, which callers such as ours ignore.
    assert_eq!(output.status.code(), Some(128 + 13), "{output:?}");
}

/// With a terminal every byte goes through the runtime.
fn f_20_a_terminal_that_nobody_reads_costs_nothing() {
    let bundle = Bundle::new().args(["yes"]).set("/process/terminal", true);
    bundle.write();
    let shared = sleeper();
    shared.detach();
    for (bundle, words) in [(&bundle, vec!["run", &bundle.id]), (&shared, vec!["exec", "--tty", &shared.id, "yes"])] {
        let pty = openpty(None, None).expect("make a terminal");
        let end = || pty.slave.try_clone().expect("the terminal once more");
        let mut command = bundle.command(&words);
        let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("start it");
        // Until it is full.
        std::thread::sleep(Duration::from_millis(700));
        idles(&child);
        if words[0] == "run" {
            ends_by_delete(bundle, &mut child);
            continue;
        }
        // Who does not want to wait for a reader says so.
        assert_eq!(bundle.call(["delete", "--force", &bundle.id]).status, 0);
        std::thread::sleep(Duration::from_millis(500));
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).expect("end it");
        assert_eq!(within(&mut child, Duration::from_secs(8)), Some(137));
    }
}

fn f_20_a_hundred_mebibytes_go_in_intact() {
    let bundle = sleeper();
    bundle.detach();
    let path = bundle.home.join("data");
    let made = Command::new("dd")
        .args(["if=/dev/urandom", &format!("of={}", path.display()), "bs=1M", "count=100", "status=none"])
        .status()
        .expect("run dd");
    assert!(made.success());
    let hash = |mut command: Command| {
        // Through a pipe, as from an engine.
        let mut cat = Command::new("cat").arg(&path).stdout(Stdio::piped()).spawn().expect("start cat");
        let output = command.stdin(cat.stdout.take().expect("a pipe")).output().expect("hash it");
        assert!(cat.wait().expect("wait for cat").success() && output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut here = Command::new("busybox");
    here.arg("sha256sum");
    assert_eq!(hash(bundle.command(["exec", &bundle.id, "sha256sum"])), hash(here));
}
