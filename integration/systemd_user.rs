//! Containers in units of an ordinary user's systemd, and what a user is told who has none.

use crate::bundle::{Bundle, Output, eventually};
use crate::case;
use crate::case::Case;
use crate::systemd::{gone, group, read, scope, systemctl, unified};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    let words = "words its errors otherwise";
    let cases = vec![
        case!(a_user_has_scopes).except("runc", "executes outside of the scope").except("crun", "puts it into a cgroup below"),
        case!(a_user_s_limits_are_delegated).except("crun", "in parts"),
        case!(a_user_without_a_session_is_told).ours(words),
        case!(a_bus_without_systemd_is_told).ours(words),
    ];
    cases.into_iter().map(|case| case.systemd()).collect()
}

const USER: &str = "onggi-test";

/// A user with a session that lingers: uid, and the environment of the session.
fn user() -> (u32, String) {
    if !Command::new("id").arg(USER).output().expect("run id").status.success() {
        let made = Command::new("useradd").args(["--create-home", USER]).status().expect("run useradd");
        assert!(made.success());
        assert!(Command::new("loginctl").args(["enable-linger", USER]).status().expect("run loginctl").success());
    }
    let uid = String::from_utf8_lossy(&Command::new("id").args(["-u", USER]).output().expect("run id").stdout).trim().to_owned();
    let runtime = format!("/run/user/{uid}");
    for _ in 0..600 {
        if Path::new(&runtime).join("systemd/private").exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    (uid.parse().expect("a number"), runtime)
}

/// The same command as that user, with nothing but these in the environment.
fn as_user(command: &Command, uid: u32, environment: &[(&str, &str)]) -> Command {
    let mut user = Command::new("setpriv");
    user.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into()]);
    user.arg("/usr/local/bin/onggi-under-test").args(command.get_args()).env_clear().envs(environment.iter().copied());
    user.current_dir(command.get_current_dir().expect("a directory"));
    user
}

/// A bundle of the user's, without root in it.
fn of_user(uid: u32) -> Bundle {
    static COPIED: std::sync::Once = std::sync::Once::new();
    COPIED.call_once(|| {
        let found = crate::bundle::find_program(&crate::case::runtime()).expect("find the runtime");
        // By another process: one that is forked here meanwhile would hold the file open for writing (ETXTBSY).
        let copy = Command::new("cp").arg(found).arg("/usr/local/bin/onggi-under-test").status().expect("run cp");
        assert!(copy.success());
    });
    let map = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
    let bundle = Bundle::new().args(["sleep", "10000"]).namespace("user").namespace("cgroup");
    let bundle = bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let path = format!("user.slice:test:{}", bundle.id);
    let bundle = bundle.set("/linux/cgroupsPath", path).set("/linux/resources", json!({}));
    let bundle = bundle.set("/mounts", json!([{"destination": "/proc", "type": "proc", "source": "proc"}]));
    let give = Command::new("chown").args(["-R", "--no-dereference", USER]).arg(&bundle.home).status().expect("run chown");
    assert!(give.success());
    bundle
}

/// A user's calls of the runtime with one bundle, with nothing but the session in the environment.
struct Session<'a> {
    bundle: &'a Bundle,
    uid: u32,
    runtime: String,
}

impl Session<'_> {
    fn call(&self, args: &[&str]) -> Output {
        let session = [("XDG_RUNTIME_DIR", self.runtime.as_str())];
        self.bundle.finish(as_user(&self.bundle.command(args), self.uid, &session))
    }

    /// The same, which must succeed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.call(args);
        assert!(output.status == 0 && output.stderr.is_empty(), "{args:?}: {output:?}");
        output.stdout
    }

    /// Runs it in the background. Where it is.
    fn detach(&self) -> std::path::PathBuf {
        self.bundle.write();
        let pid_file = self.bundle.home.join("pid").display().to_string();
        self.ok(&["--systemd-cgroup", "run", "--detach", "--pid-file", &pid_file, &self.bundle.id]);
        let whole = group(fs::read_to_string(&pid_file).expect("read the pid file").parse().expect("a number"));
        let manager = format!("/sys/fs/cgroup/user.slice/user-{0}.slice/user@{0}.service", self.uid);
        assert_eq!(whole, Path::new(&manager).join("user.slice").join(scope(self.bundle)));
        whole
    }
}

