//! What the kernel counts for a cgroup, in the form that runc's `events` has and go-runc reads.
//!
//! The form is that of cgroup v1: numbers that v2 does not have are 0 or absent. Beyond it there are `memory.events`,
//! peaks, and pressure (PSI), which only v2 has.

use super::{Cgroup, files, tree};
use crate::error::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// `data` of a `stats` event.
#[derive(Debug, Default, Serialize)]
pub struct Statistics {
    cpu: Cpu,
    cpuset: CpuSet,
    memory: Memory,
    pids: Pids,
    blkio: Blkio,
    hugetlb: BTreeMap<String, Hugetlb>,
    /// Not of the cgroup: whoever knows the container's resctrl groups puts theirs here.
    pub intel_rdt: serde_json::Map<String, serde_json::Value>,
    network_interfaces: Option<()>,
}

#[derive(Debug, Default, Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

/// Nanoseconds.
#[derive(Debug, Default, Serialize)]
struct CpuUsage {
    total: u64,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
    /// Nanoseconds.
    throttled_time: u64,
}

#[derive(Debug, Default, Serialize)]
struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpus: Vec<u32>,
    cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mems: Vec<u32>,
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

/// Bytes.
#[derive(Debug, Default, Serialize)]
struct Memory {
    cache: u64,
    usage: Usage,
    swap: Usage,
    kernel: Usage,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: Usage,
    raw: BTreeMap<String, u64>,
    events: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

/// `limit` is the largest number for none.
#[derive(Debug, Default, Serialize)]
struct Usage {
    limit: u64,
    usage: u64,
    max: u64,
    failcnt: u64,
}

/// A limit of 0 is none.
#[derive(Debug, Default, Serialize)]
struct Pids {
    current: u64,
    limit: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak: Option<u64>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct BlkioEntry {
    major: u64,
    minor: u64,
    op: &'static str,
    value: u64,
}

#[derive(Debug, Default, Serialize)]
struct Hugetlb {
    usage: u64,
    max: u64,
    failcnt: u64,
}

/// Documentation/accounting/psi.rst.
#[derive(Debug, Default, Serialize, PartialEq)]
struct Pressure {
    #[serde(skip_serializing_if = "Option::is_none")]
    some: Option<Stalls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<Stalls>,
}

/// Percent of the last so many seconds, and microseconds in all.
#[derive(Debug, Default, Serialize, PartialEq)]
struct Stalls {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    total: u64,
}

impl Cgroup {
    /// All there is. A controller that the cgroup does not have counts nothing.
    pub fn statistics(&self) -> Result<Statistics> {
        let mut hugetlb = BTreeMap::new();
        for name in self.names()? {
            let size = name.strip_prefix("hugetlb.").and_then(|n| n.strip_suffix(".current"));
            if let Some(size) = size.filter(|s| !s.ends_with(".rsvd")) {
                hugetlb.insert(size.to_owned(), self.hugetlb(size)?);
            }
        }
        Ok(Statistics {
            cpu: self.cpu()?,
            cpuset: self.cpuset()?,
            memory: self.memory()?,
            pids: Pids {
                current: self.number("pids.current")?.unwrap_or(0),
                limit: self.number("pids.max")?.filter(|&n| n != u64::MAX).unwrap_or(0),
                peak: self.number("pids.peak")?,
            },
            blkio: self.blkio()?,
            hugetlb,
            ..Statistics::default()
        })
    }

    /// The text of a file; nothing where the controller, or what the file is about, is not there.
    fn text(&self, name: &str) -> Result<Option<String>> {
        match files::read(&self.dir, name) {
            // PSI that is turned off.
            Err(e) if tree::gone(e) || e == Errno::EOPNOTSUPP => Ok(None),
            other => other.step("read", || self.file("read", name)).map(Some),
        }
    }

    /// The number in a file; `max` is the largest.
    fn number(&self, name: &str) -> Result<Option<u64>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let text = text.trim();
        if text == "max" {
            return Ok(Some(u64::MAX));
        }
        text.parse().map(Some).map_err(|_| Error::new(self.file("read", name), format!("{text:?} is not a number")))
    }

    fn keyed(&self, name: &str) -> Result<BTreeMap<String, u64>> {
        Ok(self.text(name)?.map(|t| all_keyed(&t)).unwrap_or_default())
    }

    fn pressure(&self, name: &str) -> Result<Option<Pressure>> {
        Ok(self.text(name)?.map(|t| pressure(&t)))
    }

