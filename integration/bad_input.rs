//! Broken configurations, bundles and arguments: refused in one line that names the field, with nothing left behind.

use crate::bundle::{Bundle, Output};
use crate::case;
use crate::case::{Case, runtime};
use crate::hostdelta::Snapshot;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

const FIELDS: &str = "the field in the message is ours";

pub fn cases() -> Vec<Case> {
    vec![
        case!(every_broken_configuration_is_refused_by_create).ours(FIELDS),
        case!(some_broken_configurations_are_refused_by_run).ours(FIELDS),
        case!(unknown_members_are_no_fault),
        case!(a_wrong_type_names_pointer_line_and_column).ours(FIELDS),
        case!(a_config_that_is_no_file_is_refused).ours("a FIFO hangs others"),
        case!(a_config_beyond_64_mib_is_refused).ours("others read it all"),
        case!(a_root_that_is_no_directory_is_named).ours(FIELDS),
        case!(a_missing_source_of_a_bind_is_named).ours(FIELDS),
        case!(an_unknown_file_system_is_named).ours(FIELDS),
        case!(a_bad_mount_option_is_told_in_the_kernel_s_words).ours("others have the errno alone"),
        case!(a_mount_over_a_link_in_proc_is_refused).ours(FIELDS),
        case!(a_directory_over_a_file_is_refused).ours(FIELDS),
        case!(a_namespace_path_that_is_none_is_named).ours(FIELDS),
        case!(a_missing_hook_is_named).ours(FIELDS),
        case!(a_working_directory_that_is_a_file_is_named).ours(FIELDS),
        case!(a_state_root_that_is_no_directory_is_refused).ours("the words are ours"),
        case!(a_pid_file_in_a_missing_directory_is_refused).ours("others leave what they have made"),
        case!(a_missing_console_socket_is_refused).ours("others leave what they have made"),
    ]
}

/// How a command was refused: the line for people, and its parts in the log.
#[derive(Debug)]
struct Refusal {
    line: String,
    log: Value,
}

impl Refusal {
    fn field(&self) -> &str {
        self.log["field"].as_str().unwrap_or_default()
    }

    #[track_caller]
    fn says(&self, field: &str, words: &str) {
        assert!(self.field() == field && self.line.contains(words), "not {field:?} and {words:?}: {self:#?}");
    }
}

