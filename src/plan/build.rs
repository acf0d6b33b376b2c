//! The order of the steps, in one place: `config.json`, the request and the host -> [`Plan`].

use super::annotations;
use super::exec::ALL_CPUS;
use super::labels;
use super::mounts::{self, Context};
use super::namespaces::{self, Namespaces};
use super::notify;
use super::process::{self, Groups};
use super::{Action, ChildHook, Open, Pause, Plan, Slot, Step, What, c_string, rootfs};
use crate::cgroup::{Driver, Setup};
use crate::config::{OCI_VERSION, OciState, Process, Spec, check, values};
use crate::error::{Error, Result};
use crate::hooks::{Laid, Stage};
use crate::host::Host;
use crate::rdt;
use crate::sys::clone::flags;
use crate::sys::process::OPEN_FILES;
use crate::sys::spawn::StringList;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// What a command asks for, beside `config.json`.
#[derive(Debug)]
pub struct Request<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The bundle's directory, absolute.
    pub bundle: &'a Path,
    /// Wait for `start` before the program is run (`create`).
    pub wait: bool,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// Descriptors from 3 on that the program gets (`--preserve-fds`, LISTEN_FDS).
    pub preserve: u32,
    /// Who makes the container's cgroup.
    pub driver: Driver,
    /// Entries for the program's environment (LISTEN_FDS).
    pub environment: Vec<String>,
    /// The directory of the container's notify socket, with NOTIFY_SOCKET.
    pub notify: Option<PathBuf>,
}

