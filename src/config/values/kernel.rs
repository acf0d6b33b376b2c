//! Scheduling, I/O priority, personality, memory policy and lists of CPUs, as the numbers of the kernel's interfaces.

use super::find;
use crate::config::{IoPriority, MemoryPolicy, Personality, Scheduler};
use crate::error::{Error, Result};
use crate::sys::process::SchedAttr;

/// `SCHED_ISO` has a number and never got an implementation: its entry is the error below.
const POLICIES: &[(&str, u32)] =
    &[("SCHED_OTHER", 0), ("SCHED_FIFO", 1), ("SCHED_RR", 2), ("SCHED_BATCH", 3), ("SCHED_IDLE", 5), ("SCHED_DEADLINE", 6)];

const SCHED_FLAGS: &[(&str, u64)] = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// `process.scheduler` as sched_setattr(2) takes it. Fields in the errors are relative to it.
///
/// # Errors
/// Unknown policy or flag; a value that the policy has no use for or that is out of its range (sched(7)).
pub fn sched_attr(s: &Scheduler) -> Result<SchedAttr> {
    if s.policy == "SCHED_ISO" {
        return Err(Error::new("unsupported scheduling policy", "Linux never implemented SCHED_ISO").at("/policy"));
    }
    let policy = find(POLICIES, &s.policy, "scheduling policy").map_err(|e| e.at("/policy"))?;
    if !(-20..=19).contains(&s.nice) {
        return Err(Error::new("out of range", format!("{} is not in -20 to 19", s.nice)).at("/nice"));
    }
    let real_time = matches!(s.policy.as_str(), "SCHED_FIFO" | "SCHED_RR");
    if !real_time && s.priority != 0 {
        return Err(Error::new("not for this policy", format!("{} has no priority", s.policy)).at("/priority"));
    }
    let priority = u32::try_from(s.priority).ok().filter(|p| !real_time || (1..=99).contains(p));
    let priority =
        priority.ok_or_else(|| Error::new("out of range", format!("{} is not in 1 to 99", s.priority)).at("/priority"))?;
    if policy == 6 {
        deadline(s)?;
    } else {
        for (at, value) in [("/runtime", s.runtime), ("/deadline", s.deadline), ("/period", s.period)] {
            if value != 0 {
                return Err(Error::new("not for this policy", "only SCHED_DEADLINE has it").at(at));
            }
        }
    }
    let mut flags = 0;
    for (n, flag) in s.flags.iter().enumerate() {
        flags |= find(SCHED_FLAGS, flag, "scheduling flag").map_err(|e| e.at(format!("/flags/{n}")))?;
    }
    let (runtime, deadline, period) = (s.runtime, s.deadline, s.period);
    Ok(SchedAttr { policy, flags, nice: s.nice, priority, runtime, deadline, period, ..SchedAttr::default() })
}

/// The kernel's rule: 1024 ns <= runtime <= deadline <= period, a period of 0 standing for the deadline (sched(7)).
fn deadline(s: &Scheduler) -> Result<()> {
    if s.runtime < 1024 {
        return Err(Error::new("out of range", format!("{} ns is below 1024 ns", s.runtime)).at("/runtime"));
    }
    if s.deadline < s.runtime {
        return Err(Error::new("out of range", format!("{} ns is below runtime, {} ns", s.deadline, s.runtime)).at("/deadline"));
    }
    if s.period != 0 && s.period < s.deadline {
        return Err(Error::new("out of range", format!("{} ns is below deadline, {} ns", s.period, s.deadline)).at("/period"));
    }
    Ok(())
}

