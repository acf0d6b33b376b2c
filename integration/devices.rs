//! Device nodes and who may open them: `/linux/devices`, `/linux/resources/devices`.

use crate::bundle::Bundle;
use crate::case;
use crate::case::Case;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;

const FILTER: &str = "cannot load a device filter here";

const STAYS: &str = "leaves in silence what is there";

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_device_that_no_rule_allows_cannot_be_opened).except("crun", FILTER),
        case!(a_device_that_a_rule_allows_can_be_opened).except("crun", FILTER),
        case!(access_is_by_letter).except("crun", FILTER),
        case!(a_later_rule_takes_away_what_an_earlier_one_gave).except("crun", FILTER),
        case!(a_later_rule_gives_what_an_earlier_one_took).except("crun", FILTER),
        case!(a_rule_for_any_minor_is_for_all_of_them).except("crun", FILTER),
        case!(the_fiftieth_rule_counts).except("crun", FILTER),
        case!(default_devices_can_be_opened_whatever_the_rules_say).except("crun", FILTER),
        case!(nodes_can_be_made_but_not_opened).except("crun", FILTER),
        case!(nodes_have_mode_and_owner_as_asked),
        case!(a_fifo_is_made),
        case!(a_block_device_is_made),
        case!(the_right_node_may_be_there_already),
        case!(another_node_in_its_place_is_an_error).except("crun", STAYS).except("runc", STAYS),
        case!(a_host_dev_gets_no_devices),
        case!(in_a_user_namespace_nodes_are_the_host_s),
        case!(in_a_user_namespace_a_name_of_the_host_s_for_another_device_is_not_taken)
            .except("crun", "gives what the host has under that name")
            .except("runc", "gives what the host has under that name"),
        case!(in_a_user_namespace_fifos_are_made).except("runc", "looks for it on the host"),
        case!(a_ptmx_that_is_asked_for_is_the_container_s_own),
        case!(a_read_only_dev_has_its_devices_and_mounts),
    ]
}

const DENY_ALL: &str = r#"{"allow": false, "access": "rwm"}"#;

