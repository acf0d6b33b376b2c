//! An ordinary user, without root: one id, or the ranges of /etc/subuid; and what cannot be had is refused with its reason.

use crate::bundle::{Bundle, Output, find_program};
use crate::case;
use crate::case::{Case, name_of_runtime, runtime};
use crate::stage::WORK;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

/// A user that no machine has.
pub const USER: u32 = 54321;

const WORDS: &str = "words its errors otherwise";
const HELPERS: &str = "tries newuidmap first, and prints its failure";

pub fn cases() -> Vec<Case> {
    vec![
        case!(the_rootless_spec_runs),
        case!(one_id_can_be_any_inside).except("runc", "1.1 wants root mapped").except("crun", HELPERS),
        case!(the_life_cycle_works).except("crun", HELPERS),
        case!(the_state_lies_in_the_runtime_directory_of_the_user).ours("others name it otherwise"),
        case!(the_state_of_a_user_namespace_s_root_depends_on_the_name).ours("others name it otherwise"),
        case!(a_state_root_of_another_user_is_refused).ours("others fail on the way"),
        case!(a_score_for_the_oom_killer_can_be_had),
        case!(devices_are_bound),
        case!(the_maps_come_before_it_becomes_undumpable).ours("our plan"),
        case!(ranges_of_the_user_are_mapped),
        case!(additional_groups_can_be_had_with_ranges).except("runc", "1.1 refuses them"),
        case!(a_range_of_somebody_else_is_refused).ours(WORDS),
        case!(an_owner_that_is_not_mapped_is_named).ours("others lack the hint"),
        case!(the_namespaces_of_the_host_are_shown).ours("others mount none of them"),
        case!(a_limit_is_refused_by_its_field).ours(WORDS),
        case!(a_missing_user_namespace_is_hinted_at).ours(WORDS),
        case!(a_host_without_user_namespaces_is_hinted_at).ours(WORDS),
        case!(a_user_executes_further_processes).ours("others wait for nobody here"),
        case!(root_of_a_user_namespace_runs_containers),
        case!(root_of_a_user_namespace_executes_further_processes).except("crun", HELPERS),
        case!(root_of_a_user_namespace_joins_namespaces).except("crun", HELPERS),
        case!(groups_denied_to_the_caller_are_left_out).except("crun", HELPERS),
    ]
}

/// A bundle of the user's, with the configuration of `spec --rootless`.
pub fn of_user() -> Bundle {
    give_bundle(Bundle::new(), USER)
}

/// This bundle becomes the user's, with that configuration.
pub fn give_bundle(mut bundle: Bundle, user: u32) -> Bundle {
    give(&bundle.home, user);
    let output = bundle.finish(as_id(&bundle.command(["spec", "--rootless"]), user));
    assert_eq!(output.status, 0, "{output:?}");
    let path = bundle.dir().join("config.json");
    bundle.config = serde_json::from_slice(&fs::read(path).expect("read config.json")).expect("parse config.json");
    bundle.set("/process/terminal", false)
}

/// Everything in it becomes the user's, but not the programs that all bundles share.
fn give(path: &Path, user: u32) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.metadata().is_ok_and(|meta| meta.is_dir() || meta.nlink() == 1) {
            give(&entry.path(), user);
        }
    }
    lchown(path, Some(user), Some(user)).expect("give it to the user");
}

/// The same command as the user, from a place where the user may execute it.
pub fn as_user(command: &Command) -> Command {
    as_id(command, USER)
}

