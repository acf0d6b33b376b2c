//! The trace rules T1 to T10: what our system calls never do, whatever a configuration or an image is like.
//!
//! Each holds for calls of the runtime's own code: until a process has executed another program. Where a rule is not as
//! strict as its first wording was, the reason stands beside it.

use super::log::{Call, Event, parse};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Where a descriptor comes from: each step back to its beginning.
#[derive(Debug)]
struct Origin {
    /// `fsmount`, `open_tree`, `openat`, ...
    how: String,
    /// The name it was opened by, or the type of a file system.
    name: String,
    from: Option<Rc<Origin>>,
}

impl Origin {
    fn chain(&self) -> impl Iterator<Item = &Origin> {
        std::iter::successors(Some(self), |origin| origin.from.as_deref())
    }
}

#[derive(Debug, Clone)]
struct Fd {
    origin: Rc<Origin>,
    cloexec: bool,
}

/// What is known of a process that runs the runtime's code.
#[derive(Debug, Clone, Default)]
struct Process {
    fds: BTreeMap<i32, Fd>,
    children: BTreeSet<i64>,
    /// Made by a clone: the host's names may mean something else to it than to who made it.
    cloned: bool,
    undumpable: bool,
    /// It has made the host's PID namespace, for its children, the container's.
    joins_pids: bool,
    /// The file system that it sees is the container's.
    inside: bool,
    /// It has opened the root file system, by its path on the host.
    has_root: bool,
    no_new_privs: bool,
    filtered: bool,
    /// What fstatfs(2) has shown to be a devpts.
    devpts: BTreeSet<i32>,
    /// Descriptors that were made since all from 3 on were closed or marked.
    since_close: Option<Vec<String>>,
    executed: bool,
}

/// What there is to know of the run that was traced.
pub struct Run<'a> {
    /// The root file system, as the runtime is told of it.
    pub rootfs: &'a str,
    /// The path of the runtime.
    pub runtime: &'a str,
    /// Programs of the host that may be run: hooks.
    pub programs: &'a [&'a str],
}

/// Paths that the runtime writes in the host's procfs before anything of the container's exists, each about the process that
/// it has just cloned: nobody else has a say in what they name there.
const OF_A_CHILD: [&str; 4] = ["uid_map", "gid_map", "setgroups", "timens_offsets"];
/// The only programs that set id maps for who may not.
const ID_HELPERS: [&str; 2] = ["/usr/bin/newuidmap", "/usr/bin/newgidmap"];
const NO_KILL: [&str; 3] = ["kill", "tkill", "tgkill"];
/// Calls after the filter: they wait for `start`, tell that it is loaded, and end in the program.
const AFTER_FILTER: [&str; 11] =
    ["read", "write", "poll", "recvfrom", "sendto", "sendmsg", "close", "close_range", "execve", "exit_group", "madvise"];
/// Without no_new_privs the kernel takes a filter only from who has CAP_SYS_ADMIN: then it comes before what gives privilege
/// up, and before the search for the program as the user.
const GIVING_UP: [&str; 12] = [
    "capset",
    "setgroups",
    "setresuid",
    "setresgid",
    "chdir",
    "fchdir",
    "getcwd",
    "newfstatat",
    "faccessat2",
    "openat",
    "prlimit64",
    "umask",
];

/// What a log shows.
#[derive(Debug, Default)]
pub struct Checked {
    /// Every breach of a rule: `T3: line`.
    pub found: Vec<String>,
    /// Lookups that are known to begin in the root file system: without any, the rules about it say nothing.
    pub lookups: usize,
    /// Writes to a procfs of our own.
    pub writes: usize,
}

/// Looks at every call.
pub fn check(text: &str, run: &Run) -> Checked {
    let (processes, cloning) = (BTreeMap::new(), BTreeMap::new());
    let mut checker = Checker { run, processes, cloning, last: None, checked: Checked::default() };
    for event in parse(text) {
        match event {
            Event::Cloning(pid) => {
                let process = checker.process(pid);
                let mut child = process.clone();
                child.cloned = true;
                child.children.clear();
                checker.last = Some(pid);
                checker.cloning.insert(pid, child);
            }
            Event::Done(call) => checker.done(&call),
        }
    }
    checker.checked
}

