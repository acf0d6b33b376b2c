//! The architectures of a profile: name, audit token, word size, column in the table of numbers.

use super::index::{row, rows};
use super::syscalls::{COLUMNS, N, SYSCALLS};

/// An architecture of system calls, a name of `linux.seccomp.architectures`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arch {
    /// `SCMP_ARCH_*`.
    pub name: &'static str,
    /// `AUDIT_ARCH_*` of linux/audit.h: what `seccomp_data.arch` holds.
    token: u32,
    /// Arguments are compared as 64 bits. Not on x32 and n32, as libseccomp has it.
    wide: bool,
    /// Column of [`SYSCALLS`]; `COLUMNS` when we have no numbers.
    column: usize,
}

const LE: u32 = 0x4000_0000;
const B64: u32 = 0x8000_0000;
const N32: u32 = 0x2000_0000;
const NONE: usize = COLUMNS;

const fn arch(name: &'static str, token: u32, wide: bool, column: usize) -> Arch {
    Arch { name, token, wide, column }
}

/// Every architecture that a profile may list (spec 1.3.0), in the order of the table's columns. The machine numbers in the tokens are those of linux/elf-em.h.
pub const ARCHS: [Arch; 23] = [
    arch("SCMP_ARCH_X86_64", 62 | LE | B64, true, 0),
    arch("SCMP_ARCH_X86", 3 | LE, false, 1),
    arch("SCMP_ARCH_X32", 62 | LE | B64, false, 2),
    arch("SCMP_ARCH_ARM", 40 | LE, false, 3),
    arch("SCMP_ARCH_AARCH64", 183 | LE | B64, true, 4),
    arch("SCMP_ARCH_RISCV64", 243 | LE | B64, true, 5),
    arch("SCMP_ARCH_PPC64LE", 21 | LE | B64, true, 6),
    arch("SCMP_ARCH_PPC64", 21 | B64, true, 6),
    arch("SCMP_ARCH_S390X", 22 | B64, true, 7),
    arch("SCMP_ARCH_LOONGARCH64", 258 | LE | B64, true, 8),
    arch("SCMP_ARCH_PPC", 20, false, 9),
    arch("SCMP_ARCH_S390", 22, false, 10),
    arch("SCMP_ARCH_MIPS", 8, false, 11),
    arch("SCMP_ARCH_MIPSEL", 8 | LE, false, 11),
    arch("SCMP_ARCH_MIPS64", 8 | B64, true, 12),
    arch("SCMP_ARCH_MIPSEL64", 8 | LE | B64, true, 12),
    arch("SCMP_ARCH_MIPS64N32", 8 | B64 | N32, false, 13),
    arch("SCMP_ARCH_MIPSEL64N32", 8 | LE | B64 | N32, false, 13),
    arch("SCMP_ARCH_PARISC", 15, false, 14),
    arch("SCMP_ARCH_PARISC64", 15 | B64, true, 15),
    arch("SCMP_ARCH_M68K", 4, false, 16),
    arch("SCMP_ARCH_SH", 42 | LE, false, NONE),
    arch("SCMP_ARCH_SHEB", 42, false, NONE),
];

#[cfg(target_arch = "x86_64")]
const NATIVE: usize = 0;
#[cfg(target_arch = "x86")]
const NATIVE: usize = 1;
#[cfg(target_arch = "arm")]
const NATIVE: usize = 3;
#[cfg(target_arch = "aarch64")]
const NATIVE: usize = 4;
#[cfg(target_arch = "riscv64")]
const NATIVE: usize = 5;
#[cfg(all(target_arch = "powerpc64", target_endian = "little"))]
const NATIVE: usize = 6;
#[cfg(all(target_arch = "powerpc64", target_endian = "big"))]
const NATIVE: usize = 7;
#[cfg(target_arch = "s390x")]
const NATIVE: usize = 8;
#[cfg(target_arch = "loongarch64")]
const NATIVE: usize = 9;

/// A number as the kernel sees it has this bit on x32 (arch/x86/include/uapi/asm/unistd.h).
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// x86_64, which shares its token with x32.
    pub const X86_64: Self = ARCHS[0];
    /// The one that this program is built for.
    pub const NATIVE: Self = ARCHS[NATIVE];

    /// Finds an architecture by its name in a profile.
    pub fn by_name(name: &str) -> Option<Self> {
        ARCHS.into_iter().find(|arch| arch.name == name)
    }

    /// `AUDIT_ARCH_*`. x86_64 and x32 have the same.
    pub fn token(self) -> u32 {
        self.token
    }

    /// Arguments are compared as 64 bits.
    pub(super) fn wide(self) -> bool {
        self.wide
    }

    /// The high word of an argument comes first in `seccomp_data`.
    pub(super) fn big_endian(self) -> bool {
        self.token & LE == 0
    }

    pub(super) fn x32(self) -> bool {
        self.column == 2
    }

    /// Call 0 is `setup` there, of no use to programs, and C libraries take its answer for the kernel's age.
    pub(super) fn s390(self) -> bool {
        matches!(self.column, 7 | 10)
    }

    /// We have no numbers: no kernel that this program is built for has a second table of sh.
    pub(super) fn unnumbered(self) -> bool {
        self.column == NONE
    }

    /// The number of the call in row `row` of [`SYSCALLS`], if this architecture has it.
    pub(super) fn number(self, row: usize) -> Option<u32> {
        let number = u32::from(*SYSCALLS.get(row)?.2.get(self.column)?);
        match self.column {
            _ if number == u32::from(N) => None,
            2 => Some(number | X32_BIT),
            3 if number >= 0xf000 => Some(0xf_0000 | (number & 0xfff)),
            _ => Some(number),
        }
    }

    /// The rows of [`SYSCALLS`] that this architecture has, with their numbers, which rise.
    pub(super) fn rows(self) -> impl Iterator<Item = (u32, usize)> {
        // What `number` adds to one it adds to all that are larger, too.
        rows(self.column).filter_map(move |row| Some((self.number(row)?, row)))
    }

    /// The number of the call `name`, if this architecture has it.
    pub fn number_of(self, name: &str) -> Option<u32> {
        self.number(row(name)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_name() {
        let of = |arch, name| Arch::by_name(arch).unwrap().number_of(name);
        assert_eq!(of("SCMP_ARCH_X86_64", "read"), Some(0));
        assert_eq!(of("SCMP_ARCH_X32", "execveat"), Some(X32_BIT | 545));
        assert_eq!(of("SCMP_ARCH_ARM", "set_tls"), Some(0xf0005));
        assert_eq!(of("SCMP_ARCH_MIPSEL64N32", "mseal"), Some(6462));
        assert_eq!(of("SCMP_ARCH_LOONGARCH64", "clone3"), Some(435));
        assert_eq!(of("SCMP_ARCH_AARCH64", "open"), None);
        assert_eq!(of("SCMP_ARCH_SH", "read"), None);
        assert_eq!(of("SCMP_ARCH_X86_64", "no_such_call"), None);
    }

    #[test]
    fn the_table_is_sorted_and_the_native_column_is_ours() {
        assert!(SYSCALLS.windows(2).all(|w| w[0].0 < w[1].0));
        for (name, number) in [("execve", libc::SYS_execve), ("openat2", libc::SYS_openat2), ("mseal", libc::SYS_mseal)] {
            assert_eq!(Arch::NATIVE.number_of(name).map(i64::from), Some(number), "{name}");
        }
    }
}
