//! `/mounts`, `/root`, masked and read-only paths, as the container's mount table and its programs see them.

use crate::bundle::Bundle;
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use crate::namespaces::with_user_namespace;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

pub fn cases() -> Vec<Case> {
    vec![
        case!(the_default_mounts_have_their_types_and_options),
        case!(only_the_root_s_mounts_are_seen),
        case!(a_read_only_root_cannot_be_written),
        case!(a_writable_root_can_be_written),
        case!(a_bind_mount_shows_the_source),
        case!(a_bind_mount_of_a_file_makes_its_mount_point),
        case!(a_relative_source_is_relative_to_the_bundle),
        case!(a_read_only_bind_mount_leaves_the_source_writable),
        case!(bind_mount_flags_are_as_asked),
        case!(bind_is_not_recursive_rbind_is),
        case!(rro_makes_the_mounts_below_read_only).except("crun", "fails on a mount that is locked"),
        case!(ro_does_not_make_the_mounts_below_read_only),
        case!(tmpfs_has_size_mode_and_owner_as_asked),
        case!(tmpfs_takes_the_mode_of_the_directory_when_none_is_given),
        case!(tmpfs_on_a_mount_point_that_was_made_is_open_to_all).except("crun", "makes directories with mode 1755"),
        case!(tmpcopyup_fills_it_with_what_was_there),
        case!(later_mounts_lie_on_earlier_ones),
        case!(missing_mount_points_are_made),
        case!(access_time_options_are_as_asked),
        case!(propagation_of_a_mount_is_as_asked).except("crun", "1.8 does not make it shared"),
        case!(rootfs_propagation_is_as_asked).except("runc", "1.1 leaves it private"),
        case!(the_root_is_a_slave_when_asked).except("crun", "private all the same").except("runc", "1.1 means / alone"),
        case!(a_remount_changes_the_mount).except("crun", "looks for a source"),
        case!(a_remount_changes_the_file_system).except("crun", "hides what the kernel says"),
        case!(propagation_alone_changes_the_mount_that_is_there).ours("others want a type"),
        case!(a_mount_in_the_container_does_not_reach_the_host),
        case!(no_mount_is_a_peer_of_the_host_s).except("crun", "1.8 cannot make user namespaces here"),
        case!(a_mount_over_a_masked_file_or_a_node_does_not_reach_the_host)
            .except("crun", "1.8 cannot make user namespaces here"),
        case!(a_mount_of_the_host_below_the_root_stays_outside)
            .except("runc", "1.1 cuts it off only where the rootfs is a mount of its own"),
        case!(a_mount_on_the_host_reaches_a_slave).except("crun", "its copy of the tree is made private before"),
        case!(masked_files_are_empty_and_masked_directories_too),
        case!(a_masked_path_that_is_absent_is_no_error),
        case!(read_only_paths_cannot_be_written),
        case!(a_read_only_path_keeps_the_flags_it_had).except("crun", "1.8 drops them"),
        case!(symbolic_links_in_a_destination_stay_inside),
        case!(a_destination_with_dots_stays_inside),
        case!(a_symbolic_link_as_proc_is_refused),
        case!(a_proc_mount_elsewhere_is_possible),
        case!(a_missing_source_is_named),
        case!(an_unknown_type_is_an_error),
        case!(a_bad_data_option_is_an_error),
        case!(a_failed_mount_leaves_nothing),
        case!(default_devices_and_links_are_there),
        case!(the_cgroup_mount_shows_cgroup2),
        case!(mqueue_works),
        case!(overlay_works).vm("overlay on a file system of its own"),
        case!(spaces_in_paths_work),
    ]
}

/// The mount on a path (the last one, if several lie there).
#[track_caller]
fn mount_on<'a>(report: &'a Value, target: &str) -> &'a Value {
    let mounts = report["mounts"].as_array().expect("a list of mounts");
    mounts.iter().rev().find(|mount| mount["target"] == target).unwrap_or_else(|| panic!("no {target} in {mounts:#?}"))
}

fn has(mount: &Value, option: &str) -> bool {
    let words = |field: &str| mount[field].as_str().unwrap_or_default().split(',').any(|word| word == option);
    words("options") || words("super")
}

