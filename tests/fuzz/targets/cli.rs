//! The command line: words with a NUL between them. What is read is a command, checked as it is before it is done.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onggi::cli::{Command, Line, container_id};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

fuzz_target!(|bytes: &[u8]| {
    let words = bytes.split(|&b| b == 0 || b == b'\n').map(|word| OsString::from_vec(word.to_vec()));
    let args: Vec<OsString> = std::iter::once("onggi".into()).chain(words).collect();
    let Ok(line) = Line::read(&args) else { return };
    assert!([1, 255].contains(&line.failure()));
    match line.command() {
        Err(e) => assert!(!e.to_string().is_empty()),
        Ok(Command::Create(args)) => assert!(container_id(&args.id).is_ok()),
        Ok(Command::Kill(args)) => assert!(args.regex || container_id(&args.id).is_ok()),
        Ok(_) => {}
    }
});
