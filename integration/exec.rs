//! exec: a further process in a container, by flags and by a process object, in the foreground and detached.

use crate::bundle::{Bundle, Container, Output, eventually, within};
use crate::case;
use crate::case::Case;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::time::Duration;

pub const WORDS: &str = "words its errors otherwise";

pub fn cases() -> Vec<Case> {
    vec![
        case!(runs_in_the_namespaces_of_the_container),
        case!(shares_the_namespaces_that_the_container_shares),
        case!(is_in_the_cgroup_of_the_container),
        case!(goes_to_the_cgroup_of_init_when_that_has_moved).except("crun", "1.8 fails").except("runc", "1.1 fails"),
        case!(runs_in_a_cgroup_below).except("crun", "the path is from the root").except("runc", "1.1 fails on cgroup v2"),
        case!(ends_with_the_status_of_the_program),
        case!(ends_with_128_and_the_signal),
        case!(own_failures_are_255).except("crun", "1").except("runc", "1.1: 1 for wrong usage"),
        case!(words_of_a_missing_program).ours("runc 1.1 has other words before it"),
        case!(words_of_a_missing_path).ours("runc 1.1 has other words before it"),
        case!(words_of_a_missing_cwd).except("crun", WORDS).except("runc", "1.1 has other words"),
        case!(words_of_a_stopped_container).except("crun", WORDS).except("runc", "1.1 has other words"),
        case!(words_of_an_unknown_container).except("crun", WORDS),
        case!(words_of_no_program).except("crun", WORDS).except("runc", "1.1 prints its usage too"),
        case!(a_paused_container_is_refused).except("crun", "has no such check").except("runc", "1.1 has other words"),
        case!(a_paused_container_is_entered_when_asked).except("crun", "has no --ignore-paused"),
        case!(works_before_start),
        case!(inherits_from_the_process_of_the_container).except("crun", "1.8 takes root when no user is given"),
        case!(an_added_capability_is_ambient_where_it_is_inheritable).ours("runc since 1.3"),
        case!(flags_change_the_process).except("crun", "1.8 lacks --additional-gids"),
        case!(a_process_object_is_all_there_is).except("crun", "differs in what is not said"),
        case!(a_process_object_is_read_from_stdin).ours("others take files only"),
        case!(process_objects_of_engines_run).ours("crun takes no CAP_ that it does not know, runc 1.1 no ioPriority"),
        case!(the_seccomp_filter_is_that_of_the_container),
        case!(the_seccomp_filter_is_kept_compiled).ours("it is our file"),
        case!(affinity_is_as_asked).ours("runc has it since 1.3"),
        case!(a_deadline_on_some_cpus_is_explained).ours("runc has it since 1.3"),
        case!(oom_score_adj_is_as_asked).ours("runc takes the container's own alone"),
        case!(in_a_user_namespace).except("crun", "1.8 cannot make one here").except("runc", "1.1 cannot make one here"),
        case!(in_a_time_namespace).ours("the others are older"),
        case!(a_label_without_selinux_is_refused).ours("crun fails later, in its own words"),
    ]
}

pub fn sleeper() -> Bundle {
    Bundle::new().args(["sleep", "1000"])
}

/// `exec FLAGS ID ARGS`.
pub fn exec(container: &Container, flags: &[&str], args: &[&str]) -> Output {
    let id = container.bundle.id.as_str();
    container.bundle.call(["exec"].iter().chain(flags).chain([&id]).chain(args))
}

#[track_caller]
pub fn ok(container: &Container, flags: &[&str], args: &[&str]) -> String {
    let output = exec(container, flags, args);
    assert!(output.status == 0 && output.error().is_empty(), "{flags:?} {args:?}: {output:?}");
    output.stdout
}

#[track_caller]
pub fn report(container: &Container, flags: &[&str]) -> Value {
    let printed = ok(container, flags, &["/inside", "report"]);
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

#[track_caller]
pub fn refused(output: &Output, text: &str) {
    assert!(output.status != 0 && output.error().contains(text), "{text:?} not in {output:?}");
}

/// The namespace's number.
fn link(pid: i32, namespace: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(format!("/proc/{pid}/ns/{namespace}")).expect("look at a namespace").ino()
}

fn runs_in_the_namespaces_of_the_container() {
    let bundle = sleeper();
    let container = bundle.detach();
    let report = report(&container, &[]);
    for kind in ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup"] {
        assert_eq!(report["namespaces"][kind], link(container.pid, kind), "{kind}");
    }
    assert_eq!(report["cmdline_of_1"], "sleep 1000");
    assert_eq!(report["cwd"], "/");
}

