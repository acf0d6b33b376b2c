//! What enters a container has nothing to do with the host's binary: seen from outside, in a process that waits to open
//! its log.

use super::run;
use caps::{CapSet, Capability};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A log that takes two short lines, and has the next writer wait: its two ends.
fn full_log(path: &Path) -> (File, File) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut both = File::options().read(true).write(true).open(path).unwrap();
    let room = usize::try_from(fcntl(&both, FcntlArg::F_SETPIPE_SZ(1)).unwrap()).unwrap();
    both.write_all(&vec![b'\n'; room - 300]).unwrap();
    (File::open(path).unwrap(), both)
}

/// Starts `onggi create` with a name and an environment of the test's, and looks at it while it waits to log its plan, before it
/// makes anything. Returns what its exe link leads to.
fn look(dir: &Path) -> Vec<u8> {
    let config = r#"{"ociVersion":"1.2.0","root":{"path":"."},"process":{"terminal":true,"cwd":"/","args":["true"],"user":{}},
        "linux":{"namespaces":[{"type":"mount"},{"type":"user"},{"type":"pid"}],
        "uidMappings":[{"containerID":0,"hostID":0,"size":1}],"gidMappings":[{"containerID":0,"hostID":0,"size":1}]}}"#;
    fs::write(dir.join("config.json"), config).unwrap();
    let log = dir.join("log");
    let (mut reader, writer) = full_log(&log);
    let mut command = Command::new(env!("CARGO_BIN_EXE_onggi"));
    command.arg0("a name of its own").arg("--log").arg(&log).arg("--debug").arg("--root").arg(dir.join("state"));
    command.args(["create", "--bundle"]).arg(dir).arg("--console-socket").arg(dir.join("absent")).arg("a");
    let child = command.env_clear().env("KEY", "value").stderr(Stdio::piped()).spawn().unwrap();
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let since = Instant::now();
    // In write(2) to the log it does nothing any more.
    let writing = format!("{} ", libc::SYS_write);
    while !fs::read_to_string(proc.join("syscall")).unwrap().starts_with(&writing) {
        assert!(since.elapsed() < Duration::from_secs(10), "never there");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(fs::read_link(proc.join("exe")).unwrap(), Path::new("/memfd:onggi (deleted)"));
    assert_eq!(fs::read_to_string(proc.join("comm")).unwrap(), "onggi\n");
    assert!(onggi::sys::memfd::is_sealed(fs::File::open(proc.join("exe")).unwrap().as_fd()));
    let writable = fs::OpenOptions::new().write(true).open(proc.join("exe"));
    assert!(writable.is_err(), "{writable:?}");
    let binary = fs::canonicalize(env!("CARGO_BIN_EXE_onggi")).unwrap();
    let maps = fs::read_to_string(proc.join("maps")).unwrap();
    assert!(!maps.contains(binary.to_str().unwrap()), "{maps}");
    assert!(!maps.lines().any(|l| l.contains(" rwx")), "{maps}");
    // The last way to a file that is only mapped; root alone may follow these links.
    for mapping in fs::read_dir(proc.join("map_files")).unwrap().map(Result::unwrap) {
        let writable = fs::OpenOptions::new().write(true).open(mapping.path());
        assert!(writable.is_err(), "{mapping:?} {writable:?}");
    }
    for fd in fs::read_dir(proc.join("fd")).unwrap().map(Result::unwrap) {
        assert_ne!(fs::read_link(fd.path()).unwrap(), binary);
    }
    let words = fs::read(proc.join("cmdline")).unwrap();
    assert!(words.starts_with(b"a name of its own\0--log\0") && words.ends_with(b"/absent\0a\0"));
    assert_eq!(fs::read(proc.join("environ")).unwrap(), b"KEY=value\0");
    let exe = fs::read(proc.join("exe")).unwrap();
    drop(writer);
    let mut logged = String::new();
    reader.read_to_string(&mut logged).unwrap();
    assert!(logged.contains("plan: ") && logged.contains("absent: no such file"), "{logged}");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
    assert!(!dir.join("state").exists());
    exe
}

/// Whether the exe link may be changed.
fn may_change_link() -> bool {
    [Capability::CAP_CHECKPOINT_RESTORE, Capability::CAP_SYS_ADMIN]
        .iter()
        .any(|&c| caps::has_cap(None, CapSet::Effective, c).unwrap())
}

#[test]
fn nothing_leads_to_the_binary() {
    let dir = tempfile::tempdir().unwrap();
    let exe = look(dir.path());
    let want = if may_change_link() { Vec::new() } else { fs::read(env!("CARGO_BIN_EXE_onggi")).unwrap() };
    assert!(exe == want, "{} bytes", exe.len());
}

#[test]
fn without_the_capability_it_runs_from_a_sealed_copy() {
    // Capabilities are a thread's, and what it starts inherits the lack of them.
    let exe = std::thread::spawn(|| {
        if may_change_link() {
            for capability in [Capability::CAP_CHECKPOINT_RESTORE, Capability::CAP_SYS_ADMIN] {
                caps::drop(None, CapSet::Bounding, capability).unwrap();
            }
        }
        let dir = tempfile::tempdir().unwrap();
        look(dir.path())
    });
    assert!(exe.join().unwrap() == fs::read(env!("CARGO_BIN_EXE_onggi")).unwrap());
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
    // By another process: one that is forked here meanwhile would hold the file open for writing (ETXTBSY).
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_onggi")).arg(&path).status().unwrap().success());
    let file = fs::File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let program = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    // Without close-on-exec, so that the child finds the descriptor.
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let ran = run(Command::new(program).args(["create", "a/b"]));
    assert_eq!((ran.status, ran.stderr.as_str()), (1, "invalid container ID format\n"));
}
