//! A network namespace that is made while its maker does other things. The kernel takes longer for one than for all else of a
//! container together, and nothing of that needs the process that will live in it.
//!
//! A thread makes it: it shares the descriptors, so that the namespace is there for the taking, leaves nobody to be reaped, and
//! ends with the process whatever becomes of that. It has a page for a stack, which no handler of a signal needs, since none is
//! there, and makes four system calls: no memory is asked for, no lock taken, no C library called, whose `errno` it would share
//! with the first thread. So the process can be cloned or sealed while it runs as if it had one thread.

use super::{clone, fs, netlink, owned, process};
use nix::errno::Errno;
use std::cell::UnsafeCell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

/// A namespace on its way.
pub struct Beside(&'static Shared);

/// What both threads see. Never freed: the kernel writes to it when the thread ends. On a page of its own, so that it
/// shares none with what is moved meanwhile (`super::exe`).
#[repr(C, align(4096))]
struct Shared {
    stack: UnsafeCell<[u64; 440]>,
    /// A socket in the namespace, by its descriptor, which is not 0; or a negative errno, or 0 as long as nothing is known.
    made: AtomicI32,
    /// Not 0 while the thread is there: the kernel sets it, clears it and wakes who waits (`CLONE_CHILD_CLEARTID`), in
    /// whatever way the thread ends.
    running: AtomicU32,
    /// There is one in a process.
    begun: AtomicBool,
}

// SAFETY: the stack is the new thread's alone; the rest is atomic.
unsafe impl Sync for Shared {}

impl Beside {
    /// Begins, once in a process. `None` where no thread can be had (`RLIMIT_NPROC`, `pids.max`), or it is not known how on this
    /// architecture: the namespace is to be made otherwise then.
    pub fn begin() -> Option<Self> {
        // All zeroes, so that nothing of it is in the file.
        static BESIDE: Shared = Shared {
            stack: UnsafeCell::new([0; 440]),
            made: AtomicI32::new(0),
            running: AtomicU32::new(0),
            begun: AtomicBool::new(false),
        };
        let first = !BESIDE.begun.swap(true, Ordering::Relaxed);
        let thread = if first { thread::start(&BESIDE) } else { None };
        // Where this fails it is slower, and nothing else.
        let _same = thread.map(process::keep_off_this_cpu)?;
        Some(Self(&BESIDE))
    }

    /// Whether it is made, or will not be.
    pub fn is_done(&self) -> bool {
        self.0.running.load(Ordering::Acquire) == 0
    }

    /// Waits until it is made: a network namespace of the caller's user namespace, with `lo` up. `None` if it could not be made, of
    /// which the kernel's own answer at the second try tells more.
    pub fn take(self) -> Option<Made> {
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
        if made <= 0 { None } else { owned(made.into()).ok().map(Made) }
    }
}

/// A network namespace, held by a socket in it.
pub struct Made(OwnedFd);

impl Made {
    /// Enters it. For the container's init, which closes the descriptors with all else.
    ///
    /// # Errors
    /// The name of the call that failed comes with its errno.
    pub fn enter(self) -> Result<(), (&'static str, Errno)> {
        let namespace = netlink::namespace_of(self.0.as_fd()).map_err(|e| ("ioctl", e))?;
        fs::leave(self.0);
        let entered = clone::setns(namespace.as_fd(), clone::flags::NEWNET).map_err(|e| ("setns", e));
        fs::leave(namespace);
        entered
    }
}

#[cfg(target_arch = "x86_64")]
mod thread {
    use super::super::netlink;
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

    /// Starts [`make`] on the stack in `shared`; the thread's id, if there is one.
    pub(super) fn start(shared: &'static Shared) -> Option<i32> {
        let running: *const AtomicU32 = &raw const shared.running;
        let top = shared.stack.get().cast_const().wrapping_add(1);
        // SAFETY: the new thread gets a stack of its own, which lives for ever and which nobody else touches, and a pointer to
        // what may be shared. It never returns into this frame.
        let thread = unsafe { clone(FLAGS, top.cast(), running, running, make, shared) };
        i32::try_from(thread).ok().filter(|&thread| thread > 0)
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
            // It does not return; where somebody has it fail there is nothing else to do.
            "3:",
            "xor edi, edi",
            "mov eax, {exit}",
            "syscall",
            "jmp 3b",
            "2:",
            "ret",
            clone = const libc::SYS_clone,
            exit = const libc::SYS_exit,
        )
    }

    /// All that the thread does.
    extern "C" fn make(shared: &'static Shared) {
        let made = socket_in_new();
        shared.made.store(i32::try_from(made).unwrap_or(-libc::EIO), Ordering::Release);
    }

    /// A socket in a new namespace, or a negative errno: as [`super::super::netlink::loopback_up`], without the C library.
    fn socket_in_new() -> i64 {
        let new = call(libc::SYS_unshare, [libc::CLONE_NEWNET.into(), 0, 0]);
        if new < 0 {
            return new;
        }
        let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC).into();
        let socket = call(libc::SYS_socket, [libc::AF_UNIX.into(), kind, 0]);
        if socket < 0 {
            return socket;
        }
        let request = netlink::loopback_request();
        let up =
            call(libc::SYS_ioctl, [socket, netlink::SET_FLAGS, (&raw const request).expose_provenance().cast_signed() as i64]);
        if up < 0 {
            call(libc::SYS_close, [socket, 0, 0]);
            return up;
        }
        socket
    }

    /// A system call as the kernel answers it: no errno is set.
    fn call(number: i64, [a, b, c]: [i64; 3]) -> i64 {
        let answer;
        // SAFETY: the numbers and pointers above are what these calls take, and what they point to lives through them. The
        // instruction overwrites rcx and r11 beside rax.
        unsafe {
            asm!("syscall", inlateout("rax") number => answer, in("rdi") a, in("rsi") b, in("rdx") c,
                lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        answer
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod thread {
    pub(super) fn start(_: &'static super::Shared) -> Option<i32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn one_with_lo_up_or_none() {
        let begun = Beside::begin();
        assert!(Beside::begin().is_none(), "a second one");
        let Some(begun) = begun else { panic!("no thread") };
        let made = begun.take();
        assert_eq!(made.is_some(), nix::unistd::geteuid().is_root());
        let Some(made) = made else { return };
        // A namespace is a thread's.
        let inside = std::thread::spawn(move || {
            made.enter().unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            std::fs::read_link("/proc/thread-self/ns/net").unwrap()
        });
        assert_ne!(inside.join().unwrap(), std::fs::read_link("/proc/thread-self/ns/net").unwrap());
    }
}
