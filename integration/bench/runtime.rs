//! The runtimes.

use crate::bundles::Bundle;
use crate::measure;
use std::path::Path;
use std::process::Command;

/// A program with runc's command line, or the floor.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// What it is called in the report.
    pub name: String,
    program: String,
    /// Of the floor: the program for Docker's bundle.
    docker: Option<String>,
    root: String,
}

impl Runtime {
    /// `NAME=PATH`, or a path or name alone.
    pub fn named(word: &str) -> Self {
        let (name, program) = word.split_once('=').unwrap_or((word.rsplit('/').next().unwrap_or(word), word));
        let program = if program.contains('/') { program.into() } else { in_path(program).expect("a runtime in PATH") };
        Self { name: name.into(), program, docker: None, root: format!("{}/{name}", crate::stage::WORK) }
    }

    /// Runs from copies in `scratch` from now on. How a file came into the page cache counts: what a linker wrote lies there in
    /// small pieces, what was copied, as by an installation, in large ones, of which a page fault maps more.
    pub fn settle(&mut self, scratch: &Path) {
        let bin = scratch.join("bin");
        std::fs::create_dir_all(&bin).expect("make the directory for programs");
        for (program, name) in [(Some(&mut self.program), ""), (self.docker.as_mut(), "-docker")] {
            let Some(program) = program else { continue };
            let copy = bin.join(format!("{}{name}", self.name)).display().to_string();
            // What is there may run.
            match std::fs::remove_file(&copy) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("remove {copy}: {error}"),
                _ => std::fs::copy(&program, &copy).expect("copy a program"),
            };
            *program = copy;
        }
    }

    /// Ours, from the release build, and what else is here.
    pub fn all() -> Vec<Self> {
        let ours = crate::release("onggi").or_else(|| in_path("onggi"));
        let mut words: Vec<String> = ours.map(|path| format!("onggi={path}")).into_iter().collect();
        words.extend(["crun", "runc"].into_iter().filter(|name| in_path(name).is_some()).map(str::to_owned));
        words.iter().map(|word| Self::named(word)).collect()
    }

    /// The floor, compiled; `None` where it cannot be. `filter` is the program for Docker's bundle.
    pub fn floor(scratch: &Path, filter: &[u8]) -> Option<Self> {
        let data = scratch.join("filter");
        std::fs::write(&data, filter).expect("write the filter");
        let build = |name: &str, more: &[&str]| {
            let program = scratch.join(name);
            let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
            rustc.args(["--edition", "2024", "-O", "-C", "panic=abort", "-C", "relocation-model=static", "-C", "strip=symbols"]);
            for argument in ["-nostartfiles", "-nostdlib", "-static"] {
                rustc.arg("-C").arg(format!("link-arg={argument}"));
            }
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/bench/floor.rs");
            rustc.args(more).env("FLOOR_FILTER", &data).arg("-o").arg(&program).arg(source);
            rustc.status().is_ok_and(|status| status.success()).then(|| program.display().to_string())
        };
        let built = || Some((build("floor", &[])?, build("floor-docker", &["--cfg", "docker"])?));
        let (program, docker) = if cfg!(target_arch = "x86_64") { built() } else { None }?;
        let root = format!("{}/floor", crate::stage::WORK);
        std::fs::create_dir_all(&root).expect("make the floor's directory");
        Some(Self { name: "floor".into(), program, docker: Some(docker), root })
    }

    /// The file that runs.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Whether it is the floor.
    pub fn is_floor(&self) -> bool {
        self.docker.is_some()
    }

    fn words(&self, bundle: &Bundle, words: &[&str]) -> Vec<String> {
        let program = self.docker.as_ref().filter(|_| bundle.docker).unwrap_or(&self.program);
        let global = if self.is_floor() { vec![self.root.as_str()] } else { vec!["--root", self.root.as_str()] };
        [program.as_str()].into_iter().chain(global).chain(words.iter().copied()).map(str::to_owned).collect()
    }

    fn id(&self, id: &str) -> String {
        format!("{id}-{}", self.name)
    }

    fn made(&self, verb: &str, bundle: &Bundle, id: &str, payload: &str) -> Vec<String> {
        let id = self.id(id);
        let dir = bundle.dir(self, payload);
        if self.is_floor() {
            let (bin, argument) = (format!("/bin/{payload}"), if payload == "sleep" { &["1000"][..] } else { &[] });
            return self.words(bundle, &[&[verb, id.as_str(), &dir, &bin], argument].concat());
        }
        self.words(bundle, &[verb, "--bundle", &dir, "--pid-file", &self.pid_file(&id), &id])
    }

    /// Makes a container that runs `true` or `sleep`.
    pub fn create(&self, bundle: &Bundle, id: &str, payload: &str) -> Vec<String> {
        self.made("create", bundle, id, payload)
    }

    /// From create to delete.
    pub fn run(&self, bundle: &Bundle, id: &str, payload: &str) -> Vec<String> {
        self.made("run", bundle, id, payload)
    }

    /// One more process, `true`, in a container.
    pub fn exec(&self, bundle: &Bundle, id: &str) -> Vec<String> {
        self.words(bundle, &["exec", &self.id(id), "/bin/true"])
    }

    /// `start`, `state`, `kill` (CONT), `list` or `delete`.
    pub fn on(&self, bundle: &Bundle, verb: &str, id: &str) -> Vec<String> {
        let id = self.id(id);
        match verb {
            "list" => self.words(bundle, &["list"]),
            "kill" => self.words(bundle, &["kill", &id, "CONT"]),
            _ => self.words(bundle, &[verb, &id]),
        }
    }

    /// Ends a container, whatever it does.
    pub fn destroy(&self, bundle: &Bundle, id: &str) {
        let pid = self.pid(id);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::SIGKILL)
            .expect("kill a container");
        measure::reap(pid);
        let force = if self.is_floor() { &[][..] } else { &["--force"][..] };
        measure::run(&self.words(bundle, &[&["delete"], force, &[self.id(id).as_str()]].concat()));
    }

    fn pid_file(&self, id: &str) -> String {
        format!("{}/{id}.pid", crate::stage::WORK)
    }

    /// The init of a container, if it has been made.
    pub fn pid_if_made(&self, id: &str) -> Option<u32> {
        let id = self.id(id);
        if self.is_floor() {
            let bytes = std::fs::read(format!("{}/{id}/pid", self.root)).ok()?;
            return Some(u32::from_ne_bytes(bytes.as_slice().try_into().ok()?));
        }
        std::fs::read_to_string(self.pid_file(&id)).ok()?.trim().parse().ok()
    }

    /// The init of a container.
    pub fn pid(&self, id: &str) -> u32 {
        self.pid_if_made(id).unwrap_or_else(|| panic!("{}: no pid of {id}", self.name))
    }

    /// Whether it can run the bundle as it is written now.
    pub fn tries(&self, bundle: &Bundle) -> bool {
        let words = self.run(bundle, "try", "true");
        let (program, arguments) = words.split_first().expect("a command");
        let output = Command::new(program).args(arguments).stdin(std::process::Stdio::null()).output().expect("start a runtime");
        if !output.status.success() {
            eprintln!("{}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
            // What it left, if anything.
            let _ = Command::new(program).args(["--root", &self.root, "delete", "--force", &self.id("try")]).output();
        }
        output.status.success()
    }
}

/// Where a program is.
pub fn in_path(name: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').map(|dir| format!("{dir}/{name}")).find(|file| Path::new(file).is_file())
}
