//! The eight namespaces: new, shared with the host, joined by path; host name, sysctls, offsets, id maps.

use crate::bundle::Bundle;
use crate::case;
use crate::case::Case;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// After an error.
const LEAVES: &str = "leaves its cgroup behind";

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_listed_namespace_is_new),
        case!(a_namespace_that_is_not_listed_is_the_caller_s),
        case!(a_namespace_is_joined_by_its_path),
        case!(two_containers_share_a_pid_namespace),
        case!(a_missing_path_of_a_namespace_is_named).except("crun", LEAVES),
        case!(a_path_of_another_kind_of_namespace_is_refused),
        case!(a_namespace_listed_twice_is_refused).except("crun", "takes both"),
        case!(an_unknown_namespace_is_refused).except("crun", LEAVES),
        case!(hostname_is_as_asked),
        case!(hostname_without_its_namespace_is_refused).except("crun", "sets the caller's"),
        case!(domainname_is_as_asked).except("runc", "since 1.1.8").except("crun", "since 1.8.5"),
        case!(the_first_process_has_pid_1),
        case!(loopback_is_up_in_a_new_network),
        case!(sysctls_are_set),
        case!(a_sysctl_of_the_host_is_refused).except("crun", "sets it"),
        case!(a_user_namespace_maps_ids_as_asked),
        case!(a_user_namespace_without_maps_is_refused).except("crun", "goes on"),
        case!(the_root_of_a_user_namespace_has_its_capabilities),
        case!(time_offsets_are_as_asked).except("runc", "since 1.2").except("crun", "since 1.9"),
        case!(personality_is_as_asked).except("runc", "since 1.2"),
        case!(a_new_session_keyring_is_made).except("crun", "names it by the id too, but unlinks it"),
    ]
}

fn host(kind: &str) -> u64 {
    fs::metadata(format!("/proc/self/ns/{kind}")).expect("look at a namespace").ino()
}

/// Only these namespaces besides mount and pid; those that a container cannot do without stay.
fn with_namespaces(kinds: &[&str]) -> Bundle {
    let list: Vec<Value> = ["mount", "pid"].iter().chain(kinds).map(|kind| json!({"type": kind})).collect();
    let bundle = Bundle::new().set("/linux/namespaces", list).remove("/hostname");
    // sysfs belongs to a network namespace of one's own.
    if kinds.contains(&"network") {
        bundle
    } else {
        bundle
            .set("/mounts/5", json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]}))
            .remove("/mounts/6")
    }
}

fn a_listed_namespace_is_new() {
    let report = Bundle::new().namespace("cgroup").report(&[]);
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        assert_ne!(report["namespaces"][kind], host(kind), "{kind}");
    }
    for kind in ["user", "time"] {
        assert_eq!(report["namespaces"][kind], host(kind), "{kind}");
    }
}

fn a_namespace_that_is_not_listed_is_the_caller_s() {
    let report = with_namespaces(&[]).remove("/mounts/4").report(&[]);
    for kind in ["net", "ipc", "uts", "cgroup", "user", "time"] {
        assert_eq!(report["namespaces"][kind], host(kind), "{kind}");
    }
}

fn a_namespace_is_joined_by_its_path() {
    let other = Bundle::new().args(["sleep", "1000"]);
    let other = other.detach();
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", other.pid);
    let list = json!([
        {"type": "mount"}, {"type": "pid"},
        {"type": "network", "path": path("net")}, {"type": "ipc", "path": path("ipc")}, {"type": "uts", "path": path("uts")},
    ]);
    let report = Bundle::new().set("/linux/namespaces", list).remove("/hostname").report(&[]);
    for kind in ["net", "ipc", "uts"] {
        let inode = fs::metadata(path(kind)).expect("look at a namespace").ino();
        assert_eq!(report["namespaces"][kind], inode, "{kind}");
    }
    assert_eq!(report["hostname"], "onggi");
}

fn two_containers_share_a_pid_namespace() {
    let other = Bundle::new().args(["sleep", "1000"]);
    let other = other.detach();
    let mut bundle = Bundle::new().args(["sh", "-c", "cat /proc/1/cmdline"]);
    bundle.config["linux"]["namespaces"][0] = json!({"type": "pid", "path": format!("/proc/{}/ns/pid", other.pid)});
    assert_eq!(bundle.stdout(), "sleep\x001000\0");
}

fn a_missing_path_of_a_namespace_is_named() {
    let mut bundle = Bundle::new();
    bundle.config["linux"]["namespaces"][2] = json!({"type": "ipc", "path": "/no/such/namespace"});
    bundle.fails("/no/such/namespace");
}

fn a_path_of_another_kind_of_namespace_is_refused() {
    let mut bundle = Bundle::new();
    bundle.config["linux"]["namespaces"][2] = json!({"type": "ipc", "path": "/proc/self/ns/uts"});
    let output = bundle.run();
    assert!(output.status != 0 && !output.stderr.is_empty(), "{output:?}");
}

fn a_namespace_listed_twice_is_refused() {
    Bundle::new().namespace("ipc").fails("ipc");
}

