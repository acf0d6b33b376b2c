//! What the process itself becomes: signals, keyring, kernel settings, working directory, ids, capabilities, filter. What
//! was set is read back: asked for and not there means the container does not start.

use crate::sandbox::child::{Call, Child, Fail};
use crate::sys::creds::{self, Caps};
use crate::sys::inroot;
use crate::sys::{fs, mount, process, spawn};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::AsFd;

/// Ignored signals survive exec, so does the mask: the program gets neither from our caller.
pub(super) fn signals(ignored: &[i32]) -> Result<(), Fail> {
    for &signal in ignored {
        spawn::default_signal(signal).call("rt_sigaction")?;
    }
    process::unblock_signals().call("rt_sigprocmask")
}

/// A session keyring of the container's own.
pub(super) fn keyring(name: &CStr) -> Result<(), Fail> {
    match process::join_session_keyring(name) {
        // A kernel without keyrings, or an outer seccomp filter that says so: there is nothing to isolate.
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(e) => Err(Fail::call("keyctl", e)),
    }
}

/// A procfs of our own, attached nowhere. Where the kernel refuses one (a container that hides parts of /proc from us,
/// as all nested runtimes meet), /proc itself will do before anything untrusted is mounted, if it is procfs.
pub(super) fn open_proc(child: &mut Child) -> Result<(), Fail> {
    let fresh = || {
        let context = mount::fsopen(c"proc")?;
        mount::fsconfig_create(context.as_fd())?;
        mount::fsmount(context.as_fd(), mount::attr::NOSUID | mount::attr::NODEV | mount::attr::NOEXEC)
    };
    let proc = match fresh() {
        Err(Errno::EPERM | Errno::EACCES) => {
            let host = fs::open(fs::cwd(), c"/proc", libc::O_PATH | libc::O_DIRECTORY, 0).call("openat")?;
            // Its root, too: a directory of procfs that is bound there has other files under the same names.
            const PROC_ROOT_INODE: u64 = 1;
            let is_root = fs::stat(host.as_fd()).call("fstat")?.st_ino == PROC_ROOT_INODE;
            if fs::magic(host.as_fd()).call("fstatfs")? != fs::PROC_MAGIC || !is_root {
                return Err(Fail::refused("/proc is not procfs"));
            }
            host
        }
        other => other.call("fsmount")?,
    };
    child.proc = Some(proc);
    Ok(())
}

/// What the kernel tells of this process in the host's procfs, for [`crate::sandbox::verify`].
pub(super) fn open_account(child: &mut Child) -> Result<(), Fail> {
    child.account = Some(fs::open(fs::cwd(), c"/proc/self/status", libc::O_RDONLY, 0).call("openat")?);
    Ok(())
}

/// Writes one file of that procfs.
pub(super) fn write_proc(child: &Child, path: &CStr, value: &CStr) -> Result<(), Fail> {
    let proc = child.proc.as_ref().ok_or_else(|| Fail::call("openat2", Errno::EBADF))?;
    // NO_SYMLINKS has one exception to live with: `self` is a link, so paths through it name the number instead.
    let file = inroot::open(proc.as_fd(), path, libc::O_WRONLY | libc::O_TRUNC, inroot::NO_XDEV).call("openat2")?;
    fs::write_all(file.as_fd(), value.to_bytes()).call("write")
}

/// Enters the working directory: first as root, then, if that was forbidden, as the user (root of a user namespace may
/// lack what the user has, and the other way round). The kernel tells when the result lies outside (CVE-2024-21626).
pub(super) fn working_directory(child: &mut Child, path: &CStr, last: bool) -> Result<(), Fail> {
    if child.cwd_entered {
        return Ok(());
    }
    if child.at_root && path == c"/" {
        child.cwd_entered = true;
        return Ok(());
    }
    match fs::chdir(path) {
        Err(Errno::EPERM | Errno::EACCES) if !last => return Ok(()),
        other => other.call("chdir")?,
    }
    child.cwd_entered = true;
    if fs::cwd_is_inside().call("getcwd")? { Ok(()) } else { Err(Fail::refused("it lies outside the container")) }
}

/// Gives the standard streams to the user, so that /dev/stdout can be opened again. Devices are the host's, whoever opened
/// them for us (runc#3674 changed the owner of the host's /dev/null).
pub(super) fn stdio_owner(uid: u32, gid: u32) -> Result<(), Fail> {
    for n in 0..=2 {
        let stream = fs::stdio(n);
        let st = match fs::stat(stream) {
            // A closed stream has no owner.
            Err(Errno::EBADF) => continue,
            other => other.call("fstat")?,
        };
        if st.st_uid == uid || matches!(fs::kind(st.st_mode), libc::S_IFCHR | libc::S_IFBLK | libc::S_IFDIR) {
            continue;
        }
        match fs::chown_at(stream, c"", uid, gid) {
            // Read-only file systems, ids that a user namespace does not map, and files of others keep their owner.
            Ok(()) | Err(Errno::EPERM | Errno::EROFS | Errno::EINVAL) => {}
            Err(e) => return Err(Fail::call("fchownat", e)),
        }
    }
    Ok(())
}

/// Takes all capabilities but `keep` out of the bounding set. Asked of every one that the kernel knows, never of what a
/// reading of the set says.
pub(super) fn bounding(keep: u64) -> Result<(), Fail> {
    for cap in 0..64u8 {
        if keep & (1 << cap) != 0 {
            continue;
        }
        match creds::drop_bounding(cap) {
            Ok(()) => {}
            // Past the kernel's last capability.
            Err(Errno::EINVAL) if cap > LAST_OF_5_14 => break,
            Err(e) => return Err(Fail::call("prctl", e)),
        }
    }
    Ok(())
}

/// CAP_CHECKPOINT_RESTORE: the last capability of the oldest kernel that we run on.
const LAST_OF_5_14: u8 = 40;

/// Becomes the user. With `keep`, the permitted capabilities stay for [`capabilities`] to choose from.
pub(super) fn user(uid: u32, gid: u32, keep: bool) -> Result<(), Fail> {
    // Only who ceases to be root loses them (capabilities(7), Effect of user ID changes).
    let keep = keep && uid != 0;
    if keep {
        creds::keep_caps(true).call("prctl")?;
    }
    creds::set_gid(gid).call("setresgid")?;
    creds::set_uid(uid).call("setresuid")?;
    if keep {
        creds::keep_caps(false).call("prctl")?;
    }
    Ok(())
}

/// Sets the capability sets; all five are read back ([`crate::sandbox::verify`]).
pub(super) fn capabilities(want: Caps, ambient: u64) -> Result<(), Fail> {
    creds::set_caps(want).call("capset")?;
    creds::clear_ambient().call("prctl")?;
    for cap in (0..64u8).filter(|cap| ambient & (1 << cap) != 0) {
        creds::raise_ambient(cap).call("prctl")?;
    }
    Ok(())
}

/// Loads the filter. A listener's number is left in the word shared with the parent: from here on any call of ours may be
/// one that the filter holds up until an agent answers.
pub(super) fn seccomp(child: &Child) -> Result<(), Fail> {
    let Some(filter) = &child.given.filter else { return Err(Fail::refused("there is no room for a filter")) };
    let listener = filter.load().call("seccomp")?;
    if let (Some(fd), Some(word)) = (listener, &child.given.listener) {
        use std::os::fd::IntoRawFd;
        // Close-on-exec; owned by the process, which forgets it at exec.
        word.set(fd.into_raw_fd());
    }
    Ok(())
}