/// Compiles a plan. Pure.
///
/// # Errors
/// Everything that can be refused from `config.json` and the facts of the host alone, each with its field.
pub fn compile(spec: &Spec, request: &Request<'_>, host: &Host) -> Result<Plan> {
    check::check(spec)?;
    annotations::check(spec)?;
    let mut warnings: Vec<String> = check::warnings(spec).iter().map(ToString::to_string).collect();
    let mut opens = Vec::new();
    let mut steps = Vec::new();
    let push = |steps: &mut Vec<Step>, field: &str, action| steps.push(Step { field: field.into(), action });

    let placed = matches!(request.driver, Driver::Systemd(_));
    if placed {
        // First: a fork of it, and what it charges, are in the cgroup too.
        push(&mut steps, "/linux/cgroupsPath", Action::Pause(Pause::Placed));
    }
    push(&mut steps, "", Action::Signals(host.ignored_signals.clone()));
    push(&mut steps, "", Action::Umask(0));
    let mut early = Vec::new();
    let namespaces = namespaces::plan(spec, host, placed, &mut opens, &mut early)?;
    // What a process of a joined namespace could trace is nobody's business. But the files that an ordinary user writes the
    // maps to are root's while the process is undumpable; until they are written it is alone in its namespaces.
    let mapped = early.iter().position(|step| matches!(step.action, Action::Pause(Pause::Mapped)));
    let at = mapped.filter(|_| !host.privileged).map_or(0, |n| n + 1);
    let default = Process::default();
    let program = spec.process.as_ref().unwrap_or(&default);
    let mut proc = open_proc(spec, program, host, &namespaces);
    let mut score = oom_score_step(program, host)?;
    let mut hide = Vec::new();
    // So is the file of the score.
    if !host.privileged && score.is_some() {
        hide.extend(proc.take());
        hide.extend(score.take());
    }
    hide.push(Step { field: String::new(), action: Action::Undumpable });
    early.splice(at..at, hide);
    steps.append(&mut early);
    push(&mut steps, "", Action::NewSession);
    if !request.no_new_keyring {
        if let Some(label) = labels::key(program, host)? {
            steps.extend(proc.take());
            steps.push(label);
        }
        push(&mut steps, "", Action::Keyring(c_string(&format!("_ses.{}", request.id), "")?));
    }
    let for_sysctls = proc.take_if(|step| step.field == SYSCTL);
    steps.extend(proc);
    let place_of_proc = steps.len();
    // Since Linux 6.2 who is bound to some CPUs stays so in a cgroup with others: a container is not to be where its caller
    // happened to be.
    push(&mut steps, "", Action::Affinity(ALL_CPUS.to_vec()));
    steps.extend(score);
    if namespaces.new & flags::NEWNET != 0 {
        push(&mut steps, "/linux/namespaces", Action::Loopback);
    }

    let context = Context { spec, bundle: request.bundle, host, namespaces: &namespaces, notifies: request.notify.is_some() };
    rootfs::hold(&context, &mut steps)?;
    let mut read_only = mounts::plan(&context, &mut opens, &mut steps)?;
    if let Some(directory) = &request.notify {
        notify::mount(directory, &mut opens, &mut steps)?;
    }
    rootfs::dev(&context, &mut opens, &mut steps)?;
    let output = hooks_output(spec, &mut opens)?;
    hooks_before_pivot(spec, request, output, &mut steps)?;
    if let Some(step) = for_sysctls {
        // Hooks may cover the container's with what they like.
        let hooked = steps.iter().any(|s| matches!(s.action, Action::Pause(Pause::Mounted) | Action::Hooks(_)));
        if hooked || !mounts::keep_procfs(&mut steps) {
            steps.insert(place_of_proc, step);
        }
    }
    rootfs::enter(&context, request.no_pivot, &mut steps)?;

    if program.terminal {
        let size = program.console_size.unwrap_or_default();
        let action = Action::Console { rows: size.height, columns: size.width, uid: program.user.uid, node: true };
        push(&mut steps, "/process/terminal", action);
    }
    kernel_late(spec, program, host, &mut steps)?;
    if !program.cwd.is_empty() && program.cwd != "/" {
        push(&mut steps, "/process/cwd", Action::MakeWorkingDirectory(c_string(&program.cwd, "/process/cwd")?));
    }
    steps.append(&mut read_only);
    rootfs::close(&context, &mut opens, &mut steps)?;
    // Somebody who is not root can give nothing away, and what they have made is theirs already.
    let owner = mounts::cgroup_owner(&context).filter(|_| host.privileged);
    let rights = host.cgroups();
    let cgroup = match request.driver {
        Driver::Cgroupfs => Setup::plan(&spec.linux, request.id, owner, &rights)?,
        Driver::Systemd(instance) => {
            Some(Setup::plan_unit((&spec.linux, &spec.annotations), request.id, owner, &rights, instance)?)
        }
        Driver::Disabled => None,
    };
    let rdt =
        spec.linux.intel_rdt.as_ref().map(|asked| rdt::Setup::plan(asked, request.id, host.resctrl.as_deref())).transpose()?;
    let few_files = few_files(host, opens.len());
    let mut environment = request.environment.clone();
    environment.extend(request.notify.as_ref().map(|_| notify::VARIABLE.to_owned()));
    let (preserve, environment) = (request.preserve, &environment[..]);
    let given = Given { host, namespaces: &namespaces, preserve, kept: &[], environment, few_files };
    let (envp, argv) = last(spec, request, given, output, program, &mut steps, &mut warnings)?;

    if request.driver == Driver::Disabled && spec.linux.resources.is_some() {
        warnings.push("/linux/resources: not applied: the cgroup manager is disabled".into());
    }
    let (from_outside, steps) = part_from_outside(steps, &namespaces, host);
    Ok(Plan {
        from_outside,
        cgroup,
        rdt,
        net_devices: spec.linux.net_devices.clone(),
        raise_open_files: few_files.is_some(),
        lent: false,
        affinity: None,
        namespaces,
        opens,
        steps,
        warnings,
        argv: StringList::new(argv),
        envp: StringList::new(envp),
    })
}

/// Whether the parent must set what takes CAP_SYS_RESOURCE over the host: a child in a user namespace has it no more.
pub(super) fn is_set_from_outside(namespaces: &Namespaces, host: &Host) -> bool {
    namespaces.has(flags::NEWUSER) && host.privileged
}

/// Takes those steps out.
pub(super) fn part_from_outside(steps: Vec<Step>, namespaces: &Namespaces, host: &Host) -> (Vec<Step>, Vec<Step>) {
    if !is_set_from_outside(namespaces, host) {
        return (Vec::new(), steps);
    }
    steps.into_iter().partition(|step| matches!(step.action, Action::Rlimit { .. } | Action::OomScoreAdj(_)))
}

