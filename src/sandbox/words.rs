//! A child's report in words: the field from the plan, what was being done, the kernel's cause, and a hint where the cause
//! is known. The messages that engines match on keep runc's wording (a test holds each).

use super::report::{Detail, Report};
use super::verify::Difference;
use crate::error::{Errno, Error};
use crate::hooks::Laid;
use crate::plan::account::Want;
use crate::plan::labels::CONTEXTS;
use crate::plan::{Action, ChildHook, Open, Plan, Source, What};
use crate::sys::pidfd::Exit;
use crate::sys::spawn::{self, End};
use std::time::Duration;

/// What runc writes before an error of the container's program; engines show it, some of their tests look for it.
pub fn program_prefix(command: &str) -> String {
    format!("runc {command} failed: unable to start container process: error during container init")
}

/// Words a failed step.
pub fn of_step(plan: &Plan, report: &Report) -> Error {
    let step = usize::try_from(report.step).ok().and_then(|n| plan.steps.get(n));
    let Some(step) = step else { return Error::new("container init", "failed at a step that the plan does not have") };
    let name = plan.argv.strings().first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
    match &step.action {
        Action::Program { .. } | Action::Exec => of_program(&name, matches!(step.action, Action::Exec), report),
        Action::WorkingDirectory { path, .. } => of_working_directory(&path.to_string_lossy(), report),
        Action::Hooks(hooks) => of_hook(hooks, report),
        Action::ReadBack(wants) if report.detail == Detail::Difference => of_difference(wants, report),
        action => hint(plain(report, action.words()), action, report.value).at(step.field.clone()),
    }
}

/// Words what was read back.
fn of_difference(wants: &[Want], report: &Report) -> Error {
    let none = || Error::new("read back what was set", "something else is there");
    Difference::of_bytes(report.text()).map_or_else(none, |difference| difference.error(wants))
}

/// Words a thing of the host that could not be opened.
pub fn of_open(open: &Open, report: &Report) -> Error {
    let path = open.path.to_string_lossy();
    let (step, idmap) = match &open.what {
        What::Namespace(kind) => (format!("open {} namespace {path}", crate::plan::namespaces::name(*kind)), false),
        What::Init => ("take the container's init".into(), false),
        What::Append => (format!("open {path} for the output of hooks"), false),
        What::Null => (format!("open the null device {path}"), false),
        What::Node(_) => (format!("bind the device {path}"), false),
        What::Tree(tree) | What::Inside(tree) => (format!("bind {path}"), tree.idmap.is_some()),
    };
    let error = plain(report, step).at(open.field.clone());
    match (report.value, report.call_name(), idmap) {
        (libc::ENOENT, ..) if !matches!(open.what, What::Append) => error.hint("it does not exist on the host"),
        (libc::EINVAL, "mount_setattr", true) => {
            error.hint("the file system of the source does not support idmapped mounts, or the mount is idmapped already")
        }
        (libc::EPERM, "mount_setattr", false) => {
            error.hint("in a user namespace no flag of a mount of the host's can be cleared (rw, exec, suid, dev, another atime)")
        }
        (libc::EMFILE, ..) => error.hint("the limit of open files (ulimit -n) is lower than the number of mounts"),
        // A mount that is attached nowhere counts as a namespace of its own.
        (libc::ENOSPC, "open_tree", _) => match crate::idmap::why_no_namespace() {
            Some(why) => error.hint(why),
            None => error.hint("/proc/sys/fs/mount-max is reached, or user.max_mnt_namespaces, here or further out"),
        },
        _ => error,
    }
}

/// `step: cause`, whatever the cause is.
fn plain(report: &Report, step: String) -> Error {
    let text = String::from_utf8_lossy(report.text()).trim().to_string();
    match report.detail {
        Detail::Refused => Error::new(step, text),
        Detail::Kernel => {
            // "e tmpfs: Unknown parameter 'x'": severity, file system, message.
            let message = text.get(2..).unwrap_or(&text).to_string();
            Error::sys(format!("{step}: {message}"), syscall(report), Errno(report.value))
        }
        _ => Error::sys(step, syscall(report), Errno(report.value)),
    }
}

