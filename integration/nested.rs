//! The runtime inside its own containers: with and without user namespaces, with /proc and /sys as whole as engines leave them.

use crate::bundle::{Bundle, Output, find_program};
use crate::case;
use crate::case::{Case, runtime};
use crate::namespaces::with_user_namespace;
use crate::rootless::{as_user, for_nested, of_user};
use serde_json::json;
use std::fs;
use std::path::Path;

const WORDS: &str = "words its errors otherwise";

pub fn cases() -> Vec<Case> {
    vec![
        case!(root_in_a_container_of_root_s),
        case!(root_has_a_cgroup_below_its_own),
        case!(a_read_only_cgroup_is_named).ours(WORDS),
        case!(a_user_namespace_in_a_container_of_root_s),
        case!(a_covered_proc_is_explained).ours(WORDS),
        case!(root_in_a_user_namespace).except("crun", "wants limits raised"),
        case!(a_user_namespace_in_a_user_namespace).except("crun", "wants limits raised"),
        case!(what_cannot_be_mounted_is_the_outer_one_s).ours("others fail"),
        case!(in_a_container_of_an_ordinary_user_s).ours("others fail"),
        case!(three_deep).ours("others fail"),
        case!(root_of_a_user_namespace_executes_and_shares).except("crun", "1.8 wants newuidmap"),
        case!(root_of_a_user_namespace_makes_time_and_user_namespaces).ours("runc 1.1 and crun 1.8 lack it"),
    ]
}

/// The runtime and the bundle `inner` in the container `outer`.
fn inside(outer: Bundle, inner: &Bundle, words: &[&str]) -> Bundle {
    inner.write();
    let program = find_program(&runtime()).expect("find the runtime").display().to_string();
    fs::write(outer.rootfs().join("runtime"), "").expect("make a mount point");
    fs::create_dir(outer.rootfs().join("inner")).expect("make a mount point");
    let from = inner.dir().display().to_string();
    let outer = outer.mount("/runtime", "bind", &program, &["bind", "ro"]).mount("/inner", "bind", &from, &["rbind"]);
    let outer = outer.mount("/run", "tmpfs", "tmpfs", &["mode=755"]);
    outer.args(["/runtime", "run", "-b", "/inner", "in"].iter().chain(words)).capabilities(&every_capability())
}

fn every_capability() -> Vec<&'static str> {
    vec![
        "CAP_SYS_ADMIN",
        "CAP_SYS_CHROOT",
        "CAP_SYS_PTRACE",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETFCAP",
        "CAP_MKNOD",
        "CAP_CHOWN",
        "CAP_FOWNER",
        "CAP_DAC_OVERRIDE",
        "CAP_NET_ADMIN",
        "CAP_NET_BIND_SERVICE",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ]
}

fn writable_cgroup(bundle: Bundle) -> Bundle {
    let bundle = bundle.namespace("cgroup");
    let at = place_of(&bundle, "/sys/fs/cgroup");
    bundle.set(&format!("{at}/options"), json!(["nosuid", "noexec", "nodev"]))
}

/// The JSON pointer of a mount.
fn place_of(bundle: &Bundle, destination: &str) -> String {
    let mounts = bundle.config["mounts"].as_array().expect("a list");
    let n = mounts.iter().position(|mount| mount["destination"] == destination).expect("the mount");
    format!("/mounts/{n}")
}

/// Nothing of /proc and /sys hidden.
fn unmasked(bundle: Bundle) -> Bundle {
    bundle.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]))
}

/// As the container's root has it: what the user namespace of the tests maps to 0.
fn owned(bundle: &Bundle, uid: u32) {
    fn give(path: &Path, uid: u32) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                give(&entry.path(), uid);
            }
        }
        std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("give it away");
    }
    give(&bundle.dir(), uid);
    for path in [bundle.home.clone(), bundle.dir()] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set a mode");
    }
}

#[track_caller]
fn says(output: &Output, want: &str) {
    assert_eq!((output.status, output.stdout.trim()), (0, want), "{output:?}");
}

const SCRIPT: &str = "test -c /dev/null && echo x >/dev/null && ls /sys/class/net && echo in $$";

fn root_in_a_container_of_root_s() {
    let inner = Bundle::new().sh(SCRIPT);
    says(&inside(writable_cgroup(Bundle::new()), &inner, &[]).run(), "lo\nin 1");
}

fn root_has_a_cgroup_below_its_own() {
    // Without a namespace of its own it sees its place.
    let inner = Bundle::new().set("/linux/resources/unified", json!({"cgroup.max.depth": "7"})).sh("cat /proc/self/cgroup");
    let output = inside(writable_cgroup(Bundle::new()), &inner, &[]).run();
    assert!(output.status == 0 && output.stdout.contains("0::/in\n"), "{output:?}");
}

fn a_read_only_cgroup_is_named() {
    let outer = Bundle::new().namespace("cgroup");
    let at = place_of(&outer, "/sys/fs/cgroup");
    let outer = outer.set(&format!("{at}/options"), json!(["nosuid", "noexec", "nodev", "ro"]));
    let inner = Bundle::new().sh(SCRIPT);
    let output = inside(outer, &inner, &[]).run();
    assert!(output.status == 1 && output.stderr.contains("read-only file system"), "{output:?}");
    assert!(output.stderr.contains("--cgroup-manager disabled"), "{output:?}");
}

fn a_user_namespace_in_a_container_of_root_s() {
    let inner = with_user_namespace().sh(SCRIPT);
    says(&inside(unmasked(writable_cgroup(Bundle::new())), &inner, &[]).run(), "lo\nin 1");
}

