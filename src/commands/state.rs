//! `state`: the state document of runtime.md, with runc's further members.

use super::status::{self, Status};
use crate::cli::Global;
use crate::config::OCI_VERSION;
use crate::error::Result;
use crate::store::{Entry, Record, Seen, Store, unknown};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What `state` prints, and `list --format json` for each container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: &'a str,
    bundle: Cow<'a, str>,
    rootfs: Cow<'a, str>,
    created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: &'a str,
}

impl<'a> Document<'a> {
    /// The document of `state`, which names no owner, as in runc.
    fn new(record: &'a Record, status: Status) -> Self {
        Self {
            oci_version: if record.oci_version.is_empty() { OCI_VERSION } else { &record.oci_version },
            id: &record.id,
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status: status.word(),
            bundle: record.bundle.to_string_lossy(),
            rootfs: record.rootfs.to_string_lossy(),
            created: &record.created,
            annotations: &record.annotations,
            owner: "",
        }
    }

    /// That of `list`, with the owner's name.
    pub fn of_one(seen: &'a Seen<'_>, annotations: &'a BTreeMap<String, String>, status: Status, owner: &'a str) -> Self {
        Self {
            oci_version: if seen.oci_version.is_empty() { OCI_VERSION } else { &seen.oci_version },
            id: &seen.id,
            pid: if status == Status::Stopped { 0 } else { seen.pid },
            status: status.word(),
            bundle: Cow::Borrowed(&seen.bundle),
            rootfs: Cow::Borrowed(&seen.rootfs),
            created: &seen.created,
            annotations,
            owner,
        }
    }
}

/// `state`.
pub fn state(global: &Global, id: &str) -> Result<u8> {
    let entry = Store::look_at(global.root.as_deref(), id)?;
    let (record, status) = look(&entry)?;
    let mut text = serde_json::to_string_pretty(&Document::new(&record, status)).unwrap_or_default();
    text.push('\n');
    // The process ends, and the kernel closes what is open in one go.
    std::mem::forget(entry);
    super::print(&text)
}

fn look(entry: &Entry) -> Result<(Record, Status)> {
    let known = |record: Record| status::look(entry, &record).map(|status| (record, status));
    if let Some(record) = entry.state()? {
        return known(record);
    }
    match entry.creating() {
        Some(record) => Ok((record, Status::Creating)),
        // It may have been finished between the two looks.
        None => known(entry.state()?.ok_or_else(unknown)?),
    }
}
