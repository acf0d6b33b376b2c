//! Where the tests run: namespaces and a cgroup of their own, set up before the first test and gone with the last process.
//!
//! Not a fixture of one test; see `bundle` for that. The test program starts itself four times over:
//!
//! ```text
//! outer    what cargo started: makes the scratch cgroup, starts the others, hands on the exit status
//! watcher  waits until outer is gone, however that came, then kills the scratch cgroup and removes it
//! init     first process of the new PID namespace: mounts, reaps orphans, writes down how they ended
//! tests    runs the tests
//! ```
//!
//! Inside, `/sys/fs/cgroup` is a cgroup2 whose root is the scratch cgroup, `/run` is an empty tmpfs (all that tests write
//! lies there), `/` is shared as on a real host, and the host's cgroup v1 mounts cannot be seen. How the mounts are made is
//! for the caller to say: [`mount_over`] puts these over the host's, the tests with engines bring a root of their own.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Pid, setsid};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Directory for everything that tests write.
pub const WORK: &str = "/run/test";
/// The cgroup that the tests themselves are in, as a directory.
pub const LEAF: &str = "/sys/fs/cgroup/tests";
/// One line `PID STATUS` for every orphan that ended, the status as a shell gives it.
const EXITS: &str = "/run/exits";
/// Variable of the environment that says which of the four we are; absent in the outer one.
pub const ROLE: &str = "ONGGI_STAGE";

/// Whether this is a machine made for tests, with every cgroup v2 controller.
pub fn vm() -> bool {
    std::env::var_os("ONGGI_VM").is_some()
}

/// A part of `tests/data`: of the source tree, or what `vm/run` has put beside this program.
pub fn data(part: &str) -> PathBuf {
    let data = match vm() {
        true => std::env::current_exe().expect("find this program").with_file_name("data"),
        false => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"),
    };
    data.join(part)
}

/// Whether systemd has booted this machine. It is made for the tests: they run on it as it is, since systemd knows
/// processes by the ids of the first PID namespace alone.
pub fn systemd() -> bool {
    std::env::var_os("ONGGI_SYSTEMD").is_some_and(|value| !value.is_empty())
}

/// Whether only the tests that need such a machine are to run: emulated, it is many times slower.
pub fn vm_only() -> bool {
    std::env::var_os("ONGGI_VM").is_some_and(|value| value == "only")
}

/// Returns in the process that is to run the tests, with everything set up, the mounts by the function; ends all others.
pub fn enter(mount_all: fn() -> nix::Result<()>) {
    match std::env::var(ROLE).as_deref() {
        Err(_) => exit(outer()),
        Ok("init") => exit(init(mount_all)),
        Ok("tests") => fs::create_dir_all(WORK).expect("make the work directory"),
        Ok(scratch) => exit(watch(Path::new(scratch))),
    }
}

/// Exit status of an orphan (a container's first process, say), waited for up to ten seconds.
pub fn exit_status(pid: i32) -> Option<i32> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let exits = fs::read_to_string(EXITS).unwrap_or_default();
        let found = exits.lines().rev().find_map(|line| line.strip_prefix(&format!("{pid} "))?.parse().ok());
        if found.is_some() || Instant::now() > until {
            return found;
        }
        sleep(Duration::from_millis(5));
    }
}

/// By the link, since its path means nothing once the root is another.
fn this_program() -> Command {
    Command::new("/proc/self/exe")
}

