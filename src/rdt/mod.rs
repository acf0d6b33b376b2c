//! `linux.intelRdt`: a share of the caches and of the memory bandwidth, and its monitoring (Intel RDT; on AMD the same by
//! another name), through the kernel's resctrl file system (Documentation/arch/x86/resctrl.rst).
//!
//! [`Setup`] says what is to be done, and is pure; [`Root`] does it, on descriptors. Whoever makes a directory here is told of
//! it before ([`Root::make`]), so that what a killed command leaves can be found.

pub mod schemata;
mod setup;
mod statistics;

pub use setup::{Group, Line, Setup, schema};
pub use statistics::Statistics;

use crate::error::{Context, Error, Result};
use crate::sys::fs;
use crate::sys::open::{open, openat};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where the kernel's documentation mounts it.
const USUAL: &str = "/sys/fs/resctrl";
/// `RDTGROUP_SUPER_MAGIC` of linux/magic.h.
const RESCTRL_MAGIC: i64 = 0x0765_5821;
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// How long others may hold the lock of the file system.
const PATIENCE: Duration = Duration::from_secs(10);

const FIELD: &str = "/linux/intelRdt";
const CLOS_ID: &str = "/linux/intelRdt/closID";
const MONITORING: &str = "/linux/intelRdt/enableMonitoring";

/// Where resctrl is mounted; `None` where it is not.
///
/// # Errors
/// /proc/self/mountinfo cannot be read.
pub fn find_mount() -> Result<Option<PathBuf>> {
    let usual = PathBuf::from(USUAL);
    if let Ok(dir) = open(&usual, DIRECTORY, Mode::empty())
        && fs::magic(dir.as_fd()) == Ok(RESCTRL_MAGIC)
    {
        return Ok(Some(usual));
    }
    let mounts = procfs::process::Process::myself()
        .and_then(|p| p.mountinfo())
        .map_err(|e| Error::new("look for resctrl in /proc/self/mountinfo", e.to_string()))?;
    let found = mounts.0.into_iter().find(|m| m.fs_type == "resctrl" && m.root == "/");
    Ok(found.map(|m| m.mount_point))
}

/// The two directories that a container may have of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A group for control, a class of service.
    Control,
    /// A group for monitoring, below one for control.
    Monitor,
}

/// The mounted file system.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    path: PathBuf,
}

/// What is told of the directories that are made and stay ours.
pub trait Ledger {
    /// `path` is about to be made.
    fn begin(&self, kind: Kind, path: &Path) -> Result<()>;
    /// `path` is not ours to remove any more.
    fn release(&self, kind: Kind) -> Result<()>;
}

impl Root {
    /// Opens the mount.
    ///
    /// # Errors
    /// It is not resctrl, or gone.
    pub fn open(path: &Path) -> Result<Self> {
        let step = || format!("open {}", path.display());
        let dir = open(path, DIRECTORY, Mode::empty()).step("open", step).map_err(|e| e.at(FIELD))?;
        if fs::magic(dir.as_fd()).step("fstatfs", step)? != RESCTRL_MAGIC {
            return Err(Error::new(step(), "it is not a resctrl file system").at(FIELD));
        }
        Ok(Self { dir, path: path.to_owned() })
    }

    /// Makes what the setup asks for, and gives the directories whose `tasks` the container's processes are written to, in
    /// that order.
    ///
    /// # Errors
    /// A group that must be there is not; one that must be new is there; one that is shared has other limits; the kernel
    /// refuses a line, or a further group.
    pub fn make(&self, setup: &Setup, ledger: &dyn Ledger) -> Result<Vec<PathBuf>> {
        let _lock = self.lock()?;
        let group = self.path.join(setup.group.name());
        let step = || format!("make the resctrl group {}", group.display());
        let is_new = match &setup.group {
            Group::Default => false,
            Group::Given(_) if is_there(&group)? => false,
            Group::Given(_) => {
                return Err(Error::new(format!("use the resctrl group {}", group.display()), "it does not exist")
                    .at(CLOS_ID)
                    .hint("without a schema closID names a group that was made before"));
            }
            Group::Shared(_) if is_there(&group)? => false,
            Group::Own(_) if is_there(&group)? => {
                return Err(Error::new(step(), "it exists already").at(FIELD).hint("remove it with rmdir, or name it by closID"));
            }
            Group::Shared(_) | Group::Own(_) => true,
        };
        if is_new {
            ledger.begin(Kind::Control, &group)?;
            make_directory(&group).map_err(|e| refused(step(), e, FIELD))?;
        } else if matches!(setup.group, Group::Shared(_) | Group::Default) {
            setup.compare(&read(&group.join("schemata"))?, &group)?;
        }
        setup.lines.iter().filter(|line| is_new || !line.compared).try_for_each(|line| self.write_line(&group, line))?;
        if is_new && matches!(setup.group, Group::Shared(_)) {
            // With its limits it is the class of service that others may share by now (config-linux.md: not removed).
            ledger.release(Kind::Control)?;
        }
        let mut tasks = vec![group.clone()];
        if let Some(name) = &setup.monitor {
            let path = group.join("mon_groups").join(name);
            let step = || format!("make the monitoring group {}", path.display());
            if is_there(&path)? {
                return Err(Error::new(step(), "it exists already").at(MONITORING).hint("remove it with rmdir"));
            }
            ledger.begin(Kind::Monitor, &path)?;
            make_directory(&path).map_err(|e| refused(step(), e, MONITORING))?;
            tasks.push(path);
        }
        Ok(tasks)
    }

