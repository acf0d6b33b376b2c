//! `linux.resources.cpu` -> `cpu.weight`, `cpu.idle`, `cpu.max`, `cpu.max.burst`, `cpuset.cpus`, `cpuset.mems`.

use super::{List, Rule, refuse};
use crate::config::Cpu;
use crate::error::Result;

/// The kernel's own period in microseconds (Documentation/admin-guide/cgroup-v2.rst, `cpu.max`).
const PERIOD: u64 = 100_000;

pub(super) fn add(list: &mut List, cpu: &Cpu) -> Result<()> {
    if let Some(idle) = cpu.idle {
        if !(0..=1).contains(&idle) {
            return Err(refuse("read cpu.idle", format!("{idle} is neither 0 nor 1"), "cpu/idle"));
        }
        // Before the weight, which the kernel refuses while the group is idle.
        list.add("cpu", "cpu.idle", idle, "cpu/idle");
    }
    // An idle group has the least weight there is, and loses a weight given before: nothing to write.
    if let Some(shares) = cpu.shares.filter(|&s| s != 0 && cpu.idle != Some(1)) {
        list.add("cpu", "cpu.weight", weight(shares), "cpu/shares");
    }
    let quota = cpu.quota.unwrap_or(0);
    let period = cpu.period.unwrap_or(0);
    let max = quota != 0 || period != 0;
    if let Some(burst) = cpu.burst {
        // A burst above the old quota is refused, and so is a quota below the old burst.
        let rule = if max { Rule::AgainAfter("cpu.max") } else { Rule::Must };
        list.add("cpu", "cpu.max.burst", burst, "cpu/burst").rule = rule;
    }
    if max {
        let quota_text = if quota > 0 { quota.to_string() } else { "max".into() };
        let member = if quota == 0 { "cpu/period" } else { "cpu/quota" };
        let period = if period == 0 { PERIOD } else { period };
        list.add("cpu", "cpu.max", format!("{quota_text} {period}"), member);
    }
    if !cpu.cpus.is_empty() {
        list.add("cpuset", "cpuset.cpus", &cpu.cpus, "cpu/cpus");
    }
    if !cpu.mems.is_empty() {
        list.add("cpuset", "cpuset.mems", &cpu.mems, "cpu/mems");
    }
    Ok(())
}

/// Shares of cgroup v1, 2..=262144 with 1024 as the default -> weight, 1..=10000 with 100.
///
/// The curve through the three fixed points that runc 1.5 and crun 1.29 use; the straight line of before gave a
/// container with the default shares less than half of the default weight.
fn weight(shares: u64) -> u16 {
    const MOST: u16 = 10_000;
    let Ok(shares) = u32::try_from(shares) else { return MOST };
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return MOST;
    }
    let l = f64::from(shares).log2();
    let exact = 10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0);
    // The next whole number, where rounding errors of the C library must not make 101 of the 100 at 1024 shares.
    (1..MOST).find(|&w| f64::from(w) >= exact - 1e-9).unwrap_or(MOST)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{everything, parse, plain, refused};
    use super::*;

    #[test]
    fn shares_follow_the_quadratic_curve() {
        for (shares, want) in [
            (1, 1),
            (2, 1),
            (3, 2),
            (10, 4),
            (100, 17),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (262_143, 10_000),
            (262_144, 10_000),
        ] {
            assert_eq!(weight(shares), want, "{shares}");
        }
        assert_eq!(weight(u64::MAX), 10_000);
    }

    #[test]
    fn weights_never_fall() {
        let all: Vec<_> = (0..=18).flat_map(|b| [(1u64 << b) - 1, 1 << b, (1 << b) + 1]).map(weight).collect();
        assert!(all.is_sorted(), "{all:?}");
    }

    #[test]
    fn values() {
        for (json, want) in [
            (r#"{"cpu":{"quota":50000}}"#, vec!["cpu.max=50000 100000"]),
            (r#"{"cpu":{"quota":50000,"period":20000}}"#, vec!["cpu.max=50000 20000"]),
            (r#"{"cpu":{"quota":-1}}"#, vec!["cpu.max=max 100000"]),
            (r#"{"cpu":{"period":20000}}"#, vec!["cpu.max=max 20000"]),
            (r#"{"cpu":{"idle":0,"shares":1024}}"#, vec!["cpu.idle=0", "cpu.weight=100"]),
            (r#"{"cpu":{"idle":1,"shares":1024}}"#, vec!["cpu.idle=1"]),
            (r#"{"cpu":{"burst":7}}"#, vec!["cpu.max.burst=7"]),
            (r#"{"cpu":{"burst":7,"quota":9}}"#, vec!["cpu.max.burst=7", "cpu.max=9 100000"]),
            (r#"{"cpu":{"cpus":"0-2","mems":"0"}}"#, vec!["cpuset.cpus=0-2", "cpuset.mems=0"]),
        ] {
            assert_eq!(plain(json), want, "{json}");
        }
    }

    #[test]
    fn burst_waits_for_the_quota_where_there_is_one() {
        let all = super::super::writes(&parse(r#"{"cpu":{"burst":7,"quota":9}}"#), &everything()).unwrap();
        assert_eq!(all[0].rule, Rule::AgainAfter("cpu.max"));
        let alone = super::super::writes(&parse(r#"{"cpu":{"burst":7}}"#), &everything()).unwrap();
        assert_eq!(alone[0].rule, Rule::Must);
    }

    #[test]
    fn idle_is_a_switch() {
        assert_eq!(refused(r#"{"cpu":{"idle":2}}"#).field(), "/linux/resources/cpu/idle");
    }
}