/// The same as another user.
pub fn as_id(command: &Command, id: u32) -> Command {
    static FIRST: Mutex<()> = Mutex::new(());
    let found = find_program(&runtime()).expect("find the runtime");
    let copy = Path::new(WORK).join("for-users").join(name_of_runtime());
    let first = FIRST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !copy.exists() {
        fs::create_dir_all(copy.parent().expect("a parent")).expect("make a directory");
        // By another process: one that is forked here meanwhile would hold the file open for writing (ETXTBSY).
        assert!(Command::new("cp").arg(found).arg(&copy).status().expect("run cp").success());
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("set its mode");
    }
    drop(first);
    let mut user = Command::new("setpriv");
    user.args([format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".into()]);
    user.arg(copy).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        user.current_dir(directory);
    }
    user.env_remove("XDG_RUNTIME_DIR");
    user
}

/// The same command in a mount namespace where the user has a name and 65536 subordinate ids from 200000 on.
fn with_ranges(bundle: &Bundle, command: &Command) -> Command {
    let script = r#"
        set -e
        cp /etc/passwd passwd && echo "onggi:x:$0:$0::/:/bin/sh" >>passwd
        echo "onggi:200000:65536" >ranges
        mount --bind passwd /etc/passwd
        for file in /etc/subuid /etc/subgid; do
            test -e $file || { echo "$file is missing (package uidmap)"; exit 1; }
            mount --bind ranges $file
        done
        cd bundle
        exec "$@""#;
    let mut shell = Command::new("unshare");
    shell.args(["-m", "--propagation", "slave", "sh", "-c", script]).arg(USER.to_string());
    shell.arg(command.get_program()).args(command.get_args()).current_dir(&bundle.home);
    shell
}

fn run(bundle: &Bundle) -> Output {
    bundle.write();
    bundle.finish(as_user(&bundle.command(["run", &bundle.id])))
}

/// The second process is entered by a fork in the container's namespaces: the user may not enter them from outside.
fn a_user_executes_further_processes() {
    let bundle = of_user().args(["sleep", "1000"]);
    bundle.write();
    let output = bundle.finish(as_user(&bundle.command(["run", "--detach", &bundle.id])));
    assert_eq!(output.status, 0, "{output:?}");
    for _ in 0..3 {
        let script = "id -u; cat /proc/1/cmdline; exit 7";
        let output = bundle.finish(as_user(&bundle.command(["exec", &bundle.id, "sh", "-c", script])));
        assert_eq!((output.status, output.stdout.as_str()), (7, "0\nsleep\u{0}1000\u{0}"), "{output:?}");
    }
    let output = bundle.finish(as_user(&bundle.command(["exec", &bundle.id, "/absent"])));
    assert!(output.status == 255 && output.stderr.contains("stat /absent: no such file or directory"), "{output:?}");
}

fn run_with_ranges(bundle: &Bundle) -> Output {
    bundle.write();
    bundle.finish(with_ranges(bundle, &as_user(&bundle.command(["run", &bundle.id]))))
}

fn report(output: &Output) -> Value {
    assert_eq!(output.status, 0, "{output:?}");
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[track_caller]
pub fn refused(output: &Output, texts: &[&str]) {
    assert!(output.status == 1 && output.stderr.lines().count() == 1, "{output:?}");
    for text in texts {
        assert!(output.stderr.contains(text), "{text:?} not in {output:?}");
    }
}

fn the_rootless_spec_runs() {
    let output = run(&of_user().sh("id -u; id -g; cat /proc/self/uid_map; hostname"));
    let words: Vec<&str> = output.stdout.split_whitespace().collect();
    assert_eq!(words[..5], ["0", "0", "0", &USER.to_string(), "1"], "{output:?}");
    assert_eq!(output.status, 0, "{output:?}");
}

/// Of a process that others may not look into that file is root's.
fn a_score_for_the_oom_killer_can_be_had() {
    let bundle = of_user().set("/process/oomScoreAdj", 700).args(["sh", "-c", "cat /proc/self/oom_score_adj; exec sleep 1000"]);
    bundle.write();
    let started = bundle.finish(as_user(&bundle.command(["run", "--detach", &bundle.id])));
    assert_eq!((started.status, started.stderr.as_str()), (0, ""), "{started:?}");
    let exec = ["exec", &bundle.id, "cat", "/proc/1/oom_score_adj", "/proc/self/oom_score_adj"];
    let output = bundle.finish(as_user(&bundle.command(exec)));
    assert_eq!((output.status, output.stdout.as_str()), (0, "700\n700\n"), "{output:?}");
}

fn one_id_can_be_any_inside() {
    let bundle = of_user().set("/linux/uidMappings/0/containerID", 1000).set("/linux/gidMappings/0/containerID", 1001);
    let bundle = bundle.set("/process/user", json!({"uid": 1000, "gid": 1001})).inside(&["report"]);
    let report = report(&run(&bundle));
    assert_eq!(
        (&report["status"]["Uid"], &report["status"]["Gid"]),
        (&json!("1000 1000 1000 1000"), &json!("1001 1001 1001 1001"))
    );
}

fn the_life_cycle_works() {
    let bundle = of_user().args(["sleep", "1000"]);
    bundle.write();
    let call = |words: &[&str]| {
        let output = bundle.finish(as_user(&bundle.command(words)));
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{words:?}: {output:?}");
        output.stdout
    };
    let status = || serde_json::from_str::<Value>(&call(&["state", &bundle.id])).expect("parse the state")["status"].clone();
    call(&["create", &bundle.id]);
    assert_eq!(status(), "created");
    call(&["start", &bundle.id]);
    assert_eq!(status(), "running");
    call(&["kill", &bundle.id, "KILL"]);
    crate::bundle::eventually("stopped", || status() == "stopped");
    call(&["delete", &bundle.id]);
    assert!(!bundle.root().join(&bundle.id).exists());
}

fn the_state_lies_in_the_runtime_directory_of_the_user() {
    let bundle = of_user().args(["true"]);
    bundle.write();
    let mut command = Command::new(runtime());
    command.args(["run", "--keep", &bundle.id]).current_dir(bundle.dir());
    let mut command = as_user(&command);
    command.env("XDG_RUNTIME_DIR", &bundle.home);
    let output = bundle.finish(command);
    assert_eq!(output.status, 0, "{output:?}");
    let root = fs::metadata(bundle.home.join("onggi")).expect("look at the state root");
    // Sticky: what sweeps old files out of such a directory leaves it.
    assert_eq!((root.mode() & 0o7777, root.uid()), (0o1700, USER));
    assert!(bundle.home.join("onggi").join(&bundle.id).exists());
    let mut command = Command::new(runtime());
    command.args(["list"]).current_dir(bundle.dir());
    refused(&bundle.finish(as_user(&command)), &["XDG_RUNTIME_DIR is not set"]);
}

/// Rootless engines are root in a user namespace of the user's; in a container root is called so.
fn the_state_of_a_user_namespace_s_root_depends_on_the_name() {
    let bundle = for_nested(of_user()).args(["true"]);
    bundle.write();
    let call = |name: &str, runtime_dir: bool| {
        let mut command = Command::new(runtime());
        command.args(["run", "--keep", &bundle.id]).current_dir(bundle.dir());
        let user = as_user(&command);
        let mut words = user.get_args();
        let mut command = Command::new("setpriv");
        command.args(words.by_ref().take(3)).args(["unshare", "-Urm"]).args(words).env("USER", name).current_dir(bundle.dir());
        if runtime_dir {
            command.env("XDG_RUNTIME_DIR", &bundle.home);
        } else {
            command.env_remove("XDG_RUNTIME_DIR");
        }
        bundle.finish(command)
    };
    assert_eq!(call("somebody", true).status, 0);
    let root = fs::metadata(bundle.home.join("onggi")).expect("look at the state root");
    assert_eq!((root.mode() & 0o7777, root.uid()), (0o1700, USER));
    for output in [call("root", true), call("somebody", false)] {
        refused(&output, &["make the state root /run/onggi: permission denied", "set XDG_RUNTIME_DIR"]);
    }
}

fn a_state_root_of_another_user_is_refused() {
    let bundle = of_user();
    fs::create_dir(bundle.root()).expect("make the state root");
    refused(&run(&bundle), &["belongs to another user"]);
}

fn devices_are_bound() {
    let output =
        run(&of_user().sh("for n in null zero full random urandom tty; do test -c /dev/$n || echo $n; done; echo x >/dev/null"));
    assert_eq!((output.status, output.stdout.as_str()), (0, ""), "{output:?}");
}

pub fn setgroups_is_denied_with_one_id() {
    assert_eq!(run(&of_user().args(["cat", "/proc/self/setgroups"])).stdout, "deny\n");
}

pub fn additional_groups_are_refused_with_one_id() {
    let output = run(&of_user().set("/process/user/additionalGids", json!([0])));
    assert!(output.status == 1 && output.stderr.lines().count() == 1, "{output:?}");
}

/// Else its files in procfs are root's, and whether the user can write the maps depends on who is quicker.
fn the_maps_come_before_it_becomes_undumpable() {
    let bundle = of_user();
    bundle.write();
    let plan = bundle.finish(as_user(&bundle.command(["plan"]))).stdout;
    let line = |words: &str| plan.lines().position(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}: {plan}"));
    assert!(line("maps") < line("undumpable"), "{plan}");
}

/// Root is the user, 1 and up are the first subordinate ids.
fn with_two_maps(bundle: Bundle) -> Bundle {
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 200000, "size": 65536}]);
    bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
}

