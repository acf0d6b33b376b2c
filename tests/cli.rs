//! The program by its command line alone: help, wrong arguments, what engines send and read. No root needed.

#[path = "cli/argv.rs"]
mod argv;
#[path = "cli/features.rs"]
mod features;
#[path = "cli/log.rs"]
mod log;
#[path = "cli/packaging.rs"]
mod packaging;
#[path = "cli/seal.rs"]
mod seal;
#[path = "cli/spec.rs"]
mod spec;
#[path = "cli/usage.rs"]
mod usage;

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a run of the program left.
#[derive(Debug)]
struct Ran {
    status: i32,
    stdout: String,
    stderr: String,
}

/// Runs the program with the words of `line`.
fn onggi(line: &str) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_onggi")).args(line.split_whitespace()))
}

fn run(command: &mut Command) -> Ran {
    let out = command.output().unwrap();
    Ran {
        status: out.status.code().unwrap(),
        stdout: String::from_utf8(out.stdout).unwrap(),
        stderr: String::from_utf8(out.stderr).unwrap(),
    }
}

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
