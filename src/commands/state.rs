//! `state`: the state document of runtime.md, with runc's further members.

use super::status::{self, Status};
use crate::cli::Global;
use crate::config::OCI_VERSION;
use crate::error::Result;
use crate::store::{Entry, Record, Store, unknown};
use crate::sys::fs;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What `state` prints, and `list --format json` for each container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: String,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: String,
}

impl<'a> Document<'a> {
    /// The document of a container; `owner` is a name in `list` and empty in `state`, as in runc.
    pub fn new(record: &'a Record, status: Status, owner: String) -> Self {
        Self {
            oci_version: if record.oci_version.is_empty() { OCI_VERSION } else { &record.oci_version },
            id: &record.id,
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status: status.to_string(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner,
        }
    }
}

/// `state`.
pub fn state(global: &Global, id: &str) -> Result<u8> {
    let entry = Store::look_at(global.root.as_deref(), id)?;
    let (record, status) = look(&entry)?;
    let mut text = serde_json::to_string_pretty(&Document::new(&record, status, String::new())).unwrap_or_default();
    text.push('\n');
    // The process ends, and the kernel closes what is open in one go.
    std::mem::forget(entry);
    super::print(&text)
}

fn look(entry: &Entry) -> Result<(Record, Status)> {
    let known = |record: Record| status::look(|| entry.open_fifo(true), &record, fs::glance).map(|status| (record, status));
    if let Some(record) = entry.state()? {
        return known(record);
    }
    match entry.creating() {
        Some(record) => Ok((record, Status::Creating)),
        // It may have been finished between the two looks.
        None => known(entry.state()?.ok_or_else(unknown)?),
    }
}
