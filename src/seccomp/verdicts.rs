//! What each number of an architecture leads to: rules gathered by number, then merged into ranges.

use super::arch::{Arch, X32_BIT};
use super::index::ROWS;
use super::profile::{Call, Profile};
use super::syscalls::{IPC, SYSCALLS};
use super::words::{self, Compare, Test};
use crate::error::{Error, Result};

/// Where a number leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// `SECCOMP_RET_*` with its data, whatever the arguments.
    Return(u32),
    /// The arguments decide: an index into [`Chains`].
    Chain(usize),
}

/// Rules with conditions about one number. The first that holds decides, else the default.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Compares 64 bits.
    pub wide: bool,
    /// All tests of a clause must hold; there is at least one. With the verdict.
    pub clauses: Vec<(Vec<Test>, u32)>,
}

/// The chains of all architectures; calls with the same conditions share one.
#[derive(Debug, Default)]
pub(super) struct Chains(pub Vec<Chain>);

impl Chains {
    fn add(&mut self, chain: Chain) -> Verdict {
        Verdict::Chain(self.0.iter().position(|c| *c == chain).unwrap_or_else(|| {
            self.0.push(chain);
            self.0.len() - 1
        }))
    }
}

/// First number of a range and its verdict; the range ends where the next begins. The first begins at 0.
pub(super) type Range = (u32, Verdict);

/// A rule that bears on a number.
#[derive(Clone, Copy)]
struct Claim {
    /// Place in the profile: earlier ones win.
    place: u32,
    /// An index into the profile's rules.
    rule: usize,
    /// Of a rule whose tests suffice one by one, the test.
    only: Option<usize>,
    /// The number is a multiplexer's, and this the call behind it, found in argument 0.
    behind: Option<u8>,
}

/// The ranges of all architectures that share `token`, merged where neighbours agree.
pub(super) fn ranges(profile: &Profile, token: u32, chains: &mut Chains) -> Result<Vec<Range>> {
    let mut edges = vec![0, X32_BIT, 0x8000_0000, 0xc000_0000, u32::MAX];
    let mut newest = [None, None];
    let mut points = Vec::with_capacity(2 * ROWS);
    let members = || profile.archs.iter().filter(|arch| arch.token() == token);
    for arch in members() {
        let first = points.len();
        let last = verdicts(profile, *arch, chains, &mut points)?;
        if last > 0 && stubbed(profile.default) {
            edges.push(last + 1);
            newest[usize::from(arch.x32())] = Some(last);
        }
        if arch.s390() && stubbed(profile.default) {
            points.retain(|(number, _)| *number != 0);
            points.insert(first, (0, Verdict::Return(words::NO_SUCH_CALL)));
        }
    }
    // x32 numbers are above all others, but the sections may have come in either order.
    points.sort_by_key(|(number, _)| *number);
    edges.sort_unstable();
    edges.dedup();
    let has = [members().any(|arch| !arch.x32()), members().any(|arch| arch.x32())];
    let shared = token == Arch::X86_64.token();
    let rest = |number: u32| Verdict::Return(unnamed(number, shared, has, newest, profile.default));
    Ok(overlay(&edges, rest, &points))
}

/// The ENOSYS rule holds under this default. Under one that lets calls through, new ones go through too.
fn stubbed(default: u32) -> bool {
    !matches!(default & words::ACTION, words::ALLOW | words::LOG | words::TRACE)
}

/// The verdict on a number that no rule names, as runc's stub before libseccomp's filter gives it.
fn unnamed(number: u32, shared: bool, has: [bool; 2], newest: [Option<u32>; 2], default: u32) -> u32 {
    // The stub tells x32 by its bit, libseccomp by comparison: they differ above 0x80000000.
    let by_bit = usize::from(shared && number & X32_BIT != 0);
    if has[by_bit] && newest[by_bit].is_some_and(|last| number > last) {
        return words::NO_SUCH_CALL;
    }
    let by_size = usize::from(shared && number >= X32_BIT);
    // A tracer skips a call by making its number -1: not an attempt at x32.
    if has[by_size] || number == u32::MAX { default } else { words::KILL_THREAD }
}

