//! Bind mounts whose source is a path inside the root: it shows what the entries before have mounted there. And destinations
//! that are written as paths of the host.

use crate::bundle::Bundle;
use crate::case;
use crate::case::Case;
use crate::namespaces::with_user_namespace;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_tree_of_earlier_mounts_is_a_source),
        case!(a_tree_of_earlier_mounts_is_a_source_in_a_user_namespace)
            .except("crun", "1.8 cannot make user namespaces here")
            .except("runc", "1.1 opens them before"),
        case!(a_tree_of_earlier_mounts_can_be_mapped)
            .since(6, 3, "an idmapped tmpfs")
            .ours("others of Debian's know no such mapping"),
        case!(a_file_of_an_earlier_mount_is_a_source),
        case!(only_the_top_mount_is_taken_without_rbind),
        case!(a_later_mount_is_not_seen),
        case!(links_on_the_way_stay_inside).ours("others follow them on the host"),
        case!(a_source_that_is_not_inside_is_named),
        case!(what_no_entry_covers_is_the_host_s),
        case!(a_destination_may_be_a_path_of_the_host).except("crun", "takes it from the container's /"),
        case!(proc_is_found_in_a_path_of_the_host).ours("others have other words, or none"),
    ]
}

fn bind(mut bundle: Bundle, source: &str, target: &str, options: &[&str]) -> Bundle {
    let source = source.replace("ROOT", &bundle.rootfs().display().to_string());
    bundle = bundle.mount(target, "bind", &source, options);
    bundle
}

/// `a` on /mnt, `b` on /mnt/x, `c` on /mnt/x/y, each with a file; then parts of that tree in it, and all of it on /final.
fn tree(bundle: Bundle, options: &[&str]) -> Bundle {
    for below in ["a/x", "b/y", "c/z"] {
        let dir = bundle.home.join("sources").join(below);
        fs::create_dir_all(&dir).expect("make a source");
        fs::write(dir.join("file"), below).expect("write a file");
    }
    let sources = bundle.home.join("sources");
    symlink("b", sources.join("to-b")).expect("make a link");
    // The container's root may not look into it: the sources of the host are opened from outside.
    fs::set_permissions(&sources, PermissionsExt::from_mode(0o000)).expect("set a mode");
    let host = sources.display().to_string();
    let bundle = bind(bundle, &format!("{host}/a"), "/mnt", &["bind"]);
    let bundle = bind(bundle, &format!("{host}/to-b"), "/mnt/x", &["bind"]);
    let bundle = bind(bundle, &format!("{host}/c"), "/mnt/x/y", &["bind"]);
    let again: Vec<&str> = ["rbind"].iter().chain(options).copied().collect();
    let bundle = bind(bundle, "ROOT/mnt/x", "/mnt/x/y/z", &again);
    bind(bundle, "ROOT/mnt", "/final", &again).sh("cd /final; find . | sort; cat x/y/z/y/z/file; stat -c %u x/y/z/y/z/file")
}

/// `a` has x, that is `b`, which has y, that is `c`, which has z: there `b` lies once more, with the `c` in it.
const SEEN: &str = ".\n./x\n./x/y\n./x/y/z\n./x/y/z/y\n./x/y/z/y/z\n./x/y/z/y/z/file\nc/z";

fn a_tree_of_earlier_mounts_is_a_source() {
    assert_eq!(tree(Bundle::new(), &[]).stdout(), format!("{SEEN}0\n"));
}

fn a_tree_of_earlier_mounts_is_a_source_in_a_user_namespace() {
    assert_eq!(tree(with_user_namespace(), &[]).stdout(), format!("{SEEN}65534\n"));
}

fn a_tree_of_earlier_mounts_can_be_mapped() {
    let mut bundle = tree(Bundle::new(), &[]);
    let entry = bundle.config["mounts"].as_array_mut().and_then(|all| all.last_mut()).expect("a mount");
    let map = json!([{"containerID": 0, "hostID": 4000, "size": 1000}]);
    (entry["uidMappings"], entry["gidMappings"]) = (map.clone(), map);
    entry["options"] = json!(["rbind", "ridmap"]);
    assert_eq!(bundle.stdout(), format!("{SEEN}4000\n"));
}

