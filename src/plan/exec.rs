//! A further process of a running container: its configuration, the process, the host -> [`Plan`]. The second plan of the
//! same loop: nothing is mounted or made, the namespaces of init are entered in one setns(2), and from there on the
//! process becomes what init became.
//!
//! The PID namespace is entered by the parent around the clone, as only a child gets into it; where the parent may not
//! (an ordinary user's container), or could not come back from there (root of a user namespace), the child enters all and
//! forks once more. So it does where the container may trace what it sees: see [`hide`].

use super::build::{Given, arguments, become_program, few_files, is_set_from_outside, part_from_outside};
use super::labels;
use super::namespaces::{self, Namespaces};
use super::{Action, Open, Pause, Plan, Slot, Step, What, account, c_string};
use crate::config::{Capabilities, Process, Spec, check, values};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::sys::clone::{self, flags};
use crate::sys::spawn::StringList;

/// What `exec` asks for, beside the process.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Kinds (`CLONE_NEW*`) of the namespaces of init that are not the runtime's own.
    pub differ: u64,
    /// The container has a session keyring of its own.
    pub keyring: bool,
    /// Descriptors from 3 on that the program gets.
    pub preserve: u32,
    /// The process may have to be moved into the container's cgroup by systemd.
    pub placed: bool,
    /// The runtime has something else to do between the clone and the program, or must be able to give up meanwhile.
    pub busy: bool,
}

/// More than most processes take.
const USUAL_STEPS: usize = 40;
/// More CPUs than any kernel has (NR_CPUS is at most 8192), a bit a CPU.
pub(super) const ALL_CPUS: [u64; 128] = [u64::MAX; 128];
const MOST_CPUS: u32 = 8192;

/// The process with what it does not say itself taken from the container's own, as in runc: limits, capabilities,
/// scheduling, OOM score.
#[must_use]
pub fn complete(mut process: Process, spec: &Spec) -> Process {
    let Some(own) = &spec.process else { return process };
    if process.rlimits.is_empty() {
        process.rlimits.clone_from(&own.rlimits);
    }
    if process.capabilities.is_none() {
        process.capabilities.clone_from(&own.capabilities);
    }
    process.oom_score_adj = process.oom_score_adj.or(own.oom_score_adj);
    process.scheduler = process.scheduler.or_else(|| own.scheduler.clone());
    process.io_priority = process.io_priority.or_else(|| own.io_priority.clone());
    process.exec_cpu_affinity = process.exec_cpu_affinity.or_else(|| own.exec_cpu_affinity.clone());
    for (label, of_container) in
        [(&mut process.apparmor_profile, &own.apparmor_profile), (&mut process.selinux_label, &own.selinux_label)]
    {
        if label.is_empty() {
            label.clone_from(of_container);
        }
    }
    process
}

/// `exec --cap`: into the bounding, effective and permitted sets, and into the ambient one where the container's inheritable
/// set has it already, as in runc 1.3: another user than root keeps it then. Never inheritable, which would hand them to any
/// file with inheritable capabilities (CVE-2022-29162).
pub fn add_capabilities(process: &mut Process, names: &[String]) {
    // Without sets of its own the process keeps all that there are.
    let Some(sets) = &mut process.capabilities else { return };
    let Capabilities { bounding, effective, permitted, inheritable, ambient } = sets;
    let bits = |list: &[String]| values::capabilities(list).bits;
    let inherited = bits(inheritable);
    ambient.extend(names.iter().filter(|name| bits(std::slice::from_ref(name)) & inherited != 0).cloned());
    for set in [bounding, effective, permitted] {
        set.extend_from_slice(names);
    }
}

