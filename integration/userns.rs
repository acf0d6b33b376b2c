//! User namespaces and what depends on them: maps, owners, joining, idmapped mounts; and the rest of `linux` that is read
//! back from inside: network devices, memory policy, execution domain.

use crate::bundle::{Bundle, Container};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use crate::namespaces::with_user_namespace;
use crate::stage::WORK;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::Command;

const IDMAP: &str = "since 1.2";
/// What `source` is in.
const TMPFS: &str = "an idmapped tmpfs";
const OF_CRUN: &str = "crun's own syntax";

pub fn cases() -> Vec<Case> {
    vec![
        case!(ids_outside_the_maps_are_nobody_s),
        case!(groups_can_be_set_inside),
        case!(ipc_belongs_to_the_container_s_root),
        case!(sysctls_are_set_in_a_user_namespace),
        case!(devices_are_bound_and_work),
        case!(sysfs_is_mounted_in_a_user_namespace),
        case!(the_cgroup_namespace_starts_at_the_container_s_cgroup),
        case!(a_user_namespace_is_joined_with_a_new_pid_namespace),
        case!(the_life_cycle_works_in_a_joined_user_namespace),
        case!(a_pod_shares_all_but_its_mounts),
        case!(a_new_user_namespace_joins_the_host_s_others),
        case!(a_time_namespace_is_joined).except("runc", "since 1.2").except("crun", "since 1.9"),
        case!(negative_time_offsets_are_as_asked).except("runc", "since 1.2").except("crun", "since 1.9"),
        case!(a_mount_has_maps_of_its_own).since(6, 3, TMPFS).except("runc", IDMAP),
        case!(idmap_takes_the_container_s_maps).since(6, 3, TMPFS).except("runc", IDMAP),
        case!(idmap_takes_the_maps_of_a_joined_namespace)
            .since(6, 3, TMPFS)
            .except("runc", IDMAP)
            .except("crun", "wants maps in the file"),
        case!(idmap_is_for_one_mount_and_ridmap_for_all_below)
            .since(6, 3, TMPFS)
            .except("runc", IDMAP)
            .except("crun", "has no ridmap"),
        case!(idmap_takes_a_list_of_ranges).since(6, 3, TMPFS).except("runc", OF_CRUN),
        case!(an_idmapped_ext4_shows_the_mapped_owner).except("runc", IDMAP).vm("ext4"),
        case!(network_devices_are_moved_and_renamed_with_their_addresses).ours("runc since 1.4, crun since 1.23"),
        case!(a_missing_network_device_is_named).ours("runc since 1.4, crun since 1.23"),
        case!(memory_policy_is_as_asked).ours("runc since 1.4"),
        case!(the_execution_domain_is_as_asked).except("runc", "since 1.2"),
    ]
}

fn words(text: &Value) -> Vec<String> {
    text.as_str().unwrap_or_default().split_whitespace().map(Into::into).collect()
}

pub fn maps_of_several_lines_are_exact() {
    let map = json!([
        {"containerID": 0, "hostID": 100000, "size": 1000}, {"containerID": 2000, "hostID": 300000, "size": 5},
        {"containerID": 70000, "hostID": 200000, "size": 1},
    ]);
    let bundle = with_user_namespace().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let bundle = bundle.set("/process/user", json!({"uid": 2003, "gid": 70000}));
    let report = bundle.report(&["/proc/self/uid_map", "/proc/self/gid_map"]);
    for file in ["uid_map", "gid_map"] {
        let lines = words(&report["files"][format!("/proc/self/{file}")]).join(" ");
        assert_eq!(lines, "0 100000 1000 2000 300000 5 70000 200000 1", "{file}");
    }
    assert_eq!(
        (&report["status"]["Uid"], &report["status"]["Gid"]),
        (&json!("2003 2003 2003 2003"), &json!("70000 70000 70000 70000"))
    );
}

fn ids_outside_the_maps_are_nobody_s() {
    let bundle = with_user_namespace().file("/a", 0o644, "").file("/b", 0o644, "");
    chown(bundle.rootfs().join("a"), Some(100007), Some(100008)).expect("give a file away");
    assert_eq!(bundle.sh("stat -c '%u %g' /a /b").stdout(), "7 8\n65534 65534\n");
}

