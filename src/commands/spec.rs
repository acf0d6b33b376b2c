//! `spec`: a `config.json` to start from. The file is runc's default, because scripts edit it by its members; with
//! `--rootless` it is the one for a caller without root.

use crate::error::{Context, Error, Result};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const DEFAULT: &str = include_str!("spec/default.json");
/// The same with a user namespace that maps the caller to root, the caller's network, `/sys` bound from outside (a new
/// sysfs needs a network namespace of its own), no group for terminals and no limits.
const ROOTLESS: &str = include_str!("spec/rootless.json");

/// `spec`.
///
/// # Errors
/// There is a `config.json`; it is left as it is.
pub fn spec(bundle: Option<&Path>, rootless: bool) -> Result<u8> {
    let text = text(rootless, nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let path = bundle.unwrap_or(Path::new("")).join("config.json");
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::exact("File config.json exists. Remove it first"));
        }
        other => other.step("open", || format!("create {}", path.display()))?,
    };
    file.write_all(text.as_bytes()).step("write", || format!("write {}", path.display()))?;
    Ok(0)
}

/// The text, for a caller with these effective ids.
fn text(rootless: bool, uid: u32, gid: u32) -> String {
    if rootless { ROOTLESS.replace("@UID@", &uid.to_string()).replace("@GID@", &gid.to_string()) } else { DEFAULT.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_json_that_our_own_parser_takes() {
        let spec: crate::config::Spec = serde_json::from_str(&text(false, 0, 0)).unwrap();
        assert!(spec.process.is_some_and(|p| p.terminal));
        let value: serde_json::Value = serde_json::from_str(&text(true, 1000, 1001)).unwrap();
        assert_eq!(value["linux"]["uidMappings"][0]["hostID"], 1000);
        assert_eq!(value["linux"]["gidMappings"][0]["hostID"], 1001);
        let kinds: Vec<_> =
            value["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
        assert_eq!(value["linux"].get("resources"), None);
    }
}
