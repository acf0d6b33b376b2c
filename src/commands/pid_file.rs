//! `--pid-file`: digits, no newline, whole or not there at all, since engines poll for the file; and nothing beside it, not
//! even if this process is killed half way.

use crate::error::{Context, Error, Result};
use crate::sys::open::open;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::linkat;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Writes the file, over one that is there (CRI-O makes it, empty, beforehand).
pub fn write(path: &Path, pid: i32) -> Result<()> {
    let step = || format!("write the pid file {}", path.display());
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) => Path::new("."),
        None => return Err(Error::new(step(), "it names no file")),
    };
    let mode = Mode::from_bits_truncate(0o644);
    let unnamed = match open(dir, OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC, mode) {
        Ok(fd) => fd,
        // A file system without unnamed files.
        Err(Errno::EOPNOTSUPP | Errno::EISDIR) => return in_place(path, pid).step("write", step),
        Err(e) => return Err(Error::sys(step(), "open", e.into())),
    };
    let mut file = File::from(unnamed);
    file.write_all(pid.to_string().as_bytes()).step("write", step)?;
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(AT_FDCWD, source.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW) {
        Err(Errno::EEXIST) => in_place(path, pid).step("write", step),
        other => other.step("linkat", step),
    }
}

/// Over what is there, in one write: whoever looks sees what was there, nothing, or all.
fn in_place(path: &Path, pid: i32) -> std::io::Result<()> {
    File::create(path)?.write_all(pid.to_string().as_bytes())
}

/// Takes the file of a container that failed after all away, if it still names that.
pub fn remove(path: &Path, pid: i32) {
    if std::fs::read_to_string(path).is_ok_and(|text| text == pid.to_string()) {
        // Already failing; a pid file that cannot be removed names a process that is gone.
        drop(std::fs::remove_file(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        for pid in [4_194_304, 7] {
            write(&path, pid).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), pid.to_string());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&path, 8);
        assert!(path.exists(), "it names another process");
        remove(&path, 7);
        assert!(!path.exists());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = write(Path::new("/nonexistent/pid"), 1).unwrap_err().to_string();
        assert_eq!(error, "write the pid file /nonexistent/pid: no such file or directory");
    }
}
