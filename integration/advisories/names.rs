//! A name that is looked up where the container decides what it means: links in the root file system in the place of whatever
//! the runtime makes, mounts or hides. The host's canary stays as it was, whether the container runs or not.

use super::without_mounts;
use crate::bundle::{Bundle, Output};
use crate::canary::{Canary, link};
use crate::case;
use crate::case::Case;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use serde_json::{Value, json};
use std::fs;

pub fn cases() -> Vec<Case> {
    vec![
        case!(sec_05_cve_2019_18837_links_at_mount_points),
        case!(sec_07_cve_2024_45310_links_on_the_way_to_mount_points),
        case!(sec_05_cve_2019_18837_links_at_device_nodes),
        case!(sec_15_cve_2026_41579_dev_is_a_link).except("crun", "CVE-2026-47766").except("runc", "CVE-2026-41579"),
        case!(sec_05_cve_2019_18837_links_at_hidden_paths),
        case!(sec_05_cve_2019_18837_a_link_as_working_directory),
        case!(sec_06_cve_2019_19921_proc_is_a_symlink),
        case!(sec_06_cve_2025_54867_links_below_dev),
        case!(sec_13_cve_2025_31133_dev_null_is_something_else)
            .except("runc", "CVE-2025-31133")
            .except("crun", "binds what the link names"),
        case!(sec_13_cve_2026_88265_streams_on_a_null_device_of_the_container),
        case!(sec_05_cve_2019_18837_a_link_at_what_tmpcopyup_copies).except("crun", "copies nothing"),
        case!(sec_35_cve_2026_53488_names_in_the_image_stay_inside),
        case!(sec_16_cve_2025_24965_nothing_is_written_into_the_root),
        case!(sec_25_cve_2026_87766_links_to_the_old_root),
        case!(sec_06_cve_2019_19921_a_moved_root_leaves_no_bare_proc),
        case!(sec_25_cve_2026_87766_links_inside_work),
    ]
}

/// A canary on a mount of its own, which is shared: what a container with a shared root mounts there shows on the host.
struct Shared {
    canary: Canary,
}

impl Shared {
    fn new(bundle: &Bundle) -> Shared {
        let canary = Canary::new(bundle);
        let nothing = None::<&str>;
        mount(Some(&canary.path), &canary.path, nothing, MsFlags::MS_BIND, nothing).expect("bind the canary");
        mount(nothing, &canary.path, nothing, MsFlags::MS_SHARED, nothing).expect("share the canary");
        Shared { canary }
    }

    #[track_caller]
    fn assert_no_mount(&self, what: &str) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
        let below = format!("{}/", self.canary.path.display());
        let found: Vec<&str> =
            mounts.lines().filter(|line| line.split(' ').nth(4).is_some_and(|place| place.starts_with(&below))).collect();
        assert!(found.is_empty(), "{what}: {found:?}");
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // What a test that fails has left on it goes along.
        let _ = umount2(&self.canary.path, MntFlags::MNT_DETACH);
    }
}

/// Runs it; with the status, what differs is up to the runtime, but the canary must be as before.
fn runs(bundle: &Bundle, canary: &Canary, what: &str) -> Output {
    let output = bundle.run();
    canary.assert_unchanged(&format!("{what}: {output:?}"));
    assert!(output.status == 0 || !output.stderr.is_empty(), "{what}: {output:?}");
    output
}

fn sec_05_cve_2019_18837_links_at_mount_points() {
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

fn sec_07_cve_2024_45310_links_on_the_way_to_mount_points() {
    for depth in 1..4 {
        let bundle = Bundle::new().mount("/a/b/c/d", "tmpfs", "tmpfs", &["mode=700"]);
        let canary = Canary::new(&bundle);
        let place: String = ["/a", "/b", "/c"].iter().take(depth).copied().collect();
        link(&bundle, &place, &canary.names("deep")[depth % 2]);
        runs(&bundle, &canary, &place);
    }
}

fn sec_05_cve_2019_18837_links_at_device_nodes() {
    for place in ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "fd", "stdin", "stdout", "core", "made"]
    {
        for name in ["file", "dir/new"] {
            let bundle = without_mounts(Bundle::new(), "/dev")
                .set("/linux/devices", json!([{"path": "/dev/made", "type": "c", "major": 1, "minor": 3, "uid": 7}]));
            let canary = Canary::new(&bundle);
            link(&bundle, &format!("/dev/{place}"), &canary.names(name)[0]);
            runs(&bundle, &canary, &format!("/dev/{place} -> {name}"));
        }
    }
}

fn sec_15_cve_2026_41579_dev_is_a_link() {
    for absolute in [0, 1] {
        // With what a mount there would bring, and without.
        for bundle in [Bundle::new(), without_mounts(Bundle::new(), "/dev")] {
            let canary = Canary::new(&bundle);
            // Where no name is taken that would end it early.
            link(&bundle, "/dev", &canary.names("dir")[absolute]);
            runs(&bundle, &canary, "/dev");
        }
    }
}

