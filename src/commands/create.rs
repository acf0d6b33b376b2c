//! `create`, and the making of a container that `run` shares with it: everything up to an init that waits.

use super::pid_file;
use super::unit::{self, Making};
use crate::cgroup::{Cgroup, Setup};
use crate::cli::{CreateArgs, Global};
use crate::config::{Bundle, OCI_VERSION, OciState};
use crate::console::{self, Console};
use crate::error::{Context, Error, Result};
use crate::hooks::{self, Stage};
use crate::host::Host;
use crate::log;
use crate::notify::{self, Proxy};
use crate::plan::{self, Action, Pause, Plan, Request};
use crate::sandbox::{self, Equipment, Launched, words};
use crate::seccomp::notify::{Listened, container_process_state};
use crate::store::{Entry, Record, Store, notify_directory};
use crate::sys::netns::Beside;
use crate::sys::{clone, fs, process};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long a cgroup may take to empty after its processes were killed.
pub const EMPTY: Duration = Duration::from_secs(10);

/// crun's annotation for what runc has `--pidfd-socket` for.
const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";

/// `create`.
pub fn create(global: &Global, args: CreateArgs) -> Result<u8> {
    let made = make(global, &args, How { wait: true, detached: true }, "create")?;
    made.commit()?;
    // The process ends, and the kernel closes what is open in one go.
    std::mem::forget(made);
    Ok(0)
}

/// How the container is to come to life.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Init waits for `start`.
    pub wait: bool,
    /// The runtime leaves before the container ends.
    pub detached: bool,
}

/// A container whose init is ready and waits for the commit.
pub struct Made {
    /// Its configuration.
    pub bundle: Bundle,
    /// Its directory, locked.
    pub entry: Entry,
    /// Its init.
    pub launched: Launched,
    /// The master of its terminal, in the foreground.
    pub master: Option<OwnedFd>,
    /// What takes its readiness, with NOTIFY_SOCKET; not for `start`.
    pub notify: Option<Proxy>,
    cgroup: Option<Cgroup>,
    unit: Option<Making>,
    pid_file: Option<PathBuf>,
}

impl Made {
    /// Makes the container known and lets init go on: to wait for `start`, or in `run` to the program. What follows a
    /// failure here is undone like everything before.
    pub fn commit(&self) -> Result<()> {
        let done = (|| {
            self.entry.commit_state()?;
            if let Some(path) = &self.pid_file {
                pid_file::write(path, self.launched.pid)?;
            }
            self.launched.go_on()?;
            log::info(|| format!("container {} is made, its init is process {}", self.entry.id(), self.launched.pid));
            Ok(())
        })();
        if done.is_err() {
            self.undo();
        }
        done
    }

    /// Removes all traces of a container that failed after it was made.
    pub fn undo(&self) {
        if let Some(path) = &self.pid_file {
            pid_file::remove(path, self.launched.pid);
        }
        undo(Some(&self.launched), self.cgroup.as_ref(), self.unit.as_ref(), Some(&self.entry));
    }
}

/// Makes a container. On failure nothing of it is left.
pub fn make(global: &Global, args: &CreateArgs, how: How, command: &str) -> Result<Made> {
    let mut half = Half::default();
    match half.make(global, args, how) {
        Ok(made) => Ok(made),
        Err(e) => {
            let e = half.explain(e, command);
            undo(half.launched.as_ref(), half.cgroup.as_ref(), half.unit.as_ref(), half.entry.as_ref());
            half.poststop();
            Err(e)
        }
    }
}

/// What has been made so far.
#[derive(Default)]
struct Half {
    entry: Option<Entry>,
    cgroup: Option<Cgroup>,
    unit: Option<Making>,
    launched: Option<Launched>,
    /// A hook has failed: the spec then wants the poststop hooks (runtime.md, Lifecycle).
    hooks_failed: Option<(Bundle, String)>,
}