    fn cpu(&self) -> Result<Cpu> {
        let stat = self.keyed("cpu.stat")?;
        let count = |key: &str| stat.get(key).copied().unwrap_or(0);
        let nanoseconds = |key: &str| count(key).saturating_mul(1000);
        Ok(Cpu {
            usage: CpuUsage {
                total: nanoseconds("usage_usec"),
                kernel: nanoseconds("system_usec"),
                user: nanoseconds("user_usec"),
            },
            throttling: Throttling {
                periods: count("nr_periods"),
                throttled_periods: count("nr_throttled"),
                throttled_time: nanoseconds("throttled_usec"),
            },
            psi: self.pressure("cpu.pressure")?,
        })
    }

    fn cpuset(&self) -> Result<CpuSet> {
        let list = |name: &str| -> Result<Vec<u32>> {
            let text = self.text(name)?.unwrap_or_default();
            let ranges = crate::config::values::list(&text, 8192)?;
            Ok(ranges.into_iter().flat_map(|(first, last)| first..=last).collect())
        };
        Ok(CpuSet { cpus: list("cpuset.cpus.effective")?, mems: list("cpuset.mems.effective")?, ..CpuSet::default() })
    }

    fn memory(&self) -> Result<Memory> {
        let raw = self.keyed("memory.stat")?;
        let events = self.keyed("memory.events")?;
        let usage = Usage {
            limit: self.number("memory.max")?.unwrap_or(0),
            usage: self.number("memory.current")?.unwrap_or(0),
            max: self.number("memory.peak")?.unwrap_or(0),
            failcnt: events.get("max").copied().unwrap_or(0),
        };
        // Memory and swap together, as cgroup v1 counted. Of the peaks there is no sum.
        let swap = match (self.number("memory.swap.current")?, self.number("memory.swap.max")?) {
            (Some(used), Some(limit)) => Usage {
                limit: limit.saturating_add(usage.limit),
                usage: used.saturating_add(usage.usage),
                max: 0,
                failcnt: self.keyed("memory.swap.events")?.get("fail").copied().unwrap_or(0),
            },
            _ => Usage::default(),
        };
        Ok(Memory {
            cache: raw.get("file").copied().unwrap_or(0),
            kernel: Usage { usage: raw.get("kernel").copied().unwrap_or(0), ..Usage::default() },
            kernel_tcp: Usage { usage: raw.get("sock").copied().unwrap_or(0), ..Usage::default() },
            psi: self.pressure("memory.pressure")?,
            usage,
            swap,
            raw,
            events,
        })
    }

    fn blkio(&self) -> Result<Blkio> {
        let mut blkio = Blkio { psi: self.pressure("io.pressure")?, ..Blkio::default() };
        for line in self.text("io.stat")?.unwrap_or_default().lines() {
            device(line, &mut blkio);
        }
        Ok(blkio)
    }

    fn hugetlb(&self, size: &str) -> Result<Hugetlb> {
        let max = self.keyed(&format!("hugetlb.{size}.events"))?.get("max").copied().unwrap_or(0);
        // v2 keeps no peak.
        Ok(Hugetlb { usage: self.number(&format!("hugetlb.{size}.current"))?.unwrap_or(0), max: 0, failcnt: max })
    }

    fn names(&self) -> Result<Vec<String>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = match nix::dir::Dir::openat(&self.dir, ".", flags, Mode::empty()) {
            Err(e) if tree::gone(e) => return Ok(Vec::new()),
            other => other.step("openat", || self.file("list", ""))?,
        };
        let names = dir.iter().filter_map(|e| e.ok()?.file_name().to_str().ok().map(str::to_owned));
        Ok(names.collect())
    }

    /// Watches `memory.events`, whose every change the kernel announces.
    pub fn watch_memory_events(&self) -> Result<Watch> {
        match openat(&self.dir, "memory.events", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(e) if tree::gone(e) => Ok(Watch(None)),
            other => {
                let watch = Watch(Some(other.step("openat", || self.file("watch", "memory.events"))?));
                watch.rearm().step("pread", || self.file("watch", "memory.events")).map(|()| watch)
            }
        }
    }
}

/// A watch on `memory.events`.
#[derive(Debug)]
pub struct Watch(Option<OwnedFd>);