/// Compiles the plan. Pure.
///
/// # Errors
/// Everything that can be refused from the process, the container's configuration and the facts of the host alone.
pub fn compile_exec(spec: &Spec, program: &Process, request: &ExecRequest<'_>, host: &Host) -> Result<Plan> {
    check::process(program).map_err(|e| e.under("/process"))?;
    let mut steps = Vec::with_capacity(USUAL_STEPS);
    let mut warnings = Vec::new();
    let push = |steps: &mut Vec<Step>, field: &str, action| steps.push(Step { field: field.into(), action });

    if request.placed {
        push(&mut steps, "", Action::Pause(Pause::Placed));
    }
    push(&mut steps, "", Action::Signals(host.ignored_signals.clone()));
    // Before anybody in the container can see this process. While an ordinary user's is undumpable the file of its score is
    // root's.
    if host.privileged {
        push(&mut steps, "", Action::Undumpable);
    }
    let mut early = Vec::new();
    let namespaces = enter(spec, request, host, &mut early);
    let adjust = program.oom_score_adj.filter(|&n| Some(n) != host.oom_score_adj);
    let adjusts = adjust.filter(|_| !is_set_from_outside(&namespaces, host)).map(|_| "/process/oomScoreAdj");
    // While /proc is still the host's.
    if let Some(field) = labels::field(program, host).or(adjusts) {
        push(&mut steps, field, Action::OpenProc);
    }
    if let Some(n) = adjust {
        push(&mut steps, "/process/oomScoreAdj", Action::OomScoreAdj(c_string(&n.to_string(), "")?));
    }
    if !host.privileged {
        push(&mut steps, "", Action::Undumpable);
    }
    steps.append(&mut early);
    push(&mut steps, "", Action::NewSession);
    if request.keyring {
        steps.extend(labels::key(program, host)?);
        // It is there by now: the name finds it.
        push(&mut steps, "", Action::Keyring(c_string(&format!("_ses.{}", request.id), "")?));
    }
    push(&mut steps, "", Action::Inside { devpts: program.terminal });
    if program.terminal {
        let size = program.console_size.unwrap_or_default();
        let action = Action::Console { rows: size.height, columns: size.width, uid: program.user.uid, node: false };
        push(&mut steps, "/process/terminal", action);
    }
    let affinity = affinity(program, &mut steps)?;
    steps.extend(labels::apparmor(program, host)?);
    let few_files = few_files(host, 1);
    let preserve = request.preserve;
    let given = Given { host, namespaces: &namespaces, preserve, kept: &[], environment: &[], few_files };
    let (envp, late) = become_program(spec, given, program, &mut steps, &mut warnings)?;
    // What the parent has to do while the child waits, or to read back itself: /proc/self/status would be the middle process's.
    let mut lent = false;
    let waits = |step: &Step| {
        matches!(step.action, Action::Console { .. } | Action::ExecLabel(_) | Action::Seccomp { listens: true, .. })
    };
    if namespaces.forks || is_set_from_outside(&namespaces, host) || steps.iter().any(waits) {
        push(&mut steps, "", Action::Pause(Pause::Created));
    } else {
        let wants = account::wanted(&steps);
        if !wants.is_empty() {
            steps.insert(0, Step { field: String::new(), action: Action::OpenAccount });
            push(&mut steps, "", Action::ReadBack(wants));
        }
        lent = may_lend(spec, program, request, host);
        push(&mut steps, "", if lent { Action::RuntimeLives } else { Action::Pause(Pause::Cleared) });
    }
    if let Some(action) = late {
        push(&mut steps, "/linux/seccomp", action);
    }
    push(&mut steps, "/process/args", Action::Exec);
    if may_trace(spec, request) {
        steps = hide(steps, preserve);
    }
    let (from_outside, steps) = part_from_outside(steps, &namespaces, host);
    Ok(Plan {
        from_outside,
        namespaces,
        cgroup: None,
        // The command knows the container's groups from its state.
        rdt: None,
        opens: vec![Open { field: String::new(), path: c"".into(), what: What::Init }],
        steps,
        warnings,
        argv: StringList::new(arguments(program)?),
        envp: StringList::new(envp),
        net_devices: std::collections::BTreeMap::new(),
        raise_open_files: few_files.is_some(),
        lent,
        affinity,
    })
}

