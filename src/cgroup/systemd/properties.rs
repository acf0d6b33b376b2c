//! Limits and annotations -> properties of a unit. Pure.
//!
//! systemd writes every file of the controllers that it manages anew at each `daemon-reload`: what it was not told there
//! goes back to its default. So each write to such a file has a property beside it, from the same list of writes.
//! Files that systemd knows nothing of (`hugetlb.*`, `rdma.*`, `misc.*`, `io.max`, `cpu.max.burst`) stay as we wrote them.
//!
//! Device rules are not among the properties on purpose. systemd would load a program of its own for them, beside ours and
//! with no other effect, and would put it back at each `daemon-reload` without what hooks and updates have added since:
//! containers lost their GPUs so. With `DevicePolicy=auto` it has none, and leaves ours alone.

use super::text;
use super::wire::Value;
use crate::cgroup::limits::{Rule, Write};
use crate::config::values;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Name and value.
pub type Property = (String, Value);

/// What says "no limit", and for weights "the default".
const INFINITY: u64 = u64::MAX;

/// systemd's period, and the kernel's, in microseconds.
const PERIOD: u64 = 100_000;

/// Annotations with properties begin so.
const ANNOTATION: &str = "org.systemd.property.";

/// The files that systemd writes, other than those with a line a device.
pub const FILES: [&str; 15] = [
    "cpu.idle",
    "cpu.weight",
    "cpu.max",
    "cpuset.cpus",
    "cpuset.mems",
    "io.weight",
    "io.bfq.weight",
    "memory.min",
    "memory.low",
    "memory.high",
    "memory.max",
    "memory.swap.max",
    "memory.zswap.max",
    "memory.oom.group",
    "pids.max",
];

/// Those that say where the unit lies and who is in it: not the container's to choose.
const REFUSED: [&str; 4] = ["PIDs", "PIDFDs", "Slice", "Controller"];

/// The properties for these writes. `bfq` says whether the cgroup has `io.bfq.weight`; `None` leaves out weights of block
/// I/O, which depend on that.
///
/// A value that is none for systemd (text of `unified`, which the kernel is to judge) is left out.
pub fn limits(writes: &[Write], bfq: Option<bool>) -> Vec<Property> {
    let mut all = Vec::new();
    for w in writes {
        let name = match w.file.as_str() {
            "memory.max" => "MemoryMax",
            "memory.high" => "MemoryHigh",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            "memory.swap.max" => "MemorySwapMax",
            "memory.zswap.max" => "MemoryZSwapMax",
            "pids.max" => "TasksMax",
            "cpu.weight" => "CPUWeight",
            "cpuset.cpus" => "AllowedCPUs",
            "cpuset.mems" => "AllowedMemoryNodes",
            "cpu.idle" => {
                match w.value.trim() {
                    // The word for it is a weight of 0, since systemd 252.
                    "1" => all.push(("CPUWeight".into(), Value::U64(0))),
                    "0" => all.push(("CPUWeight".into(), Value::U64(INFINITY))),
                    _ => {}
                }
                continue;
            }
            "memory.oom.group" => {
                let policy = match w.value.trim() {
                    "1" => "kill",
                    "0" => "continue",
                    _ => continue,
                };
                all.push(("OOMPolicy".into(), Value::text(policy)));
                continue;
            }
            "cpu.max" => {
                all.extend(quota(&w.value).into_iter().flatten());
                continue;
            }
            "io.weight" | "io.bfq.weight" => {
                let weight = bfq.and_then(|bfq| io_weight(w, bfq));
                all.extend(weight.map(|weight| ("IOWeight".to_owned(), Value::U64(weight))));
                continue;
            }
            _ => continue,
        };
        let value = match name {
            "AllowedCPUs" | "AllowedMemoryNodes" => mask(&w.value),
            _ => number(&w.value).map(Value::U64),
        };
        all.extend(value.map(|value| (name.to_owned(), value)));
    }
    all
}

