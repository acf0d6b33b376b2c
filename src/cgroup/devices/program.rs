//! The tables of allowed devices as eBPF, without a single branch.
//!
//! The verifier walks every branch, with a copy of its state for each: crun's form, a test for each rule, takes it 330 µs for
//! 15 rules. Here each entry of a table becomes a number, 1 where the device is the entry's and else 0, and that many times
//! its bits of access are flipped: a straight line, which the verifier walks once.
//!
//! `x - 1 >> 63` is that number for a 32-bit `x` which is zero exactly for the entry's device. Not the mask of all ones by an
//! arithmetic shift: some verifiers (met on 6.18) take `mask & bits` for a branch, and walk both sides of each.

use super::Table;
use std::collections::BTreeMap;

// The context, struct bpf_cgroup_dev_ctx: u32 each of access << 16 | kind, major, minor.
const CTX_ACCESS_TYPE: i16 = 0;
const CTX_MAJOR: i16 = 4;
const CTX_MINOR: i16 = 8;
const KIND_BLOCK: i32 = 1;
const KIND_CHAR: i32 = 2;

// Opcodes, linux/bpf_common.h and linux/bpf.h: operation | source | class.
const W32: u8 = 0x04;
const W64: u8 = 0x07;
const BY_REG: u8 = 0x08;
const SUB: u8 = 0x10;
const MUL: u8 = 0x20;
const OR: u8 = 0x40;
const AND: u8 = 0x50;
const LSH: u8 = 0x60;
const RSH: u8 = 0x70;
const XOR: u8 = 0xa0;
const MOV: u8 = 0xb0;
const LOAD_U32: u8 = 0x61;
const LOAD_IMM64: u8 = 0x18;
const EXIT: u8 = 0x95;

// What each register holds.
/// The allowed bits so far, and the verdict at the end: 1 lets the access pass.
const ALLOWED: u8 = 0;
const CTX: u8 = 1;
/// Zero for a character device.
const NOT_CHAR: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR_BITS: u8 = 4;
/// `major << 20 | minor`, the kernel's `dev_t`.
const DEV: u8 = 5;
/// Zero for a block device.
const NOT_BLOCK: u8 = 6;
/// 1 where the entry at hand is about the device, else 0.
const HIT: u8 = 7;
const SET: u8 = 8;
/// The last six bits of the minor.
const BIT: u8 = 9;

const MINOR_BITS: u32 = 20;
/// Devices whose numbers differ in the last six bits only share one set of 64 bits.
const WINDOW_BITS: u32 = 6;

/// The program, for tables of block and of character devices.
pub(super) fn assemble(block: &Table, char: &Table) -> Vec<u64> {
    let mut a = Assembler(Vec::new());
    a.load(NOT_CHAR, CTX_ACCESS_TYPE);
    a.reg(W32, MOV, ACCESS, NOT_CHAR);
    a.imm(W32, RSH, ACCESS, 16);
    a.imm(W32, AND, NOT_CHAR, 0xffff);
    a.imm(W32, XOR, NOT_CHAR, KIND_CHAR);
    a.reg(W32, MOV, NOT_BLOCK, NOT_CHAR);
    a.imm(W32, XOR, NOT_BLOCK, KIND_CHAR ^ KIND_BLOCK);
    a.load(MAJOR_BITS, CTX_MAJOR);
    a.imm(W32, LSH, MAJOR_BITS, 20);
    a.load(DEV, CTX_MINOR);
    a.reg(W32, OR, DEV, MAJOR_BITS);
    a.reg(W32, MOV, BIT, DEV);
    a.imm(W32, AND, BIT, 63);
    a.imm(W32, MOV, ALLOWED, block.rest.into());
    if char.rest != block.rest {
        a.reg(W64, MOV, HIT, NOT_CHAR);
        a.is_zero();
        a.flip(char.rest ^ block.rest);
    }
    a.table(block, NOT_BLOCK);
    a.table(char, NOT_CHAR);
    // What is asked for and not allowed; nothing of it is left where the access may pass.
    a.imm(W32, XOR, ALLOWED, super::ALL.into());
    a.reg(W32, AND, ALLOWED, ACCESS);
    a.imm(W64, SUB, ALLOWED, 1);
    a.imm(W64, RSH, ALLOWED, 63);
    a.push(EXIT, 0, 0, 0, 0);
    a.0
}

