//! The floor: a program that makes only the system calls that the container of `onggi spec` cannot do without. No
//! configuration, no check, no error message, no C library: what a runtime takes longer than this, it takes for itself.
//!
//! It makes what the configuration asks for, all of it: the namespaces, the cgroup with its device program, mounts, device
//! nodes, masked and read-only paths, the new root, limits, capabilities; `exec` confines its process in the same way. With
//! `--cfg docker` it makes Docker's bundle: other masks and capabilities, two sysctls, and the seccomp filter, compiled
//! beforehand, from the file that the variable FLOOR_FILTER of the compiler names.
//!
//! Not part of the product and not safe to use. `bench` compiles it by itself (`Runtime::floor`), for x86_64.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

global_asm!(".globl _start", "_start:", "mov rdi, rsp", "and rsp, -16", "call floor", "ud2");

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(101)
}

/// Named by the code of `core`, never called: nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// What the compiler turns loops and array values into.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
    unsafe { asm!("rep stosb", inout("rcx") n => _, inout("rdi") to => _, in("al") byte as u8) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    unsafe { asm!("rep movsb", inout("rcx") n => _, inout("rdi") to => _, inout("rsi") from => _) };
    to
}

fn call(number: usize, a: [usize; 6]) -> isize {
    let result;
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3],
            in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _);
    }
    result
}

fn arguments(given: &[usize]) -> [usize; 6] {
    core::array::from_fn(|n| given.get(n).copied().unwrap_or(0))
}

macro_rules! sys {
    ($n:expr $(, $a:expr)*) => {
        call($n, arguments(&[$($a as usize),*]))
    };
}

fn exit(status: i32) -> ! {
    loop {
        sys!(231, status);
    }
}

/// A step that must work; its number is the exit status.
macro_rules! must {
    ($status:expr, $call:expr) => {{
        let result = $call;
        if result < 0 {
            exit($status)
        }
        result as usize
    }};
}

type Text = *const u8;

fn p(text: &core::ffi::CStr) -> Text {
    text.as_ptr().cast()
}

/// A path put together: `first` and the words after it.
struct Path {
    bytes: [u8; 512],
    len: usize,
}

impl Path {
    fn new(words: &[Text]) -> Self {
        let mut path = Self { bytes: [0; 512], len: 0 };
        for &word in words {
            let mut at = word;
            loop {
                let byte = unsafe { *at };
                if byte == 0 || path.len == 511 {
                    break;
                }
                path.bytes[path.len] = byte;
                path.len += 1;
                at = unsafe { at.add(1) };
            }
        }
        path
    }

    fn at(&self) -> Text {
        self.bytes.as_ptr()
    }
}

const AT_FDCWD: isize = -100;
const NAMESPACES: usize = 0x6c02_0000; // mount, uts, ipc, pid, net
/// Made once the child is in its cgroup, which is the root of this namespace.
const CGROUP_NAMESPACE: usize = 0x0200_0000;

/// CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE.
#[cfg(not(docker))]
const CAPABILITIES: [usize; 3] = [5, 10, 29];
/// The fourteen of Docker.
#[cfg(docker)]
const CAPABILITIES: [usize; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];

#[repr(C)]
struct CloneArgs([u64; 11]);

/// clone3 into a cgroup, with a pidfd. Returns the pid, 0 in the child.
fn clone3(flags: usize, cgroup: usize, pidfd: &mut i32) -> isize {
    let mut a = CloneArgs([0; 11]);
    a.0[0] = (flags as u64) | 0x1000 | 0x2_0000_0000;
    a.0[1] = core::ptr::from_mut(pidfd) as u64;
    a.0[4] = 17;
    a.0[10] = cgroup as u64;
    sys!(435, &raw const a, size_of::<CloneArgs>())
}

const fn insn(op: u64, dst: u64, src: u64, off: u64, imm: u64) -> u64 {
    op | dst << 8 | src << 12 | (off & 0xffff) << 16 | imm << 32
}

