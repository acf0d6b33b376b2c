//! The program: words to a command, a command to an exit status. The only place that prints errors.
#![forbid(unsafe_code)]

use onggi::cli::Line;
use onggi::error::{Error, Result};
use onggi::{commands, log, seal, sys};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Rust ignores SIGPIPE before `main`. That is right here: a log or a terminal whose reader has gone must not end a
    // half-made container. The child resets every signal before it executes the container's program.
    let args: Vec<OsString> = std::env::args_os().collect();
    let line = match Line::read(&args) {
        Ok(line) => line,
        Err(error) => return fail(&error, 1),
    };
    match work(&line) {
        Ok(status) => ExitCode::from(status),
        Err(error) => fail(&error, line.failure()),
    }
}

fn work(line: &Line) -> Result<u8> {
    if sys::auxv::is_secure() {
        return Err(Error::new("start", "the binary is set-user-ID, set-group-ID or has file capabilities")
            .hint("it must not give its caller rights: remove them"));
    }
    // First of all, because it begins again; its failure belongs in the log that is opened after it.
    let sealed = if line.enters_container() {
        seal::ensure(line.global.root.as_deref().unwrap_or(Path::new("/run/onggi")))
    } else {
        Ok(())
    };
    log::init(line.global.log.as_deref(), line.global.log_format, line.global.log_level)?;
    sealed?;
    commands::run(&line.global, line.program, line.command()?)
}

fn fail(error: &Error, status: u8) -> ExitCode {
    log::fatal(error);
    ExitCode::from(status)
}
