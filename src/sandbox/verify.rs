//! Reads back what the child has set, from outside: the kernel's own account of the waiting process against the plan. What
//! was asked for and is not there means that the container does not start (fail closed), whatever the calls returned.

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
            Action::Seccomp(_) if loaded => want.push(("Seccomp:", 2, "/linux/seccomp")),
            Action::Pause(crate::plan::Pause::Created) => loaded = false,
            _ => {}
        }
    }
    if want.is_empty() {
        return Ok(());
    }
    let status = fs::read_small(fs::cwd(), &proc_file(pid, "status")?).step("read", || format!("read /proc/{pid}/status"))?;
    want.into_iter().try_for_each(|(name, wanted, field)| compare(&status, name, wanted, field))
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
    fn a_bounding_set_may_be_smaller_but_not_larger() {
        assert!(compare(STATUS, "CapBnd:", 0x1420, "").is_ok());
        assert_eq!(
            compare(STATUS, "CapBnd:", 0x400, "/process/capabilities/bounding").unwrap_err().to_string(),
            "/process/capabilities/bounding: read back what was set: CapBnd: 0x420, not 0x400"
        );
    }
}
