//! `delete`: what is left of a container goes: processes, cgroup, poststop hooks, and last its state. Every part can be
//! done again, so a delete that was cut short is finished by the next.

use super::create::{EMPTY, poststop};
use super::start::kept_bundle;
use super::status::{self, Status};
use super::unit;
use crate::cgroup::Cgroup;
use crate::cgroup::systemd::Registered;
use crate::cli::{DeleteArgs, Global};
use crate::error::{Error, Result};
use crate::store::{Entry, Record, Store, unknown};
use crate::sys::pidfd;
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// How long it takes a process to die if nothing holds it.
const SOON: Duration = Duration::from_millis(200);

/// `delete`.
pub fn delete(global: &Global, args: DeleteArgs) -> Result<u8> {
    if args.regex {
        return Err(Error::new("delete --regex", "not supported").hint("name one container; `onggi list --quiet` has the ids"));
    }
    let found = match Store::open(global.root.as_deref())? {
        Some(store) => store.entry(&args.id),
        None => Err(unknown()),
    };
    match found {
        // Engines call it for what may never have been made.
        Err(e) if args.force && e == unknown() => Ok(0),
        found => remove(found?, args.force).map(|()| 0),
    }
}

/// Removes a container whose lock is held.
pub fn remove(entry: Entry, force: bool) -> Result<()> {
    let record = match entry.state() {
        Ok(record) => record,
        // Not ours, or damaged: the cgroup that was named before anything else says what there is to end.
        Err(_) if force => None,
        Err(e) => return Err(e),
    };
    if let Some(record) = &record {
        let (status, init) = match status::of(&entry, record) {
            // Init cannot be held (a filter around us refuses pidfd_open, say): the cgroup ends it all the same.
            Err(e) if force && record.cgroup.is_some() => {
                crate::log::warn(&e.to_string());
                (Status::Running, None)
            }
            found => found?,
        };
        crate::log::debug(|| format!("container {} is {status}", entry.id()));
        // One that was never started goes without force, as with runc: containerd's shim deletes such tasks so.
        if !force && matches!(status, Status::Running | Status::Paused) {
            return Err(Error::exact(format!("cannot delete container {} that is not stopped: {status}", entry.id())));
        }
        if let Some(init) = init {
            end(&entry, init.as_fd(), record)?;
        }
    }
    remove_cgroup(&entry, record.as_ref(), force)?;
    super::rdt::remove(&entry)?;
    if let Some(record) = record.filter(|r| r.poststop) {
        match kept_bundle(&entry, &record) {
            Ok(bundle) => poststop(&bundle, entry.id()),
            Err(e) => crate::log::warn(&format!("poststop hooks: {e}")),
        }
    }
    let removed = entry.remove();
    if removed.is_ok() {
        crate::log::info(|| format!("container {} is deleted", entry.id()));
    }
    // Nothing comes after it in this process, and the kernel closes what is open in one go.
    std::mem::forget(entry);
    removed
}

/// Kills init and waits until it is gone. A zombie counts as gone: reaping it is its parent's.
fn end(entry: &Entry, init: BorrowedFd<'_>, record: &Record) -> Result<()> {
    match pidfd::send_signal(init, libc::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(e) => return Err(Error::sys(format!("kill process {}", record.pid), "pidfd_send_signal", e.into())),
    }
    // In a frozen cgroup it dies all the same (cgroup v2), and cgroup.kill follows.
    let ends = |limit: Duration| pidfd::poll_exit(init, i32::try_from(limit.as_millis()).ok());
    let ended = match ends(SOON) {
        Ok(false) => {
            // The CRIU of a checkpoint that was killed traces them all and waits for init; that waits for what it traces.
            if let Some(criu) = entry.criu()? {
                let _gone = pidfd::send_signal(criu.as_fd(), libc::SIGKILL);
            }
            ends(EMPTY)
        }
        other => other,
    };
    match ended {
        Ok(true) | Err(Errno::EINTR) => Ok(()),
        Ok(false) => Err(Error::new(format!("kill process {}", record.pid), format!("it does not end within {EMPTY:?}"))),
        Err(e) => Err(Error::sys(format!("wait for process {}", record.pid), "poll", e.into())),
    }
}

/// The cgroup is the container: whoever is in it goes, also when init went long ago (a shared PID namespace).
fn remove_cgroup(entry: &Entry, record: Option<&Record>, force: bool) -> Result<()> {
    let (named, unit) = match record {
        Some(record) => (record.cgroup.clone(), record.unit.clone()),
        None => (entry.cgroup()?, entry.unit()?),
    };
    let cgroup = named.map(|path| Cgroup::open(&path)).transpose()?.flatten();
    if let Some(cgroup) = cgroup.as_ref().filter(|_| record.is_none() && !force)
        && cgroup.populated()?
    {
        return Err(Error::exact(format!("cannot delete container {} that is not stopped: creating", entry.id())));
    }
    if let Some(unit) = unit {
        return unit::end(&Registered::parse(&unit)?, cgroup.as_ref());
    }
    let Some(cgroup) = cgroup else { return Ok(()) };
    cgroup.end(EMPTY)?;
    crate::log::debug(|| format!("removed the cgroup {}", cgroup.path().display()));
    Ok(())
}
