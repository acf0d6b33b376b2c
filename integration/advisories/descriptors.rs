//! Descriptors, sockets and memory: what the program gets of the runtime and its caller, and what it can make them use up.

use super::{report_of, with_leaks};
use crate::bundle::{Bundle, Output, find_program, limit, within};
use crate::canary::{Canary, link};
use crate::case;
use crate::case::Case;
use crate::exec::sleeper;
use crate::faults;
use crate::hostdelta::CaseGroup;
use nix::pty::openpty;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        case!(sec_12_cve_2024_21626_numbers_as_working_directory).except("crun", "1.8 enters the caller's"),
        case!(sec_12_cve_2024_21626_numbers_as_exec_s_working_directory),
        case!(sec_12_cve_2024_21626_numbers_as_program),
        case!(sec_12_cve_2024_21626_the_program_s_descriptors).except("runc", "exec of 1.1 hands them on"),
        Case::new(
            module_path!(),
            "sec_12_cve_2024_21626_a_directory_of_the_caller",
            crate::program::a_directory_of_the_caller_is_no_working_directory,
        )
        .except("crun", "1.8 enters it"),
        Case::new(
            module_path!(),
            "sec_12_cve_2024_21626_an_init_that_waits",
            crate::program::a_waiting_init_holds_its_streams_and_fifos_alone,
        )
        .ours("others hold more"),
        case!(sec_26_cve_2020_15257_no_socket_that_others_reach),
        case!(sec_32_cve_2022_1708_output_does_not_grow_the_runtime),
        case!(sec_36_runc_3674_devices_on_the_streams_keep_their_owner).except("runc", "1.1 gives them away"),
    ]
}

/// The caller's are 3 to 20; the runtime's own may have any number.
fn numbers() -> impl Iterator<Item = u32> {
    (0..=24).chain([31, 63, 64, 99, 100, 254, 255, 256, 511, 1023])
}

/// All of them, as `ADVISORIES=all` asks for: 1024 containers take a while.
fn all_numbers() -> Vec<u32> {
    if std::env::var_os("ADVISORIES").is_some_and(|all| all == "all") { (0..1024).collect() } else { numbers().collect() }
}

const ESCAPES: [&str; 3] = ["", "/..", "/../../../../../.."];

#[track_caller]
fn stays_inside(output: &Output, what: &str) {
    let outside = ["sings", "canary", "bundle", "of the host"].iter().any(|word| output.stdout.contains(word));
    assert!(!outside && (output.status == 0 || !output.stderr.is_empty()), "{what}: {output:?}");
    assert!(output.status != 0 || output.stdout.starts_with("/"), "{what}: {output:?}");
}

const LOOK: &str = "pwd -P && cat file ../file 2>/dev/null; ls -A . ..";

fn sec_12_cve_2024_21626_numbers_as_working_directory() {
    let numbers = all_numbers();
    for (n, number) in numbers.iter().enumerate() {
        // Each number with one of the ways, and every way with many numbers.
        let escape = ESCAPES[n % 3];
        let mut cwd = format!("/proc/self/fd/{number}{escape}");
        let bundle = Bundle::new().sh(LOOK);
        let canary = Canary::new(&bundle);
        if n % 2 == 1 {
            link(&bundle, "/way", &cwd);
            cwd = "/way".into();
        }
        let bundle = bundle.set("/process/cwd", cwd.as_str());
        bundle.write();
        let output = bundle.finish(with_leaks(&bundle.command(["run", &bundle.id]), &canary.path));
        stays_inside(&output, &format!("{number}{escape} by {cwd}"));
        canary.assert_unchanged(&cwd);
    }
}

fn sec_12_cve_2024_21626_numbers_as_exec_s_working_directory() {
    let bundle = sleeper();
    let canary = Canary::new(&bundle);
    link(&bundle, "/way", "/proc/self/fd");
    bundle.detach();
    for (n, number) in all_numbers().iter().enumerate() {
        let cwd = format!("{}/{number}{}", ["/proc/self/fd", "/way", "/proc/1/fd"][n % 3], ESCAPES[n / 3 % 3]);
        let exec = bundle.command(["exec", "--cwd", &cwd, &bundle.id, "sh", "-c", LOOK]);
        stays_inside(&bundle.finish(with_leaks(&exec, &canary.path)), &cwd);
    }
    canary.assert_unchanged("exec");
}

