//! A walk through a cgroup and all below it, in constant descriptors and stack: a container that may make cgroups decides
//! how deep and wide they are.

use crate::sys::open::openat;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Calls `enter` with each directory, `root` first, and `leave` with the parent and the name of each but `root`, when all
/// below it were left. Directories that vanish meanwhile are passed over.
pub(super) fn visit(
    root: impl AsFd,
    mut enter: impl FnMut(&OwnedFd) -> nix::Result<()>,
    mut leave: impl FnMut(&OwnedFd, &CStr) -> nix::Result<()>,
) -> nix::Result<()> {
    let mut here = match openat(root, ".", DIRECTORY, Mode::empty()) {
        Err(e) if gone(e) => return Ok(()),
        other => other?,
    };
    enter(&here)?;
    // The way down to `here`: each directory's name, and those of its children that are still to be visited.
    let mut way: Vec<(Option<CString>, Vec<CString>)> = vec![(None, children(&here)?)];
    while let Some((_, ahead)) = way.last_mut() {
        if let Some(name) = ahead.pop() {
            match openat(&here, name.as_c_str(), DIRECTORY, Mode::empty()) {
                Err(e) if gone(e) => {}
                other => {
                    here = other?;
                    enter(&here)?;
                    way.push((Some(name), children(&here)?));
                }
            }
        } else if let Some((Some(name), _)) = way.pop() {
            // Cgroups cannot be moved to another parent, so this is where we came from.
            here = openat(&here, "..", DIRECTORY, Mode::empty())?;
            leave(&here, &name)?;
        }
    }
    Ok(())
}

/// Whether an error says that a cgroup was removed.
pub(super) fn gone(e: Errno) -> bool {
    matches!(e, Errno::ENOENT | Errno::ENODEV)
}

fn children(dir: &OwnedFd) -> nix::Result<Vec<CString>> {
    match list(dir) {
        Err(e) if gone(e) => Ok(Vec::new()),
        other => other,
    }
}

fn list(dir: &OwnedFd) -> nix::Result<Vec<CString>> {
    // cgroupfs counts "." and the entry in the parent, and each child's "..": most containers have no child, and reading
    // a directory of some 60 files is dear.
    if fstat(dir)?.st_nlink <= 2 {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in Dir::from_fd(openat(dir, ".", DIRECTORY, Mode::empty())?)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == Some(Type::Directory) && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn children_before_parents() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("a/b")).unwrap();
        std::fs::create_dir_all(top.path().join("c")).unwrap();
        std::fs::write(top.path().join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("/", top.path().join("link")).unwrap();
        let dir = std::fs::File::open(top.path()).unwrap();
        let entered = RefCell::new(0);
        let mut left = Vec::new();
        visit(
            &dir,
            |_| {
                *entered.borrow_mut() += 1;
                Ok(())
            },
            |parent, name| {
                left.push(name.to_str().unwrap().to_owned());
                nix::unistd::unlinkat(parent, name, nix::unistd::UnlinkatFlags::RemoveDir)
            },
        )
        .unwrap_err();
        // "a" holds a file, so its removal ends the walk; "b" in it was removed before.
        assert_eq!(*left.last().unwrap(), "a");
        assert!(left.contains(&"b".to_owned()) && !top.path().join("a/b").exists());
    }

    #[test]
    fn five_hundred_levels_take_no_more_descriptors_than_one() {
        let top = tempfile::tempdir().unwrap();
        let mut deep = top.path().to_path_buf();
        (0..500).for_each(|_| deep.push("d"));
        std::fs::create_dir_all(&deep).unwrap();
        let dir = std::fs::File::open(top.path()).unwrap();
        let mut highest = 0;
        visit(
            &dir,
            |d| {
                highest = highest.max(std::os::fd::AsRawFd::as_raw_fd(d));
                Ok(())
            },
            |parent, name| nix::unistd::unlinkat(parent, name, nix::unistd::UnlinkatFlags::RemoveDir),
        )
        .unwrap();
        assert!(highest < 200, "{highest}");
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    }
}
