//! Puts a mount over a path inside another process's mount namespace, as whoever shares that namespace could.
#![allow(unsafe_code)]

use crate::stage::this_program_as;
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

/// What the program ends with when there is nothing at the path.
const ABSENT: u8 = 3;

/// Covers the container's path with a clone of the host's source; whether there was such a path. The container's root lies
/// at `rootfs` until it is the root.
pub fn cover(init: Pid, source: &str, target: &str, rootfs: &Path) -> bool {
    // A process of its own: it cannot come back.
    let mut program = this_program_as("overmount");
    let status = program.arg(init.to_string()).args([source, target]).arg(rootfs).status().expect("start the program");
    match status.code() {
        Some(0) => true,
        Some(code) if code == i32::from(ABSENT) => false,
        _ => panic!("cover {target}: {status:?}"),
    }
}

/// `overmount PID SOURCE TARGET ROOTFS`. A SOURCE that ends in `+ro` is mounted read-only.
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let [_, pid, source, target, rootfs] = args.as_slice() else { return ExitCode::from(64) };
    let (source, readonly) = source.strip_suffix("+ro").map_or((source.as_str(), false), |source| (source, true));
    let tree = match clone_tree(source, readonly) {
        Ok(tree) => tree,
        Err(error) => panic!("clone {source}: {error}"),
    };
    // A process that has just ended has no namespaces. One that has just begun has the host's mounts, and what is mounted
    // on those is mounted on the host: nobody but the host's root could do that.
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/"));
    let Ok(namespace) = File::open(format!("/proc/{pid}/ns/mnt")) else { return ExitCode::from(ABSENT) };
    if root.is_none_or(|line| line.contains(" shared:")) {
        return ExitCode::from(ABSENT);
    }
    if let Err(error) = setns(&namespace, CloneFlags::CLONE_NEWNS) {
        panic!("enter the mount namespace: {error}");
    }
    let moved = Path::new("/inside").exists();
    let place = if moved { target.clone() } else { format!("{rootfs}{target}") };
    match attach(&tree, &place) {
        Ok(()) => ExitCode::SUCCESS,
        // A directory over a file, or the other way round, is what the kernel refuses, too: not the same thing yet.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EINVAL | Errno::ELOOP) => ExitCode::from(ABSENT),
        Err(error) => panic!("mount on {place}: {error}"),
    }
}

/// A detached mount of it, which shares nothing with the host's.
fn clone_tree(path: &str, readonly: bool) -> nix::Result<OwnedFd> {
    let path = CString::new(path).expect("a path without NUL");
    let flags = libc::OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: reads a string that lives until the call returns.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    let tree = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")) };
    let attributes = libc::mount_attr {
        attr_set: if readonly { libc::MOUNT_ATTR_RDONLY } else { 0 },
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: reads a string and a struct of that size, both of which live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(|_| tree)
}

fn attach(tree: &OwnedFd, path: &str) -> nix::Result<()> {
    let path = CString::new(path).expect("a path without NUL");
    // SAFETY: reads two strings that live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(result).map(drop)
}