/// What Docker and Kubernetes mask in every container.
fn a_covered_proc_is_explained() {
    let inner = with_user_namespace().sh(SCRIPT);
    let output = inside(writable_cgroup(Bundle::new()), &inner, &[]).run();
    let text = &output.stderr;
    assert!(output.status == 1 && text.contains("/mounts/0: mount proc on /proc"), "{output:?}");
    assert!(text.contains("systempaths=unconfined") && text.contains("unmask=ALL"), "{output:?}");
}

fn root_in_a_user_namespace() {
    let inner = Bundle::new().sh(SCRIPT);
    let inner = inner.remove("/linux/resources");
    owned(&inner, 100_000);
    says(&inside(unmasked(writable_cgroup(with_user_namespace())), &inner, &[]).run(), "lo\nin 1");
}

fn a_user_namespace_in_a_user_namespace() {
    let map = json!([{"containerID": 0, "hostID": 100, "size": 100}]);
    let inner = Bundle::new().namespace("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let inner = inner.sh("cat /proc/self/uid_map");
    owned(&inner, 100_100);
    let output = inside(unmasked(writable_cgroup(with_user_namespace())), &inner, &[]).run();
    let words: Vec<&str> = output.stdout.split_whitespace().collect();
    assert_eq!((output.status, &words[..]), (0, &["0", "100", "100"][..]), "{output:?}");
}

/// A masked /sys cannot be mounted anew, so the masked one is shown, read-only.
fn what_cannot_be_mounted_is_the_outer_one_s() {
    let outer = unmasked(writable_cgroup(Bundle::new())).set("/linux/maskedPaths", json!(["/sys/class"]));
    let script =
        "grep -c ' /sys ' /proc/mounts; ls /sys/class; grep ' /sys ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1; echo in $$";
    let inner = with_user_namespace().sh(script);
    let at = place_of(&inner, "/sys");
    let inner = inner.set(&format!("{at}/options"), json!(["nosuid"]));
    says(&inside(outer, &inner, &[]).run(), "1\nro\nin 1");
}

fn in_a_container_of_an_ordinary_user_s() {
    let inner = for_nested(of_user()).sh("id -u; echo in $$");
    let outer = inside(unmasked(of_user()), &inner, &[]);
    // A new /sys would need a network namespace.
    outer.write();
    let output = outer.finish(as_user(&outer.command(["run", &outer.id])));
    says(&output, "0\nin 1");
}

fn three_deep() {
    let innermost = Bundle::new().sh(SCRIPT).remove("/linux/resources");
    let middle = inside(unmasked(writable_cgroup(Bundle::new())), &innermost, &[]).remove("/linux/resources");
    for bundle in [&innermost, &middle] {
        owned(bundle, 100_000);
    }
    // Where they are in the outer container.
    let (program, bundle) = (place_of(&middle, "/runtime"), place_of(&middle, "/inner"));
    let middle = middle.set(&format!("{program}/source"), "/runtime").set(&format!("{bundle}/source"), "/innermost");
    let outer = inside(unmasked(writable_cgroup(with_user_namespace())), &middle, &[]);
    fs::create_dir(outer.rootfs().join("innermost")).expect("make a mount point");
    let outer = outer.mount("/innermost", "bind", &innermost.dir().display().to_string(), &["rbind"]);
    says(&outer.run(), "lo\nin 1");
}

/// A script as root of a user namespace of the user's, as rootless engines work: `$R` is the runtime with its global flags, `$0`
/// the bundle's id.
fn as_engine(bundle: &Bundle, script: &str) -> Output {
    bundle.write();
    let user = as_user(&bundle.command(["-"]));
    let mut words: Vec<String> = user.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    words.pop();
    let program = words.split_off(3).join(" ");
    let mut command = std::process::Command::new("setpriv");
    command.args(words).args(["unshare", "-Urm", "sh", "-ec", script, &bundle.id]);
    command.env("R", program).env_remove("XDG_RUNTIME_DIR").current_dir(bundle.dir());
    bundle.finish(command)
}

/// The namespaces that it came from belong to one above: nobody who leaves them can come back.
fn root_of_a_user_namespace_executes_and_shares() {
    let bundle = for_nested(of_user()).args(["sleep", "1000"]);
    let namespaces = bundle.config["linux"]["namespaces"].as_array().expect("a list");
    let without_user: Vec<_> = namespaces.iter().filter(|namespace| namespace["type"] != "user").cloned().collect();
    let bundle =
        bundle.set("/linux/namespaces", without_user).set("/linux/uidMappings", json!([])).set("/linux/gidMappings", json!([]));
    let script = r#"
        $R run -d --pid-file pid "$0" </dev/null >/dev/null 2>&1
        $R exec "$0" sh -c 'echo exec $(ls /proc/1/exe >/dev/null && cat /proc/1/comm)'
        sed "s|\"type\": *\"pid\"|\"type\":\"pid\",\"path\":\"/proc/$(cat pid)/ns/pid\"|; s|\"1000\"|\"0\"|" config.json >other
        mkdir other.d && mv other other.d/config.json && ln -s ../rootfs other.d/rootfs
        $R run -b other.d "$0-2" && echo shared
        $R delete --force "$0"
    "#;
    says(&as_engine(&bundle, script), "exec sleep\nshared");
}

fn root_of_a_user_namespace_makes_time_and_user_namespaces() {
    let bundle = for_nested(of_user()).namespace("time").set("/linux/timeOffsets", json!({"boottime": {"secs": 77}}));
    let bundle =
        bundle.sh("grep -o '[a-z]* *77' /proc/self/timens_offsets | tr -s ' '; cat /proc/self/uid_map | tr -s ' '; echo $$");
    says(&as_engine(&bundle, r#"$R run "$0""#), "boottime 77\n 0 0 1\n1");
}