/// A number of the kernel's: `max`, decimal, with a binary suffix as in `64M`.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    if text == "max" {
        return Some(INFINITY);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)? {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        "p" | "P" => 50,
        "e" | "E" => 60,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `cpu.max`, `QUOTA PERIOD` -> microseconds a second, and the period. systemd keeps whole percents: the next one up, so
/// that what it writes never takes away what was granted.
fn quota(text: &str) -> Option<[Property; 2]> {
    const PERCENT: u128 = 10_000;
    let mut words = text.split_ascii_whitespace();
    let (quota, period) = (words.next()?, words.next().map_or(Some(PERIOD), |p| p.parse().ok())?);
    let per_second = match quota {
        "max" => INFINITY,
        quota => {
            let whole = u128::from(quota.parse::<u64>().ok()?) * 1_000_000;
            let percents = whole.div_ceil(u128::from(period).checked_mul(PERCENT).filter(|n| *n > 0)?);
            u64::try_from(percents * PERCENT).ok()?
        }
    };
    Some([("CPUQuotaPerSecUSec".into(), Value::U64(per_second)), ("CPUQuotaPeriodUSec".into(), Value::U64(period))])
}

/// The one weight from which systemd works out both files as we would write the one that is there. Weights of single
/// devices are not touched by it.
fn io_weight(w: &Write, bfq: bool) -> Option<u64> {
    let whole = |text: &str| {
        let text = text.trim();
        text.strip_prefix("default ").unwrap_or(text).trim().parse::<u64>().ok()
    };
    match (&w.rule, w.file.as_str(), bfq) {
        (Rule::Else { value, .. }, _, false) => whole(value),
        (_, "io.weight", _) => whole(&w.value),
        // systemd scales 100..=10000 to 100..=1000.
        (_, _, true) => whole(&w.value).map(|n| if n <= 100 { n } else { 100 + (n - 100) * 11 }),
        _ => None,
    }
}

/// A list of CPUs or nodes as bytes, the lowest bit first.
fn mask(list: &str) -> Option<Value> {
    const MOST: u32 = 8192;
    let mut bytes: Vec<u8> = Vec::new();
    for (first, last) in values::list(list.trim(), MOST).ok()? {
        for n in first..=last {
            let at = usize::try_from(n / 8).ok()?;
            if bytes.len() <= at {
                bytes.resize(at + 1, 0);
            }
            if let Some(byte) = bytes.get_mut(at) {
                *byte |= 1 << (n % 8);
            }
        }
    }
    Some(Value::bytes(&bytes))
}

/// The properties that annotations give.
///
/// # Errors
/// A name that is none, one that is ours to set, or a value that cannot be read.
pub fn annotated(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let mut all = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(ANNOTATION) else { continue };
        let field = format!("/annotations/{key}");
        let refuse = |cause: String| Err(Error::new(format!("read the annotation {key}={text}"), cause).at(field.clone()));
        if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
            return refuse("its end is no name of a property".into());
        }
        if REFUSED.contains(&name) {
            return refuse(format!("{name} is not for a container to choose"));
        }
        let value = match text::parse(text) {
            Ok(value) => value,
            Err(cause) => {
                return refuse(cause)
                    .map_err(|e| e.hint("the text format of GVariant: 'text', true, uint64 5, ['a', 'b'], @as []"));
            }
        };
        // Settings in seconds have properties in microseconds (systemd.unit files against D-Bus).
        match name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase())) {
            None => all.push((name.to_owned(), value)),
            Some(stem) => match microseconds(&value) {
                Some(n) => all.push((format!("{stem}USec"), Value::U64(n))),
                None => return refuse("it is no number of seconds".into()),
            },
        }
    }
    Ok(all)
}

