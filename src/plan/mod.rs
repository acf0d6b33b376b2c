//! (empty yet)

pub use crate::config::{options, values};