fn sec_12_cve_2024_21626_numbers_as_program() {
    let bundle = sleeper();
    let canary = Canary::new(&bundle);
    let place = canary.path.join("deep").display().to_string();
    // A program that needs nothing of the container: it would run, and lead to the host by its own link.
    let busybox = find_program("busybox").expect("find busybox");
    assert!(Command::new("cp").arg(busybox).arg(format!("{place}/echo")).status().expect("run cp").success());
    bundle.detach();
    let up = "/..".repeat(20);
    for number in all_numbers() {
        // The caller's, and the runtime's own.
        for (name, leaks) in
            [("/deep/echo".into(), true), (format!("{up}{place}/echo"), true), (format!("{up}{place}/echo"), false)]
        {
            let program = format!("/proc/self/fd/{number}{name}");
            let exec = bundle.command(["exec", &bundle.id, &program, "of the host"]);
            let output = bundle.finish(if leaks { with_leaks(&exec, &canary.path) } else { exec });
            assert!(output.status != 0 && output.stdout.is_empty(), "{program}: {output:?}");
        }
    }
    for number in 3..=20 {
        for name in ["/deep/echo".into(), format!("{up}{place}/echo")] {
            let program = format!("/proc/self/fd/{number}{name}");
            let other = Bundle::new().args([program.as_str(), "of the host"]);
            other.write();
            let output = other.finish(with_leaks(&other.command(["run", &other.id]), &canary.path));
            assert!(output.status != 0 && output.stdout.is_empty(), "{program}: {output:?}");
        }
    }
}

/// Of the program, of one that `exec` starts, with some that are preserved.
fn sec_12_cve_2024_21626_the_program_s_descriptors() {
    let bundle = Bundle::new().inside(&["report"]);
    let canary = Canary::new(&bundle);
    bundle.write();
    let held = |output: Output| -> Vec<String> {
        let mut numbers: Vec<_> = report_of(&output.stdout)["fds"].as_object().expect("descriptors").keys().cloned().collect();
        numbers.sort();
        numbers
    };
    assert_eq!(held(bundle.finish(with_leaks(&bundle.command(["run", &bundle.id]), &canary.path))), ["0", "1", "2"]);
    let run = bundle.command(["run", "--preserve-fds", "2", &bundle.id]);
    assert_eq!(held(bundle.finish(with_leaks(&run, &canary.path))), ["0", "1", "2", "3", "4"]);
    let running = sleeper();
    running.detach();
    let exec = running.command(["exec", &running.id, "/inside", "report"]);
    assert_eq!(held(running.finish(with_leaks(&exec, &canary.path))), ["0", "1", "2"]);
}

/// At every system call of `create`, in a network namespace where nobody else has a socket: none has an abstract name, and none
/// listens. With a terminal and a notify socket there are some to be made.
fn sec_26_cve_2020_15257_no_socket_that_others_reach() {
    let bundle = Bundle::new().set("/process/terminal", true).args(["sleep", "1000"]);
    bundle.write();
    let group = CaseGroup::new(&bundle);
    let path = bundle.home.join("console").display().to_string();
    let _listener = UnixListener::bind(&path).expect("listen");
    let seen = bundle.home.join("sockets");
    let create = bundle.command(["create", "--console-socket", &path, &bundle.id]);
    let mut traced = Command::new("unshare");
    let manager = bundle.home.join("manager").display().to_string();
    let _manager = std::os::unix::net::UnixDatagram::bind(&manager).expect("stand for a manager");
    traced.args(["--net", "env", &format!("NOTIFY_SOCKET={manager}")]);
    traced
        .arg("bash")
        .args(["-c", "exec -a ftkill \"$@\"", "sh"])
        .arg(fs::read_link("/proc/self/exe").expect("find this program"));
    let look = format!("tail -n +2 /proc/net/unix >>{}", seen.display());
    traced.args([&format!("tree-each={look}"), "1"]).arg(bundle.home.join("report")).arg(group.path()).arg("--");
    traced.args(faults::words(&create)).current_dir(bundle.dir());
    // It stops at each of some hundred calls.
    let output = bundle.finish_within(traced, 4 * limit()).expect("the end of the tracer");
    assert_eq!(output.status, 0, "{output:?}");
    let sockets = fs::read_to_string(seen).expect("read what was seen");
    assert!(sockets.lines().count() > 100, "{} lines", sockets.lines().count());
    let state = bundle.root().display().to_string();
    // The two that the test itself has.
    let own = [path.as_str(), manager.as_str()];
    for line in sockets.lines().filter(|line| !own.iter().any(|name| line.ends_with(name))) {
        // Num RefCount Protocol Flags Type St Inode Path; 00010000 is one that listens.
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words.get(7).copied().unwrap_or_default();
        assert!(!name.starts_with('@') && (words[3] != "00010000" || name.starts_with(&state)), "{line}");
        assert!(name.is_empty() || name.starts_with(&state), "{line}");
    }
}

