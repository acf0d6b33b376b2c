//! Processes, and messages between them.

use super::OURS;
use crate::bundle::{Bundle, find_program};
use crate::case;
use crate::case::Case;
use std::fs;
use std::process::Command;

pub fn cases() -> Vec<Case> {
    vec![case!(create_makes_one_process_and_one_message_goes_up).ours(OURS)]
}

fn create_makes_one_process_and_one_message_goes_up() {
    assert!(find_program("strace").is_some(), "strace is not here (package strace)");
    let bundle = Bundle::new().args(["sleep", "1000"]);
    bundle.write();
    let log = bundle.home.join("strace");
    let create = bundle.command(["create", &bundle.id]);
    let mut strace = Command::new("strace");
    // Not through the file system, so that a number of another process is never taken for a descriptor of ours.
    strace.args([
        "--follow-forks",
        "--decode-fds=socket",
        "--trace=write,writev,sendto,sendmsg,sendmmsg,clone,clone3,fork,vfork",
        "--output",
    ]);
    strace.arg(&log).arg(create.get_program()).args(create.get_args()).current_dir(bundle.dir());
    let mut child = strace.stdout(std::process::Stdio::null()).spawn().expect("start strace");
    // It stays with the container's init, which waits; so the end of `create` is told by the state.
    crate::bundle::eventually("created", || bundle.root().join(&bundle.id).join("state.json").exists());
    let output = bundle.call(["delete", "--force", &bundle.id]);
    assert_eq!(output.status, 0, "{output:?}");
    crate::bundle::within(&mut child, std::time::Duration::from_secs(10)).expect("strace does not end");
    let text = fs::read_to_string(log).expect("read strace's log");
    let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let made: Vec<&str> = lines.iter().map(|(_, call)| call.trim_start()).filter(|call| is_clone(call)).collect();
    // Init, and the thread that makes its network namespace meanwhile.
    let (threads, processes): (Vec<&str>, Vec<&str>) = made.into_iter().partition(|call| call.contains("CLONE_THREAD"));
    assert_eq!((processes.len(), threads.len()), (1, 1), "{text}");
    let parent = lines.first().expect("a line").0;
    let is_message = |call: &str| call.split(['(', ',']).nth(1).is_some_and(|fd| fd.contains("UNIX") || fd.contains("socket"));
    let up = lines.iter().filter(|(pid, call)| *pid != parent && is_message(call.trim_start())).count();
    let down = lines.iter().filter(|(pid, call)| *pid == parent && is_message(call.trim_start())).count();
    assert_eq!((up, down), (1, 1), "{text}");
}

/// Where strace shows it in two halves, the first.
fn is_clone(call: &str) -> bool {
    ["clone(", "clone3(", "fork(", "vfork("].iter().any(|name| call.starts_with(name))
}