impl Half {
    fn make(&mut self, global: &Global, args: &CreateArgs, how: How) -> Result<Made> {
        let listen = listen_fds();
        let preserve = args.preserve_fds.saturating_add(listen);
        check_preserved(preserve)?;
        // Whatever else the caller left open is not for the container (CVE-2024-21626).
        fs::cloexec_from(3 + preserve).step("close_range", || "close inherited descriptors at exec".into())?;
        let bundle = Bundle::load(args.bundle.as_deref().unwrap_or(Path::new(".")), args.config.as_deref())?;
        let network = if plan::namespaces::network_can_be_apart(&bundle.spec) { Beside::begin() } else { None };
        let sealed = super::sealed(global)?;
        let terminal = bundle.spec.process.as_ref().is_some_and(|p| p.terminal);
        let console = console::plan_console(terminal, how.detached, args.console_socket.as_deref())?;
        let mut host = Host::probe(&bundle.spec)?;
        if args.no_pivot {
            host.find_bare_mounts()?;
        }
        let address = notify::address().filter(|_| plan::notify::is_free(&bundle.spec));
        let request = Request {
            id: &args.id,
            bundle: &bundle.dir,
            wait: how.wait,
            no_pivot: args.no_pivot,
            no_new_keyring: args.no_new_keyring,
            preserve,
            driver: unit::driver(global.cgroup_manager),
            notify: address.as_ref().map(|_| notify_directory(global.root.as_deref(), &args.id)).transpose()?,
            environment: if listen > 0 { vec![format!("LISTEN_FDS={listen}"), "LISTEN_PID=1".into()] } else { Vec::new() },
        };
        let plan = plan::compile(&bundle.spec, &request, &host)?;
        for warning in &plan.warnings {
            log::warn(warning);
        }
        log_plan(&host, &plan);
        let (master_socket, mut equipment) = equip(&plan, &console)?;
        equipment.network = network;

        self.entry = Some(Store::open_or_make(global.root.as_deref())?.create(&args.id)?);
        let entry = self.entry.as_ref().ok_or_else(crate::store::unknown)?;
        if let Some(unit) = plan.cgroup.as_ref().and_then(|setup| setup.unit.as_ref()) {
            self.unit = Some(Making::begin(entry, unit)?);
        } else if let Some(setup) = &plan.cgroup {
            make_cgroup(entry, setup, &mut self.cgroup)?;
            log::debug(|| format!("made the cgroup {}", setup.directory().display()));
        }
        let notify = match &address {
            Some(address) => {
                let directory = entry.make_notify()?;
                // `start` has its own.
                if how.wait { None } else { Some(Proxy::open(directory.as_fd(), address)?) }
            }
            None => None,
        };
        if how.wait {
            equipment.fifo = Some(entry.make_fifo()?);
        }
        equipment.cgroup = self.cgroup.as_ref();
        let making = self.unit.as_ref().zip(plan.cgroup.clone());
        let place = |pid: i32| making.as_ref().map_or(Ok(()), |(unit, setup)| unit.place(entry, setup, pid));
        equipment.place = Some(&place).filter(|_| self.unit.is_some()).map(|place| place as _);
        let rdt = super::rdt::make(&plan, entry)?;
        let filter = || plan::seccomp::filter(&bundle.spec, &bundle.raw, || None);
        // What takes its time is done beside the child, or before there can be one. But hooks of the container run before the
        // child says a word.
        let waits = || equipment.network.as_ref().is_some_and(|network| !network.is_done());
        let early = if waits() { Some(filter()?) } else { None };
        let restricted = bundle.spec.hooks.is_some() || waits();
        if restricted {
            restrict_devices(&plan, self.cgroup.as_ref())?;
        }
        self.launched = Some(sandbox::launch(plan, equipment, sealed)?);
        let launched = self.launched.as_mut().ok_or_else(crate::store::unknown)?;
        if !restricted {
            restrict_devices(launched.plan(), self.cgroup.as_ref())?;
        }
        let filter = early.map_or_else(filter, Ok)?;
        entry.write_config(&bundle.raw)?;
        let mut record = record(&bundle, &args.id, &host, launched.plan())?;
        record.rdt = rdt;
        if !terminal {
            record.streams = crate::criu::streams::ours()?;
        }
        if let Some(unit) = &self.unit {
            record.unit = Some(unit.registered.to_string());
            record.cgroup = unit.cgroup.get().map(|cgroup| cgroup.path().to_owned());
        }
        // It waits, at the latest for being told that its state is on disk: no process of the container's comes before it.
        crate::rdt::add(&record.rdt, launched.pid)?;
        log::debug(|| format!("cloned process {}", launched.pid));
        // It is ours to reap, so it has a start time even if it has ended.
        record.set_process(launched.pid, launched.pidfd.as_fd(), entry.dir())?;
        entry.prepare_state(&record)?;
        if let Some(bytes) = filter.as_ref().and_then(crate::seccomp::stored::bytes) {
            entry.write_filter(&bytes)?;
        }
        if launched.pauses_at(Pause::Mounted) {
            launched.reach(Pause::Mounted)?;
            if let Err(e) = runtime_hooks(&bundle, launched, &args.id) {
                self.hooks_failed = Some((bundle, args.id.clone()));
                return Err(e);
            }
            launched.go_on()?;
            log::debug(|| "ran the hooks before the pivot".into());
        }
        if let Some(filter) = filter {
            launched.send_filter(filter)?;
        }
        hand_over_listener(&bundle, launched, &args.id, launched.pid, "creating")?;
        if let Err(e) = launched.reach(Pause::Created) {
            if e.field().starts_with("/hooks/") {
                self.hooks_failed = Some((bundle, args.id.clone()));
            }
            return Err(e);
        }
        log::debug(|| "init is ready, and has what it was to have".into());
        let init = launched.pidfd.as_fd();
        let master = master_socket.map(|s| console::receive_master(s.as_fd(), init, 10_000)).transpose()?;
        if let Some(master) = &master {
            console::set_up(master.as_fd())?;
        }
        let receiver = bundle.spec.annotations.get(PIDFD_RECEIVER).map(PathBuf::from);
        for path in args.pidfd_socket.iter().chain(&receiver) {
            console::send_pidfd(path, init, b"pidfd")?;
        }
        match (self.entry.take(), self.launched.take()) {
            (Some(entry), Some(launched)) => {
                let (cgroup, unit) = (self.cgroup.take(), self.unit.take());
                Ok(Made { bundle, entry, launched, master, notify, cgroup, unit, pid_file: args.pid_file.clone() })
            }
            _ => Err(crate::store::unknown()),
        }
    }

