//! What plans are made of what configurations: golden files, a line a step.
//!
//! ```text
//! plans/bundles/NAME.txt       the plan of tests/data/bundles/NAME.json, which a real engine wrote
//! plans/NAME/config.json       the smallest configuration that has one feature
//!            host.txt          a line for each way in which host or request differ from the usual; see `facts`
//!            plan.txt          its plan, or `refused: ` and why
//! plans/exec/NAME.txt          the plan of a further process, tests/data/exec/NAME.json, in a container of its own namespaces
//! ```
//!
//! The machine is made by hand: root, every controller of cgroup v2. `UPDATE_PLANS=1 cargo test --test plans` writes all
//! plan files anew; what that changed is to be read before it is committed.

mod coverage;

use onggi::cgroup::systemd::Instance;
use onggi::cgroup::{Delegation, Denied, Driver, Hierarchy};
use onggi::config::{Process, Spec};
use onggi::host::Host;
use onggi::plan::{self, ExecRequest, Plan, Request};
use onggi::sys::clone::flags;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");

/// A configuration, where its golden file is, and what is special about the host.
struct Case {
    name: String,
    config: PathBuf,
    golden: PathBuf,
    facts: String,
}

fn entries(dir: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(Path::new(ROOT).join(dir)).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

fn captured() -> Vec<Case> {
    let case = |config: PathBuf| {
        let name = config.file_stem().unwrap().to_string_lossy().into_owned();
        Case { golden: Path::new(ROOT).join(format!("plans/bundles/{name}.txt")), config, facts: String::new(), name }
    };
    entries("data/bundles").into_iter().map(case).collect()
}

fn features() -> Vec<Case> {
    let dirs = entries("plans").into_iter().filter(|p| p.join("config.json").exists());
    let case = |dir: PathBuf| Case {
        name: dir.file_name().unwrap().to_string_lossy().into_owned(),
        config: dir.join("config.json"),
        golden: dir.join("plan.txt"),
        facts: fs::read_to_string(dir.join("host.txt")).unwrap_or_default(),
    };
    dirs.map(case).collect()
}

/// Processes for `exec`; the podman ones in a container of an ordinary user.
fn executed() -> Vec<Case> {
    let case = |config: PathBuf| {
        let name = config.file_stem().unwrap().to_string_lossy().into_owned();
        let facts = if name.starts_with("podman") { "an ordinary user".into() } else { String::new() };
        Case { golden: Path::new(ROOT).join(format!("plans/exec/{name}.txt")), config, facts, name }
    };
    entries("data/exec").into_iter().map(case).collect()
}

/// The usual machine: root with every capability, cgroup v2 alone.
fn usual_host() -> Host {
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
    let hierarchy = Hierarchy {
        mount: "/sys/fs/cgroup".into(),
        controllers: controllers.map(String::from).into(),
        v1: Vec::new(),
        own: "/caller".into(),
    };
    Host { permitted: (1 << 41) - 1, privileged: true, oom_score_adj: Some(0), hierarchy: Some(hierarchy), ..Host::default() }
}

fn usual_request() -> Request<'static> {
    Request {
        id: "ID",
        bundle: Path::new("/bundle"),
        wait: true,
        no_pivot: false,
        no_new_keyring: false,
        preserve: 0,
        driver: Driver::Cgroupfs,
        environment: Vec::new(),
        notify: None,
    }
}

/// Changes host and request as `host.txt` says.
fn facts(text: &str, host: &mut Host, request: &mut Request<'_>) {
    for line in text.lines() {
        match line {
            "an ordinary user" => {
                (host.uid, host.permitted, host.privileged) = (1000, 0, false);
                host.delegation.denied = Some(Denied::Directory("/sys/fs/cgroup".into()));
            }
            "a delegated cgroup" => host.delegation = Delegation::default(),
            "only the own cgroup delegated" => host.delegation = Delegation { denied: None, below_own: true },
            "a cgroup that cannot be entered" => host.delegation.denied = Some(Denied::Entry("/sys/fs/cgroup/user.slice".into())),
            "in a user namespace" => host.nested = true,
            "few open files" => host.open_files = Some((16, 4096)),
            "few capabilities" => host.permitted = 1 << 21,
            "cgroup v1 beside v2" => {
                let hierarchy = host.hierarchy.as_mut().unwrap();
                hierarchy.mount = "/sys/fs/cgroup/unified".into();
                hierarchy.v1 = std::mem::take(&mut hierarchy.controllers);
            }
            "no cgroup2" => host.hierarchy = None,
            "ignored signals" => host.ignored_signals = vec![13, 17],
            "oom_score_adj 100" => host.oom_score_adj = Some(100),
            "with AppArmor" => host.apparmor = true,
            "with SELinux" => host.selinux = true,
            "with resctrl" => host.resctrl = Some("/sys/fs/resctrl".into()),
            "run" => request.wait = false,
            "--no-pivot" => {
                request.no_pivot = true;
                host.bare_mounts = vec!["/proc".into(), "/sys".into()];
            }
            "--no-new-keyring" => request.no_new_keyring = true,
            "--preserve-fds 2" => request.preserve = 2,
            "--cgroup-manager disabled" => request.driver = Driver::Disabled,
            "--systemd-cgroup" => request.driver = Driver::Systemd(Instance::System),
            "--systemd-cgroup in a session" => request.driver = Driver::Systemd(Instance::User),
            other => panic!("host.txt: {other:?}"),
        }
    }
}