fn ranges_of_the_user_are_mapped() {
    let bundle = with_two_maps(of_user())
        .set("/process/user", json!({"uid": 1000, "gid": 65536}))
        .inside(&["report", "/proc/self/uid_map"]);
    let report = report(&run_with_ranges(&bundle));
    assert_eq!(
        (&report["status"]["Uid"], &report["status"]["Gid"]),
        (&json!("1000 1000 1000 1000"), &json!("65536 65536 65536 65536"))
    );
    let map: Vec<&str> = report["files"]["/proc/self/uid_map"].as_str().unwrap_or_default().split_whitespace().collect();
    assert_eq!(map, ["0", &USER.to_string(), "1", "1", "200000", "65536"]);
}

fn additional_groups_can_be_had_with_ranges() {
    let bundle = with_two_maps(of_user()).set("/process/user", json!({"uid": 7, "gid": 8, "additionalGids": [9, 10]}));
    assert_eq!(report(&run_with_ranges(&bundle.inside(&["report"])))["status"]["Groups"], "9 10");
}

fn a_range_of_somebody_else_is_refused() {
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 300000, "size": 10}]);
    let bundle = of_user().set("/linux/uidMappings", map.clone());
    let why = "/etc/subuid gives onggi 200000 to 265535, and not all of 300000 to 300009";
    refused(&run_with_ranges(&bundle), &["/linux/uidMappings: ", "newuidmap", why]);
    // Nobody of the name, nor of the number.
    bundle.write();
    let without = bundle.finish(as_user(&bundle.command(["run", &bundle.id])));
    refused(&without, &["/linux/uidMappings: ", &format!("add the line {USER}:100000:65536")]);
}

