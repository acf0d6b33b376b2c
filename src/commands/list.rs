//! `list`.

use crate::cli::Global;
use crate::cli::ListFormat;
use crate::error::{Error, Result};

/// `list`.
pub fn list(_global: &Global, _format: ListFormat, _quiet: bool) -> Result<u8> {
    Err(Error::new("list", "not merged yet"))
}
