//! What is parsed: of any length, and never something else than it is.

use crate::bundle::Bundle;
use crate::canary::Canary;
use crate::case;
use crate::case::{Case, name_of_runtime};
use crate::exec::sleeper;
use crate::hostdelta::Snapshot;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

const ALL: &str = "reads it to its end";

pub fn cases() -> Vec<Case> {
    vec![
        case!(sec_09_cve_2021_43784_values_of_any_length).ours("others cut or hang"),
        case!(sec_09_cve_2021_43784_thousands_of_mounts),
        case!(sec_19_runc_4103_names_of_files_in_limits).ours("others write what the kernel has"),
        case!(sec_20_ids_that_are_no_names)
            .except("crun", "takes most of them")
            .except("runc", "takes what the file system takes"),
        Case::new(module_path!(), "sec_31_cve_2026_47262_a_strange_passwd", crate::program::home_of_a_strange_passwd_is_the_root)
            .except("crun", ALL)
            .except("runc", ALL),
        case!(sec_31_cve_2026_47262_exec_with_a_strange_passwd).except("crun", ALL).except("runc", ALL),
    ]
}

/// Refused, or exactly what was asked for: nothing is cut off, and nothing comes to be another field.
fn sec_09_cve_2021_43784_values_of_any_length() {
    let path = format!("/proc/self/ns/{}net", "./".repeat(35_000));
    Bundle::new().set("/linux/namespaces/2", json!({"type": "ipc", "path": path})).fails("/linux/namespaces/2");
    let mebibyte = "x".repeat(1 << 20);
    Bundle::new().set("/hostname", mebibyte.as_str()).fails("/hostname");
    Bundle::new().set("/domainname", mebibyte.as_str()).fails("/domainname");
    Bundle::new().set("/process/cwd", format!("/{mebibyte}")).fails("/process/cwd");
    Bundle::new().set("/root/path", mebibyte.as_str()).fails("/root/path");
    Bundle::new().set("/process/env/-", format!("A={mebibyte}")).fails("rgument list too long");
    for (field, length) in [("selinuxLabel", 65_537), ("apparmorProfile", 65_537)] {
        Bundle::new().set(&format!("/process/{field}"), "x".repeat(length)).fails(field);
    }
    for mounts in
        [json!({"destination": format!("/{mebibyte}"), "type": "tmpfs"}), json!({"destination": "/a", "type": mebibyte})]
    {
        Bundle::new().set("/mounts/-", mounts).fails("/mounts/7");
    }
    // All that execve(2) takes arrives.
    let many: Vec<String> = (0..15).map(|n| format!("V{n}={}", n.to_string().repeat(60_000))).collect();
    let mut bundle = Bundle::new();
    for entry in &many {
        bundle = bundle.set("/process/env/-", entry.as_str());
    }
    let report = bundle.report(&["x".repeat(65_536).as_str()]);
    for entry in &many {
        let (name, value) = entry.split_once('=').expect("a value");
        assert_eq!(report["env"][name], value, "{name}");
    }
    let long = "annotation".repeat(100_000);
    let bundle = sleeper().set("/annotations", json!({"long": long}));
    assert_eq!(bundle.create().state()["annotations"]["long"], json!(long));
    for kinds in [70_000, 1 << 20] {
        let kind = "n".repeat(kinds);
        Bundle::new().set("/linux/namespaces/-", json!({"type": kind})).fails("/linux/namespaces");
    }
}

/// security.md asks for 5,000; the kernel takes time for each, so that is for `ADVISORIES=all`.
fn sec_09_cve_2021_43784_thousands_of_mounts() {
    let count = if std::env::var_os("ADVISORIES").is_some() { 5000 } else { 1000 };
    let mut bundle = Bundle::new();
    let mounts: Vec<Value> = bundle.config["mounts"].as_array().expect("mounts").clone();
    let more = (0..count)
        .map(|n| json!({"destination": format!("/m/{n}"), "type": "tmpfs", "source": "tmpfs", "options": ["ro", "nr_inodes=2"]}));
    bundle = bundle.set("/mounts", mounts.into_iter().chain(more).collect::<Vec<_>>());
    let report = bundle.report(&[]);
    let made = report["mounts"].as_array().expect("mounts");
    let made: Vec<_> =
        made.iter().filter(|mount| mount["target"].as_str().is_some_and(|target| target.starts_with("/m/"))).collect();
    assert_eq!(made.len(), count);
    assert!(made.iter().all(|mount| mount["options"].as_str().is_some_and(|options| options.starts_with("ro"))));
    for kind in ["pid", "net", "mnt", "ipc", "uts"] {
        let own = fs::metadata(format!("/proc/self/ns/{kind}")).map(|meta| std::os::unix::fs::MetadataExt::ino(&meta));
        assert_ne!(report["namespaces"][kind], own.expect("look at a namespace"), "{kind}");
    }
}