const IO_CLASSES: &[(&str, i32)] = &[("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// `process.ioPriority` as ioprio_set(2) takes it: the class in bits 13 and up, the priority below.
///
/// # Errors
/// Unknown class; a priority outside 0..=7.
pub fn ioprio(p: &IoPriority) -> Result<i32> {
    let class = find(IO_CLASSES, &p.class, "I/O priority class").map_err(|e| e.at("/class"))?;
    if !(0..=7).contains(&p.priority) {
        return Err(Error::new("out of range", format!("{} is not in 0 to 7", p.priority)).at("/priority"));
    }
    Ok(class << 13 | p.priority)
}

/// `linux.personality.domain` as personality(2) takes it.
///
/// # Errors
/// A domain other than `LINUX` and `LINUX32`.
pub fn personality(p: &Personality) -> Result<u32> {
    find(&[("LINUX", 0), ("LINUX32", 8)], &p.domain, "personality domain").map_err(|e| e.at("/domain"))
}

/// What set_mempolicy(2) takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemPolicy {
    /// `MPOL_*` with `MPOL_F_*` in its upper bits.
    pub mode: i32,
    /// Bit n of word n/64 is node n; empty for modes without nodes.
    pub nodes: Vec<u64>,
}

/// `MPOL_PREFERRED_MANY` is of 5.15, `MPOL_WEIGHTED_INTERLEAVE` of 6.9.
const MODES: &[(&str, i32)] = &[
    ("MPOL_DEFAULT", libc::MPOL_DEFAULT),
    ("MPOL_PREFERRED", libc::MPOL_PREFERRED),
    ("MPOL_BIND", libc::MPOL_BIND),
    ("MPOL_INTERLEAVE", libc::MPOL_INTERLEAVE),
    ("MPOL_LOCAL", libc::MPOL_LOCAL),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

const MODE_FLAGS: &[(&str, i32)] = &[
    ("MPOL_F_NUMA_BALANCING", libc::MPOL_F_NUMA_BALANCING),
    ("MPOL_F_RELATIVE_NODES", libc::MPOL_F_RELATIVE_NODES),
    ("MPOL_F_STATIC_NODES", libc::MPOL_F_STATIC_NODES),
];

/// The kernel's MAX_NUMNODES is at most 1 << 10 (`CONFIG_NODES_SHIFT`).
const MAX_NODES: u32 = 1024;

/// `linux.memoryPolicy` as set_mempolicy(2) takes it. Fields in the errors are relative to it.
///
/// # Errors
/// Unknown mode or flag, a malformed list, nodes for a mode that has none or none for one that needs them, flags that
/// exclude each other.
pub fn memory_policy(m: &MemoryPolicy) -> Result<MemPolicy> {
    let mode = find(MODES, &m.mode, "memory policy mode").map_err(|e| e.at("/mode"))?;
    let nodes = mask(&m.nodes, MAX_NODES).map_err(|e| e.at("/nodes"))?;
    match m.mode.as_str() {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if !nodes.is_empty() => {
            return Err(Error::new("not for this mode", format!("{} takes no nodes", m.mode)).at("/nodes"));
        }
        "MPOL_DEFAULT" | "MPOL_LOCAL" | "MPOL_PREFERRED" => {}
        _ if nodes.is_empty() => return Err(Error::new("missing", format!("{} needs at least one node", m.mode)).at("/nodes")),
        _ => {}
    }
    let mut flags = 0;
    for (n, flag) in m.flags.iter().enumerate() {
        let at = || format!("/flags/{n}");
        flags |= find(MODE_FLAGS, flag, "memory policy flag").map_err(|e| e.at(at()))?;
        if flags & libc::MPOL_F_STATIC_NODES != 0 && flags & libc::MPOL_F_RELATIVE_NODES != 0 {
            let cause = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other";
            return Err(Error::new("conflict", cause).at(at()));
        }
        if nodes.is_empty() {
            return Err(Error::new("not for this policy", format!("{flag} needs nodes")).at(at()));
        }
    }
    Ok(MemPolicy { mode: mode | flags, nodes })
}

/// Reads a list of CPUs or memory nodes, `0-3,7`, into ranges with both ends in them. Empty text is an empty list.
///
/// # Errors
/// Anything but numbers, `-` and `,`; a range that runs backwards; a number not below `limit`.
pub fn list(text: &str, limit: u32) -> Result<Vec<(u32, u32)>> {
    let bad = |cause: &str| Error::new("invalid list", format!("{cause} in {text:?}")).hint("a list looks like 0-3,7");
    // The kernel's own lists, as files of sysfs show them, end in a newline.
    let text = text.trim();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let number = |digits: &str| match digits.trim().parse::<u32>() {
        Ok(n) if digits.trim().bytes().all(|b| b.is_ascii_digit()) && n < limit => Ok(n),
        Ok(_) => Err(bad(&format!("{digits:?} is not below {limit}"))),
        Err(_) => Err(bad(&format!("{digits:?} is not a number"))),
    };
    text.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last { Err(bad(&format!("{part:?} runs backwards"))) } else { Ok((first, last)) }
        })
        .collect()
}

