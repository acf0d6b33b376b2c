//! A stored pid as a process: the very one, or nobody. A number alone may have come to name another since.

use super::Record;
use crate::error::{Context, Error, Result};
use crate::sys::{fs, pidfd};
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// The boot of the machine that what is written in `dir` must name; none where it cannot outlive this one, on a tmpfs.
/// Where CRIU takes a tmpfs to another boot with all that runs beside it, pidfs inode or start time are others there.
fn boot_to_name(dir: BorrowedFd<'_>) -> Result<Option<&'static str>> {
    /// `TMPFS_MAGIC` of <linux/magic.h>.
    const TMPFS: i64 = 0x0102_1994;
    let looked = || "look at the file system of the state directory".into();
    if fs::magic(dir).step("fstatfs", looked)? == TMPFS { Ok(None) } else { boot_id(fs::read_closed).map(Some) }
}

/// This boot of the machine.
fn boot_id(read: fs::Read) -> Result<&'static str> {
    static BOOT: OnceLock<String> = OnceLock::new();
    if let Some(id) = BOOT.get() {
        return Ok(id);
    }
    let path = c"/proc/sys/kernel/random/boot_id";
    let text = read(path).step("read", || format!("read {}", path.to_string_lossy()))?;
    Ok(BOOT.get_or_init(|| String::from_utf8_lossy(&text).trim().to_string()))
}

/// Start time of a process in clock ticks since boot (proc_pid_stat(5)); `None` when it is gone.
fn start_time(read: fs::Read, pid: i32) -> Result<Option<u64>> {
    match read(&proc_file(pid, "stat")?) {
        Ok(text) => Ok(parse_start(&text)),
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(e) => Err(Error::sys(format!("read /proc/{pid}/stat"), "read", e.into())),
    }
}

/// Whether a process, or the zombie of one, has executed a program since it was forked; `None` when it is gone. One that is not
/// ours to reap is told from a later one by its `start_time`.
pub fn has_executed(pid: i32, start_time: Option<u64>) -> Result<Option<bool>> {
    match fs::read_closed(&proc_file(pid, "stat")?) {
        Ok(text) => Ok(parse_flags(&text).filter(|_| start_time.is_none() || parse_start(&text) == start_time)),
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(e) => Err(Error::sys(format!("read /proc/{pid}/stat"), "read", e.into())),
    }
}

/// Field 9: `PF_FORKNOEXEC` of <linux/sched.h>, which execve(2) clears before it closes descriptors.
fn parse_flags(text: &[u8]) -> Option<bool> {
    const FORKNOEXEC: u64 = 0x40;
    let flags: u64 = behind_name(text)?.nth(6)?.parse().ok()?;
    Some(flags & FORKNOEXEC == 0)
}

/// The path of a file of a process in procfs.
pub fn proc_file(pid: i32, name: &str) -> Result<CString> {
    CString::new(format!("/proc/{pid}/{name}")).map_err(|_| Error::new("name a file of procfs", "it has a NUL byte"))
}

/// Fields from the third on. The name before them may hold anything, parentheses and bytes of no text too.
fn behind_name(text: &[u8]) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    let end = text.iter().rposition(|&byte| byte == b')')?;
    Some(std::str::from_utf8(text.get(end + 1..)?).ok()?.split_ascii_whitespace())
}

/// Field 22.
fn parse_start(text: &[u8]) -> Option<u64> {
    behind_name(text)?.nth(19)?.parse().ok()
}

/// Whoever has that number now.
pub(super) fn open(pid: i32) -> Result<Option<OwnedFd>> {
    match pidfd::open(pid) {
        Err(Errno::ESRCH) => Ok(None),
        other => other.step("pidfd_open", || format!("look at process {pid}")).map(Some),
    }
}

/// What tells a process from all that have had its number, or will.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its number, as the PID namespace of the runtime counts.
    pub pid: i32,
    /// Its start time in clock ticks since boot. A tick is 10 ms: what was started in the same one has the same.
    pub start_time: u64,
    /// Its inode number on pidfs, which no other gets in the same boot; `None` before Linux 6.9.
    pub pidfs: Option<u64>,
    /// The boot that both count from; `None` where it can only be this one.
    pub boot_id: Option<&'a str>,
}

impl Known<'static> {
    /// A process that runs, or is ours to reap, to be written down in `dir`; `None` when it is gone.
    pub fn of(pid: i32, pidfd: BorrowedFd<'_>, dir: BorrowedFd<'_>) -> Result<Option<Self>> {
        let pidfs = pidfd::inode(pidfd).step("fstatfs", || format!("look at process {pid}"))?;
        let Some(start_time) = start_time(fs::read_closed, pid)? else { return Ok(None) };
        Ok(Some(Self { pid, start_time, pidfs, boot_id: boot_to_name(dir)? }))
    }
}

