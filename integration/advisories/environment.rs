//! What surrounds the runtime: directories of its state and of others, programs that it runs, files and annotations that look
//! like configuration.

use crate::bad_input::create_in;
use crate::bundle::{Bundle, Output};
use crate::canary::Canary;
use crate::case;
use crate::case::{Case, runtime};
use crate::checkpoint::{able, mounts::exchanged_mount_points_open_nothing};
use crate::exec::sleeper;
use crate::rootless::{USER, as_user, of_user};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

pub fn cases() -> Vec<Case> {
    let of = |name, run| Case::new(module_path!(), name, run);
    vec![
        case!(sec_16_cve_2026_84042_helpers_are_run_by_their_place).ours("others look for them in PATH"),
        able(of("sec_17_cve_2026_119101_exchanged_mount_points", exchanged_mount_points_open_nothing))
            .except("runc", "CVE-2026-119101"),
        case!(sec_22_cve_2021_41103_a_state_root_that_others_may_write_to).ours("others take it"),
        case!(sec_22_cve_2021_41103_what_is_kept_is_for_its_owner).ours("others name their files otherwise"),
        case!(sec_22_cve_2019_12439_nothing_is_made_in_a_public_directory),
        case!(sec_28_cve_2024_3154_annotations_change_nothing).ours("by our plan"),
        case!(sec_28_cve_2024_3154_annotations_that_do_are_listed).except("runc", "since 1.2").except("crun", "since 1.9"),
        of("sec_30_cve_2025_23266_hooks_have_the_environment_they_name", crate::hooks::their_environment_is_the_one_they_name),
        of("sec_30_cve_2025_23266_hooks_without_one", crate::hooks::without_an_environment_theirs_is_empty_or_the_program_s)
            .ours("others hand on the caller's"),
        of("sec_30_cve_2025_23266_hooks_start_in_the_bundle", crate::hooks::they_start_in_the_bundle)
            .except("runc", "createContainer: in the rootfs"),
        case!(sec_33_cve_2026_40226_nothing_in_the_root_is_configuration),
    ]
}

/// In a directory of the caller's PATH, and in the root file system, lie programs of the names that a runtime may want.
fn sec_16_cve_2026_84042_helpers_are_run_by_their_place() {
    let bundle = of_user().args(["true"]);
    let two = json!([{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 200_000, "size": 100}]);
    let bundle = bundle.set("/linux/uidMappings", two.clone()).set("/linux/gidMappings", two);
    let evil = bundle.dir().join("evil");
    let marker = bundle.home.join("marker");
    fs::create_dir(&evil).expect("make a directory");
    let names = ["newuidmap", "newgidmap", "criu", "mount", "iptables", "passt", "systemd-run", "modprobe"];
    for directory in [evil.clone(), bundle.rootfs().join("usr/bin"), bundle.rootfs().join("usr/sbin")] {
        fs::create_dir_all(&directory).expect("make a directory");
        for name in names {
            fs::write(directory.join(name), format!("#!/bin/sh\necho $0 >>{}\n", marker.display())).expect("write a script");
            fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o755)).expect("set its mode");
        }
    }
    bundle.write();
    chown(&bundle.home, Some(USER), Some(USER)).expect("let the user write there");
    let mut run = as_user(&bundle.command(["run", &bundle.id]));
    run.env("PATH", format!("{}:/usr/bin:/bin", evil.display()));
    // Whether it may map what it asks for is not the question.
    let output = bundle.finish(run);
    assert!(!marker.exists(), "{:?}: {output:?}", fs::read_to_string(&marker));
    let bundle = sleeper();
    bundle.write();
    let id = bundle.id.as_str();
    for words in [&["create", id][..], &["start", id], &["exec", id, "true"], &["delete", "--force", id]] {
        let mut command = bundle.command(words);
        command.env("PATH", &evil);
        assert_eq!(bundle.finish(command).status, 0, "{words:?}");
    }
    assert!(!marker.exists());
}

fn sec_22_cve_2021_41103_a_state_root_that_others_may_write_to() {
    let bundle = Bundle::new();
    let root = bundle.home.join("open");
    fs::create_dir(&root).expect("make a directory");
    for (mode, owner, words) in [
        (0o777, 0, "others may write to it"),
        (0o770, 0, "others may write to it"),
        // Others could make what is not there yet.
        (0o1777, 0, "others may write to it"),
        (0o700, 1000, "belongs to another user"),
    ] {
        fs::set_permissions(&root, fs::Permissions::from_mode(mode)).expect("set its mode");
        chown(&root, Some(owner), None).expect("set its owner");
        let output = create_in(&bundle, &root);
        assert!(output.stderr.contains(words), "{mode:o} {owner}: {output:?}");
        for words_of_command in
            [&["state", "x"][..], &["kill", "x"], &["delete", "--force", "x"], &["list"], &["exec", "x", "true"]]
        {
            let mut command = Command::new(runtime());
            command.arg("--root").arg(&root).args(words_of_command).stdin(Stdio::null());
            let output = bundle.finish(command);
            assert!(output.status != 0 && output.stderr.contains(words), "{words_of_command:?} {mode:o} {owner}: {output:?}");
        }
    }
    // A link in the place of a container's directory.
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).expect("set its mode");
    chown(&root, Some(0), None).expect("set its owner");
    let elsewhere = sleeper();
    let container = elsewhere.detach();
    symlink(elsewhere.root().join(&elsewhere.id), root.join("x")).expect("make a link");
    let mut command = Command::new(runtime());
    command.arg("--root").arg(&root).args(["delete", "--force", "x"]).stdin(Stdio::null());
    bundle.finish(command);
    assert_eq!(container.status(), "running");
}

