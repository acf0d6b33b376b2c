//! Classic BPF as the kernel runs it over `struct seccomp_data`: the instructions that a seccomp program may have.

use seccompiler::sock_filter;

/// `struct seccomp_data`, without the instruction pointer, as little-endian machines lay it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    pub nr: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Data {
    /// As the kernel sees it, in words.
    pub fn words(&self) -> [u32; 16] {
        let mut words = [0; 16];
        words[0] = self.nr;
        words[1] = self.arch;
        for (i, arg) in self.args.iter().enumerate() {
            words[4 + 2 * i] = *arg as u32;
            words[5 + 2 * i] = (arg >> 32) as u32;
        }
        words
    }
}

/// Runs a program: the value that it returns. Panics on what the kernel's checker would refuse.
pub fn run(program: &[sock_filter], data: &Data) -> u32 {
    run_words(program, &data.words())
}

/// The same, quick in a build without optimisation.
pub fn run_words(program: &[sock_filter], words: &[u32; 16]) -> u32 {
    let (mut a, mut pc) = (0u32, 0usize);
    loop {
        let i = &program[pc];
        pc += 1;
        let taken = match i.code {
            0x06 => return i.k,
            0x20 => {
                assert!(i.k & 3 == 0, "unaligned load");
                a = words[(i.k >> 2) as usize];
                continue;
            }
            0x54 => {
                a &= i.k;
                continue;
            }
            0x05 => {
                pc += i.k as usize;
                continue;
            }
            0x15 => a == i.k,
            0x25 => a > i.k,
            0x35 => a >= i.k,
            0x45 => a & i.k != 0,
            code => panic!("instruction {code:#x}"),
        };
        pc += if taken { i.jt } else { i.jf } as usize;
    }
}

/// The longest way through a program, in instructions.
pub fn depth(program: &[sock_filter]) -> usize {
    let mut depth = vec![0usize; program.len()];
    for (pc, i) in program.iter().enumerate().rev() {
        depth[pc] = 1 + match i.code {
            0x06 => 0,
            0x05 => depth[pc + 1 + i.k as usize],
            code if code & 0x7 == 5 => depth[pc + 1 + usize::from(i.jt)].max(depth[pc + 1 + usize::from(i.jf)]),
            _ => depth[pc + 1],
        };
    }
    depth[0]
}
