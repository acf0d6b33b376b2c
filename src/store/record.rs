//! `state.json`: what later commands need to know of a container without reading its configuration. One line of JSON, then
//! a line with a checksum, so that a file cut short or edited by chance is known for what it is.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The form of the file. Files of an earlier form must stay readable; a later one is refused.
pub(super) const VERSION: u32 = 1;

/// A container as it was when it was created.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`VERSION`].
    version: u32,
    /// The container's id.
    pub id: String,
    /// Init, as the PID namespace of the runtime sees it.
    pub pid: i32,
    /// Its start time in clock ticks since boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
    /// Its inode number on pidfs ([`crate::sys::pidfd::inode`]), by which it is known even from what was started in the same
    /// tick; `None` before Linux 6.9.
    #[serde(default)]
    pub pidfs: Option<u64>,
    /// The boot that the start time counts from; `None` where this file cannot outlive it, on a tmpfs.
    pub boot_id: Option<String>,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The rootfs, absolute.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub created: String,
    /// The user who created it.
    pub owner: u32,
    /// `ociVersion` of its configuration.
    pub oci_version: String,
    /// `annotations` of its configuration.
    pub annotations: BTreeMap<String, String>,
    /// Its cgroup, absolute; `None` when it has none of its own.
    pub cgroup: Option<PathBuf>,
    /// The systemd unit that it lies in, as later commands find it; `None` when systemd has no part in it.
    #[serde(default)]
    pub unit: Option<String>,
    /// The resctrl groups that its processes are in, absolute, outer first.
    #[serde(default)]
    pub rdt: Vec<PathBuf>,
    /// It has a PID namespace of its own: when init dies, all die.
    pub own_pid_namespace: bool,
    /// It has a session keyring of its own, which `exec` joins (not with `--no-new-keyring`).
    #[serde(default)]
    pub keyring: bool,
    /// Its configuration has hooks that run in `start` before the program (`startContainer`).
    #[serde(default)]
    pub start_container: bool,
    /// Its configuration has hooks that run after its start (`poststart`).
    pub poststart: bool,
    /// Its configuration has hooks that run after its end (`poststop`).
    pub poststop: bool,
    /// Its standard streams, by the names that CRIU has for those of others.
    #[serde(default)]
    pub streams: [String; 3],
}

/// What every form has.
#[derive(Deserialize)]
struct Form {
    version: u32,
}

impl Record {
    /// A record of the current form; the fields are set by the caller.
    pub fn new(id: &str) -> Self {
        Self {
            version: VERSION,
            id: id.into(),
            pid: 0,
            start_time: 0,
            pidfs: None,
            boot_id: None,
            bundle: PathBuf::new(),
            rootfs: PathBuf::new(),
            created: String::new(),
            owner: 0,
            oci_version: String::new(),
            annotations: BTreeMap::new(),
            cgroup: None,
            unit: None,
            rdt: Vec::new(),
            own_pid_namespace: false,
            keyring: false,
            start_container: false,
            poststart: false,
            poststop: false,
            streams: Default::default(),
        }
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and paths of UTF-8 cannot fail to serialize; other paths were refused before.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        let sum = checksum(&bytes);
        bytes.extend(format!("\n{sum:016x}\n").bytes());
        bytes
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Cut short, damaged, or of a later version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::new("state", "damaged").hint("`onggi delete --force` clears the container");
        let json = whole(bytes).ok_or_else(damaged)?;
        let parsed = serde_json::from_str::<Self>(json);
        // A later form may lack or turn what this one needs: that it is later is then all there is to know.
        let version = match &parsed {
            Ok(record) => record.version,
            Err(_) => serde_json::from_str::<Form>(json).map_err(|_| damaged())?.version,
        };
        if version > VERSION {
            return Err(Error::new("state", format!("written by a newer onggi (form {version})")));
        }
        parsed.map_err(|_| damaged())
    }
}

/// The line of JSON, if it is as it was written.
pub(super) fn whole(bytes: &[u8]) -> Option<&str> {
    let (json, sum) = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.rsplit_once('\n')?;
    (u64::from_str_radix(sum, 16) == Ok(checksum(json.as_bytes()))).then_some(json)
}

/// FNV-1a, 64 bits: against accidents, not against enemies (the directory is root's).
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_disk() {
        let mut record = Record::new("c");
        record.annotations.insert("k".into(), "line\nbreak".into());
        record.cgroup = Some("/sys/fs/cgroup/c".into());
        assert_eq!(Record::from_bytes(&record.to_bytes()).unwrap(), record);
    }

    #[test]
    fn damage_is_seen() {
        let bytes = Record::new("c").to_bytes();
        for n in 0..bytes.len() {
            assert!(Record::from_bytes(&bytes[..n]).is_err(), "cut at {n}");
            let mut bad = bytes.clone();
            bad[n] ^= 1;
            assert!(Record::from_bytes(&bad).is_err(), "bit flipped at {n}");
        }
    }

    #[test]
    fn a_later_form_is_refused() {
        let mut record = Record::new("c");
        record.version = VERSION + 1;
        assert!(Record::from_bytes(&record.to_bytes()).unwrap_err().to_string().contains("newer"));
        let other = b"{\"version\":2,\"name\":\"c\"}";
        let bytes = [&other[..], format!("\n{:016x}\n", checksum(other)).as_bytes()].concat();
        assert!(Record::from_bytes(&bytes).unwrap_err().to_string().contains("newer"));
    }
}
