//! What `/process` asks for, read from inside: credentials, capabilities, limits, environment, directory, program.

use crate::bundle::Bundle;
use crate::case;
use crate::case::Case;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;

pub fn cases() -> Vec<Case> {
    vec![
        case!(the_default_capabilities_are_in_the_sets_that_have_them),
        case!(no_capabilities_leave_five_empty_sets),
        case!(each_capability_set_is_as_asked),
        case!(an_ordinary_user_has_what_the_ambient_set_has),
        case!(an_unknown_capability_is_ignored).except("crun", "refuses it"),
        case!(user_and_group_are_as_asked),
        case!(additional_groups_are_exactly_those_asked_for),
        case!(umask_is_as_asked),
        case!(umask_is_0022_when_not_asked).except("runc", "0022 since 1.2; the caller's before"),
        case!(rlimits_are_as_asked),
        case!(a_rlimit_set_twice_is_refused).except("crun", "takes the last").except("runc", "1.1 takes the last"),
        case!(no_new_privileges_is_set_when_asked),
        case!(no_new_privileges_is_unset_when_not_asked),
        case!(oom_score_adj_is_as_asked),
        case!(environment_is_exactly_as_asked),
        case!(home_comes_from_passwd),
        case!(a_given_home_stays),
        case!(home_of_an_unknown_user_is_the_root).except("crun", "sets none"),
        case!(the_last_of_equal_variables_wins).except("crun", "hands both on").except("runc", "1.1 hands both on"),
        case!(programs_are_searched_in_the_container_s_path),
        case!(a_relative_program_is_relative_to_cwd),
        case!(cwd_is_made_when_absent),
        case!(cwd_is_as_asked),
        case!(a_file_as_cwd_is_refused),
        case!(arguments_arrive_as_given),
        case!(signals_are_as_by_default),
        case!(the_first_process_leads_its_session),
        case!(there_is_no_terminal_unless_asked),
        case!(scheduler_is_as_asked).except("runc", "since 1.2").except("crun", "since 1.9"),
        case!(cpus_are_not_the_caller_s).except("runc", "since 1.3.4").except("crun", "1.8 hands it on"),
        case!(io_priority_is_as_asked).except("runc", "since 1.2").except("crun", "since 1.9"),
        case!(a_script_without_its_interpreter_is_explained).ours("others name the script only"),
        case!(a_script_with_a_carriage_return_is_explained).ours("others name the script only"),
        case!(a_directory_as_program_is_named).except("crun", "words it otherwise").except("runc", "1.1 says permission denied"),
        case!(a_program_of_no_known_format_is_named),
    ]
}

/// Mask of capabilities, as the kernel prints it.
fn mask(names: &[&str]) -> String {
    let bits = names.iter().map(|name| name.parse::<caps::Capability>().expect("a capability").bitmask());
    format!("{:016x}", bits.fold(0, |all, bit| all | bit))
}

#[track_caller]
fn has_sets(report: &Value, sets: [&[&str]; 5]) {
    for (field, names) in ["CapBnd", "CapEff", "CapInh", "CapPrm", "CapAmb"].iter().zip(sets) {
        assert_eq!(report["status"][field], mask(names), "{field}: {}", report["status"]);
    }
}

fn the_default_capabilities_are_in_the_sets_that_have_them() {
    let config = Bundle::new().config["process"]["capabilities"].clone();
    let report = Bundle::new().report(&[]);
    let fields = [("CapBnd", "bounding"), ("CapEff", "effective"), ("CapPrm", "permitted"), ("CapAmb", "ambient")];
    for (field, set) in fields {
        let names: Vec<&str> = config[set].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert_eq!(report["status"][field], mask(&names), "{field}");
    }
}

fn no_capabilities_leave_five_empty_sets() {
    has_sets(&Bundle::new().capabilities(&[]).report(&[]), [&[]; 5]);
}

fn each_capability_set_is_as_asked() {
    let all = json!(["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SYS_CHROOT"]);
    let bundle = Bundle::new()
        .set("/process/capabilities/bounding", all)
        .set("/process/capabilities/permitted", json!(["CAP_KILL", "CAP_CHOWN", "CAP_SETUID"]))
        .set("/process/capabilities/effective", json!(["CAP_KILL", "CAP_CHOWN"]))
        .set("/process/capabilities/inheritable", json!(["CAP_KILL"]))
        .set("/process/capabilities/ambient", json!(["CAP_KILL"]))
        .set("/process/user", json!({"uid": 1000, "gid": 1000}));
    // After the exec of an ordinary user, permitted and effective are what ambient lets through.
    let kill: &[&str] = &["CAP_KILL"];
    has_sets(&bundle.report(&[]), [&["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SYS_CHROOT"], kill, kill, kill, kill]);
}

