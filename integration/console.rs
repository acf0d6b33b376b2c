//! Terminals: one handed out over `--console-socket`, the caller's own in the foreground, and none.

use crate::bundle::{Bundle, eventually, within};
use crate::canary::{Canary, link};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{Winsize, openpty};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

const NO_SIZE: &str = "1.8 leaves it at 0 by 0";

pub fn cases() -> Vec<Case> {
    vec![
        case!(the_master_comes_over_the_socket_once),
        case!(the_terminal_has_the_size_that_is_asked_for),
        case!(the_terminal_is_the_controlling_one),
        case!(what_is_typed_arrives),
        case!(the_console_is_the_terminal),
        case!(the_terminal_belongs_to_the_user),
        case!(a_long_socket_path_is_no_obstacle).except("crun", "107 bytes at most").except("runc", "107 bytes at most"),
        case!(wrong_combinations_have_runc_s_words).except("crun", "words them otherwise"),
        case!(what_is_no_listening_socket_is_named),
        case!(the_foreground_terminal_has_the_caller_s_size).except("crun", NO_SIZE),
        case!(a_new_size_is_handed_on).except("crun", NO_SIZE),
        case!(the_caller_s_terminal_is_raw_meanwhile_and_restored),
        case!(exec_in_the_foreground_has_a_terminal_too),
        case!(keys_and_status_pass_through_the_foreground),
    ]
}

fn terminal(bundle: Bundle) -> Bundle {
    bundle.set("/process/terminal", true)
}

