//! Processes of the runtime that a container sees, and what it can do to them: before they execute the program, by the link to
//! their own, by the terminal that they share.

use crate::bundle::{Bundle, eventually, find_program};
use crate::canary::Canary;
use crate::case;
use crate::case::{Case, name_of_runtime, runtime};
use crate::exec::{exec, sleeper};
use crate::faults;
use crate::hostdelta::{CaseGroup, Snapshot};
use serde_json::json;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What a container of root's can be given that does not amount to the host: all but the administration of everything.
const TRACER: &[&str] =
    &["CAP_SYS_PTRACE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"];
/// What its root has in a user namespace.
const ALL: &[&str] = &["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETUID"];

const SEALED: &str = "its copy is no sealed memory file";

pub fn cases() -> Vec<Case> {
    vec![
        case!(sec_02_cve_2016_9962_nobody_gets_hold_of_an_exec),
        case!(sec_02_cve_2016_9962_nobody_gets_hold_of_an_exec_in_a_user_namespace).except("crun", "1.8 cannot make them here"),
        case!(sec_02_cve_2016_9962_a_tracer_does_not_get_to_the_host).except("crun", SEALED),
        case!(sec_02_cve_2016_9962_many_execs_under_attack),
        case!(sec_03_cve_2019_5736_the_program_is_the_runtime_s_own),
        case!(sec_03_cve_2019_5736_the_link_leads_to_a_sealed_memory_file).except("crun", SEALED),
        case!(sec_03_cve_2019_5736_nothing_is_loaded_from_the_root),
        case!(sec_03_cve_2019_5736_the_mount_of_the_binary_is_let_go_before_the_clone).ours("others have no such mount"),
        Case::new(module_path!(), "sec_14_cve_2025_52565_links_in_dev_at_a_terminal", crate::console::links_in_dev_lead_nowhere)
            .except("crun", "CVE-2026-88264"),
        case!(sec_18_runc_5351_exec_s_cgroup_is_below_the_container_s)
            .except("crun", "the path is from the root")
            .except("runc", "1.1 fails on cgroup v2"),
        Case::new(
            module_path!(),
            "sec_21_cve_2017_5226_the_caller_s_terminal",
            crate::console::without_a_terminal_the_caller_s_cannot_be_pushed_into,
        ),
        Case::new(
            module_path!(),
            "sec_21_cve_2017_5226_the_caller_s_terminal_at_exec",
            crate::console::an_exec_without_a_terminal_cannot_push_either,
        ),
    ]
}

/// A container whose first process attacks, and its log.
fn attacked(bundle: Bundle) -> (Bundle, PathBuf, Canary) {
    let canary = Canary::new(&bundle);
    let file = canary.path.join("file").display().to_string();
    let place = bundle.rootfs().join("attack");
    fs::create_dir(&place).expect("make a directory");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).expect("set its mode");
    let log = place.join("log");
    (bundle.inside(&["attack", &file]).set("/root/readonly", false), log, canary)
}

/// The attacks on the process that `exec` brings in, tried while it waits at each of its system calls in turn.
fn attacks_on_an_exec(bundle: &Bundle, log: &PathBuf) -> Vec<String> {
    let group = CaseGroup::new(bundle);
    let container = bundle.detach();
    let tmp = bundle.rootfs().join("attack").display().to_string();
    // The attacker removes the file when its round is over.
    let round = format!(
        "touch {tmp}/go; n=0; while test -e {tmp}/go && test $n -lt 500; do sleep 0.01; n=$((n + 1)); done; test $n -lt 500"
    );
    let exec = faults::words(&bundle.command(["exec", &bundle.id, "true"]));
    let exec: Vec<&str> = exec.iter().map(String::as_str).collect();
    let report = faults::trace(bundle, &group, &format!("tree-each={round}"), 1, &exec);
    assert!(report.status == 0 && report.calls > 50, "{} after {} calls: {}", report.status, report.calls, report.printed);
    // One round more, with nobody there: what was kept is tried again.
    fs::write(format!("{tmp}/go"), "").expect("ask for a round");
    eventually("a last round", || !bundle.rootfs().join("attack/go").exists());
    container.kill("KILL").wait();
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect();
    // The program is the container's own.
    lines.retain(|line| !line.starts_with("true "));
    lines.sort();
    lines.dedup();
    eprintln!("{} attacks succeed: {lines:#?}", lines.len());
    lines
}

