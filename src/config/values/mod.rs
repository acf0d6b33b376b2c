//! Words of `config.json` and of the command line, as the numbers that the kernel takes. Pure; what fits together is
//! `check`'s.
//!
//! The errors name the word, not the field: the caller knows where it stood.

mod kernel;
mod process;
mod signal;

pub use kernel::{MemPolicy, ioprio, list, mask, memory_policy, personality, sched_attr};
pub use process::{CapabilityMask, capabilities, environment, rlimit, rlimit_name, user};
pub use signal::signal;

use crate::error::{Error, Result};

/// The number of `word` in `table`.
fn find<T: Copy>(table: &[(&str, T)], word: &str, what: &str) -> Result<T> {
    table
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, n)| *n)
        .ok_or_else(|| Error::new(format!("unknown {what}"), format!("{word:?}")))
}