/// A directory beside the bundle, and a bind mount of it on /mnt.
fn with_bind(options: &[&str]) -> Bundle {
    let bundle = Bundle::new();
    let source = bundle.home.join("source");
    fs::create_dir_all(source.join("below")).expect("make the source");
    fs::write(source.join("file"), "content\n").expect("write a file");
    bundle.mount("/mnt", "bind", &source.display().to_string(), options)
}

/// The same with a source that is a mount of its own, and shared: a runtime may change the one that its bundle is on.
fn with_shared_bind(options: &[&str]) -> (Bundle, HostMount) {
    let bundle = Bundle::new();
    let source = bundle.home.join("source");
    let mount = HostMount::new(&source);
    fs::create_dir(source.join("below")).expect("make a directory");
    (bundle.mount("/mnt", "bind", &source.display().to_string(), options), mount)
}

/// Mounts a tmpfs on a directory of the tests' namespace for as long as this lives.
struct HostMount(std::path::PathBuf);

impl HostMount {
    fn new(target: &std::path::Path) -> HostMount {
        fs::create_dir_all(target).expect("make a mount point");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), target, Some("tmpfs"), flags, None::<&str>).expect("mount a tmpfs");
        HostMount(target.into())
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn the_default_mounts_have_their_types_and_options() {
    let report = Bundle::new().report(&[]);
    for (target, kind, options) in [
        ("/proc", "proc", &["rw"][..]),
        ("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", &["nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"]),
        ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "size=65536k"]),
        ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ("/sys/fs/cgroup", "cgroup2", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ] {
        let mount = mount_on(&report, target);
        assert_eq!(mount["type"], kind, "{target}");
        for option in options {
            assert!(has(mount, option), "{target}: {option} not in {mount}");
        }
    }
}

fn only_the_root_s_mounts_are_seen() {
    let bundle = Bundle::new();
    let home = bundle.home.display().to_string();
    let report = bundle.report(&[]);
    let mounts = report["mounts"].as_array().expect("a list of mounts");
    assert_eq!(mounts.iter().filter(|mount| mount["target"] == "/").count(), 1, "{mounts:#?}");
    assert!(mounts.iter().all(|mount| !mount["target"].as_str().unwrap_or_default().contains(&home)), "{mounts:#?}");
}

fn a_read_only_root_cannot_be_written() {
    let bundle = Bundle::new().set("/root/readonly", true).sh("touch /new 2>&1; echo $?");
    assert!(bundle.stdout().contains("Read-only file system\n1"), "{}", bundle.stdout());
}

fn a_writable_root_can_be_written() {
    let bundle = Bundle::new().sh("touch /new");
    bundle.stdout();
    assert!(bundle.rootfs().join("new").exists());
}

fn a_bind_mount_shows_the_source() {
    assert_eq!(with_bind(&["bind"]).sh("cat /mnt/file; echo more >/mnt/file; cat /mnt/file").stdout(), "content\nmore\n");
}

fn a_bind_mount_of_a_file_makes_its_mount_point() {
    let bundle = Bundle::new();
    let file = bundle.home.join("file");
    fs::write(&file, "content\n").expect("write a file");
    let bundle = bundle.mount("/new/place/file", "bind", &file.display().to_string(), &["bind"]);
    assert_eq!(bundle.args(["cat", "/new/place/file"]).stdout(), "content\n");
}

fn a_relative_source_is_relative_to_the_bundle() {
    let bundle = Bundle::new();
    fs::create_dir(bundle.dir().join("data")).expect("make a directory");
    fs::write(bundle.dir().join("data/file"), "content\n").expect("write a file");
    let bundle = bundle.mount("/mnt", "bind", "data", &["bind"]).args(["cat", "/mnt/file"]);
    bundle.write();
    let id = bundle.id.clone();
    let mut run = bundle.command(["run", "--bundle", &bundle.dir().display().to_string(), &id]);
    run.current_dir("/");
    assert_eq!(bundle.finish(run).stdout, "content\n");
}

fn a_read_only_bind_mount_leaves_the_source_writable() {
    let bundle = with_bind(&["bind", "ro"]).sh("echo x >/mnt/file");
    let output = bundle.run();
    assert!(output.status != 0 && output.stderr.contains("Read-only file system"), "{output:?}");
    fs::write(bundle.home.join("source/file"), "x").expect("the source can be written");
}