/// The devices that every container has.
static DEVICES: [u64; 23] = [
    insn(0x61, 2, 1, 0, 0),
    insn(0x61, 3, 1, 4, 0),
    insn(0x61, 4, 1, 8, 0),
    insn(0xbf, 5, 2, 0, 0),
    insn(0x57, 5, 0, 0, 0xffff),
    insn(0x77, 2, 0, 0, 16),
    insn(0x15, 2, 0, 14, 1),
    insn(0x55, 5, 0, 11, 2),
    insn(0x15, 3, 0, 12, 136),
    insn(0x15, 3, 0, 7, 5),
    insn(0x55, 3, 0, 8, 1),
    insn(0x15, 4, 0, 9, 3),
    insn(0x15, 4, 0, 8, 5),
    insn(0x15, 4, 0, 7, 7),
    insn(0x15, 4, 0, 6, 8),
    insn(0x15, 4, 0, 5, 9),
    insn(0x05, 0, 0, 2, 0),
    insn(0x15, 4, 0, 3, 0),
    insn(0x15, 4, 0, 2, 2),
    insn(0xb7, 0, 0, 0, 0),
    insn(0x95, 0, 0, 0, 0),
    insn(0xb7, 0, 0, 0, 1),
    insn(0x95, 0, 0, 0, 0),
];

fn attach_devices(cgroup: usize) {
    let mut load = [0u64; 16];
    load[0] = 15 | (DEVICES.len() as u64) << 32;
    load[1] = DEVICES.as_ptr() as u64;
    load[2] = p(c"Apache-2.0") as u64;
    let program = must!(20, sys!(321, 5, load.as_ptr(), 72));
    let attach = [cgroup as u32, program as u32, 6, 2, 0];
    must!(21, sys!(321, 8, attach.as_ptr(), 20));
    sys!(3, program);
}

#[cfg(docker)]
static FILTER: &[u8] = include_bytes!(env!("FLOOR_FILTER"));

fn mount(from: &core::ffi::CStr, to: &core::ffi::CStr, kind: &core::ffi::CStr, flags: usize, data: &core::ffi::CStr) -> isize {
    sys!(165, p(from), p(to), p(kind), flags, p(data))
}

fn container(bundle: Text, ready: usize, fifo: Option<usize>, argv: *const Text) -> ! {
    let socket = must!(30, sys!(41, 1, 2 | 0x80000, 0));
    let mut lo = [0u8; 40];
    lo[..2].copy_from_slice(b"lo");
    lo[16] = 1;
    must!(31, sys!(16, socket, 0x8914, lo.as_ptr()));
    sys!(3, socket);
    sys!(112);
    must!(29, sys!(272, CGROUP_NAMESPACE));
    must!(32, mount(c"", c"/", c"", 0x84000, c""));
    must!(33, sys!(80, bundle));
    must!(34, mount(c"rootfs", c"rootfs", c"", 0x5000, c""));
    must!(35, sys!(80, p(c"rootfs")));
    for dir in [c"proc", c"dev", c"sys"] {
        sys!(83, p(dir), 0o755);
    }
    must!(36, mount(c"proc", c"proc", c"proc", 0, c""));
    must!(37, mount(c"tmpfs", c"dev", c"tmpfs", 2 | 0x100_0000, c"mode=755,size=65536k"));
    for dir in [c"dev/pts", c"dev/shm", c"dev/mqueue"] {
        must!(38, sys!(83, p(dir), 0o755));
    }
    must!(39, mount(c"devpts", c"dev/pts", c"devpts", 2 | 8, c"newinstance,ptmxmode=0666,mode=0620,gid=5"));
    must!(40, mount(c"shm", c"dev/shm", c"tmpfs", 2 | 4 | 8, c"mode=1777,size=65536k"));
    must!(41, mount(c"mqueue", c"dev/mqueue", c"mqueue", 2 | 4 | 8, c""));
    must!(42, mount(c"sysfs", c"sys", c"sysfs", 1 | 2 | 4 | 8, c""));
    must!(43, mount(c"cgroup", c"sys/fs/cgroup", c"cgroup2", 1 | 2 | 4 | 8, c""));
    let nodes = [(c"null", 1, 3), (c"zero", 1, 5), (c"full", 1, 7), (c"random", 1, 8), (c"urandom", 1, 9), (c"tty", 5, 0)];
    sys!(95, 0);
    let dev = must!(44, sys!(257, AT_FDCWD, p(c"dev"), 0x20_0000));
    for (name, major, minor) in nodes {
        must!(45, sys!(259, dev, p(name), 0o020666, major << 8 | minor));
    }
    let links = [
        (c"/proc/self/fd", c"fd"),
        (c"/proc/self/fd/0", c"stdin"),
        (c"/proc/self/fd/1", c"stdout"),
        (c"/proc/self/fd/2", c"stderr"),
        (c"pts/ptmx", c"ptmx"),
    ];
    for (target, name) in links {
        must!(46, sys!(266, p(target), dev, p(name)));
    }
    must!(47, sys!(155, p(c"."), p(c".")));
    must!(48, sys!(166, p(c"."), 2));
    must!(49, sys!(80, p(c"/")));
    must!(50, sys!(170, p(c"floor"), 5));
    #[cfg(docker)]
    {
        set(c"/proc/sys/net/ipv4/ip_unprivileged_port_start", b"0");
        set(c"/proc/sys/net/ipv4/ping_group_range", b"0 2147483647");
    }
    for path in [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"] {
        if mount(path, path, c"", 0x5000, c"") == 0 {
            mount(c"", path, c"", 0x1000 | 32 | 1, c"");
        }
    }
    for path in [c"/proc/kcore", c"/proc/keys", c"/proc/latency_stats", c"/proc/timer_list", c"/proc/timer_stats", c"/proc/sched_debug"]
    {
        mount(c"/dev/null", path, c"", 0x1000, c"");
    }
    for path in [c"/proc/acpi", c"/proc/asound", c"/proc/scsi", c"/sys/firmware"] {
        mount(c"tmpfs", path, c"tmpfs", 1 | 2 | 4 | 8, c"size=4k");
    }
    #[cfg(docker)]
    mount(c"tmpfs", c"/sys/devices/virtual/powercap", c"tmpfs", 1 | 2 | 4 | 8, c"size=4k");
    #[cfg(not(docker))]
    {
        let readonly = [1u64, 0, 0, 0];
        sys!(442, AT_FDCWD, p(c"/"), 0, readonly.as_ptr(), 32);
    }
    confine();
    must!(52, sys!(1, ready, p(c"!"), 1));
    sys!(3, ready);
    if let Some(fifo) = fifo {
        let mut byte = 0u8;
        must!(53, sys!(0, fifo, &raw mut byte, 1));
        sys!(3, fifo);
    }
    program(argv)
}

