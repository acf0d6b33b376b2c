//! A stored pid as a process: the very one, or nobody. A number alone may have come to name another since.

use super::Record;
use crate::error::{Context, Error, Result};
use crate::sys::{fs, pidfd};
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// This boot of the machine.
pub fn boot_id() -> Result<&'static str> {
    boot_id_by(fs::read_closed)
}

fn boot_id_by(read: fs::Read) -> Result<&'static str> {
    static BOOT: OnceLock<String> = OnceLock::new();
    if let Some(id) = BOOT.get() {
        return Ok(id);
    }
    let path = c"/proc/sys/kernel/random/boot_id";
    let text = read(path).step("read", || format!("read {}", path.to_string_lossy()))?;
    Ok(BOOT.get_or_init(|| String::from_utf8_lossy(&text).trim().to_string()))
}

/// Start time of a process in clock ticks since boot, and its state letter (proc_pid_stat(5)); `None` when it is gone.
pub fn start_time(pid: i32) -> Result<Option<(u64, char)>> {
    start_time_by(fs::read_closed, pid)
}

fn start_time_by(read: fs::Read, pid: i32) -> Result<Option<(u64, char)>> {
    match read(&proc_file(pid, "stat")?) {
        Ok(text) => Ok(parse_stat(&text)),
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(e) => Err(Error::sys(format!("read /proc/{pid}/stat"), "read", e.into())),
    }
}

/// Whether a process, or the zombie of one, has executed a program since it was forked; `None` when it is gone.
pub fn has_executed(pid: i32, start_time: u64) -> Result<Option<bool>> {
    match fs::read_closed(&proc_file(pid, "stat")?) {
        Ok(text) => Ok(parse_flags(&text).filter(|_| parse_stat(&text).is_some_and(|(start, _)| start == start_time))),
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

/// Fields 22 and 3.
fn parse_stat(text: &[u8]) -> Option<(u64, char)> {
    let mut fields = behind_name(text)?;
    let state = fields.next()?.chars().next()?;
    Some((fields.nth(18)?.parse().ok()?, state))
}

impl Record {
    /// A descriptor of init, if it still runs. A zombie does not: it has ended, whoever will reap it.
    pub fn init(&self) -> Result<Option<OwnedFd>> {
        if self.pid <= 0 {
            return Ok(None);
        }
        let fd = match pidfd::open(self.pid) {
            Err(Errno::ESRCH) => return Ok(None),
            other => other.step("pidfd_open", || format!("open process {}", self.pid))?,
        };
        // Asked after the descriptor was taken: what it says is of that process or of none.
        Ok(self.init_runs(fs::read_closed)?.then_some(fd))
    }

    /// Whether init still runs, now.
    pub fn init_runs(&self, read: fs::Read) -> Result<bool> {
        runs(read, self.pid, self.start_time, &self.boot_id)
    }
}

/// Whether the process of that number is the one of that start time in that boot, and has not ended.
pub(super) fn runs(read: fs::Read, pid: i32, start_time: u64, boot_id: &str) -> Result<bool> {
    if pid <= 0 {
        return Ok(false);
    }
    match start_time_by(read, pid)? {
        // In another boot it may be a stranger.
        Some((start, state)) if start == start_time && !matches!(state, 'Z' | 'X' | 'x') => Ok(boot_id == boot_id_by(read)?),
        _ => Ok(false),
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
            assert_eq!(parse_stat(&line("4194560")), Some((987_654, 'S')));
            assert_eq!(parse_flags(&line("4194560")), Some(true));
            assert_eq!(parse_flags(&line("4194624")), Some(false));
        }
    }

    #[test]
    fn this_process_is_itself_and_no_other() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let mut record = Record::new("c");
        record.pid = pid;
        record.boot_id = boot_id().unwrap().into();
        record.start_time = start_time(pid).unwrap().unwrap().0;
        assert!(record.init().unwrap().is_some());
        record.start_time += 1;
        assert!(record.init().unwrap().is_none());
        record.start_time -= 1;
        record.boot_id = "another".into();
        assert!(record.init().unwrap().is_none());
    }
}
