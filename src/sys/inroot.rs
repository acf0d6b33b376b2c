//! Paths inside a root directory that cannot be left: openat2(2) with `RESOLVE_IN_ROOT`, and making what is missing,
//! one component at a time. Works between clone and exec: buffers on the stack, no allocation.
//!
//! Everything below the root is hostile: links point anywhere, directories are swapped while we look. Nothing here
//! resolves a name twice, and nothing is created but by a single-component call on a directory descriptor.

use super::{fs, owned};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Links in components that do not exist yet that are followed before giving up, as the kernel does (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// `RESOLVE_NO_MAGICLINKS`: /proc/PID/fd and its kin are not followed.
const NO_MAGICLINKS: u64 = 0x02;
/// `RESOLVE_NO_SYMLINKS`.
pub const NO_SYMLINKS: u64 = 0x04;
/// `RESOLVE_NO_XDEV`: stay on one mount.
pub const NO_XDEV: u64 = 0x01;
const BENEATH: u64 = 0x08;
const IN_ROOT: u64 = 0x10;

/// What to make where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// A directory, mode 0755.
    Dir,
    /// An empty file, mode 0755 as runc makes it.
    File,
}

fn openat2(dir: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32, resolve: u64) -> nix::Result<OwnedFd> {
    // SAFETY: an all-zero open_how is valid; fields are set below.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = mode.into();
    how.resolve = resolve;
    // EAGAIN: a rename or mount raced with the walk, and the kernel could not prove that it stayed inside.
    let mut tries = 0;
    loop {
        // SAFETY: `path` is NUL-terminated, `how` is struct open_how and its size goes with it.
        let ret = unsafe {
            libc::syscall(libc::SYS_openat2, dir.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<libc::open_how>())
        };
        match owned(ret) {
            Err(Errno::EAGAIN | Errno::EINTR) if tries < 128 => tries += 1,
            other => return other,
        }
    }
}

/// Opens `path` inside `root`: links are followed, but never out of it. `resolve` adds `RESOLVE_*` restrictions.
pub fn open(root: BorrowedFd<'_>, path: &CStr, flags: i32, resolve: u64) -> nix::Result<OwnedFd> {
    openat2(root, path, flags, 0, IN_ROOT | NO_MAGICLINKS | resolve)
}

/// Opens `path` below `root` without links or mounts: for files of procfs and cgroupfs.
pub fn open_beneath(root: BorrowedFd<'_>, path: &CStr, flags: i32, resolve: u64) -> nix::Result<OwnedFd> {
    openat2(root, path, flags, 0, BENEATH | NO_MAGICLINKS | NO_SYMLINKS | resolve)
}

/// A path under construction, NUL-terminated, on the stack.
struct Buffer {
    bytes: [u8; libc::PATH_MAX as usize],
    len: usize,
}

impl Buffer {
    fn from(path: &[u8]) -> nix::Result<Self> {
        let mut buffer = Self { bytes: [0; libc::PATH_MAX as usize], len: 0 };
        buffer.push(path)?;
        Ok(buffer)
    }

    fn push(&mut self, more: &[u8]) -> nix::Result<()> {
        let end = self.len + more.len();
        // One byte stays for the NUL.
        if end >= self.bytes.len() {
            return Err(Errno::ENAMETOOLONG);
        }
        self.bytes.get_mut(self.len..end).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(more);
        self.len = end;
        if let Some(nul) = self.bytes.get_mut(end) {
            *nul = 0;
        }
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn c_str(&self) -> nix::Result<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).map_err(|_| Errno::EINVAL)
    }
}

