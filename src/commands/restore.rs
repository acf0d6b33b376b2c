//! `restore`: a container made of what `checkpoint` saved. State directory and cgroup are made as by `create`; the rest is
//! CRIU's work, with the bundle's mounts and namespaces of others given to it.

use super::checkpoint::Directories;
use super::create::{self, equip};
use super::unit::{self, Making};
use super::{delete, pid_file};
use crate::cgroup::Cgroup;
use crate::cli::{Global, RestoreArgs};
use crate::config::Bundle;
use crate::console;
use crate::criu::Session;
use crate::criu::message::{Answer, Kind, Options};
use crate::criu::streams::{self, Given};
use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::plan::{self, Action, Plan, Request, outside};
use crate::sandbox::staging::{self, Staged};
use crate::sandbox::supervise::{self, Duties, Signals, Terminal};
use crate::store::{Entry, Record, Store};
use crate::sys::{fs, pidfd, process, socket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// CRIU's log, beside the images or the work files.
const LOG: &str = "restore.log";

/// `restore`.
pub fn restore(global: &Global, args: &RestoreArgs) -> Result<u8> {
    let reaper = !args.detach && !args.no_subreaper;
    if reaper {
        supervise::become_reaper()?;
    }
    let mut half = Half::default();
    let made = half.make(global, args).and_then(|()| half.settle(args));
    let init = match made {
        Ok(init) => init,
        Err(e) => {
            half.undo(args);
            return Err(e);
        }
    };
    // It is detached.
    let Some(signals) = half.signals.take() else { return Ok(0) };
    if let Some(entry) = &half.entry {
        entry.unlock()?;
    }
    let windows = fs::streams();
    let [input, output, _] = windows;
    let terminal = half.master.take().map(|master| Terminal { master, input, output, windows: &windows });
    let ended = supervise::supervise(half.pid, init.as_fd(), &signals, terminal, Duties { reaper, ..Duties::default() });
    if args.keep {
        return ended;
    }
    let removed = match Store::open(global.root.as_deref())?.map(|store| store.entry(&args.create.id)) {
        Some(Ok(entry)) => delete::remove(entry, true),
        // Somebody else was quicker.
        _ => Ok(()),
    };
    let status = ended?;
    removed.map(|()| status)
}

/// What has been made so far.
#[derive(Default)]
struct Half {
    bundle: Option<Bundle>,
    entry: Option<Entry>,
    cgroup: Option<Cgroup>,
    unit: Option<Making>,
    pid: i32,
    init: Option<OwnedFd>,
    master: Option<OwnedFd>,
    /// What the container is sent once it runs, if it is not detached.
    signals: Option<Signals>,
    hooks_failed: bool,
}

impl Half {
    fn make(&mut self, global: &Global, args: &RestoreArgs) -> Result<()> {
        let asked = &args.create;
        fs::cloexec_from(3).step("close_range", || "close inherited descriptors at exec".into())?;
        let bundle = self.bundle.insert(Bundle::load(asked.bundle.as_deref().unwrap_or(Path::new(".")), None)?);
        let terminal = bundle.spec.process.as_ref().is_some_and(|p| p.terminal);
        let console = console::plan_console(terminal, args.detach, asked.console_socket.as_deref())?;
        let host = Host::probe(&bundle.spec)?;
        let request = Request {
            id: &asked.id,
            bundle: &bundle.dir,
            wait: false,
            no_pivot: asked.no_pivot,
            no_new_keyring: asked.no_new_keyring,
            preserve: 0,
            driver: unit::driver(global.cgroup_manager),
            environment: Vec::new(),
            notify: None,
        };
        let plan = plan::compile(&bundle.spec, &request, &host)?;
        for warning in &plan.warnings {
            crate::log::warn(warning);
        }
        let mut dirs = Directories::open(&args.criu, false, LOG)?;
        if !dirs.images_path.join("inventory.img").exists() {
            return Err(Error::new(
                format!("restore from {}", dirs.images_path.display()),
                "it holds no checkpoint: inventory.img is missing",
            ));
        }
        let Given { files: given, names } = streams::give(&dirs.images_path)?;
        let (mut foreground, equipment) = equip(&plan, &console)?;
        let socket = equipment.console;

        let entry = self.entry.insert(Store::open_or_make(global.root.as_deref())?.create(&asked.id)?);
        if let Some(unit) = plan.cgroup.as_ref().and_then(|setup| setup.unit.as_ref()) {
            self.unit = Some(Making::begin(entry, unit)?);
        } else if let Some(setup) = &plan.cgroup {
            create::make_cgroup(entry, setup, &mut self.cgroup)?;
            create::restrict_devices(&plan, self.cgroup.as_ref())?;
        }
        entry.write_config(&bundle.raw)?;
        let mut record = create::record(bundle, &asked.id, &host, &plan)?;
        record.streams = names;
        record.rdt = super::rdt::make(&plan, entry)?;

        // Processes inherit CRIU's: the caller's is not for them.
        if let Some(name) = plan.steps.iter().find_map(|s| if let Action::Keyring(name) = &s.action { Some(name) } else { None })
        {
            match process::join_session_keyring(name) {
                Err(nix::errno::Errno::ENOSYS) => {}
                other => other.step("keyctl", || "join a new session keyring".into())?,
            }
        }
        let (staged, (mut session, mut options)) = staging::with_stage(&plan, entry.path(), |staged| {
            dirs.again()?;
            let mut options = dirs.options(&args.criu, bundle, LOG);
            options.inherit_fd = given.iter().map(|(key, file)| (key.clone(), file.as_raw_fd())).collect();
            name(&mut options, &plan, staged)?;
            let namespaces = outside::namespaces(&plan).into_iter().filter_map(|joined| staged.namespace(joined.slot));
            let keep: Vec<BorrowedFd<'_>> = given.iter().map(|(_, file)| file.as_fd()).chain(namespaces).collect();
            Ok((Session::start(&keep, args.criu.shell_job)?, options))
        })?;
        // Not before: CRIU would inherit the blocked signals. Not after: the container's end depends on us once it runs.
        if !args.detach {
            self.signals = Some(supervise::block_signals()?);
        }
        options.evasive_devices = true;
        options.rst_sibling = true;
        options.tcp_close = args.tcp_close;
        options.lsm_profile.clone_from(&args.lsm_profile);
        options.lsm_mount_context.clone_from(&args.lsm_mount_context);
        check_version(&session, args)?;
        let criu = session.pid();
        // What CRIU makes is made where it is.
        if let Some(cgroup) = &self.cgroup {
            cgroup.enter(criu)?;
        }
        if let (Some(unit), Some(setup)) = (&self.unit, &plan.cgroup) {
            unit.place(entry, setup, criu)?;
            record.unit = Some(unit.registered.to_string());
            record.cgroup = unit.cgroup.get().map(|cgroup| cgroup.path().to_owned());
        }
        if record.cgroup.is_some() {
            options.cgroup_roots = roots(criu)?;
        }
        crate::rdt::add(&record.rdt, criu)?;
        let (pid, init, master, hooks_failed) = (&mut self.pid, &mut self.init, &mut self.master, &mut self.hooks_failed);
        session.work(Kind::Restore, &options, &dirs.log, &mut |answer: &Answer, fd| match answer.script.as_str() {
            "setup-namespaces" => {
                *init = Some(known(&mut record, entry, answer.pid)?);
                move_devices(&plan, answer.pid)?;
                create::creating_hooks(bundle, &asked.id, answer.pid).inspect_err(|_| *hooks_failed = true)
            }
            "orphan-pts-master" => {
                let fd = fd.ok_or_else(|| Error::new("receive the terminal of the container", "CRIU sent none"))?;
                match (&socket, foreground.take()) {
                    // In the foreground it stays with us.
                    (_, Some(_)) => *master = Some(fd),
                    (Some(socket), None) => socket::send_fd(socket.as_fd(), fd.as_fd(), b"/dev/ptmx")
                        .step("sendmsg", || "send the terminal to the console socket".into())?,
                    // Another's terminal, or a program's own pair.
                    (None, None) => {}
                }
                Ok(())
            }
            "post-restore" => {
                *pid = answer.pid;
                *init = Some(known(&mut record, entry, answer.pid)?);
                crate::rdt::add(&record.rdt, answer.pid)?;
                staging::close_root(&plan, answer.pid)?;
                staging::verify(&plan, &staged, criu, answer.pid)
            }
            _ => Ok(()),
        })?;
        if self.pid <= 0 {
            return Err(Error::new(Kind::Restore.words(), "CRIU did not say which process it is"));
        }
        Ok(())
    }

    /// Makes the container known.
    fn settle(&mut self, args: &RestoreArgs) -> Result<OwnedFd> {
        let (Some(entry), Some(bundle), Some(init)) = (&self.entry, &self.bundle, &self.init) else {
            return Err(crate::store::unknown());
        };
        if let Some(path) = &args.create.pidfd_socket {
            console::send_pidfd(path, init.as_fd(), b"pidfd")?;
        }
        entry.commit_state()?;
        if let Err(e) = create::poststart(bundle, entry.id(), self.pid) {
            self.hooks_failed = true;
            return Err(e);
        }
        if let Some(path) = &args.create.pid_file {
            pid_file::write(path, self.pid)?;
        }
        init.try_clone().step("fcntl", || "keep the container's init".into())
    }

    /// Removes all traces of a container that failed. CRIU has ended by now, one way or the other.
    fn undo(&self, args: &RestoreArgs) {
        if let Some(path) = &args.create.pid_file {
            pid_file::remove(path, self.pid);
        }
        if let Some(init) = &self.init {
            // It may have gone by itself; then both calls have nothing to do.
            let _gone = pidfd::send_signal(init.as_fd(), libc::SIGKILL);
            let _reaped = pidfd::wait(init.as_fd());
        }
        create::remove(self.cgroup.as_ref(), self.unit.as_ref(), self.entry.as_ref());
        if let (true, Some(bundle)) = (self.hooks_failed, &self.bundle) {
            create::poststop(bundle, &args.create.id);
        }
    }
}

/// Flags that an older CRIU would ignore.
fn check_version(session: &Session, args: &RestoreArgs) -> Result<()> {
    for (asked, version, flag) in [
        (args.lsm_profile.is_some(), 31_600, "--lsm-profile"),
        (args.lsm_mount_context.is_some(), 31_600, "--lsm-mount-context"),
        (args.criu.network_lock.is_some(), 31_700, "--network-lock"),
    ] {
        if asked {
            session.at_least(version, flag)?;
        }
    }
    Ok(())
}

/// Tells CRIU where what lies outside is now.
fn name(options: &mut Options, plan: &Plan, staged: &Staged) -> Result<()> {
    options.root = Some(staged.root.clone());
    options.ext_mnt.clone_from(&staged.sources);
    for joined in outside::namespaces(plan) {
        if let Some((_, key)) = joined.left_alone() {
            let fd = staged.namespace(joined.slot).map_or(-1, |fd| fd.as_raw_fd());
            options.inherit_fd.push((key.into(), fd));
            continue;
        }
        match joined.name() {
            Some(name) => options.join_ns.push((name, joined.path.to_owned())),
            None => {
                let kind = crate::plan::namespaces::name(joined.kind);
                return Err(Error::new(format!("restore into a {kind} namespace of others"), "CRIU cannot").at(joined.field));
            }
        }
    }
    Ok(())
}

/// Writes down who init is, before the state counts, and holds it. It is ours to reap (CRIU makes it our child), so the
/// number cannot name another.
fn known(record: &mut Record, entry: &Entry, pid: i32) -> Result<OwnedFd> {
    let init = pidfd::open(pid).step("pidfd_open", || "open the container's init".into())?;
    record.set_process(pid, init.as_fd(), entry.dir())?;
    entry.prepare_state(record)?;
    Ok(init)
}

fn move_devices(plan: &Plan, pid: i32) -> Result<()> {
    if plan.net_devices.is_empty() {
        return Ok(());
    }
    let path = format!("/proc/{pid}/ns/net");
    let namespace = std::fs::File::open(&path).step("openat", || format!("open {path}"))?;
    crate::network::move_devices(&plan.net_devices, namespace.as_fd())
}

/// Where a process is in each hierarchy: CRIU puts what it restores there, and so makes nothing in those of cgroup v1.
fn roots(pid: i32) -> Result<Vec<(String, String)>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).step("read", || format!("read {path}"))?;
    let parts = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    };
    Ok(text.lines().filter_map(parts).collect())
}
