//! The log file and stderr of a command that fails: one record, the same words in both.

use super::onggi;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn time_is_rfc3339(time: &str) -> bool {
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000000000Z"
}

#[test]
fn one_json_object_for_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log.json");
    let ran = onggi(&format!("--log {} --log-format json state a/b", log.display()));
    assert_eq!((ran.status, ran.stderr.as_str()), (1, "invalid container ID format\n"));
    let value: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!((&value["level"], &value["msg"]), (&"error".into(), &"invalid container ID format".into()));
    assert!(time_is_rfc3339(value["time"].as_str().unwrap()), "{value}");
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777 & !0o022, 0o644 & !0o022);
}

#[test]
fn records_are_appended() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    for _ in 0..2 {
        onggi(&format!("--log {} --log-format=json create --nope a", log.display()));
    }
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 2);
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["step"], "create");
        assert_eq!(value["hint"], "see onggi create --help");
    }
}

#[test]
fn the_parts_of_a_failed_system_call() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    onggi(&format!("--log {} --log-format json spec --bundle {}/none", log.display(), dir.path().display()));
    let value: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!((&value["syscall"], &value["errno"]), (&"open".into(), &2.into()));
    assert!(value["msg"].as_str().unwrap().ends_with("none/config.json: no such file or directory"), "{value}");
}

#[test]
fn text_has_the_shape_of_logrus() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    onggi(&format!("--log {} nope", log.display()));
    let text = fs::read_to_string(&log).unwrap();
    let (time, rest) = text.strip_prefix("time=\"").unwrap().split_once('"').unwrap();
    assert!(time_is_rfc3339(time));
    assert_eq!(rest, " level=error msg=\"usage: unknown command \\\"nope\\\": No help topic for 'nope' (see onggi --help)\"\n");
}

#[test]
fn without_a_file_stderr_has_the_words_once() {
    assert_eq!(onggi("state a/b").stderr, "invalid container ID format\n");
    let debug = onggi("--debug state a/b").stderr;
    assert!(debug.contains(" level=debug ") && debug.ends_with("\ninvalid container ID format\n"), "{debug}");
    assert_eq!(debug.matches("invalid container ID format").count(), 1);
    assert_eq!(onggi("--log /dev/stderr state a/b").stderr, "invalid container ID format\n");
    let ran = onggi("--log-format json state a/b");
    let value: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(value["msg"], "invalid container ID format");
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error() {
    let ran = onggi("--log /nonexistent/log --log-format json features");
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("open log file /nonexistent/log: no such file or directory"), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
}

#[test]
fn success_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let ran = onggi(&format!("--log {} --log-format json features", log.display()));
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(fs::read_to_string(&log).unwrap(), "");
}
