//! The CRIU that is at work on a container, named in its directory: a runtime that is killed leaves it behind.

use super::Entry;
use super::init::{Known, open};
use crate::error::{Context, Error, Result};
use crate::sys::fs;
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use std::os::fd::{AsFd, OwnedFd};

const CRIU: &str = "criu";

impl Entry {
    /// Names a process that runs now, in one line of text: a link cannot be half written.
    pub fn name_criu(&self, pid: i32) -> Result<()> {
        // It has gone already: then nobody needs to know it.
        let Some(criu) = open(pid)? else { return Ok(()) };
        let Some(known) = Known::of(pid, criu.as_fd(), self.dir())? else { return Ok(()) };
        self.release_criu()?;
        let pidfs = known.pidfs.map_or(String::new(), |inode| inode.to_string());
        let text = format!("{pid} {} {} {pidfs}", known.start_time, known.boot_id.unwrap_or_default());
        symlinkat(text.as_str(), &self.dir, CRIU).step("symlinkat", || self.step("make the link", CRIU))
    }

    /// The named process, if it still runs.
    pub fn criu(&self) -> Result<Option<OwnedFd>> {
        let text = match readlinkat(&self.dir, CRIU) {
            Ok(text) => text.to_string_lossy().into_owned(),
            Err(Errno::ENOENT | Errno::EINVAL) => return Ok(None),
            Err(e) => return Err(Error::sys(self.step("read the link", CRIU), "readlinkat", e.into())),
        };
        let mut words = text.split(' ');
        let numbers = (words.next().and_then(|w| w.parse().ok()), words.next().and_then(|w| w.parse().ok()));
        // What somebody else put there names no process of ours.
        let (Some(pid), Some(start_time), Some(boot_id)) = (numbers.0, numbers.1, words.next()) else { return Ok(None) };
        let pidfs = words.next().and_then(|w| w.parse().ok());
        Known { pid, start_time, pidfs, boot_id: Some(boot_id).filter(|id| !id.is_empty()) }.open(fs::read_closed)
    }

    /// It has ended.
    pub fn release_criu(&self) -> Result<()> {
        match unlinkat(&self.dir, CRIU, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(Error::sys(self.step("remove the link", CRIU), "unlinkat", e.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Store;
    use std::process::Command;

    #[test]
    fn it_is_known_as_long_as_it_runs() {
        is_known_as_long_as_it_runs(&tempfile::tempdir().unwrap());
        // A tmpfs (shm_overview(7)): there no boot is named.
        is_known_as_long_as_it_runs(&tempfile::tempdir_in("/dev/shm").unwrap());
    }

    fn is_known_as_long_as_it_runs(top: &tempfile::TempDir) {
        let entry = Store::open_or_make(Some(&top.path().join("state"))).unwrap().create("c").unwrap();
        assert!(entry.criu().unwrap().is_none());
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        entry.name_criu(pid).unwrap();
        entry.name_criu(pid).unwrap();
        assert!(entry.criu().unwrap().is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(entry.criu().unwrap().is_none());
        entry.release_criu().unwrap();
        entry.release_criu().unwrap();
        std::os::unix::fs::symlink("1 2", entry.path().join("criu")).unwrap();
        assert!(entry.criu().unwrap().is_none());
    }
}