fn microseconds(value: &Value) -> Option<u64> {
    let seconds: i128 = match *value {
        Value::Byte(n) => n.into(),
        Value::I16(n) => n.into(),
        Value::U16(n) => n.into(),
        Value::I32(n) => n.into(),
        Value::U32(n) => n.into(),
        Value::I64(n) => n.into(),
        Value::U64(INFINITY) => return Some(INFINITY),
        Value::U64(n) => n.into(),
        Value::F64(n) => {
            let n = std::time::Duration::try_from_secs_f64(n).ok()?;
            return u64::try_from(n.as_micros()).ok();
        }
        _ => return None,
    };
    u64::try_from(seconds * 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::limits;
    use crate::cgroup::limits::tests::everything;

    /// `NAME=value` of each property.
    fn told(json: &str, bfq: Option<bool>) -> Vec<String> {
        let resources = serde_json::from_str(json).unwrap();
        let writes = limits::writes(&resources, &everything()).unwrap();
        let word = |value: Value| match value {
            Value::U64(INFINITY) => "infinity".into(),
            Value::U64(n) => n.to_string(),
            Value::Array(_, bytes) => {
                format!("{:?}", bytes.iter().map(|b| if let Value::Byte(b) = b { *b } else { 0 }).collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        };
        super::limits(&writes, bfq).into_iter().map(|(name, value)| format!("{name}={}", word(value))).collect()
    }

    #[test]
    fn every_limit_that_systemd_manages() {
        for (json, want) in [
            (
                r#"{"memory":{"limit":1000,"swap":3000,"reservation":500}}"#,
                vec!["MemorySwapMax=2000", "MemoryMax=1000", "MemoryLow=500"],
            ),
            (r#"{"memory":{"limit":1000,"swap":1000}}"#, vec!["MemorySwapMax=0", "MemoryMax=1000"]),
            (r#"{"memory":{"limit":-1}}"#, vec!["MemorySwapMax=infinity", "MemoryMax=infinity"]),
            (r#"{"memory":{"limit":0,"reservation":0}}"#, vec![]),
            (r#"{"memory":{"reservation":-1}}"#, vec!["MemoryLow=infinity"]),
            (r#"{"pids":{"limit":20}}"#, vec!["TasksMax=20"]),
            (r#"{"pids":{"limit":-1}}"#, vec!["TasksMax=infinity"]),
            (r#"{"pids":{"limit":0}}"#, vec!["TasksMax=1"]),
            (r#"{"cpu":{"shares":1024}}"#, vec!["CPUWeight=100"]),
            (r#"{"cpu":{"idle":1,"shares":1024}}"#, vec!["CPUWeight=0"]),
            (r#"{"cpu":{"idle":0}}"#, vec!["CPUWeight=infinity"]),
            (r#"{"cpu":{"idle":0,"shares":2}}"#, vec!["CPUWeight=infinity", "CPUWeight=1"]),
            (r#"{"cpu":{"quota":50000}}"#, vec!["CPUQuotaPerSecUSec=500000", "CPUQuotaPeriodUSec=100000"]),
            (r#"{"cpu":{"quota":150000,"period":50000}}"#, vec!["CPUQuotaPerSecUSec=3000000", "CPUQuotaPeriodUSec=50000"]),
            (r#"{"cpu":{"quota":33333}}"#, vec!["CPUQuotaPerSecUSec=340000", "CPUQuotaPeriodUSec=100000"]),
            (r#"{"cpu":{"quota":-1}}"#, vec!["CPUQuotaPerSecUSec=infinity", "CPUQuotaPeriodUSec=100000"]),
            (r#"{"cpu":{"quota":5000,"burst":5000}}"#, vec!["CPUQuotaPerSecUSec=50000", "CPUQuotaPeriodUSec=100000"]),
            (r#"{"cpu":{"cpus":"0-2,9","mems":"0"}}"#, vec!["AllowedCPUs=[7, 2]", "AllowedMemoryNodes=[1]"]),
            (
                r#"{"unified":{"memory.high":"64M","memory.min":"4096","memory.swap.max":"0","memory.zswap.max":"max",
                    "cpu.max":"max 50000","cpu.weight":"77","cpuset.cpus":"","pids.max":"max","memory.oom.group":"1"}}"#,
                vec![
                    "CPUQuotaPerSecUSec=infinity",
                    "CPUQuotaPeriodUSec=50000",
                    "CPUWeight=77",
                    "AllowedCPUs=[]",
                    "MemoryHigh=67108864",
                    "MemoryMin=4096",
                    "MemorySwapMax=0",
                    "MemoryZSwapMax=infinity",
                    "OOMPolicy='kill'",
                    "TasksMax=infinity",
                ],
            ),
            (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":5}],"rdma":{"a":{"hcaHandles":1}}}"#, vec![]),
            (
                r#"{"unified":{"memory.max":"lots","cpu.max":"1 2 3 4","cpu.idle":"7"}}"#,
                vec!["CPUQuotaPerSecUSec=500000", "CPUQuotaPeriodUSec=2"],
            ),
            (r#"{"unified":{"cpu.max":"5 0"}}"#, vec![]),
        ] {
            assert_eq!(told(json, None), want, "{json}");
        }
    }

    #[test]
    fn weights_of_block_io() {
        for (json, bfq, want) in [
            (r#"{"blockIO":{"weight":100}}"#, None, vec![]),
            (r#"{"blockIO":{"weight":100}}"#, Some(true), vec!["IOWeight=100"]),
            (r#"{"blockIO":{"weight":1000}}"#, Some(true), vec!["IOWeight=10000"]),
            (r#"{"blockIO":{"weight":500}}"#, Some(false), vec!["IOWeight=4950"]),
            (r#"{"unified":{"io.weight":"default 70"}}"#, Some(true), vec!["IOWeight=70"]),
            (r#"{"unified":{"io.weight":"8:0 70"}}"#, Some(true), vec![]),
            (r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":50}]}}"#, Some(true), vec![]),
        ] {
            assert_eq!(told(json, bfq), want, "{json}");
        }
    }

    fn given(pairs: &[(&str, &str)]) -> Result<Vec<Property>> {
        annotated(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn annotations() {
        let all = given(&[
            ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
            ("org.systemd.property.DefaultDependencies", "true"),
            ("org.systemd.property.TimeoutStopUSec", "uint64 5"),
            ("org.systemd.property.TimeoutStopSec", "7"),
            ("org.systemd.property.RuntimeMaxSec", "1.5"),
            ("other", "nothing"),
        ]);
        let want = [
            ("CollectMode", Value::text("inactive-or-failed")),
            ("DefaultDependencies", Value::Bool(true)),
            ("RuntimeMaxUSec", Value::U64(1_500_000)),
            ("TimeoutStopUSec", Value::U64(7_000_000)),
            ("TimeoutStopUSec", Value::U64(5)),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        assert_eq!(all.unwrap(), want);
    }

    #[test]
    fn annotations_that_make_no_sense() {
        for (name, value) in [
            ("Not-A-Name", "1"),
            ("", "1"),
            ("ab", "1"),
            ("PIDs", "@au [1]"),
            ("Slice", "'system.slice'"),
            ("CollectMode", "inactive"),
            ("TimeoutStopSec", "'long'"),
            ("TimeoutStopSec", "-1"),
            ("TimeoutStopSec", "-0.5"),
        ] {
            let e = given(&[(&format!("org.systemd.property.{name}"), value)]).unwrap_err();
            assert_eq!(e.field(), format!("/annotations/org.systemd.property.{name}"), "{e}");
        }
    }
}
