//! Reads back what the child has set, from the kernel's own account of the process, against the plan. What was asked for and is
//! not there means that the program does not run (fail closed), whatever the calls returned. The parent does that from outside
//! where the child waits for it; a further process of a container mostly does it itself, from a file of the host's procfs,
//! and saves two changes of process. An AppArmor profile is not among it: the kernel shows that to nobody but the process
//! itself, which has read it back.

use super::child::{Call, Fail};
use super::report::{Detail, Kind, Report};
use crate::error::{Context, Error, Result};
use crate::plan::account::{Want, wanted};
use crate::plan::{Action, Plan};
use crate::store::init::proc_file;
use crate::sys::fs;
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the kernel tells of the child, opened while that is at work: its text is made when it is read.
pub struct Account<'a> {
    plan: &'a Plan,
    pid: i32,
    /// /proc/PID/status, and what is to stand there.
    status: Option<(OwnedFd, Vec<Want>)>,
}

impl<'a> Account<'a> {
    /// Opens what will be read.
    pub fn open(plan: &'a Plan, pid: i32) -> Result<Self> {
        let wants = wanted(&plan.steps);
        let status = if wants.is_empty() {
            None
        } else {
            let file = fs::open(fs::cwd(), &proc_file(pid, "status")?, libc::O_RDONLY, 0);
            Some((file.step("openat", || format!("open /proc/{pid}/status"))?, wants))
        };
        Ok(Self { plan, pid, status })
    }

    /// Compares it, and the SELinux label.
    pub fn verify(self) -> Result<()> {
        for step in &self.plan.steps {
            if let Action::ExecLabel(label) = &step.action {
                exec_label(self.pid, &label.to_string_lossy()).map_err(|e| e.at(step.field.clone()))?;
            }
        }
        let Some((file, wants)) = self.status else { return Ok(()) };
        match compare(file.as_fd(), &wants).step("read", || format!("read /proc/{}/status", self.pid))? {
            None => Ok(()),
            Some(difference) => Err(difference.error(&wants)),
        }
    }
}

/// The same for the child itself, which has opened its own.
pub(super) fn own(status: Option<&OwnedFd>, wants: &[Want]) -> std::result::Result<(), Fail> {
    let status = status.ok_or_else(|| Fail::call("read", Errno::EBADF))?;
    match compare(status.as_fd(), wants).call("read")? {
        None => Ok(()),
        Some(difference) => Err(Fail(Report::new(Kind::Failed, 0, 0).detail(Detail::Difference, &difference.to_bytes()))),
    }
}

/// Compares the SELinux label that the next exec changes to.
fn exec_label(pid: i32, wanted: &str) -> Result<()> {
    let path = format!("/proc/{pid}/attr/exec");
    let found = fs::read_small(fs::cwd(), &proc_file(pid, "attr/exec")?).step("read", || format!("read {path}"))?;
    let found = found.trim_end_matches(['\0', '\n']);
    if is_same_label(wanted, found) {
        return Ok(());
    }
    Err(Error::new("read back what was set", format!("{path} is {found:?}, not {wanted:?}")))
}

/// `USER:ROLE:TYPE[:LEVEL[-LEVEL]]`. The kernel writes levels in its own way: sorted, `c1.c3` for what lies between.
fn is_same_label(wanted: &str, found: &str) -> bool {
    let parts = |label: &str| {
        let mut parts = label.splitn(4, ':').map(str::to_owned);
        let names: Vec<String> = parts.by_ref().take(3).collect();
        let range = parts.next().map(|range| {
            let (low, high) = match range.split_once('-') {
                Some((low, high)) => (level(low), level(high)),
                None => (level(&range), level(&range)),
            };
            (low, high)
        });
        (names, range)
    };
    parts(wanted) == parts(found)
}

/// `SENSITIVITY[:CATEGORIES]`: the sensitivity, and each category or, where it cannot be taken apart, what is written.
fn level(text: &str) -> (String, std::collections::BTreeSet<String>) {
    let (sensitivity, categories) = text.split_once(':').unwrap_or((text, ""));
    let number = |name: &str| name.strip_prefix('c').and_then(|n| n.parse::<u32>().ok());
    let mut set = std::collections::BTreeSet::new();
    for part in categories.split(',').filter(|p| !p.is_empty()) {
        match part.split_once('.').map(|(first, last)| (number(first), number(last))) {
            // SELinux has at most 1024 (refpolicy); the bound is for nonsense.
            Some((Some(first), Some(last))) if last.saturating_sub(first) < 1 << 16 => {
                set.extend((first..=last).map(|n| format!("c{n}")));
            }
            _ => {
                set.insert(part.to_owned());
            }
        }
    }
    (sensitivity.to_owned(), set)
}