    /// Adds what only the cgroup knows, and the words that engines expect around an error of the program.
    fn explain(&self, error: Error, command: &str) -> Error {
        let cgroup = self.cgroup.as_ref().or_else(|| self.unit.as_ref()?.cgroup.get());
        let killed = cgroup.and_then(|c| c.oom_kills().ok().flatten()).is_some_and(|n| n > 0);
        if killed {
            return Error::exact("container init was OOM-killed (memory limit too low?)").at("/linux/resources/memory/limit");
        }
        if error.field() == "/process/args/0" && self.launched.is_some() {
            return error.context(&words::program_prefix(command));
        }
        error
    }

    fn poststop(&self) {
        if let Some((bundle, id)) = &self.hooks_failed {
            poststop(bundle, id);
        }
    }
}

/// Names the cgroup, makes it, and sets its limits but for devices. `made` has it as soon as it is there.
pub(super) fn make_cgroup(entry: &Entry, setup: &Setup, made: &mut Option<Cgroup>) -> Result<()> {
    entry.name_cgroup(&setup.directory())?;
    let cgroup = made.insert(Cgroup::create(&setup.hierarchy, &setup.path, &setup.writes)?);
    cgroup.apply(&setup.writes)?;
    if let Some(owner) = setup.owner {
        cgroup.delegate(owner)?;
    }
    Ok(())
}

