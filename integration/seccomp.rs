//! `/linux/seccomp` as the program feels it, and as its agent does. What each rule compiles to is `tests/seccomp`'s.

use crate::bundle::Bundle;
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use crate::inside::listener::{self, Answer};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use serde_json::{Value, json};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

/// Number of a call that nothing depends on.
const GETPID: i64 = libc::SYS_getpid;
/// Number of one that runtimes do not make either (acct).
const ACCT: &str = "163";
const PERSONALITY: i64 = libc::SYS_personality;

const NO_FLAGS: &str = "1.1 has no flags";

pub fn cases() -> Vec<Case> {
    vec![
        case!(a_profile_puts_the_program_into_filter_mode),
        case!(without_a_profile_there_is_no_filter),
        case!(an_errno_rule_gives_its_errno),
        case!(the_default_errno_is_eperm),
        case!(a_rule_looks_at_arguments),
        case!(kill_ends_the_program_with_sigsys),
        case!(trap_sends_sigsys),
        case!(start_container_hooks_are_under_it_too).except("runc", "1.1 runs them before").except("crun", "runs them before"),
        case!(calls_that_only_runtimes_make_may_be_forbidden),
        case!(log_lets_the_call_through),
        case!(trace_without_a_tracer_is_enosys),
        case!(flags_are_taken).except("runc", NO_FLAGS),
        case!(an_unknown_flag_is_refused).except("runc", NO_FLAGS),
        case!(an_unknown_call_is_ignored),
        case!(an_unknown_action_is_refused),
        case!(a_profile_of_another_shape_is_refused_before_a_hook_runs),
        case!(calls_of_an_unlisted_architecture_end_the_program),
        case!(calls_of_a_listed_architecture_follow_the_rules),
        case!(a_profile_for_the_program_alone_is_enough).ours("others need calls of their own after it is loaded"),
        case!(a_profile_may_forbid_what_comes_before_it),
        case!(an_agent_answers_for_the_kernel),
        case!(an_agent_answers_without_no_new_privileges),
        case!(an_agent_may_answer_for_init_itself),
        case!(a_missing_agent_is_an_error_that_leaves_nothing),
        case!(notify_without_a_listener_is_refused).except("crun", "leaves the listener out"),
    ]
}

fn profile(default: &str, rules: Value) -> Bundle {
    Bundle::new().set("/linux/seccomp", json!({"defaultAction": default, "syscalls": rules}))
}

fn rule(name: &str, action: &str) -> Value {
    json!([{"names": [name], "action": action}])
}

/// What a call inside gives.
fn call(bundle: Bundle, words: &[&str]) -> String {
    bundle.inside(words).stdout().trim().to_owned()
}

fn getpid() -> String {
    GETPID.to_string()
}

fn a_profile_puts_the_program_into_filter_mode() {
    for no_new_privileges in [true, false] {
        let bundle = profile("SCMP_ACT_ALLOW", rule("getpid", "SCMP_ACT_ERRNO"));
        let report = bundle.set("/process/noNewPrivileges", no_new_privileges).report(&[]);
        assert_eq!(report["status"]["Seccomp"], "2");
        assert_eq!(report["status"]["Seccomp_filters"], "1");
        assert_eq!(report["status"]["NoNewPrivs"], u8::from(no_new_privileges).to_string());
    }
}

fn without_a_profile_there_is_no_filter() {
    assert_eq!(Bundle::new().report(&[])["status"]["Seccomp"], "0");
}

