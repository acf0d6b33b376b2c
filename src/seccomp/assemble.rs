//! Ranges and chains -> classic BPF (linux/filter.h, linux/bpf_common.h).
//!
//! BPF jumps only forward, so the program is written from its end: what a jump goes to is there already, and how far it
//! is, is known. An offset is 8 bits wide; what lies further is reached through a `ja`, or, if it is a `ret`, written again.

use super::verdicts::{Chain, Chains, Range, Verdict};
use super::words::{self, Compare, Test};
use crate::error::{Error, Result};
use crate::sys::seccomp::MAX_INSTRUCTIONS;
use seccompiler::{BpfProgram, sock_filter};

const LD_W_ABS: u16 = 0x20;
const AND_K: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ_K: u16 = 0x15;
const JGT_K: u16 = 0x25;
const JGE_K: u16 = 0x35;
const JSET_K: u16 = 0x45;
const RET_K: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// Numbers with a verdict of their own that are compared one after another before the tree divides further: one instruction
/// for each of them, where the tree takes two. More in a row saves next to nothing and lengthens the way.
const IN_A_ROW: usize = 4;

/// An instruction that is written, counted from the program's end.
type Label = usize;

/// Writes a program from its end.
pub(super) struct Assembler<'a> {
    /// In reverse.
    code: BpfProgram,
    chains: &'a [Chain],
    default: u32,
    big_endian: bool,
    /// The last place of each `ret`.
    returns: Vec<(u32, Label)>,
    /// The place of each chain.
    written: Vec<Option<Label>>,
}

/// Numbers that a kernel looks up when it takes a filter in, each once, to remember those that are always allowed
/// (`seccomp_cache_prepare`, Linux 5.11): all that any but MIPS and ARM have.
const LOOKED_UP: u64 = 512;

/// Numbers of which all but single ones have the same verdict.
struct Leaf {
    start: u32,
    /// How many of them are looked up; 1 at least.
    weight: u64,
    common: Verdict,
    single: Vec<(u32, Verdict)>,
}

impl<'a> Assembler<'a> {
    pub fn new(chains: &'a Chains, default: u32, big_endian: bool) -> Self {
        let chains = chains.0.as_slice();
        Self {
            code: Vec::with_capacity(512),
            chains,
            default,
            big_endian,
            returns: Vec::new(),
            written: vec![None; chains.len()],
        }
    }

    /// The whole program. The first section is the native one: nearest and asked for first.
    pub fn program(mut self, sections: &[(u32, Vec<Range>)]) -> Result<BpfProgram> {
        let mut labels = Vec::with_capacity(sections.len());
        for (token, ranges) in sections.iter().rev() {
            let tree = self.tree(&leaves(ranges));
            labels.push((*token, self.load(NUMBER, tree)));
        }
        let mut start = self.ret(words::KILL_THREAD);
        for (token, section) in labels {
            start = self.jump(JEQ_K, token, section, start);
        }
        self.load(ARCH, start);
        if self.code.len() > MAX_INSTRUCTIONS {
            let cause = format!("its program has {} instructions, the kernel takes {MAX_INSTRUCTIONS}", self.code.len());
            return Err(Error::new("compile seccomp profile", cause).at("/linux/seccomp/syscalls"));
        }
        self.code.reverse();
        Ok(self.code)
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.code.push(sock_filter { code, jt, jf, k });
        self.code.len() - 1
    }

    /// What lies between the instruction written next and `to`, if a conditional jump reaches it.
    fn distance(&self, to: Label) -> Option<u8> {
        u8::try_from(self.code.len() - to - 1).ok()
    }

    fn ja(&mut self, to: Label) -> Label {
        // A program has fewer than 2^32 instructions: memory ends first.
        let k = u32::try_from(self.code.len() - to - 1).unwrap_or(u32::MAX);
        self.push(JA, 0, 0, k)
    }