struct Checker<'a> {
    run: &'a Run<'a>,
    processes: BTreeMap<i32, Process>,
    /// What the last child of each will have begun with.
    cloning: BTreeMap<i32, Process>,
    /// Who was the last to make a process.
    last: Option<i32>,
    checked: Checked,
}

impl Checker<'_> {
    fn process(&mut self, pid: i32) -> &mut Process {
        if !self.processes.contains_key(&pid) {
            // By the list of children where the number is the same on both sides, else by the last who cloned.
            let parent = self.processes.iter().find(|(_, p)| p.children.contains(&i64::from(pid))).map(|(pid, _)| *pid);
            let start = parent.or(self.last).and_then(|parent| self.cloning.get(&parent)).cloned().unwrap_or_default();
            self.processes.insert(pid, start);
        }
        self.processes.get_mut(&pid).expect("just made")
    }

    fn find(&mut self, rule: &str, call: &Call) {
        let text: String = call.text.chars().take(300).collect();
        self.checked.found.push(format!("{rule}: {text}"));
    }

    fn done(&mut self, call: &Call) {
        let process = self.process(call.pid).clone();
        if process.executed && !(call.name == "execve" && call.path(0) == Some(self.run.runtime)) {
            return;
        }
        self.look(call, &process);
        let process = self.process(call.pid);
        follow(process, call);
        if call.name == "execve" && call.ok() {
            // A program that executes the runtime, as `setpriv` does, has ended with that.
            self.process(call.pid).executed = call.path(0) != Some(self.run.runtime);
        }
        if let Some(root) = call.path(1)
            && root == self.run.rootfs
            && call.ok()
        {
            self.process(call.pid).has_root = true;
        }
    }

    /// Whether a descriptor leads into the container's root file system.
    fn in_root(&self, process: &Process, fd: Option<i32>) -> bool {
        let Some(fd) = fd.and_then(|fd| process.fds.get(&fd)) else { return false };
        let is_root = |origin: &Origin| origin.name == self.run.rootfs || origin.how == "the root inside";
        fd.origin.chain().any(is_root)
    }

    fn look(&mut self, call: &Call, process: &Process) {
        let name = call.name.as_str();
        self.mounts_and_names(call, process);
        self.opens(call, process);
        self.descriptors(call, process);
        if matches!(name, "write" | "pwrite64" | "writev") {
            self.writes(call, process);
        }
        self.order(call, process);
        if NO_KILL.contains(&name) {
            // The group of a hook that is not reaped yet: its number can name nobody else, and a pidfd names no group.
            let group = call.arg(0).strip_prefix('-').and_then(|pid| pid.parse().ok());
            if !(name == "kill" && group.is_some_and(|pid: i64| process.children.contains(&pid))) {
                self.find("T8", call);
            }
        }
        if name == "execve" && !(process.inside || self.may_run(call)) {
            self.find("T10", call);
        }
    }

    fn may_run(&self, call: &Call) -> bool {
        let Some(path) = call.path(0) else { return false };
        path == self.run.runtime || ID_HELPERS.contains(&path) || self.run.programs.contains(&path)
    }

    /// T1, T2.
    fn mounts_and_names(&mut self, call: &Call, process: &Process) {
        if call.name == "mount" || matches!(call.name.as_str(), "umount" | "umount2") && call.path(0) != Some(".") {
            self.find("T1", call);
        }
        let below = |path: &str| path.strip_prefix(self.run.rootfs).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        // What it opened it by may mean something else a moment later.
        if process.has_root && (0..4).filter_map(|n| call.path(n)).any(below) {
            self.find("T2", call);
        }
        let (dir, made) = match call.name.as_str() {
            "mkdirat" | "mknodat" => (0, 1),
            "symlinkat" => (1, 2),
            "openat" if call.has("O_CREAT") => (0, 1),
            "linkat" | "renameat" | "renameat2" => (2, 3),
            _ => return,
        };
        if self.in_root(process, call.number(dir)) && call.path(made).is_none_or(|name| name.contains('/')) {
            self.find("T2", call);
        }
    }

    /// T3, T9.
    fn opens(&mut self, call: &Call, process: &Process) {
        let name = call.name.as_str();
        let rooted = self.in_root(process, call.number(0));
        self.checked.lookups += usize::from(rooted && name == "openat2");
        let path = call.path(1).unwrap_or_default();
        let bounded = call.has("RESOLVE_NO_MAGICLINKS") && (call.has("RESOLVE_IN_ROOT") || call.has("RESOLVE_BENEATH"));
        let single = !path.contains('/') && path != "..";
        let unbounded = match name {
            "openat2" => rooted && !bounded,
            // Our own root, once it is entered, and no way to anything in it but `openat2`; a name in what we have mounted.
            "openat" if process.inside && call.number(0).is_none() => !(matches!(path, "/" | ".") && call.has("O_PATH")),
            "openat" => (rooted || process.inside) && !(single && call.has("O_NOFOLLOW")),
            "newfstatat" | "faccessat2" | "readlinkat" => rooted && !(single || path.is_empty()),
            "open" | "creat" => process.inside || process.has_root,
            _ => false,
        };
        if unbounded {
            self.find("T3", call);
        }
        if !matches!(name, "open" | "creat" | "openat" | "openat2") {
            let changes =
                ["unlinkat", "renameat", "renameat2", "linkat", "truncate", "fchmodat", "fchmodat2", "fchownat", "utimensat"];
            if changes.contains(&name) && rooted {
                self.find("T9", call);
            }
            return;
        }
        let path = if name.starts_with("openat") { path } else { call.path(0).unwrap_or_default() };
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"].iter().any(|flag| call.has(flag));
        // Terminals come from a devpts by its descriptor: of our own, or for `exec` the container's. Below the root are made,
        // exclusively, what mounts go onto; and its null device is opened for a closed stream, without following a link, and
        // checked to be 1:3.
        let creates = call.has("O_CREAT") && call.has("O_EXCL") && call.has("O_NOFOLLOW");
        let null = path == "/dev/null" && call.has("O_NOFOLLOW") && !call.has("O_CREAT") && !call.has("O_TRUNC");
        let terminal = (path.starts_with("/dev/pts/") || path == "/dev/ptmx") && !call.has("O_PATH");
        let of_devpts = path == "ptmx" && call.has("O_NOFOLLOW") && call.number(0).is_some_and(|fd| process.devpts.contains(&fd));
        if terminal || writes && rooted && !(creates || null || of_devpts) {
            self.find("T9", call);
        }
    }

    /// T4.
    fn descriptors(&mut self, call: &Call, process: &Process) {
        let flag = match call.name.as_str() {
            "openat" | "openat2" | "open" => "O_CLOEXEC",
            "open_tree" => "OPEN_TREE_CLOEXEC",
            "fsopen" => "FSOPEN_CLOEXEC",
            "fsmount" => "FSMOUNT_CLOEXEC",
            "fspick" => "FSPICK_CLOEXEC",
            "memfd_create" => "MFD_CLOEXEC",
            "socket" | "socketpair" | "accept4" => "SOCK_CLOEXEC",
            "pipe2" => "O_CLOEXEC",
            "eventfd2" => "EFD_CLOEXEC",
            "signalfd4" => "SFD_CLOEXEC",
            "timerfd_create" => "TFD_CLOEXEC",
            "epoll_create1" => "EPOLL_CLOEXEC",
            "inotify_init1" => "IN_CLOEXEC",
            "recvmsg" if call.has("SCM_RIGHTS") => "MSG_CMSG_CLOEXEC",
            "fcntl" if call.arg(1) == "F_DUPFD" => "F_DUPFD_CLOEXEC",
            "creat" | "dup" | "pipe" | "accept" | "eventfd" | "epoll_create" | "inotify_init" => {
                "that flag, which it cannot have"
            }
            // The three streams are what a program is to have.
            "dup2" | "dup3" if call.number(1).is_some_and(|fd| fd > 2) => "O_CLOEXEC",
            _ => return,
        };
        if !call.has(flag) && !process.executed {
            self.find("T4", call);
        }
    }

    /// T5.
    fn writes(&mut self, call: &Call, process: &Process) {
        let Some(fd) = call.number(0).and_then(|fd| process.fds.get(&fd)) else { return };
        let chain: Vec<&Origin> = fd.origin.chain().collect();
        let Some(first) = chain.last() else { return };
        let own = chain.iter().any(|origin| origin.how == "fsmount" && origin.name == "proc");
        let attached = self.in_root(process, call.number(0)) && chain.iter().any(|origin| origin.name.contains("proc"));
        let host = first.name.starts_with("/proc/") || process.inside && first.name.starts_with("/sys/");
        let of_child = !process.cloned && OF_A_CHILD.contains(&first.name.rsplit('/').next().unwrap_or_default());
        self.checked.writes += usize::from(own);
        if !own && (attached || host && !of_child) {
            self.find("T5", call);
        }
    }

    /// T6, T7.
    fn order(&mut self, call: &Call, process: &Process) {
        let name = call.name.as_str();
        if process.filtered {
            let late = process.no_new_privs || !(GIVING_UP.contains(&name) || name == "prctl" && !call.has("PR_SET_SECCOMP"));
            if late && !AFTER_FILTER.contains(&name) {
                self.find("T6", call);
            }
        }
        if name == "execve" && process.inside {
            let open = process.fds.iter().any(|(fd, held)| *fd > 2 && !held.cloexec);
            if open || process.since_close.as_ref().is_none_or(|made| !made.is_empty()) {
                self.find("T6", call);
            }
        }
        // Into a PID namespace where somebody is: what is cloned is there to be traced from its first instruction.
        if matches!(name, "clone" | "clone3") && process.joins_pids && !process.undumpable {
            self.find("T7", call);
        }
        // In one that is new it is alone until it has processes of its own, or enters what others share.
        let enters = matches!(name, "setns" | "pivot_root" | "fork" | "vfork" | "clone" | "clone3");
        if process.cloned && enters && !process.undumpable && !process.executed {
            self.find("T7", call);
        }
    }
}

