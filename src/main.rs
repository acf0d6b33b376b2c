//! The program: words to a command, a command to an exit status. The only place that prints errors.
#![deny(unsafe_code)]
#![no_main]

use onggi::cli::Line;
use onggi::error::{Error, Result};
use onggi::{commands, log, seal, store, sys};
use std::ffi::OsString;

onggi::program!(start);

fn start(args: &[OsString]) -> u8 {
    let line = match Line::read(args) {
        Ok(line) => line,
        Err(error) => return fail(&error, 1),
    };
    match work(&line) {
        Ok(status) => status,
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
        let root = line.global.root.clone().map_or_else(store::default_root, Ok);
        root.and_then(|root| seal::ensure(&root))
    } else {
        Ok(())
    };
    log::init(line.global.log.as_deref(), line.global.log_format, line.global.log_level)?;
    sealed?;
    commands::run(&line.global, line.program, line.command()?)
}

fn fail(error: &Error, status: u8) -> u8 {
    log::fatal(error);
    status
}
