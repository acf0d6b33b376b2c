//! A plan in words: a line a step, for `onggi plan`, for golden tests, and for the step's part of an error.

use super::{Action, Filesystem, Idmap, Kept, Mount, Open, Pause, Plan, Remount, Source, Tree, What, namespaces};
use crate::cgroup::Setup;
use crate::config::LinuxIdMapping;
use crate::rdt;
use crate::sys::mount::{Attrs, attr};
use serde::Serialize;
use std::ffi::CString;
use std::fmt::{self, Write as _};

/// One line of a plan.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Line {
    /// Who does it: `parent` or `child`.
    pub who: &'static str,
    /// JSON pointer of the field that asked for it; empty for what every container gets.
    pub field: String,
    /// What is done.
    pub step: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<6} {}", self.who, self.step)?;
        if self.field.is_empty() { Ok(()) } else { write!(f, "  [{}]", self.field) }
    }
}

impl Plan {
    /// All lines, in order.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut add = |who, field: &str, step: String| lines.push(Line { who, field: field.into(), step });
        if let Some(setup) = self.cgroup.as_ref().filter(|setup| setup.unit.is_none()) {
            add("parent", "/linux/cgroupsPath", format!("make cgroup {}", setup.path.display()));
            cgroup_lines(setup, &mut add);
        }
        if let Some(setup) = &self.rdt {
            rdt_lines(setup, &mut add);
        }
        // Unprivileged, the child opens all but the namespaces, where its plan says so.
        let by_child = self.steps.iter().any(|s| matches!(s.action, Action::Opens));
        let at_once = self.opens.iter().filter(|open| !matches!(open.what, What::Inside(_)));
        let (late, early): (Vec<_>, Vec<_>) =
            at_once.partition(|open| by_child && !matches!(open.what, What::Namespace(_) | What::Init | What::Append));
        for open in early {
            add("parent", &open.field, open_words(open));
        }
        for (slot, kind) in &self.namespaces.outer {
            let field = self.opens.get(slot.0).map_or("", |o| &o.field);
            add("parent", field, format!("enter the {} namespace around the clone", namespaces::name(*kind)));
        }
        if let Some(offsets) = &self.namespaces.time {
            let offsets = offsets.trim_end().replace('\n', ", ");
            let words = if offsets.is_empty() { "no offsets".to_string() } else { offsets };
            add("parent", "/linux/timeOffsets", format!("make a time namespace around the clone: {words}"));
        }
        let into = if self.cgroup.as_ref().is_some_and(|setup| setup.unit.is_none()) { ", into the cgroup" } else { "" };
        let kinds = kinds(self.namespaces.clone);
        let memory = if self.lent { ", in the same memory until the program is executed" } else { "" };
        add(
            "parent",
            "/linux/namespaces",
            format!("clone: {}{into}{memory}", if kinds.is_empty() { "no new namespace" } else { &kinds }),
        );
        if self.rdt.is_some() {
            add("parent", "/linux/intelRdt", "put the container's init into the resctrl group".into());
        }
        for step in &self.steps {
            if matches!(step.action, Action::Opens) {
                late.iter().for_each(|open| add("child", &open.field, open_words(open)));
                continue;
            }
            if let Action::Mount(Mount { source: Source::Inside(slot), .. }) = &step.action
                && let Some(open) = self.opens.get(slot.0)
            {
                add("child", &open.field, open_words(open));
            }
            add("child", &step.field, step.action.words());
            // What the parent does while the child waits.
            match (&step.action, &self.namespaces.maps) {
                (Action::Pause(Pause::Placed), _) => {
                    let Some((setup, unit)) = self.cgroup.as_ref().and_then(|s| Some((s, s.unit.as_ref()?))) else { continue };
                    let words = format!("have systemd ({}) move it into {}", unit.instance, setup.path.display());
                    add("parent", &step.field, words);
                    for (name, value) in &unit.properties {
                        add("parent", &step.field, format!("tell systemd {name}={value}"));
                    }
                    cgroup_lines(setup, &mut add);
                }
                (Action::Pause(Pause::Mapped), Some(maps)) => {
                    add("parent", &step.field, format!("write the id maps{}", maps_words(&maps.uids, &maps.gids)));
                }
                (Action::Pause(Pause::Mounted), _) => {
                    for (device, inside) in &self.net_devices {
                        let name = if inside.name.is_empty() { device } else { &inside.name };
                        add(
                            "parent",
                            &format!("/linux/netDevices/{device}"),
                            format!("move network device {device} in as {name}"),
                        );
                    }
                }
                _ => {}
            }
        }
        for step in &self.from_outside {
            lines.push(Line { who: "parent", field: step.field.clone(), step: step.action.words() });
        }
        lines
    }
}

