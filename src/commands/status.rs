//! What a container is doing, asked of the kernel each time: nothing on disk says `running`.

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::store::{Entry, Record, Seen, Store};
use crate::sys::fs::{self, Reader};
use nix::errno::Errno;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

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

impl Status {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The status, and init's descriptor while there is an init.
pub fn of(entry: &Entry, record: &Record) -> Result<(Status, Option<OwnedFd>)> {
    let Some(init) = record.init()? else { return Ok((Status::Stopped, None)) };
    Ok((of_running(record, waiting(entry)?.is_some())?, Some(init)))
}

/// The status alone, for `state`.
pub fn look(entry: &Entry, record: &Record) -> Result<Status> {
    let Some(init) = record.process().open(fs::glance)? else { return Ok(Status::Stopped) };
    fs::leave(init);
    frozen_or(record, waiting(entry)?.is_some(), fs::glance)
}

/// The same of one of many, for `list`.
pub fn look_at(store: &Store, id: &str, seen: &Seen<'_>, reader: &mut Reader) -> Result<Status> {
    let start = of_fifo(store.open_start_of(id, reader))?;
    // Locked by init alone: the lock goes when init ends, or executes the program.
    let held =
        start.as_ref().is_some_and(|start| fs::lock(start.as_fd(), libc::LOCK_SH | libc::LOCK_NB) == Err(Errno::EWOULDBLOCK));
    if !held && seen.process().open(fs::read_closed)?.is_none() {
        return Ok(Status::Stopped);
    }
    let frozen = match &seen.cgroup {
        Some(path) => {
            let events = reader.read_in(path, "cgroup.events", 4096);
            let events = events.and_then(|bytes| std::str::from_utf8(bytes).map_err(|_| Errno::EILSEQ));
            Cgroup::tells_frozen(Path::new(&**path), events)?
        }
        None => false,
    };
    Ok(of_what_is_known(frozen, start.is_some()))
}

/// The FIFO that init waits on, for writing; `None` when it has gone on.
pub fn waiting(entry: &Entry) -> Result<Option<OwnedFd>> {
    of_fifo(entry.open_fifo(true))
}

fn of_fifo(opened: nix::Result<OwnedFd>) -> Result<Option<OwnedFd>> {
    // Init holds the FIFO open until it executes the program: without a reader it has.
    match opened {
        Ok(fifo) => Ok(Some(fifo)),
        Err(Errno::ENOENT | Errno::ENXIO) => Ok(None),
        Err(e) => Err(Error::sys("look at the FIFO of start", "openat", e.into())),
    }
}

/// The status of a container whose init runs, and waits or does not.
pub fn of_running(record: &Record, waits: bool) -> Result<Status> {
    frozen_or(record, waits, fs::read_closed)
}

fn frozen_or(record: &Record, waits: bool, read: fs::Read) -> Result<Status> {
    let frozen = match &record.cgroup {
        Some(path) => Cgroup::is_frozen(path, read)?,
        None => false,
    };
    Ok(of_what_is_known(frozen, waits))
}

fn of_what_is_known(frozen: bool, waits: bool) -> Status {
    match (frozen, waits) {
        (true, _) => Status::Paused,
        (false, true) => Status::Created,
        (false, false) => Status::Running,
    }
}
