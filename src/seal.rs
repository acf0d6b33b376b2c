//! The host's binary kept out of containers: before any process of this program is inside one, it runs from something else.
//!
//! A process of ours inside a container can be looked at from there: through `/proc/PID/exe` the host's binary can be
//! opened and, once it is no longer busy, overwritten (CVE-2019-5736). A link to a bind mount or an overlay of it would not
//! do: what is opened there shares the page cache with the host's file, which kernel faults of the Dirty Pipe kind write to
//! (CVE-2022-0847).
//!
//! Three ways, the first that works. All are paid for by the caller's memory cgroup, not by the container's.
//!
//! 1. The exe link goes to an empty sealed memory file ([`exe`]). The program stays mapped by a path that nobody else can
//!    open; with `CAP_CHECKPOINT_RESTORE` but not `CAP_SYS_ADMIN` in the caller's user namespace, it moves into anonymous
//!    memory.
//! 2. The binary is copied into a memory file, the file is sealed, and the program starts again from it, with the same
//!    arguments and environment. Much dearer: the copy, an exec, a second start of the C library.
//! 3. Where `vm.memfd_noexec` forbids executable memory files, the copy is an unlinked file in the directory of container
//!    state. It can be written after our exit, but it is not the host's binary, and nothing ever runs from it again.

use crate::error::{Context, Error, Result};
use crate::sys::{auxv, exe, memfd, start};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Mode of the copy. With no link to the file it also tells our own unlinked copy from the host's binary: a binary that
/// was removed while it ran keeps the mode that it was installed with.
const MODE: u32 = 0o511;

const NO_MEMFD: &str = "vm.memfd_noexec forbids a memory file; --root must be where O_TMPFILE and execution are allowed then";

const OWN_BINARY: &str = "/proc/self/exe";

/// That nothing of this process leads to the host's binary: without it no process is cloned into a container.
///
/// Until it is dropped it holds the mount that the program's file is on, if that got one. Who has its descriptor can change
/// the mount, so that it is to be closed before there is a process in a container; the kernel takes some 50 microseconds for that.
#[must_use]
pub struct Sealed {
    _mount: Option<OwnedFd>,
}

/// What [`begin`] has come to.
static BEGUN: Mutex<Option<nix::Result<Sealed>>> = Mutex::new(None);

/// Tries the first way at once, for a command that will ask for it anyway: whatever is looked at of the program's file before is
/// mapped a second time after it. A failure is [`ensure`]'s to tell.
pub fn begin() {
    if !may_be_a_copy()
        && let Ok(mut begun) = BEGUN.lock()
    {
        *begun = Some(step_out_of_the_binary());
    }
}

/// A copy of ours is executed by its descriptor.
fn may_be_a_copy() -> bool {
    auxv::executed_name().is_none_or(|name| name.to_bytes().starts_with(b"/dev/fd/"))
}

/// Returns when nothing of this process leads to the host's binary any more. That may take starting the program again, from
/// its beginning: then this does not return, unless it fails, and nothing that lasts may have been done before. `state_root` tells
/// where an unlinked copy may go; it need not exist. The process must have one thread, or beside it
/// such a one as [`crate::sys::netns`] starts.
///
/// # Errors
/// `/proc` is not there, or no way is open. The container must not be made then.
pub fn ensure(state_root: impl FnOnce() -> Result<PathBuf>) -> Result<Sealed> {
    let begun = BEGUN.lock().ok().and_then(|mut begun| begun.take());
    if let Some(Ok(sealed)) = begun {
        return Ok(sealed);
    }
    let open = || File::open(OWN_BINARY).step("open", || format!("open {OWN_BINARY}"));
    if may_be_a_copy() && is_a_copy(&open()?)? {
        // The kernel has named the process after the descriptor's number.
        memfd::set_process_name(c"onggi");
        return Ok(Sealed { _mount: None });
    }
    if begun.is_none()
        && let Ok(sealed) = step_out_of_the_binary()
    {
        return Ok(sealed);
    }
    // A copy that does not look like one after all would be copied for ever.
    if std::fs::read_link(OWN_BINARY).is_ok_and(|p| p.starts_with("/memfd:onggi (deleted)")) {
        return Err(Error::new("seal the binary", "the kernel does not report the seals of a memory file"));
    }
    let binary = open()?;
    let copy = match sealed_copy(&binary) {
        Err(e) if matches!(e.errno().map(|e| e.0), Some(libc::EACCES | libc::EPERM | libc::ENOSYS)) => {
            unlinked_copy(&binary, &state_root()?)?
        }
        other => other?,
    };
    // A program argument cannot hold a NUL: it came through execve.
    let argv: Vec<CString> = start::arguments().iter().filter_map(|a| CString::new(a.as_bytes()).ok()).collect();
    let errno = memfd::exec(copy.as_fd(), &argv);
    let error = Error::sys("start again from a copy of the binary", "execveat", errno.into());
    Err(if errno == Errno::EACCES { error.hint(NO_MEMFD) } else { error })
}

