//! `start`.

use crate::cli::Global;
use crate::error::{Error, Result};

/// `start`.
pub fn start(_global: &Global, _id: &str) -> Result<u8> {
    Err(Error::new("start", "not merged yet"))
}