fn an_errno_rule_gives_its_errno() {
    for no_new_privileges in [true, false] {
        let rules = json!([{"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV}]);
        let bundle = profile("SCMP_ACT_ALLOW", rules).set("/process/noNewPrivileges", no_new_privileges);
        assert_eq!(call(bundle, &["call", &getpid()]), "EXDEV");
    }
}

fn the_default_errno_is_eperm() {
    assert_eq!(call(profile("SCMP_ACT_ALLOW", rule("getpid", "SCMP_ACT_ERRNO")), &["call", &getpid()]), "EPERM");
}

fn a_rule_looks_at_arguments() {
    let condition = json!([{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]);
    let rules = json!([{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": condition}]);
    for (argument, expected) in [("8", "EPERM"), ("4294967295", "0")] {
        let bundle = profile("SCMP_ACT_ALLOW", rules.clone());
        assert_eq!(call(bundle, &["call", &PERSONALITY.to_string(), argument]), expected, "{argument}");
    }
}

fn kill_ends_the_program_with_sigsys() {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD"] {
        let bundle = profile("SCMP_ACT_ALLOW", rule("acct", action)).inside(&["call", ACCT]);
        let output = bundle.run();
        assert_eq!((output.status, output.stdout.as_str()), (128 + libc::SIGSYS, ""), "{action}: {output:?}");
    }
}

fn trap_sends_sigsys() {
    let bundle = profile("SCMP_ACT_ALLOW", rule("acct", "SCMP_ACT_TRAP")).inside(&["call", ACCT]);
    assert_eq!(bundle.run().status, 128 + libc::SIGSYS);
}

fn start_container_hooks_are_under_it_too() {
    for new_privileges in [true, false] {
        let rules = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]);
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "mkdir /dev/shm/hook && echo made"]});
        let bundle = profile("SCMP_ACT_ALLOW", rules).set("/process/noNewPrivileges", !new_privileges);
        bundle.set("/hooks/startContainer/-", hook).args(["true"]).fails("error running startContainer hook #0");
    }
}

/// Without no_new_privs the filter is there early. What comes after it is little, and nothing that is new.
fn calls_that_only_runtimes_make_may_be_forbidden() {
    let names = ["close_range", "fsopen", "fsconfig", "fspick", "openat2", "open_tree", "move_mount", "mount_setattr"];
    let rules = json!([{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]);
    let bundle = profile("SCMP_ACT_ALLOW", rules).set("/process/noNewPrivileges", false);
    assert_eq!(bundle.args(["echo", "hi"]).stdout(), "hi\n");
}

fn log_lets_the_call_through() {
    assert_eq!(call(profile("SCMP_ACT_ALLOW", rule("getpid", "SCMP_ACT_LOG")), &["call", &getpid()]), "1");
}

fn trace_without_a_tracer_is_enosys() {
    assert_eq!(call(profile("SCMP_ACT_ALLOW", rule("getpid", "SCMP_ACT_TRACE")), &["call", &getpid()]), "ENOSYS");
}

fn flags_are_taken() {
    let flags = json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
    let bundle = profile("SCMP_ACT_ALLOW", rule("getpid", "SCMP_ACT_ERRNO")).set("/linux/seccomp/flags", flags);
    assert_eq!(call(bundle, &["call", &getpid()]), "EPERM");
}

fn an_unknown_flag_is_refused() {
    let bundle = profile("SCMP_ACT_ALLOW", json!([])).set("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_OF_TOMORROW"]));
    bundle.fails("SECCOMP_FILTER_FLAG_OF_TOMORROW");
}

fn an_unknown_call_is_ignored() {
    let rules = json!([{"names": ["call_of_tomorrow", "getpid"], "action": "SCMP_ACT_ERRNO"}]);
    assert_eq!(call(profile("SCMP_ACT_ALLOW", rules), &["call", &getpid()]), "EPERM");
}

fn an_unknown_action_is_refused() {
    profile("SCMP_ACT_ALLOW", rule("getpid", "SCMP_ACT_PRAISE")).fails("SCMP_ACT_PRAISE");
}

