//! Callers that are not in the system: CRI-O, conmon-rs, BuildKit. Their command lines are given to the runtime as they give
//! them: by conmon itself where they use it, by a shell where they call the runtime themselves.

mod buildkit;
mod conmonrs;
mod crio;

use crate::case::Case;
use crate::here::{Here, Ran};
use std::fs;

/// What scripts begin with.
const PRELUDE: &str = include_str!("prelude.sh");

/// Runs the script, which must succeed.
#[track_caller]
fn ok(here: &Here, script: &str) -> Ran {
    fs::write(here.dir.join("callers"), PRELUDE).expect("write the functions");
    crate::podman::ok(here, &format!(". $DIR/callers\n{script}"))
}

pub fn cases() -> Vec<Case> {
    [crio::cases(), conmonrs::cases(), buildkit::cases()].into_iter().flatten().collect()
}
