//! What a seccomp agent is told: the container process state that accompanies a listener (config-linux.md, "The Container
//! Process State"). Connecting and sending is not done here.

use crate::config::Seccomp;
use crate::error::{Error, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Where a listener goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// `listenerPath`: an `AF_UNIX` `SOCK_STREAM` socket.
    pub listener_path: String,
    /// `listenerMetadata`, empty when absent.
    pub metadata: String,
}

/// The listener that a profile asks for: one with NOTIFY rules. A path without such rules is ignored, as the spec says.
pub(super) fn wanted(seccomp: &Seccomp) -> Result<Option<Notify>> {
    let wrong = |field: &str, cause: &str| Err(Error::new("compile seccomp profile", cause).at(field));
    if seccomp.listener_path.is_empty() && !seccomp.listener_metadata.is_empty() {
        return wrong("/listenerMetadata", "listenerMetadata cannot be set without listenerPath");
    }
    if !seccomp.syscalls.iter().any(|rule| rule.action == "SCMP_ACT_NOTIFY") {
        return Ok(None);
    }
    if seccomp.listener_path.is_empty() {
        return wrong("/listenerPath", "listenerPath must be set when SCMP_ACT_NOTIFY is used");
    }
    Ok(Some(Notify { listener_path: seccomp.listener_path.clone(), metadata: seccomp.listener_metadata.clone() }))
}

/// Who a listener belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Listened<'a> {
    /// Id of the container.
    pub id: &'a str,
    /// `ociVersion` of the state.
    pub oci_version: &'a str,
    /// The process that loaded the filter, in the runtime's pid namespace.
    pub pid: i32,
    /// The container's init, which differs from `pid` under `exec`.
    pub init: i32,
    /// `creating`, or `running` under `exec`.
    pub status: &'a str,
    /// Absolute.
    pub bundle: &'a Path,
    /// `annotations` of config.json.
    pub annotations: &'a BTreeMap<String, String>,
    /// `listenerMetadata`.
    pub metadata: &'a str,
}

/// The message, JSON, to be sent once with the listener's descriptor in `SCM_RIGHTS` of the first `sendmsg`.
pub fn container_process_state(of: Listened<'_>) -> Vec<u8> {
    let mut message = json!({
        "ociVersion": of.oci_version,
        "fds": ["seccompFd"],
        "pid": of.pid,
        "state": {
            "ociVersion": of.oci_version,
            "id": of.id,
            "status": of.status,
            "pid": of.init,
            "bundle": of.bundle.to_string_lossy(),
        },
    });
    if !of.metadata.is_empty() {
        message["metadata"] = of.metadata.into();
    }
    if !of.annotations.is_empty() {
        message["state"]["annotations"] = json!(of.annotations);
    }
    message.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_an_exec() {
        let annotations = BTreeMap::from([("a".to_owned(), "b \"c\"".to_owned())]);
        let of = Listened {
            id: "c1",
            oci_version: "1.3.0",
            pid: 77,
            init: 42,
            status: "running",
            bundle: Path::new("/b"),
            annotations: &annotations,
            metadata: "m",
        };
        let got: serde_json::Value = serde_json::from_slice(&container_process_state(of)).unwrap();
        let want = json!({"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": 77, "metadata": "m", "state": {
            "ociVersion": "1.3.0", "id": "c1", "status": "running", "pid": 42, "bundle": "/b", "annotations": {"a": "b \"c\""}}});
        assert_eq!(got, want);
    }

    #[test]
    fn what_is_empty_is_left_out() {
        let of = Listened {
            id: "c1",
            oci_version: "1.3.0",
            pid: 7,
            init: 7,
            status: "creating",
            bundle: Path::new("/b"),
            annotations: &BTreeMap::new(),
            metadata: "",
        };
        let got: serde_json::Value = serde_json::from_slice(&container_process_state(of)).unwrap();
        assert_eq!((got.get("metadata"), got["state"].get("annotations")), (None, None));
    }
}
