//! What is mounted in a restored container.

use super::{COUNT, checkpoint, counting, images, last_number, number, restore_words, restored, saved, started};
use crate::bundle::Bundle;
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

pub fn cases() -> Vec<Case> {
    vec![
        case!(mounts_come_back_as_they_were).except("runc", "the root comes back writable"),
        case!(devices_of_a_user_namespace_come_back).except("runc", "cannot save it"),
    ]
}

fn mounts_come_back_as_they_were() {
    let bundle = counting().set("/root/readonly", true);
    let (data, file) = (bundle.home.join("data"), bundle.home.join("file"));
    fs::create_dir(&data).expect("make a directory");
    fs::write(data.join("x"), "of the host").expect("write a file");
    fs::write(&file, "a file").expect("write a file");
    let (data, file) = (data.display().to_string(), file.display().to_string());
    symlink("/var", bundle.rootfs().join("by-a-link")).expect("make a link");
    let bundle = bundle
        .mount("/data", "bind", &data, &["bind", "ro", "nosuid"])
        .mount("/by-a-link/deep/rw", "bind", &data, &["rbind", "noexec"])
        .mount("/etc/file", "bind", &file, &["bind", "ro"])
        .mount("/data2", "tmpfs", "tmpfs", &["size=1m"])
        .mount("/data3", "bind", "rootfs/data2", &["bind", "ro"])
        .mount("/data4", "bind", "rootfs/data", &["rbind"]);
    let (container, _lines) = started(&bundle);
    let table = |pid: i32| -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("read the mounts");
        let place = |line: &str| line.split(' ').skip(4).take(2).collect::<Vec<_>>().join(" ");
        let mut all: Vec<String> = text.lines().map(place).collect();
        all.sort();
        all
    };
    let mounts = table(container.pid);
    checkpoint(&bundle, &[]);
    // As an engine does that unpacks the root file system anew.
    for place in ["etc/file", "data", "data2", "data3", "data4", "var/deep/rw", "var/deep"] {
        let path = bundle.rootfs().join(place);
        if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }.expect("remove a mount point");
    }
    let (container, _lines) = restored(&bundle, &[]);
    assert_eq!(table(container.pid), mounts);
    let script = "cat /data/x /etc/file /var/deep/rw/x; touch /var/deep/rw/y && for f in /data/z /etc/file /z; do touch $f; done";
    let output = container.call("exec", &["sh", "-c", script]);
    assert!(output.stdout.starts_with("of the hosta fileof the host"), "{output:?}");
    assert_eq!(output.stderr.matches("Read-only file system").count(), 3, "{output:?}");
}

/// The container exchanges the links that its mount points were found by.
pub fn exchanged_mount_points_open_nothing() {
    let bundle = Bundle::new().capabilities(&["CAP_DAC_OVERRIDE"]);
    let (secret, own) = (bundle.home.join("secret"), bundle.home.join("own"));
    for dir in [&secret, &own] {
        fs::create_dir(dir).expect("make a directory");
    }
    for name in ["one", "two"] {
        symlink(format!("/mnt-{name}"), bundle.rootfs().join(name)).expect("make a link");
    }
    let bundle = bundle
        .mount("/one", "bind", &secret.display().to_string(), &["bind", "ro"])
        .mount("/two", "bind", &own.display().to_string(), &["bind"])
        .sh(&format!("rm /one /two; ln -s /mnt-two /one; ln -s /mnt-one /two; {COUNT}"));
    let before = Snapshot::of(&bundle);
    let (container, _lines) = started(&bundle);
    let output = saved(&bundle, &["--leave-running"]);
    container.ok("delete", &["--force"]);
    if output.status != 0 {
        return;
    }
    let output = bundle.call(restore_words(&bundle, &[]));
    if output.status == 0 {
        let script = "touch /one/x /two/x /mnt-one/x /mnt-two/x";
        bundle.call(["exec", &bundle.id, "sh", "-c", script]);
        assert!(!secret.join("x").exists(), "the read-only source is writable");
    } else {
        assert!(output.stderr.contains("/mounts/"), "{output:?}");
        before.assert_unchanged();
    }
}

/// With the nodes of /dev bound from the host, and ids that are not the host's.
fn devices_of_a_user_namespace_come_back() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = counting().namespace("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let owned = Command::new("chown").args(["-R", "-h", "100000:100000"]).arg(bundle.rootfs()).status().expect("run chown");
    assert!(owned.success());
    let (_container, lines) = started(&bundle);
    checkpoint(&bundle, &[]);
    let last = last_number(lines);
    // CRIU looks for images from inside the namespace, too.
    let open = Command::new("chmod").arg("711").arg(images(&bundle)).arg(&bundle.home).status().expect("run chmod");
    assert!(open.success());
    let (container, mut lines) = restored(&bundle, &[]);
    assert_eq!(number(&mut lines), last + 1);
    for device in [("null", "1:3"), ("full", "1:7"), ("tty", "5:0")] {
        let output = container.call("exec", &["stat", "-c", "%t:%T", &format!("/dev/{}", device.0)]);
        assert_eq!(output.stdout.trim(), device.1, "{output:?}");
    }
}
