//! The fault matrix, row by row: what is lost, full, frozen, reused, torn or slow, and what becomes of a container then.
//!
//! F-01, F-02, F-04 and F-05 are `faults`; F-19 runs with system calls masked, elsewhere. A row's cases begin with its
//! number; those of a row that are somewhere else since they came first are in this table:
//!
//! ```text
//! F-07  survival::a_broken_state_of_a_*          F-14  resources::a_limit_too_small_*, four_mebibytes_are_enough
//! F-08  survival::many_commands_*, stress::      F-16  resources::a_fork_bomb_*, converge::what_forks_*, a_shared_*
//! F-09  stress::                                 F-20  exec_streams::, console::, parent's supervise
//! F-10  survival::a_stranger_*                   F-21  stress::
//! F-11  survival::after_a_reboot_*               F-22  program::a_caller_*, few_descriptors_*, closed_streams_*
//! F-12  resources::a_full_hierarchy_*            F-23  resources::a_cgroup_with_*, two_containers_*
//! ```

mod callers;
mod cgroups;
mod disk;
mod hooks;
mod hostmounts;
mod processes;
pub mod programs;
mod streams;
mod upgrade;

use crate::bundle::Bundle;
use crate::case::Case;
use std::process::Command;
use std::time::Duration;

const OURS: &str = "the matrix says what is asked of us; others leave things, or word them otherwise";

pub fn cases() -> Vec<Case> {
    let rows = [
        callers::cases(),
        cgroups::cases(),
        disk::cases(),
        hooks::cases(),
        hostmounts::cases(),
        processes::cases(),
        streams::cases(),
        upgrade::cases(),
    ];
    rows.into_iter().flatten().collect()
}

fn sleeper() -> Bundle {
    Bundle::new().args(["sleep", "1000"])
}

/// Up to three tries to be quick enough: a machine that is busy with something else is not what is tested.
#[track_caller]
fn within_one_of_three(limit: Duration, mut once: impl FnMut() -> Duration) {
    let mut took = [Duration::ZERO; 3];
    let quick = took.iter_mut().any(|took| {
        *took = once();
        *took < limit
    });
    assert!(quick, "{took:?}, not one of them below {limit:?}");
}

/// Runs a command of the host's, which must succeed.
#[track_caller]
fn host(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(output.status.success(), "{words:?}: {output:?}");
}
