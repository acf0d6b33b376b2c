//! Tables of procfs: mountinfo, whose paths a container chooses, and the cgroups of a process.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onggi::cgroup::parse_memberships;
use onggi::criu::mountinfo::{Mount, parse};

fuzz_target!(|bytes: &[u8]| {
    let mounts = parse(bytes);
    assert!(mounts.len() <= bytes.split(|&b| b == b'\n').count());
    for mount in &mounts {
        // Escapes only ever shorten.
        assert!(mount.point.as_os_str().len() <= bytes.len() && mount.root.as_os_str().len() <= bytes.len());
        assert!(mount.same_source(mount));
        assert!(Mount::on(&mounts, &mount.point).is_some());
    }
    let text = String::from_utf8_lossy(bytes);
    let (own, v1) = parse_memberships(&text);
    assert!(!own.contains('\n') && v1.iter().all(|controller| !controller.is_empty()));
});