/// Reads until nobody holds the other end any more.
fn read_all(master: &mut File) -> String {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    // EIO is how a terminal says that.
    while let Ok(length) = master.read(&mut part) {
        if length == 0 {
            break;
        }
        text.extend_from_slice(&part[..length]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Creates the container; the master that came over the socket, after a check that nothing else did.
fn create(bundle: &Bundle) -> (crate::bundle::Container<'_>, File) {
    create_at(bundle, &bundle.home.join("console"))
}

fn create_at<'a>(bundle: &'a Bundle, path: &Path) -> (crate::bundle::Container<'a>, File) {
    // The name that is bound is short, whatever the path.
    let directory = File::open(path.parent().expect("a parent")).expect("open a directory");
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    let socket = UnixListener::bind(format!("/proc/self/fd/{number}/{name}")).expect("make a socket");
    let container = bundle.create_with(&["--console-socket", &path.display().to_string()]);
    let (mut connection, _) = socket.accept().expect("accept the runtime");
    let mut message = [0; 4096];
    let (master, length) = onggi::sys::socket::recv_fd(connection.as_fd(), &mut message).expect("one descriptor");
    assert!(length > 0);
    connection.set_read_timeout(Some(Duration::from_secs(10))).expect("set a time limit");
    assert_eq!(connection.read(&mut message).expect("read on"), 0, "more than one message");
    (container, File::from(master))
}

/// What the program prints on its terminal.
fn printed(bundle: &Bundle) -> String {
    let (container, mut master) = create(bundle);
    container.start();
    let text = read_all(&mut master);
    assert_eq!(container.wait(), 0, "{text}");
    text
}

fn the_master_comes_over_the_socket_once() {
    assert_eq!(printed(&terminal(Bundle::new().args(["echo", "hello"]))), "hello\r\n");
}

fn tty(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn the_terminal_has_the_size_that_is_asked_for() {
    let bundle = terminal(Bundle::new()).set("/process/consoleSize", json!({"height": 33, "width": 77}));
    assert_eq!(tty(&printed(&bundle.inside(&["tty"])))["size"], json!([33, 77]));
}

fn the_terminal_is_the_controlling_one() {
    let tty = tty(&printed(&terminal(Bundle::new()).inside(&["tty"])));
    let [session, foreground, group, control] = ["session", "foreground", "group", "control"].map(|name| tty[name].clone());
    assert_eq!((session, foreground == group, control), (json!(1), true, json!(true)), "{tty}");
}

fn what_is_typed_arrives() {
    let bundle = terminal(Bundle::new().sh("read line; echo got $line"));
    let (container, mut master) = create(&bundle);
    container.start();
    master.write_all(b"hello\n").expect("type");
    let text = read_all(&mut master);
    assert!(text.ends_with("got hello\r\n"), "{text:?}");
}

fn the_console_is_the_terminal() {
    let script = "test -t 0 && test -t 1 && test -t 2 && echo to console >/dev/console; stat -c %F,%t /dev/console; tty";
    let text = printed(&terminal(Bundle::new().sh(script)));
    assert_eq!(text, "to console\r\ncharacter special file,88\r\n/dev/pts/0\r\n");
}

fn the_terminal_belongs_to_the_user() {
    let bundle = terminal(Bundle::new().sh("stat -c %u /dev/pts/0")).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    assert_eq!(printed(&bundle), "1000\r\n");
}

fn a_long_socket_path_is_no_obstacle() {
    let bundle = terminal(Bundle::new().args(["echo", "hello"]));
    let directory = bundle.home.join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&directory).expect("make a directory");
    let (container, mut master) = create_at(&bundle, &directory.join("console"));
    container.start();
    assert_eq!(read_all(&mut master), "hello\r\n");
}

fn wrong_combinations_have_runc_s_words() {
    let no_socket = "cannot allocate tty if runc will detach without setting console socket";
    let no_use = "cannot use console socket if runc will not detach or allocate tty";
    for (with_terminal, words, text) in [
        (true, &["run", "--detach"][..], no_socket),
        (true, &["create"], no_socket),
        (true, &["run", "--console-socket", "/run/absent"], no_use),
        (false, &["run", "--console-socket", "/run/absent"], no_use),
        (false, &["run", "--detach", "--console-socket", "/run/absent"], no_use),
        (false, &["create", "--console-socket", "/run/absent"], no_use),
    ] {
        let bundle = Bundle::new().set("/process/terminal", with_terminal);
        bundle.write();
        let before = Snapshot::of(&bundle);
        let output = bundle.call(words.iter().chain(&[bundle.id.as_str()]));
        assert!(output.status == 1 && output.error().contains(text), "{words:?}: {output:?}");
        before.assert_unchanged();
    }
}

fn what_is_no_listening_socket_is_named() {
    for name in ["absent", "plain"] {
        let bundle = terminal(Bundle::new());
        bundle.write();
        fs::write(bundle.home.join("plain"), "").expect("write a file");
        let before = Snapshot::of(&bundle);
        let path = bundle.home.join(name).display().to_string();
        let output = bundle.call(["create", "--console-socket", &path, &bundle.id]);
        assert!(output.status == 1 && output.error().contains(name), "{name}: {output:?}");
        before.assert_unchanged();
    }
}

/// A caller at a terminal of its own.
struct Caller {
    master: File,
    slave: OwnedFd,
    run: Child,
    seen: String,
}

impl Caller {
    /// `run` in the foreground of a session whose terminal has 24 rows of 80.
    fn run(bundle: &Bundle) -> Caller {
        bundle.write();
        Caller::call(bundle, bundle.command(["run", &bundle.id]))
    }

    /// The same with any command.
    fn call(bundle: &Bundle, run: Command) -> Caller {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("make a terminal");
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(run.get_program()).args(run.get_args()).current_dir(bundle.dir());
        let end = || pty.slave.try_clone().expect("copy a descriptor");
        let run = session.stdin(end()).stdout(end()).stderr(end()).spawn().expect("run the runtime");
        Caller { master: pty.master.into(), slave: pty.slave, run, seen: String::new() }
    }

    /// Waits until the terminal shows it.
    fn sees(&mut self, text: &str) -> &mut Caller {
        while !self.seen.contains(text) {
            let ready = poll(&mut [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)], 10_000u16).expect("wait for output");
            assert!(ready > 0, "never: {text:?} in {:?}", self.seen);
            let mut part = [0; 4096];
            let length = self.master.read(&mut part).expect("read the terminal");
            self.seen.push_str(&String::from_utf8_lossy(&part[..length]));
        }
        self
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("type");
    }

    fn stty(&self, args: &[&str]) -> String {
        let stdin = self.slave.try_clone().expect("copy a descriptor");
        let output = Command::new("stty").args(args).stdin(stdin).output().expect("run stty");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn ends(&mut self) -> i32 {
        within(&mut self.run, Duration::from_secs(10)).expect("the end of the runtime")
    }
}

fn the_foreground_terminal_has_the_caller_s_size() {
    let bundle = terminal(Bundle::new().sh("/inside tty; echo end"));
    let mut caller = Caller::run(&bundle);
    caller.sees("end");
    let text = caller.seen.replace("\r\n", "\n");
    assert_eq!(tty(text.lines().next().unwrap_or_default())["size"], json!([24, 80]), "{text}");
    assert_eq!(caller.ends(), 0);
}

fn a_new_size_is_handed_on() {
    let bundle = terminal(Bundle::new().sh("trap '/inside tty; exit 5' WINCH; echo ready; while :; do sleep 0.02; done"));
    let mut caller = Caller::run(&bundle);
    caller.sees("ready").stty(&["rows", "50", "cols", "60"]);
    caller.sees("[50,60]");
    assert_eq!(caller.ends(), 5);
}

fn the_caller_s_terminal_is_raw_meanwhile_and_restored() {
    let bundle = terminal(Bundle::new().sh("echo ready; read line; exit 3"));
    let mut caller = Caller::run(&bundle);
    caller.sees("ready");
    eventually("raw", || caller.stty(&["-a"]).contains("-icanon"));
    assert!(caller.stty(&["-a"]).contains("-isig"));
    caller.types("\n");
    assert_eq!(caller.ends(), 3);
    let after = caller.stty(&["-a"]);
    for setting in ["icanon", "isig", "echo", "opost"] {
        assert!(after.split_ascii_whitespace().any(|word| word == setting), "{setting}: {after}");
    }
}

fn keys_and_status_pass_through_the_foreground() {
    let bundle = terminal(Bundle::new().sh("trap 'exit 9' INT; read line; echo got $line; while :; do sleep 0.02; done"));
    let mut caller = Caller::run(&bundle);
    caller.types("hello\n");
    caller.sees("got hello");
    caller.types("\x03");
    assert_eq!(caller.ends(), 9);
}

fn exec_in_the_foreground_has_a_terminal_too() {
    let bundle = Bundle::new().args(["sleep", "1000"]);
    bundle.detach();
    let script = "trap 'exit 9' INT; stty size; read line; echo got $line; while :; do sleep 0.02; done";
    let mut caller = Caller::call(&bundle, bundle.command(["exec", "--tty", &bundle.id, "sh", "-c", script]));
    caller.sees("24 80");
    caller.types("hello\n");
    caller.sees("got hello");
    caller.types("\x03");
    assert_eq!(caller.ends(), 9);
}

/// The streams are the caller's terminal; it must not be that of the program's session.
const PUSH: &str = "for n in 0 1 2; do /inside push /proc/self/fd/$n; done; /inside tty; /inside push /dev/tty; echo end";

pub fn without_a_terminal_the_caller_s_cannot_be_pushed_into() {
    let bundle = Bundle::new().sh(PUSH);
    cannot_push(Caller::run(&bundle));
}

pub fn an_exec_without_a_terminal_cannot_push_either() {
    let bundle = Bundle::new().args(["sleep", "1000"]);
    bundle.detach();
    cannot_push(Caller::call(&bundle, bundle.command(["exec", &bundle.id, "sh", "-c", PUSH])));
}

fn cannot_push(mut caller: Caller) {
    caller.sees("end\r\n");
    assert_eq!(caller.ends(), 0);
    let seen = caller.seen.replace("\r\n", "\n");
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines.len() == 6 && !seen.contains('%'), "{lines:?}");
    assert!(lines.iter().take(3).all(|line| ["EPERM", "EIO", "ENOTTY"].contains(line)), "{lines:?}");
    assert_eq!((tty(lines[3])["control"].clone(), lines[4]), (json!(false), "ENXIO"), "{lines:?}");
}

pub fn links_in_dev_lead_nowhere() {
    for place in ["console", "pts", "ptmx", "null", "tty"] {
        for (name, number) in [("file", 0), ("dir", 0), ("dir/new", 1), ("deep", 1)] {
            let mut bundle = terminal(Bundle::new().sh("test ! -e /dev/console || stat -c %F,%t /dev/console"));
            let canary = Canary::new(&bundle);
            link(&bundle, &format!("/dev/{place}"), &canary.names(name)[number]);
            let mounts: Vec<Value> = bundle.config["mounts"].as_array().expect("mounts").clone();
            let keeps = |mount: &Value| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev");
            bundle = bundle.set("/mounts", mounts.into_iter().filter(keeps).collect::<Vec<_>>());
            bundle = bundle.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]);
            let mut caller = Caller::run(&bundle);
            let status = caller.ends();
            canary.assert_unchanged(&format!("/dev/{place} -> {name}"));
            if status == 0 {
                caller.sees("character special file,88");
            }
        }
    }
}