/// Puts the device program in force in a cgroup that [`make_cgroup`] has made.
pub(super) fn restrict_devices(plan: &Plan, cgroup: Option<&Cgroup>) -> Result<()> {
    let program = plan.cgroup.as_ref().and_then(|setup| setup.devices.as_deref());
    match (program, cgroup) {
        (Some(program), Some(cgroup)) => cgroup.attach_devices(Some(program)),
        _ => Ok(()),
    }
}

/// Runs the poststop hooks; their failures are warnings (runtime.md, Lifecycle, step 13).
pub fn poststop(bundle: &Bundle, id: &str) {
    let Some(list) = bundle.spec.hooks.as_ref() else { return };
    match hooks::Output::open(&bundle.spec.annotations) {
        Ok(output) => {
            let state = state_json(bundle, id, "stopped", 0);
            for e in hooks::run_all(Stage::Poststop, Stage::Poststop.of(list), &state, &bundle.dir, &output) {
                log::warn(&e.to_string());
            }
        }
        Err(e) => log::warn(&e.to_string()),
    }
}

/// Ends what was begun. Each part is tried whatever became of the others; `delete --force` finds what is left.
fn undo(launched: Option<&Launched>, cgroup: Option<&Cgroup>, unit: Option<&Making>, entry: Option<&Entry>) {
    if let Some(launched) = launched {
        launched.kill();
    }
    remove(cgroup, unit, entry);
}

/// Ends what is in the cgroup or the unit, removes that, and then the state.
pub(super) fn remove(cgroup: Option<&Cgroup>, unit: Option<&Making>, entry: Option<&Entry>) {
    let warn = |what: Result<()>| {
        if let Err(e) = what {
            log::warn(&format!("after a failure: {e}"));
        }
    };
    let mut clean = true;
    if let Some(cgroup) = cgroup {
        let removed = cgroup.end(EMPTY);
        clean = removed.is_ok();
        warn(removed);
    }
    if let Some(unit) = unit {
        let removed = unit.undo();
        clean &= removed.is_ok();
        warn(removed);
    }
    // The state names the cgroup and the resctrl groups: it goes last, and stays when those could not go.
    if let Some(entry) = entry {
        let removed = super::rdt::remove(entry);
        clean &= removed.is_ok();
        warn(removed);
        if clean {
            warn(entry.remove());
        }
    }
}

pub(super) fn state_json(bundle: &Bundle, id: &str, status: &str, pid: i32) -> Vec<u8> {
    let dir = bundle.dir.to_string_lossy();
    OciState { oci_version: OCI_VERSION, id, status, pid, bundle: &dir, annotations: &bundle.spec.annotations }.to_json()
}

/// `prestart` and `createRuntime` hooks, and the network devices.
fn runtime_hooks(bundle: &Bundle, launched: &Launched, id: &str) -> Result<()> {
    let devices = &launched.plan().net_devices;
    if !devices.is_empty() {
        crate::network::move_devices(devices, launched.network_namespace()?.as_fd())?;
    }
    creating_hooks(bundle, id, launched.pid)
}

/// `prestart` and `createRuntime` hooks.
pub(super) fn creating_hooks(bundle: &Bundle, id: &str, pid: i32) -> Result<()> {
    let Some(list) = &bundle.spec.hooks else { return Ok(()) };
    let output = hooks::Output::open(&bundle.spec.annotations)?;
    let state = state_json(bundle, id, "creating", pid);
    for stage in [Stage::Prestart, Stage::CreateRuntime] {
        hooks::run(stage, stage.of(list), &state, &bundle.dir, &output)?;
    }
    Ok(())
}

/// Runs the poststart hooks.
pub fn poststart(bundle: &Bundle, id: &str, pid: i32) -> Result<()> {
    let Some(list) = &bundle.spec.hooks else { return Ok(()) };
    let output = hooks::Output::open(&bundle.spec.annotations)?;
    let state = state_json(bundle, id, "running", pid);
    hooks::run(Stage::Poststart, Stage::Poststart.of(list), &state, &bundle.dir, &output)
}