/// What is done to the cgroup once it is there.
fn cgroup_lines(setup: &Setup, add: &mut impl FnMut(&'static str, &str, String)) {
    for w in &setup.writes {
        add("parent", &w.field, format!("write {} to {}", w.value.escape_default(), w.file));
    }
    if let Some(owner) = setup.owner {
        add("parent", "/linux/uidMappings", format!("give the cgroup to user {owner}"));
    }
    if let Some(program) = &setup.devices {
        add("parent", "/linux/resources/devices", format!("attach a device program of {} instructions", program.len()));
    }
}

fn rdt_lines(setup: &rdt::Setup, add: &mut impl FnMut(&'static str, &str, String)) {
    const FIELD: &str = "/linux/intelRdt";
    let group = setup.directory();
    let (what, field) = match setup.group {
        rdt::Group::Own(_) => ("make", FIELD.to_owned()),
        rdt::Group::Shared(_) => ("use, or make,", format!("{FIELD}/closID")),
        rdt::Group::Given(_) | rdt::Group::Default => ("use", format!("{FIELD}/closID")),
    };
    add("parent", &field, format!("{what} resctrl group {}", group.display()));
    let is_new = matches!(setup.group, rdt::Group::Own(_));
    for line in &setup.lines {
        let what = if line.compared && !is_new { "find, or write," } else { "write" };
        add("parent", &line.field, format!("{what} {} in schemata", line.text.escape_default()));
    }
    if let Some(name) = &setup.monitor {
        add("parent", &format!("{FIELD}/enableMonitoring"), format!("make monitoring group {name}"));
    }
}

/// Names of `CLONE_NEW*` bits.
fn kinds(set: u64) -> String {
    let names: Vec<_> = (0..32).map(|b| 1u64 << b).filter(|b| set & b != 0).map(namespaces::name).collect();
    names.join(" ")
}

fn open_words(open: &Open) -> String {
    let path = open.path.to_string_lossy();
    match &open.what {
        What::Namespace(kind) => format!("open {} namespace {path}", namespaces::name(*kind)),
        What::Init => "take the container's init".into(),
        What::Append => format!("open {path} to append to"),
        What::Node(node) => format!("clone the device {path}, or {}", node.by_number.to_string_lossy()),
        What::Null => format!("clone the null device {path}"),
        What::Tree(tree) => format!("clone {}{path}{}", if tree.recursive { "tree " } else { "" }, tree_words(tree)),
        What::Inside(tree) => {
            format!("clone {}{path} of the container{}", if tree.recursive { "tree " } else { "" }, tree_words(tree))
        }
    }
}

fn tree_words(tree: &Tree) -> String {
    let mut out = String::new();
    propagation_words(&mut out, &tree.propagation);
    if let Some(Idmap { recursive, joined, uids, gids }) = &tree.idmap {
        let maps = if joined.is_some() { " as the user namespace".into() } else { maps_words(uids, gids) };
        let _ = write!(out, " {}idmap{maps}", if *recursive { "r" } else { "" });
    }
    attrs_words(&mut out, "r", tree.recursive_attrs);
    attrs_words(&mut out, "", tree.attrs);
    if tree.nofollow {
        out.push_str(" nofollow");
    }
    if tree.copy_symlink {
        out.push_str(" copy-symlink");
    }
    out
}

fn maps_words(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> String {
    let lines = uids.iter().map(|m| ('u', m)).chain(gids.iter().map(|m| ('g', m)));
    lines.map(|(kind, m)| format!(" {kind}{}:{}+{}", m.container_id(), m.host_id(), m.size())).collect()
}

fn propagation(kind: u64) -> &'static str {
    match kind {
        libc::MS_SHARED => "shared",
        libc::MS_SLAVE => "slave",
        libc::MS_PRIVATE => "private",
        _ => "unbindable",
    }
}

fn propagation_words(out: &mut String, changes: &[(u64, bool)]) {
    for &(kind, recursive) in changes {
        let _ = write!(out, " {}{}", if recursive { "r" } else { "" }, propagation(kind));
    }
}

fn parameters_words(out: &mut String, parameters: &[(CString, Option<CString>)]) {
    for (key, value) in parameters {
        let _ = write!(out, " {}", key.to_string_lossy());
        if let Some(value) = value {
            let _ = write!(out, "={}", value.to_string_lossy());
        }
    }
}

fn attrs_words(out: &mut String, prefix: &str, attrs: Attrs) {
    const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
    for (bit, on, off) in [
        (attr::RDONLY, "ro", "rw"),
        (attr::NOSUID, "nosuid", "suid"),
        (attr::NODEV, "nodev", "dev"),
        (attr::NOEXEC, "noexec", "exec"),
        (libc::MOUNT_ATTR_NODIRATIME, "nodiratime", "diratime"),
        (libc::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow", "symfollow"),
    ] {
        if attrs.set & bit != 0 {
            let _ = write!(out, " {prefix}{on}");
        } else if attrs.clear & bit != 0 {
            let _ = write!(out, " {prefix}{off}");
        }
    }
    if (attrs.set | attrs.clear) & ATIME != 0 {
        let mode = match attrs.set & ATIME {
            libc::MOUNT_ATTR_NOATIME => "noatime",
            libc::MOUNT_ATTR_STRICTATIME => "strictatime",
            _ => "relatime",
        };
        let _ = write!(out, " {prefix}{mode}");
    }
}

fn mount_words(m: &Mount) -> String {
    let target = m.target.to_string_lossy();
    match &m.source {
        Source::Tree(_) | Source::Inside(_) => format!("attach on {target}{}", if m.nofollow { " nofollow" } else { "" }),
        Source::Filesystem(fs) => {
            let label = m.label.iter().map(|label| format!(" labelled {}", label.to_string_lossy())).collect::<String>();
            let kept = if m.kept == Some(Kept::Procfs) { ", kept for sysctls" } else { "" };
            format!("mount {}{}{label}{kept}", fs.kind.to_string_lossy(), filesystem_words(fs, &target))
        }
        Source::Remount(Remount { attrs, recursive_attrs, propagation, parameters }) => {
            let mut out = format!("remount {target}");
            attrs_words(&mut out, "r", *recursive_attrs);
            attrs_words(&mut out, "", *attrs);
            parameters_words(&mut out, parameters);
            propagation_words(&mut out, propagation);
            out
        }
    }
}

fn filesystem_words(fs: &Filesystem, target: &str) -> String {
    let mut out = format!(" on {target}");
    attrs_words(&mut out, "", Attrs { set: fs.attrs, ..Attrs::default() });
    parameters_words(&mut out, &fs.parameters);
    propagation_words(&mut out, &fs.propagation);
    if fs.copy_up {
        out.push_str(" tmpcopyup");
    }
    if let Some((path, _)) = &fs.otherwise {
        out.push_str(&format!(", or the host's {}", path.to_string_lossy()));
    }
    out
}

impl Action {
    /// What the step does, in a few words.
    pub fn words(&self) -> String {
        match self {
            Self::Signals(ignored) => format!("default signals {ignored:?}"),
            Self::Undumpable => "become undumpable".into(),
            Self::Join(_, kind) if kind.is_power_of_two() => format!("enter the {} namespace", namespaces::name(*kind)),
            Self::Join(_, set) => format!("enter the container's namespaces: {}", kinds(*set)),
            Self::Fork(0) => "fork".into(),
            Self::Fork(set) => format!("fork into new namespaces: {}", kinds(*set)),
            Self::Unshare(set) => format!("make new namespaces: {}", kinds(*set)),
            Self::Pause(Pause::Placed) => "wait for the cgroup".into(),
            Self::Pause(Pause::Mapped) => "wait for the id maps".into(),
            Self::Pause(Pause::Mounted) => "wait for the runtime".into(),
            Self::Pause(Pause::Filtered) => "wait for the seccomp filter".into(),
            Self::Pause(Pause::Created) => "say ready".into(),
            Self::Pause(Pause::Cleared) => "wait for leave".into(),
            Self::RuntimeLives => "go on unless the runtime is gone".into(),
            Self::Identity { uid, gid } => format!("become {uid}:{gid} of the user namespace"),
            Self::NewSession => "start a session".into(),
            Self::Keyring(name) => format!("join session keyring {}", name.to_string_lossy()),
            Self::OpenProc => "mount a private procfs".into(),
            Self::OomScoreAdj(score) => format!("set oom_score_adj {}", score.to_string_lossy()),
            Self::WriteProc { path, value } => {
                format!("write {} to /proc/{}", value.to_string_lossy().escape_default(), path.to_string_lossy())
            }
            // In quotes as Podman looks for them: it tells errors of labels from others so.
            Self::KeyLabel(label) => format!("write SELinux label {} to `/proc/self/attr/keycreate`", label.to_string_lossy()),
            Self::ExecProfile { profile, .. } => {
                format!("write AppArmor profile {} to `/proc/self/attr/apparmor/exec`", profile.to_string_lossy())
            }
            Self::ExecLabel(label) => format!("write SELinux label {} to `/proc/self/attr/exec`", label.to_string_lossy()),
            Self::Loopback => "bring lo up".into(),
            Self::Propagation(attrs) => format!("make / r{}", propagation(attrs.propagation)),
            Self::PrivateParent(path) => format!("make the mount of {} private", path.to_string_lossy()),
            Self::Opens => "clone mounts".into(),
            Self::Root { path, private } => {
                format!("hold the rootfs {}{}", path.to_string_lossy(), if *private { ", private" } else { "" })
            }
            Self::Mount(m) => mount_words(m),
            Self::Device(d) => {
                let (major, minor) = (libc::major(d.dev), libc::minor(d.dev));
                let how = if d.host.is_some() { "bind" } else { "make" };
                let kind = match d.mode & libc::S_IFMT {
                    libc::S_IFBLK => 'b',
                    libc::S_IFIFO => 'p',
                    _ => 'c',
                };
                let (path, mode, uid, gid) = (d.path.to_string_lossy(), d.mode & 0o7777, d.uid, d.gid);
                format!("{how} device {path} {kind} {major}:{minor} mode {mode:04o} owner {uid}:{gid}")
            }
            Self::Symlink { path, target, .. } => format!("link {} -> {}", path.to_string_lossy(), target.to_string_lossy()),
            Self::Inside { devpts: false } => "hold the container's root".into(),
            Self::Inside { devpts: true } => "hold the container's root and devpts".into(),
            Self::Console { rows, columns, .. } => format!("open a terminal of {rows} rows, {columns} columns"),
            Self::Hooks(hooks) => format!("run {} hooks in the container", hooks.len()),
            Self::NullStreams => "take the container's null device for stdio".into(),
            Self::Pivot { .. } => "pivot to the rootfs".into(),
            Self::MoveRoot => "move the rootfs to /".into(),
            Self::Unexpose(path) => format!("take away the host's {}", path.to_string_lossy()),
            Self::RootPropagation(attrs, recursive) => {
                format!("make the rootfs {}{}", if *recursive { "r" } else { "" }, propagation(attrs.propagation))
            }
            Self::ReadonlyRoot => "make the rootfs read-only".into(),
            Self::Mask { path, label: None } => format!("mask {}", path.to_string_lossy()),
            Self::Mask { path, label: Some((key, label)) } => {
                format!("mask {} {}={}", path.to_string_lossy(), key.to_string_lossy(), label.to_string_lossy())
            }
            Self::Readonly(path) => format!("make {} read-only", path.to_string_lossy()),
            Self::Hostname(name) => format!("set hostname {}", name.to_string_lossy()),
            Self::Domainname(name) => format!("set domainname {}", name.to_string_lossy()),
            Self::Umask(mask) => format!("set umask {mask:04o}"),
            Self::Rlimit { resource, soft, hard } => {
                format!("set {} to {soft}:{hard}", crate::config::values::rlimit_name(*resource))
            }
            Self::Scheduler(a) => format!("set scheduling policy {} nice {} priority {}", a.policy, a.nice, a.priority),
            Self::Affinity(cpus) if cpus.iter().all(|w| *w == u64::MAX) => "run on all CPUs of the cpuset".into(),
            Self::Affinity(cpus) => format!("run on the CPUs {cpus:x?}"),
            Self::IoPriority(value) => format!("set I/O priority class {} level {}", value >> 13, value & 0x1fff),
            Self::Personality(persona) => format!("set personality {persona:#x}"),
            Self::MemoryPolicy { mode, nodes } => format!("set memory policy {mode:#x} nodes {nodes:x?}"),
            Self::MakeWorkingDirectory(path) => format!("make working directory {}", path.to_string_lossy()),
            Self::WorkingDirectory { path, last } => {
                format!("enter {}{}", path.to_string_lossy(), if *last { ", as the user" } else { "" })
            }
            Self::NoNewPrivileges => "set no_new_privs".into(),
            Self::Home { uid, .. } => format!("look up the home directory of {uid}"),
            Self::StdioOwner { uid, gid } => format!("give stdio to {uid}:{gid}"),
            Self::Bounding(set) => format!("bounding set {set:#x}"),
            Self::Groups(groups) => format!("set groups {groups:?}"),
            Self::User { uid, gid, .. } => format!("become {uid}:{gid}"),
            Self::Capabilities { caps, ambient, .. } => format!(
                "capabilities effective {:#x} permitted {:#x} inheritable {:#x} ambient {ambient:#x}",
                caps.effective, caps.permitted, caps.inheritable
            ),
            Self::OpenAccount => "open the kernel's account of this process".into(),
            Self::ReadBack(_) => "read back what was set".into(),
            Self::Program { name, candidates } if candidates.is_empty() => format!("find {}", name.to_string_lossy()),
            Self::Program { candidates, .. } => {
                let list: Vec<_> = candidates.iter().map(|c| c.to_string_lossy()).collect();
                format!("find {}", list.join(" or "))
            }
            Self::Seccomp { filter: Some(filter), .. } => {
                format!("load a seccomp filter of {} instructions", filter.program.len())
            }
            Self::Seccomp { filter: None, .. } => "load the seccomp filter".into(),
            Self::Release(first, _) => format!("close descriptors from {first}"),
            Self::Start => "wait for start".into(),
            Self::Exec => "execute the program".into(),
        }
    }
}
