//! containerd by `ctr`.

use crate::case::Case;
use crate::daemons;
use crate::here::{Here, Ran};

fn case(name: &'static str, covers: &'static str, run: fn(&Here)) -> Case {
    Case::new("containerd", name, covers, run)
}

pub fn cases() -> Vec<Case> {
    vec![case("run", "a program runs, prints, and its exit code comes back", run)]
}

fn sh(here: &Here, script: &str) -> Ran {
    daemons::containerd();
    here.sh(script)
}

fn run(here: &Here) {
    sh(here, "task $NAME --rm -- sh -c 'echo hello; exit 7'").exits(7).prints_just("hello");
}
