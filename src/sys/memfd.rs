//! Memory files: making, filling and sealing one, and executing a descriptor. For [`crate::seal`], before any container
//! exists; allocation is allowed here.

use super::check;
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `MFD_EXEC`: 6.3+, asks for a file that may be executed, whatever `vm.memfd_noexec` 1 says; EINVAL before.
const MFD_EXEC: libc::c_uint = 0x10;
/// `F_SEAL_EXEC`: 6.3+, the mode can no longer be changed; EINVAL before.
const F_SEAL_EXEC: libc::c_int = 0x20;

/// The seals that make the contents final.
const CONTENT: libc::c_int = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;

/// Makes an empty memory file that may be sealed and executed.
///
/// # Errors
/// EACCES where `vm.memfd_noexec` is 2.
pub fn create(name: &CStr) -> nix::Result<OwnedFd> {
    let base = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    match raw_create(name, base | MFD_EXEC) {
        Err(Errno::EINVAL) => raw_create(name, base),
        other => other,
    }
}

fn raw_create(name: &CStr, flags: libc::c_uint) -> nix::Result<OwnedFd> {
    // SAFETY: `name` ends with NUL and lives through the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), flags) })?;
    let fd = libc::c_int::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How often a file is sealed whose pages somebody holds: the kernel waits for them each time, 150 ms.
const TRIES: u32 = 20;

/// Makes contents and mode of a memory file final. The mode stays changeable before Linux 6.3.
///
/// # Errors
/// EBUSY if some of its pages are held for seconds. On a busy machine the kernel itself holds one for longer than it waits
/// (mm/memfd.c): it moves pages about.
pub fn seal(fd: BorrowedFd<'_>) -> nix::Result<()> {
    match add_seals(fd, CONTENT | F_SEAL_EXEC) {
        Err(Errno::EINVAL) => add_seals(fd, CONTENT),
        other => other,
    }
}

fn add_seals(fd: BorrowedFd<'_>, seals: libc::c_int) -> nix::Result<()> {
    let mut tries = 1;
    loop {
        // SAFETY: F_ADD_SEALS takes an int and touches no memory of ours.
        match check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into()) {
            Err(Errno::EBUSY) if tries < TRIES => tries += 1,
            other => return other.map(drop),
        }
    }
}

/// Whether the contents of a file are final. A file that cannot have seals has none.
pub fn is_sealed(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: F_GET_SEALS takes no argument and touches no memory of ours.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    seals != -1 && seals & CONTENT == CONTENT
}

/// Copies up to `count` bytes from the offset of `from` to that of `to`, inside the kernel. Returns how many; 0 at the end.
pub fn send(to: BorrowedFd<'_>, from: BorrowedFd<'_>, count: usize) -> nix::Result<usize> {
    // SAFETY: both descriptors are open; the null offset makes the kernel use that of the file.
    let n = check(unsafe { libc::syscall(libc::SYS_sendfile, to.as_raw_fd(), from.as_raw_fd(), 0usize, count) })?;
    usize::try_from(n).map_err(|_| Errno::EIO)
}

unsafe extern "C" {
    /// environ(7).
    static environ: *const *const libc::c_char;
}

/// Executes the program behind `fd` with the caller's environment. Returns only on failure.
pub fn exec(fd: BorrowedFd<'_>, argv: &[CString]) -> Errno {
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|a| a.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: `pointers` and the strings behind it end with null and outlive the call; `environ` is the C library's own
    // list, and there is no other thread that could change it.
    unsafe {
        libc::syscall(libc::SYS_execveat, fd.as_raw_fd(), c"".as_ptr(), pointers.as_ptr(), environ, libc::AT_EMPTY_PATH);
    }
    Errno::last()
}

/// Sets the name of the calling thread that `ps` and `/proc/PID/comm` show, at most 15 bytes.
pub fn set_process_name(name: &CStr) {
    // SAFETY: `name` ends with NUL; the kernel copies at most 16 bytes of it. The call cannot fail with a readable name.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn a_sealed_file_is_final() {
        let mut file = File::from(create(c"test").unwrap());
        file.write_all(b"one").unwrap();
        assert!(!is_sealed(file.as_fd()));
        seal(file.as_fd()).unwrap();
        assert!(is_sealed(file.as_fd()));
        assert_eq!(file.write(b"two").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(file.set_len(0).is_err());
    }

    #[test]
    fn a_file_is_sealed_once_nobody_holds_its_pages() {
        let mut file = File::from(create(c"test").unwrap());
        file.write_all(&[7; 4096]).unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut start = 0;
        // SAFETY: both descriptors are open and `start` is ours; the pipe then holds the file's own page.
        let moved = unsafe { libc::splice(file.as_raw_fd(), &raw mut start, writer.as_raw_fd(), std::ptr::null_mut(), 4096, 0) };
        assert_eq!(moved, 4096);
        let holder = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(500));
            std::io::Read::read_exact(&mut reader, &mut [0; 4096]).unwrap();
        });
        seal(file.as_fd()).unwrap();
        assert!(is_sealed(file.as_fd()));
        holder.join().unwrap();
    }

    #[test]
    fn an_ordinary_file_is_not_sealed() {
        assert!(!is_sealed(tempfile::tempfile().unwrap().as_fd()));
    }
}