fn sec_22_cve_2021_41103_what_is_kept_is_for_its_owner() {
    let bundle = sleeper();
    let _container = bundle.create();
    let others = |path: &Path| fs::symlink_metadata(path).expect("look at it").permissions().mode() & 0o77;
    assert_eq!((others(&bundle.root()), others(&bundle.root().join(&bundle.id))), (0, 0));
    for entry in fs::read_dir(bundle.root().join(&bundle.id)).expect("list the state").flatten() {
        let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        assert!(link || others(&entry.path()) & 0o22 == 0, "{}", entry.path().display());
    }
}

fn sec_22_cve_2019_12439_nothing_is_made_in_a_public_directory() {
    let bundle = sleeper();
    let names = |place: &str| {
        let mut names: Vec<_> = fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        names.sort();
        names
    };
    bundle.write();
    let id = bundle.id.as_str();
    let log = bundle.home.join("trace");
    for words in [&["create", id][..], &["start", id], &["exec", id, "true"], &["delete", "--force", id]] {
        let command = bundle.command(words);
        let mut traced = Command::new("strace");
        traced.args(["-D", "-e", "trace=file", "-o"]).arg(&log).args(crate::faults::words(&command)).current_dir(bundle.dir());
        traced.stdin(Stdio::null());
        assert_eq!(bundle.finish(traced).status, 0, "{words:?}");
        let trace = fs::read_to_string(&log).expect("read the trace");
        for line in
            trace.lines().filter(|line| line.contains("\"/tmp") || line.contains("\"/var/tmp") || line.contains("\"/dev/shm"))
        {
            assert!(!["O_CREAT", "mkdir", "mknod", "symlink", "rename"].iter().any(|call| line.contains(call)), "{line}");
        }
    }
    let before = [names("/tmp"), names("/var/tmp")];
    Bundle::new().stdout();
    let mine = |list: &[Vec<std::path::PathBuf>; 2]| {
        list.iter().flatten().filter(|path| path.display().to_string().contains("onggi")).count()
    };
    assert_eq!(mine(&[names("/tmp"), names("/var/tmp")]), mine(&before));
}

const HARMFUL: [(&str, &str); 8] = [
    ("org.systemd.property.ExecStartPre", "'/bin/sh -c id'"),
    ("org.systemd.property.Slice", "'other.slice'"),
    ("run.oci.mount_context_type", "context"),
    ("io.kubernetes.cri-o.Devices", "/dev/sda"),
    ("io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel", "true"),
    ("org.criu.config", "/etc/shadow"),
    ("runtime.hooks", "/bin/sh"),
    ("onggi.privileged", "1"),
];

/// With the driver that writes files none of them means anything.
fn sec_28_cve_2024_3154_annotations_change_nothing() {
    let plan = |bundle: &Bundle| {
        bundle.write();
        let output = bundle.call(["plan"]);
        assert_eq!(output.status, 0, "{output:?}");
        output.stdout
    };
    let plain = Bundle::new();
    let mut bundle = Bundle::new();
    for (name, value) in HARMFUL {
        bundle = bundle.set(&format!("/annotations/{name}"), value);
    }
    let same = |text: String, bundle: &Bundle| text.replace(&bundle.id, "ID");
    assert_eq!(same(plan(&bundle), &bundle), same(plan(&plain), &plain));
}

/// What an engine keeps users from setting (features.md, "Unsafe annotations in config.json").
fn sec_28_cve_2024_3154_annotations_that_do_are_listed() {
    let bundle = Bundle::new();
    let features: Value = serde_json::from_str(&bundle.call(["features"]).stdout).expect("parse the features");
    let list = features["potentiallyUnsafeConfigAnnotations"].as_array().cloned().unwrap_or_default();
    for name in ["org.systemd.property.", "org.criu.config", "run.oci."] {
        assert!(list.iter().any(|entry| entry.as_str().is_some_and(|entry| entry.starts_with(name))), "{name}: {list:?}");
    }
}

fn of_plan(bundle: &Bundle, directory: &Path) -> Output {
    let mut plan = bundle.command(["plan"]);
    plan.current_dir(directory).arg("--bundle").arg(bundle.dir());
    bundle.finish(plan)
}

/// Files in the root file system, in the working directory and under the names of the host's configuration.
fn sec_33_cve_2026_40226_nothing_in_the_root_is_configuration() {
    let bundle = Bundle::new().args(["cat", "/proc/self/status"]);
    let canary = Canary::new(&bundle);
    bundle.write();
    let before = of_plan(&bundle, &bundle.dir());
    let own = bundle.stdout();
    let hostile =
        json!({"ociVersion": "1.0.2", "root": {"path": "/"}, "process": {"args": ["true"], "cwd": "/", "user": {"uid": 0}}});
    for name in [
        "config.json",
        "runtime.json",
        "onggi.json",
        ".onggi",
        "etc/onggi/config.json",
        "etc/onggi.conf",
        "etc/crun/config.json",
        "run/onggi/config.json",
        "etc/criu/default.conf",
        "etc/containers/oci/hooks.d/x.json",
        "usr/share/containers/oci/hooks.d/x.json",
    ] {
        let path = bundle.rootfs().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
        fs::write(path, hostile.to_string()).expect("write a file");
    }
    for directory in [bundle.dir(), bundle.rootfs(), bundle.rootfs().join("etc")] {
        let plan = of_plan(&bundle, &directory);
        assert_eq!((plan.status, &plan.stdout), (0, &before.stdout), "{}", directory.display());
    }
    let confined = |text: &str| {
        text.lines().filter(|line| line.starts_with("Cap") || line.starts_with("NoNew")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(confined(&bundle.stdout()), confined(&own));
    canary.assert_unchanged("hostile files");
}
