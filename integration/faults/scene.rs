//! A bundle, whoever calls the runtime on it, and a cgroup that all of it runs in: what one point of a sweep needs.

use super::driver::{Report, trace};
use super::words;
use crate::bundle::{Bundle, Output, eventually};
use crate::hostdelta::{CaseGroup, Snapshot};
use crate::rootless::{as_id, give_bundle};
use crate::stage::WORK;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A user with subordinate ids, whom no machine has, and no other test.
const USER: u32 = 54322;
const FIRST_ID: u32 = 300_000;
/// What the programs of the sweeps call.
const PROGRAMS: [&str; 10] = ["cat", "cut", "grep", "mv", "sh", "sleep", "stat", "touch", "true", "ls"];

/// Who calls the runtime.
#[derive(Clone, Copy, PartialEq)]
pub enum Who {
    Root,
    /// With a user namespace by newuidmap, and a cgroup that was delegated.
    User,
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Who::Root => "root",
            Who::User => "user",
        }
    }
}

pub struct Scene {
    pub bundle: Bundle,
    pub before: Snapshot,
    pub who: Who,
    group: CaseGroup,
    caller: PathBuf,
    /// Takes terminals: they stay in its queue.
    _console: UnixListener,
}

/// A bundle on which all that confines is asked for, as far as the caller can have it.
pub fn confined(who: Who) -> Bundle {
    let bundle = match who {
        Who::Root => Bundle::with(&PROGRAMS),
        Who::User => {
            name_user();
            let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}, {"containerID": 1, "hostID": FIRST_ID, "size": 10}]);
            give_bundle(Bundle::with(&PROGRAMS), USER).set("/linux/uidMappings", map(USER)).set("/linux/gidMappings", map(USER))
        }
    };
    let out = bundle.home.join("out");
    fs::create_dir(&out).expect("make a directory");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).expect("open it for all");
    let bundle = bundle
        .mount("/out", "bind", &out.display().to_string(), &["bind", "rw"])
        .mount("/in", "bind", "/usr", &["rbind", "ro", "nosuid", "nodev"])
        .mount("/scratch", "tmpfs", "tmpfs", &["size=64k", "mode=700"])
        .set("/root/readonly", true)
        .set("/process/oomScoreAdj", 700)
        .set("/process/user/umask", 0o27)
        .set("/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "77"}))
        .set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["swapon", "reboot"], "action": "SCMP_ACT_ERRNO"}]}),
        );
    for at in ["out", "in", "scratch"] {
        fs::create_dir_all(bundle.rootfs().join(at)).expect("make a mount point");
    }
    let bundle = ["cgroup", "network"].into_iter().fold(bundle, |bundle, kind| {
        let list = bundle.config["linux"]["namespaces"].as_array().expect("a list");
        if list.iter().any(|namespace| namespace["type"] == kind) { bundle } else { bundle.namespace(kind) }
    });
    let groups = if who == Who::Root { json!([5, 7]) } else { json!([3]) };
    bundle.set("/process/user/additionalGids", groups)
}

/// The user's name and ids, once for all tests: others look for neither.
fn name_user() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let script = r#"
            cp /etc/passwd passwd && echo "sweeper:x:$0:$0::/:/bin/sh" >>passwd && mount --bind passwd /etc/passwd
            for file in subuid subgid; do
                cp /etc/$file $file && echo "sweeper:$1:65536" >>$file && mount --bind $file /etc/$file
            done"#;
        let mut shell = Command::new("sh");
        shell.args(["-ec", script, &USER.to_string(), &FIRST_ID.to_string()]).current_dir(WORK);
        assert!(shell.status().expect("run a shell").success(), "/etc/subuid (package uidmap) cannot be extended");
    });
}

impl Scene {
    pub fn new(who: Who, bundle: Bundle) -> Scene {
        let group = CaseGroup::new(&bundle);
        let console = UnixListener::bind(bundle.home.join("console")).expect("make a socket");
        let caller = match who {
            Who::Root => group.path().to_owned(),
            Who::User => {
                chown(bundle.home.join("console"), Some(USER), Some(USER)).expect("give the socket away");
                group.delegated(USER)
            }
        };
        let before = Snapshot::of(&bundle);
        bundle.write();
        Scene { bundle, before, who, group, caller, _console: console }
    }