/// A line that is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Difference {
    /// Which of the wants.
    at: u8,
    found: Found,
}

/// What stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Number(u64),
    NoNumber,
    Nothing,
}

impl Difference {
    /// For the wire, which [`Difference::of_bytes`] reads.
    fn to_bytes(self) -> [u8; 10] {
        let (kind, number) = match self.found {
            Found::Number(number) => (0, number),
            Found::NoNumber => (1, 0),
            Found::Nothing => (2, 0),
        };
        let mut bytes = [0; 10];
        let parts = [self.at, kind].into_iter().chain(number.to_le_bytes());
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        bytes
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[at, kind], number) = bytes.split_first_chunk()?;
        let found = match kind {
            0 => Found::Number(u64::from_le_bytes(number.try_into().ok()?)),
            1 => Found::NoNumber,
            _ => Found::Nothing,
        };
        Some(Self { at, found })
    }

    /// In words.
    pub(super) fn error(self, wants: &[Want]) -> Error {
        let Some(Want { name, value, field }) = wants.get(usize::from(self.at)) else {
            return Error::new("read back what was set", "something else is there");
        };
        let cause = match self.found {
            Found::Number(found) => format!("{name} {found:#x}, not {value:#x}"),
            Found::NoNumber => format!("{name} is no number"),
            Found::Nothing => format!("/proc/PID/status has no {name}"),
        };
        Error::new("read back what was set", cause).at(*field)
    }
}

/// Reads the file and compares it. No allocation.
fn compare(status: BorrowedFd<'_>, wants: &[Want]) -> nix::Result<Option<Difference>> {
    let mut comparison = Comparison { wants, seen: 0 };
    let mut text = [0u8; 2048];
    let mut length = 0;
    loop {
        let room = text.get_mut(length..).unwrap_or_default();
        // All of it, but where the process has very many groups: procfs hands out as much as there is room for.
        let read = fs::read_once(status, room)?;
        let whole = read < room.len();
        length += read;
        let read = text.get(..length).unwrap_or_default();
        let lines = if whole { length } else { read.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1) };
        if let Some(difference) = comparison.lines(read.get(..lines).unwrap_or_default()) {
            return Ok(Some(difference));
        }
        if whole {
            return Ok(comparison.missing());
        }
        // Of a line that is longer than all this, the beginning is enough: none that is wanted is.
        let keep = if lines == 0 { 0..length.min(16) } else { lines..length };
        length = keep.len();
        text.copy_within(keep, 0);
    }
}

struct Comparison<'a> {
    wants: &'a [Want],
    /// A bit a want.
    seen: u64,
}

