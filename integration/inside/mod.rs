//! What runs inside containers: prints how it is confined, and tries what should not work.
//!
//! ```text
//! inside report [FILE...]      all that can be seen, as JSON, with the contents of the FILEs
//! inside open MODE PATH...     a line each: `PATH ok` or `PATH ERRNO`; MODE is r, w or rw
//! inside call NUMBER [ARG...]  makes a system call, prints its result or `ERRNO`
//! inside call32 NUMBER         the same without arguments, by the entry and the numbers of i386
//! inside tty                   what only the terminal on stdin can tell, as JSON
//! inside push PATH             tries to push input into the terminal there: `ok` or `ERRNO`
//! inside notify TEXT           sends it to NOTIFY_SOCKET: `ok` or the error
//! inside attack CANARY         tries to get hold of every other process, see there
//! inside hold PATH             tries to write to the file of the program that this link leads to
//! inside linger                ends its first thread, and lives on in another
//! ```
//!
//! The tests' own program under another name: static, so it runs in an empty root. What Rust's start-up changes shows in the
//! report: SIGPIPE is ignored, SIGSEGV and SIGBUS are caught, and closed standard streams are opened on /dev/null.

mod attack;
pub mod listener;
mod raw;

use nix::errno::Errno;
use serde_json::{Map, Value, json};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;

pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        ["report", files @ ..] => println!("{:#}", report(files)),
        ["open", mode, paths @ ..] => paths.iter().for_each(|path| println!("{path} {}", open(mode, path))),
        ["call", numbers @ ..] => println!("{}", call(numbers)),
        ["call32", number] => println!("{}", raw::call32(number.parse().expect("a number"))),
        ["tty"] => println!("{}", raw::terminal()),
        ["push", path] => println!("{}", fs::File::open(path).map_or_else(no_file, |file| result(raw::push_input(&file)))),
        ["notify", text] => println!("{}", notify(text).map_or_else(no_file, |_| "ok".into())),
        ["attack", canary] => attack::main(canary),
        ["hold", path] => attack::hold(path),
        ["linger"] => linger(),
        _ => {
            eprintln!("usage: inside report [FILE...] | open MODE PATH... | call NUMBER [ARG...] | notify TEXT");
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}

fn no_file(error: std::io::Error) -> String {
    errno(Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

fn notify(text: &str) -> std::io::Result<usize> {
    UnixDatagram::unbound()?.send_to(text.as_bytes(), std::env::var_os("NOTIFY_SOCKET").unwrap_or_default())
}

fn result(result: nix::Result<()>) -> String {
    result.map_or_else(errno, |()| "ok".into())
}

fn errno(error: Errno) -> String {
    format!("{error:?}")
}

fn open(mode: &str, path: &str) -> String {
    let file = OpenOptions::new().read(mode.contains('r')).write(mode.contains('w')).open(path);
    match file {
        Ok(_) => "ok".into(),
        Err(error) => no_file(error),
    }
}

fn linger() {
    std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(1000)));
    let _ended = raw::call([nix::libc::SYS_exit, 0, 0, 0, 0, 0, 0]);
}

fn call(numbers: &[&str]) -> String {
    let mut values = [0i64; 7];
    for (value, number) in values.iter_mut().zip(numbers) {
        *value = number.parse().expect("a number");
    }
    match raw::call(values) {
        Ok(result) => result.to_string(),
        Err(error) => errno(error),
    }
}