/// Cuts this process off from the file of its binary: the exe link on an empty sealed memory file, the program mapped from
/// where it cannot be opened, or in anonymous memory.
fn step_out_of_the_binary() -> nix::Result<Sealed> {
    let nothing = memfd::create(c"onggi")?;
    memfd::seal(nothing.as_fd())?;
    let mut link = exe::Link::read()?;
    if let Ok((file, mount)) = exe::secluded()
        && exe::replace_program(Some(file.as_fd())).is_ok()
        && link.set(nothing.as_fd()).is_ok()
    {
        // Empty, and what the link leads to anyhow: closed with all else.
        crate::sys::fs::leave(nothing);
        return Ok(Sealed { _mount: Some(mount) });
    }
    // Without the right to do it this says so, before the work.
    match link.set(nothing.as_fd()) {
        Err(Errno::EBUSY) => {
            exe::replace_program(None)?;
            link.set(nothing.as_fd())?;
        }
        other => other?,
    }
    Ok(Sealed { _mount: None })
}

/// Whether this program runs from what this module made of it.
fn is_a_copy(binary: &File) -> Result<bool> {
    Ok(memfd::is_sealed(binary.as_fd()) || is_unlinked_copy(binary)?)
}

fn is_unlinked_copy(binary: &File) -> Result<bool> {
    let meta = binary.metadata().step("fstat", || format!("stat {OWN_BINARY}"))?;
    Ok(meta.nlink() == 0 && meta.mode() & 0o7777 == MODE)
}

fn sealed_copy(binary: &File) -> Result<File> {
    let what = || "make a memory file for a copy of the binary".to_owned();
    let copy = memfd::create(c"onggi").step("memfd_create", what)?;
    fill(copy.as_fd(), binary)?;
    nix::sys::stat::fchmod(&copy, Mode::from_bits_truncate(MODE)).step("fchmod", what)?;
    memfd::seal(copy.as_fd()).step("fcntl", || "seal the copy of the binary".into())?;
    Ok(File::from(copy))
}

/// An unlinked file, opened for reading only: a file that is open for writing cannot be executed.
fn unlinked_copy(binary: &File, state_root: &Path) -> Result<File> {
    let dir = state_root.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/"));
    let writable = OpenOptions::new()
        .write(true)
        .mode(MODE)
        .custom_flags(libc::O_TMPFILE)
        .open(dir)
        .step("open", || format!("make an unlinked copy of the binary in {}", dir.display()))
        .map_err(|e| e.hint(NO_MEMFD))?;
    // The umask has taken bits from the mode.
    nix::sys::stat::fchmod(&writable, Mode::from_bits_truncate(MODE)).step("fchmod", || "set the mode of the copy".into())?;
    fill(writable.as_fd(), binary)?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writable));
    File::open(path).step("open", || "open the copy of the binary for reading".into())
}

fn fill(to: BorrowedFd<'_>, binary: &File) -> Result<()> {
    let mut left = usize::try_from(binary.metadata().step("fstat", || format!("stat {OWN_BINARY}"))?.len()).unwrap_or(usize::MAX);
    while left > 0 {
        match memfd::send(to, binary.as_fd(), left) {
            Ok(0) => return Err(Error::new("copy the binary", "it got shorter")),
            Ok(n) => left = left.saturating_sub(n),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::sys("copy the binary", "sendfile", e.into())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn is_our_binary(mut copy: File) -> bool {
        let mut bytes = Vec::new();
        copy.read_to_end(&mut bytes).unwrap();
        bytes == std::fs::read(OWN_BINARY).unwrap()
    }

    #[test]
    fn a_sealed_copy_is_whole_and_final() {
        let copy = sealed_copy(&File::open(OWN_BINARY).unwrap()).unwrap();
        assert!(memfd::is_sealed(copy.as_fd()));
        assert_eq!(copy.metadata().unwrap().mode() & 0o7777, MODE);
        let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy));
        assert!(is_our_binary(File::open(again).unwrap()));
    }

    #[test]
    fn an_unlinked_copy_is_whole_and_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let copy = unlinked_copy(&File::open(OWN_BINARY).unwrap(), &dir.path().join("not/there")).unwrap();
        assert!(is_unlinked_copy(&copy).unwrap());
        assert!(is_our_binary(copy));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_installed_binary_is_no_copy() {
        assert!(!is_unlinked_copy(&File::open(OWN_BINARY).unwrap()).unwrap());
    }
}
