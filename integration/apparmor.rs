//! AppArmor: the profile that is asked for is the one that the program runs under, whatever the rootfs has at /proc.

use crate::bundle::{Bundle, Container, Output};
use crate::case;
use crate::case::Case;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

const NEED: &str = "AppArmor";
pub const PROFILE: &str = "onggi-test";
const OTHER: &str = "onggi-test other";

pub fn cases() -> Vec<Case> {
    vec![
        case!(without_apparmor_a_profile_is_refused).ours("crun runs it unconfined, runc says EINVAL"),
        case!(a_profile_confines).vm(NEED),
        case!(a_created_container_is_confined_once_it_runs).vm(NEED),
        case!(unconfined_is_a_profile).vm(NEED),
        case!(in_a_user_namespace).vm(NEED),
        case!(without_proc).vm(NEED),
        case!(nothing_at_proc_leads_it_astray).vm(NEED),
        case!(what_covers_proc_is_refused).vm(NEED),
        case!(a_profile_that_is_not_loaded_is_refused).vm(NEED).ours("ours in words"),
        case!(an_executed_process_is_confined).vm(NEED),
    ]
}

/// Everything but one directory. The paths are those in the container: AppArmor's are from the root of the process.
pub fn load() {
    static LOADED: OnceLock<()> = OnceLock::new();
    LOADED.get_or_init(|| {
        if !Path::new("/sys/kernel/security/apparmor").exists() {
            let done = Command::new("mount").args(["-t", "securityfs", "securityfs", "/sys/kernel/security"]).status();
            assert!(done.expect("run mount").success());
        }
        let flags = "flags=(attach_disconnected,mediate_deleted)";
        let rules = "file, capability, network, mount, umount, pivot_root, ptrace, signal, unix, deny /forbidden/** w,";
        let text = format!("profile \"{PROFILE}\" {flags} {{ {rules} }}\nprofile \"{OTHER}\" {flags} {{ {rules} }}\n");
        let path = Path::new(crate::stage::WORK).join("profile");
        fs::write(&path, text).expect("write the profile");
        let done = Command::new("apparmor_parser").args(["-r", "-K", "-T"]).arg(&path).output().expect("run apparmor_parser");
        assert!(done.status.success(), "{done:?}");
    });
}

fn is_on() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// A bundle with a directory that the profiles forbid to write in.
fn confined(profile: &str) -> Bundle {
    load();
    let bundle = Bundle::new().set("/process/apparmorProfile", profile).file("/forbidden/x", 0o666, "before\n");
    bundle.file("/open/x", 0o666, "before\n")
}

/// Tells its profile, and tries to write.
const SCRIPT: &str = "cat /proc/self/attr/current; echo after >/open/x && echo wrote; echo after >/forbidden/x || echo denied";

fn label(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/attr/current")).expect("read a label").trim().to_owned()
}

fn without_apparmor_a_profile_is_refused() {
    if is_on() {
        return;
    }
    let bundle = Bundle::new().set("/process/apparmorProfile", PROFILE);
    let output = bundle.fails("apparmor: config provided but apparmor not supported");
    assert!(output.error().contains("/process/apparmorProfile: "), "{output:?}");
    // It is everything's there.
    let bundle = Bundle::new().set("/process/apparmorProfile", "unconfined").sh("echo ran");
    assert_eq!(bundle.stdout(), "ran\n");
}

fn a_profile_confines() {
    for (profile, no_new_privileges) in [(PROFILE, true), (OTHER, false)] {
        let bundle = confined(profile).set("/process/noNewPrivileges", no_new_privileges).sh(SCRIPT);
        let output = bundle.run();
        assert_eq!(output.stdout, format!("{profile} (enforce)\nwrote\ndenied\n"), "{output:?}");
        assert_eq!(fs::read_to_string(bundle.rootfs().join("forbidden/x")).expect("read a file"), "before\n");
    }
}

fn a_created_container_is_confined_once_it_runs() {
    let bundle = confined(PROFILE).args(["sleep", "100"]);
    let container = bundle.create();
    assert_eq!(label(container.pid), "unconfined");
    container.start();
    assert_eq!(label(container.pid), format!("{PROFILE} (enforce)"));
}

fn unconfined_is_a_profile() {
    let bundle = confined("unconfined").sh(SCRIPT);
    assert_eq!(bundle.stdout(), "unconfined\nwrote\n");
}

fn in_a_user_namespace() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = confined(PROFILE).namespace("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let bundle = bundle.args(["sleep", "100"]);
    open_up(&bundle);
    let container = bundle.detach();
    assert_eq!(label(container.pid), format!("{PROFILE} (enforce)"));
    let output = exec(&container, &[], &["sh", "-c", SCRIPT]);
    assert!(output.stdout.starts_with(&format!("{PROFILE} (enforce)\nwrote\n")), "{output:?}");
}

/// Lets the root of the user namespace pass the directories down to the root file system.
fn open_up(bundle: &Bundle) {
    use std::os::unix::fs::PermissionsExt;
    for dir in [&bundle.home, &bundle.dir(), &bundle.rootfs()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("change a mode");
    }
}

/// The mounts but that of procfs.
fn unproc(bundle: Bundle) -> Bundle {
    let mounts: Vec<Value> = bundle.config["mounts"].as_array().expect("mounts").clone();
    let mounts: Vec<Value> = mounts.into_iter().filter(|mount| mount["destination"] != "/proc").collect();
    bundle.set("/mounts", mounts).set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]))
}

fn without_proc() {
    let bundle = unproc(confined(PROFILE)).args(["sleep", "100"]);
    assert_eq!(label(bundle.detach().pid), format!("{PROFILE} (enforce)"));
}

