//! The program against a direct reading of the rules, in an interpreter of the few instructions that it uses.

use super::*;

/// Runs a program for one access: kind is 1 for block and 2 for char.
fn interpret(program: &[u64], kind: u32, access: u8, major: u32, minor: u32) -> bool {
    let ctx = [u32::from(access) << 16 | kind, major, minor];
    let mut r = [0u64; 10];
    let mut pc = 0;
    loop {
        let [code, regs, o0, o1, i0, i1, i2, i3] = program[pc].to_ne_bytes();
        pc += 1;
        let (dst, src) = (usize::from(regs & 15), usize::from(regs >> 4));
        let imm = i32::from_ne_bytes([i0, i1, i2, i3]);
        match code {
            0x61 => {
                assert_eq!(src, 1, "only the context is memory");
                r[dst] = u64::from(ctx[usize::from(u16::from_ne_bytes([o0, o1])) / 4]);
            }
            0x18 => {
                let high = u64::from_ne_bytes(program[pc].to_ne_bytes()) >> 32;
                pc += 1;
                r[dst] = high << 32 | u64::from(imm.cast_unsigned());
            }
            0x95 => return r[0] == 1,
            _ => {
                let wide = code & 7 == 7;
                let operand = if code & 8 != 0 { r[src] } else { i64::from(imm).cast_unsigned() };
                let (a, b) = if wide { (r[dst], operand) } else { (r[dst] & 0xffff_ffff, operand & 0xffff_ffff) };
                let out = match code & 0xf0 {
                    0x10 => a.wrapping_sub(b),
                    0x20 => a.wrapping_mul(b),
                    0x40 => a | b,
                    0x50 => a & b,
                    0x60 => a << b,
                    0x70 => a >> b,
                    0xa0 => a ^ b,
                    0xb0 => b,
                    op => panic!("operation {op:#x}"),
                };
                r[dst] = if wide { out } else { out & 0xffff_ffff };
            }
        }
    }
}

/// The meaning of a list: for each bit that is asked for, the last rule that speaks of it.
fn direct(rules: &[Rule], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
    [MKNOD, READ, WRITE].iter().filter(|&&bit| access & bit != 0).all(|&bit| {
        let last = rules.iter().rev().find(|r| {
            r.access & bit != 0
                && r.kind.is_none_or(|k| k == kind)
                && r.major.is_none_or(|m| m == major)
                && r.minor.is_none_or(|m| m == minor)
        });
        last.is_some_and(|r| r.allow)
    })
}

fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
    DeviceRule { allow, kind: kind.into(), major: Some(major), minor: Some(minor), access: access.into() }
}

fn deny_all() -> DeviceRule {
    DeviceRule { allow: false, access: "rwm".into(), ..DeviceRule::default() }
}

fn bits(access: &str) -> u8 {
    access
        .chars()
        .map(|c| match c {
            'r' => READ,
            'w' => WRITE,
            _ => MKNOD,
        })
        .sum()
}

fn may(program: &[u64], kind: char, major: u32, minor: u32, access: &str) -> bool {
    interpret(program, if kind == 'c' { 2 } else { 1 }, bits(access), major, minor)
}

/// xorshift64: the same lists at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn number(&mut self, small: u64, wild: u64) -> Option<i64> {
        if self.below(10) < wild { None } else { Some(i64::try_from(self.below(small)).unwrap()) }
    }

    fn rule(&mut self) -> DeviceRule {
        let access = ["", "r", "w", "m", "rw", "rm", "wm", "rwm", "rwm", "rwm"][usize::try_from(self.below(10)).unwrap()];
        DeviceRule {
            allow: self.below(3) != 0,
            kind: ["a", "b", "c", "c", "c"][usize::try_from(self.below(5)).unwrap()].into(),
            major: self.number(6, 4),
            minor: self.number(130, 4),
            access: access.into(),
        }
    }
}

#[test]
fn random_lists_mean_what_they_say() {
    let mut random = Random(0x5eed);
    let mut verdicts = [0u32; 2];
    for length in (0..400).map(|i| i % 70) {
        let list: Vec<_> = (0..length).map(|_| random.rule()).collect();
        let rules = effective(&list, &[]).unwrap();
        let Some(code) = program(&list, &[]).unwrap() else { continue };
        for major in (0..7).chain([136, 4095]) {
            for minor in (0..140).step_by(3).chain([255, 1_048_575]) {
                let access = u8::try_from(random.below(8)).unwrap();
                for (kind, number) in [(Kind::Block, 1), (Kind::Char, 2)] {
                    let want = direct(&rules, kind, access, major, minor);
                    verdicts[usize::from(want)] += 1;
                    let got = interpret(&code, number, access, major, minor);
                    assert_eq!(got, want, "{kind:?} {major}:{minor} access {access} under {list:?}");
                }
            }
        }
    }
    assert!(verdicts.iter().all(|&n| n > 20_000), "{verdicts:?}");
}

