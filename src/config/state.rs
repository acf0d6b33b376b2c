//! The container's state document (runtime.md, "State"), as hooks and seccomp agents read it on a stream.

use serde::Serialize;
use std::collections::BTreeMap;

/// The version of the runtime specification that our output follows.
pub const OCI_VERSION: &str = "1.3.0";

/// `state`, the members that the specification has.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState<'a> {
    /// `ociVersion`.
    pub oci_version: &'a str,
    /// `id`.
    pub id: &'a str,
    /// `status`.
    pub status: &'a str,
    /// `pid`; 0 when there is no process.
    pub pid: i32,
    /// `bundle`, absolute.
    pub bundle: &'a str,
    /// `annotations`, left out when empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
}

impl OciState<'_> {
    /// The document.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings and numbers cannot fail to serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The document in two parts, to be joined by the digits of a pid that is not known yet.
    pub fn around_pid(&self) -> (Vec<u8>, Vec<u8>) {
        let whole = Self { pid: 0, ..self.clone() }.to_json();
        // The id comes before it and may hold no quote (it is checked), so the first match is the member.
        let mark = b"\"pid\":";
        let at = whole.windows(mark.len()).position(|w| w == mark).map_or(whole.len(), |i| i + mark.len());
        let (before, after) = whole.split_at(at);
        (before.to_vec(), after.get(1..).unwrap_or_default().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_parts_make_the_whole() {
        let annotations = BTreeMap::from([("k".to_string(), "\"pid\":7".to_string())]);
        let state =
            OciState { oci_version: OCI_VERSION, id: "c", status: "creating", pid: 42, bundle: "/b", annotations: &annotations };
        let (mut joined, after) = state.around_pid();
        joined.extend(b"42");
        joined.extend(after);
        assert_eq!(joined, state.to_json());
    }
}
