//! What `config.json` means on this host: everything between clone and exec, as data. Pure: no I/O, no system call.
//!
//! A [`Plan`] is an ordered list of [`Step`]s, each with the field of `config.json` that asked for it. The parent compiles
//! it, the child runs it in a loop (`sandbox::steps`), `onggi plan` prints it. `create`, `run` and `exec` are different plans.
//!
//! What the child still decides itself, because only it can see it, is this closed list: whether a path inside the
//! assembled root is a directory, a file or absent (mount points, masked and read-only paths, `/proc/kcore`), the mode of
//! a directory that a tmpfs covers, the home directory in the container's /etc/passwd, which PATH candidate exists, and
//! whether `mknod` is allowed (else the host's node is bound).

pub mod account;
pub mod annotations;
pub mod build;
pub mod exec;
pub mod labels;
pub mod mounts;
pub mod namespaces;
pub mod notify;
pub mod outside;
pub mod process;
pub mod rootfs;
pub mod seccomp;
pub mod show;

pub use build::{Request, compile};
pub use exec::{ExecRequest, compile_exec};
pub use namespaces::Namespaces;

use crate::config::{LinuxIdMapping, NetDevice};
use crate::error::{Error, Result};
use crate::sys::creds::Caps;
use crate::sys::mount::Attrs;
use crate::sys::process::SchedAttr;
use crate::sys::spawn::StringList;
use std::collections::BTreeMap;
use std::ffi::CString;

/// Everything that is done to bring a container to life.
#[derive(Debug)]
pub struct Plan {
    /// Namespaces to make in the clone, and the ones that the parent enters around it.
    pub namespaces: Namespaces,
    /// Where the container is counted and limited; `None` runs it in the caller's cgroup.
    pub cgroup: Option<crate::cgroup::Setup>,
    /// The classes of service that it is in (`linux.intelRdt`).
    pub rdt: Option<crate::rdt::Setup>,
    /// What is opened before the clone (or, unprivileged, as the child's [`Action::Opens`]).
    pub opens: Vec<Open>,
    /// What the child does, in order.
    pub steps: Vec<Step>,
    /// What the parent sets on the child that waits at [`Pause::Created`]: it takes rights over the host that a process in
    /// a user namespace has not.
    pub from_outside: Vec<Step>,
    /// What the user should know and need not stop for; shown at log level `warning`.
    pub warnings: Vec<String>,
    /// Arguments of the program.
    pub argv: StringList,
    /// Environment of the program.
    pub envp: StringList,
    /// The network devices to move in, by their names on the host.
    pub net_devices: BTreeMap<String, NetDevice>,
    /// The caller's soft limit of open files is too low for this: the runtime raises its own.
    pub raise_open_files: bool,
    /// The child works in the runtime's own memory, which stands still until the program is executed
    /// ([`crate::sys::clone::lend`]): there are no pauses.
    pub lent: bool,
    /// The CPUs that the parent moves to before the clone, a bit a CPU (`process.execCPUAffinity.initial`).
    pub affinity: Option<Vec<u64>>,
}

impl Plan {
    /// Puts the filter where it is loaded: for those who read the plan, the child has its own way to it.
    pub fn set_filter(&mut self, compiled: crate::seccomp::Filter) {
        let steps = self.steps.iter_mut();
        if let Some(filter) =
            steps.rev().find_map(|s| if let Action::Seccomp { filter, .. } = &mut s.action { Some(filter) } else { None })
        {
            *filter = Some(compiled);
        }
    }

    /// What the agent of the filter's listener is told, once the filter is there.
    pub fn notify(&self) -> Option<&crate::seccomp::notify::Notify> {
        self.steps.iter().find_map(|s| match &s.action {
            Action::Seccomp { filter: Some(filter), .. } => filter.notify.as_ref(),
            _ => None,
        })
    }
}

/// One thing to do, and the field of `config.json` that asked for it (a JSON pointer, or empty: what every container gets).
#[derive(Debug)]
pub struct Step {
    /// JSON pointer.
    pub field: String,
    /// What to do.
    pub action: Action,
}

/// Which entry of [`Plan::opens`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub usize);