/// What a call changes in its process.
fn follow(process: &mut Process, call: &Call) {
    if !call.ok() {
        return;
    }
    match call.name.as_str() {
        "prctl" if call.has("PR_SET_DUMPABLE") => process.undumpable = matches!(call.arg(1), "0" | "SUID_DUMP_DISABLE"),
        "prctl" if call.has("PR_SET_NO_NEW_PRIVS") => process.no_new_privs = true,
        "seccomp" if call.has("SECCOMP_SET_MODE_FILTER") => process.filtered = true,
        "prctl" if call.has("PR_SET_SECCOMP") => process.filtered = true,
        "pivot_root" => process.inside = true,
        "fstatfs" if call.has("DEVPTS_SUPER_MAGIC") => process.devpts.extend(call.number(0)),
        // Back to a namespace of its own, which it has kept open by its name in procfs.
        "setns" if call.has("CLONE_NEWPID") => {
            let own = call.number(0).and_then(|fd| process.fds.get(&fd));
            process.joins_pids = own.is_none_or(|fd| !fd.origin.name.starts_with("/proc/self/ns/"));
            process.inside |= call.has("CLONE_NEWNS");
        }
        "setns" if call.has("CLONE_NEWNS") => process.inside = true,
        "close" => drop(call.number(0).and_then(|fd| process.fds.remove(&fd))),
        "close_range" => close_range(process, call),
        "clone" | "clone3" | "fork" | "vfork" => {
            process.children.extend(call.result);
        }
        "dup2" | "dup3" => {
            if let (Some(from), Some(to)) = (call.number(0), call.number(1))
                && let Some(fd) = process.fds.get(&from).cloned()
            {
                process.fds.insert(to, Fd { cloexec: call.has("O_CLOEXEC"), ..fd });
            }
        }
        _ => {}
    }
    make(process, call);
}