/// Splits off the last component: (`/a/b`, `c`) of `/a/b/c`.
fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|&c| c != b'/').map_or(0, |i| i + 1);
    let path = path.get(..end).unwrap_or_default();
    let cut = path.iter().rposition(|&c| c == b'/');
    match cut {
        Some(i) => (path.get(..i).unwrap_or_default(), path.get(i + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

/// Opens `path` inside `root` with `O_PATH`; what is missing is made first: parents as directories, the last component
/// as `make` says. A dangling link on the way is followed inside the root and its target made, as engines' users expect
/// of `/var/run -> /run`.
pub fn ensure(root: BorrowedFd<'_>, path: &CStr, make: Make) -> nix::Result<OwnedFd> {
    match open(root, path, libc::O_PATH, 0) {
        Err(Errno::ENOENT) => make_missing(root, path, make),
        other => other,
    }
}

/// Apart from [`ensure`], so that its buffers take no memory where nothing is missing: the container is charged for it.
#[inline(never)]
fn make_missing(root: BorrowedFd<'_>, path: &CStr, make: Make) -> nix::Result<OwnedFd> {
    let mut path = Buffer::from(path.to_bytes())?;
    for _ in 0..MAX_LINKS {
        match ensure_step(root, &path, make)? {
            Walk::Done(fd) => return Ok(fd),
            Walk::Again(next) => path = next,
        }
        match open(root, path.c_str()?, libc::O_PATH, 0) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
    }
    Err(Errno::ELOOP)
}

#[allow(clippy::large_enum_variant)] // on the stack, between clone and exec
enum Walk {
    Done(OwnedFd),
    /// A dangling link was met: the same walk, with the link's target in its place.
    Again(Buffer),
}

fn ensure_step(root: BorrowedFd<'_>, path: &Buffer, make: Make) -> nix::Result<Walk> {
    // The longest prefix that is there.
    let mut have = path.bytes();
    let mut dir = loop {
        have = split_last(have).0;
        if have.is_empty() {
            break open(root, c".", libc::O_PATH | libc::O_DIRECTORY, 0)?;
        }
        let prefix = Buffer::from(have)?;
        match open(root, prefix.c_str()?, libc::O_PATH | libc::O_DIRECTORY, 0) {
            Err(Errno::ENOENT) => {}
            other => break other?,
        }
    };
    let mut at = have.len();
    loop {
        let rest = path.bytes().get(at..).unwrap_or_default();
        let skip = rest.iter().take_while(|&&c| c == b'/').count();
        let rest = rest.get(skip..).unwrap_or_default();
        let len = rest.iter().position(|&c| c == b'/').unwrap_or(rest.len());
        let name = rest.get(..len).unwrap_or_default();
        if name.is_empty() {
            return Ok(Walk::Done(dir));
        }
        // `..` of a directory that was not there a moment ago means a race or a hostile link.
        if name == b".." {
            return Err(Errno::ENOENT);
        }
        let start = at + skip;
        at = start + len;
        let tail = path.bytes().get(at..).unwrap_or_default();
        let last = tail.iter().all(|&c| c == b'/');
        let kind = if last { make } else { Make::Dir };
        let component = Name::new(name)?;
        match make_one(dir.as_fd(), component.c_str()?, kind)? {
            Some(fd) => dir = fd,
            None => {
                let parent = path.bytes().get(..start).unwrap_or_default();
                return follow(dir.as_fd(), component.c_str()?, parent, tail).map(Walk::Again);
            }
        }
        if last {
            return Ok(Walk::Done(dir));
        }
    }
}

/// Makes and opens one component. `None`: a link is in the way.
fn make_one(dir: BorrowedFd<'_>, name: &CStr, make: Make) -> nix::Result<Option<OwnedFd>> {
    let resolve = BENEATH | NO_SYMLINKS | NO_MAGICLINKS;
    let opened = match make {
        Make::Dir => {
            match fs::mkdir(dir, name, 0o755) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e),
            }
            openat2(dir, name, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0, resolve)
        }
        Make::File => {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY;
            match openat2(dir, name, flags, 0o755, resolve) {
                Ok(_) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e),
            }
            // O_PATH with O_NOFOLLOW opens a link itself, whatever RESOLVE_NO_SYMLINKS says (openat2(2)).
            openat2(dir, name, libc::O_PATH | libc::O_NOFOLLOW, 0, resolve)
        }
    };
    match opened {
        Ok(_) if make == Make::File && is_link(dir, name) => Ok(None),
        Ok(fd) => Ok(Some(fd)),
        // RESOLVE_NO_SYMLINKS answers ELOOP at a link; O_DIRECTORY with O_NOFOLLOW answers ENOTDIR at one.
        Err(Errno::ELOOP | Errno::ENOTDIR) if is_link(dir, name) => Ok(None),
        Err(e) => Err(e),
    }
}

fn is_link(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    fs::readlink(dir, name, &mut [0; 1]).is_ok()
}

/// `parent/link/tail` with the link's target in its place.
fn follow(dir: BorrowedFd<'_>, name: &CStr, parent: &[u8], tail: &[u8]) -> nix::Result<Buffer> {
    let mut target = [0u8; libc::PATH_MAX as usize];
    let n = fs::readlink(dir, name, &mut target)?;
    let target = target.get(..n).unwrap_or_default();
    let mut path = Buffer::from(if target.first() == Some(&b'/') { b"" } else { parent })?;
    path.push(b"/")?;
    path.push(target)?;
    path.push(tail)?;
    Ok(path)
}