fn a_limit_is_refused_by_its_field() {
    let bundle = of_user().set("/linux/resources", json!({"unified": {"cgroup.max.depth": "5"}}));
    refused(&run(&bundle), &["/linux/resources/unified/cgroup.max.depth", "not delegated to this user", "remove the limit"]);
    let bundle = of_user().set("/linux/resources", json!({"pids": {"limit": 5}}));
    refused(&run(&bundle), &["/linux/resources/pids/limit"]);
}

fn a_missing_user_namespace_is_hinted_at() {
    let mut bundle = of_user().remove("/linux/uidMappings").remove("/linux/gidMappings");
    let list = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
    list.retain(|namespace| namespace["type"] != "user");
    refused(&run(&bundle), &["/linux/namespaces", "operation not permitted", "root is needed, or a user namespace"]);
}

/// The command in a user namespace where the caller is root, after a line of shell.
pub fn nested(bundle: &Bundle, line: &str) -> Output {
    bundle.write();
    let user = as_user(&bundle.command(["run", &bundle.id]));
    let mut command = Command::new("setpriv");
    let mut words = user.get_args();
    command.args(words.by_ref().take(3));
    command.args(["unshare", "-Urm", "sh", "-ec", &format!("{line}; exec \"$@\""), "sh"]);
    command.args(words).current_dir(bundle.dir());
    bundle.finish(command)
}

/// Its maps as they are to be inside that user namespace.
pub fn for_nested(bundle: Bundle) -> Bundle {
    bundle.set("/linux/uidMappings/0/hostID", 0).set("/linux/gidMappings/0/hostID", 0)
}

fn a_host_without_user_namespaces_is_hinted_at() {
    let output = nested(&for_nested(of_user()), "echo 0 >/proc/sys/user/max_user_namespaces");
    refused(&output, &["/linux/namespaces", "the host forbids them: user.max_user_namespaces is 0"]);
}

fn root_of_a_user_namespace_runs_containers() {
    let output = nested(&for_nested(of_user()).args(["cat", "/proc/self/uid_map"]), "true");
    assert_eq!(output.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "0", "1"], "{output:?}");
}

/// `spec` without `--rootless` gives the terminals to group 5.
fn an_owner_that_is_not_mapped_is_named() {
    let bundle = of_user();
    let mounts = bundle.config["mounts"].as_array().expect("a list");
    let n = mounts.iter().position(|mount| mount["type"] == "devpts").expect("the terminals");
    let bundle = bundle.set(&format!("/mounts/{n}/options/-"), "gid=5");
    let field = format!("/mounts/{n}/options");
    refused(&run(&bundle), &[&field, "cannot specify gid=5 mount option for rootless container", "leave the option out"]);
}

