//! `run`: create and start in one, then stay with the container and remove it, unless told otherwise.

use super::create::{self, How, Made};
use super::delete;
use crate::cli::{Global, RunArgs};
use crate::error::Result;
use crate::log;
use crate::notify::Proxy;
use crate::sandbox::supervise::{self, Aside, Duties, Terminal};
use crate::sandbox::words;
use crate::store::Store;
use crate::sys::fs;
use std::os::fd::AsFd;

/// `run`.
pub fn run(global: &Global, args: RunArgs) -> Result<u8> {
    let reaper = !args.detach && !args.no_subreaper;
    if reaper {
        supervise::become_reaper()?;
    }
    // Before the clone: the SIGCHLD of a program that ends at once must not be lost.
    let signals = if args.detach { None } else { Some(supervise::block_signals()?) };
    let how = How { wait: false, detached: args.detach };
    let mut made = create::make(global, &args.create, how, "run")?;
    made.commit()?;
    started(&made)?;
    let notify = made.notify.take();
    let Some(signals) = signals else {
        if let Some(notify) = notify {
            made.entry.unlock()?;
            notify.wait(made.launched.pid.unsigned_abs(), made.launched.pidfd.as_fd());
        }
        return Ok(0);
    };

    // From here on the container goes whatever fails.
    let unlocked = made.entry.unlock();
    let locked = unlocked.is_err();
    let windows = fs::streams();
    let [input, output, _] = windows;
    let terminal = made.master.take().map(|master| Terminal { master, input, output, windows: &windows });
    // The unit's main process is this one: its end is the container's, with the status, and nothing left.
    let mut ready = || {
        if let Some(Err(e)) = notify.as_ref().map(|notify| notify.hand_on(std::process::id())) {
            log::warn(&e.to_string());
        }
    };
    let aside = notify.as_ref().and_then(Proxy::said).map(|fd| Aside { fd, act: &mut ready });
    let init = made.launched.pid;
    let ended = unlocked.and_then(|()| {
        let duties = Duties { reaper, aside, look: None };
        supervise::supervise(init, made.launched.pidfd.as_fd(), &signals, terminal, duties)
    });
    if args.keep {
        return ended;
    }
    let entry = match Store::open(global.root.as_deref())? {
        _ if locked => Some(made.entry),
        // If it is gone, somebody else was quicker.
        store => store.and_then(|store| store.entry(&args.create.id).ok()),
    };
    let removed = entry.map_or(Ok(()), |entry| delete::remove(entry, true));
    let status = ended?;
    removed.map(|()| status)
}

/// Waits for exec, runs the poststart hooks; a failure of either takes the container away.
fn started(made: &Made) -> Result<()> {
    let id = made.entry.id();
    let started = made
        .launched
        .executed()
        .map_err(|e| if e.field() == "/process/args/0" { e.context(&words::program_prefix("run")) } else { e })
        .and_then(|()| create::poststart(&made.bundle, id, made.launched.pid));
    if started.is_err() {
        made.undo();
        create::poststop(&made.bundle, id);
    }
    started
}