/// Points laid over the rest, neighbours merged.
fn overlay(edges: &[u32], rest: impl Fn(u32) -> Verdict, points: &[(u32, Verdict)]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::with_capacity(2 * points.len() + edges.len());
    let mut push = |start: u32, verdict: Verdict| {
        ranges.pop_if(|last| last.0 == start);
        if ranges.last().is_none_or(|last| last.1 != verdict) {
            ranges.push((start, verdict));
        }
    };
    let mut points = points.iter().peekable();
    for (i, &edge) in edges.iter().enumerate() {
        let end = edges.get(i + 1).copied();
        push(edge, rest(edge));
        while let Some(&(number, verdict)) = points.next_if(|point| end.is_none_or(|end| point.0 < end)) {
            push(number, verdict);
            let next = number.checked_add(1).filter(|next| points.peek().is_none_or(|(number, _)| number != next));
            if let Some(next) = next {
                push(next, rest(edge));
            }
        }
    }
    ranges
}

/// The verdict on each number of `arch` that a rule is about, by rising number; and the largest number that the profile names,
/// 0 for none.
///
/// The direct number of a call that also lies behind a multiplexer counts as named. It does not in runc, whose resolver gives
/// a stand-in below zero for it, so that a profile which names nothing newer has such a call allowed and yet answered ENOSYS.
fn verdicts(profile: &Profile, arch: Arch, chains: &mut Chains, points: &mut Vec<(u32, Verdict)>) -> Result<u32> {
    let multiplexers = [arch.number_of("socketcall"), arch.number_of("ipc")];
    let mut last = 0;
    let mut claims = Vec::new();
    let mut rows = arch.rows().peekable();
    while let Some((number, row)) = rows.next() {
        claims.clear();
        let mut sources = 0;
        // Some numbers have two names.
        let mut named = Some(row);
        while let Some(row) = named {
            for call in profile.calls_of(row) {
                last = number;
                claim(profile, call, None, &mut claims);
            }
            sources += 1;
            named = rows.next_if(|next| next.0 == number).map(|next| next.1);
        }
        if multiplexers.contains(&Some(number)) {
            for call in profile.calls_behind() {
                let code = SYSCALLS.get(call.row).map_or(0, |row| row.1);
                if multiplexers[usize::from(code & IPC != 0)] == Some(number) {
                    claim(profile, call, Some(code & !IPC), &mut claims);
                }
            }
            sources += 1;
        }
        if sources > 1 {
            claims.sort_by_key(|claim| claim.place);
        }
        if !claims.is_empty() {
            points.push((number, decide(profile, (number, arch), &claims, chains)?));
        }
    }
    Ok(last)
}

/// What a name's rule claims; nothing, if it says what the default says.
fn claim(profile: &Profile, call: &Call, behind: Option<u8>, claims: &mut Vec<Claim>) {
    let Some(rule) = profile.rules.get(call.rule).filter(|rule| rule.verdict != profile.default) else { return };
    let claim = Claim { place: call.place, rule: call.rule, only: None, behind };
    if rule.any {
        claims.extend((0..rule.tests.len()).map(|i| Claim { only: Some(i), ..claim }));
    } else {
        claims.push(claim);
    }
}

/// The verdict on one number, of all claims on it in the order of the profile.
fn decide(profile: &Profile, (number, arch): (u32, Arch), claims: &[Claim], chains: &mut Chains) -> Result<Verdict> {
    let plain = |claim: &&Claim| claim.behind.is_none() && profile.rules[claim.rule].tests.is_empty();
    if let Some(claim) = claims.iter().find(plain) {
        return Ok(Verdict::Return(profile.rules[claim.rule].verdict));
    }
    let mut clauses: Vec<(Vec<Test>, u32)> = Vec::with_capacity(claims.len());
    for claim in claims {
        let rule = &profile.rules[claim.rule];
        let mut tests = match claim.only {
            Some(i) => vec![rule.tests[i]],
            None => rule.tests.clone(),
        };
        if let Some(code) = claim.behind {
            // What the rule asks of argument 0 is lost, as in libseccomp: behind a multiplexer the arguments are in memory.
            tests.retain(|test| test.arg != 0);
            let value = u64::from(code);
            tests.insert(0, Test { arg: 0, compare: Compare::Masked { mask: u64::MAX, value }, negated: false });
        }
        match clauses.iter().find(|(known, _)| *known == tests) {
            None => clauses.push((tests, rule.verdict)),
            Some((_, verdict)) if *verdict == rule.verdict || claim.behind.is_some() => {}
            Some(_) => {
                let cause = "an earlier rule has the same conditions and another action";
                let field = format!("/syscalls/{}/action", claim.rule);
                return Err(Error::new(format!("add seccomp rule for call {number} of {}", arch.name), cause).at(field));
            }
        }
    }
    Ok(chains.add(Chain { wide: arch.wide(), clauses }))
}