fn bind_mount_flags_are_as_asked() {
    let report = with_bind(&["rbind", "nosuid", "nodev", "noexec", "ro"]).report(&[]);
    for option in ["nosuid", "nodev", "noexec", "ro"] {
        assert!(has(mount_on(&report, "/mnt"), option), "{option}: {}", mount_on(&report, "/mnt"));
    }
}

fn bind_is_not_recursive_rbind_is() {
    for (option, seen) in [("bind", "absent\n"), ("rbind", "seen\n")] {
        let bundle = with_bind(&[option]).sh("test -e /mnt/below/mark && echo seen || echo absent");
        let _below = HostMount::new(&bundle.home.join("source/below"));
        fs::write(bundle.home.join("source/below/mark"), "").expect("write a file");
        assert_eq!(bundle.stdout(), seen, "{option}");
    }
}

fn below_after(options: &[&str]) -> String {
    let bundle = with_bind(options).sh("touch /mnt/below/new 2>/dev/null && echo writable || echo not");
    let _below = HostMount::new(&bundle.home.join("source/below"));
    bundle.stdout()
}

fn rro_makes_the_mounts_below_read_only() {
    assert_eq!(below_after(&["rbind", "rro"]), "not\n");
}

fn ro_does_not_make_the_mounts_below_read_only() {
    assert_eq!(below_after(&["rbind", "ro"]), "writable\n");
}

fn tmpfs_has_size_mode_and_owner_as_asked() {
    let options = ["size=1m", "mode=1770", "uid=12", "gid=34"];
    let bundle = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &options).sh("stat -c '%a %u %g' /mnt; df -k /mnt | tail -n 1");
    let printed = bundle.stdout();
    assert!(printed.starts_with("1770 12 34\n") && printed.contains(" 1024 "), "{printed}");
}

fn tmpfs_takes_the_mode_of_the_directory_when_none_is_given() {
    let bundle = Bundle::new().mount("/data", "tmpfs", "tmpfs", &[]).args(["stat", "-c", "%a", "/data"]);
    fs::create_dir(bundle.rootfs().join("data")).expect("make a directory");
    fs::set_permissions(bundle.rootfs().join("data"), fs::Permissions::from_mode(0o751)).expect("set its mode");
    let mode = bundle.stdout();
    assert!(mode == "751\n" || mode == "1777\n", "{mode}");
}

fn tmpcopyup_fills_it_with_what_was_there() {
    let bundle = Bundle::new().file("/data/deep/file", 0o640, "kept\n").mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
    symlink("deep/file", bundle.rootfs().join("data/link")).expect("make a link");
    let bundle = bundle.sh("cat /data/link; stat -c %a /data/deep/file; stat -f -c %T /data; echo x >/data/deep/file");
    assert_eq!(bundle.stdout(), "kept\n640\ntmpfs\n");
    assert_eq!(fs::read_to_string(bundle.rootfs().join("data/deep/file")).expect("read the original"), "kept\n");
}

fn later_mounts_lie_on_earlier_ones() {
    let bundle = Bundle::new().mount("/a", "tmpfs", "first", &[]).mount("/a", "tmpfs", "second", &[]);
    let bundle = bundle.mount("/a/b", "tmpfs", "third", &[]);
    let report = bundle.report(&[]);
    assert_eq!(mount_on(&report, "/a")["source"], "second");
    assert_eq!(mount_on(&report, "/a/b")["source"], "third");
}

fn missing_mount_points_are_made() {
    let bundle = Bundle::new().mount("/x/y/z", "tmpfs", "tmpfs", &[]);
    assert_eq!(mount_on(&bundle.report(&[]), "/x/y/z")["type"], "tmpfs");
}

fn access_time_options_are_as_asked() {
    for option in ["noatime", "relatime", "nodiratime"] {
        let report = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &[option]).report(&[]);
        assert!(has(mount_on(&report, "/mnt"), option), "{option}: {}", mount_on(&report, "/mnt"));
    }
    let report = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &["strictatime"]).report(&[]);
    assert!(!has(mount_on(&report, "/mnt"), "relatime") && !has(mount_on(&report, "/mnt"), "noatime"));
}

