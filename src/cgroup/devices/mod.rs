//! `linux.resources.devices` -> the eBPF program that decides who may open and make which device node. Pure.
//!
//! Not its attachment, see [`super::Cgroup::attach_devices`]. cgroup v2 has no device controller, only this hook
//! (`BPF_PROG_TYPE_CGROUP_DEVICE`, 4.15), so it works on a hybrid host too.
//!
//! For each device and each of read, write and mknod the last rule that speaks of it decides; nothing is allowed that no
//! rule allows. An open for reading and writing needs both. A rule may take a part out of a wider one before it, which runc
//! refuses. At the end come the rules that runc adds too (`DEFAULT_RULES`): engines count on them, and no rule of the
//! configuration can undo them.

mod program;

use crate::config::{Device, DeviceRule};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Bits of access as the kernel passes them (`BPF_DEVCG_ACC_*`).
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// The most that `dev_t` of the kernel holds: 12 bits of major, 20 bits of minor (`include/linux/kdev_t.h`).
const LAST_MAJOR: u32 = 0xfff;
const LAST_MINOR: u32 = 0xf_ffff;

/// More devices than this in one list are refused: the program grows with them, and the kernel takes 10^6 instructions.
const MOST_NODES: usize = 1 << 16;

/// A device that runc allows in every container: the node that it goes with (empty for none), major, minor, access.
type DefaultRule = (&'static str, Kind, Option<u32>, Option<u32>, u8);

/// What runc appends to every list (`specconv.AllowedDevices`): mknod of anything, the nodes that every container gets,
/// the pseudo terminals.
const DEFAULT_RULES: [DefaultRule; 10] = [
    ("", Kind::Char, None, None, MKNOD),
    ("", Kind::Block, None, None, MKNOD),
    ("/dev/null", Kind::Char, Some(1), Some(3), ALL),
    ("/dev/random", Kind::Char, Some(1), Some(8), ALL),
    ("/dev/full", Kind::Char, Some(1), Some(7), ALL),
    ("/dev/tty", Kind::Char, Some(5), Some(0), ALL),
    ("/dev/zero", Kind::Char, Some(1), Some(5), ALL),
    ("/dev/urandom", Kind::Char, Some(1), Some(9), ALL),
    ("", Kind::Char, Some(136), None, ALL),
    ("", Kind::Char, Some(5), Some(2), ALL),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block,
    Char,
}

/// A rule with its words read: which devices, which bits, which way.
#[derive(Debug, Clone, Copy)]
struct Rule {
    /// None for both.
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
    allow: bool,
}

/// The program for these rules, as a sequence of `struct bpf_insn`; nothing when it would allow everything.
///
/// `nodes` is `linux.devices`: as in runc, one with the path of a default node takes the place of the default rule.
/// Fails on an unknown type or access letter, and on lists that speak of more than 65,536 devices one by one.
pub fn program(rules: &[DeviceRule], nodes: &[Device]) -> Result<Option<Vec<u64>>> {
    let rules = effective(rules, nodes)?;
    let block = Table::new(&rules, Kind::Block)?;
    let char = Table::new(&rules, Kind::Char)?;
    if block.allows_everything() && char.allows_everything() {
        return Ok(None);
    }
    Ok(Some(program::assemble(&block, &char)))
}

/// All rules that can still matter, in order.
fn effective(rules: &[DeviceRule], nodes: &[Device]) -> Result<Vec<Rule>> {
    let mut list = Vec::with_capacity(rules.len() + DEFAULT_RULES.len());
    for (i, r) in rules.iter().enumerate() {
        let Some(rule) =
            read(r).map_err(|cause| Error::new("read the device rule", cause).at(format!("/linux/resources/devices/{i}")))?
        else {
            continue;
        };
        if rule.kind.is_none() && rule.major.is_none() && rule.minor.is_none() && rule.access == ALL {
            // Says everything anew.
            list.clear();
        }
        list.push(rule);
    }
    list.extend(
        DEFAULT_RULES
            .iter()
            .filter(|d| d.0.is_empty() || nodes.iter().all(|n| n.path != d.0))
            .map(|&(_, kind, major, minor, access)| Rule { kind: Some(kind), major, minor, access, allow: true }),
    );
    Ok(list)
}

/// Reads one rule; nothing when it names a number that no device can have.
fn read(r: &DeviceRule) -> std::result::Result<Option<Rule>, String> {
    let kind = match r.kind.as_str() {
        "" | "a" => None,
        "b" => Some(Kind::Block),
        "c" => Some(Kind::Char),
        other => return Err(format!("type {other:?} is none of a, b and c")),
    };
    let mut access = 0;
    for letter in r.access.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            'a' if !r.allow => ALL,
            other => return Err(format!("access {other:?} is none of r, w and m")),
        };
    }
    let number = |n: Option<i64>, last: u32| match n {
        None => Some(None),
        Some(n) if n < 0 => Some(None),
        Some(n) => u32::try_from(n).ok().filter(|&n| n <= last).map(Some),
    };
    let (Some(major), Some(minor)) = (number(r.major, LAST_MAJOR), number(r.minor, LAST_MINOR)) else { return Ok(None) };
    Ok(Some(Rule { kind, major, minor, access: if access == 0 { ALL } else { access }, allow: r.allow }))
}