#[test]
fn nothing_is_allowed_but_the_defaults() {
    for list in [vec![], vec![deny_all()]] {
        let code = program(&list, &[]).unwrap().unwrap();
        for (kind, major, minor, access, want) in [
            ('c', 1, 3, "rw", true),
            ('c', 1, 5, "rwm", true),
            ('c', 1, 7, "w", true),
            ('c', 1, 8, "r", true),
            ('c', 1, 9, "r", true),
            ('c', 5, 0, "rw", true),
            ('c', 5, 2, "rw", true),
            ('c', 136, 77, "rw", true),
            ('c', 10, 200, "m", true),
            ('b', 8, 0, "m", true),
            ('c', 1, 1, "r", false),
            ('c', 1, 67, "r", false),
            ('b', 1, 3, "r", false),
            ('b', 8, 0, "r", false),
            ('c', 5, 1, "w", false),
            ('c', 10, 200, "rm", false),
        ] {
            assert_eq!(may(&code, kind, major, minor, access), want, "{kind} {major}:{minor} {access}");
        }
    }
}

#[test]
fn order_decides() {
    let code = program(&[rule(true, "c", 10, -1, "rwm"), rule(false, "c", 10, 229, "rwm")], &[]).unwrap().unwrap();
    assert!(may(&code, 'c', 10, 228, "rw") && !may(&code, 'c', 10, 229, "r"));
    let code = program(&[rule(false, "c", 10, 229, "rwm"), rule(true, "c", 10, -1, "rwm")], &[]).unwrap().unwrap();
    assert!(may(&code, 'c', 10, 229, "rw"));
    let code = program(&[rule(true, "c", 10, 229, "rwm"), deny_all()], &[]).unwrap().unwrap();
    assert!(!may(&code, 'c', 10, 229, "r"));
}

/// One open for both is as good as its two halves: no more, no less.
#[test]
fn parts_of_an_access_add_up_and_are_taken_away() {
    let code = program(&[rule(true, "c", 10, 1, "r"), rule(true, "c", 10, 1, "w")], &[]).unwrap().unwrap();
    assert!(may(&code, 'c', 10, 1, "rw"));
    let code = program(&[rule(true, "c", 10, 1, "rwm"), rule(false, "c", 10, 1, "w")], &[]).unwrap().unwrap();
    assert!(may(&code, 'c', 10, 1, "r") && !may(&code, 'c', 10, 1, "w") && !may(&code, 'c', 10, 1, "rw"));
}

#[test]
fn everything_allowed_needs_no_program() {
    let all = DeviceRule { allow: true, access: "rwm".into(), ..DeviceRule::default() };
    assert_eq!(program(&[deny_all(), rule(true, "c", 1, 5, "rwm"), all.clone()], &[]).unwrap(), None);
    let two = [rule(true, "b", -1, -1, "rwm"), rule(true, "c", -1, -1, "rw")];
    assert_eq!(program(&two, &[]).unwrap(), None);
    assert!(program(&[all, rule(false, "b", 8, 0, "w")], &[]).unwrap().is_some());
}

#[test]
fn a_node_of_the_configuration_takes_the_place_of_the_default() {
    let tty = Device { path: "/dev/tty".into(), ..Device::default() };
    let code = program(&[deny_all()], std::slice::from_ref(&tty)).unwrap().unwrap();
    assert!(!may(&code, 'c', 5, 0, "r") && may(&code, 'c', 5, 2, "r") && may(&code, 'c', 1, 3, "r"));
}

#[test]
fn numbers_that_no_device_has_match_nothing() {
    // Cut to 12 and 20 bits these would be 1:1.
    for r in [rule(true, "c", 4097, 1, "rwm"), rule(true, "c", 1, 1_048_577, "rwm"), rule(true, "c", 1 << 40, 1, "rwm")] {
        let code = program(&[r], &[]).unwrap().unwrap();
        assert!(!may(&code, 'c', 1, 1, "r"));
    }
}

#[test]
fn bad_words_are_refused() {
    for (r, words) in [
        (rule(true, "p", 1, 1, "r"), "type \"p\" is none of a, b and c"),
        (rule(true, "c", 1, 1, "rx"), "access 'x' is none of r, w and m"),
    ] {
        let e = program(&[deny_all(), r], &[]).unwrap_err();
        assert_eq!(e.to_string(), format!("/linux/resources/devices/1: read the device rule: {words}"));
    }
    let many: Vec<_> = (0..300).flat_map(|n| [rule(true, "c", n, -1, "r"), rule(true, "c", -1, n, "w")]).collect();
    assert_eq!(program(&many, &[]).unwrap_err().field(), "/linux/resources/devices");
}

#[test]
fn the_usual_lists_are_short() {
    let docker: Vec<_> = [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)]
        .map(|(a, i)| rule(true, "c", a, i, "rwm"))
        .into_iter()
        .chain([rule(false, "c", 10, 229, "rwm")])
        .collect();
    let twice: Vec<_> = [vec![deny_all()], docker.clone(), vec![deny_all()], docker].concat();
    assert!(program(&twice, &[]).unwrap().unwrap().len() <= 60);
    assert!(program(&[deny_all()], &[]).unwrap().unwrap().len() <= 60);
}

#[test]
fn what_forbids_a_forbids_all() {
    let list = [rule(true, "c", 10, 5, "rwm"), rule(true, "c", 10, 6, "rwm"), rule(false, "c", 10, 5, "ra")];
    let code = program(&list, &[]).unwrap().unwrap();
    // Nodes may be made of all devices, by runc's own rules.
    for access in ["r", "w"] {
        assert!(!may(&code, 'c', 10, 5, access) && may(&code, 'c', 10, 6, access), "{access}");
    }
    assert!(program(&[rule(true, "c", 10, 5, "ra")], &[]).is_err());
}
