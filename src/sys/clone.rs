//! clone3(2) into a copy of this process's memory or into the memory itself, and setns(2)/unshare(2) with the 64-bit flags
//! that go with it.

use super::{check, owned};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// `CLONE_NEW*`, as clone3 and setns take them.
pub mod flags {
    /// New time namespace (Linux 5.6).
    pub const NEWTIME: u64 = 0x80;
    /// New mount namespace.
    pub const NEWNS: u64 = 0x0002_0000;
    /// New cgroup namespace.
    pub const NEWCGROUP: u64 = 0x0200_0000;
    /// New UTS namespace.
    pub const NEWUTS: u64 = 0x0400_0000;
    /// New IPC namespace.
    pub const NEWIPC: u64 = 0x0800_0000;
    /// New user namespace.
    pub const NEWUSER: u64 = 0x1000_0000;
    /// New PID namespace.
    pub const NEWPID: u64 = 0x2000_0000;
    /// New network namespace.
    pub const NEWNET: u64 = 0x4000_0000;
    pub(super) const VM: u64 = 0x100;
    pub(super) const PIDFD: u64 = 0x1000;
    pub(super) const VFORK: u64 = 0x4000;
    pub(super) const PARENT: u64 = 0x8000;
    pub(super) const INTO_CGROUP: u64 = 0x2_0000_0000;
}

/// Which side of the clone this is.
pub enum Side {
    /// The new process.
    Child,
    /// The caller, with the new process's id (in the caller's PID namespace) and descriptor.
    Parent(i32, OwnedFd),
}

/// Clones this process, which must have one thread, or beside it such a one as [`super::netns`] starts: the child gets a copy of
/// the one and nothing that others may hold locked. With `cgroup` the child starts inside that cgroup (Linux 5.7). With `sibling`
/// the new process is a child of the caller's parent.
pub fn clone3(namespaces: u64, cgroup: Option<BorrowedFd<'_>>, sibling: bool) -> nix::Result<Side> {
    let mut pidfd: i32 = -1;
    let mut args = arguments(namespaces, cgroup, &mut pidfd);
    if sibling {
        // The kernel refuses an exit signal with CLONE_PARENT: it is taken from the caller.
        args.flags |= flags::PARENT;
        args.exit_signal = 0;
    }
    // SAFETY: without CLONE_VM this is fork(2): the child has a copy of all memory, on the same stack. No lock can be
    // held by a thread that is not copied: the one that this crate starts takes none.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match check(ret)? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(i32::try_from(pid).unwrap_or(-1), owned(pidfd.into())?)),
    }
}

