//! The words of a profile and what they stand for: actions, operators, flags.

use crate::config::{Seccomp, SyscallArg};
use crate::error::{Error, Result};
use crate::sys::seccomp as kernel;

/// `SCMP_ACT_*` and the `SECCOMP_RET_*` of linux/seccomp.h.
pub const ACTIONS: [(&str, u32); 9] = [
    ("SCMP_ACT_ALLOW", ALLOW),
    ("SCMP_ACT_ERRNO", ERRNO),
    ("SCMP_ACT_KILL", KILL_THREAD),
    ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
    ("SCMP_ACT_KILL_THREAD", KILL_THREAD),
    ("SCMP_ACT_LOG", LOG),
    ("SCMP_ACT_NOTIFY", NOTIFY),
    ("SCMP_ACT_TRACE", TRACE),
    ("SCMP_ACT_TRAP", 0x0003_0000),
];

pub(super) const KILL_THREAD: u32 = 0;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const NOTIFY: u32 = 0x7fc0_0000;
pub(super) const TRACE: u32 = 0x7ff0_0000;
pub(super) const LOG: u32 = 0x7ffc_0000;
pub(super) const ALLOW: u32 = 0x7fff_0000;
/// The part of a verdict that is the action, without errno or tracer's data (`SECCOMP_RET_ACTION_FULL`).
pub(super) const ACTION: u32 = 0xffff_0000;
/// The answer to a call that is newer than the profile.
pub(super) const NO_SUCH_CALL: u32 = ERRNO | 38;

/// `SCMP_CMP_*`.
pub const OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

/// `SECCOMP_FILTER_FLAG_*` that a profile may name, and what is passed to the kernel.
pub const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_LOG", kernel::FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", kernel::FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", kernel::FLAG_WAIT_KILLABLE_RECV),
];

/// The flags that `flags` names.
pub(super) fn flags(seccomp: &Seccomp) -> Result<u32> {
    let mut all = 0;
    for (i, name) in seccomp.flags.iter().flatten().enumerate() {
        let Some((_, flag)) = FLAGS.iter().find(|(n, _)| n == name) else {
            return Err(
                Error::new("compile seccomp profile", format!("seccomp flag {name} is not known")).at(format!("/flags/{i}"))
            );
        };
        all |= flag;
    }
    Ok(all)
}

/// The verdict of an action and its errno. `field` names the two members, for errors.
pub(super) fn verdict(action: &str, errno: Option<u32>, field: [&str; 2]) -> Result<u32> {
    let wrong = |member: &str, cause: String| Err(Error::new("compile seccomp profile", cause).at(member));
    let Some(&(_, code)) = ACTIONS.iter().find(|(name, _)| *name == action) else {
        return wrong(field[0], format!("string {action} is not a valid action for seccomp"));
    };
    match (code, errno) {
        // TRACE hands EPERM to the tracer as its data when nothing is said: runc's habit.
        (ERRNO | TRACE, None) => Ok(code | 1),
        (ERRNO | TRACE, Some(n)) => match u16::try_from(n) {
            Ok(n) => Ok(code | u32::from(n)),
            Err(_) => wrong(field[1], format!("errno {n} does not fit 16 bits")),
        },
        (_, None) => Ok(code),
        (_, Some(_)) => wrong(field[1], format!("errno value specified for action {action}")),
    }
}

/// What is asked of one argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Test {
    /// 0..=5.
    pub arg: u8,
    /// The question.
    pub compare: Compare,
    /// The answer that counts is no.
    pub negated: bool,
}

/// A question; numbers are unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    /// The bits of `mask` are those of `value`.
    Masked { mask: u64, value: u64 },
    /// Greater than.
    Above(u64),
    /// Greater or equal.
    AtLeast(u64),
}

/// One of `args`.
pub(super) fn test(arg: &SyscallArg) -> Result<Test> {
    let wrong = |member: &str, cause: String| Err(Error::new("compile seccomp profile", cause).at(member));
    let index = match u8::try_from(arg.index) {
        Ok(index @ 0..=5) => index,
        _ => return wrong("/index", format!("a system call has arguments 0 to 5, not {}", arg.index)),
    };
    let all = Compare::Masked { mask: u64::MAX, value: arg.value };
    let (compare, negated) = match arg.op.as_str() {
        "SCMP_CMP_EQ" => (all, false),
        "SCMP_CMP_NE" => (all, true),
        "SCMP_CMP_GT" => (Compare::Above(arg.value), false),
        "SCMP_CMP_LE" => (Compare::Above(arg.value), true),
        "SCMP_CMP_GE" => (Compare::AtLeast(arg.value), false),
        "SCMP_CMP_LT" => (Compare::AtLeast(arg.value), true),
        "SCMP_CMP_MASKED_EQ" => (Compare::Masked { mask: arg.value, value: arg.value_two & arg.value }, false),
        op => return wrong("/op", format!("string {op} is not a valid operator for seccomp")),
    };
    Ok(Test { arg: index, compare, negated })
}
