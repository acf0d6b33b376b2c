//! A case's own place: a name that nothing else has, a directory, and a shell that knows them.

use crate::stage::{shell_status, vm};
use crate::system;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

/// What every script begins with.
const PRELUDE: &str = include_str!("prelude.sh");

/// Seconds that a script may take.
pub const SCRIPT: u32 = 100;

/// So many seconds, or what becomes of them in the emulator. For limits that nothing reaches unless it hangs.
pub fn patience(seconds: u32) -> u32 {
    if vm() { seconds * 6 } else { seconds }
}

/// Given to each case.
pub struct Here {
    /// A name for containers, networks and so on; more are made by appending to it.
    pub name: String,
    /// A directory that is not on a shared mount, removed with the system.
    pub dir: PathBuf,
}

/// How a script ended, and what it wrote.
pub struct Ran {
    script: String,
    /// As a shell gives it; 124 if it took too long.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Here {
    pub fn new(engine: &str, case: &str) -> Here {
        let name = format!("{engine}-{}", case.replace('_', "-"));
        let dir = PathBuf::from("/var/lib/engines").join(&name);
        fs::create_dir_all(&dir).expect("make the directory of a case");
        Here { name, dir }
    }

    /// Runs a script of bash with the functions of `prelude.sh`. It ends at the first command that fails.
    ///
    /// Nothing that it leaves running holds it up: its output goes to files.
    pub fn sh(&self, script: &str) -> Ran {
        let [text, stdout, stderr] = ["script", "stdout", "stderr"].map(|name| self.dir.join(name));
        // Not as an argument, where a search for a process by its arguments would find it.
        fs::write(&text, format!("set -euo pipefail\n{PRELUDE}\n{script}\n")).expect("write the script");
        let status = Command::new("timeout")
            .args(["-k", "5", &patience(SCRIPT).to_string(), "bash"])
            .arg(&text)
            .env_clear()
            .envs(system::environment())
            .env("NAME", &self.name)
            .env("DIR", &self.dir)
            .current_dir(&self.dir)
            .stdin(File::open("/dev/null").expect("open /dev/null"))
            .stdout(File::create(&stdout).expect("make a file"))
            .stderr(File::create(&stderr).expect("make a file"))
            .status()
            .expect("start bash");
        let read = |path| String::from_utf8_lossy(&fs::read(path).expect("read the output")).replace('\r', "");
        Ran { script: script.into(), status: shell_status(&status), stdout: read(&stdout), stderr: read(&stderr) }
    }
}

impl Ran {
    #[track_caller]
    pub fn ok(self) -> Ran {
        self.exits(0)
    }

    #[track_caller]
    pub fn exits(self, status: i32) -> Ran {
        assert!(self.status == status, "not status {status}: {self}");
        self
    }

    /// Standard output contains the text.
    #[track_caller]
    pub fn prints(self, text: &str) -> Ran {
        assert!(self.stdout.contains(text), "does not print {text:?}: {self}");
        self
    }

    #[track_caller]
    pub fn does_not_print(self, text: &str) -> Ran {
        assert!(!self.stdout.contains(text), "prints {text:?}: {self}");
        self
    }

    /// Standard output without spaces at its ends is the text.
    #[track_caller]
    pub fn prints_just(self, text: &str) -> Ran {
        assert!(self.stdout.trim() == text, "does not print just {text:?}: {self}");
        self
    }

    /// Standard error contains the text.
    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        assert!(self.stderr.contains(text), "does not say {text:?}: {self}");
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "\n{}\n  status {}\n  stdout {}\n  stderr {}", self.script.trim(), self.status, self.stdout, self.stderr)
    }
}
