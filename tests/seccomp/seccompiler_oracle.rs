//! seccompiler's compiler as a second oracle, for what it can say: one architecture, one action, rules with conditions.

use crate::{bpf, random};
use onggi::config::Seccomp;
use onggi::seccomp::{Arch, compile_for};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use serde_json::json;
use std::collections::BTreeMap;

#[test]
fn random_rules_agree_with_seccompiler() {
    let mut random = random::Random(7);
    for round in 0..40 {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        let mut ours = Vec::new();
        for _ in 0..30 {
            let name = ["read", "openat", "ioctl", "clone", "futex", "lseek", "prctl", "mmap"][random.below(8)];
            let (mut conditions, mut args) = (Vec::new(), Vec::new());
            for index in 0..6 {
                if random.below(3) != 0 {
                    continue;
                }
                let value = *random.one(&[0, 1, 5, 1 << 32, (5 << 32) + 5, u64::MAX, 0x7e02_0000]);
                let ops = [
                    ("EQ", SeccompCmpOp::Eq, value, 0),
                    ("NE", SeccompCmpOp::Ne, value, 0),
                    ("LT", SeccompCmpOp::Lt, value, 0),
                    ("LE", SeccompCmpOp::Le, value, 0),
                    ("GT", SeccompCmpOp::Gt, value, 0),
                    ("GE", SeccompCmpOp::Ge, value, 0),
                    ("MASKED_EQ", SeccompCmpOp::MaskedEq(value), value, 5),
                ];
                let (op, theirs, value, two) = random.one(&ops).clone();
                let datum = if op == "MASKED_EQ" { two & value } else { value };
                conditions.push(SeccompCondition::new(index, SeccompCmpArgLen::Qword, theirs, datum).unwrap());
                args.push(json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value, "valueTwo": two}));
            }
            if conditions.is_empty() {
                continue;
            }
            let nr = Arch::X86_64.number_of(name).unwrap();
            rules.entry(i64::from(nr)).or_default().push(SeccompRule::new(conditions).unwrap());
            ours.push(json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": args}));
        }
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(13), TargetArch::x86_64).unwrap();
        let theirs: BpfProgram = filter.try_into().unwrap();
        let profile: Seccomp = serde_json::from_value(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": ours})).unwrap();
        let ours = compile_for(&profile, Arch::X86_64).unwrap().unwrap().program;
        let pool = random::Pool::of(&profile);
        for _ in 0..5_000 {
            let call = pool.call(&mut random);
            if call.arch == Arch::X86_64.token() && call.nr < 0x4000_0000 {
                assert_eq!(bpf::run(&ours, &call), bpf::run(&theirs, &call), "round {round}: {call:x?} {profile:?}");
            }
        }
    }
}
