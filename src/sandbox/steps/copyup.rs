//! `tmpcopyup`: fills a new tmpfs with what the directory that it will cover holds. Between clone and exec, so without
//! allocation: getdents into a buffer on the stack, one level of recursion a directory, all by descriptor.

use crate::sandbox::child::{Call, Fail};
use crate::sys::{dirent, fs, inroot, xattr};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

/// Directories below each other; each level takes some 10 KiB of stack.
const MAX_DEPTH: u32 = 64;

/// Copies the content, mode and owner of the directory `from` to the directory `to`.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Fail> {
    // Both were opened with O_PATH.
    let from = fs::open(from, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0).call("openat")?;
    let to = fs::open(to, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0).call("openat")?;
    directory(from.as_fd(), to.as_fd(), 0)
}

fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<(), Fail> {
    if depth > MAX_DEPTH {
        return Err(Fail::call("mkdirat", Errno::ELOOP));
    }
    let st = fs::stat(from).call("fstat")?;
    fs::chown_at(to, c"", st.st_uid, st.st_gid).call("fchownat")?;
    fs::chmod(to, st.st_mode & 0o7777).call("fchmod")?;
    xattr::copy(from, to).call("fsetxattr")?;
    let mut buffer = dirent::Buffer::new();
    loop {
        let entries = buffer.read(from).call("getdents64")?;
        if entries.is_empty() {
            return Ok(());
        }
        for (name, _) in entries {
            if name != c"." && name != c".." {
                entry(from, to, name, depth)?;
            }
        }
    }
}

fn entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<(), Fail> {
    let node = inroot::open_beneath(from, name, libc::O_PATH | libc::O_NOFOLLOW, 0).call("openat2")?;
    let st = fs::stat(node.as_fd()).call("fstat")?;
    let permissions = st.st_mode & 0o7777;
    match fs::kind(st.st_mode) {
        libc::S_IFDIR => {
            fs::mkdir(to, name, permissions).call("mkdirat")?;
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            let source = inroot::open_beneath(from, name, flags, 0).call("openat2")?;
            let made = inroot::open_beneath(to, name, flags, 0).call("openat2")?;
            return directory(source.as_fd(), made.as_fd(), depth + 1);
        }
        libc::S_IFREG => {
            let source = inroot::open_beneath(from, name, libc::O_RDONLY | libc::O_NOFOLLOW, 0).call("openat2")?;
            let made =
                fs::open(to, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW, 0o600).call("openat")?;
            content(source.as_fd(), made.as_fd())?;
            fs::chown_at(made.as_fd(), c"", st.st_uid, st.st_gid).call("fchownat")?;
            fs::chmod(made.as_fd(), permissions).call("fchmod")?;
            return xattr::copy(source.as_fd(), made.as_fd()).call("fsetxattr");
        }
        libc::S_IFLNK => {
            let mut buffer = [0u8; libc::PATH_MAX as usize];
            let room = buffer.len() - 1;
            fs::readlink(from, name, buffer.get_mut(..room).unwrap_or_default()).call("readlinkat")?;
            let target = CStr::from_bytes_until_nul(&buffer).map_err(|_| Fail::call("readlinkat", Errno::ENAMETOOLONG))?;
            fs::symlink(target, to, name).call("symlinkat")?;
        }
        _ => fs::mknod(to, name, st.st_mode, st.st_rdev).call("mknodat")?,
    }
    fs::chown_at(to, name, st.st_uid, st.st_gid).call("fchownat")
}

fn content(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Fail> {
    let mut buffer = [0u8; 8192];
    loop {
        let n = fs::read_full(from, &mut buffer).call("read")?;
        if n == 0 {
            return Ok(());
        }
        fs::write_all(to, buffer.get(..n).unwrap_or_default()).call("write")?;
    }
}