    /// The runtime with these arguments, `ID` and `HOME` among them standing for the container's id and the test's directory.
    pub fn command(&self, args: &[&str]) -> Command {
        let home = self.bundle.home.display().to_string();
        let args: Vec<String> = args.iter().map(|arg| arg.replace("HOME", &home).replace("ID", &self.bundle.id)).collect();
        let command = self.bundle.command(&args);
        match self.who {
            Who::Root => command,
            Who::User => as_id(&command, USER),
        }
    }

    /// Calls it from the cgroup of the scene.
    pub fn call(&self, args: &[&str]) -> Output {
        let command = self.command(args);
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"echo 0 >"$0/cgroup.procs"; exec "$@""#]).arg(&self.caller);
        shell.arg(command.get_program()).args(command.get_args()).current_dir(self.bundle.dir());
        shell.env_remove("XDG_RUNTIME_DIR").stdin(std::process::Stdio::null());
        self.bundle.finish(shell)
    }

    #[track_caller]
    pub fn ok(&self, args: &[&str]) {
        let output = self.call(args);
        assert!(output.status == 0 && output.stderr.is_empty(), "{args:?}: {output:?}");
    }

    /// Calls it under the tracer; `None` if it hangs.
    pub fn trace(&self, mode: &str, at: u64, args: &[&str], then: Option<&[&str]>, limit: Duration) -> Option<Report> {
        let command = words(&self.command(args));
        let then = then.map(|then| words(&self.command(then)).join("\n"));
        let program = match self.who {
            Who::Root => None,
            Who::User => command.iter().find(|word| word.contains("/for-users/")).map(Path::new),
        };
        // A helper that is killed is of interest; how it takes its own errors is not ours.
        let own = mode.contains("errno");
        trace(&self.bundle, &self.caller, &super::driver::Order { mode, at, command: &command, program, own, then, limit })
    }

    /// Brings the container to where a command applies.
    pub fn bring(&self, to: To) {
        if to == To::Nothing {
            return;
        }
        self.ok(&["create", "ID"]);
        if to != To::Created {
            self.ok(&["start", "ID"]);
        }
        match to {
            To::Stopped => {
                self.ok(&["kill", "ID", "KILL"]);
                eventually("stopped", || self.status() == "stopped");
            }
            To::Paused => self.ok(&["pause", "ID"]),
            _ => {}
        }
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().to_owned()
    }

    pub fn state(&self) -> Value {
        let state = self.call(&["state", "ID"]);
        serde_json::from_str(&state.stdout).unwrap_or(Value::Null)
    }

    /// A file of the container's cgroup.
    pub fn limit(&self, name: &str) -> String {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", self.state()["pid"])).unwrap_or_default();
        let place = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
        fs::read_to_string(Path::new("/sys/fs/cgroup").join(place).join(name)).unwrap_or_default()
    }

    /// Waits for a second at most until it holds.
    pub fn soon(&self, holds: impl FnMut(&Scene) -> bool) -> bool {
        self.within(Duration::from_secs(1), holds)
    }

    /// The same for another time.
    pub fn within(&self, limit: Duration, mut holds: impl FnMut(&Scene) -> bool) -> bool {
        let until = Instant::now() + limit;
        loop {
            if holds(self) {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `delete --force`, after which nothing may be left.
    pub fn clear(&self, wrong: &mut Vec<String>) {
        let delete = self.call(&["delete", "--force", "ID"]);
        if delete.status != 0 {
            wrong.push(format!("delete --force: {} {}", delete.status, delete.stderr.trim()));
        }
        wrong.extend(self.before.delta().into_iter().map(|line| format!("after delete: {line}")));
        self.mop_up(wrong);
    }

    /// Removes what a failed point has left: it is told, and the next is to begin clean.
    pub fn mop_up(&self, wrong: &[String]) {
        if !wrong.is_empty() {
            self.group.sweep_up(&self.bundle);
            let _ = fs::remove_dir_all(self.bundle.root());
        }
    }
}

/// Where a command finds the container.
#[derive(Clone, Copy, PartialEq)]
pub enum To {
    Nothing,
    Created,
    Running,
    Paused,
    Stopped,
}
