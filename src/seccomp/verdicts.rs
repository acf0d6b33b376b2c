//! What each number of an architecture leads to: rules gathered by number, then merged into ranges.

use super::arch::{Arch, X32_BIT};
use super::profile::Profile;
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
    number: u32,
    /// Place in the profile, an index into `calls`: earlier ones win.
    call: usize,
    /// Of a rule whose tests suffice one by one, the test.
    only: Option<usize>,
    /// The number is a multiplexer's, and this the call behind it, found in argument 0.
    behind: Option<u8>,
}

/// The ranges of all architectures that share `token`, merged where neighbours agree.
pub(super) fn ranges(profile: &Profile, token: u32, chains: &mut Chains) -> Result<Vec<Range>> {
    let mut edges = vec![0, X32_BIT, 0x8000_0000, 0xc000_0000, u32::MAX];
    let mut newest = [None, None];
    let mut points = Vec::with_capacity(profile.calls.len() + 32);
    let members = || profile.archs.iter().filter(|arch| arch.token() == token);
    for arch in members() {
        let (claims, last) = claims(profile, *arch);
        if last > 0 && stubbed(profile.default) {
            edges.push(last + 1);
            newest[usize::from(arch.x32())] = Some(last);
        }
        let claims = by_number(&claims);
        for group in claims.chunk_by(|a, b| a.number == b.number) {
            points.push((group[0].number, decide(profile, *arch, group, chains)?));
        }
        if arch.s390() && stubbed(profile.default) {
            points.retain(|(number, _)| *number != 0);
            points.insert(0, (0, Verdict::Return(words::NO_SUCH_CALL)));
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

/// Every claim on a number of `arch`, and the largest number that the profile names, 0 for none.
///
/// The direct number of a call that also lies behind a multiplexer counts as named. It does not in runc, whose resolver gives
/// a stand-in below zero for it, so that a profile which names nothing newer has such a call allowed and yet answered ENOSYS.
fn claims(profile: &Profile, arch: Arch) -> (Vec<Claim>, u32) {
    let mut claims = Vec::with_capacity(profile.calls.len() + 32);
    let mut last = 0;
    let socketcall = arch.number_of("socketcall");
    let ipc = arch.number_of("ipc");
    for (place, call) in profile.calls.iter().enumerate() {
        let direct = arch.number(call.row);
        last = last.max(direct.unwrap_or(0));
        let rule = &profile.rules[call.rule];
        if rule.verdict == profile.default {
            continue;
        }
        let behind = match SYSCALLS[call.row].1 {
            0 => None,
            code if code & IPC != 0 => ipc.map(|number| (number, Some(code & !IPC))),
            code => socketcall.map(|number| (number, Some(code))),
        };
        for (number, behind) in [direct.map(|number| (number, None)), behind].into_iter().flatten() {
            let claim = Claim { number, call: place, only: None, behind };
            if rule.any {
                claims.extend((0..rule.tests.len()).map(|i| Claim { only: Some(i), ..claim }));
            } else {
                claims.push(claim);
            }
        }
    }
    (claims, last)
}

/// The claims by number, and in their order for each. Only the numbers and places are moved about: a profile of an engine has
/// more than a thousand claims, and sorting them was a quarter of the work.
fn by_number(claims: &[Claim]) -> Vec<Claim> {
    let mut keys: Vec<(u32, u32)> = (0..).zip(claims).map(|(place, claim)| (claim.number, place)).collect();
    keys.sort_unstable_by_key(|&(number, place)| u64::from(number) << 32 | u64::from(place));
    keys.iter().filter_map(|&(_, place)| claims.get(usize::try_from(place).ok()?).copied()).collect()
}

/// The verdict on one number, of all claims on it in the order of the profile.
fn decide(profile: &Profile, arch: Arch, claims: &[Claim], chains: &mut Chains) -> Result<Verdict> {
    let rule_of = |claim: &Claim| profile.calls[claim.call].rule;
    let plain = |claim: &&Claim| claim.behind.is_none() && profile.rules[rule_of(claim)].tests.is_empty();
    if let Some(claim) = claims.iter().find(plain) {
        return Ok(Verdict::Return(profile.rules[rule_of(claim)].verdict));
    }
    let mut clauses: Vec<(Vec<Test>, u32)> = Vec::with_capacity(claims.len());
    for claim in claims {
        let rule = &profile.rules[rule_of(claim)];
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
                let field = format!("/syscalls/{}/action", rule_of(claim));
                return Err(Error::new(format!("add seccomp rule for call {} of {}", claim.number, arch.name), cause).at(field));
            }
        }
    }
    Ok(chains.add(Chain { wide: arch.wide(), clauses }))
}