/// One of `/linux/devices`, a character device.
fn node(path: &str, major: u32, minor: u32) -> Value {
    json!({"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666})
}

fn rules(bundle: Bundle, rules: &[Value]) -> Bundle {
    let mut all: Vec<Value> = vec![serde_json::from_str(DENY_ALL).expect("a rule")];
    all.extend_from_slice(rules);
    bundle.set("/linux/resources", json!({"devices": all}))
}

fn rule(allow: bool, major: Option<u32>, minor: Option<u32>, access: &str) -> Value {
    let mut rule = json!({"allow": allow, "type": "c", "access": access});
    for (name, number) in [("major", major), ("minor", minor)] {
        if let Some(number) = number {
            rule[name] = number.into();
        }
    }
    rule
}

/// What opening `/dev/kmsg` (1:11) gives. Its own permission check is by CAP_SYSLOG at most, so EPERM is the filter's.
fn opens(list: &[Value], mode: &str) -> String {
    let bundle = rules(Bundle::new(), list)
        .capabilities(&["CAP_SYSLOG", "CAP_SYS_ADMIN"])
        .set("/linux/devices", json!([node("/dev/kmsg", 1, 11)]));
    bundle.inside(&["open", mode, "/dev/kmsg"]).stdout().trim().rsplit(' ').next().unwrap_or_default().into()
}

fn a_device_that_no_rule_allows_cannot_be_opened() {
    assert_eq!(opens(&[], "r"), "EPERM");
}

fn a_device_that_a_rule_allows_can_be_opened() {
    assert_eq!(opens(&[rule(true, Some(1), Some(11), "rwm")], "rw"), "ok");
}

fn access_is_by_letter() {
    let read = [rule(true, Some(1), Some(11), "r")];
    assert_eq!([opens(&read, "r"), opens(&read, "w"), opens(&read, "rw")], ["ok", "EPERM", "EPERM"]);
    let write = [rule(true, Some(1), Some(11), "w")];
    assert_eq!([opens(&write, "r"), opens(&write, "w")], ["EPERM", "ok"]);
}

fn a_later_rule_takes_away_what_an_earlier_one_gave() {
    let list = [rule(true, Some(1), Some(11), "rwm"), rule(false, Some(1), Some(11), "w")];
    assert_eq!([opens(&list, "r"), opens(&list, "w")], ["ok", "EPERM"]);
}

fn a_later_rule_gives_what_an_earlier_one_took() {
    assert_eq!(opens(&[rule(false, Some(1), Some(11), "rw"), rule(true, Some(1), Some(11), "rw")], "rw"), "ok");
}

fn a_rule_for_any_minor_is_for_all_of_them() {
    assert_eq!(opens(&[rule(true, Some(1), None, "r")], "r"), "ok");
    assert_eq!(opens(&[rule(true, Some(2), None, "r")], "r"), "EPERM");
}

fn the_fiftieth_rule_counts() {
    let mut list: Vec<Value> = (100..149).map(|major| rule(true, Some(major), Some(major), "rw")).collect();
    assert_eq!(opens(&list, "r"), "EPERM");
    list.push(rule(true, Some(1), Some(11), "r"));
    assert_eq!(opens(&list, "r"), "ok");
}

fn default_devices_can_be_opened_whatever_the_rules_say() {
    let paths = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
    let bundle = rules(Bundle::new(), &[]).inside(&[&["open", "rw"][..], &paths[..]].concat());
    assert_eq!(bundle.stdout(), paths.map(|path| format!("{path} ok\n")).concat());
}

fn nodes_can_be_made_but_not_opened() {
    let bundle = rules(Bundle::new(), &[]).capabilities(&["CAP_MKNOD"]).mount("/mnt", "tmpfs", "tmpfs", &[]);
    let bundle = bundle.sh("mknod /mnt/kmsg c 1 11 && echo made; cat /mnt/kmsg 2>&1 | head -n 1");
    let printed = bundle.stdout();
    assert!(printed.starts_with("made\n") && printed.contains("Operation not permitted"), "{printed}");
}

fn nodes_have_mode_and_owner_as_asked() {
    let mut device = node("/dev/made", 1, 3);
    for (name, value) in [("fileMode", 0o640), ("uid", 12), ("gid", 34)] {
        device[name] = value.into();
    }
    let bundle = Bundle::new().set("/linux/devices", json!([device, node("/dev/below/other", 1, 5)]));
    let bundle = bundle.sh("cd /dev; stat -c '%n %F %t:%T %a %u %g' made below/other");
    let expected = "made character special file 1:3 640 12 34\nbelow/other character special file 1:5 666 0 0\n";
    assert_eq!(bundle.stdout(), expected);
}

fn a_fifo_is_made() {
    let bundle = Bundle::new().set("/linux/devices", json!([{"path": "/dev/pipe", "type": "p", "fileMode": 0o600}]));
    assert_eq!(bundle.sh("stat -c '%F %a' /dev/pipe").stdout(), "fifo 600\n");
}

fn a_block_device_is_made() {
    let device = json!({"path": "/dev/disk", "type": "b", "major": 7, "minor": 200});
    let bundle = Bundle::new().set("/linux/devices", json!([device]));
    assert_eq!(bundle.sh("stat -c '%F %t:%T' /dev/disk").stdout(), "block special file 7:c8\n");
}

/// Makes a node in the rootfs, outside of `/dev`, which is a mount.
fn with_node(numbers: [&str; 3]) -> Bundle {
    let bundle = Bundle::new().set("/linux/devices", json!([node("/place", 1, 3)]));
    let made = Command::new("mknod").arg(bundle.rootfs().join("place")).args(numbers).status().expect("run mknod");
    assert!(made.success());
    bundle
}

fn the_right_node_may_be_there_already() {
    assert_eq!(with_node(["c", "1", "3"]).sh("stat -c '%F %t:%T' /place").stdout(), "character special file 1:3\n");
}

fn another_node_in_its_place_is_an_error() {
    let bundle = with_node(["c", "1", "5"]);
    let output = bundle.run();
    assert!(output.status != 0, "{output:?}");
    let meta = fs::metadata(bundle.rootfs().join("place")).expect("look at the node");
    assert!(meta.file_type().is_char_device() && meta.rdev() == nix::libc::makedev(1, 5));
}

fn a_host_dev_gets_no_devices() {
    let bundle = Bundle::new();
    let source = bundle.home.join("host-dev");
    fs::create_dir(&source).expect("make a directory");
    let mounts: Vec<Value> = bundle.config["mounts"].as_array().expect("mounts").clone();
    let kept: Vec<Value> =
        mounts.into_iter().filter(|mount| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev")).collect();
    let bundle = bundle.set("/mounts", kept).mount("/dev", "bind", &source.display().to_string(), &["rbind"]);
    // Some runtimes look for it in the container.
    let made = Command::new("mknod").arg(source.join("null")).args(["c", "1", "3"]).status().expect("run mknod");
    assert!(made.success());
    bundle.stdout();
    assert_eq!(fs::read_dir(source).expect("list it").count(), 1);
}

/// With a user namespace of its own, and these devices.
fn in_a_user_namespace(devices: &[Value]) -> Bundle {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = Bundle::new().namespace("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    // The user of the namespace has to get at the rootfs, and owns it.
    let owned = Command::new("chown").args(["-R", "-h", "100000:100000"]).arg(bundle.rootfs()).status().expect("run chown");
    assert!(owned.success());
    bundle.set("/linux/devices", devices)
}

/// Where udev is at work the device is found by its number, else nothing is.
fn in_a_user_namespace_a_name_of_the_host_s_for_another_device_is_not_taken() {
    let bundle = in_a_user_namespace(&[node("/dev/full", 1, 9)]).args(["stat", "-c", "%t:%T", "/dev/full"]);
    if std::path::Path::new("/dev/char/1:9").exists() {
        assert_eq!(bundle.stdout(), "1:9\n");
    } else {
        bundle.fails("/linux/devices/0: bind the device /dev/full: on the host another file has that name");
    }
}

fn in_a_user_namespace_fifos_are_made() {
    let bundle = in_a_user_namespace(&[json!({"path": "/dev/pipe", "type": "p", "fileMode": 0o640, "uid": 1, "gid": 2})]);
    assert_eq!(bundle.args(["stat", "-c", "%F %a %u %g", "/dev/pipe"]).stdout(), "fifo 640 1 2\n");
}

fn in_a_user_namespace_nodes_are_the_host_s() {
    let bundle = in_a_user_namespace(&[node("/dev/full", 1, 7)]);
    let report = bundle.report(&[]);
    for device in ["/dev/null", "/dev/full"] {
        let mounted = report["mounts"].as_array().is_some_and(|mounts| mounts.iter().any(|mount| mount["target"] == device));
        assert!(mounted, "{device}: {}", report["mounts"]);
    }
}

fn a_ptmx_that_is_asked_for_is_the_container_s_own() {
    let bundle = Bundle::new().set("/linux/devices", json!([node("/dev/ptmx", 5, 2)]));
    assert_eq!(bundle.args(["readlink", "/dev/ptmx"]).stdout(), "pts/ptmx\n");
}

/// As Podman's `--read-only-tmpfs=false` asks for it, and its pods with a read-only root.
fn a_read_only_dev_has_its_devices_and_mounts() {
    let mut bundle = Bundle::new().set("/process/terminal", false).set("/process/cwd", "/dev/work");
    for mount in bundle.config["mounts"].as_array_mut().expect("mounts") {
        if mount["destination"] == "/dev" {
            mount["options"] = json!(["nosuid", "strictatime", "mode=755", "size=65536k", "ro"]);
        }
    }
    let bundle = bundle.sh("pwd; ls /dev/null /dev/pts/ptmx; echo >/dev/null; touch /dev/new 2>&1; touch /dev/shm/new");
    let expected = "/dev/work\n/dev/null\n/dev/pts/ptmx\ntouch: /dev/new: Read-only file system\n";
    assert_eq!(bundle.stdout(), expected);
}
