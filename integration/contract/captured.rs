//! Command lines as engines gave them, in the order of a container's life. Paths are put in place of those of the captured
//! machine; every flag and its form stays.

use super::pid_in;
use crate::bundle::{Bundle, eventually};
use crate::case;
use crate::case::Case;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// In which the commands of a life come. `checkpoint` is not among them: it needs CRIU.
const LIFE: [&str; 11] = ["create", "start", "state", "ps", "pause", "resume", "update", "exec", "kill", "delete", "list"];

pub fn cases() -> Vec<Case> {
    vec![
        case!(rule_2_1_command_lines_of_containerd).except("crun", "has no --format=json for ps in one line"),
        case!(rule_2_2_command_lines_of_docker).except("crun", "1.8 has no --keep"),
        case!(rule_2_4_command_lines_of_podman).except("runc", "has no --cgroup-manager"),
    ]
}

/// A line's words with their places: flag, value, and what is neither.
fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// The distinct lines, shapes alone: values that are paths replaced by a name each.
fn shapes(text: &str) -> Vec<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for line in text.lines() {
        let mut shape = Vec::new();
        let mut words = words(line).into_iter().peekable();
        while let Some(word) = words.next() {
            shape.push(match word.split_once('=') {
                Some((flag, value)) if value.starts_with('/') => format!("{flag}=PATH"),
                _ => word.clone(),
            });
            if word.starts_with("--") && words.peek().is_some_and(|next| next.starts_with('/')) {
                words.next();
                shape.push("PATH".into());
            }
        }
        // The id is the last word, or stands before the signal.
        let verb = LIFE.iter().position(|v| shape.iter().any(|w| w == v));
        if let Some(verb) = verb {
            let last = shape.len() - if LIFE[verb] == "kill" { 2 } else { 1 };
            shape[last] = "ID".into();
            if seen.insert(shape.clone()) {
                all.push((verb, shape));
            }
        }
    }
    all.sort_by_key(|(verb, _)| *verb);
    all.into_iter().map(|(_, shape)| shape).collect()
}

/// One life of a container under the lines of an engine.
struct Life {
    bundle: Bundle,
    listener: Option<UnixListener>,
    pid_file: PathBuf,
}

impl Life {
    fn value(&mut self, verb: &str, flag: &str) -> String {
        let path = match flag {
            "--root" => self.bundle.root(),
            "--log" => self.bundle.home.join("log.json"),
            "--bundle" => self.bundle.dir(),
            "--pid-file" => self.pid_file.clone(),
            "--process" => {
                let path = self.bundle.home.join("process");
                let process =
                    json!({"args": ["sleep", "0"], "cwd": "/", "env": ["PATH=/bin"], "terminal": self.listener.is_some()});
                fs::write(&path, process.to_string()).expect("write a process");
                path
            }
            "--console-socket" => {
                let path = self.bundle.home.join("pty.sock");
                drop(fs::remove_file(&path));
                self.listener = Some(UnixListener::bind(&path).expect("listen"));
                path
            }
            "--resources" => {
                let path = self.bundle.home.join("resources");
                fs::write(&path, "{\"memory\":{},\"cpu\":{}}").expect("write the resources");
                path
            }
            other => panic!("{verb} {other}: a flag that this test does not know"),
        };
        path.display().to_string()
    }

    fn call(&mut self, shape: &[String]) {
        let verb = LIFE.into_iter().find(|v| shape.iter().any(|w| w == v)).expect("a command").to_owned();
        self.listener = None;
        // What --process says of a terminal depends on it.
        let socket = shape.iter().any(|w| w == "--console-socket").then(|| self.value(&verb, "--console-socket"));
        let mut line = Vec::new();
        for (n, word) in shape.iter().enumerate() {
            line.push(match word.as_str() {
                "ID" => self.bundle.id.clone(),
                "PATH" if shape[n - 1] == "--console-socket" => socket.clone().expect("a socket"),
                "PATH" => self.value(&verb, &shape[n - 1]),
                other => match other.strip_suffix("=PATH") {
                    Some(flag) => format!("{flag}={}", self.value(&verb, flag)),
                    None => other.to_owned(),
                },
            });
        }
        let mut command = self.bundle.command(&line);
        let path = self.bundle.home.join("stdin");
        fs::write(&path, "{\"memory\":{},\"cpu\":{}}").expect("write the resources");
        command.stdin(File::open(path).expect("open the resources"));
        let output = self.bundle.finish(command);
        assert_eq!((output.status, output.error().as_str()), (0, ""), "{line:?}: {output:?}");
        if let Some(listener) = self.listener.take() {
            let (connection, _) = listener.accept().expect("accept");
            onggi::sys::socket::recv_fd(connection.as_fd(), &mut [0; 4096]).expect("one descriptor");
        }
        if verb == "exec" || verb == "create" {
            pid_in(&self.pid_file);
        }
    }
}

/// Each shape of a command is tried; those that end the container each have one of their own.
fn live(text: &str) {
    let shapes = shapes(text);
    let of = |verb: &str| shapes.iter().filter(|s| s.iter().any(|w| w == verb)).cloned().collect::<Vec<_>>();
    let first = |verb: &str| of(verb).into_iter().next();
    assert!(shapes.len() >= 8, "{shapes:?}");
    let ends: Vec<_> = of("delete").into_iter().flat_map(|d| of("create").into_iter().map(move |c| (c, d.clone()))).collect();
    for (n, (create, delete)) in ends.iter().enumerate() {
        let bundle = Bundle::new().args(["sleep", "1000"]);
        bundle.write();
        let pid_file = bundle.home.join("pid");
        let mut life = Life { bundle, listener: None, pid_file: pid_file.clone() };
        life.call(create);
        let init = pid_in(&pid_file);
        life.call(&first("start").expect("a start"));
        for shape in shapes.iter().filter(|_| n == 0) {
            let verb = LIFE.iter().find(|v| shape.iter().any(|w| w == *v)).copied().unwrap_or_default();
            if !["create", "start", "kill", "delete"].contains(&verb) {
                life.call(shape);
            }
        }
        match first("kill").filter(|_| n % 2 == 0) {
            Some(kill) => life.call(&kill),
            None => nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL).expect("kill it"),
        }
        crate::stage::exit_status(init);
        eventually("its end", || !PathBuf::from(format!("/proc/{init}")).exists());
        life.call(delete);
    }
}

fn rule_2_1_command_lines_of_containerd() {
    live(include_str!("../../tests/data/argv/containerd.txt"));
}

fn rule_2_2_command_lines_of_docker() {
    // BuildKit's log and run are another life.
    let text: Vec<&str> = include_str!("../../tests/data/argv/docker.txt").lines().filter(|l| !l.contains("buildkit")).collect();
    live(&text.join("\n"));
}

fn rule_2_4_command_lines_of_podman() {
    live(include_str!("../../tests/data/argv/podman.txt"));
}
