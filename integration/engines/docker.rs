//! Docker: its command line and its daemon, on containerd.

use crate::case::Case;
use crate::daemons;
use crate::here::{Here, Ran};

fn case(name: &'static str, covers: &'static str, run: fn(&Here)) -> Case {
    Case::new("docker", name, covers, run)
}

pub fn cases() -> Vec<Case> {
    vec![case("run", "a program runs, prints, and its exit code comes back", run)]
}

fn sh(here: &Here, script: &str) -> Ran {
    daemons::docker();
    here.sh(script)
}

fn run(here: &Here) {
    sh(here, "docker run --rm --network none box sh -c 'echo hello; exit 7'").exits(7).prints_just("hello");
}
