//! What a plan needs to know of this machine and of the runtime's own process: probed once, plain data, made by hand in tests.

use crate::cgroup::Hierarchy;
use crate::error::{Context, Error, Result};
use std::fs;

/// The host, as far as plans depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Effective user id.
    pub uid: u32,
    /// The permitted capability set, a bit a capability.
    pub permitted: u64,
    /// Root with CAP_SYS_ADMIN over its own namespaces: may enter namespaces, clone mounts, make device nodes.
    pub privileged: bool,
    /// The runtime lives in a user namespace other than the first (rootless engines, nesting).
    pub nested: bool,
    /// Signals that the runtime ignores, and that its child must not.
    pub ignored_signals: Vec<i32>,
    /// The runtime's own oom_score_adj, -1000..=1000, which its child starts with.
    pub oom_score_adj: i32,
    /// The cgroup2 hierarchy; `None` where none is mounted.
    pub hierarchy: Option<Hierarchy>,
}

const CAP_SYS_ADMIN: u64 = 1 << 21;

impl Host {
    /// Looks at the machine through /proc.
    ///
    /// # Errors
    /// /proc is not mounted or cannot be read.
    pub fn probe() -> Result<Self> {
        let read = |path: &'static str| {
            fs::read_to_string(path).step("read", || format!("read {path}")).map_err(|e| e.hint("is /proc mounted?"))
        };
        let status = read("/proc/self/status")?;
        let hex = |name: &str| field(&status, name).and_then(|v| u64::from_str_radix(v, 16).ok());
        let incomplete = || Error::new("read /proc/self/status", "lines are missing");
        let uid = field(&status, "Uid:").and_then(|v| v.split_whitespace().nth(1)).and_then(|v| v.parse().ok());
        let uid = uid.ok_or_else(incomplete)?;
        let permitted = hex("CapPrm:").ok_or_else(incomplete)?;
        let ignored = hex("SigIgn:").ok_or_else(incomplete)?;
        Ok(Self {
            uid,
            permitted,
            privileged: uid == 0 && permitted & CAP_SYS_ADMIN != 0,
            nested: is_nested(&read("/proc/self/uid_map")?),
            ignored_signals: (1..=64).filter(|n| ignored & (1 << (n - 1)) != 0).collect(),
            oom_score_adj: read("/proc/self/oom_score_adj")?.trim().parse().unwrap_or(0),
            // A host without one can run containers that need none; who asks for a limit is told.
            hierarchy: Hierarchy::probe().ok(),
        })
    }

    /// What the cgroup part of a plan depends on.
    pub fn cgroups(&self) -> crate::cgroup::Rights<'_> {
        crate::cgroup::Rights {
            hierarchy: self.hierarchy.as_ref(),
            may_create: self.privileged,
            may_load_programs: self.privileged && !self.nested,
        }
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim)
}

/// The first user namespace maps all ids to themselves.
fn is_nested(uid_map: &str) -> bool {
    uid_map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_namespace_is_known_by_its_map() {
        assert!(!is_nested("         0          0 4294967295\n"));
        assert!(is_nested("0 1000 1\n1 100000 65536\n"));
    }

    #[test]
    fn probes_this_machine() {
        let host = Host::probe().unwrap();
        // Rust's start-up ignores SIGPIPE, and cargo's tests run with that.
        assert!(host.ignored_signals.iter().all(|n| (1..=64).contains(n)));
    }
}