fn groups_can_be_set_inside() {
    let bundle = with_user_namespace().set("/process/user", json!({"uid": 5, "gid": 6, "additionalGids": [7, 8]}));
    let report = bundle.report(&["/proc/self/setgroups"]);
    assert_eq!(report["status"]["Groups"], "7 8");
    assert_eq!(report["files"]["/proc/self/setgroups"], "allow\n");
}

fn ipc_belongs_to_the_container_s_root() {
    let bundle = with_user_namespace().sh("stat -c %u /dev/mqueue && touch /dev/mqueue/queue && stat -c %u /dev/mqueue/queue");
    assert_eq!(bundle.stdout(), "0\n0\n");
}

fn sysctls_are_set_in_a_user_namespace() {
    let sysctl = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4097"});
    let bundle = with_user_namespace().set("/linux/sysctl", sysctl);
    assert_eq!(bundle.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax").stdout(), "1\n4097\n");
}

fn devices_are_bound_and_work() {
    let script = "for n in null zero full random urandom tty; do test -c /dev/$n && stat -c '%n %t:%T' /dev/$n; done
        echo x >/dev/null && head -c 2 /dev/zero | wc -c; mknod /dev/x c 1 3 2>/dev/null || echo refused";
    let printed = with_user_namespace().capabilities(&["CAP_MKNOD"]).sh(script).stdout();
    let want = ["null 1:3", "zero 1:5", "full 1:7", "random 1:8", "urandom 1:9", "tty 5:0"].map(|line| format!("/dev/{line}\n"));
    assert_eq!(printed, want.concat() + "2\nrefused\n");
}

fn sysfs_is_mounted_in_a_user_namespace() {
    let report = with_user_namespace().report(&[]);
    let mounts = report["mounts"].as_array().expect("mounts");
    let sys = mounts.iter().find(|mount| mount["target"] == "/sys").expect("a mount on /sys");
    assert!(sys["type"] == "sysfs" && sys["options"].as_str().is_some_and(|options| options.starts_with("ro,")), "{sys}");
}

fn the_cgroup_namespace_starts_at_the_container_s_cgroup() {
    for bundle in [Bundle::new(), with_user_namespace()] {
        assert_eq!(
            bundle.namespace("cgroup").report(&[])["cgroup"]
                .as_str()
                .map(|text| text.contains("0::/\n") || text.ends_with("0::/")),
            Some(true)
        );
    }
}

fn sleeper() -> Bundle {
    with_user_namespace().args(["sleep", "1000"])
}

fn path_of(other: &Container, file: &str) -> String {
    format!("/proc/{}/ns/{file}", other.pid)
}

fn inode_of(other: &Container, file: &str) -> u64 {
    fs::metadata(path_of(other, file)).expect("look at a namespace").ino()
}

/// A container like that one in its user namespace, and in those others.
fn in_namespaces_of(other: &Container, kinds: &[(&str, &str)]) -> Bundle {
    let list = ["pid", "network", "ipc", "uts", "mount", "user"].map(|kind| {
        let found = kinds.iter().find(|(name, _)| *name == kind);
        found.map_or(json!({"type": kind}), |(_, file)| json!({"type": kind, "path": path_of(other, file)}))
    });
    let shares_uts = kinds.iter().any(|(kind, _)| *kind == "uts");
    let bundle = with_user_namespace().set("/linux/namespaces", json!(list));
    if shares_uts { bundle.remove("/hostname") } else { bundle }
}

fn a_user_namespace_is_joined_with_a_new_pid_namespace() {
    let other = sleeper();
    let other = other.detach();
    let report = in_namespaces_of(&other, &[("user", "user")]).report(&["/proc/self/uid_map"]);
    assert_eq!(report["status"]["Pid"], "1");
    assert_eq!(report["namespaces"]["user"], inode_of(&other, "user"));
    for kind in ["pid", "net", "ipc", "uts"] {
        assert_ne!(report["namespaces"][kind], inode_of(&other, kind), "{kind}");
    }
    assert_eq!(words(&report["files"]["/proc/self/uid_map"]), ["0", "100000", "1000"]);
    assert_eq!(report["status"]["Uid"], "0 0 0 0");
}

fn the_life_cycle_works_in_a_joined_user_namespace() {
    let other = sleeper();
    let other = other.detach();
    let bundle = in_namespaces_of(&other, &[("user", "user")]).sh("trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done");
    let before = Snapshot::of(&bundle);
    let container = bundle.create();
    assert_eq!(container.status(), "created");
    // The process in between has gone: the container's first one is what the pid file names, and nobody else is there.
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid)).expect("read its status");
    assert!(status.contains("PPid:\t1\n"), "{status}");
    assert_eq!(container.start().status(), "running");
    crate::bundle::eventually("ready", || container.stdout().contains("ready"));
    assert_eq!(container.kill("TERM").wait(), 9);
    container.ok("delete", &[]);
    before.assert_unchanged();
}