impl Watch {
    /// Waits for a change, the end of the process behind `init`, or the time. True when the process has ended.
    pub fn wait(&self, init: BorrowedFd<'_>, limit: Duration) -> nix::Result<bool> {
        let mut fds = vec![PollFd::new(init, PollFlags::POLLIN)];
        if let Some(file) = &self.0 {
            fds.push(PollFd::new(std::os::fd::AsFd::as_fd(file), PollFlags::POLLPRI));
        }
        // Rounded up: else the rest of a millisecond would be waited for in a busy loop.
        let limit = limit.saturating_add(Duration::from_millis(1));
        let ended = match poll(&mut fds, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)) {
            Ok(_) => fds.first().is_none_or(|fd| fd.any().unwrap_or(true)),
            Err(Errno::EINTR) => false,
            Err(e) => return Err(e),
        };
        self.rearm().map(|()| ended)
    }

    /// The kernel announces what comes after the last read.
    fn rearm(&self) -> nix::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        match nix::sys::uio::pread(file, &mut [0u8; 512], 0) {
            Ok(_) | Err(Errno::ENODEV) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// Lines `key value`.
fn all_keyed(text: &str) -> BTreeMap<String, u64> {
    text.lines().filter_map(|l| l.split_once(' ')).filter_map(|(k, v)| Some((k.to_owned(), v.trim().parse().ok()?))).collect()
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn pressure(text: &str) -> Pressure {
    let mut all = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let kind = words.next();
        let mut stalls = Stalls::default();
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let percent = || value.parse().unwrap_or(0.0);
            match key {
                "avg10" => stalls.avg10 = percent(),
                "avg60" => stalls.avg60 = percent(),
                "avg300" => stalls.avg300 = percent(),
                "total" => stalls.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        match kind {
            Some("some") => all.some = Some(stalls),
            Some("full") => all.full = Some(stalls),
            _ => {}
        }
    }
    all
}

/// A line `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn device(line: &str, blkio: &mut Blkio) {
    let mut words = line.split_ascii_whitespace();
    let number = words.next().and_then(|n| n.split_once(':'));
    let Some((Ok(major), Ok(minor))) = number.map(|(a, b)| (a.parse(), b.parse())) else { return };
    for (key, value) in words.filter_map(|w| w.split_once('=')) {
        let Ok(value) = value.parse() else { continue };
        let (list, op) = match key {
            "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
            "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
            "rios" => (&mut blkio.io_serviced_recursive, "Read"),
            "wios" => (&mut blkio.io_serviced_recursive, "Write"),
            // What cgroup v1 did not count has no place in its form.
            _ => continue,
        };
        list.push(BlkioEntry { major, minor, op, value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_lines() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.25 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let all = pressure(text);
        assert_eq!(all.some, Some(Stalls { avg10: 1.5, avg60: 0.0, avg300: 0.25, total: 77 }));
        assert_eq!(all.full.unwrap().total, 3);
        assert_eq!(pressure(""), Pressure::default());
    }

    #[test]
    fn devices_by_operation() {
        let mut blkio = Blkio::default();
        device("8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0", &mut blkio);
        device("nonsense", &mut blkio);
        let want = [("Read", 10), ("Write", 20)].map(|(op, value)| BlkioEntry { major: 8, minor: 16, op, value });
        assert_eq!(blkio.io_service_bytes_recursive, want);
        assert_eq!(blkio.io_serviced_recursive.len(), 2);
    }

    #[test]
    fn files_of_a_cgroup_in_runc_s_form() {
        let top = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\n"),
            ("memory.max", "max\n"),
            ("memory.current", "4096\n"),
            ("memory.swap.current", "1\n"),
            ("memory.swap.max", "9\n"),
            ("memory.stat", "anon 1\nfile 7\n"),
            ("memory.events", "max 2\noom_kill 1\n"),
            ("pids.max", "max\n"),
            ("pids.current", "3\n"),
            ("cpuset.cpus.effective", "0-1,4\n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.rsvd.current", "0\n"),
        ] {
            std::fs::write(top.path().join(name), text).unwrap();
        }
        let cgroup = Cgroup { path: top.path().into(), dir: std::fs::File::open(top.path()).unwrap().into(), fresh: false };
        let data = serde_json::to_value(cgroup.statistics().unwrap()).unwrap();
        assert_eq!(data["cpu"]["usage"], serde_json::json!({"total": 5000, "kernel": 2000, "user": 3000}));
        assert_eq!(data["memory"]["usage"]["limit"], u64::MAX);
        assert_eq!(data["memory"]["usage"]["failcnt"], 2);
        assert_eq!(data["memory"]["swap"]["usage"], 4097);
        assert_eq!(data["memory"]["cache"], 7);
        assert_eq!(data["pids"], serde_json::json!({"current": 3, "limit": 0}));
        assert_eq!(data["cpuset"]["cpus"], serde_json::json!([0, 1, 4]));
        assert_eq!(data["hugetlb"]["2MB"]["usage"], 2_097_152);
        assert_eq!(data["hugetlb"].as_object().unwrap().len(), 1);
    }
}