fn propagation_of_a_mount_is_as_asked() {
    for (option, word) in [("rprivate", ""), ("rshared", "shared:"), ("rslave", "master:"), ("unbindable", "unbindable")] {
        let (bundle, _source) = with_shared_bind(&["rbind", option]);
        let report = bundle.report(&[]);
        let propagation = mount_on(&report, "/mnt")["propagation"].as_str().unwrap_or_default().to_owned();
        assert!(propagation.contains(word) && (propagation.is_empty() == word.is_empty()), "{option}: {propagation:?}");
    }
}

/// As Docker's `--tmpfs` needs it for users other than root.
fn tmpfs_on_a_mount_point_that_was_made_is_open_to_all() {
    let bundle = Bundle::new().mount("/new/place", "tmpfs", "tmpfs", &[]).args(["stat", "-c", "%a", "/new", "/new/place"]);
    assert_eq!(bundle.stdout(), "755\n1777\n");
}

fn the_root_is_a_slave_when_asked() {
    for value in ["slave", "rslave"] {
        let report = Bundle::new().set("/linux/rootfsPropagation", value).report(&[]);
        let found = mount_on(&report, "/")["propagation"].as_str().unwrap_or_default().to_owned();
        assert!(found.starts_with("master:"), "{value}: {found:?}");
    }
}

fn a_remount_changes_the_mount() {
    let options = ["remount", "bind", "nosuid", "rro"];
    let below = with_bind(&["rbind"]).mount("/mnt/below", "tmpfs", "tmpfs", &["noatime"]);
    let report = below.mount("/mnt", "", "", &options).report(&[]);
    let (top, below) = (mount_on(&report, "/mnt"), mount_on(&report, "/mnt/below"));
    assert!(has(top, "nosuid") && has(top, "ro"), "{top}");
    assert!(has(below, "ro") && has(below, "noatime") && !has(below, "nosuid"), "{below}");
}

fn a_remount_changes_the_file_system() {
    let bundle = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &["size=64k"]);
    let report = bundle.mount("/mnt", "tmpfs", "tmpfs", &["remount", "size=128k"]).report(&[]);
    assert!(has(mount_on(&report, "/mnt"), "size=128k"), "{}", mount_on(&report, "/mnt"));
    let bundle = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &[]);
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["remount", "nosuchoption=1"]).fails("nosuchoption");
}

fn propagation_alone_changes_the_mount_that_is_there() {
    let bundle = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &[]).mount("/mnt", "", "", &["shared"]);
    let report = bundle.report(&[]);
    let propagation = mount_on(&report, "/mnt")["propagation"].as_str().unwrap_or_default();
    assert!(propagation.starts_with("shared:"), "{propagation}");
}

fn rootfs_propagation_is_as_asked() {
    for (value, word) in [("private", ""), ("shared", "shared:"), ("unbindable", "unbindable")] {
        let report = Bundle::new().set("/linux/rootfsPropagation", value).report(&[]);
        let propagation = mount_on(&report, "/")["propagation"].as_str().unwrap_or_default().to_owned();
        assert!(propagation.contains(word), "{value}: {propagation:?}");
    }
}

fn a_mount_in_the_container_does_not_reach_the_host() {
    let bundle =
        with_bind(&["rbind"]).capabilities(&["CAP_SYS_ADMIN"]).sh("mount -t tmpfs tmpfs /mnt/below && echo mounted; sleep 1000");
    let before = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
    let container = bundle.detach();
    crate::bundle::eventually("mounted", || container.stdout().contains("mounted"));
    let mine = |text: &str| text.lines().filter(|line| line.contains(&bundle.id)).map(String::from).collect::<Vec<_>>();
    let after = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
    assert_eq!(mine(&before), mine(&after));
}

/// With masks, default devices and, in a user namespace, nodes of the host. The stage's root is shared, as systemd makes it.
fn with_clones_of_the_host() -> [Bundle; 2] {
    let masked = json!(["/proc/timer_list", "/proc/keys", "/proc/acpi"]);
    [Bundle::new(), with_user_namespace()].map(|bundle| bundle.set("/linux/maskedPaths", masked.clone()))
}