fn sec_02_cve_2016_9962_nobody_gets_hold_of_an_exec() {
    let (bundle, log, canary) = attacked(Bundle::new());
    let before = Snapshot::of(&bundle);
    assert_eq!(attacks_on_an_exec(&bundle, &log), Vec::<String>::new());
    canary.assert_unchanged("exec");
    assert_eq!(bundle.call(["delete", "--force", &bundle.id]).status, 0);
    before.assert_unchanged();
}

/// Root of the container may do anything in its user namespace, and trace what is in there.
fn in_a_user_namespace(bundle: Bundle) -> Bundle {
    for directory in [&bundle.home, &bundle.dir(), &bundle.rootfs()] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("change a mode");
    }
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.namespace("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map).capabilities(ALL)
}

fn sec_02_cve_2016_9962_nobody_gets_hold_of_an_exec_in_a_user_namespace() {
    let (bundle, log, canary) = attacked(in_a_user_namespace(Bundle::new()));
    assert_eq!(attacks_on_an_exec(&bundle, &log), Vec::<String>::new());
    canary.assert_unchanged("exec");
}

/// Without a user namespace `CAP_SYS_PTRACE` is the host's: the kernel lets it trace whatever it sees. So what it sees must not
/// be on the host any more, nor hold anything of it, and lead to no program that it could overwrite.
fn sec_02_cve_2016_9962_a_tracer_does_not_get_to_the_host() {
    let (bundle, log, canary) = attacked(Bundle::new().capabilities(TRACER));
    let before = Snapshot::of(&bundle);
    let found = attacks_on_an_exec(&bundle, &log);
    assert!(found.iter().any(|line| line.contains("read mem")), "the attacker sees nobody: {found:?}");
    let state = bundle.root().display().to_string();
    let harmful = |line: &&String| {
        ["canary by", "write exe", "kept exe", "write map"].iter().any(|what| line.contains(what))
            || line.contains("link exe") && line.contains(&runtime())
            || line.contains(&state)
            || line.contains("link root") && !line.ends_with(" /")
    };
    assert_eq!(found.iter().filter(harmful).collect::<Vec<_>>(), Vec::<&String>::new());
    canary.assert_unchanged("exec");
    assert_eq!(bundle.call(["delete", "--force", &bundle.id]).status, 0);
    before.assert_unchanged();
}

/// The same without anything that waits for the attacker.
fn sec_02_cve_2016_9962_many_execs_under_attack() {
    let (bundle, log, canary) = attacked(Bundle::new());
    let container = bundle.detach();
    fs::write(bundle.rootfs().join("attack/race"), "").expect("begin the race");
    // A mutant without the guard stands it 300 times now and then: the window is of some 50 microseconds.
    let rounds = if std::env::var_os("ADVISORIES").is_some() { 3000 } else { 600 };
    for _ in 0..rounds {
        assert_eq!(exec(&container, &[], &["true"]).status, 0);
    }
    let found = fs::read_to_string(log).unwrap_or_default();
    // What has become the program meanwhile is the container's own.
    let others: Vec<&str> = found.lines().filter(|line| line.split(' ').nth(1) != Some("true")).collect();
    assert!(others.is_empty(), "{}: {:?}", others.len(), &others[..others.len().min(20)]);
    canary.assert_unchanged("exec");
}