/// Whether someone in the container's PID namespace may have `CAP_SYS_PTRACE` over processes of the host's user namespace: the
/// container, or others that share the namespace and of which nothing is known here.
fn may_trace(spec: &Spec, request: &ExecRequest<'_>) -> bool {
    let shared = spec.linux.namespaces.iter().any(|n| n.kind == "pid" && !n.path.is_empty());
    let own = request.differ & flags::NEWPID != 0 && request.differ & flags::NEWUSER == 0;
    own && (shared || has_tracers(spec))
}

/// Whether processes of the container may have `CAP_SYS_PTRACE`.
fn has_tracers(spec: &Spec) -> bool {
    let sets = spec.process.as_ref().and_then(|process| process.capabilities.as_ref());
    sets.is_none_or(|sets| values::capabilities(&sets.bounding).bits & caps::Capability::CAP_SYS_PTRACE.bitmask() != 0)
}

/// Whether the child, which did not have to [`hide`], may work in the runtime's own memory: nobody in the container may trace it,
/// from its beginning to the program's execution, and no namespace wants a memory of its own (setns(2), CLONE_NEWTIME: EUSERS).
fn may_lend(spec: &Spec, program: &Process, request: &ExecRequest<'_>, host: &Host) -> bool {
    let changes_user = (program.user.uid, program.user.gid) != (0, 0);
    let stays_undumpable = !(changes_user && host.dumps_setuid);
    clone::LENDS
        && !request.busy
        && !request.placed
        && !has_tracers(spec)
        && host.privileged
        && !host.nested
        && request.differ & (flags::NEWTIME | flags::NEWUSER) == 0
        && stays_undumpable
}

/// What forks into a PID namespace shows itself there. It has left the host's mounts by then; here it gives up what it holds of
/// the host, too: labels, which are written through the host's procfs, and inherited, are written before, and then all
/// descriptors are closed. Undumpable as it is, only `CAP_SYS_PTRACE` of the host's user namespace can trace it (CVE-2016-9962).
fn hide(steps: Vec<Step>, preserve: u32) -> Vec<Step> {
    let Some(fork) = steps.iter().position(|step| matches!(step.action, Action::Fork(_))) else { return steps };
    let is_early = |action: &Action| {
        matches!(action, Action::KeyLabel(_) | Action::Keyring(_) | Action::ExecProfile { .. } | Action::ExecLabel(_))
    };
    let (mut hidden, mut rest) = (steps, Vec::new());
    rest.append(&mut hidden.split_off(fork));
    let (early, late): (Vec<_>, Vec<_>) = rest.into_iter().partition(|step| is_early(&step.action));
    hidden.extend(early);
    hidden.push(Step { field: String::new(), action: Action::Release(3 + preserve, Vec::new()) });
    hidden.extend(late);
    hidden
}

/// The steps into init's namespaces.
fn enter(spec: &Spec, request: &ExecRequest<'_>, host: &Host, steps: &mut Vec<Step>) -> Namespaces {
    let init = Slot(0);
    let mut namespaces = Namespaces { own: request.differ, ..Namespaces::default() };
    let mut joined = request.differ;
    let pid = joined & flags::NEWPID != 0;
    // Root of a user namespace could not come back: the runtime's own may belong to one above.
    if pid && host.privileged && !host.nested && !may_trace(spec, request) {
        namespaces.outer.push((init, flags::NEWPID));
        joined &= !flags::NEWPID;
    }
    let field = "/linux/namespaces".to_string();
    if joined != 0 {
        steps.push(Step { field: field.clone(), action: Action::Join(init, joined) });
    }
    if joined & flags::NEWUSER != 0 {
        steps.push(namespaces::identity(&spec.linux.uid_mappings, &spec.linux.gid_mappings));
    }
    if joined & flags::NEWPID != 0 {
        namespaces.forks = true;
        steps.push(Step { field, action: Action::Fork(0) });
    }
    namespaces
}

