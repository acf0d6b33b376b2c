//! Instructions of the parent's work, as valgrind counts them in the program that `make work` builds: they do not depend on
//! what else the machine does. And one that no command executes.

use super::{OURS, release, released};
use crate::bundle::{Bundle, find_program};
use crate::case;
use crate::case::{Case, runtime};
use nix::sys::ptrace;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// From the text of a `config.json` to a plan.
const DEFAULT_PLAN: u64 = 470_000;
const DOCKER_PLAN: u64 = 1_900_000;
/// From Docker's profile, parsed, to a program.
const SECCOMP: u64 = 700_000;

pub fn cases() -> Vec<Case> {
    let of_release = |case: Case| released(case.ours(OURS));
    let questions = case!(the_processor_is_asked_nothing).ours(OURS);
    vec![
        of_release(case!(a_plan_is_compiled_in_few_instructions)),
        of_release(case!(a_seccomp_profile_is_compiled_in_few_instructions)),
        if cfg!(own_start) { questions } else { questions.without("a C library whose start-up can be replaced") },
    ]
}

/// The program beside the runtime that is tested.
fn work() -> PathBuf {
    assert!(release(), "only the release build has it");
    let path = find_program(&runtime()).and_then(|path| Some(fs::canonicalize(path).ok()?.parent()?.join("onggi-work")));
    path.filter(|path| path.exists()).expect("onggi-work is not beside the runtime (make work)")
}

/// Instructions that `what` takes each time: those of eleven times without those of one.
fn each(bundle: &Bundle, what: &str) -> u64 {
    assert!(find_program("valgrind").is_some(), "valgrind is not here (package valgrind)");
    bundle.write();
    let counted = |times: &str| -> u64 {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(work()).arg(what);
        valgrind.arg(bundle.dir().join("config.json")).arg(times).current_dir(bundle.dir());
        let output = bundle.finish(valgrind);
        assert_eq!(output.status, 0, "{output:?}");
        let line = output.stderr.lines().find_map(|line| line.split_once("Collected :")).expect("a sum in valgrind's output");
        line.1.trim().parse().expect("a number of instructions")
    };
    (counted("11") - counted("1")) / 10
}

#[track_caller]
fn holds(what: &str, found: u64, ceiling: u64) {
    eprintln!("{what}: {found} instructions of {ceiling}");
    assert!((1000..=ceiling).contains(&found), "{what}: {found} instructions, the ceiling is {ceiling}");
}

fn docker() -> Bundle {
    let mut bundle = Bundle::new();
    let captured = include_str!("../../tests/data/bundles/docker-01-sh-c-echo-hi-exit-7.json");
    bundle.config = serde_json::from_str::<Value>(captured).expect("parse the captured config.json");
    bundle.set("/root/path", "rootfs")
}

fn a_plan_is_compiled_in_few_instructions() {
    holds("the default plan", each(&Bundle::new(), "plan"), DEFAULT_PLAN);
    holds("Docker's plan", each(&docker(), "plan"), DOCKER_PLAN);
}

fn a_seccomp_profile_is_compiled_in_few_instructions() {
    holds("Docker's profile", each(&docker(), "seccomp"), SECCOMP);
}

/// CPUID is an exit to the hypervisor in a virtual machine: some 5 microseconds, and the C library would execute it sixty
/// times at each start.
fn the_processor_is_asked_nothing() {
    let mut command = Command::new(runtime());
    command.args(["state", "nobody"]).stderr(Stdio::null());
    // SAFETY: one system call.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    let id = command.spawn().map(|child| child.id()).expect("start the runtime");
    let pid = Pid::from_raw(id.try_into().expect("a process number"));
    let (mut steps, mut questions) = (0, 0);
    while let WaitStatus::Stopped(..) = waitpid(pid, None).expect("wait for a step") {
        let at = ptrace::getregs(pid).expect("read the registers").rip;
        let next = ptrace::read(pid, at as ptrace::AddressType).expect("read the program");
        questions += u64::from(next.to_le_bytes().starts_with(&[0x0f, 0xa2]));
        steps += 1;
        ptrace::step(pid, None).expect("do a step");
    }
    assert!(steps > 1000, "{steps} instructions are too few for a command");
    assert_eq!(questions, 0, "of {steps} instructions");
}
