//! One file a command: load, check, call down, print. Nothing here decides what a configuration means.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod pid_file;
mod plan;
mod ps;
mod rdt;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod status;
mod unit;
mod update;
mod version;

use crate::cli::{Command, Global};
use crate::error::{Context, Error, Result};
use crate::sys::fs;
use crate::{seal, store};
use nix::errno::Errno;

/// Does what was asked and returns the exit status of the program.
pub fn run(global: &Global, program: &str, command: Command) -> Result<u8> {
    match command {
        Command::Create(args) => create::create(global, args),
        Command::Run(args) => run::run(global, args),
        Command::Start { id } => start::start(global, &id),
        Command::State { id } => state::state(global, &id),
        Command::Kill(args) => kill::kill(global, args),
        Command::Delete(args) => delete::delete(global, args),
        Command::List { format, quiet } => list::list(global, format, quiet),
        Command::Spec { bundle, rootless } => spec::spec(bundle.as_deref(), rootless),
        Command::Plan { bundle, json } => plan::plan(global, bundle.as_deref(), json),
        Command::Exec(args) => exec::exec(global, &args),
        Command::Ps { id, json, arguments } => ps::ps(global, &id, json, &arguments),
        Command::Pause { id } => pause::pause(global, &id),
        Command::Resume { id } => pause::resume(global, &id),
        Command::Events { id, interval, stats } => events::events(global, &id, interval, stats),
        Command::Update(args) => update::update(global, &args),
        Command::Checkpoint(args) => checkpoint::checkpoint(global, &args),
        Command::Restore(args) => restore::restore(global, &args),
        Command::Features => features::features(),
        Command::Version => print(&version::text(program)),
        Command::Help(text) => print(&text),
    }
}

/// Cuts this process off from the host's binary, before it has a process in a container.
fn sealed(global: &Global) -> Result<seal::Sealed> {
    seal::ensure(|| global.root.clone().map_or_else(store::default_root, Ok))
}

/// What a command cannot do to a container that runs in its creator's cgroup.
fn no_cgroup(step: &str) -> Error {
    Error::new(step, "the container has no cgroup of its own")
        .hint("none could be made when it was created: create it where a cgroup is delegated, as systemd-run --user --scope does")
}

/// Exit status of a program whose reader has gone, as a shell shows it: 128 + SIGPIPE.
const READER_GONE: u8 = 141;

/// Writes the whole of a command's output and returns the exit status.
pub(crate) fn print(text: &str) -> Result<u8> {
    match fs::write_all(fs::stdio(1), text.as_bytes()) {
        Err(Errno::EPIPE) => Ok(READER_GONE),
        other => other.step("write", || "write to stdout".into()).map(|()| 0),
    }
}
