//! Tests of the binary from outside, as root. One program; a module is a topic, or a part of the harness.
//!
//! ```text
//! RUNTIME=runc    a name or a path: the same tests on another runtime
//! FAULT_STEP=10   the sweeps of `faults` try every tenth system call (1 is `make sweeps`; without it each has its own step)
//! FAULT_FIRST=3   and begin with the third, not with a random one
//! ADVISORIES=all  those of `advisories` that take long try everything
//! ONGGI_STRESS=full ten thousand times where `stress` has some hundreds else; `20` for a fifth of that
//! ONGGI_SYSTEMD=1 this is the one that systemd has booted
//! ONGGI_VM=all    this is the virtual machine (set by vm/run); `only` leaves out what runs elsewhere too
//! ```
//!
//! What holds for one runtime alone, or needs the virtual machine, says so in its module's list of cases, and is shown as
//! ignored with the reason elsewhere; `--ignored` runs it all the same.

#[path = "engines/bpf.rs"]
mod bpf;
mod bundle;
mod bundles;
mod canary;
mod case;
mod faults;
mod hostdelta;
mod hosts;
mod inside;
mod stage;

mod advisories;
mod apparmor;
mod bad_input;
mod budget;
mod checkpoint;
mod console;
mod contract;
mod control;
mod converge;
mod delegation;
mod devices;
mod exec;
mod exec_memory;
mod exec_streams;
mod fault_matrix;
mod hooks;
mod lifecycle;
mod list;
mod mount_sources;
mod mounts;
mod namespaces;
mod nested;
mod notify;
mod process;
mod program;
mod resources;
mod rootless;
mod seccomp;
mod selinux;
mod stress;
mod survival;
mod systemd;
mod systemd_user;
mod trace_rules;
mod userns;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The same program is the payload inside containers and the tracer, by the name that it is called by.
    let name = std::env::args().next().unwrap_or_default();
    match name.rsplit('/').next() {
        Some("inside") => return inside::main(),
        // What Docker's hooks are called by.
        Some("libnetwork-setkey") => return bundles::record_hook(),
        Some("keeper") => return converge::keeper(),
        Some("holder") => return fault_matrix::programs::holder(),
        Some("mountwatch") => return fault_matrix::programs::mountwatch(),
        Some("ftkill") => return faults::ftkill::main(),
        Some("overmount") => return faults::overmount::main(),
        Some("leaky") => return advisories::leaky(),
        _ => {}
    }
    let arguments = libtest_mimic::Arguments::from_args();
    if !arguments.list && stage::systemd() {
        std::fs::create_dir_all(stage::WORK).expect("make the work directory");
    } else if !arguments.list {
        stage::enter(stage::mount_over);
    }
    if !arguments.list {
        // What a test, or a program that it calls, writes without saying where.
        std::env::set_current_dir(stage::WORK).expect("enter the work directory");
    }
    // Place and message, also of a test's own threads; what called the test tells nothing.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let cases = [
        advisories::cases(),
        apparmor::cases(),
        bundles::cases(),
        hosts::cases(),
        console::cases(),
        contract::cases(),
        control::cases(),
        converge::cases(),
        exec::cases(),
        exec_memory::cases(),
        exec_streams::cases(),
        delegation::cases(),
        devices::cases(),
        hooks::cases(),
        bad_input::cases(),
        budget::cases(),
        checkpoint::cases(),
        lifecycle::cases(),
        list::cases(),
        mounts::cases(),
        mount_sources::cases(),
        namespaces::cases(),
        nested::cases(),
        notify::cases(),
        process::cases(),
        program::cases(),
        resources::cases(),
        seccomp::cases(),
        selinux::cases(),
        rootless::cases(),
        survival::cases(),
        stress::cases(),
        systemd::cases(),
        systemd_user::cases(),
        trace_rules::cases(),
        userns::cases(),
        faults::cases(),
        fault_matrix::cases(),
    ];
    let trials = cases.into_iter().flatten().filter(case::Case::is_wanted).map(case::Case::trial).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    faults::table::print();
    conclusion.exit_code()
}
