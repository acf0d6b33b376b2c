//! Settings of the kernel: those that are asked for reach the kernel, through whatever the container has at /proc, and those
//! of the host stay as they are.

use super::report_of;
use crate::bundle::{Bundle, Output};
use crate::canary::Canary;
use crate::case;
use crate::case::{Case, name_of_runtime};
use crate::rootless::{as_user, of_user};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

const TYPE: &str = "1.1 looks at fewer";

pub fn cases() -> Vec<Case> {
    vec![
        case!(sec_04_cve_2019_16884_mounts_over_proc).except("crun", "takes a tmpfs there").except("runc", TYPE),
        case!(sec_04_cve_2025_52881_what_covers_a_sysctl_is_not_written_to).ours("others write where a hook has mounted"),
        case!(sec_11_cve_2023_25809_the_cgroup_mount_is_read_only).except("crun", "1.8 cannot make user namespaces here"),
        case!(sec_27_cve_2022_0811_a_sysctl_that_is_not_the_container_s).except("crun", "takes some that do nothing"),
    ]
}

fn sec_04_cve_2019_16884_mounts_over_proc() {
    let source = Bundle::new();
    let directory = source.home.join("source");
    fs::create_dir(&directory).expect("make a directory");
    fs::write(directory.join("cpuinfo"), "of lxcfs\n").expect("write a file");
    for place in [
        "/proc",
        "/proc/sys",
        "/proc/self",
        "/proc/self/attr",
        "/proc/thread-self/attr",
        "/proc/1",
        "/proc/./sys",
        "/x/../proc/sys",
    ] {
        for kind in ["tmpfs", "bind", "ramfs"] {
            let options: &[&str] = if kind == "bind" { &["rbind"] } else { &[] };
            let from = if kind == "bind" { directory.display().to_string() } else { "none".into() };
            Bundle::new().mount(place, kind, &from, options).fails("/proc");
        }
    }
    // By a link of the image, too.
    for (link, place) in [("/way", "/way/sys"), ("/way", "/way/self/attr"), ("/way", "/way")] {
        let bundle = Bundle::new().mount(place, "tmpfs", "tmpfs", &[]);
        crate::canary::link(&bundle, link, "/proc");
        bundle.fails("/proc");
    }
    // What lxcfs shows is fine.
    let file = directory.join("cpuinfo").display().to_string();
    let bundle = Bundle::new().mount("/proc/cpuinfo", "bind", &file, &["bind", "ro"]).args(["cat", "/proc/cpuinfo"]);
    assert_eq!(bundle.stdout(), "of lxcfs\n");
}

/// A hook stands for another container that shares the volume: it covers the files after they were mounted.
fn sec_04_cve_2025_52881_what_covers_a_sysctl_is_not_written_to() {
    let key = "net/core/somaxconn";
    for cover in [key, "net/core", "net", ""] {
        let bundle = Bundle::new().set("/linux/sysctl", json!({"net.core.somaxconn": "1234"})).args(["sleep", "1000"]);
        let canary = Canary::new(&bundle);
        let over = canary.path.join(if cover == key { "file" } else { "deep" });
        let written = canary.path.join("deep").join(key.trim_start_matches(cover).trim_start_matches('/'));
        if cover != key {
            fs::create_dir_all(written.parent().expect("a parent")).expect("make a directory");
            fs::write(&written, "sings\n").expect("write a file");
        }
        let script = format!("mount --bind {} {}/proc/sys/{cover}", over.display(), bundle.rootfs().display());
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]);
        let bundle = bundle.set("/hooks/createContainer", hook);
        let container = bundle.create();
        let mut look = Command::new("nsenter");
        look.arg(format!("--net=/proc/{}/ns/net", container.pid)).args(["cat", &format!("/proc/sys/{key}")]);
        assert_eq!(bundle.finish(look).stdout, "1234\n", "{cover}");
        let file = if cover == key { canary.path.join("file") } else { written };
        assert_eq!(fs::read_to_string(file).expect("read the canary"), "sings\n", "{cover}");
    }
}

fn mount_of<'a>(report: &'a Value, place: &str) -> &'a Value {
    let mounts = report["mounts"].as_array().expect("mounts");
    mounts.iter().rfind(|mount| mount["target"] == place).unwrap_or_else(|| panic!("no {place}: {report:#}"))
}

