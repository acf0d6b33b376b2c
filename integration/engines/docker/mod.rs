//! Docker: its command line and its daemon, on containerd.

mod build;
mod confinement;
mod life;
mod resources;
mod services;

use crate::case::Case;
use crate::daemons;
use crate::here::{Here, Ran};
use crate::leaks;

fn case(name: &'static str, covers: &'static str, run: fn(&Here) -> Ran) -> Case {
    Case::new("docker", name, covers, move |here| {
        daemons::docker();
        run(here)
    })
}

pub fn cases() -> Vec<Case> {
    [life::cases(), confinement::cases(), resources::cases(), build::cases(), services::cases(), leaks()]
        .into_iter()
        .flatten()
        .collect()
}

fn leaks() -> Vec<Case> {
    let leaks = |name, covers, times: u32| {
        Case::new("docker", name, covers, move |here| {
            daemons::docker();
            leaks::check(here, times, "docker run --rm box true");
        })
        .alone()
    };
    vec![
        leaks("leaves_nothing", "ten docker run leave no cgroup, mount, state, network namespace, BPF program, process", 10),
        leaks("leaves_nothing_200", "the same after two hundred", 200).long(),
    ]
}