/// Where a runtime that trusts a path would write: files of the image, behind links or not.
fn nothing_at_proc_leads_it_astray() {
    const PLACES: [&str; 4] =
        ["self/attr/exec", "self/attr/apparmor/exec", "thread-self/attr/exec", "thread-self/attr/apparmor/exec"];
    for linked in [false, true] {
        let mut bundle = unproc(confined(PROFILE)).args(["sleep", "100"]);
        let dir = if linked { "fake" } else { "proc" };
        for place in PLACES {
            bundle = bundle.file(&format!("/{dir}/{place}"), 0o666, "");
        }
        if linked {
            crate::canary::link(&bundle, "/proc", "/fake");
        }
        let container = bundle.detach();
        assert_eq!(label(container.pid), format!("{PROFILE} (enforce)"), "linked: {linked}");
        let output = exec(&container, &[], &["true"]);
        assert_eq!(output.status, 0, "{output:?}");
        for place in PLACES {
            let text = fs::read_to_string(bundle.rootfs().join(dir).join(place)).expect("read a file");
            assert_eq!(text, "", "{place}");
        }
    }
    // A container that covers its own /proc while it runs.
    let script = "mount -t tmpfs tmpfs /proc && mkdir -p /proc/self/attr/apparmor && : >/proc/self/attr/apparmor/exec && \
        : >/proc/self/attr/exec && echo covered && exec sleep 100";
    let bundle = confined(PROFILE).sh(script).capabilities(&["CAP_SYS_ADMIN"]);
    let container = bundle.detach();
    crate::bundle::eventually("/proc is covered", || container.stdout() == "covered\n");
    let output = exec(&container, &[], &["sh", "-c", "echo after >/forbidden/x || echo denied"]);
    assert_eq!(output.stdout, "denied\n", "{output:?}");
    let written = exec(&container, &[], &["cat", "/proc/self/attr/apparmor/exec", "/proc/self/attr/exec"]);
    assert_eq!((written.status, written.stdout.as_str()), (0, ""), "{written:?}");
}

fn what_covers_proc_is_refused() {
    for (place, kind, source, options) in [
        ("/proc", "tmpfs", "tmpfs", &["mode=755"][..]),
        ("/proc/self/attr", "tmpfs", "tmpfs", &["mode=755"]),
        ("/proc/self/attr/apparmor/exec", "bind", "/etc/hostname", &["bind"]),
        ("/proc/thread-self", "bind", "/tmp", &["bind"]),
        ("/proc", "bind", "/tmp", &["bind"]),
    ] {
        let bundle = confined(PROFILE).mount(place, kind, source, options).sh(SCRIPT);
        let output = bundle.run();
        assert!(output.status != 0 && !output.stdout.contains("wrote"), "{place}: {output:?}");
    }
    // procfs it is, only not the container's own.
    let bundle = confined(PROFILE).mount("/proc", "bind", "/proc", &["rbind"]).args(["sleep", "100"]);
    let output = bundle.run_with(&["--detach"]);
    if output.status == 0 {
        let pid = bundle.call(["state", &bundle.id]);
        let state: Value = serde_json::from_str(&pid.stdout).expect("a state");
        assert_eq!(label(i32::try_from(state["pid"].as_i64().expect("a pid")).expect("a pid")), format!("{PROFILE} (enforce)"));
    }
}

fn a_profile_that_is_not_loaded_is_refused() {
    load();
    let bundle = Bundle::new().set("/process/apparmorProfile", "not-loaded");
    let output = bundle.fails("/process/apparmorProfile: apparmor failed to apply profile: write AppArmor profile not-loaded to");
    let error = output.error();
    assert!(error.contains("`/proc/self/attr/apparmor/exec`") && error.contains("the profile is not loaded"), "{error}");
    assert!(error.contains("apparmor_parser -r"), "{error}");
}

fn exec(container: &Container<'_>, flags: &[&str], args: &[&str]) -> Output {
    let words = ["exec"].into_iter().chain(flags.iter().copied()).chain([container.bundle.id.as_str()]);
    container.bundle.call(words.chain(args.iter().copied()))
}

fn an_executed_process_is_confined() {
    let bundle = confined(PROFILE).args(["sleep", "100"]);
    let container = bundle.detach();
    let current = ["cat", "/proc/self/attr/current"];
    assert_eq!(exec(&container, &[], &current).stdout, format!("{PROFILE} (enforce)\n"));
    assert_eq!(exec(&container, &["--apparmor", OTHER], &current).stdout, format!("{OTHER} (enforce)\n"));
    assert_eq!(exec(&container, &["--apparmor", "unconfined"], &current).stdout, "unconfined\n");
    assert_eq!(exec(&container, &[], &["sh", "-c", "echo after >/forbidden/x || echo denied"]).stdout, "denied\n");
    for (own, label) in [(json!({}), PROFILE), (json!({"apparmorProfile": OTHER}), OTHER)] {
        let mut process = json!({"args": current, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 1000, "gid": 1000}});
        process.as_object_mut().expect("an object").extend(own.as_object().expect("an object").clone());
        let file = bundle.home.join("process.json");
        fs::write(&file, process.to_string()).expect("write a process");
        let output = exec(&container, &["--process", &file.display().to_string()], &[]);
        assert_eq!(output.stdout, format!("{label} (enforce)\n"), "{output:?}");
    }
    let output = exec(&container, &["--apparmor", "not-loaded"], &["true"]);
    assert!(output.status != 0 && output.error().contains("apparmor failed to apply profile"), "{output:?}");
}
