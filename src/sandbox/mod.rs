//! Brings a plan to life: opens what it lists, clones, serves the pauses (parent), runs the steps (child), and stays with
//! the container in the foreground. No decision about configuration is made here.

// Between clone and exec nothing may come from the heap: what failed is returned whole.
#![allow(clippy::result_large_err, clippy::large_enum_variant)]

mod around;
mod channel;
pub mod child;
pub mod launch;
mod launched;
mod open;
pub mod passwd;
mod relay;
pub mod report;
pub mod staging;
mod steps;
pub mod supervise;
mod verify;
pub mod words;

pub use launch::{Equipment, launch};
pub use launched::Launched;
