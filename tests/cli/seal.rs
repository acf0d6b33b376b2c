//! What enters a container has nothing to do with the host's binary: seen from outside, in a process that waits to open
//! its log.

use super::run;
use caps::{CapSet, Capability};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Starts `onggi create` with a name and an environment of the test's, and looks at it while it waits for somebody to read
/// its log. Returns what its exe link leads to.
fn look(dir: &Path) -> Vec<u8> {
    let log = dir.join("log");
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_onggi"));
    command.arg0("a name of its own").arg("--log").arg(&log).args(["create", "a/b"]).env_clear().env("KEY", "value");
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let since = Instant::now();
    // In openat(2) of the fifo it does nothing any more.
    let opening = format!("{} ", libc::SYS_openat);
    while !fs::read_to_string(proc.join("syscall")).unwrap().starts_with(&opening)
        || fs::read_link(proc.join("exe")).unwrap() != Path::new("/memfd:onggi (deleted)")
    {
        assert!(since.elapsed() < Duration::from_secs(10), "never sealed");
        std::thread::sleep(Duration::from_millis(5));
    }
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
    assert!(words.starts_with(b"a name of its own\0--log\0") && words.ends_with(b"\0create\0a/b\0"));
    assert_eq!(fs::read(proc.join("environ")).unwrap(), b"KEY=value\0");
    let exe = fs::read(proc.join("exe")).unwrap();
    assert!(fs::read_to_string(log).unwrap().ends_with("msg=\"invalid container ID format\"\n"));
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), out.stderr.as_slice()), (Some(1), b"invalid container ID format\n".as_slice()));
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
    fs::copy(env!("CARGO_BIN_EXE_onggi"), &path).unwrap();
    let file = fs::File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let program = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    // Without close-on-exec, so that the child finds the descriptor.
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let ran = run(Command::new(program).args(["create", "a/b"]));
    assert_eq!((ran.status, ran.stderr.as_str()), (1, "invalid container ID format\n"));
}