fn no_mount_is_a_peer_of_the_host_s() {
    for bundle in with_clones_of_the_host() {
        let report = bundle.report(&[]);
        let mounts = report["mounts"].as_array().expect("a list of mounts");
        let shared: Vec<_> = mounts.iter().filter(|m| m["propagation"].as_str().is_some_and(|p| p.contains("shared"))).collect();
        assert!(shared.is_empty(), "{shared:#?}");
    }
}

fn a_mount_over_a_masked_file_or_a_node_does_not_reach_the_host() {
    for bundle in with_clones_of_the_host() {
        let before = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
        let bundle = bundle.capabilities(&["CAP_SYS_ADMIN"]).sh(
            "echo x > /tmp/f; mount --bind /tmp/f /proc/timer_list; mount --bind /tmp/f /proc/keys; mount --bind /tmp/f /dev/null;
             mount --bind /tmp/f /dev/zero; echo mounted; sleep 1000",
        );
        let bundle = bundle.mount("/tmp", "tmpfs", "tmpfs", &["mode=1777"]);
        let container = bundle.detach();
        crate::bundle::eventually("mounted", || container.stdout().contains("mounted"));
        let dev = |text: &str| text.lines().filter(|line| line.contains(" /dev/")).map(String::from).collect::<Vec<_>>();
        assert_eq!(dev(&before), dev(&fs::read_to_string("/proc/self/mountinfo").expect("read the mounts")));
    }
}

fn a_mount_of_the_host_below_the_root_stays_outside() {
    let bundle = Bundle::new().sh("echo ready; while test -d /tmp; do sleep 0.01; done");
    let below = bundle.rootfs().join("below");
    fs::create_dir_all(&below).expect("make a directory");
    let container = bundle.detach();
    crate::bundle::eventually("ready", || container.stdout().contains("ready"));
    let _mount = HostMount::new(&below);
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", container.pid)).expect("read the container's mounts");
    assert!(!mounts.contains(" /below "), "{mounts}");
}

fn a_mount_on_the_host_reaches_a_slave() {
    let (bundle, _source) = with_shared_bind(&["rbind", "rslave"]);
    let bundle = bundle
        .set("/linux/rootfsPropagation", "rslave")
        .sh("echo ready; while ! test -e /mnt/below/mark; do sleep 0.01; done; echo seen");
    let container = bundle.detach();
    crate::bundle::eventually("ready", || container.stdout().contains("ready"));
    let _below = HostMount::new(&bundle.home.join("source/below"));
    fs::write(bundle.home.join("source/below/mark"), "").expect("write a file");
    crate::bundle::eventually("seen", || container.stdout().contains("seen"));
}

fn masked_files_are_empty_and_masked_directories_too() {
    let bundle = Bundle::new()
        .file("/secret/file", 0o644, "secret")
        .file("/key", 0o644, "secret")
        .set("/linux/maskedPaths", json!(["/secret", "/key"]))
        .sh("ls -A /secret; cat /key; touch /secret/new 2>/dev/null || echo read-only");
    assert_eq!(bundle.stdout(), "read-only\n");
}

fn a_masked_path_that_is_absent_is_no_error() {
    let bundle = Bundle::new().set("/linux/maskedPaths", json!(["/absent"]));
    bundle.set("/linux/readonlyPaths", json!(["/absent"])).stdout();
}

fn read_only_paths_cannot_be_written() {
    let bundle = Bundle::new().file("/data/file", 0o644, "x").set("/linux/readonlyPaths", json!(["/data", "/proc/sys"]));
    let bundle = bundle.inside(&["open", "w", "/data/file", "/proc/sys/kernel/hostname"]);
    assert_eq!(bundle.stdout(), "/data/file EROFS\n/proc/sys/kernel/hostname EROFS\n");
}

fn a_read_only_path_keeps_the_flags_it_had() {
    let bundle = with_bind(&["rbind", "nosuid", "nodev", "noexec"]).set("/linux/readonlyPaths", json!(["/mnt"]));
    let report = bundle.report(&[]);
    for option in ["nosuid", "nodev", "noexec", "ro"] {
        assert!(has(mount_on(&report, "/mnt"), option), "{option}: {}", mount_on(&report, "/mnt"));
    }
}

