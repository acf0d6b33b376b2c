//! `linux.resources.memory` -> `memory.max`, `memory.swap.max`, `memory.low`.

use super::{List, Rule, refuse};
use crate::config::Memory;
use crate::error::{Error, Result};

/// Swap goes first: a lower `memory.max` would otherwise push pages out to swap that is about to be forbidden.
pub(super) fn add(list: &mut List, memory: &Memory) -> Result<()> {
    let limit = memory.limit.unwrap_or(0);
    let reservation = memory.reservation.unwrap_or(0);
    let swap = memory.swap.unwrap_or(0);
    for (value, member) in [(limit, "memory/limit"), (swap, "memory/swap"), (reservation, "memory/reservation")] {
        if value < -1 {
            return Err(refuse("read the limit", format!("{value} is neither a number of bytes nor -1 for no limit"), member));
        }
    }
    if let Some(value) = swap_max(limit, swap)? {
        let field = if swap == 0 { "memory/limit" } else { "memory/swap" };
        // Without swap accounting there is no such file, nor any swap to use or to limit.
        let rule = if value == "max" || value == "0" { Rule::IfThere } else { Rule::Must };
        list.add("memory", "memory.swap.max", value, field).rule = rule;
    }
    if limit != 0 {
        list.add("memory", "memory.max", bytes(limit), "memory/limit");
    }
    if reservation != 0 {
        list.add("memory", "memory.low", bytes(reservation), "memory/reservation");
    }
    Ok(())
}

fn bytes(value: i64) -> String {
    if value == -1 { "max".into() } else { value.to_string() }
}

/// `memory.swap.max` counts swap alone, `swap` of the configuration counts memory and swap together (cgroup v1).
fn swap_max(limit: i64, swap: i64) -> Result<Option<String>> {
    let wrong = |text: &str| Err(Error::exact(text).at(super::field("memory/swap")));
    Ok(match (limit, swap) {
        // Memory without a limit and nothing said of swap: none either, as cgroup v1 had it.
        (-1, 0) => Some("max".into()),
        (_, 0) => None,
        (_, -1) => Some("max".into()),
        // Nothing to subtract.
        (-1, s) => Some(s.to_string()),
        (0, _) => return wrong("unable to set swap limit without memory limit"),
        (l, s) if s < l => return wrong("memory+swap limit should be >= memory limit"),
        (l, s) => Some((s - l).to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{everything, parse, plain, refused};
    use super::*;

    #[test]
    fn values() {
        for (json, want) in [
            (r#"{"memory":{"limit":1000}}"#, vec!["memory.max=1000"]),
            (r#"{"memory":{"limit":-1}}"#, vec!["memory.swap.max=max", "memory.max=max"]),
            (r#"{"memory":{"limit":1000,"swap":3000}}"#, vec!["memory.swap.max=2000", "memory.max=1000"]),
            (r#"{"memory":{"limit":1000,"swap":1000}}"#, vec!["memory.swap.max=0", "memory.max=1000"]),
            (r#"{"memory":{"limit":1000,"swap":-1}}"#, vec!["memory.swap.max=max", "memory.max=1000"]),
            (r#"{"memory":{"limit":-1,"swap":3000}}"#, vec!["memory.swap.max=3000", "memory.max=max"]),
            (r#"{"memory":{"swap":-1}}"#, vec!["memory.swap.max=max"]),
            (r#"{"memory":{"reservation":77}}"#, vec!["memory.low=77"]),
            (r#"{"memory":{"reservation":-1}}"#, vec!["memory.low=max"]),
        ] {
            assert_eq!(plain(json), want, "{json}");
        }
    }

    #[test]
    fn wrong_swap_in_the_words_that_engines_know() {
        assert_eq!(refused(r#"{"memory":{"swap":5}}"#).to_string(), "unable to set swap limit without memory limit");
        let e = refused(r#"{"memory":{"swap":5,"limit":6}}"#);
        assert_eq!(e.to_string(), "memory+swap limit should be >= memory limit");
        assert_eq!(e.field(), "/linux/resources/memory/swap");
    }

    #[test]
    fn other_negative_numbers_are_refused() {
        for member in ["limit", "swap", "reservation"] {
            let e = refused(&format!(r#"{{"memory":{{"{member}":-2}}}}"#));
            assert_eq!(e.field(), format!("/linux/resources/memory/{member}"));
        }
    }

    #[test]
    fn only_a_real_swap_limit_needs_the_file() {
        for (json, rule) in [
            (r#"{"memory":{"limit":5,"swap":5}}"#, Rule::IfThere),
            (r#"{"memory":{"limit":5,"swap":-1}}"#, Rule::IfThere),
            (r#"{"memory":{"limit":5,"swap":6}}"#, Rule::Must),
        ] {
            assert_eq!(super::super::writes(&parse(json), &everything()).unwrap()[0].rule, rule, "{json}");
        }
    }
}
