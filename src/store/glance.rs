//! What `list` asks of every container, from the state root: to open each directory first would be a fifth of its calls.

use super::{EXEC, Record, STATE, Store, USUAL_STATE, open_fifo, read, state};
use crate::error::{Context, Result};
use crate::sys::dirent::Buffer;
use std::os::fd::{AsFd, OwnedFd};

impl Store {
    /// Ids of all that is there, sorted.
    pub fn ids(&self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        let mut buffer = Buffer::new();
        loop {
            let entries = buffer.read(self.dir.as_fd());
            let entries = entries.step("getdents64", || format!("list the state root {}", self.path.display()))?;
            if entries.is_empty() {
                break;
            }
            let directories = entries.filter(|(_, kind)| matches!(*kind, libc::DT_DIR | libc::DT_UNKNOWN));
            let names = directories.filter_map(|(name, _)| name.to_str().ok()).filter(|name| !matches!(*name, "." | ".."));
            ids.extend(names.map(String::from));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// As [`super::Entry::state`]; `None` also when there is no such container.
    pub fn state_of(&self, id: &str) -> Result<Option<Record>> {
        let step = |what: &str| format!("{what} {}", self.path.join(id).join(STATE).display());
        // Closed at once: to open the next is quicker then than to leave hundreds open.
        let found = read(self.dir.as_fd(), &format!("{id}/{STATE}"), USUAL_STATE, step);
        state(found.map(|(bytes, _)| bytes), || step("read"))
    }

    /// The FIFO that the container's init waits on, as [`super::Entry::open_fifo`] opens it for writing.
    pub fn open_start_of(&self, id: &str) -> nix::Result<OwnedFd> {
        open_fifo(self.dir.as_fd(), &format!("{id}/{EXEC}"), true)
    }
}
