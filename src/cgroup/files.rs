//! The small text files of cgroupfs, read and written whole, relative to a directory's descriptor.

use crate::sys::fs;
use crate::sys::open::openat;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Reads a file of the cgroup directory `dir`.
pub(super) fn read(dir: impl AsFd, name: &str) -> nix::Result<String> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    fs::read_small(dir.as_fd(), &name)
}

/// Reads a file that may be long: one with a line a process.
pub(super) fn read_list(dir: impl AsFd, name: &str) -> nix::Result<String> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    fs::read_list(dir.as_fd(), &name)
}

/// Reads a file by its path.
pub(super) fn read_path(path: &Path) -> nix::Result<String> {
    read_path_by(fs::read_closed, path)
}

/// The same in this way.
pub(super) fn read_path_by(read: fs::Read, path: &Path) -> nix::Result<String> {
    let bytes = read(&CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?)?;
    String::from_utf8(bytes).map_err(|_| Errno::EILSEQ)
}

/// Writes `value` to a file of `dir` in one call: the kernel takes each write as a command of its own.
pub(super) fn write(dir: impl AsFd, name: &str, value: &str) -> nix::Result<()> {
    let fd = openat(dir, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())?;
    loop {
        match unistd::write(&fd, value.as_bytes()) {
            Err(Errno::EINTR) => {}
            Ok(n) if n < value.len() => return Err(Errno::EIO),
            other => return other.map(drop),
        }
    }
}

/// The value of `key` in lines of `key value`, as in `cgroup.events` and `memory.events`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_whole_words() {
        let text = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(keyed(text, "oom_kill"), Some(2));
        assert_eq!(keyed(text, "oom"), Some(3));
        assert_eq!(keyed(text, "max"), None);
    }
}