#[cfg(docker)]
fn set(file: &core::ffi::CStr, value: &[u8]) {
    let to = must!(54, sys!(2, p(file), 1));
    must!(55, sys!(1, to, value.as_ptr(), value.len()));
    sys!(3, to);
}

/// What the process of `exec` gets as the container's first one does.
fn confine() {
    sys!(250, 1, p(c"_ses"));
    #[cfg(not(docker))]
    {
        let files = [1024u64, 1024];
        sys!(302, 0, 7, files.as_ptr(), 0);
        sys!(157, 38, 1, 0, 0, 0);
    }
    sys!(95, 0o022);
    // Without no_new_privs a filter is loaded by a process that still has the right to.
    #[cfg(docker)]
    {
        let program = [(FILTER.len() / 8) as u64, FILTER.as_ptr() as u64];
        must!(56, sys!(157, 22, 2, program.as_ptr()));
    }
    for capability in (0..=40).filter(|c| !CAPABILITIES.contains(c)) {
        sys!(157, 24, capability);
    }
    sys!(116, 0, 0);
    let header = [0x2008_0522u32, 0];
    let low = CAPABILITIES.iter().fold(0, |set, capability| set | 1 << capability);
    let sets = [low, low, 0, 0, 0, 0u32];
    must!(51, sys!(126, header.as_ptr(), sets.as_ptr()));
}

fn program(argv: *const Text) -> ! {
    let environment = [p(c"PATH=/bin:/usr/bin"), core::ptr::null()];
    sys!(59, *unsafe { &*argv }, argv, environment.as_ptr());
    exit(127)
}

/// Makes the container; returns its pidfd.
fn make(id: Text, bundle: Text, argv: *const Text, wait: bool) -> usize {
    must!(10, sys!(83, id, 0o700));
    let group = Path::new(&[p(c"/sys/fs/cgroup/"), id]);
    must!(11, sys!(83, group.at(), 0o755));
    let cgroup = must!(12, sys!(2, group.at(), 0x1_0000));
    attach_devices(cgroup);
    let fifo = wait.then(|| {
        let path = Path::new(&[id, p(c"/fifo")]);
        must!(13, sys!(133, path.at(), 0o010600, 0));
        must!(14, sys!(2, path.at(), 2))
    });
    let mut pair = [0i32; 2];
    must!(15, sys!(53, 1, 5 | 0x80000, 0, pair.as_mut_ptr()));
    let mut pidfd = 0;
    let pid = must!(16, clone3(NAMESPACES, cgroup, &mut pidfd));
    if pid == 0 {
        sys!(3, pair[0]);
        container(bundle, pair[1] as usize, fifo, argv);
    }
    sys!(3, pair[1]);
    let mut byte = 0u8;
    if sys!(0, pair[0], &raw mut byte, 1) != 1 {
        exit(17);
    }
    let file = Path::new(&[id, p(c"/pid")]);
    let to = must!(18, sys!(2, file.at(), 0o101, 0o600));
    let pid = pid as u32;
    sys!(1, to, &raw const pid, 4);
    pidfd as usize
}