fn outer() -> i32 {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("integration tests need root: they make namespaces, mounts and cgroups");
        return 1;
    }
    let scratch = own_cgroup().join(format!("onggi-test-{}", std::process::id()));
    // The watcher is there before the thing that it is to remove.
    let mut watcher =
        this_program().env(ROLE, &scratch).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("start the watcher");
    fs::create_dir(&scratch).expect("make the scratch cgroup");
    let mut stage = Command::new("sh")
        .args(["-c", r#"echo 0 >"$0/cgroup.procs" && exec unshare -mpfCuin --kill-child --propagation private "$@""#])
        .arg(&scratch)
        .arg(std::env::current_exe().expect("find this program"))
        .args(std::env::args_os().skip(1))
        .env(ROLE, "init")
        .spawn()
        .expect("start the first process");
    // A group that has processes cannot hand controllers down. The first process goes into a leaf by itself; `unshare`,
    // which waits for it, is out of its sight and is moved by us.
    let outside = scratch.join("outside");
    fs::create_dir(&outside).expect("make a cgroup");
    while stage.try_wait().expect("look at the first process").is_none() {
        if scratch.join("tests").exists() {
            fs::write(outside.join("cgroup.procs"), stage.id().to_string()).expect("move the parent of the first process");
            break;
        }
        sleep(Duration::from_millis(1));
    }
    let status = stage.wait().expect("wait for the first process");
    drop(watcher.stdin.take());
    watcher.wait().expect("wait for the watcher");
    shell_status(&status)
}

fn watch(scratch: &Path) -> i32 {
    // A Ctrl-C is for the tests; this one has to outlive them.
    let _ = setsid();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    for _ in 0..500 {
        let _ = fs::write(scratch.join("cgroup.kill"), "1");
        remove_tree(scratch);
        if !scratch.exists() {
            return 0;
        }
        sleep(Duration::from_millis(10));
    }
    eprintln!("the scratch cgroup {} cannot be removed", scratch.display());
    1
}

/// Removes a cgroup and all below it, deepest first, as far as that is possible.
pub fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

fn init(mount_all: fn() -> nix::Result<()>) -> i32 {
    mount_all().expect("set up the mounts");
    enter_leaf();
    let mut tests = this_program();
    tests.args(std::env::args_os().skip(1)).env(ROLE, "tests");
    let tests = Pid::from_raw(tests.spawn().expect("start the tests").id().cast_signed());
    let mut exits = OpenOptions::new().create(true).append(true).open(EXITS).expect("make the list of exits");
    loop {
        let (pid, status) = match wait() {
            Ok(WaitStatus::Exited(pid, status)) => (pid, status),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
            Ok(_) => continue,
            Err(error) => panic!("wait for the tests: {error}"),
        };
        if pid == tests {
            return status;
        }
        writeln!(exits, "{pid} {status}").expect("write down an exit");
    }
}

/// Mounts on top of what the host has.
pub fn mount_over() -> nix::Result<()> {
    let none = None::<&str>;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), quiet, none)?;
    while umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH).is_ok() {}
    mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), quiet, none)?;
    let nosuid = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), nosuid, Some("mode=755"))?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none)
}

fn enter_leaf() {
    fs::create_dir(LEAF).and_then(|()| fs::write(format!("{LEAF}/cgroup.procs"), "0")).expect("enter the tests' cgroup");
    while !fs::read_to_string("/sys/fs/cgroup/cgroup.procs").expect("read who is in the cgroup").is_empty() {
        sleep(Duration::from_millis(1));
    }
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").expect("read the list of controllers");
    for controller in controllers.split_whitespace() {
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", format!("+{controller}")).expect("hand a controller down");
    }
    // `unshare` brings the new network namespace's loopback device up as little as the kernel does.
    let _ = Command::new("ip").args(["link", "set", "lo", "up"]).status();
}

/// The directory of our own cgroup, in the cgroup2 that this host has.
fn own_cgroup() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read the mounts");
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then_some(place)
    });
    let groups = fs::read_to_string("/proc/self/cgroup").expect("read our cgroup");
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup v2 membership");
    PathBuf::from(mount.expect("a cgroup2 mount")).join(own)
}

/// The status as a shell gives it: 128 and the number of the signal for a process that one ended.
pub fn shell_status(status: &std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// This program under another name, which makes it do that program's work.
pub fn this_program_as(name: &str) -> Command {
    let mut command = this_program();
    command.arg0(name);
    command
}
