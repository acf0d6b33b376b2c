//! `state`.

use crate::cli::Global;
use crate::error::{Error, Result};

/// `state`.
pub fn state(_global: &Global, _id: &str) -> Result<u8> {
    Err(Error::new("state", "not merged yet"))
}
