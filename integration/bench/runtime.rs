//! The runtimes, and the bundles that they are given.

use crate::measure::{self, Sample};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program with runc's command line, or the floor.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// What it is called in the report.
    pub name: String,
    program: String,
    root: String,
    floor: bool,
}

impl Runtime {
    /// `NAME=PATH`, or a path or name alone.
    pub fn named(word: &str) -> Self {
        let (name, program) = word.split_once('=').unwrap_or((word.rsplit('/').next().unwrap_or(word), word));
        let program = if program.contains('/') { program.into() } else { in_path(program).expect("a runtime in PATH") };
        Self { name: name.into(), program, root: format!("{}/{name}", crate::stage::WORK), floor: false }
    }

    /// Ours, from the release build, and what else is here.
    pub fn all() -> Vec<Self> {
        let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
        let ours = format!("{target}/release/onggi");
        let ours = if Path::new(&ours).exists() { std::fs::canonicalize(ours).ok() } else { None };
        let ours = ours.and_then(|p| p.to_str().map(str::to_owned)).or_else(|| in_path("onggi"));
        let mut words: Vec<String> = ours.map(|path| format!("onggi={path}")).into_iter().collect();
        words.extend(["crun", "runc"].into_iter().filter(|name| in_path(name).is_some()).map(str::to_owned));
        words.iter().map(|word| Self::named(word)).collect()
    }

    /// The floor, compiled; `None` where it cannot be.
    pub fn floor(scratch: &Path) -> Option<Self> {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/bench/floor.rs");
        let program = scratch.join("floor");
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--edition", "2024", "-O", "-C", "panic=abort", "-C", "relocation-model=static", "-C", "strip=symbols"]);
        for argument in ["-nostartfiles", "-nostdlib", "-static"] {
            rustc.arg("-C").arg(format!("link-arg={argument}"));
        }
        let built = cfg!(target_arch = "x86_64") && rustc.arg("-o").arg(&program).arg(source).status().is_ok_and(|s| s.success());
        let root = format!("{}/floor", crate::stage::WORK);
        std::fs::create_dir_all(&root).expect("make the floor's directory");
        built.then(|| Self { name: "floor".into(), program: program.display().to_string(), root, floor: true })
    }

    /// The file that runs.
    pub fn program(&self) -> &str {
        &self.program
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let global = if self.floor { vec![self.root.as_str()] } else { vec!["--root", self.root.as_str()] };
        [self.program.as_str()].into_iter().chain(global).chain(words.iter().copied()).map(str::to_owned).collect()
    }

    fn made(&self, verb: &str, bundle: &Bundle, id: &str, payload: &str) -> Vec<String> {
        let id = format!("{id}-{}", self.name);
        let dir = bundle.dir(payload);
        if self.floor {
            let (bin, argument) = (format!("/bin/{payload}"), if payload == "sleep" { &["1000"][..] } else { &[] });
            return self.words(&[&[verb, id.as_str(), &dir, &bin], argument].concat());
        }
        self.words(&[verb, "--bundle", &dir, "--pid-file", &self.pid_file(&id), &id])
    }

    /// Makes a container that runs `true` or `sleep`.
    pub fn create(&self, bundle: &Bundle, id: &str, payload: &str) -> Vec<String> {
        self.made("create", bundle, id, payload)
    }

    /// From create to delete.
    pub fn run(&self, bundle: &Bundle, id: &str, payload: &str) -> Vec<String> {
        self.made("run", bundle, id, payload)
    }

    /// One more process in a container.
    pub fn exec(&self, id: &str, payload: &str) -> Vec<String> {
        self.words(&["exec", &format!("{id}-{}", self.name), &format!("/bin/{payload}")])
    }

    /// `start`, `state`, `kill` (CONT), `list` or `delete`.
    pub fn on(&self, verb: &str, id: &str) -> Vec<String> {
        let id = format!("{id}-{}", self.name);
        match verb {
            "list" => self.words(&["list"]),
            "kill" => self.words(&["kill", &id, "CONT"]),
            _ => self.words(&[verb, &id]),
        }
    }

    /// Ends a container, whatever it does.
    pub fn destroy(&self, id: &str) {
        let named = format!("{id}-{}", self.name);
        let force = if self.floor { &[][..] } else { &["--force"][..] };
        self.must(&self.words(&[&["delete"], force, &[named.as_str()]].concat()));
    }

    fn pid_file(&self, id: &str) -> String {
        format!("{}/{id}.pid", crate::stage::WORK)
    }