fn an_ordinary_user_has_what_the_ambient_set_has() {
    let bundle = Bundle::new().capabilities(&["CAP_CHOWN", "CAP_NET_RAW"]).set("/process/user/uid", 1000);
    has_sets(&bundle.report(&[]), [&["CAP_CHOWN", "CAP_NET_RAW"]; 5]);
}

fn an_unknown_capability_is_ignored() {
    let report = Bundle::new().capabilities(&["CAP_KILL", "CAP_OF_TOMORROW"]).report(&[]);
    assert_eq!(report["status"]["CapEff"], mask(&["CAP_KILL"]));
}

fn user_and_group_are_as_asked() {
    let report = Bundle::new().set("/process/user", json!({"uid": 1234, "gid": 5678})).report(&[]);
    assert_eq!(report["status"]["Uid"], "1234 1234 1234 1234");
    assert_eq!(report["status"]["Gid"], "5678 5678 5678 5678");
}

fn additional_groups_are_exactly_those_asked_for() {
    let report = Bundle::new().set("/process/user/additionalGids", json!([10, 20, 400000])).report(&[]);
    assert_eq!(report["status"]["Groups"], "10 20 400000");
}

fn umask_is_as_asked() {
    assert_eq!(Bundle::new().set("/process/user/umask", 0o27).report(&[])["status"]["Umask"], "0027");
}

fn umask_is_0022_when_not_asked() {
    let bundle = Bundle::new().args(["sh", "-c", "umask"]);
    bundle.write();
    let run = bundle.command(["run", &bundle.id]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "umask 0177; exec \"$@\"", "sh"]).arg(run.get_program()).args(run.get_args());
    shell.current_dir(bundle.dir());
    assert_eq!(bundle.finish(shell).stdout, "0022\n");
}

fn rlimits_are_as_asked() {
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 1},
        {"type": "RLIMIT_STACK", "soft": 1048576, "hard": 8388608},
    ]);
    let limits = Bundle::new().set("/process/rlimits", limits).report(&[])["rlimits"].clone();
    assert_eq!(limits["Max open files"], json!(["100", "200"]));
    assert_eq!(limits["Max core file size"], json!(["0", "1"]));
    assert_eq!(limits["Max stack size"], json!(["1048576", "8388608"]));
}

fn a_rlimit_set_twice_is_refused() {
    let limit = json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0});
    Bundle::new().set("/process/rlimits", json!([limit, limit])).fails("RLIMIT_CORE");
}

fn no_new_privileges_is_set_when_asked() {
    assert_eq!(Bundle::new().set("/process/noNewPrivileges", true).report(&[])["status"]["NoNewPrivs"], "1");
}

fn no_new_privileges_is_unset_when_not_asked() {
    assert_eq!(Bundle::new().set("/process/noNewPrivileges", false).report(&[])["status"]["NoNewPrivs"], "0");
}

fn oom_score_adj_is_as_asked() {
    assert_eq!(Bundle::new().set("/process/oomScoreAdj", 500).report(&[])["oom_score_adj"], 500);
}

fn environment_is_exactly_as_asked() {
    let env = json!(["PATH=/bin", "HOME=/x", "A=1", "EMPTY=", "EQUALS=a=b", "SPACE= a b "]);
    let report = Bundle::new().set("/process/env", env).report(&[]);
    let expected = json!({"PATH": "/bin", "HOME": "/x", "A": "1", "EMPTY": "", "EQUALS": "a=b", "SPACE": " a b "});
    assert_eq!(report["env"], expected);
}

fn home_comes_from_passwd() {
    let bundle = Bundle::new().set("/process/user", json!({"uid": 1000, "gid": 1000}));
    assert_eq!(bundle.report(&[])["env"]["HOME"], "/home/user");
}

fn a_given_home_stays() {
    assert_eq!(Bundle::new().set("/process/env/-", "HOME=/given").report(&[])["env"]["HOME"], "/given");
}

fn home_of_an_unknown_user_is_the_root() {
    let bundle = Bundle::new().set("/process/user", json!({"uid": 4321, "gid": 4321}));
    assert_eq!(bundle.report(&[])["env"]["HOME"], "/");
}

fn the_last_of_equal_variables_wins() {
    let bundle = Bundle::new().set("/process/env", json!(["PATH=/bin", "A=1", "A=2"])).args(["env"]);
    let printed = bundle.stdout();
    assert!(printed.contains("A=2\n") && !printed.contains("A=1\n"), "{printed}");
}

fn programs_are_searched_in_the_container_s_path() {
    let bundle = Bundle::new()
        .file("/first/tool", 0o644, "not executable")
        .file("/second/tool", 0o755, "#!/bin/sh\necho second\n")
        .set("/process/env", json!(["PATH=/absent:/first:/second"]))
        .args(["tool"]);
    assert_eq!(bundle.stdout(), "second\n");
}