/// A thing of the host that is opened before the child loses sight of the host.
#[derive(Debug)]
pub struct Open {
    /// JSON pointer.
    pub field: String,
    /// Its path on the host.
    pub path: CString,
    /// How it is opened.
    pub what: What,
}

/// How a thing of the host is opened.
#[derive(Debug)]
pub enum What {
    /// A namespace, of this `CLONE_NEW*` kind.
    Namespace(u64),
    /// The container's init, which the command has looked up and verified: a pidfd, to enter its namespaces by.
    Init,
    /// A detached clone of the mount there, with its final attributes.
    Tree(Tree),
    /// The same of a path inside the root, which shows what was mounted there before: cloned when it is mounted. What is
    /// opened is the user namespace of its id mapping, if it has one.
    Inside(Tree),
    /// A file of the caller's to append to, made if need be.
    Append,
    /// A detached clone of a device node of the host's.
    Node(Node),
    /// A detached clone of the host's null device, verified to be character device 1:3 (CVE-2025-31133).
    Null,
}

/// A device node to be looked for on the host: at the path where the container wants it if the device lies there, else by number.
#[derive(Debug)]
pub struct Node {
    /// `S_IFCHR` or `S_IFBLK`.
    pub kind: u32,
    /// Device number.
    pub dev: u64,
    /// The link that udev makes for each device, `/dev/char/MAJOR:MINOR` or `/dev/block/MAJOR:MINOR`.
    pub by_number: CString,
}

/// A detached clone of a mount.
#[derive(Debug, Default)]
pub struct Tree {
    /// With everything mounted below.
    pub recursive: bool,
    /// Do not follow a link in the last component.
    pub nofollow: bool,
    /// If the source is a link, make the same link instead of a mount (annotation-free extension of crun).
    pub copy_symlink: bool,
    /// Must be procfs: it goes onto /proc.
    pub must_be_proc: bool,
    /// Changes of the top mount.
    pub attrs: Attrs,
    /// Changes of the whole tree (`r*` options).
    pub recursive_attrs: Attrs,
    /// Propagation changes in order: type, recursively.
    pub propagation: Vec<(u64, bool)>,
    /// The id mapping to show it with.
    pub idmap: Option<Idmap>,
}

/// The id mapping of an idmapped mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idmap {
    /// On the whole tree (`ridmap`).
    pub recursive: bool,
    /// The user namespace that the container joins by path; the mappings are then that one's, and not listed.
    pub joined: Option<Slot>,
    /// Mappings of user ids.
    pub uids: Vec<LinuxIdMapping>,
    /// Mappings of group ids.
    pub gids: Vec<LinuxIdMapping>,
}

/// Where the child waits for the parent. The parent walks the same list, so both agree by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Until the parent has had it moved into its cgroup by systemd, and has set the limits there.
    Placed,
    /// Until the parent has written the id maps.
    Mapped,
    /// Says that the mounts are there; until the parent has run the prestart and createRuntime hooks and moved devices.
    Mounted,
    /// Until the parent has compiled the filter, and sends it.
    Filtered,
    /// Says that it is ready; until the parent has made that known on disk (or is gone: then so is the child).
    Created,
    /// Until the parent has done what it does before a program runs, which it does without waiting for the child.
    Cleared,
}

