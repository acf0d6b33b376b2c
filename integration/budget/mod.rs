//! What the common commands cost: processes, messages, system calls, bytes, memory, instructions. A ceiling is a little above
//! what is counted today, so that a change which costs something is seen; it is lowered when a change saves something.
//!
//! Each has two ceilings, for the build that the tests come with and for the release build. `make test` runs these cases with
//! both (`make test-budget`): a release build is what RUNTIME names.

mod calls;
mod instructions;
mod limit;
mod memory;
mod processes;

use crate::case::Case;

const OURS: &str = "the budget is ours";

pub fn cases() -> Vec<Case> {
    [calls::cases(), processes::cases(), memory::cases(), instructions::cases(), limit::cases()].into_iter().flatten().collect()
}

/// Whether the release build is tested, and not the one that was built with the tests.
fn release() -> bool {
    std::env::var_os("RUNTIME").is_some()
}

/// A ceiling of each build.
#[derive(Clone, Copy)]
struct Ceiling {
    debug: u64,
    release: u64,
}

impl Ceiling {
    /// Fails if `found` is over it; or next to nothing, which would be a fault of the counting.
    #[track_caller]
    fn holds(self, what: &str, found: u64, least: u64) {
        let ceiling = if release() { self.release } else { self.debug };
        eprintln!("{what}: {found} of {ceiling}");
        assert!((least..=ceiling).contains(&found), "{what}: {found}, the ceiling is {ceiling}");
    }
}

/// A case that needs what the release build alone has.
fn released(case: Case) -> Case {
    if release() { case } else { case.without("a release build: make test-budget") }
}
