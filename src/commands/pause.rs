//! `pause` and `resume`: the container's cgroup frozen and thawed.

use super::status::{self, Status};
use crate::cgroup::Cgroup;
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::store::{Record, Store, unknown};
use std::time::Duration;

/// How long the processes may take to stop: one in uninterruptible sleep does not.
const LIMIT: Duration = Duration::from_secs(10);

/// `pause`.
pub fn pause(global: &Global, id: &str) -> Result<u8> {
    let (record, status) = look(global, id)?;
    match status {
        Status::Created | Status::Running => cgroup(&record)?.freeze(LIMIT).map(|()| 0),
        Status::Paused | Status::Stopped => Err(Error::exact("container not running")),
    }
}

/// `resume`.
pub fn resume(global: &Global, id: &str) -> Result<u8> {
    let (record, status) = look(global, id)?;
    match status {
        Status::Paused => cgroup(&record)?.thaw().map(|()| 0),
        _ => Err(Error::exact("container not paused")),
    }
}

fn look(global: &Global, id: &str) -> Result<(Record, Status)> {
    let entry = Store::open(global.root.as_deref())?.ok_or_else(unknown)?.look(id)?;
    let record = entry.state()?.ok_or_else(unknown)?;
    let (status, _) = status::of(&entry, &record)?;
    Ok((record, status))
}

fn cgroup(record: &Record) -> Result<Cgroup> {
    let path = record.cgroup.as_ref().ok_or_else(|| super::no_cgroup("freeze"))?;
    Cgroup::open(path)?.ok_or_else(|| Error::exact("container not running"))
}