/// Namespaces that the user namespace does not own: the host's /proc, /sys and queues take the place of new ones.
fn the_namespaces_of_the_host_are_shown() {
    let mut bundle = of_user();
    let list = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
    list.retain(|namespace| ["mount", "user", "uts"].iter().any(|kind| namespace["type"] == *kind));
    let mounts = bundle.config["mounts"].as_array().expect("a list");
    let at = |what: &str| mounts.iter().position(|mount| mount["destination"] == what).expect("a mount");
    let (sys, queues) = (at("/sys"), at("/dev/mqueue"));
    let bundle = bundle.set(&format!("/mounts/{sys}"), json!({"destination": "/sys", "type": "sysfs", "source": "sysfs"}));
    let bundle = if Path::new("/dev/mqueue").exists() { bundle } else { bundle.remove(&format!("/mounts/{queues}")) };
    let script = "test -d /proc/1 && test $$ != 1 && grep ' /sys ' /proc/self/mounts | cut -d' ' -f4 | cut -d, -f1; ls -d /sys/class/net/lo";
    let output = run(&bundle.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([])).sh(script));
    assert_eq!((output.status, output.stdout.as_str()), (0, "ro\n/sys/class/net/lo\n"), "{output:?}");
}

/// A command line of the runtime's, as a word of shell.
fn line(bundle: &Bundle, args: &[&str]) -> String {
    let command = bundle.command(args);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| format!("'{}'", word.display())).collect::<Vec<_>>().join(" ")
}

/// A runtime that enters the container's PID namespace could not come back from there: the host's is not this user's.
fn root_of_a_user_namespace_executes_further_processes() {
    let bundle = for_nested(of_user()).args(["sleep", "1000"]);
    let exec = line(&bundle, &["exec", &bundle.id, "cat", "/proc/1/cmdline"]);
    let kill = line(&bundle, &["kill", &bundle.id, "KILL"]);
    let output = nested(
        &bundle,
        &format!("\"$@\" & for i in $(seq 100); do {exec} && break; sleep 0.05; done; {kill}; wait; set -- true"),
    );
    assert_eq!(output.stdout, "sleep\u{0}1000\u{0}", "{output:?}");
}

/// As containers of a pod do; with a user namespace of the container's own (which may not mount the other's procfs), and
/// without.
fn root_of_a_user_namespace_joins_namespaces() {
    for (kinds, own) in [(&["uts"][..], true), (&["pid"], false), (&["pid", "uts"], false)] {
        let mut bundle = of_user().args(["cat", "/proc/self/status"]).remove("/hostname");
        let place = bundle.home.join("namespace").display().to_string();
        let list = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
        for entry in list.iter_mut() {
            let kind = entry["type"].as_str().unwrap_or_default().to_owned();
            if kinds.contains(&kind.as_str()) {
                entry["path"] = format!("{place}-{kind}").into();
            }
        }
        let bundle = if own {
            for_nested(bundle)
        } else {
            list.retain(|entry| entry["type"] != "user");
            bundle.remove("/linux/uidMappings").remove("/linux/gidMappings")
        };
        let output = nested(
            &bundle,
            &format!(
                r#"unshare -pu -f sleep 1000 >/dev/null 2>&1 &
                until [ "$(readlink /proc/$!/ns/uts)" != "$(readlink /proc/self/ns/uts)" ] && [ -e /proc/$!/ns/pid_for_children ]; do :; done
                touch {place}-pid {place}-uts
                mount --bind /proc/$!/ns/pid_for_children {place}-pid
                mount --bind /proc/$!/ns/uts {place}-uts"#
            ),
        );
        // The first process there is another one.
        let first = output.stdout.lines().any(|line| line == "Pid:\t1");
        assert!(output.status == 0 && first != kinds.contains(&"pid"), "{kinds:?} {own} {output:?}");
    }
}

fn groups_denied_to_the_caller_are_left_out() {
    let bundle = for_nested(of_user()).set("/process/user/additionalGids", json!([0])).args(["id", "-u"]);
    let output = nested(&bundle, "true");
    assert_eq!(output.stdout, "0\n", "{output:?}");
}
