//! The ways in which a hook can go wrong (each has hung or leaked in some runtime), at every stage.

use onggi::config::Hook;
use onggi::error::Result;
use onggi::hooks::{KEPT, Laid, Output, Stage, run, run_all};
use onggi::sys::spawn::{self, Program};
use std::path::Path;
use std::time::{Duration, Instant};

const STAGES: [Stage; 6] =
    [Stage::Prestart, Stage::CreateRuntime, Stage::CreateContainer, Stage::StartContainer, Stage::Poststart, Stage::Poststop];

fn shell(script: &str, timeout: Option<i64>) -> Hook {
    let json = serde_json::json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=b"], "timeout": timeout});
    serde_json::from_value(json).unwrap()
}

fn run_at(stage: Stage, hook: Hook) -> Result<()> {
    run(stage, &[hook], b"{}", Path::new("/tmp"), &Output::default())
}

/// The message of a failure, with the stage's own words taken away; checks them, and the time.
fn failure(stage: Stage, hook: Hook, limit: Duration) -> String {
    let start = Instant::now();
    let error = run_at(stage, hook).unwrap_err();
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    let before = format!("/hooks/{0}/0: error running {0} hook #0: ", stage.name());
    let message = error.to_string();
    message.strip_prefix(&before).unwrap_or_else(|| panic!("{message}")).to_owned()
}

/// Whether a process with this marker as its argument zero is alive.
fn alive(marker: &str) -> bool {
    procfs::process::all_processes().unwrap().flatten().any(|process| {
        let ended = process.stat().is_ok_and(|stat| stat.state == 'Z');
        !ended && process.cmdline().is_ok_and(|line| line.first().is_some_and(|name| name == marker))
    })
}

fn marker(name: &str, stage: Stage) -> String {
    format!("onggi-test-{name}-{}-{}", stage.name(), std::process::id())
}

#[test]
fn a_status_other_than_zero_comes_with_the_last_words() {
    for stage in STAGES {
        let message = failure(stage, shell("echo about to; echo fail >&2; exit 42", None), Duration::from_secs(5));
        assert!(message.starts_with("/bin/sh: exit status 42 after 0."), "{message}");
        assert!(message.ends_with(", stderr: about to; fail"), "{message}");
    }
}

#[test]
fn a_time_limit_kills_all_of_the_session() {
    for stage in STAGES {
        let name = marker("job", stage);
        // The shell's job control puts the job into a process group of its own.
        let hook = serde_json::from_value(serde_json::json!({
            "path": "/bin/bash", "timeout": 1,
            "args": ["bash", "-c", format!("echo waiting; set -m; (exec -a {name} sleep 60) & sleep 60")],
        }));
        let message = failure(stage, hook.unwrap(), Duration::from_millis(1500));
        assert!(message.contains("timeout of 1 s exceeded"), "{message}");
        assert!(message.ends_with("stderr: waiting"), "{message}");
        // SIGKILL is sent; it may take the kernel a moment to carry it out.
        let gone = (0..20).any(|_| {
            !alive(&name) || {
                std::thread::sleep(Duration::from_millis(20));
                false
            }
        });
        assert!(gone, "a job of the hook lives on");
    }
}

#[test]
fn a_hook_that_ignores_signals_is_killed_in_time() {
    for stage in STAGES {
        failure(stage, shell("trap '' TERM INT HUP; while :; do sleep 1; done", Some(1)), Duration::from_millis(1500));
    }
}