/// Reads a list as [`list`] does, into words of which bit n of word n/64 is number n.
///
/// # Errors
/// As [`list`].
pub fn mask(text: &str, limit: u32) -> Result<Vec<u64>> {
    let mut words = Vec::new();
    for (first, last) in list(text, limit)? {
        for n in first..=last {
            let word = usize::try_from(n / 64).unwrap_or(usize::MAX);
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (n % 64);
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler(policy: &str) -> Scheduler {
        Scheduler { policy: policy.to_owned(), ..Scheduler::default() }
    }

    #[test]
    fn schedulers() {
        let s = Scheduler {
            nice: -5,
            flags: vec!["SCHED_FLAG_RESET_ON_FORK".into(), "SCHED_FLAG_DL_OVERRUN".into()],
            ..scheduler("SCHED_BATCH")
        };
        assert_eq!(sched_attr(&s).unwrap(), SchedAttr { policy: 3, flags: 5, nice: -5, ..SchedAttr::default() });
        let s = Scheduler { runtime: 1024, deadline: 2048, period: 4096, ..scheduler("SCHED_DEADLINE") };
        assert_eq!(sched_attr(&s).unwrap().period, 4096);
        let at = |s: Scheduler| sched_attr(&s).unwrap_err().field().to_owned();
        assert_eq!(at(scheduler("")), "/policy");
        assert_eq!(at(scheduler("SCHED_ISO")), "/policy");
        assert_eq!(at(Scheduler { nice: 20, ..scheduler("SCHED_OTHER") }), "/nice");
        assert_eq!(at(Scheduler { priority: 1, ..scheduler("SCHED_OTHER") }), "/priority");
        assert_eq!(at(scheduler("SCHED_FIFO")), "/priority");
        assert_eq!(at(Scheduler { priority: 100, ..scheduler("SCHED_RR") }), "/priority");
        assert_eq!(at(Scheduler { period: 1, ..scheduler("SCHED_OTHER") }), "/period");
        assert_eq!(at(scheduler("SCHED_DEADLINE")), "/runtime");
        assert_eq!(at(Scheduler { runtime: 2048, deadline: 2047, ..scheduler("SCHED_DEADLINE") }), "/deadline");
        assert_eq!(at(Scheduler { flags: vec!["SCHED_RESET_ON_FORK".into()], ..scheduler("SCHED_OTHER") }), "/flags/0");
    }

    #[test]
    fn io_priorities() {
        let p = |class: &str, priority| ioprio(&IoPriority { class: class.to_owned(), priority });
        assert_eq!(p("IOPRIO_CLASS_BE", 4).unwrap(), 0x4004);
        assert_eq!(p("IOPRIO_CLASS_RT", 0).unwrap(), 0x2000);
        assert_eq!(p("IOPRIO_CLASS_IDLE", 7).unwrap(), 0x6007);
        assert_eq!(p("IOPRIO_CLASS_NONE", 0).unwrap_err().field(), "/class");
        assert_eq!(p("IOPRIO_CLASS_BE", 8).unwrap_err().field(), "/priority");
        assert_eq!(p("IOPRIO_CLASS_BE", -1).unwrap_err().field(), "/priority");
    }

    #[test]
    fn lists() {
        assert_eq!(list("0-3,7", 64).unwrap(), [(0, 3), (7, 7)]);
        assert_eq!(list("", 64).unwrap(), []);
        assert_eq!(mask("0-3,7", 64).unwrap(), [0x8f]);
        assert_eq!(mask("64,130", 1024).unwrap(), [0, 1, 4]);
        for bad in [",", "1,", "-1", "1-", "3-1", "a", "+1", "1--2", "64", "0-64", "1 2", "99999999999"] {
            assert!(list(bad, 64).is_err(), "{bad}");
        }
    }

    #[test]
    fn memory_policies() {
        let m = |mode: &str, nodes: &str, flags: &[&str]| {
            let flags = flags.iter().map(|f| (*f).to_owned()).collect();
            memory_policy(&MemoryPolicy { mode: mode.to_owned(), nodes: nodes.to_owned(), flags })
        };
        assert_eq!(m("MPOL_INTERLEAVE", "2-3", &["MPOL_F_STATIC_NODES"]).unwrap(), MemPolicy { mode: 0x8003, nodes: vec![0xc] });
        assert_eq!(m("MPOL_DEFAULT", "", &[]).unwrap(), MemPolicy::default());
        assert!(m("MPOL_PREFERRED", "", &[]).is_ok());
        assert_eq!(m("MPOL_DEFAULT", "0", &[]).unwrap_err().field(), "/nodes");
        assert_eq!(m("MPOL_BIND", "", &[]).unwrap_err().field(), "/nodes");
        assert_eq!(m("MPOL_BIND", "0-", &[]).unwrap_err().field(), "/nodes");
        assert_eq!(m("BIND", "0", &[]).unwrap_err().field(), "/mode");
        assert_eq!(m("MPOL_BIND", "0", &["MPOL_F_X"]).unwrap_err().field(), "/flags/0");
        assert_eq!(m("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]).unwrap_err().field(), "/flags/1");
        assert_eq!(m("MPOL_LOCAL", "", &["MPOL_F_STATIC_NODES"]).unwrap_err().field(), "/flags/0");
    }

    #[test]
    fn personalities() {
        let p = |domain: &str| personality(&Personality { domain: domain.to_owned(), flags: Vec::new() });
        assert_eq!(p("LINUX").unwrap(), 0);
        assert_eq!(p("LINUX32").unwrap(), 8);
        assert_eq!(p("linux").unwrap_err().field(), "/domain");
    }
}