fn shares_the_namespaces_that_the_container_shares() {
    let bundle = sleeper();
    let list = bundle.config["linux"]["namespaces"].as_array().expect("namespaces").clone();
    let kept: Vec<Value> = list.into_iter().filter(|n| n["type"] == "mount" || n["type"] == "pid").collect();
    let bundle = bundle.set("/linux/namespaces", kept).remove("/hostname");
    let mounts = json!([{"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}]);
    let bundle = bundle.set("/mounts", mounts);
    let container = bundle.detach();
    let report = report(&container, &[]);
    let own = std::process::id().try_into().expect("a pid");
    assert_eq!(report["namespaces"]["net"], link(own, "net"));
    assert_eq!(report["namespaces"]["pid"], link(container.pid, "pid"));
}

fn cgroup_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read a cgroup").lines().last().unwrap_or_default().to_owned()
}

/// The detached process with the pid that the file gave.
pub fn detached(container: &Container, flags: &[&str], args: &[&str]) -> i32 {
    let pid_file = container.bundle.home.join("exec.pid").display().to_string();
    let flags: Vec<&str> = ["--detach", "--pid-file", &pid_file].iter().chain(flags).copied().collect();
    ok(container, &flags, args);
    fs::read_to_string(pid_file).expect("read the pid file").parse().expect("digits alone")
}

fn is_in_the_cgroup_of_the_container() {
    let bundle = sleeper();
    let container = bundle.detach();
    let pid = detached(&container, &[], &["sleep", "1000"]);
    assert_eq!(cgroup_of(pid), cgroup_of(container.pid));
}

/// The directory of the container's cgroup.
pub fn directory(container: &Container) -> String {
    let line = cgroup_of(container.pid);
    format!("/sys/fs/cgroup{}", line.trim_start_matches("0::"))
}

fn goes_to_the_cgroup_of_init_when_that_has_moved() {
    let bundle = sleeper();
    let container = bundle.detach();
    let top = directory(&container);
    fs::create_dir(format!("{top}/init")).expect("make a cgroup");
    fs::write(format!("{top}/init/cgroup.procs"), container.pid.to_string()).expect("move init");
    // Threaded or not, a cgroup that hands a controller down holds no process.
    let controllers = fs::read_to_string(format!("{top}/cgroup.controllers")).expect("read the controllers");
    let Some(one) = controllers.split_whitespace().next() else { return };
    fs::write(format!("{top}/cgroup.subtree_control"), format!("+{one}")).expect("hand a controller down");
    let pid = detached(&container, &[], &["sleep", "1000"]);
    assert_eq!(cgroup_of(pid), cgroup_of(container.pid));
}

fn runs_in_a_cgroup_below() {
    let bundle = sleeper();
    let container = bundle.detach();
    fs::create_dir(format!("{}/sub", directory(&container))).expect("make a cgroup");
    let pid = detached(&container, &["--cgroup", "sub"], &["sleep", "1000"]);
    assert_eq!(cgroup_of(pid), format!("{}/sub", cgroup_of(container.pid)));
    for (away, words) in [
        ("..", " .. is not a sub cgroup path"),
        ("../..", " ../.. is not a sub cgroup path"),
        ("absent", " adding pid "),
        ("absent", "/absent/cgroup.procs: no such file "),
    ] {
        let output = exec(&container, &["--cgroup", away], &["true"]);
        assert!(output.status == 255 && output.stderr.contains(words), "{away}: {output:?}");
    }
}

fn ends_with_the_status_of_the_program() {
    let bundle = sleeper();
    let container = bundle.detach();
    for status in [0, 1, 42, 255] {
        assert_eq!(exec(&container, &[], &["sh", "-c", &format!("exit {status}")]).status, status);
    }
}

fn ends_with_128_and_the_signal() {
    let bundle = sleeper();
    assert_eq!(exec(&bundle.detach(), &[], &["sh", "-c", "kill -KILL $$"]).status, 137);
}

fn own_failures_are_255() {
    let bundle = sleeper();
    let container = bundle.detach();
    assert_eq!(exec(&container, &[], &["/absent"]).status, 255);
    assert_eq!(exec(&container, &["--nope"], &["true"]).status, 255);
    assert_eq!(exec(&container, &["--process", "/absent"], &[]).status, 255);
}

const BEFORE: &str = "exec failed: unable to start container process: ";

fn words_of_a_missing_program() {
    let bundle = sleeper();
    let text = format!("{BEFORE}exec: \"absent\": executable file not found in $PATH");
    refused(&exec(&bundle.detach(), &[], &["absent"]), &text);
}

fn words_of_a_missing_path() {
    let bundle = sleeper();
    let text = format!("{BEFORE}exec: \"/absent\": stat /absent: no such file or directory");
    refused(&exec(&bundle.detach(), &[], &["/absent"]), &text);
}

fn words_of_a_missing_cwd() {
    let bundle = sleeper();
    let text = format!("{BEFORE}chdir to cwd (\"/absent\") set in config.json failed: no such file or directory");
    refused(&exec(&bundle.detach(), &["--cwd", "/absent"], &["true"]), &text);
}

fn words_of_a_stopped_container() {
    let bundle = Bundle::new();
    let container = bundle.create();
    container.start().wait();
    eventually("stopped", || container.status() == "stopped");
    refused(&exec(&container, &[], &["true"]), "cannot exec in a stopped container");
}

fn words_of_an_unknown_container() {
    let bundle = sleeper();
    bundle.detach();
    refused(&bundle.call(["exec", "unknown-id", "true"]), "container does not exist");
}

fn words_of_no_program() {
    let bundle = sleeper();
    refused(&exec(&bundle.detach(), &[], &[]), "process args cannot be empty");
}

fn a_paused_container_is_refused() {
    let bundle = sleeper();
    let container = bundle.detach();
    container.ok("pause", &[]);
    let output = exec(&container, &[], &["true"]);
    container.ok("resume", &[]);
    refused(&output, "cannot exec in a paused container (use --ignore-paused to override)");
    assert_eq!(output.status, 255);
}

fn a_paused_container_is_entered_when_asked() {
    let bundle = sleeper();
    let container = bundle.detach();
    container.ok("pause", &[]);
    let mut command = bundle.command(["exec", "--ignore-paused", &bundle.id, "true"]);
    let mut child = command.spawn().expect("start an exec");
    std::thread::sleep(Duration::from_millis(100));
    assert!(child.try_wait().expect("look at it").is_none(), "it waits for resume");
    container.ok("resume", &[]);
    assert_eq!(within(&mut child, Duration::from_secs(10)), Some(0));
}

fn works_before_start() {
    let bundle = sleeper();
    let container = bundle.create();
    assert_eq!(ok(&container, &[], &["echo", "early"]), "early\n");
    assert_eq!(container.status(), "created");
}

fn inherits_from_the_process_of_the_container() {
    let bundle = sleeper()
        .set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [7]}))
        .set("/process/cwd", "/tmp")
        .set("/process/noNewPrivileges", true)
        .set("/process/env/-", "MINE=yes");
    let report = report(&bundle.detach(), &[]);
    assert_eq!(report["status"]["Uid"], "1000 1000 1000 1000");
    assert_eq!(report["status"]["Groups"], "7");
    assert_eq!(report["status"]["NoNewPrivs"], "1");
    assert_eq!(report["cwd"], "/tmp");
    assert_eq!(report["env"]["MINE"], "yes");
    assert_eq!(report["terminal"], false);
}

