//! What the user said: `config.json` of an OCI bundle, read and checked (OCI runtime spec 1.3.0, config.md).
//!
//! The parts that the `oci-spec` crate models rightly are its types. The rest is a thin frame of our own, because that
//! crate refuses what the spec allows (unknown capabilities, `SCHED_FLAG_*`, hugepage limits over `i64`) or cannot tell
//! absent from zero (`pids.limit`). Unknown keys are ignored, `null` counts as absent, as in Go.

pub mod check;
mod further;
mod linux;
mod load;
pub mod options;
mod paths;
mod place;
mod process;
mod resources;
mod seccomp;
mod shape;
mod state;
pub mod values;

pub use linux::*;
pub use load::{Bundle, MAX_BYTES};
pub use oci_spec::runtime::{Hook, Hooks, LinuxIdMapping, LinuxIntelRdt, LinuxTimeOffset, Mount};
pub use paths::clean;
pub use process::*;
pub use resources::*;
pub use seccomp::*;
pub use state::*;

use serde::Deserialize;
use shape::{null_is_default, object, objects, optional_object};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `config.json`, Linux part. Members of other platforms are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// `ociVersion`: any `1.x` is accepted.
    #[serde(deserialize_with = "null_is_default")]
    pub oci_version: String,
    /// `process`; may be absent, then `start` fails.
    #[serde(deserialize_with = "optional_object")]
    pub process: Option<Process>,
    /// `root`: required on Linux.
    #[serde(deserialize_with = "optional_object")]
    pub root: Option<Root>,
    /// `hostname`; needs a UTS namespace.
    #[serde(deserialize_with = "null_is_default")]
    pub hostname: String,
    /// `domainname`; needs a UTS namespace.
    #[serde(deserialize_with = "null_is_default")]
    pub domainname: String,
    /// `mounts`, in the order in which they are made.
    #[serde(deserialize_with = "objects")]
    pub mounts: Vec<Mount>,
    /// `hooks`.
    #[serde(deserialize_with = "optional_object")]
    pub hooks: Option<Hooks>,
    /// `annotations`.
    #[serde(deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// `linux`.
    #[serde(deserialize_with = "object")]
    pub linux: Linux,
}

/// `root`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Root {
    /// `root.path`, absolute or relative to the bundle.
    #[serde(deserialize_with = "null_is_default")]
    pub path: PathBuf,
    /// `root.readonly`.
    #[serde(deserialize_with = "null_is_default")]
    pub readonly: bool,
}