    /// The init of a container.
    pub fn pid(&self, id: &str) -> u32 {
        let id = format!("{id}-{}", self.name);
        if self.floor {
            let bytes = std::fs::read(format!("{}/{id}/pid", self.root)).expect("read the floor's pid file");
            return u32::from_ne_bytes(bytes.as_slice().try_into().expect("four bytes"));
        }
        std::fs::read_to_string(self.pid_file(&id)).expect("read the pid file").trim().parse().expect("a pid")
    }

    /// Runs a command of its own, timed.
    pub fn timed(&self, words: &[String]) -> Sample {
        measure::timed(words)
    }

    /// Runs a command of its own.
    pub fn must(&self, words: &[String]) {
        measure::timed(words);
    }

    /// Whether it can run the bundle.
    fn tries(&self, bundle: &Bundle) -> bool {
        let words = self.run(bundle, "try", "true");
        let (program, arguments) = words.split_first().expect("a command");
        let output = Command::new(program).args(arguments).stdin(std::process::Stdio::null()).output().expect("start a runtime");
        if !output.status.success() {
            eprintln!("{}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
            // What it left, if anything.
            let _ =
                Command::new(program).args(["--root", &self.root, "delete", "--force", &format!("try-{}", self.name)]).output();
        }
        output.status.success()
    }
}

fn in_path(name: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').map(|dir| format!("{dir}/{name}")).find(|file| Path::new(file).is_file())
}

/// Two directories with the same configuration but for the program: `true` and `sleep`.
pub struct Bundle {
    home: PathBuf,
    able: BTreeSet<String>,
}

impl Bundle {
    fn write(name: &str, mut config: Value) -> Self {
        let home = Path::new(crate::stage::WORK).join(name);
        for payload in ["true", "sleep"] {
            let rootfs = home.join(payload).join("rootfs");
            std::fs::create_dir_all(rootfs.join("bin")).expect("make a rootfs");
            let busybox = in_path("busybox").expect("busybox (Debian: busybox-static)");
            std::fs::copy(busybox, rootfs.join("bin/busybox")).expect("copy busybox");
            for link in ["true", "sleep"] {
                let _there = std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(link));
            }
            config["process"]["args"] = if payload == "true" { json!(["/bin/true"]) } else { json!(["/bin/sleep", "1000"]) };
            std::fs::write(home.join(payload).join("config.json"), config.to_string()).expect("write config.json");
        }
        Self { home, able: BTreeSet::new() }
    }

    fn dir(&self, payload: &str) -> String {
        self.home.join(payload).display().to_string()
    }

    /// Whether the runtime has run it.
    pub fn suits(&self, runtime: &Runtime) -> bool {
        self.able.contains(&runtime.name)
    }

    /// What the first runtime's `spec` writes. Runtimes that cannot run it are left out. Debian 12's crun refuses versions
    /// after 1.0, and cannot load device programs where it may not raise a limit: then nobody loads one.
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
        let mut bundle = Self::write("plain", config.clone());
        if !runtimes.iter().all(|r| r.tries(&bundle)) {
            notes.push("no device rules: not every runtime could load them here (the floor does)".into());
            config["linux"].as_object_mut().expect("linux").remove("resources");
            bundle = Self::write("plain", config);
        }
        runtimes.retain(|runtime| {
            let able = runtime.tries(&bundle);
            if !able {
                notes.push(format!("{} is left out: it cannot run the default bundle here", runtime.name));
            }
            able
        });
        bundle.able = runtimes.iter().map(|r| r.name.clone()).collect();
        bundle
    }

    /// A container as Docker asks for it, with its seccomp profile. The floor has none of that.
    pub fn docker(runtimes: &[Runtime], notes: &[String]) -> Self {
        let captured = include_str!("../../tests/data/bundles/docker-01-sh-c-echo-hi-exit-7.json");
        let mut config: Value = serde_json::from_str(captured).expect("parse the captured config.json");
        config["ociVersion"] = json!("1.0.2");
        config["root"] = json!({"path": "rootfs"});
        let config = config.as_object_mut().expect("an object");
        config.remove("hooks");
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|m| m["type"] != "bind");
        let linux = config["linux"].as_object_mut().expect("linux");
        linux.remove("cgroupsPath");
        if notes.iter().any(|note| note.starts_with("no device rules")) {
            linux.remove("resources");
        }
        let mut bundle = Self::write("docker", Value::Object(config.clone()));
        let able = runtimes.iter().filter(|r| !r.floor && r.tries(&bundle)).map(|r| r.name.clone());
        bundle.able = able.collect();
        bundle
    }
}