fn report(files: &[&str]) -> Value {
    let status = read("/proc/self/status");
    let mut report = Map::new();
    // Capabilities, NoNewPrivs, Seccomp, Groups, Uid, Gid, Umask, signal sets and more, under the kernel's names.
    let fields: Map<String, Value> = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), json!(value.split_whitespace().collect::<Vec<_>>().join(" "))))
        .collect();
    report.insert("status".into(), fields.into());
    report.insert("mounts".into(), read("/proc/self/mountinfo").lines().map(mount).collect());
    report.insert("fds".into(), fds());
    report.insert("namespaces".into(), links("/proc/self/ns"));
    report.insert("rlimits".into(), rlimits());
    report.insert("args".into(), std::env::args().collect());
    let env = std::env::vars_os().map(|(name, value)| (text(&name), Value::from(text(&value))));
    report.insert("env".into(), env.collect::<Map<_, _>>().into());
    let cwd = std::env::current_dir().map_or(Value::Null, |cwd| json!(cwd.display().to_string()));
    report.insert("cwd".into(), cwd);
    let number = |path: &str| json!(read(path).trim().parse::<i64>().ok());
    report.insert("oom_score_adj".into(), number("/proc/self/oom_score_adj"));
    report.insert("personality".into(), json!(read("/proc/self/personality").trim()));
    report.insert("hostname".into(), json!(read("/proc/sys/kernel/hostname").trim()));
    report.insert("domainname".into(), json!(read("/proc/sys/kernel/domainname").trim()));
    report.insert("cgroup".into(), json!(read("/proc/self/cgroup").trim()));
    report.insert("cmdline_of_1".into(), json!(read("/proc/1/cmdline").replace('\0', " ").trim()));
    report.insert("label".into(), json!(read("/proc/self/attr/current").trim()));
    report.insert("timens_offsets".into(), json!(read("/proc/self/timens_offsets").trim()));
    let session = nix::unistd::getsid(None).map_or(-1, |session| session.as_raw());
    report.insert("session".into(), json!(session));
    report.insert("terminal".into(), json!(std::io::IsTerminal::is_terminal(&std::io::stdin())));
    report.insert("key_label".into(), json!(raw::key_label()));
    report.insert("keyring".into(), json!(raw::session_keyring()));
    report.insert("scheduler".into(), raw::scheduler());
    report.insert("io_priority".into(), json!(raw::io_priority()));
    report.insert("memory_policy".into(), json!(raw::memory_policy()));
    let contents = files.iter().map(|file| ((*file).to_owned(), json!(fs::read_to_string(file).ok())));
    report.insert("files".into(), contents.collect::<Map<_, _>>().into());
    report.into()
}

fn read(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn text(text: &std::ffi::OsStr) -> String {
    text.to_string_lossy().into_owned()
}

/// A line of mountinfo: `root target options propagation type source super`.
fn mount(line: &str) -> Value {
    let words: Vec<&str> = line.split(' ').collect();
    let dash = words.iter().position(|word| *word == "-").unwrap_or(words.len());
    let word = |index: usize| words.get(index).copied().unwrap_or_default();
    json!({
        "root": word(3),
        "target": word(4),
        "options": word(5),
        "propagation": words.get(6..dash).map(|words| words.join(" ")),
        "type": word(dash + 1),
        "source": word(dash + 2),
        "super": word(dash + 3),
    })
}

/// Open descriptors and where they lead, without the one that lists them.
fn fds() -> Value {
    let mut found = Map::new();
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        if let Ok(target) = fs::read_link(entry.path()) {
            let target = target.display().to_string();
            if !target.starts_with("/proc/") || !target.ends_with("/fd") {
                found.insert(text(&entry.file_name()), target.into());
            }
        }
    }
    found.into()
}

/// Names in a directory of magic links, with the inode that each stands for.
fn links(directory: &str) -> Value {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let pairs = entries.filter_map(|entry| Some((text(&entry.file_name()), json!(fs::metadata(entry.path()).ok()?.ino()))));
    pairs.collect::<Map<_, _>>().into()
}

/// Soft and hard limit by the kernel's name, as it prints them.
fn rlimits() -> Value {
    let limits = read("/proc/self/limits");
    let lines = limits.lines().skip(1).filter_map(|line| {
        let (name, numbers) = line.split_at_checked(26)?;
        let mut numbers = numbers.split_whitespace();
        Some((name.trim().to_owned(), json!([numbers.next()?, numbers.next()?])))
    });
    lines.collect::<Map<_, _>>().into()
}