/// A script by the runtime itself, a link to it, its own name; as the first process and as a further one.
fn sec_03_cve_2019_5736_the_program_is_the_runtime_s_own() {
    let names = ["/proc/self/exe", "/link", "/script"];
    let bundle = || {
        let bundle = Bundle::new().file("/script", 0o755, "#!/proc/self/exe --version\n");
        crate::canary::link(&bundle, "/link", "/proc/self/exe");
        bundle
    };
    for name in names {
        let bundle = bundle().args([name, "--version"]);
        let before = Snapshot::of(&bundle);
        let output = bundle.run();
        // A copy of the runtime may run there: it is not the host's. Ours cannot even do that.
        assert!(name_of_runtime() != "onggi" || output.status != 0 && output.stdout.is_empty(), "{name}: {output:?}");
        bundle.call(["delete", "--force", &bundle.id]);
        before.assert_unchanged();
    }
    let bundle = bundle().args(["sleep", "1000"]);
    let before = Snapshot::of(&bundle);
    let container = bundle.detach();
    for name in names {
        let output = exec(&container, &[], &[name, "--version"]);
        assert!(name_of_runtime() != "onggi" || output.status != 0 && output.stdout.is_empty(), "{name}: {output:?}");
    }
    container.ok("delete", &["--force"]);
    before.assert_unchanged();
}

/// Seen from the host, and tried from inside by one who may do everything but administrate.
fn sec_03_cve_2019_5736_the_link_leads_to_a_sealed_memory_file() {
    let bundle = sleeper().capabilities(TRACER);
    let before = Snapshot::of(&bundle);
    let container = bundle.create();
    let place = format!("/proc/{}/exe", container.pid);
    let file = File::open(&place).expect("open the link");
    let seals = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GET_SEALS).expect("a memory file");
    for seal in [nix::libc::F_SEAL_WRITE, nix::libc::F_SEAL_SHRINK, nix::libc::F_SEAL_GROW, nix::libc::F_SEAL_SEAL] {
        assert!(seals & seal != 0, "{seals:x} of {}", file.as_raw_fd());
    }
    let host = fs::metadata(find_program(&runtime()).expect("find the runtime")).expect("look at it");
    let seen = file.metadata().expect("look at the file");
    assert_ne!((seen.dev(), seen.ino()), (host.dev(), host.ino()));
    // The first process waits for `start`, and is the runtime.
    let output = exec(&container, &["--cap", "CAP_SYS_PTRACE"], &["/inside", "hold", "/proc/1/exe"]);
    assert!(output.status == 0 && output.stdout.starts_with("/memfd:"), "{output:?}");
    // Whoever may change the mode of any file may do that: it is the copy's.
    let done = output.stdout.split_once("(deleted)").map_or("", |(_, done)| done.trim());
    assert!(done.is_empty() || done == "chmod", "{output:?}");
    container.ok("delete", &["--force"]);
    before.assert_unchanged();
}

/// A library of the image's, a loader's configuration, a locale: nothing of it is opened by the runtime once it is in there.
fn sec_03_cve_2019_5736_nothing_is_loaded_from_the_root() {
    let bundle = Bundle::new().file("/etc/ld.so.preload", 0o644, "/lib/evil.so\n").file("/lib/evil.so", 0o755, "evil");
    let bundle =
        bundle.file("/etc/nsswitch.conf", 0o644, "passwd: evil\n").set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let bundle = bundle.set("/process/env/-", "LD_PRELOAD=/lib/evil.so").set("/process/env/-", "LD_LIBRARY_PATH=/lib");
    bundle.write();
    let log = bundle.home.join("trace");
    let run = bundle.command(["run", &bundle.id]);
    let mut traced = std::process::Command::new("strace");
    traced.args(["-f", "-e", "trace=open,openat,openat2,execve,execveat", "-o"]).arg(&log);
    traced.arg(run.get_program()).args(run.get_args()).current_dir(bundle.dir());
    let output = bundle.finish(traced);
    assert_eq!(output.status, 0, "{output:?}");
    let trace = fs::read_to_string(log).expect("read the trace");
    let last = trace.lines().position(|line| line.contains("execve(") && line.contains("true")).expect("the program's execve");
    for line in trace.lines().take(last).filter(|line| !line.contains("ENOENT")) {
        let loads = [".so", "ld.so", "nsswitch", "locale", "gconv"].iter().any(|what| line.contains(what));
        assert!(!loads, "{line}");
    }
}