const SYSCTL: &str = "/linux/sysctl";

/// The procfs that is written through, before anything of the container is mounted.
fn open_proc(spec: &Spec, program: &Process, host: &Host, namespaces: &Namespaces) -> Option<Step> {
    let adjusts = oom_score(program, host).is_some() && !is_set_from_outside(namespaces, host);
    let field = match labels::field(program, host) {
        Some(field) => field,
        None if adjusts => "/process/oomScoreAdj",
        None if !spec.linux.sysctl.is_empty() => SYSCTL,
        None => return None,
    };
    Some(Step { field: field.into(), action: Action::OpenProc })
}

/// The score that is not there already.
fn oom_score(program: &Process, host: &Host) -> Option<i32> {
    program.oom_score_adj.filter(|&n| Some(n) != host.oom_score_adj)
}

/// Sets that score.
fn oom_score_step(program: &Process, host: &Host) -> Result<Option<Step>> {
    let Some(n) = oom_score(program, host) else { return Ok(None) };
    let action = Action::OomScoreAdj(c_string(&n.to_string(), "")?);
    Ok(Some(Step { field: "/process/oomScoreAdj".into(), action }))
}

/// Names and settings of the container's own namespaces, and what confines its programs.
fn kernel_late(spec: &Spec, program: &Process, host: &Host, steps: &mut Vec<Step>) -> Result<()> {
    let mut add = |field: String, action| steps.push(Step { field, action });
    if !spec.hostname.is_empty() {
        add("/hostname".into(), Action::Hostname(c_string(&spec.hostname, "/hostname")?));
    }
    if !spec.domainname.is_empty() {
        add("/domainname".into(), Action::Domainname(c_string(&spec.domainname, "/domainname")?));
    }
    // Before no_new_privs, under which AppArmor allows fewer changes of a profile.
    if let Some(Step { field, action }) = labels::apparmor(program, host)? {
        add(field, action);
    }
    for (key, value) in &spec.linux.sysctl {
        let field = format!("/linux/sysctl/{}", key.replace('~', "~0").replace('/', "~1"));
        let path = format!("sys/{}", check::sysctl_path(key).map_err(|e| e.at(field.clone()))?);
        let (path, value) = (c_string(&path, &field)?, c_string(value, &field)?);
        add(field, Action::WriteProc { path, value });
    }
    Ok(())
}

/// The parent's hooks, and the container's before its root changes.
fn hooks_before_pivot(spec: &Spec, request: &Request<'_>, output: Output, steps: &mut Vec<Step>) -> Result<()> {
    let none = crate::config::Hooks::default();
    let hooks = spec.hooks.as_ref().unwrap_or(&none);
    let parent = [Stage::Prestart, Stage::CreateRuntime].into_iter().find(|s| !s.of(hooks).is_empty());
    if let Some(stage) = parent {
        steps.push(Step { field: format!("/hooks/{}", stage.name()), action: Action::Pause(Pause::Mounted) });
    } else if !spec.linux.net_devices.is_empty() {
        steps.push(Step { field: "/linux/netDevices".into(), action: Action::Pause(Pause::Mounted) });
    }
    child_hooks(spec, request, (Stage::CreateContainer, "creating"), output, &[], steps)
}

/// Slots of the files that take the hooks' stdout and stderr.
type Output = [Option<Slot>; 2];

/// The files of `run.oci.hooks.stdout` and `run.oci.hooks.stderr`, for hooks that the child runs; the parent opens them for its own.
fn hooks_output(spec: &Spec, opens: &mut Vec<Open>) -> Result<Output> {
    let hooks = spec.hooks.as_ref();
    let by_child = [Stage::CreateContainer, Stage::StartContainer].iter().any(|s| hooks.is_some_and(|h| !s.of(h).is_empty()));
    let mut slots = [None; 2];
    for (slot, name) in slots.iter_mut().zip(["run.oci.hooks.stdout", "run.oci.hooks.stderr"]) {
        if let Some(path) = spec.annotations.get(name).filter(|_| by_child) {
            let field = format!("/annotations/{name}");
            *slot = Some(Slot(opens.len()));
            opens.push(Open { path: c_string(path, &field)?, field, what: What::Append });
        }
    }
    Ok(slots)
}

