//! bpf(2) for the device programs of a cgroup: load, attach, replace, find, detach. Nothing else of eBPF.
//!
//! Since 5.11 the memory is charged to the caller's cgroup, so RLIMIT_MEMLOCK is left alone. All descriptors that bpf(2)
//! returns are close-on-exec.

use super::check;
use nix::errno::Errno;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

// enum bpf_cmd, linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;

/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const TYPE_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`.
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: other programs may be there too, and all must agree.
const ALLOW_MULTI: u32 = 2;
/// `BPF_F_REPLACE`, 5.6.
const REPLACE: u32 = 4;

/// The kernel attaches at most 64 programs to a cgroup (`BPF_CGROUP_MAX_PROGS`).
const MOST_PROGRAMS: usize = 64;

/// Length of a program's name with its final zero (`BPF_OBJ_NAME_LEN`).
const NAME_LEN: usize = 16;
/// A program's name, padded with zeros; letters, digits, `_` and `.`.
pub type Name = [u8; NAME_LEN];

/// A loaded device program.
#[derive(Debug)]
pub struct Program(OwnedFd);

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: Name,
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: RawFd,
    attach_bpf_fd: RawFd,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: RawFd,
}

/// Up to `revision`, which kernels since 6.17 write whether or not the caller's attribute reaches that far.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: RawFd,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    bpf_fd: RawFd,
    info_len: u32,
    info: u64,
}

/// The start of `struct bpf_prog_info`, up to the name (4.15).
#[repr(C)]
#[derive(Default)]
struct Info {
    prog_type: u32,
    id: u32,
    tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: Name,
}

/// Loads a device program, given as a sequence of `struct bpf_insn`. It lives as long as it is open or attached.
///
/// EPERM without CAP_BPF (or CAP_SYS_ADMIN) in the first user namespace, EINVAL or EACCES when the verifier refuses it:
/// [`verifier_log`] says why.
pub fn load(insns: &[u64], name: Name) -> nix::Result<Program> {
    load_with(insns, name, &mut [])
}

/// Loads again, in vain, for the verifier's words. Empty when it has none.
pub fn verifier_log(insns: &[u64], name: Name) -> String {
    let mut log = vec![0u8; 1 << 16];
    // Only the text counts: the program was refused before, and is closed at once if it is not refused now.
    drop(load_with(insns, name, &mut log));
    let text = log.split(|&b| b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// `log` empty asks for none.
fn load_with(insns: &[u64], name: Name, log: &mut [u8]) -> nix::Result<Program> {
    let license = c"Apache-2.0";
    let mut attr = LoadAttr {
        prog_type: TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(insns.len()).map_err(|_| Errno::E2BIG)?,
        insns: address(insns.as_ptr()),
        license: address(license.as_ptr()),
        prog_name: name,
        expected_attach_type: ATTACH_CGROUP_DEVICE,
        ..LoadAttr::default()
    };
    if !log.is_empty() {
        attr.log_level = 1;
        attr.log_size = u32::try_from(log.len()).map_err(|_| Errno::E2BIG)?;
        attr.log_buf = address(log.as_mut_ptr());
    }
    // SAFETY: `insns`, `license` and `log` outlive the call, with the lengths that `attr` gives; the kernel writes only
    // into `log`.
    let fd = unsafe { bpf(PROG_LOAD, &mut attr) }?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(Program(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Attaches to the cgroup directory, beside what is there.
pub fn attach(cgroup: impl AsFd, program: &Program) -> nix::Result<()> {
    attach_with(cgroup, program, 0, ALLOW_MULTI)
}

/// Takes the place of `old` in one step: there is no moment without a program. ENOENT when `old` is not attached here.
pub fn replace(cgroup: impl AsFd, program: &Program, old: &Program) -> nix::Result<()> {
    attach_with(cgroup, program, old.0.as_raw_fd(), ALLOW_MULTI | REPLACE)
}

fn attach_with(cgroup: impl AsFd, program: &Program, replaced: RawFd, flags: u32) -> nix::Result<()> {
    let mut attr = AttachAttr {
        target_fd: cgroup.as_fd().as_raw_fd(),
        attach_bpf_fd: program.0.as_raw_fd(),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: flags,
        replace_bpf_fd: replaced,
    };
    // SAFETY: `attr` holds no pointers.
    unsafe { bpf(PROG_ATTACH, &mut attr) }.map(drop)
}

/// Takes a program off the cgroup directory.
pub fn detach(cgroup: impl AsFd, program: &Program) -> nix::Result<()> {
    let mut attr = AttachAttr {
        target_fd: cgroup.as_fd().as_raw_fd(),
        attach_bpf_fd: program.0.as_raw_fd(),
        attach_type: ATTACH_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    // SAFETY: `attr` holds no pointers.
    unsafe { bpf(PROG_DETACH, &mut attr) }.map(drop)
}

/// The device programs attached to the directory itself, with their names. Those that may not be opened (another's, under
/// an LSM), or that went meanwhile, are left out.
pub fn attached(cgroup: impl AsFd) -> nix::Result<Vec<(Program, Name)>> {
    let mut ids = [0u32; MOST_PROGRAMS];
    let mut attr = QueryAttr {
        target_fd: cgroup.as_fd().as_raw_fd(),
        attach_type: ATTACH_CGROUP_DEVICE,
        prog_ids: address(ids.as_mut_ptr()),
        prog_cnt: u32::try_from(MOST_PROGRAMS).map_err(|_| Errno::E2BIG)?,
        ..QueryAttr::default()
    };
    // SAFETY: the kernel writes at most `prog_cnt` numbers to `ids`, which outlives the call.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    let count = usize::try_from(attr.prog_cnt).map_or(MOST_PROGRAMS, |n| n.min(MOST_PROGRAMS));
    let mut found = Vec::with_capacity(count);
    for &prog_id in ids.iter().take(count) {
        // SAFETY: the attribute holds no pointers.
        let fd = match unsafe { bpf(PROG_GET_FD_BY_ID, &mut IdAttr { prog_id, ..IdAttr::default() }) } {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::EACCES | Errno::EPERM) => continue,
            Err(e) => return Err(e),
        };
        // SAFETY: the kernel just made this descriptor for us.
        let program = Program(unsafe { OwnedFd::from_raw_fd(fd) });
        let name = name(&program)?;
        found.push((program, name));
    }
    Ok(found)
}

fn name(program: &Program) -> nix::Result<Name> {
    let mut info = Info::default();
    let mut attr = InfoAttr {
        bpf_fd: program.0.as_raw_fd(),
        info_len: u32::try_from(size_of::<Info>()).map_err(|_| Errno::E2BIG)?,
        info: address(&raw mut info),
    };
    // SAFETY: the kernel writes at most `info_len` bytes to `info`, plain numbers and bytes that any value suits. It reads
    // the lengths beside the pointers in it, which are zero: it follows none.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info.name)
}

/// A pointer as bpf(2) wants it: 64 bits on every machine.
fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// One call, again when a signal or the verifier's own impatience (EAGAIN on a pending signal) broke it off.
///
/// # Safety
/// `attr` must be the attribute that `command` takes, and what it points to must be valid for the lengths in it.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> nix::Result<RawFd> {
    loop {
        // SAFETY: `attr` is valid for its own size; the rest is the caller's promise.
        let done = check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) });
        match done {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            other => return other.and_then(|n| RawFd::try_from(n).map_err(|_| Errno::EBADF)),
        }
    }
}