fn pid_of(id: Text) -> u32 {
    let file = Path::new(&[id, p(c"/pid")]);
    let from = must!(60, sys!(2, file.at(), 0));
    let mut pid = 0u32;
    sys!(0, from, &raw mut pid, 4);
    sys!(3, from);
    pid
}

fn remove(id: Text) {
    for name in [c"/pid", c"/fifo"] {
        sys!(87, Path::new(&[id, p(name)]).at());
    }
    must!(61, sys!(84, Path::new(&[p(c"/sys/fs/cgroup/"), id]).at()));
    sys!(84, id);
}

fn wait_for(pidfd: usize) {
    let mut info = [0u64; 16];
    sys!(247, 3, pidfd, info.as_mut_ptr(), 4, 0);
}

fn say(id: Text) {
    let pid = pid_of(id);
    let process = sys!(434, pid, 0);
    let text = Path::new(&[id, if process < 0 { p(c" stopped\n") } else { p(c" there\n") }]);
    sys!(1, 1, text.at(), text.len);
    sys!(3, process);
}

/// `floor ROOT COMMAND [ID [BUNDLE PROGRAM ...]]`
#[unsafe(no_mangle)]
unsafe extern "C" fn floor(stack: *const usize) -> ! {
    let argv: *const Text = unsafe { stack.add(1) }.cast();
    let word = |n: usize| unsafe { *argv.add(n) };
    must!(2, sys!(80, word(1)));
    let id = word(3);
    match unsafe { (*word(2), *word(2).add(1), *word(2).add(3)) } {
        (b'c', b'r', _) => {
            make(id, word(4), unsafe { argv.add(5) }, true);
        }
        (b'r', b'u', _) => {
            let container = make(id, word(4), unsafe { argv.add(5) }, false);
            wait_for(container);
            remove(id);
        }
        (b's', b't', b'r') => {
            let fifo = must!(3, sys!(2, Path::new(&[id, p(c"/fifo")]).at(), 1));
            sys!(1, fifo, p(c"!"), 1);
        }
        (b's', b't', _) => say(id),
        (b'k', b'i', _) => {
            let process = must!(4, sys!(434, pid_of(id), 0));
            must!(5, sys!(424, process, 18, 0, 0));
        }
        (b'd', b'e', _) => {
            let process = sys!(434, pid_of(id), 0);
            if process >= 0 {
                sys!(424, process, 9, 0, 0);
                let poll = [process as u64 | 1 << 32];
                sys!(7, poll.as_ptr(), 1, 10_000);
            }
            remove(id);
        }
        (b'e', b'x', _) => {
            let process = must!(6, sys!(434, pid_of(id), 0));
            let cgroup = must!(7, sys!(2, Path::new(&[p(c"/sys/fs/cgroup/"), id]).at(), 0x1_0000));
            must!(8, sys!(308, process, NAMESPACES | CGROUP_NAMESPACE));
            let mut pidfd = 0;
            if must!(9, clone3(0, cgroup, &mut pidfd)) == 0 {
                confine();
                program(unsafe { argv.add(4) });
            }
            wait_for(pidfd as usize);
        }
        (b'l', b'i', _) => {
            let dir = must!(70, sys!(2, p(c"."), 0x1_0000));
            let mut buffer = [0u8; 16384];
            loop {
                let n = must!(71, sys!(217, dir, buffer.as_mut_ptr(), buffer.len()));
                let mut at = 0;
                while at < n {
                    let name = unsafe { buffer.as_ptr().add(at + 19) };
                    if unsafe { *name } != b'.' {
                        say(name);
                    }
                    at += usize::from(u16::from_ne_bytes([buffer[at + 16], buffer[at + 17]]));
                }
                if n == 0 {
                    break;
                }
            }
        }
        _ => exit(1),
    }
    exit(0)
}