fn symbolic_links_in_a_destination_stay_inside() {
    let bundle = Bundle::new().mount("/link/new", "tmpfs", "tmpfs", &[]);
    let outside = bundle.home.join("outside");
    symlink(&outside, bundle.rootfs().join("link")).expect("make a link");
    let before = Snapshot::of(&bundle);
    let output = bundle.run();
    assert!(!outside.exists(), "{output:?}");
    before.assert_unchanged();
}

fn a_destination_with_dots_stays_inside() {
    let bundle = Bundle::new().mount("/../../../../../../dots", "tmpfs", "tmpfs", &[]);
    bundle.run();
    assert!(!bundle.home.join("dots").exists() && !std::path::Path::new("/dots").exists());
}

fn a_symbolic_link_as_proc_is_refused() {
    let bundle = Bundle::new();
    fs::remove_dir(bundle.rootfs().join("proc")).expect("remove /proc");
    symlink("tmp", bundle.rootfs().join("proc")).expect("make a link");
    bundle.fails("proc");
}

fn a_proc_mount_elsewhere_is_possible() {
    let bundle = Bundle::new().mount("/other", "proc", "proc", &["nosuid", "ro"]);
    let report = bundle.report(&[]);
    assert!(has(mount_on(&report, "/other"), "ro") && mount_on(&report, "/other")["type"] == "proc");
}

fn a_missing_source_is_named() {
    Bundle::new().mount("/mnt", "bind", "/no/such/source", &["bind"]).fails("/no/such/source");
}

fn an_unknown_type_is_an_error() {
    Bundle::new().mount("/mnt", "nosuchfs", "x", &[]).fails("mnt");
}

fn a_bad_data_option_is_an_error() {
    Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &["nosuchoption=1"]).fails("mnt");
}

fn a_failed_mount_leaves_nothing() {
    let bundle = Bundle::new().mount("/mnt", "nosuchfs", "x", &[]);
    let before = Snapshot::of(&bundle);
    bundle.write();
    assert!(bundle.call(["create", &bundle.id]).status != 0);
    before.assert_unchanged();
}

fn default_devices_and_links_are_there() {
    let script = "cd /dev; for n in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' $n; done; \
                  for n in fd stdin stdout stderr ptmx; do echo $n $(readlink $n); done";
    let expected = "null character special file 1:3 666\nzero character special file 1:5 666\n\
                    full character special file 1:7 666\nrandom character special file 1:8 666\n\
                    urandom character special file 1:9 666\ntty character special file 5:0 666\n\
                    fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\nptmx pts/ptmx\n";
    assert_eq!(Bundle::new().sh(script).stdout(), expected);
}

fn the_cgroup_mount_shows_cgroup2() {
    let bundle = Bundle::new().namespace("cgroup").sh("cat /proc/self/cgroup | grep ^0; cat /sys/fs/cgroup/cgroup.procs");
    assert!(bundle.stdout().starts_with("0::/\n1\n"), "{}", bundle.stdout());
}

fn mqueue_works() {
    assert_eq!(Bundle::new().sh("touch /dev/mqueue/queue && ls /dev/mqueue").stdout(), "queue\n");
}

fn overlay_works() {
    let bundle = Bundle::new();
    let path = |name: &str| bundle.home.join(name).display().to_string();
    for name in ["lower", "upper", "work"] {
        fs::create_dir(path(name)).expect("make a layer");
    }
    fs::write(bundle.home.join("lower/file"), "below\n").expect("write a file");
    let options =
        [format!("lowerdir={}", path("lower")), format!("upperdir={}", path("upper")), format!("workdir={}", path("work"))];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let bundle = bundle.mount("/mnt", "overlay", "overlay", &options).sh("cat /mnt/file; echo new >/mnt/new");
    assert_eq!(bundle.stdout(), "below\n");
    assert!(bundle.home.join("upper/new").exists());
}

fn spaces_in_paths_work() {
    let bundle = Bundle::new();
    let source = bundle.home.join("a b");
    fs::create_dir(&source).expect("make a directory");
    fs::write(source.join("f"), "ok\n").expect("write a file");
    assert_eq!(bundle.mount("/c d", "bind", &source.display().to_string(), &["bind"]).args(["cat", "/c d/f"]).stdout(), "ok\n");
}
