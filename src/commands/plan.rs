//! `plan`.

use crate::cli::Global;
use crate::error::{Error, Result};
use std::path::Path;

/// `plan`.
pub fn plan(_global: &Global, _bundle: Option<&Path>, _json: bool) -> Result<u8> {
    Err(Error::new("plan", "not merged yet"))
}