/// Makes a container of what lies in the bundle, which must fail as all failures should.
#[track_caller]
fn refusal(bundle: &Bundle, command: &[&str]) -> Refusal {
    try_refusal(bundle, command).unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn try_refusal(bundle: &Bundle, command: &[&str]) -> Result<Refusal, String> {
    let before = Snapshot::of(bundle);
    let log = bundle.home.join("log");
    let words = ["--log", &log.display().to_string(), "--log-format", "json"].map(String::from).to_vec();
    let words = words.iter().map(String::as_str).chain(command.iter().copied());
    let Output { status, stdout, stderr } = bundle.call(words.chain([bundle.id.as_str()]));
    let logged = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(log);
    let fault = |what: &str| Err(format!("{what}: status {status}\nstdout {stdout:?}\nstderr {stderr:?}\nlog {logged:?}"));
    if status == 0 || status >= 126 {
        return fault("a status that is no refusal");
    }
    if stderr.lines().count() != 1 || logged.lines().count() != 1 {
        return fault("not one line");
    }
    let Ok(log) = serde_json::from_str::<Value>(&logged) else { return fault("no JSON") };
    let line = stderr.trim_end().to_owned();
    if log["msg"] != json!(line) || log["level"] != "error" {
        return fault("another message in the log");
    }
    let delta = before.delta();
    if !delta.is_empty() {
        return fault(&format!("left behind: {delta:?}"));
    }
    Ok(Refusal { line, log })
}

/// `name pointer words` of each broken configuration.
fn broken() -> Vec<[String; 3]> {
    let index = include_str!("../tests/data/bad/index.tsv").lines().filter(|line| !line.starts_with('#'));
    let parts = |line: &str| line.split('\t').map(|part| part.trim_start_matches('-').to_owned()).collect::<Vec<_>>();
    index.map(|line| parts(line).try_into().unwrap_or_else(|_| panic!("three parts: {line:?}"))).collect()
}

fn judge(bundle: &Bundle, command: &[&str], [name, pointer, words]: &[String; 3]) -> Option<String> {
    fs::copy(crate::stage::data("bad").join(format!("{name}.json")), bundle.dir().join("config.json"))
        .expect("copy a configuration");
    match try_refusal(bundle, command) {
        Err(wrong) => Some(format!("{name}: {wrong}")),
        Ok(refusal) if refusal.field() != pointer || !refusal.line.contains(words) => Some(format!("{name}: {refusal:?}")),
        Ok(_) => None,
    }
}

fn every_broken_configuration_is_refused_by_create() {
    let bundle = Bundle::new();
    let all = broken();
    assert!(all.len() >= 60, "{}", all.len());
    let wrong: Vec<String> = all.iter().filter_map(|one| judge(&bundle, &["create"], one)).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

fn some_broken_configurations_are_refused_by_run() {
    let bundle = Bundle::new();
    let wrong: Vec<String> = broken().iter().step_by(9).filter_map(|one| judge(&bundle, &["run"], one)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn unknown_members_are_no_fault() {
    let bundle = Bundle::new().args(["echo", "ran"]).set("/x-unknown", json!({"a": [1, null]}));
    let bundle = bundle.set("/process/x-unknown", 1).set("/linux/resources/x-unknown", "a").set("/linux/x-unknown/y", json!([]));
    assert_eq!(bundle.set("/mounts/0/x-unknown", json!(null)).stdout(), "ran\n");
}

fn a_wrong_type_names_pointer_line_and_column() {
    let bundle = Bundle::new();
    let text = "{\"ociVersion\":\"1.0.0\",\n\"linux\":{\"resources\":{\n\"pids\":{\"limit\":\"7\"}}}}";
    fs::write(bundle.dir().join("config.json"), text).expect("write config.json");
    refusal(&bundle, &["create"]).says("/linux/resources/pids/limit", "at line 3 column 19");
}

fn a_config_that_is_no_file_is_refused() {
    let bundle = Bundle::new();
    let path = bundle.dir().join("config.json");
    refusal(&bundle, &["create"]).says("", "JSON specification file config.json not found");
    fs::create_dir(&path).expect("make a directory");
    refusal(&bundle, &["create"]).says("", "not a regular file");
    fs::remove_dir(&path).expect("remove the directory");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("make a FIFO");
    refusal(&bundle, &["create"]).says("", "not a regular file");
    fs::remove_file(&path).expect("remove the FIFO");
    symlink("config.json", &path).expect("make a loop");
    refusal(&bundle, &["create"]).says("", "too many levels of symbolic links");
}

fn a_config_beyond_64_mib_is_refused() {
    let bundle = Bundle::new();
    let file = fs::File::create(bundle.dir().join("config.json")).expect("make config.json");
    file.set_len(65 << 20).expect("make it large");
    refusal(&bundle, &["create"]).says("", "larger than 67108864 bytes");
}

fn a_root_that_is_no_directory_is_named() {
    let bundle = Bundle::new();
    fs::write(bundle.dir().join("file"), "").expect("write a file");
    symlink("loop", bundle.dir().join("loop")).expect("make a loop");
    let mut bundle = bundle;
    for (path, words) in
        [("absent", "no such file or directory"), ("file", "not a directory"), ("loop", "too many levels of symbolic links")]
    {
        bundle = bundle.set("/root/path", path);
        bundle.write();
        refusal(&bundle, &["create"]).says("/root/path", words);
    }
}

fn a_missing_source_of_a_bind_is_named() {
    let bundle = Bundle::new().mount("/data", "bind", "/no/such/source", &["rbind"]);
    bundle.write();
    let refusal = refusal(&bundle, &["create"]);
    refusal.says("/mounts/7/source", "/no/such/source");
    assert!(refusal.line.contains("no such file or directory"), "{refusal:?}");
    // The mount point was not made either.
    assert!(!bundle.rootfs().join("data").exists());
}

fn an_unknown_file_system_is_named() {
    let bundle = Bundle::new().mount("/tmp", "nosuchfs", "none", &[]);
    bundle.write();
    refusal(&bundle, &["create"]).says("/mounts/7", "nosuchfs");
}

fn a_bad_mount_option_is_told_in_the_kernel_s_words() {
    let bundle = Bundle::new().mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "frobnicate"]);
    bundle.write();
    let refusal = refusal(&bundle, &["create"]);
    assert!(refusal.field().starts_with("/mounts/7"), "{refusal:?}");
    assert!(refusal.line.contains("Unknown parameter 'frobnicate'"), "{refusal:?}");
}

fn a_mount_over_a_link_in_proc_is_refused() {
    let bundle = Bundle::new();
    symlink("/proc/self", bundle.rootfs().join("way")).expect("make a link");
    let bundle = bundle.mount("/way/attr", "tmpfs", "tmpfs", &[]);
    bundle.write();
    refusal(&bundle, &["create"]).says("/mounts/7", "/proc");
}

fn a_directory_over_a_file_is_refused() {
    let bundle = Bundle::new().mount("/etc/passwd", "bind", "/etc", &["rbind"]);
    bundle.write();
    refusal(&bundle, &["create"]).says("/mounts/7", "not a directory");
}

fn a_namespace_path_that_is_none_is_named() {
    let mut bundle = Bundle::new();
    let cases = [
        ("/no/such/path", "no such file or directory"),
        ("/etc/passwd", "not a namespace"),
        ("/proc/self/ns/uts", "invalid argument"),
        ("/proc/self", "not a namespace"),
    ];
    for (path, words) in cases {
        bundle = bundle.set("/linux/namespaces/2", json!({"type": "ipc", "path": path}));
        bundle.write();
        let refusal = refusal(&bundle, &["create"]);
        assert!(refusal.field().starts_with("/linux/namespaces/2") && refusal.line.contains(words), "{path}: {refusal:?}");
    }
}

fn a_missing_hook_is_named() {
    for stage in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new().set(&format!("/hooks/{stage}"), json!([{"path": "/no/such/hook"}]));
        bundle.write();
        let refusal = refusal(&bundle, &["create"]);
        assert!(refusal.field().starts_with(&format!("/hooks/{stage}/0")), "{refusal:?}");
        assert!(refusal.line.contains("no such file or directory"), "{refusal:?}");
    }
}

fn a_working_directory_that_is_a_file_is_named() {
    let bundle = Bundle::new().set("/process/cwd", "/etc/passwd");
    bundle.write();
    refusal(&bundle, &["create"]).says("/process/cwd", "not a directory");
}

/// `create` with another state root, which must be refused.
pub fn create_in(bundle: &Bundle, root: &Path) -> Output {
    bundle.write();
    let mut command = Command::new(runtime());
    command.arg("--root").arg(root).args(["create", &bundle.id]).current_dir(bundle.dir()).stdin(Stdio::null());
    let before = Snapshot::of(bundle);
    let output = bundle.finish(command);
    before.assert_unchanged();
    assert!(output.status == 1 && output.stderr.lines().count() == 1, "{output:?}");
    output
}

fn a_state_root_that_is_no_directory_is_refused() {
    let bundle = Bundle::new();
    let path = |name: &str| bundle.home.join(name);
    fs::write(path("file"), "").expect("write a file");
    symlink("loop", path("loop")).expect("make a loop");
    symlink("absent", path("dangling")).expect("make a link");
    for (root, words) in [
        (path("file"), "not a directory"),
        (path("loop"), "too many levels of symbolic links"),
        (path("dangling"), "no such file or directory"),
        ("/proc/onggi".into(), "state root /proc/onggi"),
    ] {
        let output = create_in(&bundle, &root);
        assert!(output.stderr.contains(words) && output.stderr.contains("state root"), "{output:?}");
    }
}

fn a_pid_file_in_a_missing_directory_is_refused() {
    let bundle = Bundle::new().args(["sleep", "1000"]);
    bundle.write();
    refusal(&bundle, &["create", "--pid-file", "/no/such/directory/pid"]).says("", "/no/such/directory/pid");
    refusal(&bundle, &["run", "--pid-file", "/no/such/directory/pid"]).says("", "/no/such/directory/pid");
}

fn a_missing_console_socket_is_refused() {
    let bundle = Bundle::new().set("/process/terminal", true);
    bundle.write();
    refusal(&bundle, &["create", "--console-socket", "/no/such/socket"]).says("", "/no/such/socket");
    let file = bundle.home.join("file");
    fs::write(&file, "").expect("write a file");
    let refusal = refusal(&bundle, &["create", "--console-socket", &file.display().to_string()]);
    assert!(refusal.line.contains("it is not a socket"), "{refusal:?}");
}
