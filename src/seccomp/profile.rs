//! A profile, checked and with its names looked up: the middle form between config.json and verdicts. Knows no numbers yet.

use super::arch::Arch;
use super::index::row;
use super::words::{self, Test};
use crate::config::Seccomp;
use crate::error::{Error, Result};

/// What `linux.seccomp` says.
#[derive(Debug)]
pub(super) struct Profile {
    /// `SECCOMP_RET_*` of a call that no rule is about.
    pub default: u32,
    /// The native one first, each once.
    pub archs: Vec<Arch>,
    /// In the order of `syscalls`.
    pub rules: Vec<Rule>,
    /// Every known name, in order, with the index of its rule.
    pub calls: Vec<Call>,
    /// Unknown names.
    pub unknown: Vec<String>,
}

/// One of `syscalls`.
#[derive(Debug)]
pub(super) struct Rule {
    /// `SECCOMP_RET_*` with its data. A rule that says what the default says counts for the ENOSYS rule alone.
    pub verdict: u32,
    /// `args`, by rising argument.
    pub tests: Vec<Test>,
    /// Two of the tests look at one argument: any one of the tests suffices, as in runc and crun.
    pub any: bool,
}

/// A name of a rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// Row of the table of numbers.
    pub row: usize,
    /// Index into `rules`.
    pub rule: usize,
}

impl Profile {
    pub fn read(seccomp: &Seccomp, native: Arch) -> Result<Self> {
        let default = words::verdict(&seccomp.default_action, seccomp.default_errno_ret, ["/defaultAction", "/defaultErrnoRet"])?;
        if default == words::NOTIFY {
            let cause = "SCMP_ACT_NOTIFY cannot be used as default action";
            return Err(Error::new("compile seccomp profile", cause).at("/defaultAction"));
        }
        let mut profile = Self {
            default,
            archs: archs(seccomp, native)?,
            rules: Vec::with_capacity(seccomp.syscalls.len()),
            calls: Vec::with_capacity(seccomp.syscalls.iter().map(|rule| rule.names.len()).sum()),
            unknown: Vec::new(),
        };
        for (index, rule) in seccomp.syscalls.iter().enumerate() {
            profile.rules.push(read_rule(rule).map_err(|e| e.under(&format!("/syscalls/{index}")))?);
            for name in &rule.names {
                match row(name) {
                    Some(row) => profile.calls.push(Call { row, rule: index }),
                    None => profile.unknown.push(name.clone()),
                }
            }
        }
        Ok(profile)
    }
}

fn archs(seccomp: &Seccomp, native: Arch) -> Result<Vec<Arch>> {
    let mut archs = vec![native];
    for (i, name) in seccomp.architectures.iter().enumerate() {
        let Some(arch) = Arch::by_name(name) else {
            let cause = format!("string {name} is not a valid arch for seccomp");
            return Err(Error::new("compile seccomp profile", cause).at(format!("/architectures/{i}")));
        };
        if !arch.unnumbered() && !archs.contains(&arch) {
            archs.push(arch);
        }
    }
    Ok(archs)
}

fn read_rule(rule: &crate::config::SyscallRule) -> Result<Rule> {
    let verdict = words::verdict(&rule.action, rule.errno_ret, ["/action", "/errnoRet"])?;
    // The listener is handed over by a message, and the message needs write.
    if let Some(i) = rule.names.iter().position(|name| verdict == words::NOTIFY && name == "write") {
        let cause = "SCMP_ACT_NOTIFY cannot be used for the write syscall";
        return Err(Error::new("compile seccomp profile", cause).at(format!("/names/{i}")));
    }
    let mut tests = Vec::with_capacity(rule.args.len());
    for (i, arg) in rule.args.iter().enumerate() {
        tests.push(words::test(arg).map_err(|e| e.under(&format!("/args/{i}")))?);
    }
    tests.sort_by_key(|test| test.arg);
    let any = !tests.is_sorted_by(|a, b| a.arg < b.arg);
    Ok(Rule { verdict, tests, any })
}
