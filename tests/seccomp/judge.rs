//! The rules of a profile, judged one by one for a call: what its program must answer. Not by the program's way of thinking: no
//! ranges, no trees.

use crate::bpf::Data;
use onggi::config::{Seccomp, SyscallArg, SyscallRule};
use onggi::seccomp::{ARCHS, Arch};

fn holds(arg: &SyscallArg, args: &[u64; 6], wide: bool) -> bool {
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let (have, value, two) = (cut(args[arg.index as usize]), cut(arg.value), cut(arg.value_two));
    match arg.op.trim_start_matches("SCMP_CMP_") {
        "EQ" => have == value,
        "NE" => have != value,
        "LT" => have < value,
        "LE" => have <= value,
        "GT" => have > value,
        "GE" => have >= value,
        _ => have & value == two & value,
    }
}

fn verdict(action: &str, errno: Option<u32>) -> u32 {
    let errno = errno.unwrap_or(1);
    match action.trim_start_matches("SCMP_ACT_") {
        "ERRNO" => 0x5_0000 | errno,
        "TRACE" => 0x7ff0_0000 | errno,
        "ALLOW" => 0x7fff_0000,
        "LOG" => 0x7ffc_0000,
        "TRAP" => 0x3_0000,
        "KILL_PROCESS" => 0x8000_0000,
        _ => 0,
    }
}

/// What the rules say about a call, without multiplexers: the names drawn from have none.
pub fn judge(profile: &Seccomp, call: &Data) -> u32 {
    let default = verdict(&profile.default_action, profile.default_errno_ret);
    let x32 = call.arch == Arch::X86_64.token() && call.nr & 0x4000_0000 != 0;
    let listed = |arch: &&Arch| {
        arch.token() == call.arch
            && (arch.name == "SCMP_ARCH_X32") == x32
            && (arch.name == "SCMP_ARCH_X86_64" || profile.architectures.iter().any(|name| name == arch.name))
    };
    let Some(arch) = ARCHS.iter().find(listed) else {
        let nothing = !x32 || call.nr != u32::MAX;
        return if nothing { 0 } else { default };
    };
    let names = || profile.syscalls.iter().flat_map(|rule| &rule.names);
    let newest = names().filter_map(|name| arch.number_of(name)).max().unwrap_or(0);
    let lets_through = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"].contains(&profile.default_action.as_str());
    if newest > 0 && call.nr > newest && !lets_through {
        return 0x5_0000 | 38;
    }
    if call.arch == Arch::X86_64.token() && !x32 && call.nr >= 0x4000_0000 {
        // Neither by the bit nor by size: libseccomp goes by size.
        return if profile.architectures.iter().any(|name| name == "SCMP_ARCH_X32") { default } else { 0 };
    }
    let wide = !["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM"].contains(&arch.name);
    let about = |rule: &&SyscallRule| {
        verdict(&rule.action, rule.errno_ret) != default && rule.names.iter().any(|name| arch.number_of(name) == Some(call.nr))
    };
    let rules: Vec<_> = profile.syscalls.iter().filter(about).collect();
    if let Some(rule) = rules.iter().find(|rule| rule.args.is_empty()) {
        return verdict(&rule.action, rule.errno_ret);
    }
    for rule in rules {
        let twice = rule.args.iter().enumerate().any(|(i, a)| rule.args[..i].iter().any(|b| a.index == b.index));
        let mut tests = rule.args.iter().map(|arg| holds(arg, &call.args, wide));
        if if twice { tests.any(|t| t) } else { tests.all(|t| t) } {
            return verdict(&rule.action, rule.errno_ret);
        }
    }
    default
}