/// A bundle with or without these two namespaces.
fn with_namespaces(user: bool, cgroup: bool) -> Bundle {
    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    let bundle = Bundle::new().capabilities(&["CAP_DAC_OVERRIDE"]);
    let kinds = bundle.config["linux"]["namespaces"].as_array().expect("namespaces").clone();
    let keeps = |kind: &Value| cgroup || kind["type"] != "cgroup";
    let bundle = bundle.set("/linux/namespaces", kinds.into_iter().filter(keeps).collect::<Vec<_>>());
    match user {
        true => bundle.namespace("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map),
        false => bundle,
    }
}

/// With and without a cgroup namespace, made anew or a clone of the host's; as root, in a user namespace, without root.
fn sec_11_cve_2023_25809_the_cgroup_mount_is_read_only() {
    // What it does there when it can is done to the tests too.
    let script = "mkdir /sys/fs/cgroup/made && rmdir /sys/fs/cgroup/made";
    let judge = |what: &str, report: &Value, tried: &Output| {
        let mount = mount_of(report, "/sys/fs/cgroup");
        let options = mount["options"].as_str().unwrap_or_default();
        assert!(options.split(',').any(|option| option == "ro"), "{what}: {mount}");
        assert!(tried.status != 0 && !tried.stderr.is_empty(), "{what}: {tried:?}");
    };
    for (user, cgroup) in [(false, false), (false, true), (true, false), (true, true)] {
        let report = with_namespaces(user, cgroup).report(&[]);
        judge(&format!("{user} {cgroup}"), &report, &with_namespaces(user, cgroup).sh(script).run());
    }
    // The rootless specification binds the host's, or mounts none.
    let run = |args: &[&str]| {
        let bundle = of_user().args(args);
        bundle.write();
        bundle.finish(as_user(&bundle.command(["run", &bundle.id])))
    };
    let report = report_of(&run(&["/inside", "report"]).stdout);
    judge("rootless", &report, &run(&["sh", "-c", script]));
}

/// The first list has grammar alone against it, the second what belongs to no namespace, the third what belongs to one that
/// the container does not have.
fn sec_27_cve_2022_0811_a_sysctl_that_is_not_the_container_s() {
    let core_pattern = || fs::read_to_string("/proc/sys/kernel/core_pattern").expect("read a setting");
    let before = core_pattern();
    let grammar = [
        "",
        ".",
        "/",
        "net..ipv4",
        ".net.core.somaxconn",
        "net.core.somaxconn.",
        "net/../kernel/core_pattern",
        "net//core/somaxconn",
        "net/ipv4/../../kernel/core_pattern",
        "net.core/somaxconn",
        "net/core.somaxconn",
        "kernel.shmmax=1",
        "kernel.shmmax ",
        "kernel.shmmax+kernel.core_pattern",
        "net.//.//.kernel.core_pattern",
        "net.ipv4.conf.//.//.//.kernel.core_pattern",
        "../kernel/core_pattern",
        "/kernel/core_pattern",
    ];
    let no_namespace = [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "kernel.modprobe",
        "kernel.hostname",
        "kernel.pid_max",
        "kernel.panic",
        "kernel.sysrq",
        "kernel.yama.ptrace_scope",
        "kernel.msg",
        "kernel.shmmaxx",
        "kernel.randomize_va_space",
        "kernel",
        "vm.overcommit_memory",
        "fs.file-max",
        "fs.mqueue",
        "fs.mqueuex.y",
        "netx.a",
        "dev.cdrom.autoclose",
        "debug.exception-trace",
        "user.max_user_namespaces",
    ];
    for key in grammar.iter().chain(&no_namespace) {
        let pointer = format!("/linux/sysctl/{}", key.replace('~', "~0").replace('/', "~1"));
        for value in ["1", "1+kernel.core_pattern=|/bin/false"] {
            let output = Bundle::new().set(&pointer, value).fails("sysctl");
            assert!(output.stderr.contains("/linux/sysctl/") || name_of_runtime() != "onggi", "{key}: {output:?}");
        }
    }
    for (kind, key) in
        [("network", "net.core.somaxconn"), ("ipc", "kernel.shmmax"), ("ipc", "fs.mqueue.msg_max"), ("uts", "kernel.domainname")]
    {
        let bundle = Bundle::new();
        let kinds = bundle.config["linux"]["namespaces"].as_array().expect("namespaces").clone();
        let bundle = bundle.set("/linux/namespaces", kinds.into_iter().filter(|own| own["type"] != kind).collect::<Vec<_>>());
        let bundle = if kind == "uts" { bundle.remove("/hostname") } else { bundle };
        bundle.set(&format!("/linux/sysctl/{key}"), "1").fails("sysctl");
    }
    let script = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/core/somaxconn /proc/sys/fs/mqueue/msg_max";
    let values = json!({"kernel.shm_rmid_forced": "1", "net/core/somaxconn": "77", "fs.mqueue.msg_max": "9"});
    assert_eq!(Bundle::new().set("/linux/sysctl", values).sh(script).stdout(), "1\n77\n9\n");
    assert_eq!(core_pattern(), before);
}
