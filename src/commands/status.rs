//! What a container is doing, asked of the kernel each time: nothing on disk says `running`.

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::store::{Entry, Record, START};
use nix::errno::Errno;
use std::fmt;
use std::os::fd::OwnedFd;

/// `status` of the state document, with runc's `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is being made; only `state` and `list` know it yet.
    Creating,
    /// Its program has not been started.
    Created,
    /// Its program runs.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// Its init has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// The status, and init's descriptor while there is an init.
pub fn of(entry: &Entry, record: &Record) -> Result<(Status, Option<OwnedFd>)> {
    let Some(init) = record.init()? else { return Ok((Status::Stopped, None)) };
    // Init holds the FIFO open until it executes the program: without a reader it has.
    let waits = match entry.open_fifo(START, true) {
        Ok(_) => true,
        Err(Errno::ENOENT | Errno::ENXIO) => false,
        Err(e) => return Err(Error::sys("look at the start FIFO", "openat", e.into())),
    };
    let frozen = match &record.cgroup {
        Some(path) => Cgroup::open(path)?.map(|c| c.frozen()).transpose()?.unwrap_or(false),
        None => false,
    };
    let status = match (frozen, waits) {
        (true, _) => Status::Paused,
        (false, true) => Status::Created,
        (false, false) => Status::Running,
    };
    Ok((status, Some(init)))
}