/// Hooks that run inside the container's namespaces.
///
/// `environment` is that of those which name none: as runc has it, a startContainer hook then gets the program's.
fn child_hooks(
    spec: &Spec,
    request: &Request<'_>,
    (stage, status): (Stage, &str),
    output: Output,
    environment: &[CString],
    steps: &mut Vec<Step>,
) -> Result<()> {
    let none = crate::config::Hooks::default();
    let list = stage.of(spec.hooks.as_ref().unwrap_or(&none));
    if list.is_empty() {
        return Ok(());
    }
    let bundle = request.bundle.to_string_lossy();
    let state =
        OciState { oci_version: OCI_VERSION, id: request.id, status, pid: 0, bundle: &bundle, annotations: &spec.annotations };
    let reachable = stage == Stage::CreateContainer;
    let mut laid = Vec::new();
    for (n, hook) in list.iter().enumerate() {
        laid.push(ChildHook {
            laid: Laid::new(stage, n, hook)?.or_environment(hook, environment),
            state: state.around_pid(),
            output,
            cwd: if reachable { Some(c_string(&bundle, "")?) } else { None },
        });
    }
    steps.push(Step { field: format!("/hooks/{}", stage.name()), action: Action::Hooks(laid) });
    Ok(())
}

/// From the last file to exec. Seccomp comes as late as it can: after the wait for `start` when no_new_privs lets it, so
/// that a profile need not allow our own calls; while CAP_SYS_ADMIN is still held when not. A profile with a listener is
/// loaded while the parent is there to hand that over.
fn last(
    spec: &Spec,
    request: &Request<'_>,
    given: Given<'_>,
    output: Output,
    program: &Process,
    steps: &mut Vec<Step>,
    warnings: &mut Vec<String>,
) -> Result<(Vec<CString>, Vec<CString>)> {
    let later = spec.hooks.as_ref().is_some_and(|h| !Stage::StartContainer.of(h).is_empty());
    let kept: Vec<Slot> = output.into_iter().flatten().filter(|_| later).collect();
    let (env, late) = become_program(spec, Given { kept: &kept, ..given }, program, steps, warnings)?;
    let push = |steps: &mut Vec<Step>, field: &str, action| steps.push(Step { field: field.into(), action });
    push(steps, "", Action::Pause(Pause::Created));
    if request.wait {
        push(steps, "", Action::Start);
    }
    if program.args.is_empty() && !request.wait {
        return Err(Error::exact("args must not be empty").at("/process/args"));
    }
    // The hooks run under the filter too, as in runc: they are programs of the container's.
    if let Some(action) = late {
        push(steps, "/linux/seccomp", action);
    }
    child_hooks(spec, request, (Stage::StartContainer, "created"), output, &env, steps)?;
    push(steps, "/process/args", Action::Exec);
    Ok((env, arguments(program)?))
}

/// `process.args` for the kernel.
pub(super) fn arguments(program: &Process) -> Result<Vec<CString>> {
    program.args.iter().enumerate().map(|(n, a)| c_string(a, &format!("/process/args/{n}"))).collect()
}

/// What [`become_program`] needs beside the configuration.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    /// The machine.
    pub host: &'a Host,
    /// The process's namespaces.
    pub namespaces: &'a Namespaces,
    /// Descriptors from 3 on that the program gets.
    pub preserve: u32,
    /// What hooks are yet to write to.
    pub kept: &'a [Slot],
    /// Further entries for the environment.
    pub environment: &'a [String],
    /// The caller's limit of open files, where the runtime raises its own: the program gets it back.
    pub few_files: Option<(u64, u64)>,
}

/// Descriptors that the runtime may hold beside a plan's [`Plan::opens`].
const OWN_FILES: u64 = 64;

/// The caller's limit of open files, if it is too low for the plan and can be raised.
pub(super) fn few_files(host: &Host, opens: usize) -> Option<(u64, u64)> {
    let enough = u64::try_from(opens).unwrap_or(u64::MAX).saturating_add(OWN_FILES);
    host.open_files.filter(|&(soft, hard)| soft < enough && soft < hard)
}

