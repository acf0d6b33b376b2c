//! Where a container is counted and limited: cgroup v2 through cgroupfs.

pub mod devices;
mod files;
mod hierarchy;
pub mod limits;
pub mod place;

pub use hierarchy::Hierarchy;
