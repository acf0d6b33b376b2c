//! Reads back what the child has set, from outside: the kernel's own account of the waiting process against the plan. What
//! was asked for and is not there means that the container does not start (fail closed), whatever the calls returned. An AppArmor
//! profile is not among it: the kernel shows that to nobody but the process itself, which has read it back.

use crate::error::{Context, Error, Result};
use crate::plan::{Action, Plan};
use crate::store::init::proc_file;
use crate::sys::fs;

/// Compares /proc/PID/status with the plan: the five capability sets, no_new_privs, and the filter if it is loaded by now.
pub fn verify(plan: &Plan, pid: i32) -> Result<()> {
    let mut want: Vec<(&str, u64, &str)> = Vec::new();
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
    for step in &plan.steps {
        if let Action::ExecLabel(label) = &step.action {
            exec_label(pid, &label.to_string_lossy()).map_err(|e| e.at(step.field.clone()))?;
        }
    }
    if want.is_empty() {
        return Ok(());
    }
    let status = fs::read_small(fs::cwd(), &proc_file(pid, "status")?).step("read", || format!("read /proc/{pid}/status"))?;
    want.into_iter().try_for_each(|(name, wanted, field)| compare(&status, name, wanted, field))
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

fn compare(status: &str, name: &str, wanted: u64, field: &str) -> Result<()> {
    let radix = if name.starts_with("Cap") { 16 } else { 10 };
    let found = status.lines().find_map(|l| l.strip_prefix(name)).and_then(|v| u64::from_str_radix(v.trim(), radix).ok());
    let is_bounding = name == "CapBnd:";
    match found {
        Some(found) if found == wanted => Ok(()),
        // The runtime's own bounding set may be smaller than what is asked for; it can only shrink.
        Some(found) if is_bounding && found & !wanted == 0 => Ok(()),
        Some(found) => Err(Error::new("read back what was set", format!("{name} {found:#x}, not {wanted:#x}")).at(field)),
        None => Err(Error::new("read back what was set", format!("/proc/PID/status has no {name}")).at(field)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nCapInh:\t0000000000000000\nCapBnd:\t0000000000000420\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    #[test]
    fn as_asked_or_refused() {
        assert!(compare(STATUS, "CapInh:", 0, "").is_ok());
        assert!(compare(STATUS, "Seccomp:", 2, "").is_ok());
        assert!(compare(STATUS, "NoNewPrivs:", 0, "").is_err());
        assert!(compare(STATUS, "CapPrm:", 0, "").is_err());
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
        assert!(compare(STATUS, "CapBnd:", 0x1420, "").is_ok());
        assert_eq!(
            compare(STATUS, "CapBnd:", 0x400, "/process/capabilities/bounding").unwrap_err().to_string(),
            "/process/capabilities/bounding: read back what was set: CapBnd: 0x420, not 0x400"
        );
    }
}
