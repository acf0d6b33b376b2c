//! Small file calls between clone and exec: open, read, write, stat, make, on descriptors and C strings.

use super::{check, owned};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The working directory, where a call wants a directory descriptor.
pub fn cwd() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is not a descriptor that can be closed; every *at call takes it.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

/// Standard input, output or error (0..=2) as a descriptor to look at; it may be closed.
pub fn stdio(n: i32) -> BorrowedFd<'static> {
    debug_assert!((0..=2).contains(&n));
    // SAFETY: only ever passed to calls that answer EBADF when it is closed; nothing here closes 0, 1, 2.
    unsafe { BorrowedFd::borrow_raw(n) }
}

/// All three. Not by std's own handles, which take memory to read and write with.
pub fn streams() -> [BorrowedFd<'static>; 3] {
    [0, 1, 2].map(stdio)
}

/// openat(2), always close-on-exec.
pub fn open(dir: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32) -> nix::Result<OwnedFd> {
    loop {
        // SAFETY: `path` is a NUL-terminated string.
        match owned(unsafe { libc::syscall(libc::SYS_openat, dir.as_raw_fd(), path.as_ptr(), flags | libc::O_CLOEXEC, mode) }) {
            // File systems on a network answer so.
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Reads until the buffer is full or the file ends.
pub fn read_full(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|r| !r.is_empty()) {
        match nix::unistd::read(fd, rest) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Reads a small file of procfs, sysfs or cgroupfs, which hands out its text whole: a read that does not fill the buffer
/// has reached its end.
pub fn read_small(dir: BorrowedFd<'_>, path: &CStr) -> nix::Result<String> {
    String::from_utf8(read_whole(&open(dir, path, libc::O_RDONLY, 0)?)?).map_err(|_| Errno::EILSEQ)
}

fn read_whole(file: &OwnedFd) -> nix::Result<Vec<u8>> {
    const USUAL: usize = (2 << 10) - super::heap::HEADER - 1;
    read_file(file.as_fd(), USUAL, usize::MAX - 1)
}

/// How a small file is read by its path: [`glance`], or [`read_closed`] where a process of the container is to be cloned yet.
/// Its bytes: those of a process hold what the process calls itself.
pub type Read = fn(&CStr) -> nix::Result<Vec<u8>>;

/// [`read_small`] by a path alone.
pub fn read_closed(path: &CStr) -> nix::Result<Vec<u8>> {
    read_whole(&open(cwd(), path, libc::O_RDONLY, 0)?)
}

/// The same, and [`leave`]s the file: for commands that ask a few things and end.
pub fn glance(path: &CStr) -> nix::Result<Vec<u8>> {
    let file = open(cwd(), path, libc::O_RDONLY, 0)?;
    let bytes = read_whole(&file);
    leave(file);
    bytes
}

/// Reads a file of any length that the kernel hands out in pieces, such as the list of processes in cgroup.procs: there a
/// read may end early at the end of a line.
pub fn read_list(dir: BorrowedFd<'_>, path: &CStr) -> nix::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::from(open(dir, path, libc::O_RDONLY, 0)?).read_to_string(&mut text);
    read.map(|_| text).map_err(|e| e.raw_os_error().map_or(Errno::EILSEQ, Errno::from_raw))
}

/// Reads a regular file up to `max` bytes and one more, which tells that it is longer; `expected` is a guess at its size.
/// There a read that does not fill the buffer has reached the end.
pub fn read_file(fd: BorrowedFd<'_>, expected: usize, max: usize) -> nix::Result<Vec<u8>> {
    let mut bytes = vec![0; expected.min(max).saturating_add(1)];
    let len = read_into(fd, &mut bytes, max)?;
    bytes.truncate(len);
    Ok(bytes)
}

/// The same into a buffer, which grows if need be and is not empty; the number of bytes.
fn read_into(fd: BorrowedFd<'_>, bytes: &mut Vec<u8>, max: usize) -> nix::Result<usize> {
    let mut len = 0;
    loop {
        len += read_once(fd, bytes.get_mut(len..).unwrap_or_default())?;
        if len < bytes.len() || len > max {
            return Ok(len);
        }
        bytes.resize(bytes.len().saturating_mul(2).min(max.saturating_add(1)), 0);
    }
}

/// Opens and reads one small file after another, all in the same memory: for a look at many containers.
pub struct Reader {
    path: Vec<u8>,
    bytes: Vec<u8>,
    /// The directory above the last one that was named by its path.
    parent: Option<(String, OwnedFd)>,
}

impl Reader {
    /// One that has read nothing yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { path: Vec::new(), bytes: vec![0; 2048], parent: None }
    }

    /// openat(2) of the path that the parts make together.
    pub fn open(&mut self, dir: BorrowedFd<'_>, path: &[&str], flags: i32) -> nix::Result<OwnedFd> {
        open_parts(&mut self.path, dir, path, flags)
    }

    /// What is in that file, closed again: to open the next is quicker then than to leave hundreds open. Up to `max` bytes and
    /// one more, as [`read_file`].
    pub fn read(&mut self, dir: BorrowedFd<'_>, path: &[&str], flags: i32, max: usize) -> nix::Result<&[u8]> {
        let file = self.open(dir, path, flags)?;
        let len = read_into(file.as_fd(), &mut self.bytes, max)?;
        Ok(self.bytes.get(..len).unwrap_or_default())
    }

    /// The same of a file in a directory that is given by its whole path. What is above that is looked up once for all that
    /// lie side by side.
    pub fn read_in(&mut self, directory: &str, name: &str, max: usize) -> nix::Result<&[u8]> {
        let (above, last) = directory.rsplit_once('/').ok_or(Errno::EINVAL)?;
        if self.parent.as_ref().is_none_or(|(path, _)| path != above) {
            let parent = self.open(cwd(), &[above, "/"], libc::O_PATH | libc::O_DIRECTORY)?;
            self.parent = Some((above.into(), parent));
        }
        let parent = self.parent.as_ref().map_or(cwd(), |(_, parent)| parent.as_fd());
        let file = open_parts(&mut self.path, parent, &[last, "/", name], libc::O_RDONLY)?;
        let len = read_into(file.as_fd(), &mut self.bytes, max)?;
        Ok(self.bytes.get(..len).unwrap_or_default())
    }
}

fn open_parts(path: &mut Vec<u8>, dir: BorrowedFd<'_>, parts: &[&str], flags: i32) -> nix::Result<OwnedFd> {
    path.clear();
    parts.iter().for_each(|part| path.extend_from_slice(part.as_bytes()));
    path.push(0);
    open(dir, CStr::from_bytes_with_nul(path).map_err(|_| Errno::EINVAL)?, flags, 0)
}

/// read(2), again where a signal comes in between.
pub fn read_once(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<usize> {
    loop {
        match nix::unistd::read(fd, buffer) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Lets go of a descriptor that is not needed any more, without a call: it is closed with all others by the end of this
/// process, by exec, or by one call for all. Closed at once only where there are so many that the limit of open files could
/// be met.
pub fn leave(fd: OwnedFd) {
    const FEW: i32 = 256;
    if fd.as_raw_fd() < FEW {
        std::mem::forget(fd);
    }
}

/// Writes all of `data`.
pub fn write_all(fd: BorrowedFd<'_>, mut data: &[u8]) -> nix::Result<()> {
    while !data.is_empty() {
        match nix::unistd::write(fd, data) {
            Ok(n) => data = data.get(n..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// fstat(2); works on `O_PATH` descriptors.
pub fn stat(fd: BorrowedFd<'_>) -> nix::Result<libc::stat> {
    // SAFETY: an all-zero stat is a valid value to be written over.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `st` is a stat buffer of our own.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut st) }.into())?;
    Ok(st)
}

/// statx(2) of an open file. What `mask` asks for must be there: `STATX_MNT_ID` is of Linux 5.8.
///
/// # Errors
/// Those of statx(2); EOPNOTSUPP when the kernel has not given all of it.
pub fn statx(fd: BorrowedFd<'_>, mask: u32) -> nix::Result<libc::statx> {
    // SAFETY: an all-zero statx is a valid value to be written over.
    let mut st: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: an empty path and a statx buffer of our own.
    let called = unsafe { libc::syscall(libc::SYS_statx, fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, mask, &raw mut st) };
    check(called)?;
    if st.stx_mask & mask == mask { Ok(st) } else { Err(Errno::EOPNOTSUPP) }
}

/// Whether `path` is a directory (stat(2), links followed).
pub fn is_directory(path: &CStr) -> nix::Result<bool> {
    // SAFETY: an all-zero stat is a valid value to be written over.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a NUL-terminated path and a stat buffer of our own.
    check(unsafe { libc::fstatat(libc::AT_FDCWD, path.as_ptr(), &raw mut st, 0) }.into())?;
    Ok(kind(st.st_mode) == libc::S_IFDIR)
}

/// The magic number of the file system that `fd` lies on (statfs(2)).
pub fn magic(fd: BorrowedFd<'_>) -> nix::Result<i64> {
    // SAFETY: an all-zero statfs is a valid value to be written over.
    let mut st: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `st` is a statfs buffer of our own.
    check(unsafe { libc::fstatfs(fd.as_raw_fd(), &raw mut st) }.into())?;
    #[allow(clippy::useless_conversion)] // its type differs by architecture and C library
    i64::try_from(st.f_type).map_err(|_| Errno::EOVERFLOW)
}

/// `PROC_SUPER_MAGIC`.
pub const PROC_MAGIC: i64 = 0x9fa0;

/// The kind bits of a mode.
pub fn kind(mode: u32) -> u32 {
    mode & libc::S_IFMT
}

/// mkdirat(2).
pub fn mkdir(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> nix::Result<()> {
    // SAFETY: `name` is a NUL-terminated string.
    check(unsafe { libc::syscall(libc::SYS_mkdirat, dir.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

/// mknodat(2); `mode` has the kind bits.
pub fn mknod(dir: BorrowedFd<'_>, name: &CStr, mode: u32, dev: u64) -> nix::Result<()> {
    // SAFETY: `name` is a NUL-terminated string.
    check(unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, dev) }.into()).map(drop)
}

/// symlinkat(2).
pub fn symlink(target: &CStr, dir: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    // SAFETY: both are NUL-terminated strings.
    check(unsafe { libc::syscall(libc::SYS_symlinkat, target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// unlinkat(2); with `directory`, rmdir.
pub fn unlink(dir: BorrowedFd<'_>, name: &CStr, directory: bool) -> nix::Result<()> {
    let flags = if directory { libc::AT_REMOVEDIR } else { 0 };
    // SAFETY: `name` is a NUL-terminated string.
    check(unsafe { libc::syscall(libc::SYS_unlinkat, dir.as_raw_fd(), name.as_ptr(), flags) }).map(drop)
}

/// readlinkat(2) into `buffer`; the number of bytes.
pub fn readlink(dir: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> nix::Result<usize> {
    // SAFETY: `name` is NUL-terminated, `buffer` is ours and its length goes with it.
    let n =
        check(unsafe { libc::syscall(libc::SYS_readlinkat, dir.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr(), buffer.len()) })?;
    usize::try_from(n).map_err(|_| Errno::EINVAL)
}

/// fchmod(2) on a descriptor that is open for reading.
pub fn chmod(fd: BorrowedFd<'_>, mode: u32) -> nix::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) }.into()).map(drop)
}

/// fchmodat(2) on one name in a directory of our own (follows a symlink: the caller has just made the node).
pub fn chmod_at(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> nix::Result<()> {
    // SAFETY: `name` is a NUL-terminated string.
    check(unsafe { libc::syscall(libc::SYS_fchmodat, dir.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

/// fchownat(2) without following a link; an empty name stands for the descriptor itself.
pub fn chown_at(dir: BorrowedFd<'_>, name: &CStr, uid: u32, gid: u32) -> nix::Result<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    // SAFETY: `name` is a NUL-terminated string.
    check(unsafe { libc::syscall(libc::SYS_fchownat, dir.as_raw_fd(), name.as_ptr(), uid, gid, flags) }).map(drop)
}

/// faccessat(2) for execution, with the effective ids (Linux 5.8 for the flag).
pub fn executable(dir: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    // SAFETY: `name` is a NUL-terminated string.
    check(unsafe { libc::syscall(libc::SYS_faccessat2, dir.as_raw_fd(), name.as_ptr(), libc::X_OK, libc::AT_EACCESS) }).map(drop)
}

/// fchdir(2).
pub fn chdir_fd(fd: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::fchdir(fd.as_raw_fd()) }.into()).map(drop)
}

/// chdir(2).
pub fn chdir(path: &CStr) -> nix::Result<()> {
    // SAFETY: `path` is a NUL-terminated string.
    check(unsafe { libc::chdir(path.as_ptr()) }.into()).map(drop)
}

/// chroot(2) to the working directory.
pub fn chroot_here() -> nix::Result<()> {
    // SAFETY: static string.
    check(unsafe { libc::chroot(c".".as_ptr()) }.into()).map(drop)
}

/// True when the working directory lies below the root: the kernel answers `(unreachable)...` when it does not
/// (CVE-2024-21626). ERANGE means a path longer than the buffer, which starts at the root all the same or not.
pub fn cwd_is_inside() -> nix::Result<bool> {
    // Little, for the container is charged for it.
    match starts_at_the_root::<256>() {
        Err(Errno::ERANGE) => starts_at_the_root::<4096>(),
        other => other,
    }
}

#[inline(never)] // for the size of its buffer
fn starts_at_the_root<const SIZE: usize>() -> nix::Result<bool> {
    let mut buffer = [0u8; SIZE];
    // SAFETY: `buffer` is ours and its length goes with it.
    let n = check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(n > 1 && buffer.first() == Some(&b'/'))
}

/// dup3(2) onto 0, 1 or 2, without close-on-exec: for standard streams only.
pub fn become_stdio(fd: BorrowedFd<'_>, n: i32) -> nix::Result<()> {
    debug_assert!((0..=2).contains(&n));
    // SAFETY: integers only; 0..=2 are owned by nobody in this process.
    check(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), n, 0) }).map(drop)
}

/// F_SETFL: `O_APPEND`, `O_NONBLOCK` and the like of an open file description (fcntl(2)).
pub fn set_status_flags(fd: BorrowedFd<'_>, flags: i32) -> nix::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }.into()).map(drop)
}

/// The same as [`stat`] of a standard stream, 0 to 2, which may be closed (EBADF).
pub fn stat_stdio(n: i32) -> nix::Result<libc::stat> {
    // SAFETY: an all-zero stat is a valid value to be written over.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `st` is a stat buffer of our own.
    check(unsafe { libc::fstat(n, &raw mut st) }.into())?;
    Ok(st)
}

/// Marks every descriptor from `first` on close-on-exec (Linux 5.11).
pub fn cloexec_from(first: u32) -> nix::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: integers only; no descriptor is closed before exec.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes all descriptors from `first` to `last`, both included. The caller answers for the owners of their numbers: only
/// for a process that will use none of them again.
pub fn close_between(first: u32, last: u32) -> nix::Result<()> {
    // SAFETY: integers only. Owned descriptors whose numbers are closed here are forgotten by the one caller.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// flock(2): `LOCK_EX`, `LOCK_SH` or `LOCK_UN`. The lock is the open file's: a child that inherits it holds it too.
pub fn lock(fd: BorrowedFd<'_>, how: i32) -> nix::Result<()> {
    loop {
        // SAFETY: integers only.
        match check(unsafe { libc::flock(fd.as_raw_fd(), how) }.into()) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Whether a descriptor of that number is open and came from our caller: all that we open is close-on-exec, which nothing
/// that came through an exec is.
pub fn is_inherited(number: i32) -> bool {
    // SAFETY: integers only; F_GETFD changes nothing.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}

/// Takes a descriptor that our caller left open (3 or higher, as an argument names it) as our own. EBADF if it is not open.
pub fn take_inherited(number: i32) -> nix::Result<OwnedFd> {
    // SAFETY: integers only; F_GETFD changes nothing.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if number < 3 || flags == -1 {
        return Err(Errno::EBADF);
    }
    owned(libc::c_long::from(number))
}
