//! Every command line captured from an engine is understood (containerd, Docker with BuildKit, Podman with Buildah).

use super::repository;
use onggi::cli::{CgroupManager, Command, Line};
use std::ffi::OsString;

fn lines(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(repository("tests/data/argv").join(file)).unwrap();
    let lines: Vec<String> = text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
    assert!(lines.len() > 10, "{file}");
    lines
}

fn read(line: &str) -> Line {
    let words: Vec<OsString> = std::iter::once("onggi").chain(line.split_whitespace()).map(OsString::from).collect();
    Line::read(&words).unwrap_or_else(|e| panic!("{line}: {e}"))
}

#[test]
fn every_captured_line_is_understood() {
    for file in ["containerd.txt", "docker.txt", "podman.txt"] {
        for text in lines(file) {
            let line = read(&text);
            line.command().unwrap_or_else(|e| panic!("{text}: {e}"));
            // Commands whose work is not there yet answer before their flags are looked at.
            line.check().unwrap_or_else(|e| panic!("{text}: {e}"));
        }
    }
}

#[test]
fn an_engine_s_create_keeps_its_meaning() {
    let line = read("--root R --log L --log-format json create --bundle B --pid-file P c1");
    assert_eq!(line.global.root.as_deref(), Some("R".as_ref()));
    let Command::Create(args) = line.command().unwrap() else { panic!() };
    assert_eq!((args.bundle, args.pid_file, args.id.as_str()), (Some("B".into()), Some("P".into()), "c1"));
    // conmon-rs gives the global flags twice.
    let line = read("--root=A --systemd-cgroup --root=B --systemd-cgroup state c1");
    assert_eq!(line.global.root.as_deref(), Some("B".as_ref()));
    assert_eq!(line.global.cgroup_manager, CgroupManager::Systemd);
}
