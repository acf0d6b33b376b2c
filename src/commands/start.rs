//! `start`: lets a created container's init execute the program, and says so if that fails.

use super::status::{self, Status};
use super::{create, delete};
use crate::cli::Global;
use crate::config::{Bundle, Spec};
use crate::error::{Context, Error, Result};
use crate::hooks::{Laid, Stage};
use crate::notify::{self, Proxy};
use crate::sandbox::report::{Detail, Kind, Report, SIZE};
use crate::sandbox::words;
use crate::store::init::has_executed;
use crate::store::{Entry, Record, Store, unknown};
use crate::sys::{fs, pidfd};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd};

/// `start`.
pub fn start(global: &Global, id: &str) -> Result<u8> {
    let entry = Store::open(global.root.as_deref())?.ok_or_else(unknown)?.entry(id)?;
    let record = entry.state()?.ok_or_else(unknown)?;
    let Some(init) = record.init()? else { return Err(Error::exact("cannot start a container that has stopped")) };
    let go = status::waiting(&entry)?;
    let go = match (status::of_running(&record, go.is_some())?, go) {
        (Status::Created, Some(go)) => go,
        (Status::Paused, _) => return Err(Error::exact("cannot start a paused container")),
        (Status::Creating, _) => return Err(unknown()),
        _ => return Err(Error::exact("cannot start an already running container")),
    };
    // Before init is told to go on, so that nothing of the program's is lost. A container that was made without the variable has no socket.
    let notify = match (notify::address(), entry.notify()?) {
        (Some(address), Some(directory)) => Some(Proxy::open(directory.as_fd(), &address)?),
        _ => None,
    };
    let kept = if record.poststart { Some(kept_bundle(&entry, &record)?) } else { None };
    let executed = match fs::write_all(go.as_fd(), b"!") {
        // It was there when the FIFO was opened.
        Err(Errno::EPIPE) => Err(died()),
        told => {
            told.step("write", || "let the container's init go on".into())?;
            executed(&entry, &record, go.as_fd(), init.as_fd())
        }
    };
    let started = executed.and_then(|()| kept.as_ref().map_or(Ok(()), |bundle| create::poststart(bundle, id, record.pid)));
    match started {
        // A hook that fails takes the container away (runtime.md, Lifecycle, steps 7 and 9); a program that cannot be
        // run leaves a stopped one, which engines delete.
        Err(e) if e.field().starts_with("/hooks/") => {
            if let Err(left) = delete::remove(entry, true) {
                crate::log::warn(&format!("after a failure: {left}"));
            }
            Err(e)
        }
        other => {
            if let (Some(notify), Ok(())) = (&notify, &other) {
                entry.unlock()?;
                notify.wait(record.pid.unsigned_abs(), init.as_fd());
            }
            // The process ends, and the kernel closes what is open in one go.
            std::mem::forget((entry, init, go));
            other.map(|()| 0)
        }
    }
}

/// Waits until init has executed the program, or says why not: either way it lets go of the FIFO, by which the status is told.
fn executed(entry: &Entry, record: &Record, go: BorrowedFd<'_>, init: BorrowedFd<'_>) -> Result<()> {
    loop {
        // POLLERR, which is always reported: nobody has it open for reading. Init's end counts too, if a process that it has
        // forked still has it.
        let mut fds = [PollFd::new(go, PollFlags::empty()), PollFd::new(init, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            other => {
                other.step("poll", || "wait for the container's program".into())?;
                break;
            }
        }
    }
    let executed = has_executed(record.pid, Some(record.start_time))?;
    if executed == Some(true) {
        return Ok(());
    }
    // It is on its way out: the state is to say so when this command has.
    match pidfd::poll_exit(init, Some(1000)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(Error::sys("wait for the end of the container's init", "poll", e.into())),
    }
    // Only now, for a reader would make the container look as if it were not started. What init has said is there for as
    // long as one end is open.
    let said = entry.open_fifo(false).step("openat", || "open the FIFO to listen".into())?;
    let mut bytes = [0u8; 3 * SIZE];
    let len = match fs::read_once(said.as_fd(), &mut bytes) {
        Err(Errno::EAGAIN) => 0,
        other => other.step("read", || "listen to the container's init".into())?,
    };
    let bytes = bytes.get(..len).unwrap_or_default();
    // Before it may stand what this command, or another that was killed, has written.
    let last = bytes.last_chunk::<SIZE>().and_then(|report| Report::from_bytes(report));
    let on_its_way = match last {
        Some(report) if report.kind == Kind::Failed => return Err(failed(entry, record, &report)),
        // Its hooks are behind it: who dies in them closes the FIFO too.
        Some(report) => report.kind == Kind::Reached,
        None => bytes.is_empty() && !record.start_container,
    };
    // It has been reaped, and nothing speaks against it: it ran, and how it ended is its parent's to tell.
    if executed.is_none() && on_its_way { Ok(()) } else { Err(died()) }
}

fn died() -> Error {
    Error::new("container init died", "it was killed before it could execute the program")
}

/// Words init's last message. Its plan is not known here, but what can fail after the wait is.
fn failed(entry: &Entry, record: &Record, report: &Report) -> Error {
    let spec = match kept_bundle(entry, record) {
        Ok(bundle) => bundle.spec,
        Err(e) => return e.context("the program was not started, and why not cannot be told"),
    };
    match report.detail {
        Detail::HookStatus | Detail::HookSignal | Detail::HookTimeout | Detail::HookNotRun => of_hook(&spec, report),
        _ if report.call_name() == "seccomp" => {
            let errno = crate::error::Errno(report.value);
            Error::sys("load the seccomp filter", "seccomp", errno).at("/linux/seccomp")
        }
        _ => {
            let name = spec.process.as_ref().and_then(|p| p.args.first()).cloned().unwrap_or_default();
            if name.is_empty() {
                return Error::exact("args must not be empty").at("/process/args");
            }
            words::of_program(&name, true, report).context(&words::program_prefix("start"))
        }
    }
}

fn of_hook(spec: &Spec, report: &Report) -> Error {
    let none = crate::config::Hooks::default();
    let list = Stage::StartContainer.of(spec.hooks.as_ref().unwrap_or(&none));
    let n = usize::from(report.part);
    match list.get(n).map(|hook| Laid::new(Stage::StartContainer, n, hook)) {
        Some(Ok(laid)) => words::hook_outcome(&laid, report),
        Some(Err(e)) => e,
        None => Error::new("run a startContainer hook", "failed"),
    }
}

/// The configuration as it was at `create`: the bundle's own may be gone.
pub fn kept_bundle(entry: &Entry, record: &Record) -> Result<Bundle> {
    Bundle::of(record.bundle.clone(), entry.config()?)
}