fn a_pod_shares_all_but_its_mounts() {
    let other = sleeper();
    let other = other.detach();
    let all = [("user", "user"), ("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    let report = in_namespaces_of(&other, &all).report(&[]);
    for (_, file) in all {
        assert_eq!(report["namespaces"][file], inode_of(&other, file), "{file}");
    }
    assert_ne!(report["namespaces"]["mnt"], inode_of(&other, "mnt"));
    assert_ne!(report["status"]["Pid"], "1");
}

fn a_new_user_namespace_joins_the_host_s_others() {
    let other = Bundle::new().args(["sleep", "1000"]);
    let other = other.detach();
    let bundle = in_namespaces_of(&other, &[("network", "net"), ("ipc", "ipc"), ("uts", "uts")]);
    // sysfs cannot be mounted for a network namespace of somebody else's, nor mqueue for such IPC.
    let sys = json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]});
    let report = bundle.set("/mounts/5", sys).remove("/mounts/4").report(&[]);
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(report["namespaces"][kind], inode_of(&other, kind), "{kind}");
    }
    assert_ne!(report["namespaces"]["user"], inode_of(&other, "user"));
}

fn a_time_namespace_is_joined() {
    let other = Bundle::new().namespace("time").set("/linux/timeOffsets", json!({"monotonic": {"secs": 4242}}));
    let other = other.args(["sleep", "1000"]);
    let other = other.detach();
    let time = json!({"type": "time", "path": path_of(&other, "time")});
    let report = Bundle::new().set("/linux/namespaces/-", time).report(&[]);
    assert_eq!(report["namespaces"]["time"], inode_of(&other, "time"));
    assert_eq!(words(&report["timens_offsets"])[..2], ["monotonic", "4242"]);
}

fn negative_time_offsets_are_as_asked() {
    let report = Bundle::new().namespace("time").set("/linux/timeOffsets", json!({"boottime": {"secs": -3}})).report(&[]);
    assert_eq!(words(&report["timens_offsets"])[3..], ["boottime", "-3", "0"]);
}

/// A directory with a file of that owner, beside the bundle, so that it goes with it.
fn source(bundle: &Bundle, owner: u32) -> PathBuf {
    let directory = bundle.home.join("source");
    fs::create_dir_all(&directory).expect("make a directory");
    fs::write(directory.join("file"), "text").expect("write a file");
    chown(directory.join("file"), Some(owner), Some(owner + 1)).expect("give it away");
    directory
}

fn a_mount_has_maps_of_its_own() {
    let bundle = Bundle::new();
    let from = source(&bundle, 5).display().to_string();
    let map = json!([{"containerID": 0, "hostID": 7000, "size": 100}]);
    let bundle = bundle.mount("/data", "bind", &from, &["bind"]);
    let bundle = bundle.set("/mounts/7/uidMappings", map.clone()).set("/mounts/7/gidMappings", map);
    assert_eq!(bundle.sh("stat -c '%u %g' /data/file").stdout(), "7005 7006\n");
}

fn idmap_takes_the_container_s_maps() {
    let bundle = with_user_namespace();
    let from = source(&bundle, 5);
    chown(&from, Some(0), Some(0)).expect("it is the host root's");
    let bundle = bundle.mount("/data", "bind", &from.display().to_string(), &["bind", "idmap"]);
    let bundle = bundle.sh("stat -c '%u %g' /data/file && echo x >/data/new && stat -c %u /data/new");
    assert_eq!(bundle.stdout(), "5 6\n0\n");
    // What the container's root has made is the host's root's.
    assert_eq!(fs::metadata(from.join("new")).expect("look at the new file").uid(), 0);
}

fn idmap_takes_the_maps_of_a_joined_namespace() {
    let other = with_user_namespace().args(["sleep", "1000"]);
    let other = other.detach();
    let bundle = with_user_namespace().remove("/linux/uidMappings").remove("/linux/gidMappings");
    let from = source(&bundle, 5);
    let namespaces = bundle.config["linux"]["namespaces"].as_array().expect("a list").clone();
    let at = namespaces.iter().position(|n| n["type"] == "user").expect("a user namespace");
    let bundle = bundle.set(&format!("/linux/namespaces/{at}/path"), path_of(&other, "user"));
    let bundle = bundle.mount("/data", "bind", &from.display().to_string(), &["bind", "idmap"]);
    assert_eq!(bundle.sh("stat -c '%u %g' /data/file").stdout(), "5 6\n");
}

