//! How many BPF programs the kernel has.
#![allow(unsafe_code)]

/// `BPF_PROG_GET_NEXT_ID` of bpf(2).
const NEXT_ID: libc::c_long = 11;

/// The part of `union bpf_attr` that the command takes.
#[repr(C)]
struct Attributes {
    start: u32,
    next: u32,
    open_flags: u32,
}

/// The programs that are there now.
pub fn count_programs() -> u64 {
    let mut attributes = Attributes { start: 0, next: 0, open_flags: 0 };
    let mut count = 0;
    loop {
        // SAFETY: the pointer is to a live structure of the size that is given, and the kernel writes only within it.
        let result = unsafe { libc::syscall(libc::SYS_bpf, NEXT_ID, &raw mut attributes, size_of::<Attributes>()) };
        if result != 0 {
            return count;
        }
        attributes.start = attributes.next;
        count += 1;
    }
}