/// The directory of `path` and its last component, NUL-terminated.
pub fn split(path: &CStr) -> nix::Result<(&[u8], Name)> {
    let (parent, last) = split_last(path.to_bytes());
    if last.is_empty() || last == b"." || last == b".." {
        return Err(Errno::EINVAL);
    }
    Ok((if parent.is_empty() { b"/" } else { parent }, Name::new(last)?))
}

/// Makes one new directory in `dir` and opens it, on the same mount; nothing when the name is taken.
pub fn new_directory(dir: BorrowedFd<'_>, name: &CStr) -> nix::Result<Option<OwnedFd>> {
    match fs::mkdir(dir, name, 0o755) {
        Ok(()) => open_beneath(dir, name, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, NO_XDEV).map(Some),
        Err(Errno::EEXIST) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens a directory inside `root`, made where it is missing.
pub fn ensure_directory(root: BorrowedFd<'_>, path: &[u8]) -> nix::Result<OwnedFd> {
    // Almost every path is as short as a name may be.
    match Name::new(path) {
        Ok(short) => ensure(root, short.c_str()?, Make::Dir),
        Err(_) => ensure_long(root, path),
    }
}

/// Apart, for the size of its buffer.
#[inline(never)]
fn ensure_long(root: BorrowedFd<'_>, path: &[u8]) -> nix::Result<OwnedFd> {
    ensure(root, Buffer::from(path)?.c_str()?, Make::Dir)
}

/// One path component, NUL-terminated.
pub struct Name([u8; NAME_MAX + 1]);

const NAME_MAX: usize = 255;

impl Name {
    fn new(bytes: &[u8]) -> nix::Result<Self> {
        let mut name = [0; NAME_MAX + 1];
        name.get_mut(..bytes.len()).filter(|_| bytes.len() <= NAME_MAX).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(bytes);
        Ok(Self(name))
    }

    /// The component as a C string.
    pub fn c_str(&self) -> nix::Result<&CStr> {
        CStr::from_bytes_until_nul(&self.0).map_err(|_| Errno::EINVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap().into();
        (dir, fd)
    }

    #[test]
    fn makes_what_is_missing_inside() {
        let (dir, fd) = root();
        ensure(fd.as_fd(), c"/a/b/c", Make::File).unwrap();
        assert!(dir.path().join("a/b/c").is_file());
        ensure(fd.as_fd(), c"a//b/d/", Make::Dir).unwrap();
        assert!(dir.path().join("a/b/d").is_dir());
    }

    #[test]
    fn a_dangling_absolute_link_lands_inside() {
        let (dir, fd) = root();
        std::fs::create_dir(dir.path().join("var")).unwrap();
        symlink("/run", dir.path().join("var/run")).unwrap();
        ensure(fd.as_fd(), c"/var/run/secrets/x", Make::File).unwrap();
        assert!(dir.path().join("run/secrets/x").is_file());
    }

    #[test]
    fn a_dangling_link_at_the_end_is_followed() {
        let (dir, fd) = root();
        symlink("/jump/hosts", dir.path().join("hosts")).unwrap();
        symlink("/tmp/a", dir.path().join("jump")).unwrap();
        ensure(fd.as_fd(), c"/hosts", Make::File).unwrap();
        assert!(dir.path().join("tmp/a/hosts").is_file());
    }

    #[test]
    fn a_relative_link_upwards_cannot_leave() {
        let (dir, fd) = root();
        let outside = tempfile::tempdir().unwrap();
        let up = format!("{}{}", "../".repeat(40), outside.path().display());
        symlink(up.trim_end_matches('/'), dir.path().join("l")).unwrap();
        // The link's target does not exist inside; it is made inside or refused, never outside.
        let _ = ensure(fd.as_fd(), c"/l/canary", Make::File);
        assert!(!outside.path().join("canary").exists());
    }

    #[test]
    fn a_loop_of_links_ends() {
        let (dir, fd) = root();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert_eq!(ensure(fd.as_fd(), c"/a/x", Make::Dir).unwrap_err(), Errno::ELOOP);
    }

    #[test]
    fn splits_paths() {
        assert_eq!(split_last(b"/a/b/c//"), (&b"/a/b"[..], &b"c"[..]));
        assert_eq!(split_last(b"a"), (&b""[..], &b"a"[..]));
        assert_eq!(split_last(b"/"), (&b""[..], &b""[..]));
    }
}