    /// Writes new limits to a group of a running container.
    ///
    /// # Errors
    /// The kernel refuses one.
    pub fn change(&self, group: &Path, lines: &[Line]) -> Result<()> {
        let _lock = self.lock()?;
        lines.iter().try_for_each(|line| self.write_line(group, line))
    }

    /// The lock that resctrl's documentation asks for, so that no other program changes groups meanwhile.
    fn lock(&self) -> Result<OwnedFd> {
        let step = || format!("lock {}", self.path.display());
        let dir = openat(&self.dir, ".", DIRECTORY, Mode::empty()).step("openat", step)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match fs::lock(dir.as_fd(), libc::LOCK_EX | libc::LOCK_NB) {
                Err(Errno::EWOULDBLOCK) if Instant::now() < until => sleep(Duration::from_millis(10)),
                Err(Errno::EWOULDBLOCK) => {
                    return Err(Error::new(step(), format!("another program holds it for {PATIENCE:?}")).at(FIELD));
                }
                other => return other.step("flock", step).map(|()| dir),
            }
        }
    }

    fn write_line(&self, group: &Path, line: &Line) -> Result<()> {
        let path = group.join("schemata");
        // The kernel takes whole lines.
        write(&path, &format!("{}\n", line.text)).map_err(|e| {
            let error = Error::sys(format!("write {:?} to {}", line.text, path.display()), "write", e.into());
            match read(&self.path.join("info/last_cmd_status")) {
                Ok(why) if !why.trim().is_empty() && why.trim() != "ok" => error.hint(format!("the kernel says: {}", why.trim())),
                _ => error,
            }
            .at(line.field.clone())
        })
    }
}

/// Puts a process into the groups, in order: a monitoring group takes only what is in the group that it belongs to.
///
/// # Errors
/// The process is gone, or the kernel refuses it.
pub fn add(groups: &[PathBuf], pid: i32) -> Result<()> {
    groups.iter().try_for_each(|group| {
        let path = group.join("tasks");
        write(&path, &pid.to_string()).step("write", || format!("write {pid} to {}", path.display())).map_err(|e| e.at(FIELD))
    })
}

/// The same of a further process. What somebody has removed meanwhile holds nothing: its processes are the root's now.
///
/// # Errors
/// As [`add`].
pub fn add_further(groups: &[PathBuf], pid: i32) -> Result<()> {
    let there: Vec<PathBuf> = groups.iter().filter(|group| group.exists()).cloned().collect();
    add(&there, pid)
}

/// Removes a directory that [`Root::make`] made; its processes fall back to the group above. A second time is a success.
///
/// # Errors
/// It does not lie in resctrl, or the kernel refuses.
pub fn remove(path: &Path) -> Result<()> {
    let step = || format!("remove the resctrl group {}", path.display());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Error::new(step(), "it has no name")) };
    let parent = match open(parent, DIRECTORY, Mode::empty()) {
        // Removed with the group above it.
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other.step("open", step)?,
    };
    if !is_resctrl(&parent).step("fstatfs", step)? {
        // Unmounted since, and all groups went with that.
        return Ok(());
    }
    #[cfg(test)]
    tests::let_go(path);
    match unlinkat(&parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(Error::sys(step(), "unlinkat", e.into())),
    }
}

#[cfg(not(test))]
fn is_resctrl(dir: &OwnedFd) -> nix::Result<bool> {
    Ok(fs::magic(dir.as_fd())? == RESCTRL_MAGIC)
}

/// The tests have directories of plain files in its place.
#[cfg(test)]
fn is_resctrl(_: &OwnedFd) -> nix::Result<bool> {
    Ok(true)
}

fn make_directory(path: &Path) -> nix::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL) };
    mkdirat(open(parent, DIRECTORY, Mode::empty())?, name, Mode::from_bits_truncate(0o755))?;
    #[cfg(test)]
    tests::fill(path);
    Ok(())
}

fn is_there(group: &Path) -> Result<bool> {
    match open(group, DIRECTORY, Mode::empty()) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        // One of the kernel's own files, `schemata` say.
        Err(e) => Err(Error::sys(format!("open the resctrl group {}", group.display()), "open", e.into()).at(CLOS_ID)),
    }
}

fn refused(step: String, e: Errno, field: &str) -> Error {
    let error = Error::sys(step, "mkdirat", e.into()).at(field);
    match e {
        Errno::ENOSPC => error.hint("the processor has no further class of service or monitor: info/*/num_closids, num_rmids"),
        Errno::ENOENT | Errno::EPERM if field == MONITORING => error.hint("the processor has no monitoring (info/L3_MON)"),
        _ => error,
    }
}

fn write(path: &Path, text: &str) -> nix::Result<()> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())?;
    match nix::unistd::write(&file, text.as_bytes()) {
        Ok(n) if n < text.len() => Err(Errno::EIO),
        other => other.map(drop),
    }
}

fn read(path: &Path) -> Result<String> {
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL).and_then(|p| fs::read_small(fs::cwd(), &p));
    text.step("read", || format!("read {}", path.display())).map_err(|e| e.at(FIELD))
}

#[cfg(test)]
mod tests;
