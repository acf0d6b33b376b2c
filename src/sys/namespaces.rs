//! The namespaces of a process, as procfs shows them (namespaces(7)).

use super::clone::flags;
use super::{check, fs};
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

/// Every kind (`CLONE_NEW*`), and its name in procfs.
const KINDS: [(u64, &CStr); 8] = [
    (flags::NEWUSER, c"user"),
    (flags::NEWNS, c"mnt"),
    (flags::NEWPID, c"pid"),
    (flags::NEWNET, c"net"),
    (flags::NEWIPC, c"ipc"),
    (flags::NEWUTS, c"uts"),
    (flags::NEWCGROUP, c"cgroup"),
    (flags::NEWTIME, c"time"),
];

/// The inode number of the machine's first user namespace (`PROC_USER_INIT_INO` of <linux/proc_ns.h>).
const FIRST_USER: u64 = 0xefff_fffd;

/// Every kind that there is.
pub fn kinds() -> impl Iterator<Item = u64> {
    KINDS.iter().map(|(kind, _)| *kind)
}

/// The directory of one process's namespaces. It leads to all of procfs: it is to be closed before there is a process in a
/// container.
#[derive(Debug)]
pub struct Namespaces(OwnedFd);

impl Namespaces {
    /// Those of this process.
    pub fn own() -> nix::Result<Self> {
        Self::at(c"/proc/self/ns")
    }

    /// Those of another.
    pub fn of(pid: i32) -> nix::Result<Self> {
        Self::at(&CString::new(format!("/proc/{pid}/ns")).map_err(|_| Errno::EINVAL)?)
    }

    fn at(path: &CStr) -> nix::Result<Self> {
        fs::open(fs::cwd(), path, libc::O_PATH | libc::O_DIRECTORY, 0).map(Self)
    }

    /// The inode number by which the one of this kind is told from others; `None` on a kernel without the kind.
    pub fn number(&self, kind: u64) -> nix::Result<Option<u64>> {
        let mut link = [0; 64];
        let length = match fs::readlink(self.0.as_fd(), name(kind)?, &mut link) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other?,
        };
        // `user:[4026531837]`
        let number = link.get(..length).and_then(|link| link.strip_suffix(b"]")?.rsplit(|&byte| byte == b'[').next());
        let number = number.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        number.map(Some).ok_or(Errno::EPROTO)
    }

    /// The namespace itself.
    pub fn open(&self, kind: u64) -> nix::Result<OwnedFd> {
        fs::open(self.0.as_fd(), name(kind)?, libc::O_RDONLY, 0)
    }

    /// Whether the process is in another user namespace than the machine's first.
    pub fn are_nested(&self) -> nix::Result<bool> {
        Ok(self.number(flags::NEWUSER)?.is_some_and(|number| number != FIRST_USER))
    }
}

fn name(kind: u64) -> nix::Result<&'static CStr> {
    KINDS.iter().find(|(other, _)| *other == kind).map(|(_, name)| *name).ok_or(Errno::EINVAL)
}

/// Whether this process is in another user namespace than the machine's first: in one call, for who asks nothing else.
pub fn are_nested() -> nix::Result<bool> {
    // SAFETY: an all-zero stat is a valid value to be written over.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a static string and a stat buffer of our own.
    check(unsafe { libc::fstatat(libc::AT_FDCWD, c"/proc/self/ns/user".as_ptr(), &raw mut st, 0) }.into())?;
    Ok(st.st_ino != FIRST_USER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_number_of_its_file() {
        let own = Namespaces::own().unwrap();
        let this = Namespaces::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        for kind in kinds() {
            let number = own.number(kind).unwrap();
            assert_eq!(number, this.number(kind).unwrap());
            if let Some(number) = number {
                assert_eq!(fs::stat(own.open(kind).unwrap().as_fd()).unwrap().st_ino, number);
            }
        }
        assert_eq!(own.are_nested(), are_nested());
        assert_eq!(own.number(0), Err(Errno::EINVAL));
    }
}
