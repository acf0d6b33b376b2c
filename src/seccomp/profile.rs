//! A profile, checked and with its names looked up: the middle form between config.json and verdicts. Knows no numbers yet.

use super::arch::Arch;
use super::index::{ROWS, row};
use super::syscalls::SYSCALLS;
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
    calls: Vec<Call>,
    /// The first of `calls` for each row.
    first: Vec<Option<u32>>,
    /// Those of `calls` that lie behind `socketcall` or `ipc` on some architectures, in order.
    behind: Vec<u32>,
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
    /// Which of the profile's names it is.
    pub place: u32,
    /// The next one with this row.
    next: Option<u32>,
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
            first: vec![None; ROWS],
            behind: Vec::new(),
            unknown: Vec::new(),
        };
        for (index, rule) in seccomp.syscalls.iter().enumerate() {
            profile.rules.push(read_rule(rule).map_err(|e| e.under(&format!("/syscalls/{index}")))?);
            for name in &rule.names {
                match row(name) {
                    Some(row) => profile.calls.push(Call { row, rule: index, place: 0, next: None }),
                    None => profile.unknown.push(name.clone()),
                }
            }
        }
        profile.link();
        Ok(profile)
    }

    /// Links the calls of each row, from the last on.
    fn link(&mut self) {
        // A profile is far smaller than 4 GiB.
        let count = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        for (place, call) in (0..count).zip(&mut self.calls).rev() {
            call.place = place;
            if let Some(first) = self.first.get_mut(call.row) {
                call.next = first.replace(place);
            }
            if SYSCALLS.get(call.row).is_some_and(|row| row.1 != 0) {
                self.behind.push(place);
            }
        }
        self.behind.reverse();
    }

    /// The calls of a row, in order.
    pub fn calls_of(&self, row: usize) -> impl Iterator<Item = &Call> {
        let first = self.first.get(row).copied().flatten();
        std::iter::successors(self.call(first), |call| self.call(call.next))
    }

    /// The calls that lie behind a multiplexer on some architectures, in order.
    pub fn calls_behind(&self) -> impl Iterator<Item = &Call> {
        self.behind.iter().filter_map(|place| self.call(Some(*place)))
    }

    fn call(&self, place: Option<u32>) -> Option<&Call> {
        self.calls.get(usize::try_from(place?).ok()?)
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
    let any = tests.windows(2).any(|pair| pair[0].arg == pair[1].arg);
    Ok(Rule { verdict, tests, any })
}
