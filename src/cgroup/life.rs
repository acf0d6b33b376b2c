//! What lives in a cgroup: processes counted, frozen, killed, waited for; and the removal when all are gone.

use super::{Cgroup, files, tree};
use crate::error::{Context, Error, Result};
use crate::sys::open::openat;
use crate::sys::{fs, pidfd};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::uio::pread;
use nix::unistd::{AccessFlags, UnlinkatFlags, unlinkat};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one sign of change is waited for at most.
const TICK: Duration = Duration::from_millis(50);

impl Cgroup {
    /// All processes in it and below it, by the ids of this pid namespace; those that have none here are left out.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut all = Vec::new();
        tree::visit(
            &self.dir,
            |dir| {
                all.extend(members(dir)?);
                Ok(())
            },
            |_, _| Ok(()),
        )
        .step("read", || self.file("read", "cgroup.procs"))?;
        all.retain(|&p| p > 0);
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// Moves a process in. For where `CLONE_INTO_CGROUP` cannot: the process must then wait until this is done.
    pub fn enter(&self, pid: i32) -> Result<()> {
        files::write(&self.dir, "cgroup.procs", &pid.to_string()).map_err(|e| self.refused_entry("write", e))
    }

    /// Whether a process is in it or below it, zombies not counted; a removed cgroup has none.
    pub fn populated(&self) -> Result<bool> {
        self.event("populated")
    }

    /// Whether all its processes are frozen, by itself or by a cgroup above.
    pub fn frozen(&self) -> Result<bool> {
        self.event("frozen")
    }

    /// As [`Self::frozen`], of the cgroup at `path`, which was found in a cgroup2 file system when it was made.
    pub fn is_frozen(path: &Path, read: fs::Read) -> Result<bool> {
        Self::tells_frozen(path, files::read_path_by(read, &path.join("cgroup.events")).as_deref().map_err(|e| *e))
    }

    /// The same by what reading its `cgroup.events` gave.
    pub fn tells_frozen(path: &Path, events: nix::Result<&str>) -> Result<bool> {
        match events {
            Err(e) if tree::gone(e) => Ok(false),
            other => {
                let text = other.step("read", || format!("read cgroup.events of the cgroup {}", path.display()))?;
                Ok(files::keyed(text, "frozen") == Some(1))
            }
        }
    }

    fn event(&self, key: &str) -> Result<bool> {
        match files::read(&self.dir, "cgroup.events") {
            Err(e) if tree::gone(e) => Ok(false),
            other => Ok(files::keyed(&other.step("read", || self.file("read", "cgroup.events"))?, key) == Some(1)),
        }
    }

    /// Freezes all processes and waits until all are. What does not freeze within `limit` (a process in uninterruptible
    /// sleep) is an error, and all run on: a half-frozen container is of no use.
    pub fn freeze(&self, limit: Duration) -> Result<()> {
        let step = || self.file("write 1 to", "cgroup.freeze");
        files::write(&self.dir, "cgroup.freeze", "1").step("write", step)?;
        if self.wait_event("frozen", 1, limit)? {
            return Ok(());
        }
        let left = self.describe(&self.pids()?);
        self.thaw()?;
        Err(Error::new(format!("freeze the cgroup {}", self.path.display()), format!("not done in {limit:?}: {left}")))
    }

    /// Lets all processes run on, unless a cgroup above is frozen.
    pub fn thaw(&self) -> Result<()> {
        files::write(&self.dir, "cgroup.freeze", "0").step("write", || self.file("write 0 to", "cgroup.freeze"))
    }

    /// Kills every process in it and below it, frozen ones and those that fork meanwhile too (`cgroup.kill`, 5.14).
    pub fn kill(&self) -> Result<()> {
        match files::write(&self.dir, "cgroup.kill", "1") {
            Ok(()) => Ok(()),
            // Another removed it: then nothing lives in it.
            Err(e) if tree::gone(e) && !self.exists() => Ok(()),
            // Threaded: the kernel kills whole processes only by their domain.
            Err(Errno::EOPNOTSUPP) => self.kill_each(),
            Err(Errno::ENOENT) => Err(Error::sys(self.file("write 1 to", "cgroup.kill"), "openat", Errno::ENOENT.into())
                .hint("the kernel is older than Linux 5.14")),
            Err(e) => Err(Error::sys(self.file("write 1 to", "cgroup.kill"), "write", e.into())),
        }
    }

