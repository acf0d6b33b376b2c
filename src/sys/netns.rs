//! A network namespace that is made while its maker does other things. The kernel takes longer for one than for all else of a
//! container together, and nothing of that needs the process that will live in it.
//!
//! A thread makes it: it shares the descriptors, so that the namespace is there for the taking, leaves nobody to be reaped, and
//! ends with the process whatever becomes of that. It has a page for a stack and makes half a dozen system calls: no memory is
//! asked for, no lock taken, no C library called, whose `errno` it would share with the first thread. So the process can be
//! cloned or sealed while it runs as if it had one thread.

use super::owned;
use std::cell::UnsafeCell;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// A namespace on its way.
pub struct Beside(&'static Shared);

/// What both threads see. Never freed: the kernel writes to it when the thread ends.
#[repr(C, align(16))]
struct Shared {
    stack: UnsafeCell<[u64; 440]>,
    /// The namespace's descriptor, or a negative errno.
    made: AtomicI32,
    /// Not 0 while the thread is there: the kernel sets it, clears it and wakes who waits (`CLONE_CHILD_CLEARTID`), in
    /// whatever way the thread ends.
    running: AtomicU32,
}

// SAFETY: the stack is the new thread's alone; the rest is atomic.
unsafe impl Sync for Shared {}

impl Beside {
    /// Begins. `None` where no thread can be had (`RLIMIT_NPROC`, `pids.max`), or this is not known how on this architecture: the
    /// namespace is to be made otherwise then.
    pub fn begin() -> Option<Self> {
        // Apart from the program's own memory, which may be moved meanwhile (`super::exe`).
        // SAFETY: a new anonymous mapping, at an address that the kernel chooses.
        let at = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), size_of::<Shared>(), libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if at == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the mapping is page-aligned, large enough, never unmapped, and all zeroes, which is a valid Shared.
        let shared: &'static Shared = unsafe { &*at.cast::<Shared>() };
        shared.made.store(-libc::ESRCH, Ordering::Relaxed);
        thread::start(shared).then_some(Self(shared))
    }

    /// Waits until it is made: a network namespace of the caller's user namespace, with `lo` up. `None` if it could not be made, of
    /// which the kernel's own answer at the second try tells more.
    pub fn take(self) -> Option<OwnedFd> {
        loop {
            let running = self.0.running.load(Ordering::Acquire);
            if running == 0 {
                break;
            }
            // Not a private one: the kernel's waking is not.
            // SAFETY: a live word. Woken for nothing, by a signal or not at all as the word has changed, we look again.
            unsafe {
                libc::syscall(libc::SYS_futex, &raw const self.0.running, libc::FUTEX_WAIT, running, std::ptr::null::<u8>())
            };
        }
        let made = self.0.made.load(Ordering::Acquire);
        if made < 0 { None } else { owned(made.into()).ok() }
    }
}

#[cfg(target_arch = "x86_64")]
mod thread {
    use super::{AtomicU32, Ordering, Shared};
    use std::arch::{asm, naked_asm};

    /// As with pthread_create(3), but that the file system's state is not shared: setns(2) wants that for a mount namespace.
    const FLAGS: libc::c_int = libc::CLONE_VM
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID;

    /// Starts [`make`] on the stack in `shared`; whether it did.
    pub(super) fn start(shared: &'static Shared) -> bool {
        let running: *const AtomicU32 = &raw const shared.running;
        let top = shared.stack.get().cast_const().wrapping_add(1);
        // SAFETY: the new thread gets a stack of its own, which lives for ever and which nobody else touches, and a pointer to
        // what may be shared. It never returns into this frame.
        unsafe { clone(FLAGS, top.cast(), running, running, make, shared) > 0 }
    }

    /// The system call, and what the new thread does then. The C library's function does not serve: glibc's has no fault, musl's
    /// makes no threads.
    #[unsafe(naked)]
    unsafe extern "C" fn clone(
        flags: libc::c_int,
        stack: *const u8,
        parent_tid: *const AtomicU32,
        child_tid: *const AtomicU32,
        run: extern "C" fn(&'static Shared),
        shared: &'static Shared,
    ) -> i64 {
        naked_asm!(
            // clone(flags, stack, parent_tid, child_tid, tls); the fifth is not looked at.
            "mov r10, rcx",
            "mov eax, {clone}",
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "call r8",
            "xor edi, edi",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            "ret",
            clone = const libc::SYS_clone,
            exit = const libc::SYS_exit,
        )
    }

    /// All that the thread does.
    extern "C" fn make(shared: &'static Shared) {
        let made = namespace();
        shared.made.store(i32::try_from(made).unwrap_or(-libc::EIO), Ordering::Release);
    }

    /// A descriptor of a new namespace, or a negative errno.
    fn namespace() -> i64 {
        let new: i64 = call(libc::SYS_unshare, [libc::CLONE_NEWNET.into(), 0, 0, 0]);
        if new < 0 {
            return new;
        }
        let up = loopback_up();
        if up < 0 {
            return up;
        }
        let path = c"/proc/thread-self/ns/net".as_ptr() as i64;
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC).into();
        call(libc::SYS_openat, [libc::AT_FDCWD.into(), path, flags, 0])
    }

    /// [`super::super::netlink::loopback_up`], without the C library.
    fn loopback_up() -> i64 {
        let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC).into();
        let socket = call(libc::SYS_socket, [libc::AF_UNIX.into(), kind, 0, 0]);
        if socket < 0 {
            return socket;
        }
        let request = super::super::netlink::loopback_request();
        let set_flags = super::super::netlink::SET_FLAGS;
        let up = call(libc::SYS_ioctl, [socket, set_flags, (&raw const request) as i64, 0]);
        call(libc::SYS_close, [socket, 0, 0, 0]);
        up
    }

    /// A system call as the kernel answers it: no errno is set.
    fn call(number: i64, [a, b, c, d]: [i64; 4]) -> i64 {
        let answer;
        // SAFETY: the numbers and pointers above are what these calls take, and what they point to lives through them. The
        // instruction overwrites rcx and r11 beside rax.
        unsafe {
            asm!("syscall", inlateout("rax") number => answer, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
                lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        answer
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod thread {
    pub(super) fn start(_: &'static super::Shared) -> bool {
        false
    }
}