fn close_range(process: &mut Process, call: &Call) {
    let number = |n: usize| call.arg(n).parse::<u32>().unwrap_or(u32::MAX);
    let (first, last) = (number(0), number(1));
    let within = |fd: i32| u32::try_from(fd).is_ok_and(|fd| (first..=last).contains(&fd));
    if call.has("CLOSE_RANGE_CLOEXEC") {
        process.fds.iter_mut().filter(|(fd, _)| within(**fd)).for_each(|(_, held)| held.cloexec = true);
    } else {
        process.fds.retain(|fd, _| !within(*fd));
    }
    // From the first that the program is not to have, to the last that there can be.
    if last > 1 << 20 {
        process.since_close = Some(Vec::new());
    }
}

/// A new descriptor, and where it comes from.
fn make(process: &mut Process, call: &Call) {
    let name = call.name.as_str();
    let from = |n: usize| call.number(n).and_then(|fd| process.fds.get(&fd)).map(|fd| Rc::clone(&fd.origin));
    let (label, base) = match name {
        "openat" | "openat2" if process.inside && call.number(0).is_none() && matches!(call.path(1), Some("/" | ".")) => {
            let origin = Origin { how: "the root inside".into(), name: String::new(), from: None };
            return keep(process, call, origin);
        }
        "openat" | "openat2" | "open_tree" => (call.path(1).unwrap_or_default().to_owned(), from(0)),
        "open" => (call.path(0).unwrap_or_default().to_owned(), None),
        "fsopen" => (call.path(0).unwrap_or_default().to_owned(), None),
        "fsmount" => (from(0).map(|origin| origin.name.clone()).unwrap_or_default(), None),
        "memfd_create" | "socket" | "pidfd_open" | "signalfd4" | "eventfd2" | "timerfd_create" | "accept4" | "pidfd_getfd" => {
            (String::new(), None)
        }
        "fcntl" if call.arg(1).starts_with("F_DUPFD") => (String::new(), from(0)),
        "bpf" if call.has("BPF_PROG_LOAD") => (String::new(), None),
        "socketpair" | "pipe2" => {
            let (first, second) = call.pair(if name == "pipe2" { 0 } else { 3 }).unwrap_or((-1, -1));
            for fd in [first, second] {
                let origin = Rc::new(Origin { how: name.into(), name: String::new(), from: None });
                process.fds.insert(fd, Fd { origin, cloexec: call.has("SOCK_CLOEXEC") || call.has("O_CLOEXEC") });
            }
            return;
        }
        _ => return,
    };
    keep(process, call, Origin { how: name.into(), name: label, from: base });
}

fn keep(process: &mut Process, call: &Call, origin: Origin) {
    let Some(fd) = call.made() else { return };
    process.devpts.remove(&fd);
    let flags = ["O_CLOEXEC", "OPEN_TREE_CLOEXEC", "FSOPEN_CLOEXEC", "FSMOUNT_CLOEXEC", "MFD_CLOEXEC", "SOCK_CLOEXEC"];
    let more = ["SFD_CLOEXEC", "EFD_CLOEXEC", "TFD_CLOEXEC", "F_DUPFD_CLOEXEC"];
    // These two have it always.
    let always = matches!(call.name.as_str(), "pidfd_open" | "pidfd_getfd" | "bpf");
    let cloexec = always || flags.iter().chain(&more).any(|flag| call.has(flag));
    // In place of one that was there when the program began, and closed in a way that is not seen.
    process.fds.insert(fd, Fd { origin: Rc::new(origin), cloexec });
    if let Some(made) = &mut process.since_close {
        made.push(call.text.clone());
    }
}