/// Two containers whose cgroups begin with the same letters.
fn sec_18_runc_5351_exec_s_cgroup_is_below_the_container_s() {
    let first = sleeper();
    let mut longer = sleeper();
    longer.id = format!("{}b", first.id);
    let (container, _other) = (first.detach(), longer.detach());
    let own = cgroup_of(container.pid);
    let top = format!("/sys/fs/cgroup{own}");
    fs::create_dir_all(format!("{top}/sub/deep")).expect("make cgroups");
    let name = longer.id.as_str();
    let sibling = own.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned() + "/" + name;
    let values = [
        "..".into(),
        "../..".into(),
        format!("../{name}"),
        "b".into(),
        format!("x/../../{name}"),
        format!("sub/../../{name}"),
        sibling,
        format!("../{name}/."),
        "sub/../..".into(),
        "./..".into(),
        "a/".repeat(300),
        "../".repeat(300),
        "/".into(),
        "sub".into(),
        "/sub/deep".into(),
        "sub/..".into(),
        "sub/deep/../..".into(),
    ];
    let pid_file = first.home.join("exec.pid").display().to_string();
    for value in &values {
        let output = exec(&container, &["--detach", "--pid-file", &pid_file, "--cgroup", value], &["sleep", "1000"]);
        if output.status != 0 {
            assert!(output.status == 255 && !output.stderr.is_empty(), "{value}: {output:?}");
            continue;
        }
        let pid = fs::read_to_string(&pid_file).expect("read the pid file").parse().expect("a number");
        let place = cgroup_of(pid);
        assert!(place == own || place.starts_with(&format!("{own}/")), "{value}: {place}");
    }
    for fine in ["/", "sub", "/sub/deep"] {
        assert_eq!(exec(&container, &["--cgroup", fine], &["true"]).status, 0, "{fine}");
    }
}

fn cgroup_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read a cgroup");
    text.lines().last().unwrap_or_default().trim_start_matches("0::").to_owned()
}

/// Whoever has the descriptor of that mount could make it writable.
fn sec_03_cve_2019_5736_the_mount_of_the_binary_is_let_go_before_the_clone() {
    assert!(find_program("strace").is_some(), "strace is not here (package strace)");
    let bundle = sleeper();
    let before = Snapshot::of(&bundle);
    let container = bundle.create();
    container.start();
    let other = Bundle::new();
    other.write();
    for (of, words) in [(&bundle, vec!["exec", &bundle.id, "true"]), (&other, vec!["run", &other.id])] {
        let command = of.command(&words);
        let log = of.home.join("mount.strace");
        let mut strace = Command::new("strace");
        strace.args(["--follow-forks", "--trace=open_tree,close,clone3", "--output"]).arg(&log);
        strace.arg(command.get_program()).args(command.get_args()).current_dir(of.dir()).stdin(Stdio::null());
        assert_eq!(of.finish(strace).status, 0, "{words:?}");
        let text = fs::read_to_string(log).expect("read strace's log");
        let calls: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).map(|(p, c)| (p, c.trim())).collect();
        let own = |call: &str| call.starts_with("open_tree(") && call.contains("\"/proc/self/exe\"");
        let opened = calls.iter().position(|(_, call)| own(call)).expect("the mount of the binary");
        let parent = calls[opened].0;
        // In two lines, where the thread makes a call meanwhile.
        let answer = |(pid, call): &&(&str, &str)| *pid == parent && call.contains("open_tree") && call.contains(") = ");
        let number = calls[opened..].iter().find(answer).and_then(|(_, call)| call.rsplit_once(" = ")).expect("a descriptor").1;
        let cloned = calls.iter().position(|(_, call)| call.starts_with("clone3(")).expect("a clone");
        // In two lines, where the thread makes a call meanwhile.
        let closes = [format!("close({number})"), format!("close({number} ")];
        let closed = |(pid, call): &(&str, &str)| *pid == parent && closes.iter().any(|close| call.starts_with(close));
        assert!(calls[opened..cloned].iter().any(closed), "{number} is there at the clone:\n{text}");
    }
    container.ok("delete", &["--force"]);
    before.assert_unchanged();
}
