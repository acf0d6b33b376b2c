//! Root file systems made to lead the runtime astray: links in the place of whatever it makes, mounts or hides. The host's
//! canary stays as it was, whether the container runs or not. What moves meanwhile is not tried here.

use crate::bundle::{Bundle, Output};
use crate::canary::{Canary, link};
use crate::case;
use crate::case::Case;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};
use std::fs;

pub fn cases() -> Vec<Case> {
    vec![
        case!(links_at_mount_points_lead_nowhere),
        case!(links_on_the_way_to_mount_points_lead_nowhere),
        case!(links_at_device_nodes_lead_nowhere),
        case!(dev_as_a_link_leads_nowhere).except("crun", "CVE-2026-47766").except("runc", "CVE-2026-41579"),
        case!(links_at_hidden_paths_lead_nowhere),
        case!(a_link_as_working_directory_leads_nowhere),
        case!(proc_and_sys_must_be_directories),
        case!(links_below_dev_and_sys_stay_inside),
        case!(a_masked_file_is_masked_by_the_true_null_device)
            .except("runc", "CVE-2025-31133")
            .except("crun", "binds what the link names"),
        case!(the_old_root_is_out_of_reach),
        case!(a_moved_root_leaves_no_bare_proc_behind),
        case!(links_that_stay_inside_work),
    ]
}

/// Runs it; with the status, what differs is up to the runtime, but the canary must be as before.
fn runs(bundle: &Bundle, canary: &Canary, what: &str) -> Output {
    let output = bundle.run();
    canary.assert_unchanged(&format!("{what}: {output:?}"));
    assert!(output.status == 0 || !output.stderr.is_empty(), "{what}: {output:?}");
    output
}

/// The default mounts without those below `/dev`, for a `/dev` that is the rootfs's own.
fn without_dev(bundle: Bundle) -> Bundle {
    let mounts: Vec<Value> = bundle.config["mounts"].as_array().expect("mounts").clone();
    let keeps = |mount: &Value| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev");
    bundle.set("/mounts", mounts.into_iter().filter(keeps).collect::<Vec<_>>())
}

fn links_at_mount_points_lead_nowhere() {
    for (kind, name, more) in [("tmpfs", "dir", ""), ("tmpfs", "dir", "/new/place"), ("dir", "dir", ""), ("file", "file", "")] {
        for absolute in [0, 1] {
            let bundle = Bundle::new();
            let canary = Canary::new(&bundle);
            let source = bundle.home.join("source");
            fs::create_dir(&source).expect("make a directory");
            fs::write(source.join("f"), "x").expect("write a file");
            let place = format!("/m{more}");
            let bundle = match kind {
                "tmpfs" => bundle.mount(&place, "tmpfs", "tmpfs", &["mode=700"]),
                "dir" => bundle.mount(&place, "bind", &source.display().to_string(), &["rbind", "ro"]),
                _ => bundle.mount(&place, "bind", &source.join("f").display().to_string(), &["bind", "ro"]),
            };
            link(&bundle, "/m", &canary.names(name)[absolute]);
            runs(&bundle, &canary, &format!("{kind} on {place}"));
        }
    }
}

fn links_on_the_way_to_mount_points_lead_nowhere() {
    for depth in 1..4 {
        let bundle = Bundle::new().mount("/a/b/c/d", "tmpfs", "tmpfs", &["mode=700"]);
        let canary = Canary::new(&bundle);
        let place: String = ["/a", "/b", "/c"].iter().take(depth).copied().collect();
        link(&bundle, &place, &canary.names("deep")[depth % 2]);
        runs(&bundle, &canary, &place);
    }
}

fn links_at_device_nodes_lead_nowhere() {
    for place in ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "fd", "stdin", "stdout", "core", "made"]
    {
        for name in ["file", "dir/new"] {
            let bundle = without_dev(Bundle::new())
                .set("/linux/devices", json!([{"path": "/dev/made", "type": "c", "major": 1, "minor": 3, "uid": 7}]));
            let canary = Canary::new(&bundle);
            link(&bundle, &format!("/dev/{place}"), &canary.names(name)[0]);
            runs(&bundle, &canary, &format!("/dev/{place} -> {name}"));
        }
    }
}

fn dev_as_a_link_leads_nowhere() {
    for absolute in [0, 1] {
        // With what a mount there would bring, and without.
        for bundle in [Bundle::new(), without_dev(Bundle::new())] {
            let canary = Canary::new(&bundle);
            link(&bundle, "/dev", &canary.names("")[absolute]);
            runs(&bundle, &canary, "/dev");
        }
    }
}

fn links_at_hidden_paths_lead_nowhere() {
    for field in ["maskedPaths", "readonlyPaths"] {
        for (name, more) in [("file", ""), ("dir", ""), ("deep", "/file")] {
            let place = format!("/hidden{more}");
            let bundle = Bundle::new().set(&format!("/linux/{field}"), json!([place]));
            let canary = Canary::new(&bundle);
            link(&bundle, "/hidden", &canary.names(name)[1]);
            runs(&bundle, &canary, &format!("{field}: {place}"));
            // Its mounts are not the host's, but were they, this would fail.
            fs::write(canary.path.join("deep/file"), "sings\n").expect("the canary can be written");
        }
    }
}