/// What init and every further process of a container become before they execute their program. Gives the environment,
/// and the step that is to load the filter right before exec.
pub(super) fn become_program(
    spec: &Spec,
    given: Given<'_>,
    program: &Process,
    steps: &mut Vec<Step>,
    warnings: &mut Vec<String>,
) -> Result<(Vec<CString>, Option<Action>)> {
    let push = |steps: &mut Vec<Step>, field: &str, action| steps.push(Step { field: field.into(), action });
    let Given { host, namespaces, .. } = given;
    // Before the limits, one of which may be of open files.
    let (env, home) = process::environment(program, given.environment)?;
    if let Some(entry) = home {
        push(steps, "/process/env", Action::Home { entry, uid: program.user.uid });
    }
    let own_limit = program.rlimits.iter().any(|limit| limit.kind == "RLIMIT_NOFILE");
    if let Some((soft, hard)) = given.few_files.filter(|_| !own_limit) {
        push(steps, "", Action::Rlimit { resource: OPEN_FILES, soft, hard });
    }
    process::settings(program, steps)?;
    if let Some(asked) = &spec.linux.personality {
        let persona = values::personality(asked).map_err(|e| e.under("/linux/personality"))?;
        push(steps, "/linux/personality", Action::Personality(persona.into()));
    }
    if let Some(asked) = &spec.linux.memory_policy {
        let policy = values::memory_policy(asked).map_err(|e| e.under("/linux/memoryPolicy"))?;
        let mode = u32::try_from(policy.mode).map_err(|_| Error::new("memoryPolicy", "out of range"))?;
        push(steps, "/linux/memoryPolicy", Action::MemoryPolicy { mode, nodes: policy.nodes });
    }
    push(steps, "/process/user/umask", Action::Umask(program.user.umask.unwrap_or(0o022)));
    if program.no_new_privileges {
        push(steps, "/process/noNewPrivileges", Action::NoNewPrivileges);
    }
    if program.user.uid != 0 || namespaces.has(flags::NEWUSER) {
        let action = Action::StdioOwner { uid: program.user.uid, gid: program.user.gid };
        push(steps, "/process/user", action);
    }
    steps.extend(labels::program(program, given.host)?);
    // Before any filter: what that allows is not ours to know. To be closed at exec is not enough: the kernel looks the program
    // up before, and from a directory that is open until then /proc/self/fd/N/.. leads to the host (CVE-2024-21626).
    steps.push(Step { field: String::new(), action: Action::Release(3 + given.preserve, given.kept.to_vec()) });
    let mut late = super::seccomp::step(spec);
    if late.is_some() {
        push(steps, "/linux/seccomp", Action::Pause(Pause::Filtered));
    }
    let early = late.take_if(|action| !program.no_new_privileges || matches!(action, Action::Seccomp { listens: true, .. }));
    if let Some(action) = early {
        push(steps, "/linux/seccomp", action);
    }
    let sets = process::capabilities(program, warnings);
    // Whoever makes or enters a user namespace has them all there.
    let held = if namespaces.has(flags::NEWUSER) || !host.privileged { u64::MAX } else { host.permitted };
    process::identity(program, sets, held, groups(spec, host), steps)?;
    if let Some(action) = process::program(program)? {
        push(steps, "/process/args/0", action);
    }
    Ok((env, late))
}

/// An unprivileged creator of a user namespace must deny setgroups(2) there, unless newgidmap writes its map: more than the
/// one id that the kernel lets it map by itself.
fn groups(spec: &Spec, host: &Host) -> Groups {
    let gids = &spec.linux.gid_mappings;
    if annotations::keeps_groups(spec) {
        Groups::Keep
    } else if host.setgroups_denied {
        // Whoever made the caller's own user namespace denied them there. Engines of users with one id ask all the same,
        // and know; runc and crun leave them out.
        if host.privileged { Groups::Keep } else { Groups::Denied }
    } else if host.privileged || gids.len() > 1 || gids.first().is_some_and(|m| m.size() > 1) {
        Groups::Set
    } else {
        Groups::Denied
    }
}
