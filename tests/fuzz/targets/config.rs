//! `config.json`: bytes, types, checks, plans for three machines. What was checked is planned or refused, never anything else.
#![no_main]

mod machine;

use libfuzzer_sys::fuzz_target;
use onggi::config::{Spec, check};
use onggi::plan;

fuzz_target!(|bytes: &[u8]| {
    let spec = match Spec::parse(bytes) {
        Ok(spec) => spec,
        Err(e) => return assert!(!e.to_string().is_empty()),
    };
    if let Err(e) = check::check(&spec) {
        assert!(!e.to_string().is_empty());
    }
    check::warnings(&spec);
    match plan::seccomp::filter(&spec, bytes, || None) {
        Ok(filter) => assert!(filter.is_none_or(|filter| !filter.program.is_empty())),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
    // The plan of something unchecked must not fall over either: `compile` checks by itself.
    for (host, systemd) in [(machine::root(), false), (machine::root(), true), (machine::user(), false)] {
        machine::show(&plan::compile(&spec, &machine::request(systemd), &host));
    }
});
