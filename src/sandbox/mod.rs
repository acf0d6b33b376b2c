//! Brings a plan to life.

mod relay;
pub mod supervise;
