//! Id mappings and clocks: what the user and time namespaces are given, and whether the process' ids exist in them.

use super::namespaces::Namespaces;
use super::{broken, member};
use crate::config::{Linux, LinuxIdMapping, Process};
use crate::error::Result;

/// The kernel's UID_GID_MAP_MAX_EXTENTS (4.15).
const MAX_LINES: usize = 340;

pub(super) fn check(linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    let maps = [("/linux/uidMappings", &linux.uid_mappings), ("/linux/gidMappings", &linux.gid_mappings)];
    for (field, map) in maps {
        if !map.is_empty() && !namespaces.has("user") {
            return Err(broken(field, "id mappings need a user namespace", "linux.namespaces has none"));
        }
        if map.is_empty() && namespaces.makes("user") {
            let hint = "for one id: {\"containerID\":0,\"hostID\":YOUR_ID,\"size\":1}";
            return Err(broken(field, "missing", "a new user namespace needs id mappings").hint(hint));
        }
        mapping(field, map)?;
    }
    time_offsets(linux, namespaces)
}

/// Checks a map as the kernel would when it is written (user_namespaces(7)).
pub(super) fn mapping(field: &str, map: &[LinuxIdMapping]) -> Result<()> {
    if map.len() > MAX_LINES {
        return Err(broken(field, "too many id mappings", format!("{}, the kernel takes {MAX_LINES}", map.len())));
    }
    for (n, m) in map.iter().enumerate() {
        let field = format!("{field}/{n}");
        if m.size() == 0 {
            return Err(broken(field + "/size", "is 0", "a mapping holds at least one id"));
        }
        for (side, first) in [("containerID", m.container_id()), ("hostID", m.host_id())] {
            if first.checked_add(m.size()).is_none() {
                return Err(broken(
                    field + "/size",
                    "out of range",
                    format!("{} ids from {side} {first} run over 4294967294", m.size()),
                ));
            }
        }
        for (k, o) in map.iter().take(n).enumerate() {
            let overlap = |a: u32, b: u32| a < b.saturating_add(o.size()) && b < a.saturating_add(m.size());
            for (side, overlaps) in
                [("container", overlap(m.container_id(), o.container_id())), ("host", overlap(m.host_id(), o.host_id()))]
            {
                if overlaps {
                    return Err(broken(
                        format!("{field}/{side}ID"),
                        "overlapping id mappings",
                        format!("shares {side} ids with number {k}"),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Ids that a new user namespace does not map make setresuid(2) fail long after, with nothing but `invalid argument`.
pub(super) fn process(p: &Process, linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    if !namespaces.makes("user") {
        return Ok(());
    }
    let holds =
        |map: &[LinuxIdMapping], id: u32| map.iter().any(|m| id.checked_sub(m.container_id()).is_some_and(|n| n < m.size()));
    let mapped = |field: String, map: &[LinuxIdMapping], id: u32, member: &str| {
        if holds(map, id) { Ok(()) } else { Err(broken(field, "id is not mapped", format!("linux.{member} has no {id}"))) }
    };
    mapped("/process/user/uid".into(), &linux.uid_mappings, p.user.uid, "uidMappings")?;
    mapped("/process/user/gid".into(), &linux.gid_mappings, p.user.gid, "gidMappings")?;
    for (n, gid) in p.user.additional_gids.iter().enumerate() {
        mapped(format!("/process/user/additionalGids/{n}"), &linux.gid_mappings, *gid, "gidMappings")?;
    }
    Ok(())
}

fn time_offsets(linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    let field = "/linux/timeOffsets";
    if linux.time_offsets.is_empty() {
        return Ok(());
    }
    if !namespaces.has("time") {
        return Err(broken(field, "time offsets need a time namespace", "linux.namespaces has none"));
    }
    if !namespaces.makes("time") {
        return Err(broken(field, "time offsets need a new time namespace", "the one of linux.namespaces is joined"));
    }
    for (clock, offset) in &linux.time_offsets {
        let field = member(field, clock);
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(broken(field, "unknown clock", "only monotonic and boottime have offsets"));
        }
        let nanosecs = offset.nanosecs().unwrap_or_default();
        if nanosecs >= 1_000_000_000 {
            return Err(broken(field + "/nanosecs", "out of range", format!("{nanosecs} is a second or more")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Spec;

    fn at(linux: &str) -> String {
        let json = format!(r#"{{"process":{{"user":{{"uid":5,"additionalGids":[7]}}}},"linux":{linux}}}"#);
        let spec = Spec::parse(json.as_bytes()).unwrap();
        let ns = Namespaces::check(&spec.linux.namespaces).unwrap();
        let result = check(&spec.linux, &ns).and_then(|()| process(spec.process.as_ref().unwrap(), &spec.linux, &ns));
        result.err().map(|e| e.field().to_owned()).unwrap_or_default()
    }

    fn maps(uid: &str, gid: &str) -> String {
        at(&format!(r#"{{"namespaces":[{{"type":"user"}}],"uidMappings":[{uid}],"gidMappings":[{gid}]}}"#))
    }

    #[test]
    fn mappings() {
        let all = r#"{"containerID":0,"hostID":0,"size":4294967295}"#;
        let m = |c: u32, h: u32, s: u32| format!(r#"{{"containerID":{c},"hostID":{h},"size":{s}}}"#);
        assert_eq!(maps(all, all), "");
        assert_eq!(maps(&format!("{},{}", m(0, 1000, 1), m(1, 2000, 9)), all), "");
        assert_eq!(maps(&m(0, 1000, 5), all), "/process/user/uid");
        assert_eq!(maps(all, &m(0, 1000, 7)), "/process/user/additionalGids/0");
        assert_eq!(maps(&m(0, 1000, 0), all), "/linux/uidMappings/0/size");
        assert_eq!(maps(all, &m(0, 1, 4_294_967_295)), "/linux/gidMappings/0/size");
        assert_eq!(maps(&format!("{},{}", m(0, 1000, 9), m(8, 2000, 9)), all), "/linux/uidMappings/1/containerID");
        assert_eq!(maps(&format!("{},{}", m(0, 1000, 9), m(9, 999, 2)), all), "/linux/uidMappings/1/hostID");
        assert_eq!(maps("", all), "/linux/uidMappings");
        assert_eq!(at(&format!(r#"{{"gidMappings":[{all}]}}"#)), "/linux/gidMappings");
        let many = |n: u32| (0..n).map(|k| m(k, 1000 + k, 1)).collect::<Vec<_>>().join(",");
        assert_eq!(maps(&many(340), all), "");
        assert_eq!(maps(&many(341), all), "/linux/uidMappings");
        let joined = format!(r#"{{"namespaces":[{{"type":"user","path":"/proc/1/ns/user"}}],"uidMappings":[{all}]}}"#);
        assert_eq!(at(&joined), "");
    }

    #[test]
    fn clocks() {
        let t = |path: &str, offsets: &str| {
            at(&format!(r#"{{"namespaces":[{{"type":"time","path":"{path}"}}],"timeOffsets":{offsets}}}"#))
        };
        assert_eq!(t("", r#"{"monotonic":{"secs":-5,"nanosecs":999999999},"boottime":{}}"#), "");
        assert_eq!(t("", r#"{"monotonic":{"nanosecs":1000000000}}"#), "/linux/timeOffsets/monotonic/nanosecs");
        assert_eq!(t("", r#"{"realtime":{}}"#), "/linux/timeOffsets/realtime");
        assert_eq!(t("/x", r#"{"monotonic":{}}"#), "/linux/timeOffsets");
        assert_eq!(at(r#"{"timeOffsets":{"monotonic":{}}}"#), "/linux/timeOffsets");
    }
}
