//! `exec`: a further process in a container that is created or running.

use super::create::{check_preserved, equip, hand_over_listener};
use super::pid_file;
use super::status::{self, Status};
use super::unit;
use crate::cgroup::systemd::Instance;
use crate::cgroup::{Cgroup, Hierarchy};
use crate::cli::{ExecArgs, Global};
use crate::config::{Bundle, MAX_BYTES, Process, Spec};
use crate::console;
use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::plan::exec::{add_capabilities, complete};
use crate::plan::{self, ExecRequest, Pause};
use crate::sandbox::supervise::{self, Duties, Signals, Terminal};
use crate::sandbox::{self, Launched};
use crate::store::{Record, Store, unknown};
use crate::sys::clone::flags;
use crate::sys::fs;
use crate::sys::namespaces::{self, Namespaces};
use std::io::Read;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// `exec`. The words before its errors are runc's.
pub fn exec(global: &Global, args: &ExecArgs) -> Result<u8> {
    work(global, args).map_err(|e| e.context("exec failed"))
}

fn work(global: &Global, args: &ExecArgs) -> Result<u8> {
    let begun = begin(global, args)?;
    if args.detach { Ok(0) } else { begun.wait() }
}

/// The process, and what is needed to stay with it: nothing else is kept so long.
struct Begun {
    launched: Launched,
    signals: Option<Signals>,
    master: Option<OwnedFd>,
}

impl Begun {
    /// Stays with the process, and returns its exit status.
    fn wait(mut self) -> Result<u8> {
        // Blocked from here to the end: a signal that comes too late for the process does not take the place of its status.
        let signals = ManuallyDrop::new(self.signals.take().map_or_else(supervise::block_signals, Ok)?);
        let windows = fs::streams();
        let [input, output, _] = windows;
        let terminal = self.master.take().map(|master| Terminal { master, input, output, windows: &windows });
        // Somebody may have killed it before the program ran: seen when it has ended, so that nobody waits for the look.
        let unexecuted = || self.launched.has_executed().map_err(unable);
        let duties = Duties { look: Some(&unexecuted), ..Duties::default() };
        supervise::supervise(self.launched.pid, self.launched.pidfd.as_fd(), &signals, terminal, duties)
    }
}

/// Words for what goes wrong with the process itself: runc's.
fn unable(error: Error) -> Error {
    error.context("unable to start container process")
}

/// Brings the process in.
fn begin(global: &Global, args: &ExecArgs) -> Result<Begun> {
    let sealed = super::sealed(global)?;
    // Not locked: a probe must not wait for another command's work, nor the other for a probe. A delete that comes in between
    // kills in rounds until nobody is left; what is cloned after that finds no cgroup.
    let entry = Store::look_at(global.root.as_deref(), &args.id)?;
    let record = entry.state()?.ok_or_else(unknown)?;
    let (status, init) = status::of(&entry, &record)?;
    let init = match (status, init) {
        (Status::Stopped, _) | (_, None) => return Err(Error::exact("cannot exec in a stopped container")),
        (Status::Paused, _) if !args.ignore_paused => {
            return Err(Error::exact("cannot exec in a paused container (use --ignore-paused to override)"));
        }
        (_, Some(init)) => init,
    };
    let raw = entry.config()?;
    let bundle = Bundle { dir: record.bundle.clone(), spec: Spec::parse_for_exec(&raw)?, raw };
    let process = process(args, &bundle)?;
    let console = console::plan_console(process.terminal, args.detach, args.console_socket.as_deref())?;
    check_preserved(args.preserve_fds)?;
    // Whatever else the caller left open is not for the container (CVE-2024-21626).
    fs::cloexec_from(3 + args.preserve_fds).step("close_range", || "close inherited descriptors at exec".into())?;

    // A user's cgroups can be entered by file from within the user's part of the tree alone.
    let by_systemd = unit::stored(&record)?.filter(|unit| unit.instance == Instance::User);
    let own = Namespaces::own().step("openat", || "open /proc/self/ns".into()).map_err(|e| e.hint("is /proc mounted?"))?;
    let request = ExecRequest {
        id: &args.id,
        differ: differ(&own, record.pid, &bundle.spec)?,
        keyring: record.keyring,
        preserve: args.preserve_fds,
        placed: by_systemd.is_some(),
        busy: !record.rdt.is_empty() || status == Status::Paused,
    };
    let host = Host::probe_for_exec(&bundle.spec, &process, &own)?;
    let plan = plan::compile_exec(&bundle.spec, &process, &request, &host).map_err(unable)?;
    for warning in &plan.warnings {
        crate::log::warn(warning);
    }
    super::create::log_plan(&host, &plan);
    let cgroup = cgroup(&record, args.cgroup.as_deref())?;
    let (master, mut equipment) = equip(&plan, &console)?;
    let fallback = || init_cgroup(record.pid);
    equipment.cgroup = cgroup.as_ref();
    equipment.fallback = if args.cgroup.is_none() { Some(&fallback) } else { None };
    let place = |pid: i32| by_systemd.as_ref().map_or(Ok(()), |unit| unit::attach(&record, unit, args.cgroup.as_deref(), pid));
    if by_systemd.is_some() {
        equipment.place = Some(&place);
    }
    equipment.may_stay_outside = args.cgroup.is_none() && (host.nested || !host.privileged);
    equipment.init = Some(init);
    equipment.own = Some(own);

    // Before the clone, so that no signal is lost. In a frozen container nothing happens until somebody thaws it: then
    // whoever waits here must be able to give up.
    let signals = if args.detach || status == Status::Paused { None } else { Some(supervise::block_signals()?) };
    equipment.filter = plan::seccomp::filter(&bundle.spec, &bundle.raw, || entry.filter()).map_err(unable)?;
    let launched = sandbox::launch(plan, equipment, sealed).map_err(unable)?;
    crate::log::debug(|| format!("cloned process {}", launched.pid));
    match settle(&launched, &bundle, args, &record, status, master) {
        Ok(master) => Ok(Begun { launched, signals, master }),
        Err(e) => {
            launched.kill();
            Err(unable(e))
        }
    }
}

