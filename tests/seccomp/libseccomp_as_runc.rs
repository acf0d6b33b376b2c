//! libseccomp's program for a profile, built in the steps in which runc builds it.

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use onggi::config::{Seccomp, SyscallArg};
use onggi::seccomp::ARCHS;
use seccompiler::sock_filter;
use std::io::{Read, Seek};

fn action(name: &str, errno: Option<u32>) -> ScmpAction {
    ScmpAction::from_str(name, Some(errno.unwrap_or(1) as i32)).unwrap()
}

fn compare(arg: &SyscallArg) -> ScmpArgCompare {
    let (op, datum) = match arg.op.as_str() {
        "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, arg.value),
        "SCMP_CMP_LT" => (ScmpCompareOp::Less, arg.value),
        "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, arg.value),
        "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, arg.value),
        "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, arg.value),
        "SCMP_CMP_GT" => (ScmpCompareOp::Greater, arg.value),
        _ => (ScmpCompareOp::MaskedEqual(arg.value), arg.value_two),
    };
    ScmpArgCompare::new(arg.index, op, datum)
}

/// The profile without the names that the installed libseccomp is too old to know, here or on another architecture.
pub fn known_names(profile: &Seccomp) -> Seccomp {
    let known = |name: &String| {
        ARCHS.into_iter().filter(|arch| arch.number_of(name).is_some()).all(|arch| {
            // Below zero are stand-ins: to -224 for calls behind a multiplexer, beyond for calls that are not there.
            let number = ScmpSyscall::from_name_by_arch(name, arch.name.parse::<ScmpArch>().unwrap());
            number.is_ok_and(|number| number.as_raw_syscall() >= -224)
                || ["SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K"].contains(&arch.name)
        })
    };
    let mut profile = profile.clone();
    for rule in &mut profile.syscalls {
        rule.names.retain(|name| ScmpSyscall::from_name(name).is_ok() && known(name));
    }
    profile
}

/// The program, or the error with which libseccomp refuses a rule. A tree makes long programs quick to interpret.
pub fn program(profile: &Seccomp, tree: bool) -> Result<Vec<sock_filter>, String> {
    let default = action(&profile.default_action, profile.default_errno_ret);
    let mut filter = ScmpFilterContext::new(default).unwrap();
    filter.set_ctl_optimize(if tree { 2 } else { 1 }).unwrap();
    for name in &profile.architectures {
        filter.add_arch(name.parse::<ScmpArch>().unwrap()).map_err(|e| format!("{name}: {e}"))?;
    }
    for rule in &profile.syscalls {
        let action = action(&rule.action, rule.errno_ret);
        if action == default {
            continue;
        }
        let tests: Vec<_> = rule.args.iter().map(compare).collect();
        let mut seen = [false; 6];
        let twice = rule.args.iter().any(|arg| std::mem::replace(&mut seen[arg.index as usize], true));
        for name in &rule.names {
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            let failed = |e: libseccomp::error::SeccompError| format!("{name}: {e}");
            if twice {
                for test in &tests {
                    filter.add_rule_conditional(action, call, &[*test]).map_err(failed)?;
                }
            } else {
                filter.add_rule_conditional(action, call, &tests).map_err(failed)?;
            }
        }
    }
    let mut file = tempfile::tempfile().unwrap();
    filter.export_bpf(&file).unwrap();
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    let instruction = |b: &[u8]| sock_filter {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
    };
    Ok(bytes.chunks_exact(8).map(instruction).collect())
}

/// runc's answer before libseccomp's program is asked: ENOSYS for what is newer than the profile.
///
/// Unlike runc, which asks libseccomp's resolver, the direct numbers of multiplexed calls count as named.
pub struct Stub(Vec<(u32, bool, u32)>);

impl Stub {
    pub fn new(profile: &Seccomp) -> Self {
        if ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"].contains(&profile.default_action.as_str()) {
            return Self(Vec::new());
        }
        let listed = |arch: &onggi::seccomp::Arch| {
            arch.name == "SCMP_ARCH_X86_64" || profile.architectures.iter().any(|name| name == arch.name)
        };
        let archs = ARCHS.into_iter().filter(listed);
        let names = || profile.syscalls.iter().flat_map(|rule| &rule.names);
        Self(
            archs
                .filter_map(|arch| {
                    let newest = names().filter_map(|name| arch.number_of(name)).max().filter(|n| *n > 0)?;
                    Some((arch.token(), arch.name == "SCMP_ARCH_X32", newest))
                })
                .collect(),
        )
    }

    pub fn answer(&self, arch: u32, nr: u32) -> Option<u32> {
        let x86_64 = arch == 0xc000_003e;
        let x32 = x86_64 && nr & 0x4000_0000 != 0;
        self.0.iter().find(|(token, is_x32, newest)| *token == arch && *is_x32 == x32 && nr > *newest).map(|_| 0x0005_0026)
    }
}
