//! `delete`.

use crate::cli::DeleteArgs;
use crate::cli::Global;
use crate::error::{Error, Result};

/// `delete`.
pub fn delete(_global: &Global, _args: DeleteArgs) -> Result<u8> {
    Err(Error::new("delete", "not merged yet"))
}