#[test]
fn a_daemon_that_keeps_the_output_open_holds_nobody_up() {
    for stage in STAGES {
        let start = Instant::now();
        run_at(stage, shell("(setsid sleep 3 &) ; exit 0", Some(10))).unwrap();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

#[test]
fn a_mebibyte_of_output_blocks_nobody() {
    for stage in STAGES {
        run_at(stage, shell("head -c 1048576 /dev/zero | tr '\\0' x; head -c 1048576 /dev/zero >&2", Some(20))).unwrap();
    }
    let message =
        failure(Stage::Poststop, shell("head -c 1048576 /dev/zero | tr '\\0' x; exit 1", None), Duration::from_secs(20));
    assert!(message.len() > 4000 && message.len() < 4400, "{}", message.len());
}

#[test]
fn closed_stdio_and_unread_input_are_fine() {
    let state = vec![b'x'; 300_000];
    for stage in STAGES {
        run_at(stage, shell("exec <&- >&- 2>&-; exit 0", Some(10))).unwrap();
        run(stage, &[shell("exit 0", Some(10))], &state, Path::new("/tmp"), &Output::default()).unwrap();
        run(stage, &[shell("test $(wc -c) = 300000", Some(10))], &state, Path::new("/tmp"), &Output::default()).unwrap();
    }
}

#[test]
fn a_hook_dies_with_the_runtime_that_it_killed() {
    if std::env::var_os("ONGGI_TEST_VICTIM").is_some() {
        let name = std::env::var("ONGGI_TEST_VICTIM").unwrap();
        let script = format!("kill -9 $PPID; exec -a {name} sleep 60");
        let hook = serde_json::json!({"path": "/bin/bash", "args": ["bash", "-c", script]});
        let _never = run_at(Stage::CreateRuntime, serde_json::from_value(hook).unwrap());
        unreachable!();
    }
    let name = marker("killer", Stage::CreateRuntime);
    let me = std::env::current_exe().unwrap();
    let args = ["--exact", "hooks::a_hook_dies_with_the_runtime_that_it_killed"];
    let status = std::process::Command::new(me).args(args).env("ONGGI_TEST_VICTIM", &name).output().unwrap().status;
    assert!(!status.success());
    std::thread::sleep(Duration::from_millis(300));
    assert!(!alive(&name));
}

#[test]
fn a_signal_is_named() {
    for stage in STAGES {
        let message = failure(stage, shell("kill -SEGV $$", None), Duration::from_secs(5));
        assert!(message.contains("killed by signal SIGSEGV"), "{message}");
    }
}

#[test]
fn missing_and_not_executable_files_are_told_apart() {
    for stage in STAGES {
        let hook = |path: &str| serde_json::from_value(serde_json::json!({ "path": path })).unwrap();
        let message = failure(stage, hook("/nonexistent/hook"), Duration::from_secs(5));
        assert!(message.starts_with("/nonexistent/hook: no such file or directory"), "{message}");
        let plain = tempfile::NamedTempFile::new().unwrap();
        let message = failure(stage, hook(plain.path().to_str().unwrap()), Duration::from_secs(5));
        assert!(message.contains(": permission denied ("), "{message}");
    }
}

#[test]
fn environment_directory_and_state_are_exactly_the_ones_given() {
    let bundle = tempfile::tempdir().unwrap();
    let script = "cat > state; tr '\\0' '\\n' < /proc/$$/environ > env; pwd -P > pwd";
    run(Stage::CreateRuntime, &[shell(script, None)], b"{\"id\":\"x\"}", bundle.path(), &Output::default()).unwrap();
    let read = |name: &str| std::fs::read_to_string(bundle.path().join(name)).unwrap();
    assert_eq!(read("state"), "{\"id\":\"x\"}");
    assert_eq!(read("env"), "A=b\n");
    assert_eq!(Path::new(read("pwd").trim()), bundle.path().canonicalize().unwrap());
    let none: Hook = serde_json::from_value(serde_json::json!({
        "path": "/bin/sh", "args": ["sh", "-c", "test ! -s /proc/self/environ"]}))
    .unwrap();
    run_at(Stage::Poststart, none).unwrap();
}

#[test]
fn the_first_failure_ends_the_stage_but_for_poststop() {
    let bundle = tempfile::tempdir().unwrap();
    let hooks = [shell("exit 1", None), shell("touch ran", None), shell("exit 2", None)];
    run(Stage::CreateRuntime, &hooks, b"", bundle.path(), &Output::default()).unwrap_err();
    assert!(!bundle.path().join("ran").exists());
    let errors = run_all(Stage::Poststop, &hooks, b"", bundle.path(), &Output::default());
    assert_eq!(errors.iter().map(|e| e.field()).collect::<Vec<_>>(), ["/hooks/poststop/0", "/hooks/poststop/2"]);
    assert!(bundle.path().join("ran").exists());
}

#[test]
fn files_take_the_output_when_annotations_name_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("out"), "before\n").unwrap();
    let annotations = [("run.oci.hooks.stdout", path("out")), ("run.oci.hooks.stderr", path("err"))];
    let output = Output::open(&annotations.map(|(k, v)| (k.to_owned(), v)).into()).unwrap();
    run(Stage::Poststart, &[shell("echo out; echo err >&2", None)], b"", dir.path(), &output).unwrap();
    assert_eq!(std::fs::read_to_string(path("out")).unwrap(), "before\nout\n");
    assert_eq!(std::fs::read_to_string(path("err")).unwrap(), "err\n");
    nix::unistd::mkfifo(path("fifo").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = Output::open(&[("run.oci.hooks.stdout".to_owned(), path("fifo"))].into()).unwrap_err();
    assert_eq!(error.field(), "/annotations/run.oci.hooks.stdout");
}

/// As the container's init runs its hooks: pid 1 of its namespace, no procfs, nothing but what was laid out before.
#[test]
fn an_init_without_procfs_can_run_hooks() {
    if std::env::var_os("ONGGI_TEST_INIT").is_some() {
        assert_eq!((std::process::id(), Path::new("/proc/self").exists()), (1, false));
        let mut buffer = [0; KEPT];
        let mut run = |hook: &Hook| {
            let laid = Laid::new(Stage::CreateContainer, 1, hook).unwrap();
            let program = Program { stdin: &[b"{\"pid\":", b"1}"], ..laid.program() };
            let report = spawn::run(&program, &mut buffer).unwrap();
            laid.outcome(&report, &buffer[..report.captured])
        };
        let message = run(&shell("cat >&2; exit 4", None)).unwrap_err().to_string();
        assert!(message.contains("exit status 4") && message.ends_with(", stderr: {\"pid\":1}"), "{message}");
        let message = run(&shell("sleep 60 & sleep 60", Some(1))).unwrap_err().to_string();
        assert!(message.contains("timeout of 1 s exceeded"), "{message}");
        return;
    }
    if !super::root("an_init_without_procfs_can_run_hooks") {
        return;
    }
    let script = format!(
        "umount -l /proc; exec {} --exact hooks::an_init_without_procfs_can_run_hooks",
        std::env::current_exe().unwrap().display()
    );
    let output = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--mount", "sh", "-c", &script])
        .env("ONGGI_TEST_INIT", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