/// Everything that the child can do. A variant's line says what its fields are for.
#[allow(missing_docs)]
#[derive(Debug)]
pub enum Action {
    /// Give these ignored signals their default action and unblock all.
    Signals(Vec<i32>),
    /// Become undumpable.
    Undumpable,
    /// Enter the namespace in the slot, of this `CLONE_NEW*` kind; with [`What::Init`], its namespaces of these kinds.
    Join(Slot, u64),
    /// Fork once more, into new namespaces of these kinds: a PID namespace belongs to the user namespace it is made in.
    Fork(u64),
    /// Leave for new namespaces of these kinds.
    Unshare(u64),
    /// Wait for the parent.
    Pause(Pause),
    /// Go on, unless the runtime is gone: in the place of the pauses, where [`Plan::lent`].
    RuntimeLives,
    /// Take these ids inside the new user namespace.
    Identity { uid: u32, gid: u32 },
    /// Start a session.
    NewSession,
    /// Join a new session keyring of this name.
    Keyring(CString),
    /// Mount a private procfs, attached nowhere, for writes that must not be redirected (CVE-2019-16884, CVE-2025-52881).
    OpenProc,
    /// Set the score that the out-of-memory killer adds (proc_pid_oom_score_adj(5)).
    OomScoreAdj(CString),
    /// Write a file of that procfs, or of the container's ([`Kept::Procfs`]).
    WriteProc { path: CString, value: CString },
    /// Label the keys that are made from here on (SELinux).
    KeyLabel(CString),
    /// Name the AppArmor profile that exec changes to, and read it back.
    ExecProfile { command: CString, profile: CString },
    /// Name the SELinux label that exec changes to; the parent reads it back.
    ExecLabel(CString),
    /// Bring the loopback device up.
    Loopback,
    /// Cut mount propagation between host and container, on the whole tree.
    Propagation(Attrs),
    /// Make the mount that the rootfs lies on private: pivot_root refuses a shared parent.
    PrivateParent(CString),
    /// Open [`Plan::opens`] here, where the parent may not.
    Opens,
    /// Clone the rootfs onto itself and hold it.
    Root { path: CString, private: bool },
    /// Mount something in the root.
    Mount(Mount),
    /// Make a device node.
    Device(Device),
    /// Make a link, unless the name is taken.
    Symlink { path: CString, target: CString, replace: bool, only_if: Option<CString> },
    /// Hold the root that was entered, and with `devpts` the container's terminals.
    Inside { devpts: bool },
    /// Make a pseudo-terminal, hand its master out and make its slave the standard streams and, `node`, /dev/console.
    Console { rows: u16, columns: u16, uid: u32, node: bool },
    /// Run hooks in the container's namespaces.
    Hooks(Vec<ChildHook>),
    /// Open the container's own null device in the place of the host's on the standard streams.
    NullStreams,
    /// Make the rootfs the root and let the old one go.
    Pivot { old_root_shared: bool },
    /// The same by moving the mount and chroot (`--no-pivot`).
    MoveRoot,
    /// Take away a procfs or sysfs of the host that would stay below a moved root: a user namespace inside could mount such
    /// a file system anew, without what is masked, because a bare one can be seen.
    Unexpose(CString),
    /// Set the propagation of the new root.
    RootPropagation(Attrs, bool),
    /// Make the root mount read-only.
    ReadonlyRoot,
    /// Hide a path, if it is there; `label` is the parameter that labels the directory put over one (SELinux).
    Mask { path: CString, label: Option<(CString, CString)> },
    /// Make a path read-only, if it is there.
    Readonly(CString),
    /// Set the host name.
    Hostname(CString),
    /// Set the NIS domain name.
    Domainname(CString),
    /// Set the file mode creation mask.
    Umask(u32),
    /// Set a resource limit.
    Rlimit { resource: u32, soft: u64, hard: u64 },
    /// Set the scheduling policy.
    Scheduler(SchedAttr),
    /// Run on these CPUs only, a bit a CPU; the cpuset has the last word.
    Affinity(Vec<u64>),
    /// Set the I/O priority.
    IoPriority(u32),
    /// Set the execution domain.
    Personality(u64),
    /// Set the memory policy; a bit a node.
    MemoryPolicy { mode: u32, nodes: Vec<u64> },
    /// Make the working directory if it is missing.
    MakeWorkingDirectory(CString),
    /// Enter the working directory, as root or, `last`, as the user; verify that it is inside.
    WorkingDirectory { path: CString, last: bool },
    /// Set no_new_privs.
    NoNewPrivileges,
    /// Replace the n-th entry of the environment by `HOME=` of the user in the container's /etc/passwd.
    Home { entry: usize, uid: u32 },
    /// Give pipes and files on the standard streams to the user.
    StdioOwner { uid: u32, gid: u32 },
    /// Take every capability but these out of the bounding set.
    Bounding(u64),
    /// Set the supplementary groups.
    Groups(Vec<u32>),
    /// Become the user, keeping the permitted capabilities for the next step.
    User { uid: u32, gid: u32, keep: bool },
    /// Set the capability sets; `bounding` is what is to be read back.
    Capabilities { caps: Caps, ambient: u64, bounding: u64 },
    /// Open the kernel's account of this process, while the host's procfs is there.
    OpenAccount,
    /// Compare what has been set with that account.
    ReadBack(Vec<account::Want>),
    /// Find the program: the first candidate that the user may execute.
    Program { name: CString, candidates: Vec<CString> },
    /// Load the system call filter. It is compiled beside the child ([`seccomp::filter`]), which gets it at
    /// [`Pause::Filtered`]: what stands here is the parent's.
    Seccomp { listens: bool, filter: Option<crate::seccomp::Filter> },
    /// Close all descriptors from this one on but those of the wait for `start`, and what these slots hold.
    Release(u32, Vec<Slot>),
    /// Wait for `start`.
    Start,
    /// Run the program.
    Exec,
}