/// Refused for what the name is: the kernel, which may have no such file, is not asked.
fn sec_19_runc_4103_names_of_files_in_limits() {
    let refuses = |bundle: Bundle, field: &str, words: &str| {
        let output = bundle.fails(field);
        assert!(output.error().contains(words), "{words:?} not in {output:?}");
    };
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    for size in [
        "2MB/../../x",
        "../2MB",
        "..",
        "",
        "2MB\n",
        "2MB\u{0}",
        "2MB.max/../cgroup.procs",
        "2 MB",
        "1MB1",
        "0MB",
        "-1MB",
        "2mB",
        "/",
        "１MB",
    ] {
        let bundle = Bundle::new().set("/linux/resources/hugepageLimits", json!([{"pageSize": size, "limit": 0}]));
        refuses(bundle, "/linux/resources/hugepageLimits/0", "invalid page size");
    }
    for name in ["../cgroup.procs", "a/b", "/", "..", ".", "memory.max/..", "x\u{0}", "../../../../proc/sys/kernel/core_pattern"]
    {
        let bundle = Bundle::new().set(&format!("/linux/resources/unified/{}", escaped(name)), "1");
        refuses(bundle, "/linux/resources/unified/", "must be a file name (no slashes)");
        let bundle = Bundle::new().set(&format!("/linux/resources/rdma/{}", escaped(name)), json!({"hcaHandles": 1}));
        refuses(bundle, "/linux/resources/rdma/", "invalid device name");
    }
    for list in ["0\n", "0;1", "0\u{0}", "../0", "0 1 x"] {
        refuses(Bundle::new().set("/linux/resources/cpu/cpus", list), "/linux/resources/cpu/cpus", "invalid list");
    }
    for path in ["/dev/../../x/\u{0}", "relative", ""] {
        Bundle::new()
            .set("/linux/devices", json!([{"path": path, "type": "c", "major": 1, "minor": 3}]))
            .fails("/linux/devices/0");
    }
    let bundle = Bundle::new().set("/linux/netDevices/..", json!({}));
    bundle.fails("/linux/netDevices/");
}

fn sec_20_ids_that_are_no_names() {
    let bundle = sleeper();
    let canary = Canary::new(&bundle);
    bundle.write();
    fs::create_dir(bundle.root()).expect("make the state root");
    // What a wrong id could lead to.
    fs::write(bundle.home.join("state.json"), "{}").expect("write a file");
    let before = Snapshot::of(&bundle);
    let long = "x".repeat(300);
    let ids = [
        "",
        ".",
        "..",
        "../canary",
        "a/b",
        "/a",
        "a/",
        "a\n",
        "a b",
        "ä",
        "a\u{7f}",
        "a:b",
        "*",
        "$(id)",
        "a;b",
        "\u{202e}a",
        long.as_str(),
    ];
    for id in ids {
        for command in ["create", "run", "start", "state", "kill", "delete"] {
            let flags: &[&str] = if command == "delete" { &["--force"] } else { &[] };
            let output = bundle.call([command].iter().chain(flags).chain(&[id]));
            let quiet = command == "delete" && output.status == 0;
            assert!(quiet || output.status != 0 && output.stderr.lines().count() >= 1, "{command} {id:?}: {output:?}");
            assert!(!["create", "run"].contains(&command) || output.stderr.contains("container"), "{command} {id:?}: {output:?}");
        }
    }
    for id in ["-x", "--force", "-"] {
        assert!(bundle.call(["create", id]).status != 0, "{id}");
        assert!(!bundle.root().join(id).exists());
    }
    canary.assert_unchanged("strange ids");
    before.assert_unchanged();
    assert_eq!(fs::read_dir(bundle.root()).expect("list the state root").count(), 0);
    assert!(
        name_of_runtime() != "onggi" || bundle.call(["create", &"x".repeat(256)]).stderr.contains("invalid container ID format")
    );
}

/// Users and groups of an image are read for HOME alone, and at most a mebibyte of them.
fn sec_31_cve_2026_47262_exec_with_a_strange_passwd() {
    let bundle = sleeper();
    let container = bundle.detach();
    for name in ["etc/passwd", "etc/group"] {
        for kind in ["fifo", "sparse", "device"] {
            let path = bundle.rootfs().join(name);
            let _ = fs::remove_file(&path);
            match kind {
                "fifo" => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("make a FIFO"),
                "sparse" => fs::File::create(&path).and_then(|file| file.set_len(10 << 30)).expect("make a file"),
                _ => std::os::unix::fs::symlink("/dev/zero", &path).expect("make a link"),
            }
            let start = Instant::now();
            let printed = crate::exec::ok(&container, &["--user", "1000:1000"], &["sh", "-c", "echo $HOME"]);
            assert!(name == "etc/group" || printed == "/\n", "{name} {kind}: {printed}");
            assert!(start.elapsed() < Duration::from_secs(5), "{name} {kind}: {:?}", start.elapsed());
        }
        let path = bundle.rootfs().join(name);
        fs::remove_file(&path).expect("remove it");
        fs::write(path, "root:x:0:0:root:/root:/bin/sh\n").expect("write it");
    }
}
