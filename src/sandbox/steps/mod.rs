//! A short function for each kind of step, by topic. No decision about configuration is made here: that is the plan's.

mod copyup;
mod labels;
mod mounts;
mod process;
mod program;
mod rootfs;

pub(super) use mounts::target as mount_point;

use super::child::{Call, Child, Fail};
use super::open;
use super::report::{Kind, Report};
use super::verify;
use crate::plan::{Action, Pause, Plan, What};
use crate::sys::clone::{self, Side};
use crate::sys::{creds, fs, mount};
use nix::errno::Errno;
use std::os::fd::AsFd;

/// Runs step `n`; `number` is what the parent knows it by.
pub(super) fn run(child: &mut Child, plan: &mut Plan, n: usize, number: u32) -> Result<(), Fail> {
    let Some(step) = plan.steps.get(n) else { return Err(Fail::refused("the plan ends without a program")) };
    match &step.action {
        Action::Signals(ignored) => process::signals(ignored),
        Action::Undumpable => creds::set_undumpable().call("prctl"),
        Action::Join(slot, kind) => clone::setns(child.slot(slot.0)?, *kind).call("setns"),
        Action::Fork(namespaces) => fork(child, *namespaces, number),
        Action::Unshare(kinds) => clone::unshare(*kinds).call("unshare"),
        Action::Pause(Pause::Filtered) => child.wait_for_filter(),
        Action::Pause(pause) => child.pause(*pause, number),
        Action::RuntimeLives => child.go_on_if_watched(),
        Action::Identity { uid, gid } => {
            creds::set_gid(*gid).call("setresgid")?;
            creds::set_uid(*uid).call("setresuid")
        }
        Action::NewSession => crate::sys::process::new_session().call("setsid"),
        Action::Keyring(name) => process::keyring(name),
        Action::OpenProc => process::open_proc(child),
        Action::OomScoreAdj(score) => process::write_proc(child, c"self/oom_score_adj", score),
        Action::WriteProc { path, value } => process::write_proc(child, path, value),
        Action::KeyLabel(label) => labels::write(child, c"self/attr/keycreate", label),
        Action::ExecProfile { command, profile } => labels::profile(child, command, profile),
        Action::ExecLabel(label) => labels::write(child, c"self/attr/exec", label),
        Action::Loopback => loopback(child),
        Action::Propagation(attrs) => mount::mount_setattr(fs::cwd(), c"/", true, *attrs, None).call("mount_setattr"),
        Action::PrivateParent(path) => rootfs::private_parent(path),
        Action::Opens => open_all(child, plan),
        Action::Root { path, private } => rootfs::root(child, path, *private),
        Action::Mount(m) => mounts::mount(child, plan, m),
        Action::Device(device) => rootfs::device(child, device),
        Action::Symlink { path, target, replace, only_if } => rootfs::symlink(child, path, target, *replace, only_if.as_deref()),
        Action::Inside { devpts } => rootfs::inside(child, *devpts),
        Action::Console { rows, columns, uid, node } => rootfs::console(child, *rows, *columns, *uid, *node),
        Action::Hooks(hooks) => program::hooks(child, hooks),
        Action::NullStreams => {
            rootfs::null_streams(child);
            Ok(())
        }
        Action::Pivot { old_root_shared } => rootfs::pivot(child, *old_root_shared),
        Action::MoveRoot => rootfs::move_root(child),
        Action::Unexpose(path) => rootfs::unexpose(path),
        Action::RootPropagation(attrs, recursive) => {
            mount::mount_setattr(child.root()?, c"", *recursive, *attrs, None).call("mount_setattr")
        }
        Action::ReadonlyRoot => rootfs::readonly_root(child),
        Action::Mask { path, label } => mounts::mask(child, plan, path, label.as_ref()),
        Action::Readonly(path) => mounts::readonly(child, path),
        Action::Hostname(name) => crate::sys::process::set_hostname(name.to_bytes()).call("sethostname"),
        Action::Domainname(name) => crate::sys::process::set_domainname(name.to_bytes()).call("setdomainname"),
        Action::Umask(mask) => {
            crate::sys::process::umask(*mask);
            Ok(())
        }
        Action::Rlimit { resource, soft, hard } => crate::sys::process::set_rlimit(0, *resource, *soft, *hard).call("prlimit64"),
        Action::Scheduler(attr) => crate::sys::process::set_scheduler(*attr).call("sched_setattr"),
        Action::Affinity(cpus) => crate::sys::process::set_affinity(cpus).call("sched_setaffinity"),
        Action::IoPriority(value) => crate::sys::process::set_io_priority(*value).call("ioprio_set"),
        Action::Personality(persona) => crate::sys::process::set_personality(*persona).call("personality"),
        Action::MemoryPolicy { mode, nodes } => crate::sys::process::set_memory_policy(*mode, nodes).call("set_mempolicy"),
        Action::MakeWorkingDirectory(path) => rootfs::make_working_directory(child, path),
        Action::WorkingDirectory { path, last } => process::working_directory(child, path, *last),
        Action::NoNewPrivileges => creds::set_no_new_privs().call("prctl"),
        Action::Home { entry, uid } => program::home(child, &mut plan.envp, *entry, *uid),
        Action::StdioOwner { uid, gid } => process::stdio_owner(*uid, *gid),
        Action::Bounding(keep) => process::bounding(*keep),
        Action::Groups(groups) => creds::set_groups(groups).call("setgroups"),
        Action::User { uid, gid, keep } => process::user(*uid, *gid, *keep),
        Action::Capabilities { caps, ambient, .. } => process::capabilities(*caps, *ambient),
        Action::OpenAccount => process::open_account(child),
        Action::ReadBack(wants) => verify::own(child.account.as_ref(), wants),
        Action::Program { name, candidates } => program::find(child, name, candidates),
        Action::Seccomp { .. } => process::seccomp(child),
        Action::Release(first, keep) => child.release(*first, keep),
        Action::Start => child.wait_for_start(),
        Action::Exec => program::exec(child, plan),
    }
}

