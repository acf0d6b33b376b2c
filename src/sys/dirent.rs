//! getdents64(2) without allocation.

use super::check;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Offset of the name in struct linux_dirent64: inode (8), offset (8), length (2), type (1).
const NAME: usize = 19;

/// A buffer for directory entries, on the stack.
pub struct Buffer([u8; 4096]);

impl Buffer {
    /// An empty buffer.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self([0; 4096])
    }

    /// Reads the next entries; none at the end.
    pub fn read(&mut self, dir: BorrowedFd<'_>) -> nix::Result<Entries<'_>> {
        // SAFETY: pointer and length of one buffer.
        let n = check(unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), self.0.as_mut_ptr(), self.0.len()) })?;
        Ok(Entries(usize::try_from(n).ok().and_then(|n| self.0.get(..n)).unwrap_or_default()))
    }
}

/// Names in the buffer, each with its kind (`DT_*`; some file systems say `DT_UNKNOWN` of all).
pub struct Entries<'a>(&'a [u8]);

impl Entries<'_> {
    /// True at the end of the directory.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a CStr, u8);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u16::from_ne_bytes(self.0.get(16..18)?.try_into().ok()?);
        let (entry, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        let (kind, name) = entry.get(NAME - 1..)?.split_first()?;
        Some((CStr::from_bytes_until_nul(name).ok()?, *kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn lists_every_name_once() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..300 {
            std::fs::write(dir.path().join(format!("file-with-a-long-name-{n:03}")), "").unwrap();
        }
        let fd = std::fs::File::open(dir.path()).unwrap();
        let mut names = Vec::new();
        let mut buffer = Buffer::new();
        loop {
            let entries = buffer.read(fd.as_fd()).unwrap();
            if entries.is_empty() {
                break;
            }
            for (name, kind) in entries {
                let is_file = name.to_bytes().starts_with(b"file");
                assert!(kind == libc::DT_UNKNOWN || is_file == (kind == libc::DT_REG), "{name:?} {kind}");
                names.push(name.to_owned());
            }
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 302);
    }
}
