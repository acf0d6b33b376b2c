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
use crate::store::{Entry, RESULT, Record, Store, unknown};
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
    // Opened before init is told to go on: nothing that it says is lost.
    let result = entry.open_fifo(RESULT, false).step("openat", || "open the result FIFO".into())?;
    // Before as well, so that nothing of the program's is lost. A container that was made without the variable has no socket.
    let notify = match (notify::address(), entry.notify()?) {
        (Some(address), Some(directory)) => Some(Proxy::open(directory.as_fd(), &address)?),
        _ => None,
    };
    let kept = if record.poststart { Some(kept_bundle(&entry, &record)?) } else { None };
    fs::write_all(go.as_fd(), b"!").step("write", || "let the container's init go on".into())?;
    let started = match listen(result.as_fd(), init.as_fd(), record.start_container)? {
        Some(report) => Err(failed(&entry, &record, &report)),
        None => {
            let executed = let_go(go.as_fd(), init.as_fd());
            executed.and_then(|()| kept.as_ref().map_or(Ok(()), |bundle| create::poststart(bundle, id, record.pid)))
        }
    };
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
            std::mem::forget((entry, init, go, result));
            other.map(|()| 0)
        }
    }
}

/// Waits until init has executed the program (its end of the FIFO is then closed), or says why not. With `hooks` it says
/// first that these are behind it: they may take long, and who dies in them closes the FIFO too.
fn listen(result: BorrowedFd<'_>, init: BorrowedFd<'_>, mut hooks: bool) -> Result<Option<Report>> {
    loop {
        let mut fds = [PollFd::new(result, PollFlags::POLLIN), PollFd::new(init, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.step("poll", || "wait for the container's program".into())?,
        };
        let [said, ended] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        if said.is_empty() && ended.is_empty() {
            continue;
        }
        let mut bytes = [0u8; SIZE];
        // Not blocking: nothing said and nobody there to say it are both 0 or EAGAIN.
        return match nix::unistd::read(result, &mut bytes) {
            Ok(n) if n > 0 => match Report::from_bytes(bytes.get(..n).unwrap_or_default()) {
                Some(report) if report.kind == Kind::Reached => {
                    hooks = false;
                    continue;
                }
                report => Ok(report),
            },
            Err(Errno::EINTR) => continue,
            _ if hooks => {
                // It closes its files before it is gone: whoever asks next is to hear that it has stopped.
                let _gone = pidfd::poll_exit(init, Some(1000));
                Err(Error::new("container init died", "it was killed before the program ran"))
            }
            _ => Ok(None),
        };
    }
}

/// Waits until init has let go of the start FIFO too, by which the status is told: exec closes both, in an order that is the
/// kernel's affair. A second is more than that can take; without it the status would still say `created` for a moment.
fn let_go(go: BorrowedFd<'_>, init: BorrowedFd<'_>) -> Result<()> {
    loop {
        // POLLERR, which is always reported: nobody has it open for reading.
        let mut fds = [PollFd::new(go, PollFlags::empty()), PollFd::new(init, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(1000u16)) {
            Err(Errno::EINTR) => {}
            other => return other.step("poll", || "wait for the container's program".into()).map(drop),
        }
    }
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
    let raw = entry.config()?;
    let spec = Spec::parse(&raw)?;
    Ok(Bundle { dir: record.bundle.clone(), spec, raw })
}