impl Known<'_> {
    /// A descriptor of it, if it still runs. A zombie does not: it has ended, whoever will reap it. One whose first thread has
    /// ended does, for as long as it has another.
    pub fn open(&self, read: fs::Read) -> Result<Option<OwnedFd>> {
        if self.pid <= 0 {
            return Ok(None);
        }
        let Some(fd) = open(self.pid)? else { return Ok(None) };
        let looked = || format!("look at process {}", self.pid);
        let same = match self.pidfs {
            Some(inode) => fs::stat(fd.as_fd()).step("fstat", looked)?.st_ino == inode,
            // Asked after the descriptor was taken: what it says is of that process or of none.
            None => start_time(read, self.pid)? == Some(self.start_time),
        };
        if !same || ended(&fd).step("poll", looked)? {
            return Ok(None);
        }
        // In another boot it may be a stranger.
        let runs = match self.boot_id {
            Some(id) => id == boot_id(read)?,
            None => true,
        };
        Ok(runs.then_some(fd))
    }
}

fn ended(fd: &OwnedFd) -> nix::Result<bool> {
    loop {
        match pidfd::poll_exit(fd, Some(0)) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

impl Record {
    /// Its init.
    pub fn process(&self) -> Known<'_> {
        Known { pid: self.pid, start_time: self.start_time, pidfs: self.pidfs, boot_id: self.boot_id.as_deref() }
    }

    /// Writes down who init is, in the container's directory `dir`.
    ///
    /// # Errors
    /// It has been reaped, or procfs cannot be read.
    pub fn set_process(&mut self, pid: i32, pidfd: BorrowedFd<'_>, dir: BorrowedFd<'_>) -> Result<()> {
        let init = Known::of(pid, pidfd, dir)?.ok_or_else(|| Error::new("container init died", "it left no trace"))?;
        (self.pid, self.start_time, self.pidfs) = (init.pid, init.start_time, init.pidfs);
        self.boot_id = init.boot_id.map(str::to_owned);
        Ok(())
    }

    /// A descriptor of init, if it still runs: [`Known::open`].
    pub fn init(&self) -> Result<Option<OwnedFd>> {
        self.process().open(fs::read_closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_through_a_hostile_name() {
        for name in [&b"(a) R) 1 (x)"[..], b"(\xff\xed\x95)"] {
            let line = |flags: &str| {
                let rest = format!(" S 1 42 42 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2");
                [b"42 ", name, rest.as_bytes()].concat()
            };
            assert_eq!(parse_start(&line("4194560")), Some(987_654));
            assert_eq!(parse_flags(&line("4194560")), Some(true));
            assert_eq!(parse_flags(&line("4194624")), Some(false));
        }
    }

    #[test]
    fn this_process_is_itself_and_no_other() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let mut record = Record::new("c");
        let init = pidfd::open(pid).unwrap();
        // On a tmpfs no boot is named.
        record.set_process(pid, init.as_fd(), crate::sys::memfd::create(c"tmpfs").unwrap().as_fd()).unwrap();
        assert!(record.boot_id.is_none() && record.init().unwrap().is_some());
        record.set_process(pid, init.as_fd(), std::fs::File::open("/proc").unwrap().as_fd()).unwrap();
        assert!(record.boot_id.is_some());
        let runs = |record: &Record| record.init().unwrap().is_some();
        assert!(runs(&record));
        if let Some(inode) = record.pidfs {
            // As if it had been started in the same tick.
            record.pidfs = Some(inode + 1);
            assert!(!runs(&record));
        }
        // As on a kernel before 6.9.
        record.pidfs = None;
        assert!(runs(&record));
        record.start_time += 1;
        assert!(!runs(&record));
        record.start_time -= 1;
        record.boot_id = Some("another".into());
        assert!(!runs(&record));
    }

    #[test]
    fn a_zombie_does_not_run() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mut record = Record::new("c");
        let fd = pidfd::open(pid).unwrap();
        record.set_process(pid, fd.as_fd(), std::fs::File::open("/").unwrap().as_fd()).unwrap();
        let found = |pidfs| Known { pidfs, ..record.process() }.open(fs::read_closed).unwrap().is_some();
        assert!(found(record.pidfs) && found(None));
        child.kill().unwrap();
        pidfd::poll_exit(&fd, None).unwrap();
        assert!(!found(record.pidfs) && !found(None), "a zombie");
        child.wait().unwrap();
        assert!(!found(record.pidfs) && !found(None), "nobody");
    }
}