fn a_file_of_an_earlier_mount_is_a_source() {
    let bundle = Bundle::new();
    let source = bundle.home.join("source");
    fs::create_dir(&source).expect("make the source");
    fs::write(source.join("file"), "of the mount\n").expect("write a file");
    fs::create_dir_all(bundle.rootfs().join("mnt")).expect("make a mount point");
    fs::write(bundle.rootfs().join("mnt/file"), "of the root\n").expect("write a file");
    let bundle = bind(bundle, &source.display().to_string(), "/mnt", &["bind"]);
    let bundle = bind(bundle, "rootfs/mnt/file", "/etc/copy", &["bind", "ro"]);
    assert_eq!(bundle.sh("cat /etc/copy; (echo >/etc/copy) 2>/dev/null || echo read-only").stdout(), "of the mount\nread-only\n");
}

fn only_the_top_mount_is_taken_without_rbind() {
    let mut bundle = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &[]).mount("/mnt/below", "tmpfs", "tmpfs", &[]);
    bundle = bind(bundle, "ROOT/mnt", "/one", &["bind"]);
    bundle = bind(bundle, "ROOT/mnt", "/all", &["rbind"]);
    let script = "touch /mnt/a /mnt/below/b; echo $(find /one) $(find /all)";
    assert_eq!(bundle.sh(script).stdout(), "/one /one/a /one/below /all /all/a /all/below /all/below/b\n");
}

fn a_later_mount_is_not_seen() {
    let bundle = Bundle::new();
    fs::create_dir_all(bundle.rootfs().join("mnt/below")).expect("make a directory");
    let bundle = bind(bundle, "ROOT/mnt", "/copy", &["rbind"]).mount("/mnt/below", "tmpfs", "tmpfs", &[]);
    assert_eq!(bundle.sh("touch /mnt/below/new; ls /copy/below").stdout(), "");
}

fn links_on_the_way_stay_inside() {
    let bundle = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &[]);
    let secret = bundle.home.join("secret");
    fs::create_dir(&secret).expect("make a directory");
    fs::write(secret.join("file"), "of the host").expect("write a file");
    // The image's, as it would be unpacked: it leads to the host's directory by the host's root.
    let source = bundle.home.join("source");
    fs::create_dir(&source).expect("make a directory");
    symlink(&secret, source.join("link")).expect("make a link");
    let bundle = bind(bundle, &source.display().to_string(), "/mnt/at", &["bind"]);
    let bundle = bind(bundle, "ROOT/mnt/at/link", "/copy", &["rbind"]);
    let output = bundle.run();
    assert!(output.status != 0, "{output:?}");
    assert!(output.error().contains("mount") && output.error().contains("no such file or directory"), "{output:?}");
}

fn a_source_that_is_not_inside_is_named() {
    let bundle = bind(Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &[]), "ROOT/mnt/absent", "/copy", &["bind"]);
    let output = bundle.run();
    assert!(output.status != 0 && output.error().to_lowercase().contains("no such file or directory"), "{output:?}");
    assert!(output.error().contains("/copy") || output.error().contains("mnt/absent"), "{output:?}");
}

fn what_no_entry_covers_is_the_host_s() {
    let bundle = Bundle::new();
    fs::create_dir(bundle.rootfs().join("shown")).expect("make a directory");
    fs::write(bundle.rootfs().join("shown/file"), "of the root\n").expect("write a file");
    let bundle = bind(bundle, "ROOT/shown", "/copy", &["bind", "ro"]);
    assert_eq!(bundle.sh("cat /copy/file").stdout(), "of the root\n");
}

fn a_destination_may_be_a_path_of_the_host() {
    let bundle = Bundle::new();
    // runc 1.1 makes none in this case.
    for below in ["mnt", "etc/x"] {
        fs::create_dir_all(bundle.rootfs().join(below)).expect("make a mount point");
    }
    let (root, home) = (bundle.rootfs().display().to_string(), bundle.home.display().to_string());
    let bundle = bundle.mount(&format!("{root}/mnt"), "tmpfs", "tmpfs", &[]).mount(
        &format!("{root}/../rootfs/etc/x"),
        "tmpfs",
        "tmpfs",
        &[],
    );
    // Beside the root's it is the container's own path.
    let bundle = bundle.mount(&format!("{home}/other"), "tmpfs", "tmpfs", &[]);
    let script = format!("cut -d' ' -f2 /proc/mounts | grep -e '^/mnt$' -e '^/etc/x$' -e '^{home}'");
    assert_eq!(bundle.sh(&script).stdout(), format!("/mnt\n/etc/x\n{home}/other\n"));
}

/// A path that is only taken for one inside later would pass by what is forbidden there.
fn proc_is_found_in_a_path_of_the_host() {
    let bundle = Bundle::new();
    let target = bundle.rootfs().join("proc/sys/kernel").display().to_string();
    bundle.mount(&target, "tmpfs", "tmpfs", &[]).fails("/mounts/7/destination: /proc/sys/kernel cannot be mounted");
}
