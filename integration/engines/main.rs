//! The engines do their ordinary work with the runtime under test: containerd, Docker, Podman, Buildah, as Debian has them.
//!
//! ```text
//! RUNTIME=runc              a name in the engines' system, or a path: the same cases on another runtime. With crun some fail
//!                           for its other words, and Docker's natively, since it wants the controllers
//! ONGGI_ENGINES=quick       leaves out what is marked as long
//! ONGGI_CGROUPS=systemd     the engines are told to let systemd make the cgroups; else they do it themselves
//! ONGGI_TREE=DIRECTORY      the system, as a directory (default: made by vm/image)
//! ONGGI_VM=all              this is the virtual machine, which is that system already (set by engines/run); `only` leaves
//!                           out what needs nothing but such a system
//! ```
//!
//! `--list` tells what each case covers. What the host lacks makes a case ignored, with the reason; `--ignored` runs it all
//! the same. Whoever calls this by the name `strip` gets a runtime that takes limits out of `config.json`: see `strip`.

mod bpf;
mod case;
mod daemons;
mod here;
mod image;
mod leaks;
#[path = "../stage.rs"]
// Part of another program, which needs all of it.
#[allow(dead_code)]
mod stage;
mod strip;
mod system;

mod buildah;
mod callers;
mod containerd;
mod cri;
mod docker;
mod podman;
mod rootless;

use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args().next().unwrap_or_default();
    if name.rsplit('/').next() == Some("strip") {
        return strip::main();
    }
    let cases = [
        containerd::cases(),
        cri::cases(),
        docker::cases(),
        podman::cases(),
        rootless::cases(),
        buildah::cases(),
        callers::cases(),
    ];
    let mut arguments = libtest_mimic::Arguments::from_args();
    if arguments.list && arguments.format.is_none() {
        cases.iter().flatten().for_each(|case| println!("{case}"));
        return ExitCode::SUCCESS;
    }
    if !arguments.list {
        system::enter();
    }
    // Two at a time also where there are more processors: engines wait for each other's locks, and times would say nothing.
    arguments.test_threads.get_or_insert(2);
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let trials = cases.into_iter().flatten().map(case::Case::trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
