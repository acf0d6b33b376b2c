//! Tests of the binary from outside, as root. One program; a module is a topic, or a part of the harness.
//!
//! `RUNTIME=runc` (a name or a path) runs the same tests on another runtime. What holds for one runtime alone, or needs the
//! virtual machine (`ONGGI_VM`), says so where the case is listed and is shown as ignored with the reason elsewhere.

mod bundle;
mod bundles;
mod case;
mod faults;
mod hostdelta;
mod inside;
mod stage;

mod lifecycle;
mod mounts;
mod namespaces;
mod process;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The same program is the payload inside containers and the tracer, by the name that it is called by.
    let name = std::env::args().next().unwrap_or_default();
    match name.rsplit('/').next() {
        Some("inside") => return inside::main(),
        // What Docker's hooks are called by.
        Some("libnetwork-setkey") => return bundles::record_hook(),
        Some("ftkill") => return faults::ftkill::main(),
        _ => {}
    }
    let arguments = libtest_mimic::Arguments::from_args();
    if !arguments.list {
        stage::enter();
    }
    // The message comes with the result; the place would be lost.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            eprintln!("failed at {place}");
        }
    }));
    let cases = [bundles::cases(), lifecycle::cases(), mounts::cases(), namespaces::cases(), process::cases(), faults::cases()];
    let trials = cases.into_iter().flatten().filter(case::Case::is_wanted).map(case::Case::trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