struct Assembler(Vec<u64>);

impl Assembler {
    fn table(&mut self, table: &Table, not_kind: u8) {
        for (&major, &bits) in &table.majors {
            self.reg(W32, MOV, HIT, MAJOR_BITS);
            self.same(major << MINOR_BITS, not_kind);
            self.flip(bits);
        }
        for (&minor, &bits) in &table.minors {
            self.reg(W32, MOV, HIT, DEV);
            self.reg(W32, XOR, HIT, MAJOR_BITS);
            self.same(minor, not_kind);
            self.flip(bits);
        }
        let mut windows: BTreeMap<u32, Vec<(u32, u8)>> = BTreeMap::new();
        for (&(major, minor), &bits) in &table.nodes {
            let dev = major << MINOR_BITS | minor;
            windows.entry(dev >> WINDOW_BITS).or_default().push((dev, bits));
        }
        for (window, nodes) in windows {
            self.reg(W32, MOV, HIT, DEV);
            if let [(dev, bits)] = nodes[..] {
                self.same(dev, not_kind);
                self.flip(bits);
            } else {
                self.imm(W32, RSH, HIT, 6);
                self.same(window, not_kind);
                self.sets(&nodes);
            }
        }
    }

    /// Flips bits of access for the members of a window, where HIT says that the device lies in it.
    fn sets(&mut self, nodes: &[(u32, u8)]) {
        let mut sets: BTreeMap<u8, u64> = BTreeMap::new();
        for &(dev, bits) in nodes {
            *sets.entry(bits).or_default() |= 1 << (dev & 63);
        }
        for (bits, set) in sets {
            let [low, high] = halves(set);
            self.push(LOAD_IMM64, SET, 0, 0, low);
            self.push(0, 0, 0, 0, high);
            self.reg(W64, RSH, SET, BIT);
            self.reg(W64, AND, SET, HIT);
            self.imm(W64, MUL, SET, bits.into());
            self.reg(W64, XOR, ALLOWED, SET);
        }
    }

    /// HIT becomes 1 where it is `value` and the device is of the kind, else 0.
    fn same(&mut self, value: u32, not_kind: u8) {
        self.imm(W32, XOR, HIT, value.cast_signed());
        self.reg(W64, OR, HIT, not_kind);
        self.is_zero();
    }

    /// HIT, at most 32 bits wide, becomes 1 where it is zero, else 0.
    fn is_zero(&mut self) {
        self.imm(W64, SUB, HIT, 1);
        self.imm(W64, RSH, HIT, 63);
    }

    /// Flips `bits` of what is allowed where HIT is 1.
    fn flip(&mut self, bits: u8) {
        self.imm(W64, MUL, HIT, bits.into());
        self.reg(W64, XOR, ALLOWED, HIT);
    }

    fn load(&mut self, dst: u8, offset: i16) {
        self.push(LOAD_U32, dst, CTX, offset, 0);
    }

    fn imm(&mut self, class: u8, op: u8, dst: u8, imm: i32) {
        self.push(op | class, dst, 0, 0, imm);
    }

    fn reg(&mut self, class: u8, op: u8, dst: u8, src: u8) {
        self.push(op | BY_REG | class, dst, src, 0, 0);
    }

    /// Adds a `struct bpf_insn` as it lies in memory.
    fn push(&mut self, code: u8, dst: u8, src: u8, offset: i16, imm: i32) {
        // Two bit fields: the first takes the low half on little-endian machines and the high half on the others.
        let regs = if cfg!(target_endian = "little") { src << 4 | dst } else { dst << 4 | src };
        let [o0, o1] = offset.to_ne_bytes();
        let [i0, i1, i2, i3] = imm.to_ne_bytes();
        self.0.push(u64::from_ne_bytes([code, regs, o0, o1, i0, i1, i2, i3]));
    }
}

/// The low and the high half, as the immediates of the two instructions that load a 64-bit number.
fn halves(n: u64) -> [i32; 2] {
    let [a, b, c, d, e, f, g, h] = n.to_le_bytes();
    [i32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h])]
}