fn a_user_has_scopes() {
    let (uid, runtime) = user();
    let bundle = of_user(uid);
    let session = Session { bundle: &bundle, uid, runtime };
    let whole = session.detach();
    // Moved there by systemd: this test is not in the user's part of the tree.
    assert_eq!(unified(&session.ok(&["exec", &bundle.id, "cat", "/proc/self/cgroup"])), "/");
    session.ok(&["exec", "--detach", &bundle.id, "sleep", "10001"]);
    assert_eq!(read(&whole, "cgroup.procs").lines().count(), 2);
    session.ok(&["pause", &bundle.id]);
    assert!(session.ok(&["state", &bundle.id]).contains("paused"));
    session.ok(&["resume", &bundle.id]);
    session.ok(&["kill", &bundle.id, "KILL"]);
    eventually("stopped", || session.ok(&["state", &bundle.id]).contains("stopped"));
    session.ok(&["delete", &bundle.id]);
    gone(&bundle, &whole);
    let again = session.detach();
    session.ok(&["delete", "--force", &bundle.id]);
    gone(&bundle, &again);
}

fn a_user_s_limits_are_delegated() {
    let (uid, runtime) = user();
    let bundle = of_user(uid)
        .set("/linux/resources/memory", json!({"limit": 67108864, "swap": 67108864}))
        .set("/linux/resources/pids", json!({"limit": 30}))
        .set("/linux/resources/cpu", json!({"shares": 512, "quota": 50000}));
    let session = Session { bundle: &bundle, uid, runtime };
    let whole = session.detach();
    let files = |names: &[&str]| names.iter().map(|name| read(&whole, name)).collect::<Vec<_>>();
    const FILES: [&str; 5] = ["memory.max", "memory.swap.max", "pids.max", "cpu.weight", "cpu.max"];
    assert_eq!(files(&FILES), ["67108864", "0", "30", "59", "50000 100000"]);
    session.ok(&["update", "--pids-limit", "31", "--memory", "50331648", &bundle.id]);
    for _ in 0..3 {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), "--clear-groups".into(), "systemctl".into(), "--user".into()]);
        let command = command.arg("daemon-reload").env("XDG_RUNTIME_DIR", &session.runtime);
        assert!(command.status().expect("run systemctl").success());
        systemctl(&["daemon-reload"]);
    }
    assert_eq!(files(&FILES), ["50331648", "0", "31", "59", "50000 100000"]);
    session.ok(&["delete", "--force", &bundle.id]);
    gone(&bundle, &whole);
}

fn a_user_without_a_session_is_told() {
    let (uid, _) = user();
    let bundle = of_user(uid);
    bundle.write();
    let run = |environment: &[(&str, &str)]| {
        let output = bundle.finish(as_user(&bundle.command(["--systemd-cgroup", "run", &bundle.id]), uid, environment));
        assert_eq!((output.status, bundle.root().join(&bundle.id).exists()), (1, false), "{output:?}");
        output.stderr
    };
    let nothing = run(&[]);
    assert!(nothing.contains("XDG_RUNTIME_DIR") && nothing.contains("loginctl enable-linger"), "{nothing}");
    let elsewhere = run(&[("XDG_RUNTIME_DIR", "/run/nowhere")]);
    assert!(elsewhere.contains("/run/nowhere/") && elsewhere.contains("loginctl"), "{elsewhere}");
    // The system's bus lets everybody in, and its systemd asks polkit.
    let system = run(&[("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/dbus/system_bus_socket")]);
    assert!(system.contains("systemd says: ") && system.contains("your own session"), "{system}");
}

/// A bus that answers, with nobody on it.
fn a_bus_without_systemd_is_told() {
    let (uid, _) = user();
    let bundle = of_user(uid);
    bundle.write();
    let address = format!("unix:path={}/bus", bundle.home.display());
    let mut daemon = Command::new("setpriv");
    daemon.args([format!("--reuid={uid}"), "--clear-groups".into(), "dbus-daemon".into(), "--session".into(), "--nofork".into()]);
    let mut daemon = daemon.arg(format!("--address={address}")).spawn().expect("start dbus-daemon");
    eventually("listens", || bundle.home.join("bus").exists());
    let environment = [("DBUS_SESSION_BUS_ADDRESS", address.as_str())];
    let output = bundle.finish(as_user(&bundle.command(["--systemd-cgroup", "run", &bundle.id]), uid, &environment));
    daemon.kill().expect("end dbus-daemon");
    daemon.wait().expect("reap it");
    assert_eq!(output.status, 1, "{output:?}");
    assert!(output.stderr.contains("systemd says: ") && output.stderr.contains("loginctl"), "{output:?}");
}