fn flags_change_the_process() {
    let bundle = sleeper();
    let flags = [
        "--cwd",
        "/tmp",
        "--env",
        "A=1",
        "--env",
        "B=2",
        "--user",
        "5:6",
        "--additional-gids",
        "8",
        "--additional-gids",
        "9",
        "--cap",
        "CAP_SYS_TIME",
        "--no-new-privs",
    ];
    let report = report(&bundle.detach(), &flags);
    assert_eq!((&report["env"]["A"], &report["env"]["B"]), (&json!("1"), &json!("2")));
    assert_eq!((&report["status"]["Uid"], &report["status"]["Gid"]), (&json!("5 5 5 5"), &json!("6 6 6 6")));
    assert_eq!(report["status"]["Groups"], "8 9");
    assert_eq!((&report["cwd"], &report["status"]["NoNewPrivs"]), (&json!("/tmp"), &json!("1")));
    let bounding = u64::from_str_radix(report["status"]["CapBnd"].as_str().unwrap_or_default(), 16).expect("a mask");
    assert!(bounding & caps::Capability::CAP_SYS_TIME.bitmask() != 0, "{bounding:x}");
}

fn an_added_capability_is_ambient_where_it_is_inheritable() {
    let bit = |name: &str| values(name).iter().fold(0, |bits, capability| bits | capability.bitmask());
    let sets = |inheritable: &[&str], ambient: &[&str], flags: &[&str]| {
        let bundle = sleeper().set(
            "/process/capabilities",
            json!({
                "bounding": ["CAP_CHOWN", "CAP_SYS_CHROOT"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"],
                "inheritable": inheritable, "ambient": ambient,
            }),
        );
        let report = report(&bundle.detach(), flags);
        ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"]
            .map(|set| u64::from_str_radix(report["status"][set].as_str().unwrap_or_default(), 16).expect("a mask"))
    };
    let (chown, both) = (bit("CAP_CHOWN"), bit("CAP_CHOWN CAP_SYS_CHROOT"));
    let add = ["--cap", "CAP_SYS_CHROOT"];
    assert_eq!(sets(&["CAP_CHOWN", "CAP_SYS_CHROOT"], &["CAP_CHOWN"], &add), [both, both, both, both, both]);
    assert_eq!(sets(&["CAP_CHOWN"], &["CAP_CHOWN"], &add), [both, both, both, chown, chown]);
    assert_eq!(sets(&[], &[], &add), [both, both, both, 0, 0]);
    // What is ambient outlives the change to a user.
    let user = ["--cap", "CAP_SYS_CHROOT", "--user", "1000"];
    assert_eq!(sets(&["CAP_CHOWN", "CAP_SYS_CHROOT"], &["CAP_CHOWN"], &user), [both, both, both, both, both]);
}

fn values(names: &str) -> Vec<caps::Capability> {
    names.split(' ').map(|name| name.parse().expect("a capability")).collect()
}

pub fn process_file(bundle: &Bundle, process: &Value) -> String {
    let path = bundle.home.join("process.json");
    fs::write(&path, process.to_string()).expect("write the process object");
    path.display().to_string()
}

fn a_process_object_is_all_there_is() {
    let bundle = sleeper().set("/process/env/-", "MINE=yes");
    let container = bundle.detach();
    let process = json!({
        "args": ["/inside", "report"], "cwd": "/tmp", "env": ["PATH=/bin"], "user": {"uid": 3, "gid": 4, "umask": 0o77},
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}], "oomScoreAdj": 321,
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
                         "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
    });
    let report = report_of(&ok(&container, &["--process", &process_file(&bundle, &process)], &[]));
    assert_eq!(report["status"]["Uid"], "3 3 3 3");
    assert_eq!(report["env"]["MINE"], Value::Null);
    let mask = format!("{:016x}", caps::Capability::CAP_KILL.bitmask());
    assert_eq!((&report["status"]["CapEff"], &report["status"]["CapAmb"]), (&json!(mask), &json!(mask)));
    assert_eq!(report["env"]["HOME"], "/");
    assert_eq!(report["rlimits"]["Max core file size"], json!(["1", "2"]), "{}", report["rlimits"]);
}