fn a_relative_program_is_relative_to_cwd() {
    let bundle = Bundle::new().file("/opt/tool", 0o755, "#!/bin/sh\necho here\n").set("/process/cwd", "/opt").args(["./tool"]);
    assert_eq!(bundle.stdout(), "here\n");
}

fn cwd_is_made_when_absent() {
    assert_eq!(Bundle::new().set("/process/cwd", "/new/place").report(&[])["cwd"], "/new/place");
}

fn cwd_is_as_asked() {
    assert_eq!(Bundle::new().set("/process/cwd", "/tmp").report(&[])["cwd"], "/tmp");
}

fn a_file_as_cwd_is_refused() {
    Bundle::new().set("/process/cwd", "/etc/passwd").fails("ot a directory");
}

fn arguments_arrive_as_given() {
    let report = Bundle::new().report(&["", "a b", "-x", "'\"$HOME"]);
    assert_eq!(report["args"], json!(["/inside", "report", "", "a b", "-x", "'\"$HOME"]));
}

fn signals_are_as_by_default() {
    let bundle = Bundle::new().args(["grep", "^Sig[BI]", "/proc/self/status"]);
    bundle.write();
    let run = bundle.command(["run", &bundle.id]);
    // A caller that ignores some signals.
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' TERM HUP CHLD PIPE; exec \"$@\"", "sh"]).arg(run.get_program()).args(run.get_args());
    shell.current_dir(bundle.dir());
    let output = bundle.finish(shell);
    let sets: Vec<u64> = output
        .stdout
        .lines()
        .filter_map(|line| u64::from_str_radix(line.split_once('\t')?.1, 16).ok())
        // The two that belong to the C library cannot be changed through it, and come from whoever started us.
        .map(|set| set & !(0b11 << 31))
        .collect();
    assert_eq!(sets, [0, 0], "{output:?}");
}

fn the_first_process_leads_its_session() {
    let report = Bundle::new().report(&[]);
    assert_eq!((&report["session"], &report["status"]["Pid"]), (&json!(1), &json!("1")));
}

fn there_is_no_terminal_unless_asked() {
    assert_eq!(Bundle::new().sh("test -t 0 || test -t 1 || (: </dev/tty) 2>/dev/null || echo none").stdout(), "none\n");
}

fn scheduler_is_as_asked() {
    let scheduler = json!({"policy": "SCHED_BATCH", "nice": 5});
    let report = Bundle::new().set("/process/scheduler", scheduler).report(&[]);
    assert_eq!((&report["scheduler"]["policy"], &report["scheduler"]["nice"]), (&json!(3), &json!(5)));
}

fn cpus_are_not_the_caller_s() {
    let cpus = |report: &Value| report["status"]["Cpus_allowed_list"].clone();
    let all = cpus(&Bundle::new().report(&[]));
    // What a thread starts is bound as it is.
    let bound = std::thread::spawn(|| {
        let mut first = CpuSet::new();
        first.set(0).expect("a CPU");
        sched_setaffinity(Pid::from_raw(0), &first).expect("be bound to the first CPU");
        let bundle = Bundle::new().args(["sleep", "1000"]);
        let container = bundle.detach();
        let status = |pid: &str| fs::read_to_string(format!("/proc/{pid}/status")).expect("read a status");
        let list = |status: String| status.lines().find_map(|line| Some(line.strip_prefix("Cpus_allowed_list:\t")?.to_owned()));
        (list(status("thread-self")), list(status(&container.pid.to_string())))
    });
    let (own, theirs) = bound.join().expect("the thread");
    assert_eq!((own.as_deref(), theirs.as_deref()), (Some("0"), all.as_str()));
}

fn io_priority_is_as_asked() {
    let priority = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    assert_eq!(Bundle::new().set("/process/ioPriority", priority).report(&[])["io_priority"], json!([2, 6]));
}

fn a_script_without_its_interpreter_is_explained() {
    Bundle::new().file("/script", 0o755, "#!/no/such/shell\n").args(["/script"]).fails("/no/such/shell");
}

fn a_script_with_a_carriage_return_is_explained() {
    let output = Bundle::new().file("/script", 0o755, "#!/bin/sh\r\necho\r\n").args(["/script"]).fails("/script");
    assert!(output.stderr.contains("carriage return") || output.stderr.contains("CRLF"), "{output:?}");
}

fn a_directory_as_program_is_named() {
    Bundle::new().args(["/etc"]).fails("exec: \"/etc\": is a directory");
}

fn a_program_of_no_known_format_is_named() {
    let bundle = Bundle::new().file("/garbage", 0o755, [0u8; 64]).args(["/garbage"]);
    let output = bundle.run();
    assert!(output.status != 0 && output.error().to_lowercase().contains("exec format error"), "{output:?}");
}
