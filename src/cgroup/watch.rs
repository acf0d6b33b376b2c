//! The announcement of out-of-memory kills.

use super::{Cgroup, tree};
use crate::error::{Context, Result};
use crate::sys::open::openat;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

impl Cgroup {
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
