//! `create`.

use crate::cli::CreateArgs;
use crate::cli::Global;
use crate::error::{Error, Result};

/// `create`.
pub fn create(_global: &Global, _args: CreateArgs) -> Result<u8> {
    Err(Error::new("create", "not merged yet"))
}