fn arguments(flags: u64, cgroup: Option<BorrowedFd<'_>>, pidfd: &mut i32) -> libc::clone_args {
    // SAFETY: an all-zero clone_args is valid; fields are set below.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | flags::PIDFD;
    args.pidfd = std::ptr::from_mut(pidfd).expose_provenance() as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(fd) = cgroup {
        args.flags |= flags::INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    args
}

/// Whether [`lend`] is there for this machine.
pub const LENDS: bool = cfg!(target_arch = "x86_64");

/// Clones this process, which must have one thread, and lends the new one its memory (`CLONE_VM | CLONE_VFORK`): there `work` runs
/// with `with`, on the stack below the caller's frames, and does not return. The caller stands still until the new process
/// has executed a program or ended, and takes no signal but SIGKILL so long. What `work` changes in memory stays changed, what it
/// changes of the process (descriptors, namespaces, credentials) is the new process's alone. With `cgroup` as [`clone3`].
///
/// Nothing is copied, and nothing that `work` writes to is counted as the new process's memory: for the kernel's control of
/// memory it is the caller's. But whoever may trace the new process may write to the caller: it must be undumpable.
///
/// # Errors
/// Those of clone3(2); ENOSYS where not [`LENDS`].
pub fn lend<T>(cgroup: Option<BorrowedFd<'_>>, work: fn(&mut T) -> !, with: &mut T) -> nix::Result<(i32, OwnedFd)> {
    struct Job<'a, T> {
        work: fn(&mut T) -> !,
        with: &'a mut T,
    }
    unsafe extern "C" fn run<T>(job: *mut libc::c_void) -> ! {
        // SAFETY: it is the job below: whose frame stands still, and lives, as long as this runs.
        let job = unsafe { &mut *job.cast::<Job<'_, T>>() };
        (job.work)(job.with)
    }
    let mut pidfd: i32 = -1;
    let mut args = arguments(flags::VM | flags::VFORK, cgroup, &mut pidfd);
    let mut job = Job { work, with };
    // SAFETY: the arguments and the job live in this frame, which the new process does not return into or unwind through: `work`
    // does not return, and a panic aborts. Nobody else touches what the job borrows so long: this is the only thread, and it stands still.
    let ret = unsafe { lent::clone3(&raw mut args, size_of::<libc::clone_args>(), run::<T>, (&raw mut job).cast()) };
    match i32::try_from(ret) {
        Ok(pid @ 1..) => Ok((pid, owned(pidfd.into())?)),
        Ok(errno) => Err(nix::errno::Errno::from_raw(-errno)),
        Err(_) => Err(nix::errno::Errno::EPROTO),
    }
}

/// Whether the process that lends its memory still lives. If that is killed, the kernel clears a word in it (set_tid_address(2)),
/// as it does at the end of a thread.
#[derive(Clone, Copy)]
pub struct Life(&'static AtomicI32);

impl Life {
    /// This process's, which must have one thread: the C library would wait for the end of another by such a word.
    pub fn own() -> Self {
        static LIVES: AtomicI32 = AtomicI32::new(1);
        // SAFETY: a live word for the kernel to write to, atomic as it does so at any time. It cannot fail.
        unsafe { libc::syscall(libc::SYS_set_tid_address, LIVES.as_ptr()) };
        Self(&LIVES)
    }

    /// It does.
    pub fn lasts(self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }
}

#[cfg(target_arch = "x86_64")]
mod lent {
    /// The system call; the new process calls `run` with `job` on the same stack, below this frame. A pid or a negative errno. The
    /// C library has no such function, and none could be written in Rust: both processes would return from the system call
    /// into one frame.
    #[unsafe(naked)]
    pub(super) unsafe extern "C" fn clone3(
        args: *mut libc::clone_args,
        size: usize,
        run: unsafe extern "C" fn(*mut libc::c_void) -> !,
        job: *mut libc::c_void,
    ) -> i64 {
        std::arch::naked_asm!(
            // The kernel leaves all registers as they are but rax, rcx and r11.
            "mov r8, rcx",
            "mov eax, {clone3}",
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            // A call finds the stack at a multiple of 16.
            "sub rsp, 8",
            "mov rdi, r8",
            "call rdx",
            "ud2",
            "2:",
            "ret",
            clone3 = const libc::SYS_clone3,
        )
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod lent {
    pub(super) unsafe fn clone3(
        _: *mut libc::clone_args,
        _: usize,
        _: unsafe extern "C" fn(*mut libc::c_void) -> !,
        _: *mut libc::c_void,
    ) -> i64 {
        -i64::from(libc::ENOSYS)
    }
}

/// Enters the namespace behind `fd`; `kind` is the one `CLONE_NEW*` flag it must be.
pub fn setns(fd: BorrowedFd<'_>, kind: u64) -> nix::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), kind) }).map(drop)
}

/// Leaves namespaces for new ones.
pub fn unshare(kinds: u64) -> nix::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_unshare, kinds) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pidfd::{self, Exit};
    use crate::sys::process;
    use std::os::fd::AsFd;

    #[test]
    #[cfg_attr(not(target_arch = "x86_64"), ignore = "nothing is lent")]
    fn memory_is_lent_and_comes_back_as_it_was_left() {
        struct Work {
            here: [u64; 64],
            pid: i32,
        }
        let mut with = Work { here: [7; 64], pid: 0 };
        let (pid, pidfd) = lend(
            None,
            |with: &mut Work| {
                // Deeper than the frames that the caller comes back to.
                let mut deep = [1u8; 65536];
                std::hint::black_box(&mut deep);
                with.pid = process::pid();
                with.here.iter_mut().for_each(|n| *n += u64::from(deep[0]));
                process::exit_now(with.here[63].try_into().unwrap_or(1))
            },
            &mut with,
        )
        .unwrap();
        assert_eq!((with.pid, with.here), (pid, [8; 64]));
        assert_ne!(pid, process::pid());
        assert_eq!(pidfd::wait(pidfd.as_fd()), Ok(Exit::Code(8)));
    }

    #[test]
    #[cfg_attr(not(target_arch = "x86_64"), ignore = "nothing is lent")]
    fn what_cannot_be_cloned_borrows_nothing() {
        let mut ran = false;
        let no_cgroup = crate::sys::memfd::create(c"x").unwrap();
        let work = |ran: &mut bool| {
            *ran = true;
            process::exit_now(0)
        };
        assert_eq!(lend(Some(no_cgroup.as_fd()), work, &mut ran).map(|(pid, _)| pid), Err(nix::errno::Errno::EBADF));
        assert!(!ran);
    }
}
