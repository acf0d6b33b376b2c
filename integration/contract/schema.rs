//! What is printed, and what hooks read, against the schemas of the specification.

use super::sleeper;
use crate::bundle::{Bundle, eventually};
use crate::case;
use crate::case::Case;
use serde_json::{Value, json};
use std::fs;

pub fn cases() -> Vec<Case> {
    vec![
        case!(the_state_in_each_status).ours("others have no state while they create"),
        case!(the_state_that_hooks_read)
            .except("crun", "its pid is missing in poststop")
            .except("runc", "1.1 has poststart in create"),
        case!(the_schema_can_refuse_a_state),
        case!(the_features).except("crun", "1.8 has none").except("runc", "1.1 has archs that the schema lacks"),
    ]
}

fn read(name: &str) -> Value {
    serde_json::from_slice(&fs::read(crate::stage::data("schema").join(name)).expect("read a schema")).expect("parse a schema")
}

/// A schema with those that it refers to under one made-up address.
fn validator(name: &str) -> jsonschema::Validator {
    let mut registry = jsonschema::Registry::new();
    for other in ["features-linux.json", "defs.json", "defs-linux.json"] {
        registry = registry.add(format!("oci:///{other}"), read(other)).expect("add a schema");
    }
    let registry = registry.prepare().expect("resolve the schemas");
    let options = jsonschema::options().with_registry(&registry).with_base_uri(format!("oci:///{name}"));
    options.build(&read(name)).expect("read a schema")
}

#[track_caller]
fn valid(schema: &str, value: &Value) {
    let faults: Vec<String> = validator(schema).iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:?} in {value}");
}

fn the_state_in_each_status() {
    let bundle = sleeper().set("/annotations", json!({"org.example.a": "b"}));
    // The hook asks while the container is made.
    let (ask, seen) = (bundle.command(["state", &bundle.id]), bundle.home.join("creating"));
    let words: Vec<String> =
        std::iter::once(ask.get_program()).chain(ask.get_args()).map(|w| w.to_string_lossy().into_owned()).collect();
    let script = format!("{} >{}", words.join(" "), seen.display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    let bundle = bundle.set("/hooks/createRuntime", json!([hook]));
    let container = bundle.create();
    let creating: Value = serde_json::from_slice(&fs::read(&seen).expect("what the hook was told")).expect("JSON");
    assert_eq!((&creating["status"], &creating["pid"]), (&json!("creating"), &json!(container.pid)));
    let mut states = vec![creating, container.state()];
    states.push(container.start().state());
    container.ok("pause", &[]);
    let mut paused = container.state();
    container.ok("resume", &[]);
    container.kill("KILL").wait();
    eventually("stopped", || container.status() == "stopped");
    states.push(container.state());
    let seen: Vec<_> = states.iter().map(|s| s["status"].clone()).collect();
    assert_eq!(seen, ["creating", "created", "running", "stopped"]);
    states.iter().for_each(|state| valid("state-schema.json", state));
    // Runtimes may have more statuses (runtime.md, State); the schema names the four alone.
    assert_eq!(paused["status"].take(), "paused");
    paused["status"] = json!("running");
    valid("state-schema.json", &paused);
}

fn the_state_that_hooks_read() {
    let stages = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let mut bundle = sleeper().set("/annotations", json!({"org.example.a": "b"}));
    let out = bundle.home.join("out");
    fs::create_dir(&out).expect("make a directory");
    bundle = bundle.mount("/out", "bind", &out.display().to_string(), &["bind"]);
    for stage in stages {
        let place = if stage == "startContainer" { "/out".into() } else { out.display().to_string() };
        let hook =
            json!({"path": "/bin/sh", "args": ["sh", "-c", format!("cat >{place}/{stage}")], "env": ["PATH=/bin:/usr/bin"]});
        bundle = bundle.set(&format!("/hooks/{stage}"), json!([hook]));
    }
    let container = bundle.create();
    container.start().kill("KILL").wait();
    container.ok("delete", &[]);
    for stage in stages {
        let state: Value = serde_json::from_slice(&fs::read(out.join(stage)).expect("what the hook read")).expect("JSON");
        assert_eq!(state["annotations"]["org.example.a"], "b", "{stage}");
        valid("state-schema.json", &state);
    }
}

fn the_schema_can_refuse_a_state() {
    let good = json!({"ociVersion": "1.2.0", "id": "a", "status": "running", "pid": 1, "bundle": "/b"});
    valid("state-schema.json", &good);
    let mut bad = good.clone();
    bad["status"] = json!("runs");
    assert!(!validator("state-schema.json").is_valid(&bad));
    bad["status"] = json!("running");
    bad["pid"] = json!(-1);
    assert!(!validator("state-schema.json").is_valid(&bad));
}

fn the_features() {
    let output = Bundle::new().call(["features"]);
    valid("features-schema.json", &serde_json::from_str(&output.stdout).expect("JSON"));
}