/// From the clone to the program's execution and what callers are told of it: the pid file last, since engines take it
/// for success.
fn settle(
    launched: &Launched,
    bundle: &Bundle,
    args: &ExecArgs,
    record: &Record,
    status: Status,
    master: Option<OwnedFd>,
) -> Result<Option<OwnedFd>> {
    crate::rdt::add_further(&record.rdt, launched.pid)?;
    hand_over_listener(bundle, launched, &args.id, record.pid, &status.to_string())?;
    let pidfd = launched.pidfd.as_fd();
    let mut terminal = None;
    if launched.pauses_at(Pause::Created) {
        launched.reach(Pause::Created)?;
        // Sent before that pause: the terminal is as it should be when the program first looks.
        terminal = master.map(|s| console::receive_master(s.as_fd(), pidfd, 10_000)).transpose()?;
        if let Some(master) = &terminal {
            console::set_up(master.as_fd())?;
        }
        launched.go_on()?;
    } else if launched.pauses_at(Pause::Cleared) {
        launched.clear()?;
    }
    launched.executed()?;
    if args.detach || args.pidfd_socket.is_some() || args.pid_file.is_some() {
        launched.has_executed()?;
    }
    if let Some(path) = &args.pidfd_socket {
        console::send_pidfd(path, pidfd, b"pidfd")?;
    }
    if let Some(path) = &args.pid_file {
        pid_file::write(path, launched.pid)?;
    }
    Ok(terminal)
}

/// The process: from the file, or the container's own with what the flags change.
fn process(args: &ExecArgs, bundle: &Bundle) -> Result<Process> {
    if let Some(path) = &args.process {
        let process = Process::parse(&read(path)?).map_err(|e| e.under("/process"))?;
        return Ok(complete(process, &bundle.spec));
    }
    let mut process = bundle.spec.process.clone().unwrap_or_default();
    process.args.clone_from(&args.args);
    process.terminal = args.tty;
    process.console_size = None;
    if let Some(cwd) = &args.cwd {
        process.cwd.clone_from(cwd);
    }
    process.env.extend_from_slice(&args.env);
    if let Some((uid, gid)) = args.user {
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.extend_from_slice(&args.additional_gids);
    process.no_new_privileges |= args.no_new_privs;
    for (flag, label) in [(&args.apparmor, &mut process.apparmor_profile), (&args.process_label, &mut process.selinux_label)] {
        if let Some(flag) = flag {
            label.clone_from(flag);
        }
    }
    add_capabilities(&mut process, &args.caps);
    Ok(process)
}

/// A file of the caller, or stdin.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let step = || format!("read {}", path.display());
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes).step("read", || "read stdin".into())?;
    } else {
        let file = std::fs::File::open(path).step("openat", || format!("open {}", path.display()))?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).step("read", step)?;
    }
    Ok(bytes)
}

/// Kinds of the namespaces in which the process is in others than we are. Only those are entered: a shared user
/// namespace cannot be, and a namespace that the container got from its creator counts as the container's. What was made for
/// it is its own, and is not looked at; to enter such a one twice would be no fault either, but for the user namespace.
fn differ(own: &Namespaces, pid: i32, spec: &Spec) -> Result<u64> {
    let theirs = Namespaces::of(pid).step("openat", || format!("open /proc/{pid}/ns"))?;
    let made = spec.linux.namespaces.iter().filter(|n| n.path.is_empty()).filter_map(|n| plan::namespaces::kind(&n.kind));
    let mut differ = made.fold(0, |all, kind| all | kind) & !flags::NEWUSER;
    for kind in namespaces::kinds() {
        let step = || format!("look at the {} namespace of process {pid}", plan::namespaces::name(kind));
        if differ & kind == 0 && own.number(kind).step("readlinkat", step)? != theirs.number(kind).step("readlinkat", step)? {
            differ |= kind;
        }
    }
    Ok(differ)
}

/// The container's cgroup, or one below it.
fn cgroup(record: &Record, below: Option<&str>) -> Result<Option<Cgroup>> {
    let Some(path) = &record.cgroup else {
        return match below {
            None => Ok(None),
            Some(_) => Err(super::no_cgroup("--cgroup")),
        };
    };
    let cgroup = Cgroup::open(path)?.ok_or_else(|| Error::exact("cannot exec in a stopped container"))?;
    match below {
        None => Ok(Some(cgroup)),
        Some(below) => cgroup.open_below(below).map(Some),
    }
}

/// Where init is now: it may have moved itself below, and handed controllers down.
fn init_cgroup(pid: i32) -> Result<Cgroup> {
    let none = || Error::new("look for init's cgroup", "no cgroup2 is mounted");
    let hierarchy = Hierarchy::probe()?.ok_or_else(none)?;
    let path = hierarchy.mount.join(Hierarchy::place_of(pid)?.trim_start_matches('/'));
    Cgroup::open(&path)?.ok_or_else(|| Error::new(format!("open the cgroup {}", path.display()), "it is gone"))
}
