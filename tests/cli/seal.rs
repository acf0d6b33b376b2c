//! What enters a container runs from a sealed copy: seen from outside, in a process that waits to open its log.

use super::run;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `onggi create` that waits for somebody to read its log, with a name and an environment of the test's.
fn waiting(dir: &std::path::Path) -> (Child, PathBuf) {
    let log = dir.join("log");
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_onggi"));
    command.arg0("a name of its own").arg("--log").arg(&log).args(["create", "a/b"]).env_clear().env("KEY", "value");
    (command.stderr(Stdio::piped()).spawn().unwrap(), log)
}

#[test]
fn a_process_that_will_enter_a_container_runs_from_a_sealed_memory_file() {
    let dir = tempfile::tempdir().unwrap();
    let (child, log) = waiting(dir.path());
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let since = Instant::now();
    // The second start is over when the process has its name back.
    while fs::read_to_string(proc.join("comm")).unwrap() != "onggi\n"
        || !fs::read_link(proc.join("exe")).unwrap().starts_with("/memfd:onggi (deleted)")
    {
        assert!(since.elapsed() < Duration::from_secs(10), "never sealed");
        std::thread::sleep(Duration::from_millis(5));
    }
    let exe = fs::File::open(proc.join("exe")).unwrap();
    assert!(onggi::sys::memfd::is_sealed(std::os::fd::AsFd::as_fd(&exe)));
    // Whoever may open it, nobody can write it.
    let writable = fs::OpenOptions::new().write(true).open(proc.join("exe"));
    assert!(writable.is_err(), "{writable:?}");
    assert_eq!(fs::read(proc.join("exe")).unwrap(), fs::read(env!("CARGO_BIN_EXE_onggi")).unwrap());
    let words = fs::read(proc.join("cmdline")).unwrap();
    assert!(words.starts_with(b"a name of its own\0--log\0") && words.ends_with(b"\0create\0a/b\0"));
    assert_eq!(fs::read(proc.join("environ")).unwrap(), b"KEY=value\0");
    assert!(fs::read_to_string(log).unwrap().ends_with("msg=\"invalid container ID format\"\n"));
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), out.stderr.as_slice()), (Some(1), b"invalid container ID format\n".as_slice()));
}

#[test]
fn closed_standard_streams_do_no_harm() {
    let ran = run(Command::new("sh").args(["-c", "\"$0\" create a/b <&- >&- 2>&-", env!("CARGO_BIN_EXE_onggi")]));
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (1, "", ""));
}

#[test]
fn a_removed_binary_that_still_runs_is_copied_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gone");
    fs::copy(env!("CARGO_BIN_EXE_onggi"), &path).unwrap();
    let file = fs::File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let program = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    // Without close-on-exec, so that the child finds the descriptor.
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let ran = run(Command::new(program).args(["create", "a/b"]));
    assert_eq!((ran.status, ran.stderr.as_str()), (1, "invalid container ID format\n"));
}
