//! `events`: statistics as runc prints them, once or again and again, and a word for each out-of-memory kill.

use super::status::{self, Status};
use crate::cgroup::{Cgroup, Statistics};
use crate::cli::Global;
use crate::error::{Context, Error, Result};
use crate::rdt;
use crate::store::{Record, Store, unknown};
use serde::Serialize;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Statistics>,
}

/// `events`.
pub fn events(global: &Global, id: &str, interval: Duration, once: bool) -> Result<u8> {
    let entry = Store::open(global.root.as_deref())?.ok_or_else(unknown)?.look(id)?;
    let record = entry.state()?.ok_or_else(unknown)?;
    let gone = || Error::exact(format!("container with id {id} is not running"));
    let init = match status::of(&entry, &record)? {
        (Status::Stopped, _) | (_, None) => return Err(gone()),
        (_, Some(init)) => init,
    };
    let path = record.cgroup.as_ref().ok_or_else(|| super::no_cgroup("events"))?;
    let cgroup = Cgroup::open(path)?.ok_or_else(gone)?;
    if once {
        return print(&Event { kind: "stats", id, data: Some(statistics(&cgroup, &record)?) });
    }
    let watch = cgroup.watch_memory_events()?;
    let mut killed = cgroup.oom_kills()?.unwrap_or(0);
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let ended = watch.wait(init.as_fd(), left).step("poll", || "wait for the container".into())?;
        // Also after the end: the last kill may have been that of init.
        let now = cgroup.oom_kills()?.unwrap_or(killed);
        let mut status = 0;
        if now > killed {
            killed = now;
            status = print(&Event { kind: "oom", id, data: None })?;
        }
        if ended || status != 0 {
            return Ok(status);
        }
        if Instant::now() >= next {
            next = Instant::now() + interval;
            // Removed in this moment: the next round sees the end.
            if cgroup.populated()? {
                status = print(&Event { kind: "stats", id, data: Some(statistics(&cgroup, &record)?) })?;
            }
        }
        if status != 0 {
            return Ok(status);
        }
    }
}

/// What the cgroup counts, and for a container that is in resctrl groups what those do.
fn statistics(cgroup: &Cgroup, record: &Record) -> Result<Statistics> {
    let mut all = cgroup.statistics()?;
    if let (false, Some(root)) = (record.rdt.is_empty(), rdt::find_mount()?) {
        let value = serde_json::to_value(rdt::Statistics::read(&root, &record.rdt));
        if let Ok(serde_json::Value::Object(found)) = value {
            all.intel_rdt = found;
        }
    }
    Ok(all)
}

fn print(event: &Event<'_>) -> Result<u8> {
    let text = serde_json::to_string(event).map_err(|e| Error::new("print the statistics", e.to_string()))?;
    super::print(&format!("{text}\n"))
}