impl Comparison<'_> {
    fn lines(&mut self, text: &[u8]) -> Option<Difference> {
        text.split(|&byte| byte == b'\n').find_map(|line| self.line(line))
    }

    fn line(&mut self, line: &[u8]) -> Option<Difference> {
        let at = self.wants.iter().position(|want| line.starts_with(want.name.as_bytes()))?;
        let want = self.wants.get(at)?;
        self.seen |= 1 << at;
        let radix = if want.name.starts_with("Cap") { 16 } else { 10 };
        let value = line.get(want.name.len()..).and_then(|value| std::str::from_utf8(value).ok());
        let found = match value.and_then(|value| u64::from_str_radix(value.trim(), radix).ok()) {
            Some(found) if found == want.value => return None,
            // The runtime's own bounding set may be smaller than what is asked for; it can only shrink.
            Some(found) if want.name == "CapBnd:" && found & !want.value == 0 => return None,
            Some(found) => Found::Number(found),
            None => Found::NoNumber,
        };
        Some(Difference { at: u8::try_from(at).unwrap_or(u8::MAX), found })
    }

    fn missing(&self) -> Option<Difference> {
        let at = (0..self.wants.len()).find(|at| self.seen & (1 << at) == 0)?;
        Some(Difference { at: u8::try_from(at).unwrap_or(u8::MAX), found: Found::Nothing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    const STATUS: &[u8] =
        b"Name:\tx\xff\nCapInh:\t0000000000000000\nCapBnd:\t0000000000000420\nNoNewPrivs:\t1\nSeccomp:\t2\nCapAmb:\n";

    fn of(status: &[u8], want: &[(&'static str, u64)]) -> Option<String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(status).unwrap();
        file.rewind().unwrap();
        let wants: Vec<Want> = want.iter().map(|(name, value)| Want { name, value: *value, field: "/f" }).collect();
        let difference = compare(file.as_fd(), &wants).unwrap();
        // Over the wire, as a child tells it.
        let told = difference.map(|d| Difference::of_bytes(&d.to_bytes()).unwrap());
        assert_eq!(told, difference);
        told.map(|d| d.error(&wants).to_string())
    }

    #[test]
    fn as_asked_or_refused() {
        let holds = |want: &[(&'static str, u64)]| of(STATUS, want).is_none();
        assert!(holds(&[]) && holds(&[("CapInh:", 0)]) && holds(&[("Seccomp:", 2), ("CapInh:", 0), ("NoNewPrivs:", 1)]));
        for want in [("NoNewPrivs:", 0), ("Seccomp:", 0), ("CapInh:", 1), ("CapAmb:", 0), ("CapPrm:", 0)] {
            assert!(!holds(&[want]), "{want:?}");
            assert!(!holds(&[("CapBnd:", 0x420), want, ("CapInh:", 0)]), "{want:?}");
        }
    }

    #[test]
    fn a_text_of_any_length() {
        for groups in [0, 1, 300, 371, 372, 373, 374, 375, 376, 1000, 65_536] {
            let mut status = b"Name:\tx\nGroups:\t".to_vec();
            (0..groups).for_each(|n| status.extend(format!("{} ", 100_000 + n % 7).bytes()));
            for _ in 0..4 {
                status.push(b'\n');
                status.extend(&STATUS[8..STATUS.len() - 1]);
            }
            assert_eq!(of(&status, &[("CapBnd:", 0x420), ("Seccomp:", 2)]), None, "{groups}");
            assert!(of(&status, &[("CapBnd:", 0x420), ("Seccomp:", 1)]).unwrap().contains("Seccomp: 0x2, not 0x1"), "{groups}");
        }
    }

    #[test]
    fn labels_are_the_same_however_they_are_written() {
        for (wanted, found) in [
            ("u:r:t", "u:r:t"),
            ("u:r:t:s0", "u:r:t:s0"),
            ("u:r:t:s0:c2,c1", "u:r:t:s0:c1,c2"),
            ("u:r:t:s0:c1,c2,c3", "u:r:t:s0:c1.c3"),
            ("u:r:t:s0-s0:c0.c1023", "u:r:t:s0-s0:c0.c1023"),
            ("u:r:t:s0-s0", "u:r:t:s0"),
        ] {
            assert!(is_same_label(wanted, found), "{wanted} {found}");
        }
        for (wanted, found) in [
            ("u:r:t:s0", ""),
            ("u:r:t:s0", "kernel"),
            ("u:r:t:s0", "u:r:t"),
            ("u:r:t:s0", "u:r:other:s0"),
            ("u:r:t:s0:c1,c2", "u:r:t:s0:c1"),
            ("u:r:t:s0:c1,c2", "u:r:t:s0"),
            ("u:r:t:s0", "u:r:t:s0-s0:c0.c1023"),
        ] {
            assert!(!is_same_label(wanted, found), "{wanted} {found}");
        }
    }

    #[test]
    fn a_bounding_set_may_be_smaller_but_not_larger() {
        assert_eq!(of(STATUS, &[("CapBnd:", 0x1420)]), None);
        assert_eq!(of(STATUS, &[("CapBnd:", 0x400)]).unwrap(), "/f: read back what was set: CapBnd: 0x420, not 0x400");
        assert_eq!(of(STATUS, &[("CapAmb:", 0)]).unwrap(), "/f: read back what was set: CapAmb: is no number");
        assert_eq!(of(STATUS, &[("CapEff:", 0)]).unwrap(), "/f: read back what was set: /proc/PID/status has no CapEff:");
    }
}
