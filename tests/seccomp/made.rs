//! Profiles made to cover what engines' profiles do not.

use onggi::config::Seccomp;
use serde_json::{Value, json};

const X86_64: &[&str] = &["SCMP_ARCH_X86_64"];
const ALL: &[&str] = &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
/// Keeps the ENOSYS rule out of the way: nothing is newer.
const NEWEST: &str = "file_setattr futex_requeue";

const ERRNO: &str = "SCMP_ACT_ERRNO";
const ALLOW: &str = "SCMP_ACT_ALLOW";

fn profile(default: &str, archs: &[&str], rules: Vec<Value>) -> Seccomp {
    serde_json::from_value(json!({"defaultAction": default, "architectures": archs, "syscalls": rules})).unwrap()
}

/// Names apart by spaces; arguments as (index, operator, value, valueTwo); an action may carry `/errno`.
fn rule(names: &str, action: &str, args: &[(u32, &str, u64, u64)]) -> Value {
    let names: Vec<&str> = names.split_whitespace().collect();
    let arg = |&(index, op, value, two): &(u32, &str, u64, u64)| json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value, "valueTwo": two});
    let args: Vec<Value> = args.iter().map(arg).collect();
    let (action, errno) = match action.split_once('/') {
        Some((action, errno)) => (action, Some(errno.parse::<u32>().unwrap())),
        None => (action, None),
    };
    json!({"names": names, "action": action, "errnoRet": errno, "args": args})
}

/// One rule for each operator about one value, on six calls, under ERRNO.
fn operator(op: &str, value: u64, two: u64) -> Seccomp {
    let calls = ["openat", "close", "ioctl", "clone", "futex", "personality"];
    let mut rules: Vec<Value> = (0..).zip(calls).map(|(i, name)| rule(name, ALLOW, &[(i, op, value, two)])).collect();
    rules.push(rule("read write", ALLOW, &[]));
    profile(ERRNO, ALL, rules)
}