fn idmap_is_for_one_mount_and_ridmap_for_all_below() {
    for (option, below) in [("idmap", "65534"), ("ridmap", "9")] {
        let bundle = with_user_namespace();
        let from = source(&bundle, 5);
        let inner = from.join("inner");
        fs::create_dir(&inner).expect("make a mount point");
        let none = None::<&str>;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), &inner, Some("tmpfs"), flags, none).expect("mount a tmpfs");
        fs::write(inner.join("file"), "").expect("write a file");
        chown(inner.join("file"), Some(9), Some(9)).expect("give it away");
        let bundle = bundle.mount("/data", "bind", &from.display().to_string(), &["rbind", option]);
        let output = bundle.sh("stat -c %u /data/file /data/inner/file").run();
        nix::mount::umount(&inner).expect("unmount the tmpfs");
        assert_eq!(output.stdout, format!("5\n{below}\n"), "{option}: {output:?}");
    }
}

fn idmap_takes_a_list_of_ranges() {
    let bundle = Bundle::new();
    let from = source(&bundle, 5).display().to_string();
    let bundle = bundle.mount("/data", "bind", &from, &["bind", "idmap=uids=0-7000-100;gids=0-8000-3#3-9000-100"]);
    assert_eq!(bundle.sh("stat -c '%u %g' /data/file").stdout(), "7005 9003\n");
}

fn an_idmapped_ext4_shows_the_mapped_owner() {
    let from = PathBuf::from(format!("/var/tmp/{}", std::process::id()));
    assert!(!from.starts_with(WORK));
    fs::create_dir_all(&from).expect("make a directory");
    fs::write(from.join("file"), "").expect("write a file");
    chown(from.join("file"), Some(5), Some(6)).expect("give it away");
    let bundle = with_user_namespace().mount("/data", "bind", &from.display().to_string(), &["bind", "idmap"]);
    let output = bundle.sh("stat -c '%u %g' /data/file && stat -f -c %T /data").run();
    fs::remove_dir_all(&from).expect("remove the directory");
    assert_eq!(output.stdout, "5 6\next2/ext3\n", "{output:?}");
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("run ip (package iproute2)");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

fn network_devices_are_moved_and_renamed_with_their_addresses() {
    let bundle = Bundle::new();
    let name = format!("m{}", bundle.id.replace('-', "x"));
    // One end of the pair goes, the other stays and goes with it.
    ip(&format!("link add {name} type veth peer name p{name}"));
    ip(&format!("addr add 10.9.8.7/24 dev {name}"));
    ip(&format!("link set {name} up"));
    let bundle = bundle.set(&format!("/linux/netDevices/{name}"), json!({"name": "eth7"})).sh("ip addr show dev eth7");
    let printed = bundle.stdout();
    assert!(printed.contains("inet 10.9.8.7/24") && printed.contains(",UP"), "{printed}");
    crate::bundle::eventually("the pair is gone", || !PathBuf::from(format!("/sys/class/net/p{name}")).exists());
}

fn a_missing_network_device_is_named() {
    Bundle::new().set("/linux/netDevices", json!({"nosuch0": {}})).fails("/linux/netDevices/nosuch0");
}

fn memory_policy_is_as_asked() {
    for (mode, flags, want) in [
        ("MPOL_BIND", json!([]), json!([2, 1])),
        ("MPOL_PREFERRED", json!([]), json!([1, 1])),
        ("MPOL_INTERLEAVE", json!(["MPOL_F_STATIC_NODES"]), json!([3 | 1 << 15, 1])),
    ] {
        let policy = json!({"mode": mode, "nodes": "0", "flags": flags});
        assert_eq!(Bundle::new().set("/linux/memoryPolicy", policy).report(&[])["memory_policy"], want, "{mode}");
    }
}

fn the_execution_domain_is_as_asked() {
    for (domain, machine) in [("LINUX32", "i686\n"), ("LINUX", "x86_64\n")] {
        let bundle = Bundle::new().set("/linux/personality", json!({"domain": domain}));
        assert_eq!(bundle.args(["uname", "-m"]).stdout(), machine, "{domain}");
    }
}