    /// Kills all and removes it, waiting up to `limit`. Killed again while it waits: an exec may have put one more in.
    pub fn end(&self, limit: Duration) -> Result<()> {
        const ROUND: Duration = Duration::from_millis(200);
        let end = Instant::now() + limit;
        loop {
            self.kill()?;
            let left = end.saturating_duration_since(Instant::now());
            match self.remove(left.min(ROUND)) {
                Err(e) if left <= ROUND => return Err(e),
                Err(e) if e.errno().is_some() => return Err(e),
                Err(_) => {}
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Rounds of SIGKILL for each, until a round finds none: a process that forks is met again.
    fn kill_each(&self) -> Result<()> {
        for _ in 0..100 {
            let pids = self.pids()?;
            if pids.is_empty() {
                break;
            }
            let step = |pid: i32| move || format!("kill process {pid}");
            let mut found = Vec::new();
            for pid in pids {
                match pidfd::open(pid) {
                    Err(Errno::ESRCH) => {}
                    other => found.push((pid, other.step("pidfd_open", step(pid))?)),
                }
            }
            // Asked again under the descriptors: a number may have come to name a stranger.
            let still = self.pids()?;
            for (pid, process) in found.iter().filter(|(pid, _)| still.contains(pid)) {
                match pidfd::send_signal(process.as_fd(), libc::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(e) => return Err(Error::sys(step(*pid)(), "pidfd_send_signal", e.into())),
                }
            }
            if self.wait_empty(Duration::from_millis(10))? {
                break;
            }
        }
        Ok(())
    }

    /// Waits until no process is left; false when there still is one after `limit`.
    pub fn wait_empty(&self, limit: Duration) -> Result<bool> {
        self.wait_event("populated", 0, limit)
    }

    /// The directory is still in its place.
    fn exists(&self) -> bool {
        files::read(&self.dir, "cgroup.events").is_ok()
    }

    /// Waits until `key` of `cgroup.events` is `value`, or the cgroup is gone. The kernel wakes us at each change, but not
    /// when the file is removed: that is looked for.
    fn wait_event(&self, key: &str, value: u64, limit: Duration) -> Result<bool> {
        let step = || self.file("watch", "cgroup.events");
        let end = Instant::now() + limit;
        let file = match openat(&self.dir, "cgroup.events", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(e) if tree::gone(e) => return Ok(true),
            other => other.step("openat", step)?,
        };
        loop {
            // Read before the poll: the kernel wakes for what changes after the last read.
            let mut text = [0u8; 256];
            let n = match pread(&file, &mut text, 0) {
                Err(e) if tree::gone(e) => return Ok(true),
                Err(Errno::EINTR) => continue,
                other => other.step("pread", step)?,
            };
            if std::str::from_utf8(text.get(..n).unwrap_or_default()).is_ok_and(|t| files::keyed(t, key) == Some(value)) {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            wait_change(&file, left.min(TICK)).step("poll", step)?;
        }
    }

    /// Removes it with all below it, waiting up to `limit` for the last process to go. Kills none: see [`Cgroup::kill`].
    /// One that is gone is a success. On failure the error lists who is left; it can be called again.
    pub fn remove(&self, limit: Duration) -> Result<()> {
        let step = || format!("remove the cgroup {}", self.path.display());
        let end = Instant::now() + limit;
        loop {
            match unlinkat(nix::fcntl::AT_FDCWD, &self.path, UnlinkatFlags::RemoveDir) {
                Ok(()) => return Ok(()),
                Err(e) if tree::gone(e) => return Ok(()),
                Err(Errno::EBUSY) => {}
                // Ours, in a directory that is not: it was made for us, and whoever did that removes it.
                Err(Errno::EACCES | Errno::EPERM | Errno::EROFS) if !self.is_removable() && self.wait_empty(limit)? => {
                    return self.remove_children().step("unlinkat", step).map(drop);
                }
                Err(e) => return Err(Error::sys(step(), "unlinkat", e.into())),
            }
            let removed = self.remove_children().step("unlinkat", step)?;
            let left = end.saturating_duration_since(Instant::now());
            if removed > 0 && !left.is_zero() {
                continue;
            }
            if left.is_zero() {
                return Err(Error::new(step(), self.describe(&self.pids()?)).hint("try again when they have ended"));
            }
            if !self.wait_empty(left.min(TICK))? {
                continue;
            }
            // Nobody in it, and still busy: the last one is on the way out, or made a child after our walk.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the directory that it lies in is the caller's to change; also when that cannot be told.
    fn is_removable(&self) -> bool {
        let parent = self.path.parent().unwrap_or(&self.path);
        super::delegation::allowed(parent, AccessFlags::W_OK | AccessFlags::X_OK).unwrap_or(true)
    }

    /// Removes the cgroup at an absolute path, see [`Cgroup::remove`].
    pub fn remove_at(path: &Path, limit: Duration) -> Result<()> {
        Self::open(path)?.map_or(Ok(()), |cgroup| cgroup.remove(limit))
    }

    /// Removes what can be removed below; says how many went.
    fn remove_children(&self) -> nix::Result<usize> {
        let mut removed = 0;
        tree::visit(
            &self.dir,
            |_| Ok(()),
            |parent, name| match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
                Ok(()) => {
                    removed += 1;
                    Ok(())
                }
                Err(Errno::EBUSY) => Ok(()),
                Err(e) if tree::gone(e) => Ok(()),
                Err(e) => Err(e),
            },
        )?;
        Ok(removed)
    }

    /// Who is left, each with name and state as in proc_pid_stat(5): D cannot be killed, T is stopped, Z is dead.
    fn describe(&self, pids: &[i32]) -> String {
        const MOST: usize = 10;
        if pids.is_empty() {
            return "no process of this pid namespace is left in it, and the kernel says it is busy".into();
        }
        let shown: Vec<_> = pids
            .iter()
            .take(MOST)
            .map(|&pid| match procfs::process::Process::new(pid).and_then(|p| p.stat()) {
                Ok(s) => format!("{pid} ({}, state {})", s.comm, s.state),
                Err(_) => format!("{pid} (gone)"),
            })
            .collect();
        let more = if pids.len() > MOST { ", ..." } else { "" };
        format!("{} process(es) left: {}{more}", pids.len(), shown.join(", "))
    }
}

/// The processes of one directory as the kernel lists them, 0 for one of another pid namespace. A threaded cgroup lists
/// no processes but threads; one that is gone has none.
pub(super) fn members(dir: impl AsFd) -> nix::Result<Vec<i32>> {
    let text = match files::read_list(&dir, "cgroup.procs") {
        Err(Errno::EOPNOTSUPP) => files::read_list(&dir, "cgroup.threads"),
        other => other,
    };
    match text {
        Err(e) if tree::gone(e) => Ok(Vec::new()),
        other => Ok(other?.lines().filter_map(|l| l.trim().parse().ok()).collect()),
    }
}

fn wait_change(file: &OwnedFd, limit: Duration) -> nix::Result<()> {
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLPRI)], timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(e),
    }
}
