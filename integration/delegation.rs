//! A cgroup that was delegated to an ordinary user (cgroups(7)): used, with what was handed down to it; and what becomes of
//! containers that can have none.

use crate::bundle::{Bundle, Output, eventually};
use crate::case;
use crate::case::Case;
use crate::rootless::{USER, as_user, for_nested, of_user, refused};
use crate::stage::remove_tree;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

const CONTROLLERS: &str = "the controllers on cgroup2";
const WORDS: &str = "words its errors otherwise";

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_container_lives_in_the_user_s_cgroup).except("crun", "makes none without systemd"),
        case!(limits_are_those_that_the_container_meets).vm(CONTROLLERS).except("crun", "makes none without systemd"),
        case!(a_controller_that_is_not_delegated_is_named).vm(CONTROLLERS).ours(WORDS),
        case!(the_own_cgroup_is_enough_without_controllers).ours("others make none"),
        case!(processes_in_the_own_cgroup_are_in_the_way_of_controllers).vm(CONTROLLERS).ours(WORDS),
        case!(a_cgroup_made_by_another_is_used_and_stays).ours("others fail to remove it"),
        case!(a_cgroup_that_cannot_be_entered_is_done_without).ours("others fail"),
        case!(without_a_cgroup_the_rest_works).ours("others wait for nobody here"),
        case!(further_processes_from_elsewhere_stay_outside).ours("others do not say so"),
        case!(root_of_a_user_namespace_uses_it).except("crun", "makes none without systemd"),
    ]
}

/// A cgroup of the user's, and in it `caller`, from which commands are called. Removed at the end.
struct Delegated {
    directory: PathBuf,
}

impl Delegated {
    fn new(bundle: &Bundle) -> Self {
        Self::at(Path::new("/sys/fs/cgroup").join(format!("delegated-{}", bundle.id)))
    }

    fn at(directory: PathBuf) -> Self {
        let delegated = Self { directory };
        for directory in [&delegated.directory, &delegated.caller()] {
            fs::create_dir_all(directory).expect("make a cgroup");
            delegate(directory, USER);
        }
        delegated
    }

    fn caller(&self) -> PathBuf {
        self.directory.join("caller")
    }