/// Names of the calls that the child makes; the wire has only bytes.
const CALLS: [&str; 64] = [
    "capget",
    "capset",
    "chdir",
    "chroot",
    "clone",
    "clone3",
    "close_range",
    "dup3",
    "execve",
    "faccessat2",
    "fchdir",
    "fchmod",
    "fchownat",
    "fcntl",
    "fsconfig",
    "fsetxattr",
    "fsmount",
    "fsopen",
    "fspick",
    "fstat",
    "fstatfs",
    "getcwd",
    "getdents64",
    "getresuid",
    "ioctl",
    "ioprio_set",
    "keyctl",
    "mkdirat",
    "mknodat",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "openat",
    "openat2",
    "personality",
    "pidfd_open",
    "pivot_root",
    "prctl",
    "prlimit64",
    "read",
    "readlinkat",
    "recvfrom",
    "recvmsg",
    "rt_sigaction",
    "rt_sigprocmask",
    "sched_setaffinity",
    "sched_setattr",
    "seccomp",
    "sendmsg",
    "set_mempolicy",
    "setdomainname",
    "setgroups",
    "sethostname",
    "setns",
    "setresgid",
    "setresuid",
    "setsid",
    "socket",
    "stat",
    "symlinkat",
    "umount2",
    "unlinkat",
    "unshare",
    "write",
];

fn syscall(report: &Report) -> &'static str {
    let name = report.call_name();
    CALLS.iter().find(|c| **c == name).copied().unwrap_or("")
}

/// How runc begins every error of a profile.
const APPARMOR: &str = "apparmor failed to apply profile";

/// What a reader can do, where the cause is known.
pub fn hint(error: Error, action: &Action, errno: i32) -> Error {
    match (action, errno) {
        (Action::Unshare(_) | Action::Fork(_), libc::ENOSPC) => match crate::idmap::why_no_namespace() {
            Some(why) => error.hint(why),
            None => error.hint("the limits in /proc/sys/user/max_*_namespaces, or of nesting, are reached"),
        },
        (Action::Root { .. }, libc::ENOENT) => error.hint("root.path does not exist"),
        (Action::Root { .. }, libc::ENOTDIR) => error.hint("root.path is not a directory"),
        (Action::Root { .. }, libc::EACCES) => error.hint("the user of the user namespace may not pass a directory on the way"),
        (Action::Pivot { .. }, libc::EINVAL) => error.hint("is the host's root a ramfs? then --no-pivot is needed"),
        (Action::Rlimit { .. }, libc::EPERM) => {
            error.hint("raising a hard limit needs CAP_SYS_RESOURCE, which the runtime lacks")
        }
        // Not in the errno's own words: engines take those two for a program that may not be executed (exit status 126).
        (Action::OomScoreAdj(_), libc::EACCES | libc::EPERM) => {
            Error::new(error.step(), "the kernel refuses it").hint("lowering it needs CAP_SYS_RESOURCE, which the runtime lacks")
        }
        (Action::WriteProc { .. }, libc::ENOENT) => error.hint("this kernel, or this namespace, does not have the key"),
        // As with the score above: for Podman those words would be a program that is not there.
        (Action::ExecProfile { .. }, libc::ENOENT) => Error::new(error.step(), "the profile is not loaded")
            .context(APPARMOR)
            .hint("load it with apparmor_parser -r; /sys/kernel/security/apparmor/profiles lists those that are"),
        (Action::ExecProfile { .. }, libc::EACCES | libc::EPERM) => {
            error.context(APPARMOR).hint("the profile that the runtime itself runs under does not allow the change")
        }
        (Action::ExecProfile { .. }, _) => error.context(APPARMOR),
        (Action::ExecLabel(_) | Action::KeyLabel(_), libc::EINVAL) => error.hint("the policy that is loaded has no such label"),
        (Action::ExecLabel(_) | Action::KeyLabel(_), libc::EACCES) => {
            error.hint("the policy does not allow it to the label that the runtime itself has")
        }
        (Action::Capabilities { .. } | Action::Bounding(_), libc::EPERM) => {
            error.hint("the runtime itself lacks a capability that is asked for")
        }
        (Action::Mount(m), libc::EPERM) => match &m.source {
            Source::Filesystem(new) if new.kind.as_c_str() == c"proc" => error.hint(
                "in a user namespace the kernel refuses a new /proc where parts of the one that is there are covered, as in a container with masked paths: start that one without (docker: --security-opt systempaths=unconfined, podman: --security-opt unmask=ALL), or bind /proc",
            ),
            Source::Filesystem(_) => error.hint("in a user namespace, or nested, the kernel refuses this file system"),
            _ => error.hint("in a user namespace no flag of a mount of the host's can be cleared"),
        },
        (Action::Mount(m), libc::EINVAL) if has_owner(m) => error.hint("the owner in the options is not mapped in the user namespace"),
        (Action::Mount(m), libc::ENODEV) if matches!(m.source, Source::Filesystem(_)) => {
            error.hint("this kernel does not know the file system type")
        }
        (Action::Mount(m), libc::EINVAL) if is_labelled(m) => error.hint("is the label one of the policy that is loaded?"),
        (Action::Mask { label: Some(_), .. }, libc::EINVAL) => error.hint("is the label one of the policy that is loaded?"),
        (Action::Mount(_), libc::ENOTDIR) => error.hint("are you trying to mount a directory onto a file (or vice-versa)?"),
        (Action::Groups(_) | Action::User { .. } | Action::Identity { .. }, libc::EINVAL) => {
            error.hint("the id is not mapped in the user namespace")
        }
        // sched_setattr(2): EPERM also where the process may not run on all CPUs. The first words are runc's.
        (Action::Scheduler(attr), libc::EPERM) if attr.deadline > 0 => error.hint(
            "process scheduler can't be used together with AllowedCPUs: SCHED_DEADLINE needs all CPUs, and CAP_SYS_NICE",
        ),
        (Action::Scheduler(_), libc::EPERM) => error.hint("it needs CAP_SYS_NICE, which the runtime lacks"),
        (Action::Seccomp { .. }, libc::EACCES) => error.hint("without noNewPrivileges the runtime needs CAP_SYS_ADMIN"),
        _ => error,
    }
}

