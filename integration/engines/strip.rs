//! A runtime that takes what needs a controller out of `config.json`, and hands on to the runtime under test.
//!
//! For hosts without controllers on cgroup v2, where every CRI pod would fail, since CRI always asks for cpu shares.

use crate::system::{BIN, TARGET};
use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(bundle) = arguments.iter().position(|argument| argument == "--bundle").and_then(|at| arguments.get(at + 1)) {
        strip(&Path::new(bundle).join("config.json"));
    }
    let error = Command::new(Path::new(BIN).join(TARGET)).args(arguments).exec();
    eprintln!("strip: {error}");
    ExitCode::FAILURE
}

/// Device rules stay: they need no controller.
fn strip(file: &Path) {
    let config = fs::read(file).expect("read config.json");
    let mut config: Value = serde_json::from_slice(&config).expect("parse config.json");
    if let Some(resources) = config.pointer_mut("/linux/resources").and_then(Value::as_object_mut) {
        resources.retain(|name, _| name == "devices");
    }
    fs::write(file, config.to_string()).expect("write config.json");
}
