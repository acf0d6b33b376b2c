//! Help, version and wrong arguments.

use super::{onggi, run};
use onggi::cli::definition::VERBS;
use std::os::unix::process::CommandExt;
use std::process::Command;

#[test]
fn help_is_on_stdout_and_no_failure() {
    for line in ["", "--help", "-h", "help", "--root /x --help"] {
        let ran = onggi(line);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{line}");
        assert!(ran.stdout.contains("Usage: onggi") && ran.stdout.contains("create"), "{line}: {}", ran.stdout);
    }
    for verb in VERBS {
        for line in [format!("{} --help", verb.name), format!("{} -h", verb.name), format!("help {}", verb.name)] {
            let ran = onggi(&line);
            assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{line}");
            assert!(ran.stdout.contains(&format!("Usage: onggi {}", verb.name)), "{line}: {}", ran.stdout);
            for flag in verb.flags().filter(|f| !f.hidden) {
                assert!(ran.stdout.contains(&format!("--{}", flag.long)), "{line} lacks --{}", flag.long);
            }
        }
    }
}

/// Podman and CRI-O ask so whether containers, and pods, can be checkpointed and restored.
#[test]
fn the_probes_for_checkpoint_and_restore() {
    assert_eq!(onggi("checkpoint --help").status, 0);
    let probe = onggi("restore --lsm-mount-context");
    assert_eq!((probe.status, probe.stdout.as_str()), (1, ""));
    assert!(probe.stderr.contains("flag needs an argument"), "{}", probe.stderr);
}

#[test]
fn wrong_arguments_fail_with_one_line() {
    for (line, words) in [
        ("nope", "unknown command \"nope\": No help topic for 'nope'"),
        ("nope -h", "No help topic for 'nope'"),
        ("--nope state a", "unknown flag --nope"),
        ("state", "required"),
        ("state a b", "unexpected argument 'b'"),
        ("create --nope a", "unexpected argument '--nope'"),
        ("create a --bundle", "flag needs an argument: --bundle"),
        ("create --preserve-fds x a", "--preserve-fds: \"x\" is not a number"),
        ("run --keep=maybe a", "--keep: \"maybe\" is neither true nor false"),
        ("list --format yaml", "invalid format option"),
        ("--log-format yaml state a", "invalid log-format: yaml"),
        ("--cgroup-manager x state a", "invalid cgroup-manager: x"),
        ("--root", "flag needs an argument: --root"),
    ] {
        let ran = onggi(line);
        assert_eq!(ran.status, 1, "{line}");
        assert!(ran.stderr.contains(words) && ran.stderr.lines().count() == 1, "{line}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{line}");
    }
}

#[test]
fn a_bad_id_is_refused_in_runc_s_words() {
    for verb in ["create", "run", "start", "state", "kill", "delete"] {
        for id in ["a/b", "..", "."] {
            let ran = onggi(&format!("{verb} {id}"));
            assert_eq!((ran.status, ran.stderr.as_str()), (1, "invalid container ID format\n"), "{verb} {id}");
        }
    }
}

#[test]
fn version_in_three_lines() {
    for line in ["--version", "-v", "--root /x --version"] {
        let ran = onggi(line);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert_eq!(lines.len(), 3, "{}", ran.stdout);
        assert_eq!(lines[0], format!("onggi version {}", env!("CARGO_PKG_VERSION")));
        assert!(lines[1].strip_prefix("commit: ").is_some_and(|c| !c.is_empty() && !c.contains("version")));
        assert_eq!(lines[2], "spec: 1.3.0");
    }
    let ran = run(Command::new(env!("CARGO_BIN_EXE_onggi")).arg0("/usr/bin/runc").arg("--version"));
    assert!(ran.stdout.starts_with("runc version "), "{}", ran.stdout);
}

#[test]
fn a_reader_that_has_gone_is_no_reason_to_complain() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let out = Command::new(env!("CARGO_BIN_EXE_onggi")).arg("features").stdout(writer).output().unwrap();
    assert_eq!((out.status.code(), out.stderr.as_slice()), (Some(141), b"".as_slice()));
}