/// `execCPUAffinity`: the parent's CPUs before the clone, the process's own inside the cgroup. Without `final` it gets
/// all that the cpuset has, wherever the caller was bound to.
fn affinity(program: &Process, steps: &mut Vec<Step>) -> Result<Option<Vec<u64>>> {
    const FIELD: &str = "/process/execCPUAffinity";
    let asked = program.exec_cpu_affinity.as_ref();
    let mask = |list: Option<&String>, member: &str| match list.filter(|l| !l.trim().is_empty()) {
        Some(list) => values::mask(list, MOST_CPUS).map(Some).map_err(|e: Error| e.at(format!("{FIELD}/{member}"))),
        None => Ok(None),
    };
    let last = mask(asked.map(|a| &a.last), "final")?;
    let field = if last.is_some() { format!("{FIELD}/final") } else { String::new() };
    steps.push(Step { field, action: Action::Affinity(last.unwrap_or_else(|| ALL_CPUS.to_vec())) });
    mask(asked.map(|a| &a.initial), "initial")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ExecCpuAffinity;

    fn spec(json: &str) -> Spec {
        Spec::parse(json.as_bytes()).unwrap()
    }

    fn program() -> Process {
        Process { args: vec!["ls".into()], cwd: "/".into(), env: vec!["PATH=/bin".into()], ..Process::default() }
    }

    /// Of a container that can trace nobody.
    fn harmless() -> Spec {
        spec(r#"{"process":{"capabilities":{}}}"#)
    }

    fn root() -> Host {
        Host { privileged: true, permitted: u64::MAX, ..Host::default() }
    }

    fn words(spec: &Spec, program: &Process, differ: u64, host: &Host) -> Vec<String> {
        let request = ExecRequest { id: "c", differ, keyring: true, preserve: 0, placed: false, busy: false };
        let plan = compile_exec(spec, program, &request, host).unwrap();
        plan.lines().into_iter().map(|l| format!("{} {}", l.who, l.step)).collect()
    }

    fn at(words: &[String], text: &str) -> usize {
        words.iter().position(|w| w.contains(text)).unwrap_or_else(|| panic!("no {text:?} in {words:#?}"))
    }

    #[test]
    fn one_setns_after_undumpable_and_none_for_what_is_shared() {
        let words = words(&harmless(), &program(), flags::NEWPID | flags::NEWNS | flags::NEWNET, &root());
        assert!(words.contains(&"parent enter the pid namespace around the clone".to_string()), "{words:#?}");
        assert_eq!(words.iter().filter(|w| w.starts_with("child enter the container's")).count(), 1);
        assert!(at(&words, "become undumpable") < at(&words, "namespaces: mount network"));
        assert_eq!(words.last().unwrap(), "child execute the program");
    }

    #[test]
    fn an_unprivileged_user_forks_once_more() {
        let host = Host { uid: 1000, ..Host::default() };
        let spec = spec(r#"{"linux":{"uidMappings":[{"containerID":0,"hostID":1000,"size":1}]}}"#);
        let words = words(&spec, &program(), flags::NEWUSER | flags::NEWPID | flags::NEWNS, &host);
        assert!(at(&words, "user pid") < at(&words, "become 0:0 of the user namespace"), "{words:#?}");
        assert!(at(&words, "become 0:0 of the user namespace") < at(&words, "child fork"), "{words:#?}");
    }

    #[test]
    fn root_of_a_user_namespace_does_not_go_where_it_cannot_come_back_from() {
        let host = Host { nested: true, ..root() };
        let words = words(&Spec::default(), &program(), flags::NEWPID | flags::NEWNS, &host);
        assert!(!words.iter().any(|word| word.contains("around the clone")), "{words:#?}");
        assert!(at(&words, "namespaces: mount pid") < at(&words, "child fork"), "{words:#?}");
    }

    #[test]
    fn where_others_may_trace_it_shows_itself_empty_handed() {
        let kinds = flags::NEWPID | flags::NEWNS;
        let with = |capability: &str, namespace: &str| {
            let process = format!(r#"{{"capabilities":{{"bounding":["CAP_CHOWN","{capability}"]}},"apparmorProfile":"p"}}"#);
            spec(&format!(r#"{{"process":{process},"linux":{{"namespaces":[{namespace}]}}}}"#))
        };
        let host = Host { apparmor: true, ..root() };
        let process = Process { apparmor_profile: "p".into(), ..program() };
        for exposed in [with("CAP_SYS_PTRACE", ""), with("CAP_KILL", r#"{"type":"pid","path":"/x"}"#), Spec::default()] {
            let words = words(&exposed, &process, kinds, &host);
            assert!(!words.iter().any(|word| word.contains("around the clone")), "{words:#?}");
            let fork = at(&words, "child fork");
            assert!(at(&words, "AppArmor profile p") < fork && at(&words, "join session keyring") < fork, "{words:#?}");
            assert!(
                at(&words, "namespaces: mount pid") < fork && words[fork - 1] == "child close descriptors from 3",
                "{words:#?}"
            );
        }
        for (spec, kinds) in [(with("CAP_KILL", ""), kinds), (with("CAP_SYS_PTRACE", ""), kinds | flags::NEWUSER)] {
            let words = words(&spec, &program(), kinds, &root());
            assert!(words.iter().any(|word| word.contains("around the clone")), "{words:#?}");
        }
    }

    #[test]
    fn what_the_process_does_not_say_is_the_container_s() {
        let spec = spec(
            r#"{"process":{"oomScoreAdj":7,"rlimits":[{"type":"RLIMIT_CORE","soft":1,"hard":2}],
                "capabilities":{"bounding":["CAP_KILL"]},"execCPUAffinity":{"initial":"0","final":"1"}}}"#,
        );
        let mut process = complete(program(), &spec);
        assert_eq!((process.oom_score_adj, process.rlimits.len()), (Some(7), 1));
        add_capabilities(&mut process, &["CAP_CHOWN".into()]);
        let sets = process.capabilities.as_ref().unwrap();
        assert_eq!((sets.bounding.len(), sets.effective.len(), sets.inheritable.len()), (2, 1, 0));
        assert!(sets.ambient.is_empty(), "{sets:?}");
        let own = complete(Process { oom_score_adj: Some(0), rlimits: Vec::new(), ..program() }, &spec);
        assert_eq!(own.oom_score_adj, Some(0));
    }

    #[test]
    fn labels_go_through_the_host_s_procfs() {
        let host = Host { apparmor: true, selinux: true, ..root() };
        let own = spec(
            r#"{"process":{"apparmorProfile":"p","selinuxLabel":"u:r:t:s0"},"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"}}}"#,
        );
        let process = complete(Process { selinux_label: "u:r:other:s0".into(), ..program() }, &own);
        let words = words(&own, &process, flags::NEWUSER | flags::NEWNS, &host);
        assert!(at(&words, "private procfs") < at(&words, "enter the container's namespaces"), "{words:#?}");
        assert!(at(&words, "u:r:other:s0 to `/proc/self/attr/keycreate`") < at(&words, "join session keyring"), "{words:#?}");
        assert!(at(&words, "AppArmor profile p to") < at(&words, "u:r:other:s0 to `/proc/self/attr/exec`"), "{words:#?}");
        assert!(at(&words, "u:r:other:s0 to `/proc/self/attr/exec`") < at(&words, "seccomp filter"), "{words:#?}");
    }

    #[test]
    fn the_parent_waits_where_it_has_something_to_do() {
        let kinds = flags::NEWPID | flags::NEWNS | flags::NEWUTS;
        let process = Process { capabilities: Some(Capabilities::default()), ..program() };
        let alone = words(&harmless(), &process, kinds, &root());
        assert!(at(&alone, "open the kernel's account") < at(&alone, "enter the container's namespaces"), "{alone:#?}");
        assert!(at(&alone, "capabilities") < at(&alone, "read back what was set"), "{alone:#?}");
        assert!(at(&alone, "read back what was set") < at(&alone, "go on unless the runtime is gone"), "{alone:#?}");
        let rules = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["getcwd"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        let listens = format!(r#"{{"process":{{"capabilities":{{}}}},"linux":{{"seccomp":{rules}}}}}"#);
        let labels = Host { selinux: true, ..root() };
        for (spec, process, kinds, host) in [
            (harmless(), Process { terminal: true, ..program() }, kinds, root()),
            (harmless(), Process { selinux_label: "u:r:t:s0".into(), ..program() }, kinds, labels),
            (spec(&listens), program(), kinds, root()),
            (Spec::default(), program(), kinds, root()),
            (harmless(), program(), kinds | flags::NEWUSER, root()),
            (harmless(), program(), kinds, Host { uid: 1000, ..Host::default() }),
        ] {
            let words = words(&spec, &process, kinds, &host);
            assert!(words.contains(&"child say ready".to_string()), "{words:#?}");
            assert!(!words.iter().any(|w| w.contains("account") || w.contains("leave")), "{words:#?}");
        }
    }

    #[test]
    fn memory_is_lent_to_whom_nobody_may_trace_and_nobody_waits_for() {
        let kinds = flags::NEWPID | flags::NEWNS;
        let calm = || ExecRequest { id: "c", differ: kinds, keyring: true, preserve: 0, placed: false, busy: false };
        let lent = |spec: &Spec, program: &Process, request: &ExecRequest<'_>, host: &Host| {
            let plan = compile_exec(spec, program, request, host).unwrap();
            let says = |words: &str| plan.lines().iter().any(|line| line.step.contains(words));
            assert_eq!(plan.lent, says("in the same memory"));
            assert_eq!(plan.lent, says("go on unless the runtime is gone"));
            assert!(!(plan.lent && says("wait for leave")));
            plan.lent
        };
        assert!(lent(&harmless(), &program(), &calm(), &root()));
        let mut user = program();
        user.user.uid = 1000;
        assert!(lent(&harmless(), &user, &calm(), &root()));
        let dumps = Host { dumps_setuid: true, ..root() };
        assert!(!lent(&harmless(), &user, &calm(), &dumps));
        assert!(lent(&harmless(), &program(), &calm(), &dumps));
        for request in [
            ExecRequest { busy: true, ..calm() },
            ExecRequest { placed: true, ..calm() },
            ExecRequest { differ: kinds | flags::NEWTIME, ..calm() },
            ExecRequest { differ: kinds | flags::NEWUSER, ..calm() },
        ] {
            assert!(!lent(&harmless(), &program(), &request, &root()), "{request:?}");
        }
        // Who may trace, also on the host, or who has to fork, or has something to be waited for.
        assert!(!lent(&Spec::default(), &program(), &calm(), &root()));
        let on_the_host = || ExecRequest { differ: flags::NEWNS, ..calm() };
        assert!(lent(&harmless(), &program(), &on_the_host(), &root()));
        assert!(!lent(&Spec::default(), &program(), &on_the_host(), &root()));
        assert!(!lent(&harmless(), &program(), &calm(), &Host { nested: true, ..root() }));
        assert!(!lent(&harmless(), &program(), &calm(), &Host { uid: 1000, ..Host::default() }));
        assert!(!lent(&harmless(), &Process { terminal: true, ..program() }, &calm(), &root()));
    }

    #[test]
    fn affinity_before_and_after() {
        let asked = ExecCpuAffinity { initial: "0".into(), last: "1-2".into() };
        let process = Process { exec_cpu_affinity: Some(asked), ..program() };
        let request = ExecRequest { id: "c", differ: 0, keyring: false, preserve: 0, placed: false, busy: false };
        let plan = compile_exec(&Spec::default(), &process, &request, &root()).unwrap();
        assert_eq!(plan.affinity, Some(vec![1]));
        assert!(plan.steps.iter().any(|s| matches!(&s.action, Action::Affinity(cpus) if *cpus == [6])));
    }

    #[test]
    fn refusals() {
        let request = ExecRequest { id: "c", differ: 0, keyring: false, preserve: 0, placed: false, busy: false };
        for (process, field) in [
            (Process { apparmor_profile: "x".into(), ..program() }, "/process/apparmorProfile"),
            (Process { cwd: "tmp".into(), ..program() }, "/process/cwd"),
            (Process { args: Vec::new(), ..program() }, "/process/args"),
        ] {
            assert_eq!(compile_exec(&Spec::default(), &process, &request, &root()).unwrap_err().field(), field);
        }
    }
}
