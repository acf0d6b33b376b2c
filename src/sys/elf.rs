//! As much of an ELF file as tells why it cannot run: the machine it is for and the loader it names (elf(5)). Reads
//! hostile bytes: every offset is checked, nothing is allocated.

use super::{check, fs};
use std::os::fd::{AsRawFd, BorrowedFd};

/// `e_machine` of this build.
pub const NATIVE: u16 = if cfg!(target_arch = "x86_64") {
    62
} else if cfg!(target_arch = "aarch64") {
    183
} else if cfg!(target_arch = "riscv64") {
    243
} else {
    0
};

/// `e_machine` of an ELF header; `None` for anything else.
pub fn machine(head: &[u8]) -> Option<u16> {
    let bytes: [u8; 2] = head.strip_prefix(b"\x7fELF")?.get(14..16)?.try_into().ok()?;
    let little = *head.get(5)? == 1;
    Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
}

/// What the machine is called.
pub fn machine_name(machine: u16) -> &'static [u8] {
    match machine {
        3 => b"i386",
        8 => b"mips",
        20 => b"ppc",
        21 => b"ppc64",
        22 => b"s390x",
        40 => b"arm",
        62 => b"x86_64",
        183 => b"aarch64",
        243 => b"riscv",
        258 => b"loongarch",
        _ => b"another machine",
    }
}

/// The loader (PT_INTERP) of a 64-bit little-endian program, into `name`.
pub fn loader(file: BorrowedFd<'_>, name: &mut [u8]) -> Option<usize> {
    const PT_INTERP: u32 = 3;
    let mut head = [0u8; 64];
    read_at(file, &mut head, 0)?;
    if head.get(4..6)? != [2, 1] {
        return None;
    }
    let table = u64::from_le_bytes(head.get(32..40)?.try_into().ok()?);
    let size = u16::from_le_bytes(head.get(54..56)?.try_into().ok()?);
    let count = u16::from_le_bytes(head.get(56..58)?.try_into().ok()?);
    for n in 0..count.min(64) {
        let mut entry = [0u8; 56];
        read_at(file, &mut entry, table.checked_add(u64::from(n) * u64::from(size))?)?;
        if u32::from_le_bytes(entry.get(..4)?.try_into().ok()?) != PT_INTERP {
            continue;
        }
        let offset = u64::from_le_bytes(entry.get(8..16)?.try_into().ok()?);
        let length = u64::from_le_bytes(entry.get(32..40)?.try_into().ok()?);
        let length = usize::try_from(length).ok()?.min(name.len());
        let space = name.get_mut(..length)?;
        read_at(file, space, offset)?;
        return space.iter().position(|&c| c == 0).or(Some(length));
    }
    None
}

fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Option<()> {
    // SAFETY: integers only.
    check(unsafe { libc::lseek(file.as_raw_fd(), i64::try_from(offset).ok()?, libc::SEEK_SET) }).ok()?;
    (fs::read_full(file, buffer).ok()? == buffer.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn knows_a_dynamic_program() {
        let file = std::fs::File::open("/bin/sh").unwrap();
        let mut head = [0u8; 64];
        fs::read_full(file.as_fd(), &mut head).unwrap();
        assert_eq!(machine(&head), Some(NATIVE));
        let mut name = [0u8; 200];
        let n = loader(file.as_fd(), &mut name).unwrap();
        assert!(name[..n].starts_with(b"/lib"), "{:?}", String::from_utf8_lossy(&name[..n]));
    }

    #[test]
    fn refuses_other_bytes() {
        assert_eq!(machine(b"#!/bin/sh\n"), None);
        assert_eq!(machine(b"\x7fELF"), None);
    }
}
