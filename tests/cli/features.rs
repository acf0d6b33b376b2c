//! `features` against the schema of the OCI runtime specification.

use super::{onggi, repository};
use serde_json::Value;

fn schema(name: &str) -> Value {
    let text = std::fs::read_to_string(repository("tests/data/schema").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The schema with its files under one made-up address, so that their references to each other resolve.
fn validator() -> jsonschema::Validator {
    let mut registry = jsonschema::Registry::new();
    for name in ["features-linux.json", "defs.json", "defs-linux.json"] {
        registry = registry.add(format!("oci:///{name}"), schema(name)).unwrap();
    }
    let registry = registry.prepare().unwrap();
    jsonschema::options()
        .with_registry(&registry)
        .with_base_uri("oci:///features-schema.json")
        .build(&schema("features-schema.json"))
        .unwrap()
}

#[test]
fn valid_by_the_schema() {
    let ran = onggi("features");
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    let validator = validator();
    let faults: Vec<String> = validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn the_schema_can_refuse() {
    let mut value: Value = serde_json::from_str(&onggi("features").stdout).unwrap();
    value["linux"]["seccomp"]["actions"][0] = "SCMP_ACT_NOPE".into();
    assert!(!validator().is_valid(&value));
}

#[test]
fn no_environment_no_directory_needed() {
    let ran = super::run(std::process::Command::new(env!("CARGO_BIN_EXE_onggi")).arg("features").env_clear().current_dir("/"));
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
}
