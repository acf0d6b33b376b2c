//! Programs against the rules themselves, judged one by one for each call: the order of rules, ENOSYS, refusals.

use crate::bpf::{Data, run};
use crate::judge::judge;
use crate::random::{Pool, Random};
use onggi::config::Seccomp;
use onggi::seccomp::{ARCHS, Arch, compile, compile_for};
use onggi::sys::seccomp as kernel;
use serde_json::{Value, json};

const VALUES: [u64; 9] = [0, 1, 2, 5, 0x7e02_0000, 1 << 32, (5 << 32) | 5, u32::MAX as u64, u64::MAX];

fn random_profile(random: &mut Random) -> Seccomp {
    let actions = ["ALLOW", "ERRNO", "TRACE", "LOG", "TRAP", "KILL", "KILL_PROCESS"].map(|a| format!("SCMP_ACT_{a}"));
    let ops = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"].map(|op| format!("SCMP_CMP_{op}"));
    let names = "read openat clone lseek ioctl futex mmap prctl execveat chown32 personality mseal pwritev2 mount";
    let names: Vec<&str> = names.split_whitespace().collect();
    let mut rules: Vec<Value> = Vec::new();
    for _ in 0..random.below(25) {
        let names: Vec<&str> = (0..1 + random.below(3)).map(|_| *random.one(&names)).collect();
        let mut args: Vec<Value> = Vec::new();
        for _ in 0..random.below(4) {
            let (op, value, two) = (random.one(&ops), random.one(&VALUES), random.one(&VALUES));
            args.push(json!({"index": random.below(6), "op": op, "value": value, "valueTwo": two}));
        }
        let action = random.one(&actions);
        let errno = ["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"].contains(&action.as_str()).then(|| 1 + random.below(40));
        rules.push(json!({"names": names, "action": action, "errnoRet": errno, "args": args}));
    }
    let listed = ["X86", "X32", "ARM", "AARCH64"].map(|arch| format!("SCMP_ARCH_{arch}"));
    let listed: Vec<&String> = listed.iter().filter(|_| random.below(2) == 0).collect();
    serde_json::from_value(json!({"defaultAction": random.one(&actions), "architectures": listed, "syscalls": rules})).unwrap()
}

#[test]
fn random_profiles_agree_with_their_rules() {
    let mut random = Random(3);
    let (mut compared, mut refused) = (0, 0);
    for round in 0..300 {
        let profile = random_profile(&mut random);
        let filter = match compile_for(&profile, Arch::X86_64) {
            Ok(filter) => filter.unwrap(),
            Err(e) => {
                assert!(e.to_string().contains("same conditions and another action"), "{e}");
                refused += 1;
                continue;
            }
        };
        let pool = Pool::of(&profile);
        for _ in 0..2_000 {
            let call = pool.call(&mut random);
            assert_eq!(run(&filter.program, &call), judge(&profile, &call), "round {round}: {call:x?} {profile:#?}");
        }
        compared += 1;
    }
    assert!(compared > 200 && refused < 100, "{compared} {refused}");
}

fn made(profile: Value) -> Seccomp {
    serde_json::from_value(profile).unwrap()
}

fn error(profile: Value) -> String {
    compile(&made(profile)).unwrap_err().to_string()
}

#[test]
fn refusals_name_the_field() {
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG"}, rule]});
    let errno = |args: Value| rule(json!({"names": ["mount"], "action": "SCMP_ACT_ERRNO", "args": args}));
    for (profile, field, words) in [
        (json!({"defaultAction": "SCMP_ACT_X"}), "/defaultAction", "string SCMP_ACT_X is not a valid action for seccomp"),
        (json!({"syscalls": [{}]}), "/defaultAction", "is not a valid action for seccomp"),
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "/defaultAction", "SCMP_ACT_NOTIFY cannot be used as default action"),
        (json!({"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1}), "/defaultErrnoRet", "errno value specified for action"),
        (json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 65536}), "/defaultErrnoRet", "does not fit 16 bits"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_VAX"]}),
            "/architectures/1",
            "string SCMP_ARCH_VAX is not a valid arch for seccomp",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_X"]}),
            "/flags/0",
            "seccomp flag SECCOMP_FILTER_FLAG_X is not known",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "m"}),
            "/listenerMetadata",
            "cannot be set without listenerPath",
        ),
        (rule(json!({"names": ["mount"], "action": "SCMP_ACT_NOTIFY"})), "/listenerPath", "listenerPath must be set"),
        (rule(json!({"names": ["mount"], "action": "KILL"})), "/syscalls/1/action", "string KILL is not a valid action"),
        (
            rule(json!({"names": ["mount"], "action": "SCMP_ACT_TRAP", "errnoRet": 5})),
            "/syscalls/1/errnoRet",
            "errno value specified for action SCMP_ACT_TRAP",
        ),
        (errno(json!([{"index": 6, "op": "SCMP_CMP_EQ", "value": 0}])), "/syscalls/1/args/0/index", "arguments 0 to 5, not 6"),
        (errno(json!([{"index": 0, "op": "EQ", "value": 0}])), "/syscalls/1/args/0/op", "string EQ is not a valid operator"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x", "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY"}]}),
            "/syscalls/0/names/1",
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}]},
                {"names": ["read"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}]}]}),
            "/syscalls/1/action",
            "same conditions and another action",
        ),
    ] {
        let error = error(profile);
        assert!(error.starts_with(&format!("/linux/seccomp{field}: ")) && error.contains(words), "{error}");
    }
}

