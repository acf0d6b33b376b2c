//! Podman, as root. Most cases are scripts with the functions of `prelude.sh`, which say what they want by themselves.

mod confinement;
mod exec;
mod ids;
mod life;
mod pods;
mod resources;
mod services;
mod volumes;

use crate::case::Case;
use crate::daemons;
use crate::here::{Here, Ran};
use crate::leaks;

/// What scripts here and of Buildah begin with.
pub const PRELUDE: &str = include_str!("prelude.sh");

/// Runs the script.
pub fn run(here: &Here, script: &str) -> Ran {
    std::fs::write(here.dir.join("prelude"), PRELUDE).expect("write the functions");
    here.sh(&format!(". $DIR/prelude\n{script}"))
}

/// Runs the script, which must succeed.
#[track_caller]
pub fn ok(here: &Here, script: &str) -> Ran {
    run(here, script).ok()
}

/// A case that is a script.
fn case(name: &'static str, covers: &'static str, script: &'static str) -> Case {
    rust(name, covers, move |here| ok(here, script))
}

/// A case that takes more than a script.
fn rust<T>(name: &'static str, covers: &'static str, run: impl Fn(&Here) -> T + Send + 'static) -> Case {
    Case::new("podman", name, covers, move |here| {
        daemons::podman();
        run(here)
    })
}

pub fn cases() -> Vec<Case> {
    [
        life::cases(),
        exec::cases(),
        confinement::cases(),
        ids::cases(),
        volumes::cases(),
        resources::cases(),
        pods::cases(),
        services::cases(),
        leaks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn leaks() -> Vec<Case> {
    let leaks = |name, covers, times: u32| {
        Case::new("podman", name, covers, move |here| {
            daemons::podman();
            leaks::check(here, times, "podman run --rm $IMAGE true");
        })
        .alone()
    };
    vec![
        leaks("leaves_nothing", "ten podman run leave no cgroup, mount, state, network namespace, BPF program, process", 10),
        leaks("leaves_nothing_200", "the same after two hundred", 200).long(),
    ]
}