/// Mounts that the container makes show on the host where its root is shared: what is hidden must not be the canary.
fn sec_05_cve_2019_18837_links_at_hidden_paths() {
    for propagation in ["", "shared"] {
        for field in ["maskedPaths", "readonlyPaths"] {
            for (name, more) in [("file", ""), ("dir", ""), ("deep", "/file")] {
                let place = format!("/hidden{more}");
                let bundle = Bundle::new().set(&format!("/linux/{field}"), json!([place]));
                let bundle = bundle.set("/linux/rootfsPropagation", propagation);
                let shared = Shared::new(&bundle);
                let canary = &shared.canary;
                link(&bundle, "/hidden", &canary.names(name)[1]);
                let what = format!("{field} {propagation}: {place}");
                runs(&bundle, canary, &what);
                shared.assert_no_mount(&what);
            }
        }
    }
}

fn sec_05_cve_2019_18837_a_link_as_working_directory() {
    for (name, more) in [("deep", ""), ("deep", "/new"), ("file", "")] {
        let bundle = Bundle::new().set("/process/cwd", format!("/work{more}")).sh("ls -A .");
        let canary = Canary::new(&bundle);
        link(&bundle, "/work", &canary.names(name)[1]);
        let output = runs(&bundle, &canary, name);
        assert!(!output.stdout.contains("file"), "{output:?}");
    }
}

fn sec_06_cve_2019_19921_proc_is_a_symlink() {
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
        let bundle = Bundle::new();
        fs::remove_dir(bundle.rootfs().join(place)).expect("remove a directory");
        mkfifo(&bundle.rootfs().join(place), Mode::from_bits_truncate(0o666)).expect("make a FIFO");
        let output = bundle.run();
        assert!(output.status != 0 && output.error().contains(place), "/{place} a FIFO: {output:?}");
    }
}

fn sec_06_cve_2025_54867_links_below_dev() {
    for propagation in ["", "shared"] {
        for place in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
            for name in ["dir/new", "dir"] {
                // A /dev of the rootfs, so that links in it count.
                let bundle = Bundle::new().set("/linux/rootfsPropagation", propagation);
                let mounts: Vec<Value> = bundle.config["mounts"].as_array().expect("mounts").clone();
                let keeps = |mount: &Value| mount["destination"] != "/dev";
                let bundle = bundle.set("/mounts", mounts.into_iter().filter(keeps).collect::<Vec<_>>());
                let shared = Shared::new(&bundle);
                let canary = &shared.canary;
                link(&bundle, place, &canary.names(name)[0]);
                let what = format!("{place} {propagation} -> {name}");
                runs(&bundle, canary, &what);
                shared.assert_no_mount(&what);
            }
        }
    }
}