impl Child<'_> {
    /// The descriptor that was opened for a slot.
    pub(super) fn slot(&self, n: usize) -> Result<std::os::fd::BorrowedFd<'_>, Fail> {
        match self.given.slots.get(n) {
            Some(open::Opened::Fd(fd, _)) => Ok(fd.as_fd()),
            _ => Err(Fail::call("openat", Errno::EBADF)),
        }
    }
}

/// Brings up `lo`, or enters the namespace where it is.
fn loopback(child: &mut Child) -> Result<(), Fail> {
    let done = match child.given.network.take() {
        Some(network) => network.enter(),
        None => crate::sys::netlink::loopback_up(),
    };
    done.map_err(|(name, e)| Fail::call(name, e))
}

/// The middle process makes the container's init as its own sibling, so that it is the runtime's child, tells its pid,
/// and is gone. Init waits until the runtime knows it: its own messages could overtake the one that introduces it.
fn fork(child: &mut Child, namespaces: u64, number: u32) -> Result<(), Fail> {
    match clone::clone3(namespaces, None, true).call("clone3")? {
        Side::Child => child.pause(Pause::Mapped, number),
        Side::Parent(pid, _) => {
            child.given.channel.send(&Report::new(Kind::Forked, number, pid)).call("write")?;
            crate::sys::process::exit_now(0)
        }
    }
}

fn open_all(child: &mut Child, plan: &Plan) -> Result<(), Fail> {
    for (slot, entry) in child.given.slots.iter_mut().zip(&plan.opens) {
        if matches!(slot, open::Opened::Nothing) && !matches!(entry.what, What::Namespace(_)) {
            *slot = open::open(entry, None)?;
        }
    }
    Ok(())
}