    fn jump(&mut self, code: u16, k: u32, mut yes: Label, mut no: Label) -> Label {
        if yes == no {
            return yes;
        }
        loop {
            match (self.distance(yes), self.distance(no)) {
                (Some(jt), Some(jf)) => return self.push(code, jt, jf, k),
                (None, _) => yes = self.ja(yes),
                (_, None) => no = self.ja(no),
            }
        }
    }

    /// Writes an instruction that runs on into `next`.
    fn before(&mut self, next: Label, code: u16, k: u32) -> Label {
        if next + 1 != self.code.len() {
            self.ja(next);
        }
        self.push(code, 0, 0, k)
    }

    fn load(&mut self, offset: u32, next: Label) -> Label {
        self.before(next, LD_W_ABS, offset)
    }

    fn ret(&mut self, value: u32) -> Label {
        let known = self.returns.iter().position(|(v, _)| *v == value);
        if let Some(i) = known {
            let label = self.returns[i].1;
            if self.distance(label).is_some() {
                return label;
            }
        }
        let label = self.push(RET_K, 0, 0, value);
        match known {
            Some(i) => self.returns[i].1 = label,
            None => self.returns.push((value, label)),
        }
        label
    }

    fn verdict(&mut self, verdict: Verdict) -> Label {
        match verdict {
            Verdict::Return(value) => self.ret(value),
            Verdict::Chain(index) => match self.written[index] {
                Some(label) => label,
                None => {
                    let label = self.chain(index);
                    self.written[index] = Some(label);
                    label
                }
            },
        }
    }

    /// The number is loaded; finds its verdict.
    fn tree(&mut self, leaves: &[Leaf]) -> Label {
        if let [leaf] = leaves {
            let mut label = self.verdict(leaf.common);
            for (number, verdict) in leaf.single.iter().rev() {
                let target = self.verdict(*verdict);
                label = self.jump(JEQ_K, *number, target, label);
            }
            return label;
        }
        let (low, high) = leaves.split_at(middle(leaves));
        let above = self.tree(high);
        let below = self.tree(low);
        self.jump(JGE_K, high[0].start, above, below)
    }

    fn chain(&mut self, index: usize) -> Label {
        let Chain { wide, clauses } = &self.chains[index];
        let mut label = self.ret(self.default);
        let mut rest = clauses.as_slice();
        while let Some((last, before)) = rest.split_last() {
            if let Some((arg, value)) = equals(last) {
                // Clauses in a row that ask whether the same argument equals this or that: its words are loaded once.
                let alike = |clause: &&(Vec<Test>, u32)| {
                    equals(clause).is_some_and(|(a, v)| a == arg && (!wide || v >> 32 == value >> 32))
                };
                let run = rest.iter().rev().take_while(alike).count();
                let (front, run) = rest.split_at(rest.len() - run);
                label = self.any_of(run, arg, value, *wide, label);
                rest = front;
            } else {
                let mut hit = self.ret(last.1);
                for test in last.0.iter().rev() {
                    hit = if test.negated { self.test(test, *wide, label, hit) } else { self.test(test, *wide, hit, label) };
                }
                label = hit;
                rest = before;
            }
        }
        label
    }

    /// The argument equals the value of one of `run`, which share the high word of `value`.
    fn any_of(&mut self, run: &[(Vec<Test>, u32)], arg: u8, value: u64, wide: bool, miss: Label) -> Label {
        let mut label = miss;
        for clause in run.iter().rev() {
            let Some((_, value)) = equals(clause) else { continue };
            let hit = self.ret(clause.1);
            label = self.jump(JEQ_K, words_of(value).1, hit, label);
        }
        label = self.load(self.low(arg), label);
        if wide {
            label = self.jump(JEQ_K, words_of(value).0, label, miss);
            label = self.load(self.high(arg), label);
        }
        label
    }

