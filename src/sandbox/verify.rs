//! Reads back what the child has set, from outside: the kernel's own account of the waiting process against the plan. What
//! was asked for and is not there means that the container does not start (fail closed), whatever the calls returned. An AppArmor
//! profile is not among it: the kernel shows that to nobody but the process itself, which has read it back.

use crate::error::{Context, Error, Result};
use crate::plan::{Action, Plan};
use crate::store::init::proc_file;
use crate::sys::fs;
use std::os::fd::{AsFd, OwnedFd};

/// What the kernel tells of the child, opened while that is at work: its text is made when it is read.
pub struct Account<'a> {
    plan: &'a Plan,
    pid: i32,
    /// /proc/PID/status, and what is to stand there.
    status: Option<(OwnedFd, Vec<Want>)>,
}

/// A line's beginning, its number, and the field that asks for it.
type Want = (&'static str, u64, &'static str);

impl<'a> Account<'a> {
    /// Opens what will be read.
    pub fn open(plan: &'a Plan, pid: i32) -> Result<Self> {
        let mut want: Vec<Want> = Vec::new();
        let mut loaded = true;
        for step in &plan.steps {
            match &step.action {
                Action::Capabilities { caps, ambient, bounding } => want.extend([
                    ("CapInh:", caps.inheritable, "/process/capabilities/inheritable"),
                    ("CapPrm:", caps.permitted, "/process/capabilities/permitted"),
                    ("CapEff:", caps.effective, "/process/capabilities/effective"),
                    ("CapBnd:", *bounding, "/process/capabilities/bounding"),
                    ("CapAmb:", *ambient, "/process/capabilities/ambient"),
                ]),
                Action::NoNewPrivileges => want.push(("NoNewPrivs:", 1, "/process/noNewPrivileges")),
                // SECCOMP_MODE_FILTER
                Action::Seccomp { .. } if loaded => want.push(("Seccomp:", 2, "/linux/seccomp")),
                Action::Pause(crate::plan::Pause::Created) => loaded = false,
                _ => {}
            }
        }
        let status = if want.is_empty() {
            None
        } else {
            let file = fs::open(fs::cwd(), &proc_file(pid, "status")?, libc::O_RDONLY, 0);
            Some((file.step("openat", || format!("open /proc/{pid}/status"))?, want))
        };
        Ok(Self { plan, pid, status })
    }

    /// Compares the five capability sets, no_new_privs, the filter if it is loaded by now, and the SELinux label.
    pub fn verify(self) -> Result<()> {
        for step in &self.plan.steps {
            if let Action::ExecLabel(label) = &step.action {
                exec_label(self.pid, &label.to_string_lossy()).map_err(|e| e.at(step.field.clone()))?;
            }
        }
        let Some((file, want)) = self.status else { return Ok(()) };
        let text =
            fs::read_file(file.as_fd(), 2047, usize::MAX - 1).step("read", || format!("read /proc/{}/status", self.pid))?;
        compare(&text, want)
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

fn compare(status: &[u8], mut want: Vec<Want>) -> Result<()> {
    for line in status.split(|&byte| byte == b'\n') {
        let Some(at) = want.iter().position(|(name, ..)| line.starts_with(name.as_bytes())) else { continue };
        let (name, wanted, field) = want.swap_remove(at);
        let radix = if name.starts_with("Cap") { 16 } else { 10 };
        let value = line.get(name.len()..).and_then(|value| std::str::from_utf8(value).ok());
        let found = value.and_then(|value| u64::from_str_radix(value.trim(), radix).ok());
        let is_bounding = name == "CapBnd:";
        match found {
            Some(found) if found == wanted => {}
            // The runtime's own bounding set may be smaller than what is asked for; it can only shrink.
            Some(found) if is_bounding && found & !wanted == 0 => {}
            Some(found) => {
                return Err(Error::new("read back what was set", format!("{name} {found:#x}, not {wanted:#x}")).at(field));
            }
            None => return Err(Error::new("read back what was set", format!("{name} is no number")).at(field)),
        }
    }
    match want.first() {
        None => Ok(()),
        Some((name, _, field)) => Err(Error::new("read back what was set", format!("/proc/PID/status has no {name}")).at(*field)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &[u8] =
        b"Name:\tx\xff\nCapInh:\t0000000000000000\nCapBnd:\t0000000000000420\nNoNewPrivs:\t1\nSeccomp:\t2\nCapAmb:\n";

    #[test]
    fn as_asked_or_refused() {
        let holds = |want: &[(&'static str, u64)]| {
            compare(STATUS, want.iter().map(|(name, value)| (*name, *value, "")).collect()).is_ok()
        };
        assert!(holds(&[]) && holds(&[("CapInh:", 0)]) && holds(&[("Seccomp:", 2), ("CapInh:", 0), ("NoNewPrivs:", 1)]));
        for want in [("NoNewPrivs:", 0), ("Seccomp:", 0), ("CapInh:", 1), ("CapAmb:", 0), ("CapPrm:", 0)] {
            assert!(!holds(&[want]), "{want:?}");
            assert!(!holds(&[("CapBnd:", 0x420), want, ("CapInh:", 0)]), "{want:?}");
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
        assert!(compare(STATUS, vec![("CapBnd:", 0x1420, "")]).is_ok());
        assert_eq!(
            compare(STATUS, vec![("CapBnd:", 0x400, "/process/capabilities/bounding")]).unwrap_err().to_string(),
            "/process/capabilities/bounding: read back what was set: CapBnd: 0x420, not 0x400"
        );
    }
}