    /// The command as the user, called from that cgroup.
    fn from(&self, caller: &Path, command: &Command) -> Command {
        let user = as_user(command);
        let mut shell = Command::new("sh");
        shell.args(["-ec", r#"echo 0 >"$0/cgroup.procs"; exec "$@""#]).arg(caller);
        shell.arg(user.get_program()).args(user.get_args()).env_remove("XDG_RUNTIME_DIR");
        if let Some(directory) = command.get_current_dir() {
            shell.current_dir(directory);
        }
        shell
    }

    fn call(&self, bundle: &Bundle, words: &[&str]) -> Output {
        bundle.finish(self.from(&self.caller(), &bundle.command(words)))
    }

    #[track_caller]
    fn ok(&self, bundle: &Bundle, words: &[&str]) -> String {
        let output = self.call(bundle, words);
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{words:?}: {output:?}");
        output.stdout
    }

    /// `run --detach` of the bundle; its state.
    fn detach(&self, bundle: &Bundle) -> Value {
        bundle.write();
        self.ok(bundle, &["run", "--detach", &bundle.id]);
        self.state(bundle)
    }

    fn state(&self, bundle: &Bundle) -> Value {
        serde_json::from_str(&self.ok(bundle, &["state", &bundle.id])).expect("parse the state")
    }

    fn run(&self, bundle: &Bundle) -> Output {
        bundle.write();
        self.call(bundle, &["run", &bundle.id])
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = fs::write(self.directory.join("cgroup.kill"), "1");
        for _ in 0..1000 {
            remove_tree(&self.directory);
            if !self.directory.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// As systemd does with `Delegate=`.
pub fn delegate(directory: &Path, user: u32) {
    chown(directory, Some(user), Some(user)).expect("give a cgroup away");
    for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        chown(directory.join(file), Some(user), Some(user)).expect("give a file away");
    }
}

fn limited(bundle: Bundle) -> Bundle {
    bundle.set("/linux/resources", json!({"unified": {"cgroup.max.depth": "5"}})).args(["sleep", "1000"])
}

fn place_of(pid: &Value) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read the cgroup of a process");
    text.lines().find_map(|line| line.strip_prefix("0::")).expect("a line of cgroup v2").to_owned()
}

fn a_container_lives_in_the_user_s_cgroup() {
    let bundle = limited(of_user());
    let delegated = Delegated::new(&bundle);
    let state = delegated.detach(&bundle);
    let group = delegated.directory.join(&bundle.id);
    assert_eq!(Path::new("/sys/fs/cgroup").join(place_of(&state["pid"]).trim_start_matches('/')), group);
    assert_eq!(fs::read_to_string(group.join("cgroup.max.depth")).expect("read the limit"), "5\n");
    assert_eq!(fs::metadata(&group).expect("look at it").uid(), USER);

    let id = bundle.id.as_str();
    assert_eq!(delegated.ok(&bundle, &["ps", "--format", "json", id]).trim(), format!("[{}]", state["pid"]));
    delegated.ok(&bundle, &["pause", id]);
    assert_eq!(delegated.state(&bundle)["status"], "paused");
    delegated.ok(&bundle, &["resume", id]);
    assert_eq!(delegated.state(&bundle)["status"], "running");
    // Init is the root of its cgroup namespace.
    let printed = delegated.ok(&bundle, &["exec", id, "cat", "/proc/self/cgroup"]);
    assert!(printed.contains("0::/\n"), "{printed}");
    delegated.ok(&bundle, &["kill", id, "KILL"]);
    eventually("stopped", || delegated.state(&bundle)["status"] == "stopped");
    delegated.ok(&bundle, &["delete", id]);
    assert!(!group.exists());
}

fn limits_are_those_that_the_container_meets() {
    let limits = json!({
        "memory": {"limit": 67108864, "swap": 67108864}, "pids": {"limit": 20}, "cpu": {"shares": 1024, "quota": 50000, "period": 100000},
    });
    let bundle = of_user().set("/linux/resources", limits).sh("while :; do sleep 1000; done");
    let delegated = Delegated::new(&bundle);
    delegated.detach(&bundle);
    let group = delegated.directory.join(&bundle.id);
    for (file, want) in [("memory.max", "67108864"), ("pids.max", "20"), ("cpu.max", "50000 100000"), ("memory.swap.max", "0")] {
        assert_eq!(fs::read_to_string(group.join(file)).expect("read a limit").trim(), want, "{file}");
    }
    let fork = "for n in $(seq 30); do sleep 100 & done; wait";
    let output = delegated.call(&bundle, &["exec", &bundle.id, "sh", "-c", fork]);
    assert!(output.stderr.contains("fork"), "{output:?}");
    delegated.ok(&bundle, &["update", "--pids-limit", "40", &bundle.id]);
    assert_eq!(fs::read_to_string(group.join("pids.max")).expect("read a limit").trim(), "40");
    let hungry = of_user().set("/linux/resources", json!({"memory": {"limit": 16777216, "swap": 16777216}}));
    let hungry = hungry.sh("tail /dev/zero");
    assert_eq!(delegated.run(&hungry).status, 137);
    delegated.ok(&bundle, &["delete", "--force", &bundle.id]);
}

fn a_controller_that_is_not_delegated_is_named() {
    let bundle = of_user().set("/linux/resources", json!({"pids": {"limit": 20}, "cpu": {"shares": 512}}));
    // The one above hands the user pids alone, as systemd hands a user memory and pids.
    let above = Path::new("/sys/fs/cgroup").join(format!("above-{}", bundle.id));
    fs::create_dir(&above).expect("make a cgroup");
    fs::write(above.join("cgroup.subtree_control"), "+pids").expect("hand a controller down");
    let delegated = Delegated::at(above.join("user"));
    refused(&delegated.run(&bundle), &["/linux/resources/cpu/shares", "controller cpu is not delegated", "Delegate=cpu"]);
    assert!(!delegated.directory.join(&bundle.id).exists());
    let pids = bundle.remove("/linux/resources/cpu").sh("true");
    assert_eq!(delegated.run(&pids).status, 0);
    drop(delegated);
    fs::remove_dir(above).expect("remove the cgroup above");
}

/// As a service with `Delegate=` and a `User=` has it: beside it is root's.
fn the_own_cgroup_is_enough_without_controllers() {
    let bundle = limited(of_user());
    let delegated = Delegated::new(&bundle);
    bundle.write();
    let start = bundle.command(["run", "--detach", &bundle.id]);
    let output = bundle.finish(delegated.from(&delegated.directory, &start));
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
    let pid = &delegated.state(&bundle)["pid"];
    assert!(place_of(pid).ends_with(&format!("/delegated-{0}/{0}", bundle.id)), "{}", place_of(pid));
    delegated.ok(&bundle, &["delete", "--force", &bundle.id]);
}

fn processes_in_the_own_cgroup_are_in_the_way_of_controllers() {
    let bundle = of_user().set("/linux/resources", json!({"memory": {"limit": 33554432}}));
    let delegated = Delegated::new(&bundle);
    bundle.write();
    let call = |bundle: &Bundle, words: &[&str]| bundle.finish(delegated.from(&delegated.directory, &bundle.command(words)));
    let output = call(&bundle, &["run", &bundle.id]);
    refused(&output, &["/linux/resources/memory/limit", "process(es) of its own", "DelegateSubgroup="]);
    // But not of those that count threads one by one.
    let bundle = bundle.set("/linux/resources", json!({"pids": {"limit": 20}})).args(["sleep", "1000"]);
    bundle.write();
    let output = call(&bundle, &["run", "--detach", &bundle.id]);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
    let group = delegated.directory.join(&bundle.id);
    assert_eq!(fs::read_to_string(group.join("pids.max")).expect("read the limit"), "20\n");
    let state: Value = serde_json::from_str(&call(&bundle, &["state", &bundle.id]).stdout).expect("parse the state");
    assert_eq!(call(&bundle, &["ps", "--format", "json", &bundle.id]).stdout.trim(), format!("[{}]", state["pid"]));
    for words in [&["exec", &bundle.id, "true"][..], &["delete", "--force", &bundle.id]] {
        let output = call(&bundle, words);
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{words:?}: {output:?}");
    }
    assert!(!group.exists());
}

fn a_cgroup_made_by_another_is_used_and_stays() {
    let bundle = limited(of_user());
    let delegated = Delegated::new(&bundle);
    // Root's, but for the container's own: the user may not remove that.
    let made = delegated.directory.join("made");
    fs::create_dir(&made).expect("make a cgroup");
    delegate(&made, USER);
    // What limits it is root's to set, unless it is given too.
    chown(made.join("cgroup.max.depth"), Some(USER), Some(USER)).expect("give a file away");
    for file in ["cgroup.freeze", "cgroup.kill"] {
        chown(made.join(file), Some(USER), Some(USER)).expect("give a file away");
    }
    chown(&delegated.directory, Some(0), Some(0)).expect("take a cgroup back");
    let path = format!("/delegated-{}/made", bundle.id);
    let bundle = bundle.set("/linux/cgroupsPath", path.as_str());
    let state = delegated.detach(&bundle);
    assert_eq!(place_of(&state["pid"]), path);
    fs::create_dir(made.join("below")).expect("make a cgroup below");
    delegated.ok(&bundle, &["delete", "--force", &bundle.id]);
    assert_eq!(fs::read_to_string(made.join("cgroup.procs")).expect("read who is in it"), "");
    assert!(!made.join("below").exists() && !bundle.root().join(&bundle.id).exists());
}

/// A log-in session of the user's is in a cgroup of root's: from there nothing can be moved.
fn a_cgroup_that_cannot_be_entered_is_done_without() {
    let bundle = limited(of_user());
    let delegated = Delegated::new(&bundle);
    let path = format!("/delegated-{}/box", bundle.id);
    let bundle = bundle.set("/linux/cgroupsPath", path);
    bundle.write();
    let output = bundle.finish(as_user(&bundle.command(["run", &bundle.id])));
    refused(&output, &["/linux/resources/unified/cgroup.max.depth", "/sys/fs/cgroup/cgroup.procs", "systemd-run --user --scope"]);
    let bundle = bundle.remove("/linux/resources").args(["true"]);
    bundle.write();
    let output = bundle.finish(as_user(&bundle.command(["run", &bundle.id])));
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
    assert!(!delegated.directory.join("box").exists());
}

fn without_a_cgroup_the_rest_works() {
    let bundle = of_user().sh("trap 'echo one' USR1; sleep 1000 & while :; do wait; done");
    bundle.write();
    let call = |words: &[&str]| bundle.finish(as_user(&bundle.command(words)));
    let id = bundle.id.as_str();
    assert_eq!(call(&["run", "--detach", id]).status, 0);
    let pids = || serde_json::from_str::<Vec<i32>>(&call(&["ps", "--format", "json", id]).stdout).expect("a list of numbers");
    eventually("both are there", || pids().len() == 2);
    for command in [&["pause", id][..], &["events", "--stats", id], &["exec", "--cgroup", "x", id, "true"]] {
        let output = call(command);
        assert!(output.status != 0 && output.stderr.contains("no cgroup of its own"), "{command:?}: {output:?}");
        assert!(output.stderr.contains("systemd-run --user --scope"), "{command:?}: {output:?}");
    }
    assert_eq!(call(&["exec", id, "true"]).status, 0);
    // Both get it, and the one without a handler ends.
    assert_eq!(call(&["kill", "--all", id, "USR1"]).status, 0);
    eventually("the other is gone", || pids().len() == 1);
    assert_eq!(call(&["kill", "--all", id, "KILL"]).status, 0);
    eventually("stopped", || call(&["state", id]).stdout.contains("\"stopped\""));
    assert_eq!(call(&["delete", id]).status, 0);
}

fn further_processes_from_elsewhere_stay_outside() {
    let bundle = limited(of_user());
    let delegated = Delegated::new(&bundle);
    delegated.detach(&bundle);
    let command = bundle.command(["--debug", "exec", &bundle.id, "cat", "/proc/self/cgroup"]);
    let output = bundle.finish(as_user(&command));
    assert!(output.status == 0 && output.stdout.contains("0::/../../tests\n"), "{output:?}");
    assert!(output.stderr.contains("not in the container's cgroup"), "{output:?}");
    delegated.ok(&bundle, &["delete", "--force", &bundle.id]);
}

fn root_of_a_user_namespace_uses_it() {
    let bundle = limited(for_nested(of_user()));
    let delegated = Delegated::new(&bundle);
    bundle.write();
    let user = as_user(&bundle.command(["run", "--detach", &bundle.id]));
    let mut words = user.get_args();
    let mut command = Command::new("sh");
    command.args(["-ec", r#"echo 0 >"$0/cgroup.procs"; exec "$@""#]).arg(delegated.caller());
    command.arg("setpriv").args(words.by_ref().take(3)).args(["unshare", "-Ur"]).args(words).current_dir(bundle.dir());
    let output = bundle.finish(command);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
    let group = delegated.directory.join(&bundle.id);
    assert_eq!(fs::read_to_string(group.join("cgroup.max.depth")).expect("read the limit"), "5\n");
    delegated.ok(&bundle, &["delete", "--force", &bundle.id]);
    assert!(!group.exists());
}
