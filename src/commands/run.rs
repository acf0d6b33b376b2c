//! `run`.

use crate::cli::Global;
use crate::cli::RunArgs;
use crate::error::{Error, Result};

/// `run`.
pub fn run(_global: &Global, _args: RunArgs) -> Result<u8> {
    Err(Error::new("run", "not merged yet"))
}