    fn test(&mut self, test: &Test, wide: bool, yes: Label, no: Label) -> Label {
        match test.compare {
            Compare::Masked { mask, value } => {
                let (mask, value) = (words_of(mask), words_of(value));
                let label = self.masked(self.low(test.arg), mask.1, value.1, yes, no);
                if wide { self.masked(self.high(test.arg), mask.0, value.0, label, no) } else { label }
            }
            Compare::Above(value) => self.greater(JGT_K, test.arg, value, wide, yes, no),
            Compare::AtLeast(value) => self.greater(JGE_K, test.arg, value, wide, yes, no),
        }
    }

    fn masked(&mut self, offset: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
        let label = match (mask, value) {
            (0, _) => return yes,
            (u32::MAX, _) => self.jump(JEQ_K, value, yes, no),
            (_, 0) => self.jump(JSET_K, mask, no, yes),
            _ => {
                let label = self.jump(JEQ_K, value, yes, no);
                self.before(label, AND_K, mask)
            }
        };
        self.load(offset, label)
    }

    fn greater(&mut self, code: u16, arg: u8, value: u64, wide: bool, yes: Label, no: Label) -> Label {
        let (high, low) = words_of(value);
        let label = self.jump(code, low, yes, no);
        let mut label = self.load(self.low(arg), label);
        if wide {
            label = self.jump(JEQ_K, high, label, no);
            label = self.jump(JGT_K, high, yes, label);
            label = self.load(self.high(arg), label);
        }
        label
    }

    fn low(&self, arg: u8) -> u32 {
        ARGS + 8 * u32::from(arg) + if self.big_endian { 4 } else { 0 }
    }

    fn high(&self, arg: u8) -> u32 {
        ARGS + 8 * u32::from(arg) + if self.big_endian { 0 } else { 4 }
    }
}

/// The clause asks one thing, whether an argument equals a value.
fn equals(clause: &(Vec<Test>, u32)) -> Option<(u8, u64)> {
    match clause.0.as_slice() {
        [Test { arg, compare: Compare::Masked { mask: u64::MAX, value }, negated: false }] => Some((*arg, *value)),
        _ => None,
    }
}

/// The high and the low word.
fn words_of(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

/// Where leaves, of which there are two at least, are best divided: the more numbers a leaf has, the shorter the way to it.
fn middle(leaves: &[Leaf]) -> usize {
    let whole: u64 = leaves.iter().map(|leaf| leaf.weight).sum();
    let mut below = 0;
    let off_balance = leaves.iter().map(|leaf| {
        below += leaf.weight;
        (2 * below).abs_diff(whole)
    });
    let best = off_balance.take(leaves.len() - 1).enumerate().min_by_key(|(_, off)| *off);
    best.map_or(1, |(last, _)| last + 1)
}

/// Divides ranges, of which there is at least one, into as few leaves as can be.
fn leaves(ranges: &[Range]) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    let mut rest = ranges;
    while let Some(first) = rest.first() {
        // The common verdict is the first range's or the second's: whichever reaches further.
        let candidates = [first.1, rest.get(1).map_or(first.1, |second| second.1)];
        let (length, common) = candidates
            .map(|common| (reach(rest, common), common))
            .into_iter()
            .fold((0, first.1), |best, next| if next.0 > best.0 { next } else { best });
        let (taken, left) = rest.split_at(length);
        let single = taken.iter().filter(|range| range.1 != common).copied().collect();
        let end = left.first().map_or(LOOKED_UP, |next| u64::from(next.0).min(LOOKED_UP));
        let weight = end.saturating_sub(first.0.into()).max(1);
        leaves.push(Leaf { start: first.0, weight, common, single });
        rest = left;
    }
    leaves
}

/// How many of the first ranges fit one leaf with this common verdict.
fn reach(ranges: &[Range], common: Verdict) -> usize {
    let mut single = 0;
    for (i, (start, verdict)) in ranges.iter().enumerate() {
        if *verdict == common {
            continue;
        }
        let end = ranges.get(i + 1).map_or(1 << 32, |next| u64::from(next.0));
        single += 1;
        if single > IN_A_ROW || end - u64::from(*start) != 1 {
            return i;
        }
    }
    ranges.len()
}