fn a_profile_of_another_shape_is_refused_before_a_hook_runs() {
    let bundle = profile("SCMP_ACT_ALLOW", json!([{"names": "getpid", "action": "SCMP_ACT_ERRNO"}]));
    let ran = bundle.home.join("ran");
    let bundle = bundle.set("/hooks", json!({"createRuntime": [{"path": "/bin/touch", "args": ["touch", ran]}]}));
    let output = bundle.fails("names");
    assert!(!ran.exists());
    if crate::case::name_of_runtime() == "onggi" {
        assert!(output.stderr.contains("/linux/seccomp/syscalls/0/names"), "{output:?}");
    }
}

/// Whether this kernel lets anybody make a call of i386.
fn has_i386() -> bool {
    let output = crate::stage::this_program_as("inside").args(["call32", "20"]).output().expect("run this program");
    if !output.status.success() {
        eprintln!("this kernel has no calls of i386");
    }
    output.status.success()
}

fn calls_of_an_unlisted_architecture_end_the_program() {
    if has_i386() {
        let bundle = profile("SCMP_ACT_ALLOW", rule("acct", "SCMP_ACT_ERRNO")).inside(&["call32", "20"]);
        let output = bundle.run();
        assert_eq!((output.status, output.stdout.as_str()), (128 + libc::SIGSYS, ""), "{output:?}");
    }
}

fn calls_of_a_listed_architecture_follow_the_rules() {
    if has_i386() {
        let architectures = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
        let with = |name: &str| profile("SCMP_ACT_ALLOW", rule(name, "SCMP_ACT_ERRNO"));
        let with = |name: &str| with(name).set("/linux/seccomp/architectures", architectures.clone());
        // 20 is getpid there, writev here.
        assert_eq!(call(with("writev"), &["call32", "20"]), "1");
        assert_eq!(call(with("getpid"), &["call32", "20"]), "-1");
        assert_eq!(call(with("getpid"), &["call", &getpid()]), "EPERM");
    }
}

/// All that `busybox true` does, as whatever user and whatever it was linked with.
const OF_TRUE: [&str; 26] = [
    "execve",
    "brk",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "mprotect",
    "mmap",
    "munmap",
    "prlimit64",
    "readlink",
    "readlinkat",
    "getrandom",
    "uname",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "setuid",
    "setgid",
    "prctl",
    "ioctl",
    "exit",
    "exit_group",
    "stat",
    "newfstatat",
];

fn a_profile_for_the_program_alone_is_enough() {
    let rules = json!([{"names": OF_TRUE, "action": "SCMP_ACT_ALLOW"}]);
    profile("SCMP_ACT_KILL_PROCESS", rules.clone()).stdout();
    let bundle = profile("SCMP_ACT_KILL_PROCESS", rules).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let container = bundle.create();
    assert_eq!(container.start().wait(), 0);
}

fn a_profile_may_forbid_what_comes_before_it() {
    let names = json!([
        "capset",
        "setresuid",
        "setresgid",
        "setuid",
        "setgid",
        "setgroups",
        "chdir",
        "fchdir",
        "openat2",
        "mount",
        "pivot_root",
        "seccomp",
        "close_range",
        "sethostname",
        "setsid",
        "umask"
    ]);
    profile("SCMP_ACT_ALLOW", json!([{"names": names, "action": "SCMP_ACT_KILL_PROCESS"}])).stdout();
}

/// An agent in a thread: gives `answer` to each `number`, lets all others through; ends with the last process that has the
/// filter. Returns the message that came with the listener.
fn agent(bundle: &Bundle, number: i64, answer: Answer) -> JoinHandle<Value> {
    let socket = UnixListener::bind(bundle.home.join("agent")).expect("make a socket");
    std::thread::spawn(move || {
        let (connection, _) = socket.accept().expect("accept the runtime");
        let mut message = vec![0u8; 65536];
        let (listener, length) = onggi::sys::socket::recv_fd(connection.as_fd(), &mut message).expect("one descriptor");
        loop {
            let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, 20_000u16).expect("wait for a call");
            let events = fds[0].revents().expect("known events");
            assert!(ready > 0, "nobody calls, nobody ends");
            if !events.contains(PollFlags::POLLIN) {
                break;
            }
            match listener::receive(listener.as_fd()) {
                Ok(request) => {
                    assert!(request.pid > 0);
                    let answer = if i64::from(request.number) == number { answer } else { Answer::Continue };
                    match listener::answer(listener.as_fd(), &request, answer) {
                        Ok(()) | Err(Errno::ENOENT) => {}
                        Err(error) => panic!("answer: {error}"),
                    }
                }
                Err(Errno::ENOENT | Errno::EINTR) => {}
                Err(error) => panic!("take a call: {error}"),
            }
        }
        serde_json::from_slice(&message[..length]).expect("parse the message")
    })
}

