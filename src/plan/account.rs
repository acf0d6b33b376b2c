//! What a plan sets and the kernel tells of a process, in /proc/PID/status (proc_pid_status(5)): to be read back before the
//! program runs, by the parent where the child waits for it, else by the child.

use super::{Action, Pause, Step};

/// A line of the file, and what is to stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Its beginning, colon included.
    pub name: &'static str,
    /// Its number.
    pub value: u64,
    /// The field that asks for it.
    pub field: &'static str,
}

/// What these steps set: the five capability sets, no_new_privs, and the filter if it is loaded before the last pause.
pub fn wanted(steps: &[Step]) -> Vec<Want> {
    let mut wanted = Vec::new();
    let mut want = |name, value, field| wanted.push(Want { name, value, field });
    for step in steps {
        match &step.action {
            Action::Capabilities { caps, ambient, bounding } => {
                want("CapInh:", caps.inheritable, "/process/capabilities/inheritable");
                want("CapPrm:", caps.permitted, "/process/capabilities/permitted");
                want("CapEff:", caps.effective, "/process/capabilities/effective");
                want("CapBnd:", *bounding, "/process/capabilities/bounding");
                want("CapAmb:", *ambient, "/process/capabilities/ambient");
            }
            Action::NoNewPrivileges => want("NoNewPrivs:", 1, "/process/noNewPrivileges"),
            // SECCOMP_MODE_FILTER
            Action::Seccomp { .. } => want("Seccomp:", 2, "/linux/seccomp"),
            Action::Pause(Pause::Created | Pause::Cleared) | Action::RuntimeLives => break,
            _ => {}
        }
    }
    wanted
}