/// Gives the seccomp listener to the agent, before init can make a call that waits for the agent's answer.
pub(super) fn hand_over_listener(bundle: &Bundle, launched: &Launched, id: &str, init: i32, status: &str) -> Result<()> {
    let Some(listener) = launched.seccomp_listener()? else { return Ok(()) };
    let Some(notify) = launched.plan().notify() else { return Ok(()) };
    let at = |e: Error| e.at("/linux/seccomp/listenerPath");
    let agent = console::connect_to(Path::new(&notify.listener_path)).map_err(at)?;
    let message = container_process_state(Listened {
        id,
        oci_version: OCI_VERSION,
        pid: launched.pid,
        init,
        status,
        bundle: &bundle.dir,
        annotations: &bundle.spec.annotations,
        metadata: &notify.metadata,
    });
    crate::sys::socket::send_fd(agent.as_fd(), listener.as_fd(), &message)
        .step("sendmsg", || format!("send the seccomp listener to {}", notify.listener_path))
        .map_err(at)
}

/// What the host decided, and what will be done: the lines of `onggi plan`.
pub(super) fn log_plan(host: &Host, plan: &Plan) {
    log::debug(|| format!("host: {host:?}"));
    if log::enabled(log::Level::Debug) {
        plan.lines().iter().for_each(|line| log::debug(|| format!("plan: {line}")));
    }
}

/// Room for descriptors, and where the terminal's master goes; in the foreground, to the first value.
pub(super) fn equip(plan: &Plan, console: &Console) -> Result<(Option<OwnedFd>, Equipment<'static>)> {
    if plan.raise_open_files {
        process::raise_open_files().step("prlimit64", || "raise the soft limit of open files".into())?;
    }
    let mut equipment = Equipment::default();
    let ours = match console {
        Console::Inherit => None,
        Console::Socket(path) => {
            equipment.console = Some(console::connect_to(path)?);
            None
        }
        Console::Foreground => {
            use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
            let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
                .step("socketpair", || "make a socket for the terminal".into())?;
            equipment.console = Some(theirs);
            Some(ours)
        }
    };
    Ok((ours, equipment))
}

pub(super) fn record(bundle: &Bundle, id: &str, host: &Host, plan: &Plan) -> Result<Record> {
    let mut record = Record::new(id);
    record.bundle.clone_from(&bundle.dir);
    record.rootfs = bundle.rootfs();
    record.created = log::rfc3339(SystemTime::now());
    record.owner = host.uid;
    record.oci_version.clone_from(&bundle.spec.oci_version);
    record.annotations.clone_from(&bundle.spec.annotations);
    record.cgroup = plan.cgroup.as_ref().map(crate::cgroup::Setup::directory);
    record.keyring = plan.steps.iter().any(|s| matches!(s.action, Action::Keyring(_)));
    record.own_pid_namespace = plan.namespaces.new & clone::flags::NEWPID != 0;
    let has = |stage: Stage| bundle.spec.hooks.as_ref().is_some_and(|h| !stage.of(h).is_empty());
    record.start_container = has(Stage::StartContainer);
    record.poststart = has(Stage::Poststart);
    record.poststop = has(Stage::Poststop);
    Ok(record)
}

/// Descriptors that a socket-activating caller passes to us (sd_listen_fds(3)).
fn listen_fds() -> u32 {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    match (number("LISTEN_FDS"), number("LISTEN_PID")) {
        (Some(n), Some(pid)) if pid == std::process::id() => n,
        _ => 0,
    }
}

/// A descriptor that is to be preserved must be there, else another would take its number.
pub(super) fn check_preserved(count: u32) -> Result<()> {
    for n in 3..3u32.saturating_add(count) {
        let open = i32::try_from(n).is_ok_and(fs::is_inherited);
        if !open {
            return Err(Error::new(format!("preserve descriptor {n}"), "it is not open").hint("--preserve-fds counts from 3"));
        }
    }
    Ok(())
}