/// A mount in the container.
#[derive(Debug)]
pub struct Mount {
    /// What is mounted.
    pub source: Source,
    /// Where, inside the root.
    pub target: CString,
    /// The target must be a directory, by no link (proc and sysfs; CVE-2019-19921).
    pub strict: bool,
    /// The target may lie on the container's procfs (the list of lxcfs files).
    pub may_cover_proc: bool,
    /// Do not follow a link in the target's last component.
    pub nofollow: bool,
    /// What this new file system is wanted for after it is mounted.
    pub kept: Option<Kept>,
    /// The SELinux label that its root is given, where none can be a parameter of the file system (mqueue).
    pub label: Option<CString>,
}

/// Why the descriptor of a mount is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// This is the container's devpts: the console comes from it.
    Devpts,
    /// Sysctls are written through this procfs.
    Procfs,
}

/// What is mounted.
#[derive(Debug)]
pub enum Source {
    /// A tree opened before.
    Tree(Slot),
    /// A tree of the container ([`What::Inside`]).
    Inside(Slot),
    /// A new file system.
    Filesystem(Filesystem),
    /// Nothing new: change the mount that is there.
    Remount(Remount),
}

/// Changes of a mount that is there. What is empty or zero stays as it is.
#[derive(Debug, Default)]
pub struct Remount {
    /// Of the mount.
    pub attrs: Attrs,
    /// Of the mount and everything below it.
    pub recursive_attrs: Attrs,
    /// Propagation changes in order: type, recursively.
    pub propagation: Vec<(u64, bool)>,
    /// fsconfig parameters of its file system, in order.
    pub parameters: Vec<(CString, Option<CString>)>,
}

/// A new file system.
#[derive(Debug, Default)]
pub struct Filesystem {
    /// Its type.
    pub kind: CString,
    /// fsconfig parameters in order: key, and value unless a flag.
    pub parameters: Vec<(CString, Option<CString>)>,
    /// `MOUNT_ATTR_*`.
    pub attrs: u64,
    /// Propagation changes in order: type, recursively.
    pub propagation: Vec<(u64, bool)>,
    /// Take the mode of the directory it covers (tmpfs without `mode=`).
    pub inherit_mode: bool,
    /// Copy what the directory holds into it (`tmpcopyup`).
    pub copy_up: bool,
    /// Where the kernel refuses it to a user namespace: the tree of the host that takes its place, with these attributes.
    pub otherwise: Option<(CString, u64)>,
}

/// A device node.
#[derive(Debug)]
pub struct Device {
    /// Inside the root.
    pub path: CString,
    /// Kind and permission bits.
    pub mode: u32,
    /// Device number.
    pub dev: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The host's node, to be bound: a user namespace cannot make device nodes.
    pub host: Option<Slot>,
}

/// A hook that the child runs itself.
#[derive(Debug)]
pub struct ChildHook {
    /// The hook, its strings ready for execve.
    pub laid: crate::hooks::Laid,
    /// The container's state in JSON, before and after the number of `pid`.
    pub state: (Vec<u8>, Vec<u8>),
    /// Where it runs: the bundle, while that can still be reached.
    pub cwd: Option<CString>,
    /// Where its stdout and stderr go (`run.oci.hooks.stdout`, `run.oci.hooks.stderr`); else the last words are kept.
    pub output: [Option<Slot>; 2],
}

/// A string for the kernel; a NUL in it is an error at `field`.
pub fn c_string(text: &str, field: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new(format!("{text:?}"), "has a NUL byte").at(field))
}