/// What is allowed for one kind of device, each level holding only what differs from the ones before it.
#[derive(Debug, Default)]
struct Table {
    /// For devices that no other level names.
    rest: u8,
    /// For a major and any minor; what is to be flipped in `rest`.
    majors: BTreeMap<u32, u8>,
    /// For a minor and any major; what is to be flipped in `rest`.
    minors: BTreeMap<u32, u8>,
    /// For one device; what is to be flipped in what the three levels above give together.
    nodes: BTreeMap<(u32, u32), u8>,
}

impl Table {
    fn new(rules: &[Rule], kind: Kind) -> Result<Self> {
        let rules: Vec<_> = rules.iter().filter(|r| r.kind.is_none_or(|k| k == kind)).collect();
        // None stands for a number that no rule names, so that only rules without one match it.
        let allowed = |major: Option<u32>, minor: Option<u32>| {
            let matching =
                rules.iter().filter(|r| r.major.is_none_or(|m| Some(m) == major) && r.minor.is_none_or(|m| Some(m) == minor));
            matching.fold(0, |bits, r| if r.allow { bits | r.access } else { bits & !r.access })
        };
        let every_major: BTreeSet<u32> = rules.iter().filter_map(|r| r.major).collect();
        let open_minors: BTreeSet<u32> = rules.iter().filter(|r| r.major.is_none()).filter_map(|r| r.minor).collect();
        let mut named: BTreeSet<(u32, u32)> = rules.iter().filter_map(|r| Some((r.major?, r.minor?))).collect();
        if named.len() + every_major.len() * open_minors.len() > MOST_NODES {
            return Err(
                Error::new("read the device rules", "they name too many devices one by one").at("/linux/resources/devices")
            );
        }
        named.extend(every_major.iter().flat_map(|&a| open_minors.iter().map(move |&i| (a, i))));

        let rest = allowed(None, None);
        let mut table = Self { rest, ..Self::default() };
        for &major in &every_major {
            keep(&mut table.majors, major, allowed(Some(major), None) ^ rest);
        }
        for &minor in &open_minors {
            keep(&mut table.minors, minor, allowed(None, Some(minor)) ^ rest);
        }
        for (major, minor) in named {
            let above = table.level(major, minor);
            keep(&mut table.nodes, (major, minor), allowed(Some(major), Some(minor)) ^ above);
        }
        Ok(table)
    }

    /// What the three upper levels allow.
    fn level(&self, major: u32, minor: u32) -> u8 {
        let flip = |map: &BTreeMap<u32, u8>, n| map.get(&n).copied().unwrap_or(0);
        self.rest ^ flip(&self.majors, major) ^ flip(&self.minors, minor)
    }

    fn allows_everything(&self) -> bool {
        self.rest == ALL && self.majors.is_empty() && self.minors.is_empty() && self.nodes.is_empty()
    }
}

fn keep<K: Ord>(map: &mut BTreeMap<K, u8>, key: K, flip: u8) {
    if flip != 0 {
        map.insert(key, flip);
    }
}

#[cfg(test)]
mod tests;
