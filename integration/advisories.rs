//! What was published of container runtimes and their neighbours, a test or more for each: faults that others had, which must
//! not come, or come back. A case's name begins with the number of its kind of fault, and the name under which one was published.
//!
//! `guards.tsv` lists what is taken out of the program to see a test fail, for each of them; `make guards` takes out one after
//! another. What an attacker exchanges meanwhile, at each system call, is tried by `faults`.

mod credentials;
mod descriptors;
mod environment;
mod kernel;
mod names;
mod processes;
mod values;

use crate::bundle::Bundle;
use crate::case::Case;
use crate::stage::this_program_as;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde_json::Value;
use std::os::fd::IntoRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

pub fn cases() -> Vec<Case> {
    [
        names::cases(),
        kernel::cases(),
        descriptors::cases(),
        processes::cases(),
        credentials::cases(),
        environment::cases(),
        values::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// `command`, called by somebody who leaves a directory open at each number from 3 to 20, every other one for reading.
fn with_leaks(command: &Command, directory: &Path) -> Command {
    let mut leaky = this_program_as("leaky");
    leaky.arg(directory).arg(command.get_program()).args(command.get_args());
    if let Some(home) = command.get_current_dir() {
        leaky.current_dir(home);
    }
    leaky
}

/// The caller of [`with_leaks`]: a program of its own, since what is open without close-on-exec in this one is there for
/// every other test, too.
pub fn leaky() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let directory = words.next().expect("a directory");
    let program = words.next().expect("a program");
    let mut number = 0;
    while number < 20 {
        let kind = if number % 2 == 1 { OFlag::O_RDONLY } else { OFlag::O_PATH };
        number = open(directory.as_str(), kind | OFlag::O_DIRECTORY, Mode::empty()).expect("open the directory").into_raw_fd();
    }
    eprintln!("{}", Command::new(program).args(words).exec());
    ExitCode::FAILURE
}

/// The report of `/inside report` that a command printed.
#[track_caller]
fn report_of(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// The default mounts without those at and below this place.
fn without_mounts(bundle: Bundle, place: &str) -> Bundle {
    let mounts: Vec<Value> = bundle.config["mounts"].as_array().expect("mounts").clone();
    let keeps = |mount: &Value| !mount["destination"].as_str().unwrap_or_default().starts_with(place);
    bundle.set("/mounts", mounts.into_iter().filter(keeps).collect::<Vec<_>>())
}