#[test]
fn a_program_too_long_is_refused() {
    let rule = |i: u64| {
        json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [
        {"index": 0, "op": "SCMP_CMP_LT", "value": i}, {"index": 1, "op": "SCMP_CMP_GT", "value": i}]})
    };
    let profile = |n| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": (0..n).map(rule).collect::<Vec<_>>()});
    assert!(error(profile(1000)).contains("instructions, the kernel takes 4096"));
    assert!(compile(&made(profile(400))).unwrap().unwrap().program.len() > 2000);
}

#[test]
fn flags_and_listener() {
    let filter = |flags: Value, notify: bool| {
        let action = if notify { "SCMP_ACT_NOTIFY" } else { "SCMP_ACT_ERRNO" };
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags, "listenerPath": "/s", "listenerMetadata": "m",
            "syscalls": [{"names": ["mount", "no_such_call"], "action": action}]});
        compile(&made(profile)).unwrap().unwrap()
    };
    let absent = filter(Value::Null, false);
    assert_eq!((absent.flags, absent.load_flags(true), absent.load_flags(false)), (0, kernel::FLAG_SPEC_ALLOW, 0));
    assert_eq!((absent.notify, absent.unknown), (None, vec!["no_such_call".to_owned()]));
    assert_eq!(filter(json!([]), false).load_flags(true), 0);
    let all = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"].map(|f| format!("SECCOMP_FILTER_FLAG_{f}"));
    assert_eq!(filter(json!(all), false).flags, kernel::FLAG_LOG | kernel::FLAG_SPEC_ALLOW);
    let notify = filter(json!(all), true);
    let wanted = kernel::FLAG_LOG | kernel::FLAG_SPEC_ALLOW | kernel::FLAG_NEW_LISTENER | kernel::FLAG_WAIT_KILLABLE_RECV;
    assert_eq!(notify.flags, wanted);
    assert_eq!(notify.notify.map(|n| (n.listener_path, n.metadata)), Some(("/s".to_owned(), "m".to_owned())));
}

#[test]
fn off_without_action_and_rules() {
    assert_eq!(compile(&made(json!({"architectures": ["SCMP_ARCH_X86"]}))).unwrap(), None);
}

#[test]
fn every_architecture_of_the_spec_is_taken_and_each_can_be_native() {
    let names = ARCHS.map(|arch| arch.name);
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": names, "syscalls": [
        {"names": ["read", "clone", "socket"], "action": "SCMP_ACT_ALLOW"}]});
    for arch in ARCHS {
        let Some(read) = arch.number_of("read") else { continue };
        let filter = compile_for(&made(profile.clone()), arch).unwrap().unwrap();
        let call = |nr| Data { nr, arch: arch.token(), args: [0; 6] };
        assert_eq!(run(&filter.program, &call(read)), 0x7fff_0000, "{}", arch.name);
        assert_eq!(run(&filter.program, &call(read + 300)) & 0xffff_0000, 0x5_0000, "{}", arch.name);
    }
}

/// On a big-endian machine the high word comes first.
#[test]
fn big_endian_machines_swap_the_words() {
    let profile = made(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["lseek"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": (7u64 << 32) | 9}]}]}));
    let s390x = Arch::by_name("SCMP_ARCH_S390X").unwrap();
    let filter = compile_for(&profile, s390x).unwrap().unwrap();
    let call = |value| Data { nr: s390x.number_of("lseek").unwrap(), arch: s390x.token(), args: [0, value, 0, 0, 0, 0] };
    assert_eq!(run(&filter.program, &call((9 << 32) | 7)), 0x5_0001);
    assert_eq!(run(&filter.program, &call((7 << 32) | 9)), 0x7fff_0000);
}

#[test]
fn setup_of_s390_is_no_call() {
    let profile = made(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}));
    let s390x = Arch::by_name("SCMP_ARCH_S390X").unwrap();
    let filter = compile_for(&profile, s390x).unwrap().unwrap();
    assert_eq!(run(&filter.program, &Data { nr: 0, arch: s390x.token(), args: [0; 6] }), 0x5_0026);
    assert_eq!(run(&filter.program, &Data { nr: 1, arch: s390x.token(), args: [0; 6] }), 0x5_0001);
}
