//! The bundles that the runtimes are given.

use crate::runtime::{Runtime, in_path};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Two directories with the same configuration but for the program, `true` and `sleep`; and two more without device rules.
pub struct Bundle {
    /// What is added to the names of phases.
    pub label: &'static str,
    /// Whether it is Docker's.
    pub docker: bool,
    home: PathBuf,
    ruleless: BTreeSet<String>,
}

impl Bundle {
    /// Writes them. Runtimes that cannot run the bundle here are taken off the list. One that can without device rules stays,
    /// and does less than the others: Debian 12's crun cannot load device programs where it may not raise a limit.
    fn write(name: &str, docker: bool, mut config: Value, runtimes: &mut Vec<Runtime>, notes: &mut Vec<String>) -> Self {
        let label = if docker { ", Docker's bundle" } else { "" };
        let mut bundle = Self { label, docker, home: Path::new(crate::stage::WORK).join(name), ruleless: BTreeSet::new() };
        for (payload, args) in [("true", json!(["/bin/true"])), ("sleep", json!(["/bin/sleep", "1000"]))] {
            config["process"]["args"] = args;
            let dir = bundle.home.join(payload);
            write_dir(&dir, &config);
            let mut less = config.clone();
            less["linux"].as_object_mut().expect("linux").remove("resources");
            write_dir(&dir.join("ruleless"), &less);
        }
        runtimes.retain(|runtime| {
            if bundle.runs(runtime) {
                return true;
            }
            bundle.ruleless.insert(runtime.name.clone());
            let able = bundle.runs(runtime);
            let what =
                if able { "has no device rules in it: it cannot load them here" } else { "is left out: it cannot run it here" };
            notes.push(format!("{} bundle: {} {what}", if docker { "Docker's" } else { "default" }, runtime.name));
            able
        });
        bundle
    }

    fn runs(&self, runtime: &Runtime) -> bool {
        runtime.is_floor() || runtime.tries(self)
    }

    /// The directory for that runtime.
    pub fn dir(&self, runtime: &Runtime, payload: &str) -> String {
        let dir = self.home.join(payload);
        if self.ruleless.contains(&runtime.name) { dir.join("ruleless") } else { dir }.display().to_string()
    }

    /// The configuration with everything.
    pub fn config(&self) -> PathBuf {
        self.home.join("true/config.json")
    }

    /// What the first runtime's `spec` writes. Debian 12's crun refuses versions after 1.0.
    pub fn plain(runtimes: &mut Vec<Runtime>, notes: &mut Vec<String>) -> Self {
        let dir = format!("{}/spec", crate::stage::WORK);
        std::fs::create_dir_all(&dir).expect("make a directory");
        let first = runtimes.first().expect("a runtime");
        let made = Command::new(first.program()).args(["spec", "--bundle", &dir]).status();
        assert!(made.is_ok_and(|status| status.success()), "{} spec", first.name);
        let text = std::fs::read(format!("{dir}/config.json")).expect("read config.json");
        let mut config: Value = serde_json::from_slice(&text).expect("parse config.json");
        config["ociVersion"] = json!("1.0.2");
        config["process"]["terminal"] = json!(false);
        Self::write("plain", false, config, runtimes, notes)
    }

    /// A container as Docker asks for it, without what only its own host has.
    pub fn docker(runtimes: &mut Vec<Runtime>, notes: &mut Vec<String>) -> Self {
        Self::write("docker", true, docker(), runtimes, notes)
    }
}

/// Its configuration: a captured one, with its seccomp profile; on a host with cgroup v2 alone, Docker asks for a cgroup
/// namespace too.
pub fn docker() -> Value {
    let captured = include_str!("../../tests/data/bundles/docker-01-sh-c-echo-hi-exit-7.json");
    let mut config: Value = serde_json::from_str(captured).expect("parse the captured config.json");
    config["ociVersion"] = json!("1.0.2");
    config["root"] = json!({"path": "rootfs"});
    config.as_object_mut().expect("an object").remove("hooks");
    config["mounts"].as_array_mut().expect("mounts").retain(|m| m["type"] != "bind");
    let linux = config["linux"].as_object_mut().expect("linux");
    linux.remove("cgroupsPath");
    linux["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "cgroup"}));
    config
}

fn write_dir(dir: &Path, config: &Value) {
    let bin = dir.join("rootfs/bin");
    std::fs::create_dir_all(&bin).expect("make a rootfs");
    let busybox = in_path("busybox").expect("busybox (Debian: busybox-static)");
    std::fs::copy(busybox, bin.join("busybox")).expect("copy busybox");
    for link in ["true", "sleep"] {
        std::os::unix::fs::symlink("busybox", bin.join(link)).expect("link a program");
    }
    std::fs::write(dir.join("config.json"), config.to_string()).expect("write config.json");
}
