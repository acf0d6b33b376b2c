//! `kill`.

use crate::cli::Global;
use crate::cli::KillArgs;
use crate::error::{Error, Result};

/// `kill`.
pub fn kill(_global: &Global, _args: KillArgs) -> Result<u8> {
    Err(Error::new("kill", "not merged yet"))
}
