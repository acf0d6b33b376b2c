//! Capabilities, resource limits, user and environment of a process, as numbers and clean lists.

use super::find;
use crate::error::{Error, Result};
use caps::Capability;
use std::collections::BTreeSet;

/// A set of capabilities as the kernel takes it, and the names that stand for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CapabilityMask {
    /// Bit n is capability n of `linux/capability.h`.
    pub bits: u64,
    /// Names that no capability has: to be warned of, never an error (config.md, Linux Process).
    pub unknown: Vec<String>,
}

/// Turns names into a set. A name is written in full, `CAP_CHOWN`: as in runc, other spellings are unknown.
pub fn capabilities(names: &[String]) -> CapabilityMask {
    let mut mask = CapabilityMask::default();
    for name in names {
        match name.parse::<Capability>() {
            Ok(c) => mask.bits |= c.bitmask(),
            Err(_) => mask.unknown.push(name.clone()),
        }
    }
    mask
}

macro_rules! rlimits {
    ($($name:ident)*) => {
        // They are small; the C libraries differ in their type.
        &[$((stringify!($name), libc::$name as u32)),*]
    };
}

/// getrlimit(2)'s sixteen.
const RLIMITS: &[(&str, u32)] = rlimits! {
    RLIMIT_AS RLIMIT_CORE RLIMIT_CPU RLIMIT_DATA RLIMIT_FSIZE RLIMIT_LOCKS RLIMIT_MEMLOCK RLIMIT_MSGQUEUE
    RLIMIT_NICE RLIMIT_NOFILE RLIMIT_NPROC RLIMIT_RSS RLIMIT_RTPRIO RLIMIT_RTTIME RLIMIT_SIGPENDING RLIMIT_STACK
};

/// The number of a resource limit, for prlimit(2).
///
/// # Errors
/// A name that getrlimit(2) does not have.
pub fn rlimit(name: &str) -> Result<u32> {
    find(RLIMITS, name, "resource limit")
}

/// The name of a resource limit's number, the number itself for others.
pub fn rlimit_name(resource: u32) -> String {
    let known = RLIMITS.iter().find(|(_, number)| *number == resource);
    known.map_or_else(|| resource.to_string(), |(name, _)| (*name).to_owned())
}

/// Reads `UID` or `UID:GID` of `exec --user`.
///
/// Numbers only, each written in one way: plain decimal, 0..=4294967294. No name is looked up, nothing wraps, nothing is
/// left out (CVE-2016-3697, CVE-2024-40635, CVE-2026-30892). 4294967295 means "leave unchanged" to the kernel.
///
/// # Errors
/// Everything else.
pub fn user(text: &str) -> Result<(u32, Option<u32>)> {
    match text.split_once(':') {
        Some((uid, gid)) => Ok((id(uid, "user id")?, Some(id(gid, "group id")?))),
        None => Ok((id(text, "user id")?, None)),
    }
}

fn id(text: &str, what: &str) -> Result<u32> {
    text.parse::<u32>()
        .ok()
        .filter(|n| *n != u32::MAX && n.to_string() == text)
        .ok_or_else(|| Error::new(format!("invalid {what}"), format!("{text:?} is not a number of 0 to 4294967294")))
}

/// Drops all but the last entry of each name, keeping the order of what stays.
///
/// # Errors
/// An entry without `=`, without a name, or with a NUL; the field is its index, `/3`.
pub fn environment(env: &[String]) -> Result<Vec<&str>> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::with_capacity(env.len());
    for (n, entry) in env.iter().enumerate().rev() {
        let name = variable_name(entry).map_err(|e| e.at(format!("/{n}")))?;
        if seen.insert(name) {
            kept.push(entry.as_str());
        }
    }
    kept.reverse();
    Ok(kept)
}

/// The errors do not show the entry: it may be a secret.
fn variable_name(entry: &str) -> Result<&str> {
    let bad = |cause: &str| Error::new("invalid environment variable", cause);
    let (name, _) = entry.split_once('=').ok_or_else(|| bad("missing '='"))?;
    if name.is_empty() {
        return Err(bad("name cannot be empty"));
    }
    if entry.contains('\0') {
        return Err(bad("contains a NUL byte"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn capability_names_are_exact() {
        let m = capabilities(&strings(&["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE", "cap_kill", "KILL", "CAP_FUTURE"]));
        assert_eq!(m.bits, 1 | 1 << 40);
        assert_eq!(m.unknown, strings(&["cap_kill", "KILL", "CAP_FUTURE"]));
    }

    #[test]
    fn every_limit_has_its_number() {
        let mut numbers: Vec<u32> = RLIMITS.iter().map(|(name, _)| rlimit(name).unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..16).collect::<Vec<_>>());
        assert_eq!(rlimit("RLIMIT_NOFILE").unwrap(), 7);
        assert_eq!(rlimit("NOFILE").unwrap_err().to_string(), "unknown resource limit: \"NOFILE\"");
    }

    #[test]
    fn users_are_numbers_written_in_one_way() {
        assert_eq!(user("1").unwrap(), (1, None));
        assert_eq!(user("0").unwrap(), (0, None));
        assert_eq!(user("1:2").unwrap(), (1, Some(2)));
        assert_eq!(user("4294967294").unwrap(), (4_294_967_294, None));
        for text in [
            "4294967295",
            "4294967296",
            "4294967297",
            "-1",
            "+1",
            " 1",
            "1 ",
            "0x10",
            "010",
            "00",
            "",
            ":",
            "1:",
            ":1",
            "root",
            "65536:99999999999",
            "1:2:3",
            "1:-1",
            "1:+1",
            "1:4294967295",
            "１",
            "1\0",
            "1\n",
            "1.0",
            "1e1",
            "1_000",
        ] {
            assert!(user(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn of_two_variables_with_one_name_the_last_stays() {
        let env = strings(&["A=1", "B=2", "A=3", "C=a=b", "D="]);
        assert_eq!(environment(&env).unwrap(), ["B=2", "A=3", "C=a=b", "D="]);
        for (bad, words) in [("A", "missing '='"), ("=x", "name cannot be empty"), ("A=\0", "NUL"), ("A\0=", "NUL")] {
            let e = environment(&strings(&["X=1", bad])).unwrap_err();
            assert!(e.to_string().starts_with("/1: invalid environment variable: ") && e.to_string().contains(words), "{e}");
        }
    }
}
