//! Short texts from command lines, annotations and configurations: sysctl keys, users, signals, lists, units, paths of cgroups,
//! container ids. All readers see all bytes, a line each where the reader takes one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onggi::cgroup::place;
use onggi::cgroup::systemd::name::Name;
use onggi::cgroup::systemd::{properties, text};
use onggi::cli::container_id;
use onggi::config::{check::sysctl_path, values};
use std::collections::BTreeMap;

fn one(line: &str) {
    if let Ok(path) = sysctl_path(line) {
        let parts: Vec<_> = path.split('/').collect();
        assert!(parts.iter().all(|part| !matches!(*part, "" | "." | "..")), "{line:?}");
        assert!(path.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b)), "{line:?}");
    }
    if let Ok((uid, gid)) = values::user(line) {
        assert!(uid != u32::MAX && gid != Some(u32::MAX));
        // Each user has one spelling.
        assert_eq!(gid.map_or(uid.to_string(), |gid| format!("{uid}:{gid}")), line);
    }
    if let Ok(signal) = values::signal(line) {
        assert!((0..=64).contains(&signal), "{line:?}");
    }
    if let Ok(ranges) = values::list(line, 8192) {
        assert!(ranges.iter().all(|(first, last)| first <= last && *last < 8192));
        let words = values::mask(line, 8192).expect("a list is a mask");
        assert!(words.len() <= 128);
        let has = |n: u32| words.get((n / 64) as usize).is_some_and(|w| w >> (n % 64) & 1 == 1);
        assert!(ranges.iter().all(|(first, last)| has(*first) && has(*last)));
        let count: u32 = words.iter().map(|w| w.count_ones()).sum();
        assert!(u64::from(count) <= ranges.iter().map(|(first, last)| u64::from(last - first) + 1).sum());
    }
    let _ = values::rlimit(line).map(values::rlimit_name);
    if let Ok(id) = container_id(line) {
        assert!(id == line && !id.is_empty() && !id.contains('/') && id != "." && id != "..", "{line:?}");
    }
    if let Ok(path) = place::directory(line, "ID", "/own/cgroup") {
        assert!(path.is_relative() && path.components().count() > 0, "{line:?}");
        assert!(path.components().all(|c| matches!(c, std::path::Component::Normal(_))), "{line:?}");
    }
    if let Ok(name) = Name::parse(line, "ID", "system.slice") {
        assert!(name.unit.len() <= 255 && !name.unit.contains('/'), "{line:?}");
        if let Ok(path) = name.path() {
            assert!(path.components().all(|c| !matches!(c, std::path::Component::ParentDir)), "{line:?}");
        }
    }
    if let Ok(value) = text::parse(line) {
        // It can be said on the wire, and what is there is what was written.
        onggi::cgroup::systemd::wire::single(&value.signature()).expect("one type");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(all) = std::str::from_utf8(bytes) else { return };
    one(all);
    all.lines().for_each(one);
    let lines: Vec<String> = all.lines().map(str::to_owned).collect();
    if let Ok(kept) = values::environment(&lines) {
        assert!(kept.len() <= lines.len() && kept.iter().all(|entry| entry.contains('=')));
    }
    let known = values::capabilities(&lines);
    assert_eq!(known.bits >> 41, 0);
    let property = |line: &String| line.split_once('=').map(|(k, v)| (format!("org.systemd.property.{k}"), v.to_owned()));
    let annotations: BTreeMap<_, _> = lines.iter().filter_map(property).collect();
    if let Ok(properties) = properties::annotated(&annotations) {
        assert!(properties.iter().all(|(name, _)| name != "Slice" && name != "PIDs"));
    }
});
