//! The program: words to a command, a command to an exit status. The only place that prints errors.
#![deny(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]
#![no_main]

#[cfg(own_start)]
#[allow(unsafe_code)] // the C library's start-up
#[path = "sys/glibc.rs"]
mod glibc;

use onggi::cli::Line;
use onggi::error::Error;
use onggi::{commands, log, seal, sys};
use std::ffi::OsString;

onggi::program!(start);

fn start(args: &[OsString]) -> u8 {
    let line = match Line::read(args) {
        Ok(line) => line,
        Err(error) => return fail(&error.into(), 1),
    };
    match work(&line) {
        Ok(status) => status,
        Err(error) => fail(&error, line.failure()),
    }
}

fn work(line: &Line) -> anyhow::Result<u8> {
    if sys::auxv::is_secure() {
        let error = Error::new("start", "the binary is set-user-ID, set-group-ID or has file capabilities");
        return Err(error.hint("it must not give its caller rights: remove them").into());
    }
    log::init(line.global.log.as_deref(), line.global.log_format, line.global.log_level)?;
    // Not the arguments: they may hold secrets.
    log::debug(|| format!("onggi {} is process {}", env!("CARGO_PKG_VERSION"), std::process::id()));
    if line.enters() {
        seal::begin();
    }
    Ok(commands::run(&line.global, line.program, line.command()?)?)
}

/// Prints the one error: with its parts where it is ours, with its causes in a line where it is a library's.
fn fail(error: &anyhow::Error, status: u8) -> u8 {
    match error.downcast_ref::<Error>() {
        Some(error) => log::fatal(error),
        None => log::fatal(&Error::exact(format!("{error:#}"))),
    }
    status
}