fn notifying(names: &[&str]) -> Bundle {
    let bundle = profile("SCMP_ACT_ALLOW", json!([{"names": names, "action": "SCMP_ACT_NOTIFY"}]));
    let path = bundle.home.join("agent").display().to_string();
    bundle.set("/linux/seccomp/listenerPath", path)
}

fn an_agent_answers_for_the_kernel() {
    let bundle = notifying(&["getpid"])
        .set("/linux/seccomp/listenerMetadata", "for you")
        .set("/annotations", json!({"org.example.a": "b"}))
        .inside(&["call", &getpid()]);
    let agent = agent(&bundle, GETPID, Answer::Value(4242));
    let container = bundle.create();
    let status = container.start().wait();
    let message = agent.join().expect("the agent");
    assert_eq!((status, container.stdout().as_str()), (0, "4242\n"), "{}", container.stderr());
    assert_eq!(message["fds"], json!(["seccompFd"]));
    assert_eq!(message["pid"], container.pid);
    assert_eq!(message["metadata"], "for you");
    assert!(message["ociVersion"].as_str().is_some_and(|version| !version.is_empty()), "{message}");
    let state = &message["state"];
    assert_eq!((&state["id"], &state["status"], &state["pid"]), (&json!(bundle.id), &json!("creating"), &json!(container.pid)));
    assert_eq!(state["bundle"], bundle.dir().display().to_string());
    assert_eq!(state["annotations"]["org.example.a"], "b");
}

fn an_agent_answers_without_no_new_privileges() {
    let bundle = notifying(&["getpid"]).set("/process/noNewPrivileges", false).inside(&["call", &getpid()]);
    let agent = agent(&bundle, GETPID, Answer::Error(Errno::EXDEV));
    assert_eq!(bundle.stdout(), "EXDEV\n");
    agent.join().expect("the agent");
}

fn an_agent_may_answer_for_init_itself() {
    for no_new_privileges in [true, false] {
        let names = ["getpid", "close_range", "capset", "prctl", "setresuid", "chdir", "sendto", "openat", "execve"];
        let bundle = notifying(&names).set("/process/noNewPrivileges", no_new_privileges).inside(&["report"]);
        let agent = agent(&bundle, -1, Answer::Continue);
        let report: Value = serde_json::from_str(&bundle.stdout()).expect("parse the report");
        agent.join().expect("the agent");
        let numbers: Vec<&String> = report["fds"].as_object().expect("descriptors").keys().collect();
        assert_eq!(numbers, ["0", "1", "2"], "{}", report["fds"]);
    }
}

fn a_missing_agent_is_an_error_that_leaves_nothing() {
    for no_new_privileges in [true, false] {
        let bundle = notifying(&["getpid"]).set("/process/noNewPrivileges", no_new_privileges);
        let before = Snapshot::of(&bundle);
        let output = bundle.run();
        assert!(output.status != 0 && output.error().contains("agent"), "{output:?}");
        before.assert_unchanged();
    }
}

fn notify_without_a_listener_is_refused() {
    profile("SCMP_ACT_ALLOW", rule("getpid", "SCMP_ACT_NOTIFY")).fails("listenerPath");
}