pub fn profiles() -> Vec<(&'static str, Seccomp)> {
    const HIGH: u64 = 0x1234_5678_9abc_def0;
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT"];
    let names: Vec<&str> = crate::table::NAMES_OF_X86_64.split_whitespace().collect();
    let mut made = vec![
        ("allow list", profile(ERRNO, ALL, vec![rule("read write openat close exit_group mmap brk", ALLOW, &[])])),
        ("deny list", profile(ALLOW, ALL, vec![rule("mount umount2 ptrace kexec_load bpf", ERRNO, &[])])),
        ("kill", profile("SCMP_ACT_KILL", ALL, vec![rule("read write exit", ALLOW, &[])])),
        ("kill thread", profile("SCMP_ACT_KILL_THREAD", X86_64, vec![rule("read", "SCMP_ACT_KILL_PROCESS", &[])])),
        ("kill process", profile("SCMP_ACT_KILL_PROCESS", ALL, vec![rule("read exit", ALLOW, &[])])),
        ("trap", profile("SCMP_ACT_TRAP", ALL, vec![rule("getpid", ALLOW, &[]), rule("getppid", ERRNO, &[])])),
        ("log", profile("SCMP_ACT_LOG", ALL, vec![rule("getpid openat2", "SCMP_ACT_ERRNO/22", &[])])),
        ("trace", profile("SCMP_ACT_TRACE", ALL, vec![rule("getpid", "SCMP_ACT_TRACE/77", &[]), rule("read", ALLOW, &[])])),
        ("not equal", operator("NE", 40, 0)),
        ("less", operator("LT", 40, 0)),
        ("less or equal", operator("LE", 40, 0)),
        ("equal", operator("EQ", 40, 0)),
        ("greater or equal", operator("GE", 40, 0)),
        ("greater", operator("GT", 40, 0)),
        ("masked", operator("MASKED_EQ", 0x7e02_0000, 0)),
        ("masked, value beyond the mask", operator("MASKED_EQ", 0xff00, 0x1_1234)),
        ("masked, high words", operator("MASKED_EQ", HIGH | 1, 0x1000_0000_8000_0001)),
        ("masked, high word alone", operator("MASKED_EQ", 0xff << 32, 0x12 << 32)),
        ("no mask", operator("MASKED_EQ", 0, 0)),
        ("both of two arguments", {
            let deny = rule("openat", "SCMP_ACT_ERRNO/13", &[(0, "EQ", 5, 0), (3, "GT", 7, 0)]);
            profile(
                ALLOW,
                ALL,
                vec![deny, rule("ioctl", ERRNO, &[(1, "NE", 0x5401, 0), (2, "MASKED_EQ", 3, 1), (0, "LE", 2, 0)])],
            )
        }),
        ("one argument twice", {
            let twice = rule("openat", ALLOW, &[(1, "EQ", 5, 0), (1, "EQ", 9, 0), (2, "GT", 1, 0)]);
            profile(ERRNO, ALL, vec![twice, rule("close", ALLOW, &[(0, "GE", 3, 0), (0, "LT", 1, 0)])])
        }),
        ("every action", {
            let (trap, log) = (rule("getuid", "SCMP_ACT_TRAP", &[]), rule("geteuid", "SCMP_ACT_LOG", &[]));
            let (trace, kill) = (rule("getgid", "SCMP_ACT_TRACE/9", &[]), rule("getegid", "SCMP_ACT_KILL", &[]));
            let rules =
                vec![trap, log, trace, kill, rule("mount", "SCMP_ACT_ERRNO/38", &[]), rule("bpf", "SCMP_ACT_ERRNO/22", &[])];
            let more = vec![rule("getpid", ALLOW, &[]), rule("getppid", "SCMP_ACT_KILL_PROCESS", &[])];
            profile(ERRNO, ALL, [rules, more].concat())
        }),
        ("unconditional after conditional", {
            let rules = vec![rule("clone", "SCMP_ACT_TRAP", &[(0, "EQ", 1, 0)]), rule("clone", ALLOW, &[])];
            profile(ERRNO, ALL, rules)
        }),
        ("conditional after unconditional", {
            let rules = vec![rule("clone", ALLOW, &[]), rule("clone", "SCMP_ACT_TRAP", &[(0, "EQ", 1, 0)])];
            profile(ERRNO, ALL, rules)
        }),
        ("two unconditional", profile(ERRNO, ALL, vec![rule("bpf", "SCMP_ACT_ERRNO/22", &[]), rule("bpf", ALLOW, &[])])),
        ("redundant, then another", profile(ERRNO, ALL, vec![rule("bpf", "SCMP_ACT_ERRNO/1", &[]), rule("bpf", ALLOW, &[])])),
        ("x32 without x86", {
            let archs = &["SCMP_ARCH_X32"];
            profile(
                ERRNO,
                archs,
                vec![rule("read execveat pwritev2 ioctl", ALLOW, &[]), rule("lseek", ALLOW, &[(1, "GT", HIGH, 0)])],
            )
        }),
        ("x86 without x32", profile(ERRNO, &["SCMP_ARCH_X86"], vec![rule("read chown32 socket _llseek", ALLOW, &[])])),
        ("native only, allow", profile(ALLOW, &[], vec![rule("bpf", ERRNO, &[]), rule("lseek", ERRNO, &[(1, "LT", HIGH, 0)])])),
        ("x32, allow", profile(ALLOW, &["SCMP_ARCH_X32"], vec![rule("bpf execve", ERRNO, &[])])),
        ("multiplexers", {
            let names = "socket connect accept send recv accept4 recvmmsg sendmmsg semop semtimedop shmat msgget";
            profile(ERRNO, ALL, vec![rule(names, ALLOW, &[]), rule(NEWEST, ALLOW, &[])])
        }),
        (
            "multiplexers, deny",
            profile(ALLOW, ALL, vec![rule("socket bind accept semop shmctl recvmmsg", "SCMP_ACT_ERRNO/22", &[])]),
        ),
        ("multiplexers, conditions", {
            let rules =
                vec![rule("socket", ALLOW, &[(0, "EQ", 2, 0)]), rule("shmget", ALLOW, &[(1, "LT", 4096, 0), (0, "NE", 7, 0)])];
            profile(ERRNO, ALL, [rules, vec![rule("accept", ALLOW, &[(2, "EQ", 0, 0)]), rule(NEWEST, ALLOW, &[])]].concat())
        }),
        ("multiplexers, all behind allowed", {
            let rules = vec![rule("socket", ALLOW, &[(0, "EQ", 2, 0)]), rule("socket", "SCMP_ACT_TRAP", &[(0, "EQ", 40, 0)])];
            profile(ERRNO, ALL, [vec![rule("socketcall ipc", ALLOW, &[])], rules, vec![rule(NEWEST, ALLOW, &[])]].concat())
        }),
        ("names of other architectures", {
            let names = "no_such_call chown32 set_tls s390_pci_mmio_read riscv_flush_icache sync_file_range2 read";
            profile(ERRNO, ALL, vec![rule(names, ALLOW, &[])])
        }),
        ("overlapping, sorted apart", {
            let einval = rule("socket", "SCMP_ACT_ERRNO/22", &[(0, "EQ", 16, 0), (2, "EQ", 9, 0)]);
            // Not alone on x86_64: libseccomp 2.5.4 without its tree writes a wrong program for a single call with such a chain.
            let rules =
                vec![rule("read socketcall", ALLOW, &[]), rule("socket", "SCMP_ACT_ERRNO/13", &[(0, "EQ", 40, 0)]), einval];
            let allow =
                vec![rule("socket", ALLOW, &[(0, "EQ", 16, 0), (2, "NE", 9, 0)]), rule("socket", ALLOW, &[(0, "NE", 16, 0)])];
            profile(ERRNO, ALL, [rules, allow].concat())
        }),
        ("notify", {
            let mut notify = profile(ALLOW, ALL, vec![rule("mount mknod", "SCMP_ACT_NOTIFY", &[]), rule("chmod", ERRNO, &[])]);
            notify.listener_path = "/run/agent.sock".to_owned();
            notify
        }),
        ("other architectures", {
            let archs =
                &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_MIPSEL64N32"];
            let rules =
                vec![rule("read openat socket semop cacheflush", ALLOW, &[]), rule("lseek", ALLOW, &[(1, "GT", HIGH, 0)])];
            profile(ERRNO, archs, [rules, vec![rule("clone", ALLOW, &[(0, "MASKED_EQ", 0x7e02_0000, 0)])]].concat())
        }),
        ("every second call", {
            let every_second: Vec<&str> = names.iter().copied().step_by(2).collect();
            profile(ERRNO, ALL, vec![rule(&every_second.join(" "), ALLOW, &[])])
        }),
        ("long jumps", {
            let call = |(i, name): (usize, &&str)| rule(name, ALLOW, &[((i % 6) as u32, operators[i % 6], HIGH + i as u64, 0)]);
            profile(ERRNO, ALL, names.iter().step_by(5).enumerate().map(call).collect())
        }),
        ("values in a row", {
            let values = [0, 8, 1 << 17, HIGH, HIGH + 1, u64::from(u32::MAX), u64::MAX, u64::MAX - 1];
            profile(ERRNO, ALL, values.iter().map(|value| rule("personality lseek", ALLOW, &[(1, "EQ", *value, 0)])).collect())
        }),
    ];
    for (name, value) in [("high words", HIGH), ("low word of zeros", 5 << 32), ("all ones", u64::MAX), ("zero", 0)] {
        let calls = ["openat", "close", "ioctl", "clone", "futex", "personality"];
        let rule = |(i, op): (u32, &&str)| rule(calls[i as usize], "SCMP_ACT_ERRNO/13", &[(5 - i, op, value, 0)]);
        made.push((name, profile(ALLOW, ALL, (0..).zip(&operators).map(rule).collect())));
    }
    made
}