fn sec_13_cve_2025_31133_dev_null_is_something_else() {
    let core_pattern = fs::read("/proc/sys/kernel/core_pattern").expect("read a setting");
    for kind in ["link", "core_pattern", "file", "other device", "fifo", "missing"] {
        let bundle =
            without_mounts(Bundle::new(), "/dev").file("/secret", 0o644, "secret").set("/linux/maskedPaths", json!(["/secret"]));
        let bundle = bundle.sh("cat /secret; stat -c %F,%t:%T /secret");
        let canary = Canary::new(&bundle);
        let null = bundle.rootfs().join("dev/null");
        match kind {
            "link" => link(&bundle, "/dev/null", &canary.names("null")[0]),
            "core_pattern" => link(&bundle, "/dev/null", "/proc/sys/kernel/core_pattern"),
            "file" => fs::write(&null, "not null").expect("write a file"),
            "other device" => mknod(&null, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5)).expect("make a node"),
            "fifo" => mkfifo(&null, Mode::from_bits_truncate(0o666)).expect("make a fifo"),
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

fn sec_25_cve_2026_87766_links_to_the_old_root() {
    for target in [
        "/oldroot",
        "/proc/1/root",
        "/proc/self/cwd",
        "/proc/self/root",
        ".",
        "/proc/self/fd/3",
        "/proc/1/cwd/../..",
        "/..",
        "..",
    ] {
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
fn sec_06_cve_2019_19921_a_moved_root_leaves_no_bare_proc() {
    let inner = "mount -t proc proc /mnt && echo mounted";
    let bundle = Bundle::new().capabilities(&["CAP_SYS_ADMIN", "CAP_SETFCAP"]);
    fs::create_dir_all(bundle.rootfs().join("mnt")).expect("make a directory");
    let bundle = bundle.sh(&format!("unshare -Urmpf sh -c '{inner}'; echo over"));
    let output = bundle.run_with(&["--no-pivot"]);
    assert_eq!(output.stdout, "over\n", "{output:?}");
    assert!(output.stderr.contains("mount") && output.stderr.contains("ermi"), "{output:?}");
}

fn sec_25_cve_2026_87766_links_inside_work() {
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

/// A stream on the null device is opened again inside: only if what lies there is that device. In a /dev that is somebody
/// else's, and in one of the rootfs.
fn sec_13_cve_2026_88265_streams_on_a_null_device_of_the_container() {
    for own in [false, true] {
        for kind in ["link", "file", "other device", "fifo", "missing"] {
            let bundle = Bundle::new();
            let canary = Canary::new(&bundle);
            let dev = if own { bundle.rootfs().join("dev") } else { bundle.home.join("dev") };
            for name in ["", "pts", "shm", "mqueue"] {
                fs::create_dir_all(dev.join(name)).expect("make a directory");
            }
            let null = dev.join("null");
            match kind {
                "link" => std::os::unix::fs::symlink(&canary.names("null")[1], &null).expect("make a link"),
                "file" => fs::write(&null, "not null").expect("write a file"),
                "other device" => {
                    mknod(&null, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5)).expect("make a node");
                }
                "fifo" => mkfifo(&null, Mode::from_bits_truncate(0o666)).expect("make a FIFO"),
                _ => {}
            }
            let bundle = without_mounts(bundle, "/dev");
            let bundle = if own { bundle } else { bundle.mount("/dev", "bind", &dev.display().to_string(), &["rbind"]) };
            let bundle = bundle.sh("stat -L -c %F,%t:%T /proc/self/fd/0");
            let what = format!("{kind}, its own: {own}");
            let output = runs(&bundle, &canary, &what);
            assert!(output.status != 0 || output.stdout == "character special file,1:3\n", "{what}: {output:?}");
            assert!(output.status == 0 || kind != "missing", "{what}: {output:?}");
        }
    }
}

fn sec_05_cve_2019_18837_a_link_at_what_tmpcopyup_copies() {
    for absolute in [0, 1] {
        let bundle = Bundle::new().mount("/data/deep", "tmpfs", "tmpfs", &["tmpcopyup"]).sh("cat /data/deep/* /data/deep/*/*");
        let canary = Canary::new(&bundle);
        link(&bundle, "/data", &canary.names("")[absolute]);
        let output = runs(&bundle, &canary, "the directory");
        assert!(!output.stdout.contains("sings"), "{output:?}");
        // A link in it is copied as a link.
        let bundle = Bundle::new().mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]).sh("cat /data/*; test -L /data/way");
        let canary = Canary::new(&bundle);
        link(&bundle, "/data/way", &canary.names("file")[absolute]);
        let output = runs(&bundle, &canary, "what is in it");
        assert!(output.status == 0 && !output.stdout.contains("sings"), "{output:?}");
    }
}

/// Directories of volumes, of logs, of an image's `WorkingDir`: those that an engine makes of what an image says.
fn sec_35_cve_2026_53488_names_in_the_image_stay_inside() {
    for (field, value) in [("/process/cwd", "/a/../../../..CANARY/dir/new"), ("/mounts/-", "/UPCANARY/dir/new")] {
        let bundle = Bundle::new();
        let canary = Canary::new(&bundle);
        let value =
            value.replace("CANARY", &canary.path.display().to_string()).replace("UP", "../".repeat(40).trim_end_matches('/'));
        let mount = json!({"destination": value, "type": "tmpfs", "source": "tmpfs"});
        let bundle = bundle.set(field, if field == "/mounts/-" { mount } else { value.into() });
        runs(&bundle, &canary, field);
    }
}

/// All names below a directory with type, mode, owner and content.
fn tree(path: &std::path::Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut all = Vec::new();
    for entry in fs::read_dir(path).expect("list the root").flatten() {
        let meta = entry.metadata().expect("look at a file");
        let content = if meta.is_file() && meta.len() < 4096 { fs::read(entry.path()).unwrap_or_default() } else { Vec::new() };
        all.push(format!("{} {:o} {} {} {content:?}", entry.path().display(), meta.mode(), meta.uid(), meta.ino()));
        if meta.is_dir() {
            all.append(&mut tree(&entry.path()));
        }
    }
    all.sort();
    all
}

/// No file of the runtime's own, by whatever name one may be led to it.
fn sec_16_cve_2025_24965_nothing_is_written_into_the_root() {
    let bundle = Bundle::new().set("/root/readonly", false).args(["sleep", "1000"]);
    let canary = Canary::new(&bundle);
    for name in ["config.json", "state.json", ".krun_config.json", "exec.fifo", "start.fifo", "run/notify", "run/.containerenv"] {
        link(&bundle, name, &canary.names("file")[0]);
    }
    let before = tree(&bundle.rootfs());
    let container = bundle.create();
    container.start();
    assert_eq!(container.call("exec", &["true"]).status, 0);
    container.ok("delete", &["--force"]);
    assert_eq!(tree(&bundle.rootfs()), before);
    canary.assert_unchanged("a whole life");
}
