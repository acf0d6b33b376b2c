//! `kill`: a signal for init, or with `--all` for every process of the container.

use crate::cgroup::Cgroup;
use crate::cli::{Global, KillArgs};
use crate::config::values;
use crate::error::{Context, Error, Result};
use crate::store::{Record, Store, unknown};
use crate::sys::pidfd;
use nix::errno::Errno;
use std::os::fd::AsFd;

/// `kill`.
pub fn kill(global: &Global, args: KillArgs) -> Result<u8> {
    if args.regex {
        return Err(Error::new("kill --regex", "not supported").hint("name one container; `onggi list --quiet` has the ids"));
    }
    let signal = values::signal(&args.signal)?;
    let entry = Store::look_at(global.root.as_deref(), &args.id)?;
    let record = entry.state()?.ok_or_else(unknown)?;
    let init = record.init()?;
    let cgroup = || record.cgroup.as_ref().map_or(Ok(None), |path| Cgroup::open(path));
    if args.all {
        return all(&record, cgroup()?.as_ref(), signal).map(|()| 0);
    }
    // Without a PID namespace of its own the others outlive init.
    if let (libc::SIGKILL, false) = (signal, record.own_pid_namespace)
        && let Some(cgroup) = cgroup()?
        && (init.is_some() || cgroup.populated()?)
    {
        return cgroup.kill().map(|()| 0);
    }
    let Some(init) = init else { return Err(Error::exact("container not running")) };
    let sent = match pidfd::send_signal(init.as_fd(), signal) {
        Err(Errno::ESRCH) => Err(Error::exact("container not running")),
        other => other.step("pidfd_send_signal", || format!("signal process {}", record.pid)).map(|()| 0),
    };
    // The process ends, and the kernel closes what is open in one go.
    std::mem::forget((entry, init));
    sent
}

/// Every process in the cgroup, or without one in the PID namespace. None left is what the caller wants: containerd asks after init has exited.
fn all(record: &Record, cgroup: Option<&Cgroup>, signal: i32) -> Result<()> {
    let Some(cgroup) = cgroup else {
        let Some(init) = record.init()? else { return Ok(()) };
        // With init the rest of its PID namespace ends.
        if signal == libc::SIGKILL || !record.own_pid_namespace {
            return signal_one(init.as_fd(), record.pid, signal);
        }
        return each(signal, || super::ps::in_namespace_of(record.pid));
    };
    if signal == libc::SIGKILL {
        return cgroup.kill();
    }
    each(signal, || cgroup.pids())
}

/// Signals all that `pids` lists.
fn each(signal: i32, pids: impl Fn() -> Result<Vec<i32>>) -> Result<()> {
    for pid in pids()? {
        let process = match pidfd::open(pid) {
            Err(Errno::ESRCH) => continue,
            other => other.step("pidfd_open", || format!("open process {pid}"))?,
        };
        // Asked again under the descriptor: the number may have come to name a stranger.
        if pids()?.contains(&pid) {
            signal_one(process.as_fd(), pid, signal)?;
        }
    }
    Ok(())
}

fn signal_one(process: std::os::fd::BorrowedFd<'_>, pid: i32, signal: i32) -> Result<()> {
    match pidfd::send_signal(process, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(e) => Err(Error::sys(format!("signal process {pid}"), "pidfd_send_signal", e.into())),
    }
}