pub fn report_of(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

fn a_process_object_is_read_from_stdin() {
    let bundle = sleeper();
    bundle.detach();
    let process = json!({"args": ["echo", "spoken"], "cwd": "/", "env": ["PATH=/bin"]});
    let mut command = bundle.command(["exec", "--process", "-", &bundle.id]);
    command.stdin(File::open(process_file(&bundle, &process)).expect("open the process object"));
    assert_eq!(bundle.finish(command).stdout, "spoken\n");
}

/// Captured from real engines; what they run is replaced, since only a shell is here.
fn process_objects_of_engines_run() {
    let bundle = sleeper();
    let container = bundle.detach();
    let mut seen = 0;
    for entry in fs::read_dir(crate::stage::data("exec")).expect("list the captured files") {
        let path = entry.expect("an entry").path();
        let mut process: Value = serde_json::from_slice(&fs::read(&path).expect("read a file")).expect("parse a file");
        process["args"] = json!(["sh", "-c", "echo in; exit 5"]);
        process["cwd"] = json!("/");
        process["terminal"] = json!(false);
        for label in ["apparmorProfile", "selinuxLabel"] {
            process.as_object_mut().expect("an object").remove(label);
        }
        let output = exec(&container, &["--process", &process_file(&bundle, &process)], &[]);
        assert_eq!((output.status, output.stdout.as_str()), (5, "in\n"), "{path:?}: {output:?}");
        seen += 1;
    }
    assert!(seen > 5, "only {seen} files");
}

fn the_seccomp_filter_is_that_of_the_container() {
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]});
    for no_new_privileges in [true, false] {
        let bundle = sleeper().set("/linux/seccomp", filter.clone()).set("/process/noNewPrivileges", no_new_privileges);
        let container = bundle.detach();
        assert_eq!(report(&container, &[])["status"]["Seccomp"], "2");
        let number = libc::SYS_sethostname.to_string();
        assert_eq!(ok(&container, &[], &["/inside", "call", &number, "0", "0"]), "EOPNOTSUPP\n");
    }
}

