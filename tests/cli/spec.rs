//! `spec`: runc's default, with what changed in runc since the captured version 1.1.5.

use super::{onggi, repository};
use serde_json::{Value, json};
use std::fs;

/// The captured file with the differences that are wanted: the version, no ambient capabilities (runc 1.2), a cgroup
/// namespace (runc adds it where cgroup v2 stands alone), one more masked path.
fn wanted(name: &str) -> Value {
    let text = fs::read_to_string(repository("tests/data/spec").join(name)).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["ociVersion"] = json!("1.3.0");
    value["process"]["capabilities"].as_object_mut().unwrap().remove("ambient").unwrap();
    let namespaces = value["linux"]["namespaces"].as_array_mut().unwrap();
    let at = namespaces.iter().position(|n| n["type"] == "user").unwrap_or(namespaces.len());
    namespaces.insert(at, json!({"type": "cgroup"}));
    value["linux"]["maskedPaths"].as_array_mut().unwrap().push(json!("/sys/devices/virtual/tpm"));
    value
}

#[test]
fn the_default_is_runc_s() {
    let dir = tempfile::tempdir().unwrap();
    let ran = onggi(&format!("spec --bundle {}", dir.path().display()));
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", ""));
    let text = fs::read_to_string(dir.path().join("config.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), wanted("runc-1.1.5.json"));
    assert!(text.starts_with("{\n\t\"ociVersion\"") && text.ends_with("\n}"));
}

#[test]
fn rootless_maps_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(onggi(&format!("spec --rootless -b {}", dir.path().display())).status, 0);
    let text = fs::read_to_string(dir.path().join("config.json")).unwrap();
    let mut want = wanted("runc-1.1.5-rootless.json");
    want["linux"]["uidMappings"][0]["hostID"] = nix::unistd::geteuid().as_raw().into();
    want["linux"]["gidMappings"][0]["hostID"] = nix::unistd::getegid().as_raw().into();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), want);
}

#[test]
fn an_existing_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), "mine").unwrap();
    let ran = onggi(&format!("spec -b {}", dir.path().display()));
    assert_eq!((ran.status, ran.stderr.as_str()), (1, "File config.json exists. Remove it first\n"));
    assert_eq!(fs::read_to_string(dir.path().join("config.json")).unwrap(), "mine");
}
