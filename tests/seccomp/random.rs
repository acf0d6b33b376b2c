//! Random calls, biased towards where a filter may err: the numbers and values of the profile, their neighbours, high words.

use crate::bpf::Data;
use onggi::config::Seccomp;
use onggi::seccomp::{ARCHS, Arch};

/// xorshift64*: the same calls in each run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// What to draw calls from.
pub struct Pool {
    archs: Vec<(Arch, Vec<u32>)>,
    values: Vec<u64>,
}

impl Pool {
    /// Calls of the x86 family and of what else the profile lists.
    pub fn of(profile: &Seccomp) -> Self {
        let x86 = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
        let listed = |arch: &Arch| x86.contains(&arch.name) || profile.architectures.iter().any(|name| name == arch.name);
        let archs = ARCHS.into_iter().filter(listed).map(|arch| (arch, Self::numbers(profile, arch))).collect();
        let mut values = vec![0, 1, 9, 16, 40, u64::from(u32::MAX), 1 << 32, 1 << 31, 1 << 63, u64::MAX];
        for arg in profile.syscalls.iter().flat_map(|rule| &rule.args) {
            values.extend([
                arg.value,
                arg.value_two,
                arg.value & arg.value_two,
                !arg.value,
                arg.value ^ 1 << 32,
                arg.value.swap_bytes(),
            ]);
        }
        values.extend(1..=24); // the calls behind a multiplexer
        Self { archs, values }
    }

    fn numbers(profile: &Seccomp, arch: Arch) -> Vec<u32> {
        let names = profile.syscalls.iter().flat_map(|rule| {
            // Calls with conditions come up more often.
            let weight = if rule.args.is_empty() { 1 } else { 20 };
            rule.names.iter().flat_map(move |name| std::iter::repeat_n(name, weight))
        });
        let mut numbers: Vec<u32> = names.filter_map(|name| arch.number_of(name)).collect();
        numbers.extend(["socketcall", "ipc", "socketcall", "ipc"].iter().filter_map(|name| arch.number_of(name)));
        numbers.extend([0, 1, 511, 512, 547, 1000, 0x3fff_ffff, 0x4000_0000, 0x4000_0001, 0x7fff_ffff, 0x8000_0000, 0xbfff_ffff]);
        numbers.extend([0xc000_0000, 0xffff_fffe, u32::MAX]);
        numbers
    }

    pub fn call(&self, random: &mut Random) -> Data {
        let (arch, numbers) = random.one(&self.archs);
        let bit = arch.number_of("read").unwrap_or(0) & 0x4000_0000;
        let nr = match random.below(8) {
            0 => random.next() as u32,
            1 | 2 => bit | random.below(600) as u32,
            3 => random.one(numbers).wrapping_add(1),
            4 => random.one(numbers).wrapping_sub(1),
            _ => *random.one(numbers),
        };
        let args = std::array::from_fn(|_| {
            let value = *random.one(&self.values);
            match random.below(8) {
                0 => random.next(),
                1 => value.wrapping_add(1),
                2 => value.wrapping_sub(1),
                3 => value & 0xffff_ffff | random.next() << 32,
                4 => value & !0xffff_ffff | random.next() >> 32,
                _ => value,
            }
        });
        let token = if random.below(200) == 0 { random.next() as u32 } else { arch.token() };
        Data { nr, arch: token, args }
    }
}