/// What was kept is loaded: another's in its place shows. Without a sound one the profile is compiled.
fn the_seccomp_filter_is_kept_compiled() {
    let with = |errno: i32| {
        let rule = json!({"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno});
        sleeper().set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    };
    let (bundle, other) = (with(95), with(1));
    let (container, _other) = (bundle.detach(), other.detach());
    let number = libc::SYS_sethostname.to_string();
    let verdict = || ok(&container, &[], &["/inside", "call", &number, "0", "0"]);
    let file = |bundle: &Bundle| bundle.root().join(&bundle.id).join("seccomp.bpf");
    assert_eq!(verdict(), "EOPNOTSUPP\n");
    let own = fs::read(file(&bundle)).expect("read the kept filter");
    fs::copy(file(&other), file(&bundle)).expect("swap the kept filter");
    assert_eq!(verdict(), "EPERM\n");
    for damaged in [&own[..own.len() - 9], &[][..], &[own.as_slice(), b"more"].concat()] {
        fs::write(file(&bundle), damaged).expect("damage the kept filter");
        assert_eq!(verdict(), "EOPNOTSUPP\n");
    }
    fs::remove_file(file(&bundle)).expect("remove the kept filter");
    assert_eq!(verdict(), "EOPNOTSUPP\n");
}

fn affinity_is_as_asked() {
    let bundle = sleeper().set("/process/execCPUAffinity", json!({"initial": "0", "final": "0"}));
    assert_eq!(report(&bundle.detach(), &[])["status"]["Cpus_allowed_list"], "0");
    let bundle = sleeper().set("/process/execCPUAffinity", json!({"initial": "0"}));
    let container = bundle.detach();
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid)).expect("read a status");
    let own = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:\t")).expect("its CPUs");
    assert_eq!(report(&container, &[])["status"]["Cpus_allowed_list"], own);
}

fn a_deadline_on_some_cpus_is_explained() {
    let bundle = sleeper();
    let container = bundle.detach();
    let process = json!({"args": ["/inside", "report"], "cwd": "/", "execCPUAffinity": {"final": "0"}, "scheduler":
        {"policy": "SCHED_DEADLINE", "runtime": 42_000, "deadline": 1_000_000, "period": 1_000_000}});
    let failed = exec(&container, &["--process", &process_file(&bundle, &process)], &[]);
    refused(&failed, "/process/scheduler");
    refused(&failed, "process scheduler can't be used together with AllowedCPUs");
}

fn oom_score_adj_is_as_asked() {
    let bundle = sleeper().set("/process/oomScoreAdj", 100);
    let container = bundle.detach();
    assert_eq!(report(&container, &[])["oom_score_adj"], 100);
    let process = json!({"args": ["/inside", "report"], "cwd": "/", "oomScoreAdj": 321});
    let printed = ok(&container, &["--process", &process_file(&bundle, &process)], &[]);
    assert_eq!(report_of(&printed)["oom_score_adj"], 321);
}

fn in_a_user_namespace() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = sleeper().namespace("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let bundle = bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}]));
    open_up(&bundle);
    let container = bundle.detach();
    let report = report(&container, &[]);
    assert_eq!(report["namespaces"]["user"], link(container.pid, "user"));
    assert_eq!(report["status"]["Uid"], "0 0 0 0");
    let user = self::report(&container, &["--user", "1000:1000"]);
    assert_eq!(user["status"]["Uid"], "1000 1000 1000 1000");
}

/// Lets the root of the user namespace pass the directories down to the root file system.
fn open_up(bundle: &Bundle) {
    use std::os::unix::fs::PermissionsExt;
    for dir in [&bundle.home, &bundle.dir(), &bundle.rootfs()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("change a mode");
    }
}

fn in_a_time_namespace() {
    let bundle = sleeper().namespace("time").set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000}}));
    let container = bundle.detach();
    assert_eq!(report(&container, &[])["namespaces"]["time"], link(container.pid, "time"));
}

fn a_label_without_selinux_is_refused() {
    let bundle = sleeper();
    let container = bundle.detach();
    refused(&exec(&container, &["--process-label", "x"], &["true"]), "selinux is disabled or not supported");
}