/// Highest resident memory of a process so far, in KiB.
fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// What the program writes to a terminal goes through the runtime, in the foreground. 2 GiB take minutes: `ADVISORIES=all`.
fn sec_32_cve_2022_1708_output_does_not_grow_the_runtime() {
    let bundle = sleeper();
    bundle.detach();
    let mebibytes = if all_numbers().len() == 1024 { 2048 } else { 128 };
    for flags in [&[][..], &["--tty"]] {
        let script = format!("dd if=/dev/zero bs=1048576 count={mebibytes} 2>/dev/null | tr '\\0' x");
        let mut exec = bundle.command(["exec"].iter().chain(flags).chain(&[bundle.id.as_str(), "sh", "-c", &script]));
        let mut child = exec.stdout(Stdio::piped()).spawn().expect("start an exec");
        let (mut total, mut most, mut part) = (0, 0, vec![0; 1 << 16]);
        let mut stdout = child.stdout.take().expect("a pipe");
        // A reader that is late at first: what it does not take must not pile up in the runtime.
        std::thread::sleep(Duration::from_millis(300));
        while let Ok(length @ 1..) = stdout.read(&mut part) {
            total += length;
            most = peak(child.id()).unwrap_or_default().max(most);
        }
        assert_eq!(within(&mut child, Duration::from_secs(10)), Some(0));
        assert!(total >= mebibytes << 20, "{total}");
        assert!(most > 0 && most < 20 * 1024, "{most} KiB after {total} bytes");
    }
}

/// Nodes of a file system of the test's own: the host's are not to be put at risk.
fn sec_36_runc_3674_devices_on_the_streams_keep_their_owner() {
    let bundle = Bundle::new().set("/process/user", json!({"uid": 1000, "gid": 1000})).args(["true"]);
    let dev = bundle.home.join("nodes");
    fs::create_dir(&dev).expect("make a directory");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "nodes"]).arg(&dev).status().expect("run mount");
    assert!(mounted.success());
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7)] {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&dev.join(name), SFlag::S_IFCHR, mode, makedev(1, minor)).expect("make a node");
    }
    let pty = openpty(None, None).expect("make a terminal");
    let slave = nix::unistd::ttyname(&pty.slave).expect("its name");
    let places = [dev.join("null"), dev.join("zero"), dev.join("full"), slave];
    let owners = || places.each_ref().map(|path| fs::metadata(path).map(|meta| (meta.uid(), meta.gid(), meta.mode())).ok());
    let before = owners();
    bundle.write();
    for (stdin, stdout, stderr) in [(0, 0, 0), (1, 2, 2), (3, 3, 3), (1, 3, 0)] {
        let open = |n: usize| File::options().read(true).write(true).open(&places[n]).expect("open a device");
        let mut run = bundle.command(["run", &bundle.id]);
        let status = run.stdin(open(stdin)).stdout(open(stdout)).stderr(open(stderr)).status().expect("run the runtime");
        assert!(status.success(), "{stdin} {stdout} {stderr}: {status}");
        let running = sleeper();
        running.detach();
        let mut exec = running.command(["exec", "--user", "1000:1000", &running.id, "true"]);
        let status = exec.stdin(open(stdin)).stdout(open(stdout)).stderr(open(stderr)).status().expect("run the runtime");
        assert!(status.success(), "{stdin} {stdout} {stderr}: {status}");
    }
    let after = owners();
    let unmounted = Command::new("umount").arg("-l").arg(&dev).status().expect("run umount");
    assert!(unmounted.success());
    assert_eq!(after, before);
}