fn compile(case: &Case) -> onggi::error::Result<Plan> {
    let (mut host, mut request) = (usual_host(), usual_request());
    facts(&case.facts, &mut host, &mut request);
    if case.golden.parent().is_some_and(|dir| dir.ends_with("plans/exec")) {
        let process = Process::parse(&fs::read(&case.config).unwrap())?;
        let (user, others) = (flags::NEWUSER, flags::NEWNS | flags::NEWPID | flags::NEWNET | flags::NEWIPC | flags::NEWUTS);
        let differ = if host.privileged { others } else { others | user };
        // As if that container were in a resctrl group.
        let busy = case.name == "docker-04";
        let request = ExecRequest { id: "ID", differ, keyring: true, preserve: 0, placed: false, busy };
        // Docker's containers cannot trace anybody, of the others it is not known.
        let own = Process { capabilities: Some(Default::default()), ..Process::default() };
        let spec = Spec { process: Some(own).filter(|_| case.name.starts_with("docker")), ..Spec::default() };
        return plan::compile_exec(&spec, &process, &request, &host);
    }
    let config = fs::read(&case.config).unwrap();
    let spec = Spec::parse(&config)?;
    let mut plan = plan::compile(&spec, &request, &host)?;
    if let Some(filter) = plan::seccomp::filter(&spec, &config, || None)? {
        plan.set_filter(filter);
    }
    Ok(plan)
}

fn text(plan: onggi::error::Result<Plan>) -> String {
    match plan {
        Err(e) => format!("refused: {e}\n"),
        Ok(plan) => {
            let warnings = plan.warnings.iter().map(|w| format!("warning {w}\n"));
            warnings.chain(plan.lines().iter().map(|line| format!("{line}\n"))).collect()
        }
    }
}

/// Where two texts part, with a few lines around it.
fn difference(golden: &str, now: &str) -> String {
    let (golden, now): (Vec<_>, Vec<_>) = (golden.lines().collect(), now.lines().collect());
    let at = golden.iter().zip(&now).take_while(|(a, b)| a == b).count();
    let some = |lines: &[&str], sign: &str| -> String {
        lines.iter().skip(at).take(3).map(|line| format!("  {sign} {line}\n")).collect()
    };
    format!("from line {} on:\n{}{}", at + 1, some(&golden, "-"), some(&now, "+"))
}

fn compare(cases: &[Case]) {
    let update = std::env::var_os("UPDATE_PLANS").is_some();
    let mut wrong = String::new();
    for case in cases {
        let now = text(compile(case));
        if update {
            fs::write(&case.golden, now).unwrap();
            continue;
        }
        let golden = fs::read_to_string(&case.golden).unwrap_or_default();
        if golden != now {
            wrong += &format!("{}: {}", case.name, difference(&golden, &now));
        }
    }
    assert!(wrong.is_empty(), "{wrong}(UPDATE_PLANS=1 writes the files anew)");
}

#[test]
fn captured_bundles() {
    let cases = captured();
    assert!(cases.len() >= 50);
    compare(&cases);
}

#[test]
fn further_processes() {
    let cases = executed();
    assert!(cases.len() >= 9);
    compare(&cases);
}

#[test]
fn every_feature() {
    compare(&features());
}

#[test]
fn no_golden_file_without_its_configuration() {
    let names: Vec<_> = captured().into_iter().map(|c| c.golden).collect();
    let stale: Vec<_> = entries("plans/bundles").into_iter().filter(|p| !names.contains(p)).collect();
    assert!(stale.is_empty(), "{stale:?}");
}

#[test]
fn a_plan_is_the_same_each_time() {
    for case in captured() {
        assert_eq!(text(compile(&case)), text(compile(&case)), "{}", case.name);
    }
}