/// Whether the options of a new file system name an owner.
fn has_owner(mount: &crate::plan::Mount) -> bool {
    let Source::Filesystem(new) = &mount.source else { return false };
    new.parameters.iter().any(|(key, _)| matches!(key.to_bytes(), b"uid" | b"gid"))
}

/// Whether it has a label of SELinux's among its parameters, or gets one.
fn is_labelled(m: &crate::plan::Mount) -> bool {
    let is_context = |key: &std::ffi::CString| CONTEXTS.iter().any(|name| key.as_bytes() == name.as_bytes());
    match &m.source {
        Source::Filesystem(new) => m.label.is_some() || new.parameters.iter().any(|(key, _)| is_context(key)),
        _ => false,
    }
}

/// `process.cwd`, in runc's words.
fn of_working_directory(path: &str, report: &Report) -> Error {
    let words = format!("chdir to cwd ({path:?}) set in config.json failed");
    let error = match report.detail {
        Detail::Refused => Error::exact(format!("{words}: {}", String::from_utf8_lossy(report.text()))),
        _ => Error::exact(format!("{words}: {}", Errno(report.value))),
    };
    error.at("/process/cwd")
}

/// The program, in the words of Go's os/exec and runc; `start` prints the same.
pub fn of_program(name: &str, at_exec: bool, report: &Report) -> Error {
    let errno = Errno(report.value);
    let text = String::from_utf8_lossy(report.text()).into_owned();
    let error = match report.detail {
        Detail::NotInPath => Error::exact(format!("exec: {name:?}: executable file not found in $PATH")),
        _ if at_exec => Error::exact(format!("exec {name}: {errno}")),
        _ if report.value == libc::ENOENT => Error::exact(format!("exec: {name:?}: stat {name}: {errno}")),
        _ => Error::exact(format!("exec: {name:?}: {errno}")),
    };
    let error = error.at("/process/args/0");
    match report.detail {
        Detail::Interpreter => error.hint(format!("it needs {text}, which is missing in the container or cannot be executed")),
        Detail::CarriageReturn => {
            error.hint(format!("its first line ends in a carriage return, so the interpreter \"{text}\\r\" is looked for: save the file with Unix line ends"))
        }
        Detail::Machine => error.hint(format!("it is built for {text}, this machine is {}", std::env::consts::ARCH)),
        Detail::NoExec => error.hint("it lies on a mount with the option noexec"),
        Detail::Format => error.hint("it is neither a binary nor a script with a #! line"),
        _ if report.call_name() == "faccessat2" => {
            error.hint("the kernel has no faccessat2, or a seccomp filter around the runtime refuses it")
        }
        _ if report.value == libc::EACCES => error.hint("is the file executable, and may the user pass the directories?"),
        _ => error,
    }
}

/// A hook that init ran itself, worded as the parent words its own.
fn of_hook(hooks: &[ChildHook], report: &Report) -> Error {
    let Some(hook) = hooks.get(usize::from(report.part)) else { return Error::new("run a hook", "failed") };
    hook_outcome(&hook.laid, report)
}

/// The same for `start`, which has the hook from the stored configuration.
pub fn hook_outcome(hook: &Laid, report: &Report) -> Error {
    let small = |n: i32| u8::try_from(n).unwrap_or(u8::MAX);
    let end = match report.detail {
        Detail::HookStatus => End::Exited(Exit::Code(small(report.value))),
        Detail::HookSignal => End::Exited(Exit::Signal { signal: small(report.value), core: false }),
        Detail::HookTimeout => End::TimedOut,
        _ => End::NotRun(syscall(report), nix::errno::Errno::from_raw(report.value)),
    };
    let captured = report.text().len();
    let how = spawn::Report { end, took: Duration::ZERO, captured, cut: false };
    match hook.outcome(&how, report.text()) {
        Err(error) => error,
        Ok(()) => Error::new("run a hook", "failed"),
    }
}