fn an_unknown_namespace_is_refused() {
    Bundle::new().namespace("nosuch").fails("nosuch");
}

fn hostname_is_as_asked() {
    assert_eq!(Bundle::new().set("/hostname", "jar-1").report(&[])["hostname"], "jar-1");
}

fn hostname_without_its_namespace_is_refused() {
    let before = fs::read_to_string("/proc/sys/kernel/hostname").expect("read the host name");
    let bundle = with_namespaces(&["network", "ipc"]).set("/hostname", "jar-2");
    let output = bundle.run();
    assert!(output.status != 0 && !output.stderr.is_empty(), "{output:?}");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").expect("read the host name"), before);
}

fn domainname_is_as_asked() {
    assert_eq!(Bundle::new().set("/domainname", "example.org").report(&[])["domainname"], "example.org");
}

fn the_first_process_has_pid_1() {
    assert_eq!(Bundle::new().report(&[])["status"]["Pid"], "1");
}

fn loopback_is_up_in_a_new_network() {
    let printed = Bundle::new().args(["ip", "addr", "show", "lo"]).stdout();
    assert!(printed.contains("UP") && printed.contains("127.0.0.1"), "{printed}");
}

fn sysctls_are_set() {
    let sysctl = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096", "net.ipv4.ping_group_range": "0 7"});
    let bundle = Bundle::new().set("/linux/sysctl", sysctl);
    let bundle = bundle.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ping_group_range");
    assert_eq!(bundle.stdout(), "1\n4096\n0\t7\n");
}

fn a_sysctl_of_the_host_is_refused() {
    let value = fs::read_to_string("/proc/sys/vm/swappiness").expect("read a sysctl");
    Bundle::new().set("/linux/sysctl", json!({"vm.swappiness": value.trim()})).fails("vm.swappiness");
}

/// Ids 0..999 of the container are 100000.. of the host, whose the root file system is then.
pub fn with_user_namespace() -> Bundle {
    let map = json!([{"containerID": 0, "hostID": 100000, "size": 1000}]);
    let bundle = Bundle::new().namespace("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    for path in [bundle.home.clone(), bundle.dir()] {
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set a mode");
    }
    let rootfs = bundle.rootfs();
    for entry in fs::read_dir(&rootfs).expect("list the root").flatten().map(|entry| entry.path()).chain([rootfs]) {
        // Not through links, and not the programs that all bundles share.
        if entry.is_dir() {
            std::os::unix::fs::chown(entry, Some(100000), Some(100000)).expect("give it to the container's root");
        }
    }
    bundle
}

fn a_user_namespace_maps_ids_as_asked() {
    let report = with_user_namespace().report(&["/proc/self/uid_map", "/proc/self/gid_map"]);
    for map in ["uid_map", "gid_map"] {
        let text = report["files"][format!("/proc/self/{map}")].as_str().unwrap_or_default().to_owned();
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "1000"], "{map}");
    }
    assert_eq!(report["status"]["Uid"], "0 0 0 0");
    assert_ne!(report["namespaces"]["user"], host("user"));
}

fn a_user_namespace_without_maps_is_refused() {
    let output = Bundle::new().namespace("user").run();
    assert!(output.status != 0 && !output.stderr.is_empty(), "{output:?}");
}

fn the_root_of_a_user_namespace_has_its_capabilities() {
    let bundle = with_user_namespace().capabilities(&["CAP_SYS_ADMIN", "CAP_CHOWN"]);
    let bundle = bundle.sh("mount -t tmpfs tmpfs /tmp && chown 5:5 /tmp && stat -c '%u %g' /tmp");
    assert_eq!(bundle.stdout(), "5 5\n");
}

fn time_offsets_are_as_asked() {
    let offsets = json!({"monotonic": {"secs": 1000000}, "boottime": {"secs": 2000000, "nanosecs": 5}});
    let report = Bundle::new().namespace("time").set("/linux/timeOffsets", offsets).report(&["/proc/uptime"]);
    let words: Vec<&str> = report["timens_offsets"].as_str().unwrap_or_default().split_whitespace().collect();
    assert_eq!(words, ["monotonic", "1000000", "0", "boottime", "2000000", "5"]);
    let uptime = report["files"]["/proc/uptime"].as_str().and_then(|text| text.split('.').next()?.parse::<u64>().ok());
    assert!(uptime.is_some_and(|seconds| seconds > 2000000), "{uptime:?}");
}

fn personality_is_as_asked() {
    let report = Bundle::new().set("/linux/personality", json!({"domain": "LINUX32", "flags": []})).report(&[]);
    assert_eq!(report["personality"], "00000008");
}

fn a_new_session_keyring_is_made() {
    let bundle = Bundle::new();
    let name = format!("_ses.{}", bundle.id);
    let report = bundle.report(&[]);
    let keyring = report["keyring"].as_str().unwrap_or_default().to_owned();
    assert!(keyring.starts_with("keyring;0;0;") && keyring.ends_with(&name), "{keyring:?}");
}