fn a_link_as_working_directory_leads_nowhere() {
    for (name, more) in [("deep", ""), ("deep", "/new"), ("file", "")] {
        let bundle = Bundle::new().set("/process/cwd", format!("/work{more}")).sh("ls -A .");
        let canary = Canary::new(&bundle);
        link(&bundle, "/work", &canary.names(name)[1]);
        let output = runs(&bundle, &canary, name);
        assert!(!output.stdout.contains("file"), "{output:?}");
    }
}

fn proc_and_sys_must_be_directories() {
    for place in ["proc", "sys"] {
        for target in ["tmp", "/tmp", ".", "..", "dangling", if place == "proc" { "sys" } else { "proc" }] {
            let bundle = Bundle::new();
            link(&bundle, place, target);
            let output = bundle.run();
            assert!(output.status != 0 && output.error().contains(place), "/{place} -> {target}: {output:?}");
        }
        let bundle = Bundle::new();
        fs::remove_dir(bundle.rootfs().join(place)).expect("remove a directory");
        let bundle = bundle.file(place, 0o644, "");
        let output = bundle.run();
        assert!(output.status != 0 && output.error().contains(place), "/{place} a file: {output:?}");
    }
}

fn links_below_dev_and_sys_stay_inside() {
    for place in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        // A /dev of the rootfs, so that links in it count.
        let bundle = Bundle::new();
        let mounts: Vec<Value> = bundle.config["mounts"].as_array().expect("mounts").clone();
        let bundle = bundle.set("/mounts", mounts.into_iter().filter(|mount| mount["destination"] != "/dev").collect::<Vec<_>>());
        let canary = Canary::new(&bundle);
        link(&bundle, place, &canary.names("dir")[0]);
        runs(&bundle, &canary, place);
    }
}

fn a_masked_file_is_masked_by_the_true_null_device() {
    let core_pattern = fs::read("/proc/sys/kernel/core_pattern").expect("read a setting");
    for kind in ["link", "core_pattern", "file", "other device", "fifo", "missing"] {
        let bundle = without_dev(Bundle::new()).file("/secret", 0o644, "secret").set("/linux/maskedPaths", json!(["/secret"]));
        let bundle = bundle.sh("cat /secret; stat -c %F,%t:%T /secret");
        let canary = Canary::new(&bundle);
        let null = bundle.rootfs().join("dev/null");
        match kind {
            "link" => link(&bundle, "/dev/null", &canary.names("null")[0]),
            "core_pattern" => link(&bundle, "/dev/null", "/proc/sys/kernel/core_pattern"),
            "file" => fs::write(&null, "not null").expect("write a file"),
            "other device" => mknod(&null, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5)).expect("make a node"),
            "fifo" => nix::unistd::mkfifo(&null, Mode::from_bits_truncate(0o666)).expect("make a fifo"),
            _ => {}
        }
        let output = runs(&bundle, &canary, kind);
        assert!(!output.stdout.contains("secret"), "{kind}: {output:?}");
        if output.status == 0 {
            assert_eq!(output.stdout, "character special file,1:3\n", "{kind}");
        }
        assert!(output.status == 0 || kind != "missing", "{output:?}");
    }
    assert_eq!(fs::read("/proc/sys/kernel/core_pattern").expect("read a setting"), core_pattern);
}

fn the_old_root_is_out_of_reach() {
    for target in ["/oldroot", "/proc/1/root", "/proc/self/cwd", "/proc/self/root", ".", "/proc/self/fd/3", "/proc/1/cwd/../.."] {
        let bundle = Bundle::new();
        let canary = Canary::new(&bundle);
        let bundle = bundle.sh(&format!("! cat /way{}/deep/file 2>&1", canary.path.display()));
        link(&bundle, "/way", target);
        let bundle = bundle.mount(&format!("/way{}/dir", canary.path.display()), "tmpfs", "tmpfs", &["mode=700"]);
        runs(&bundle, &canary, target);
    }
}

/// Without a pivot the host's procfs stays somewhere below the root. While the kernel can see a bare one, a user namespace
/// inside may mount procfs anew, and has what was masked.
fn a_moved_root_leaves_no_bare_proc_behind() {
    let inner = "mount -t proc proc /mnt && echo mounted";
    let bundle = Bundle::new().capabilities(&["CAP_SYS_ADMIN", "CAP_SETFCAP"]);
    fs::create_dir_all(bundle.rootfs().join("mnt")).expect("make a directory");
    let bundle = bundle.sh(&format!("unshare -Urmpf sh -c '{inner}'; echo over"));
    let output = bundle.run_with(&["--no-pivot"]);
    assert_eq!(output.stdout, "over\n", "{output:?}");
    assert!(output.stderr.contains("mount") && output.stderr.contains("ermi"), "{output:?}");
}

fn links_that_stay_inside_work() {
    let bundle = Bundle::new()
        .mount("/var/run/app", "tmpfs", "tmpfs", &["mode=711"])
        .mount("/lib64/x", "tmpfs", "tmpfs", &["mode=711"])
        .set("/linux/maskedPaths", json!(["/var/run/hidden"]))
        .set("/process/cwd", "/var/run")
        .file("/run/hidden", 0o644, "secret")
        .file("/usr/lib/kept", 0o644, "")
        .sh("stat -c %a /run/app /usr/lib/x; cat /run/hidden; pwd -P");
    link(&bundle, "/var/run", "/run");
    link(&bundle, "/lib64", "usr/lib");
    assert_eq!(bundle.stdout(), "711\n711\n/run\n");
}
