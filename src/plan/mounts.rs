//! `mounts` -> steps: what each entry mounts, with which attributes, opened where.

use super::labels;
use super::namespaces::Namespaces;
use super::{Action, Filesystem, Idmap, Kept, Mount, Open, Remount, Slot, Source, Step, Tree, What, c_string};
use crate::config::options::{self, MountOptions};
use crate::config::{LinuxIdMapping, Spec, clean};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::sys::clone::flags;
use crate::sys::mount::{Attrs, attr};
use std::ffi::CString;
use std::path::Path;

/// File systems without storage of their own: a read-only mount is all there is to say, the superblock need not know.
const PSEUDO: [&str; 8] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2", "ramfs", "debugfs"];

/// File systems that take no `linux.mountLabel`: the policy alone labels what the kernel shows there, and the cgroup hierarchy
/// is one for all. The root of a mqueue gets it as an attribute.
const UNLABELLED: [&str; 4] = ["proc", "sysfs", "cgroup2", "mqueue"];

/// Propagation of `linux.rootfsPropagation`, and whether it is recursive; the default is rslave, as in runc: mounts of the
/// host appear, mounts of the container stay inside.
pub fn root_propagation(word: &str) -> (u64, bool) {
    match word {
        "shared" => (libc::MS_SHARED, false),
        "rshared" => (libc::MS_SHARED, true),
        "slave" => (libc::MS_SLAVE, false),
        "private" => (libc::MS_PRIVATE, false),
        "rprivate" => (libc::MS_PRIVATE, true),
        "unbindable" => (libc::MS_UNBINDABLE, false),
        "runbindable" => (libc::MS_UNBINDABLE, true),
        _ => (libc::MS_SLAVE, true),
    }
}

/// What mounts are planned from.
pub struct Context<'a> {
    /// `config.json`.
    pub spec: &'a Spec,
    /// Its directory, absolute.
    pub bundle: &'a Path,
    /// The machine.
    pub host: &'a Host,
    /// Namespaces, planned before.
    pub namespaces: &'a Namespaces,
    /// The notify socket is mounted after all others.
    pub notifies: bool,
}

/// Appends a step for each of `mounts`. Returns those for when everything has been made: they make read-only what had to be
/// written before.
pub fn plan(context: &Context<'_>, opens: &mut Vec<Open>, steps: &mut Vec<Step>) -> Result<Vec<Step>> {
    let label = labels::of_mounts(context.spec, context.host)?;
    let mut late = Vec::new();
    for (n, m) in context.spec.mounts.iter().enumerate() {
        let field = format!("/mounts/{n}");
        let asked =
            options::parse(m.options().as_deref().unwrap_or_default()).map_err(|e| e.under(&format!("{field}/options")))?;
        let target = clean(&m.destination().to_string_lossy());
        let kind = m.typ().as_deref().unwrap_or_default();
        let before = context.spec.mounts.get(..n).unwrap_or_default();
        let entry = Entry { context, m, before, asked: &asked, field: &field, kind, target: &target, label: label.as_ref() };
        let mut source = entry.source(opens)?;
        if let Source::Filesystem(new) = &mut source
            && new.attrs & attr::RDONLY != 0
            && entry.is_written_later(n)
        {
            new.attrs &= !attr::RDONLY;
            let attrs = Attrs { set: attr::RDONLY, ..Attrs::default() };
            let changes = Remount { attrs, ..Remount::default() };
            late.push(Step { field: field.clone(), action: Action::Mount(entry.mount(Source::Remount(changes))?) });
        }
        let action = Action::Mount(entry.mount(source)?);
        steps.push(Step { field, action });
    }
    Ok(late)
}

/// Has the procfs among these steps keep its descriptor, for sysctls to be written through it: one that is new, whole and
/// writable, and on which nothing else is mounted. Whether there is one. It spares another procfs, which would be of use for
/// nothing else, and the end of which the kernel takes some 70 microseconds for.
pub fn keep_procfs(steps: &mut [Step]) -> bool {
    let mounts =
        || steps.iter().enumerate().filter_map(|(n, s)| if let Action::Mount(m) = &s.action { Some((n, m)) } else { None });
    let is_plain = |m: &Mount| match &m.source {
        Source::Filesystem(new) => {
            let whole = new.parameters.iter().all(|(key, _)| key.as_c_str() == c"source");
            new.kind.as_c_str() == c"proc" && whole && new.attrs & attr::RDONLY == 0 && new.otherwise.is_none()
        }
        _ => false,
    };
    let Some((found, procfs)) = mounts().find(|(_, m)| is_plain(m)) else { return false };
    let target = procfs.target.to_string_lossy();
    let covers = |path: &str| path == target || is_below(path, &target);
    if mounts().any(|(n, m)| n > found && covers(&m.target.to_string_lossy())) {
        return false;
    }
    if let Some(Step { action: Action::Mount(m), .. }) = steps.get_mut(found) {
        m.kept = Some(Kept::Procfs);
    }
    true
}

/// Whether `path` is strictly below the directory, both clean.
fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory.trim_end_matches('/')).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

/// Who is to own the container's cgroup on the host: the user that is root inside, if the container has a user and a cgroup
/// namespace of its own and a writable mount of the cgroup.
pub fn cgroup_owner(context: &Context<'_>) -> Option<u32> {
    let own = context.namespaces.has(flags::NEWUSER) && context.namespaces.has(flags::NEWCGROUP);
    let writable = context.spec.mounts.iter().any(|m| {
        matches!(m.typ().as_deref(), Some("cgroup" | "cgroup2"))
            && !m.options().as_ref().is_some_and(|o| o.iter().any(|word| word == "ro"))
    });
    let root = context.spec.linux.uid_mappings.iter().find(|map| map.container_id() == 0);
    root.filter(|_| own && writable).map(|map| map.host_id())
}

struct Entry<'a> {
    context: &'a Context<'a>,
    m: &'a crate::config::Mount,
    /// The entries before this one.
    before: &'a [crate::config::Mount],
    asked: &'a MountOptions,
    field: &'a str,
    kind: &'a str,
    target: &'a str,
    label: Option<&'a (CString, CString)>,
}

impl Entry<'_> {
    fn mount(&self, source: Source) -> Result<Mount> {
        // Without an IPC namespace it is the host's, whose label is not the container's to change.
        let is_mqueue =
            self.kind == "mqueue" && matches!(source, Source::Filesystem(_)) && self.context.namespaces.has(flags::NEWIPC);
        Ok(Mount {
            source,
            label: self.label.filter(|_| is_mqueue).map(|(_, label)| label.clone()),
            strict: matches!(self.kind, "proc" | "sysfs") && !self.asked.bind,
            may_cover_proc: self.target == "/proc" || crate::config::check::may_lie_in_proc(self.target),
            nofollow: self.asked.dest_nofollow,
            kept: (self.kind == "devpts" && self.target == "/dev/pts").then_some(Kept::Devpts),
            target: c_string(self.target, &format!("{}/destination", self.field))?,
        })
    }

    /// Whether this is an empty file system in which mount points, devices or the working directory may still have to be
    /// made, and which no entry after this, the `n`th, hides.
    fn is_written_later(&self, n: usize) -> bool {
        let spec = self.context.spec;
        let after = || spec.mounts.iter().skip(n + 1).map(|m| clean(&m.destination().to_string_lossy()));
        let hidden = after().any(|target| target == self.target || is_below(self.target, &target));
        let devices = spec.linux.devices.iter().map(|device| clean(&device.path));
        let cwd = spec.process.iter().map(|process| clean(&process.cwd));
        let notify = self.context.notifies.then(|| super::notify::TARGET.to_owned());
        let mut made = after().chain(devices).chain(cwd).chain(["/dev/null".to_owned()]).chain(notify);
        matches!(self.kind, "tmpfs" | "ramfs") && !hidden && made.any(|path| is_below(&path, self.target))
    }

    fn source(&self, opens: &mut Vec<Open>) -> Result<Source> {
        let asked = self.asked;
        // An entry with nothing but propagation changes the mount that is there, as in mount(8).
        if asked.remount || (!asked.bind && self.kind.is_empty() && !asked.propagation.is_empty()) {
            return self.remount();
        }
        if asked.bind || self.kind == "bind" {
            let source = self.m.source().as_deref().unwrap_or(Path::new(""));
            if source.as_os_str().is_empty() {
                return Err(Error::new("bind mount", "has no source").at(format!("{}/source", self.field)));
            }
            let path = self.context.bundle.join(source);
            let below = Attrs { set: asked.rec_set, clear: asked.rec_clr, propagation: 0 };
            return match self.shown_inside(&path) {
                Some(inside) => {
                    let tree = self.clone_of(asked.rbind, below)?;
                    if tree.idmap.is_some() && self.context.namespaces.has(flags::NEWUSER) {
                        let cause = "the container's user namespace may not map it, and outside it cannot be seen";
                        return Err(Error::new("idmapped mount of what is mounted in the container", cause).at(self.field));
                    }
                    let slot = Slot(opens.len());
                    opens.push(self.open(&inside, What::Inside(tree))?);
                    Ok(Source::Inside(slot))
                }
                None => self.tree(&path, asked.rbind, below, opens),
            };
        }
        let namespaces = self.context.namespaces;
        // A file system that shows a namespace is mounted by whoever owns that: not from a user namespace that was made
        // after it. The host's takes its place.
        let foreign = |kind: u64| {
            let made = namespaces.new & kind != 0 || namespaces.has(kind) && namespaces.new & flags::NEWUSER == 0;
            namespaces.has(flags::NEWUSER) && !made
        };
        match self.kind {
            "" => Err(Error::new(format!("mount on {}", self.target), "has neither a type nor the option bind")
                .at(format!("{}/type", self.field))),
            "cgroup" | "cgroup2" if namespaces.has(flags::NEWCGROUP) && !foreign(flags::NEWCGROUP) => self.filesystem("cgroup2"),
            "cgroup" | "cgroup2" => {
                // A new mount made in the host's cgroup namespace would set the options of the whole hierarchy anew
                // (nsdelegate, memory_recursiveprot): the host's own mount is shown instead.
                let Some(hierarchy) = &self.context.host.hierarchy else {
                    return Err(Error::new("mount cgroup2", "no cgroup2 is mounted on this host").at(self.field));
                };
                self.tree(&hierarchy.mount, false, Attrs::default(), opens)
            }
            // All that is mounted below it is to be no more than was asked for.
            "sysfs" if foreign(flags::NEWNET) => {
                let attrs = Attrs { set: self.asked.attr_set | attr::RDONLY, ..Attrs::default() };
                self.tree(Path::new("/sys"), true, attrs, opens)
            }
            "proc" if namespaces.has(flags::NEWUSER) && !namespaces.has(flags::NEWPID) => {
                self.tree(Path::new("/proc"), true, self.attrs(), opens)
            }
            "mqueue" if namespaces.has(flags::NEWUSER) && !namespaces.has(flags::NEWIPC) => {
                self.tree(Path::new("/dev/mqueue"), false, Attrs::default(), opens)
            }
            kind => self.filesystem(kind),
        }
    }

    fn attrs(&self) -> Attrs {
        Attrs { set: self.asked.attr_set, clear: self.asked.attr_clr, propagation: 0 }
    }

    /// Changes of the mount that is there.
    fn remount(&self) -> Result<Source> {
        let asked = self.asked;
        let recursive_attrs = Attrs { set: asked.rec_set, clear: asked.rec_clr, propagation: 0 };
        // `bind` is how mount(8) says that the file system itself is not meant.
        let parameters = if asked.bind { Vec::new() } else { self.parameters()? };
        Ok(Source::Remount(Remount { attrs: self.attrs(), recursive_attrs, propagation: asked.propagation.clone(), parameters }))
    }

    /// Flags and data of the file system.
    fn parameters(&self) -> Result<Vec<(CString, Option<CString>)>> {
        let at = format!("{}/options", self.field);
        let flags = self.asked.sb_flags.iter().map(|flag| Ok((c_string(flag, &at)?, None)));
        let data = self.asked.data.iter().map(|data| match data.split_once('=') {
            // The quotes that mount(8) wants around commas are not part of a label.
            Some((key, value)) if labels::CONTEXTS.contains(&key) => {
                Ok((c_string(key, &at)?, Some(c_string(value.trim_matches('"'), &at)?)))
            }
            Some((key, value)) => Ok((c_string(key, &at)?, Some(c_string(value, &at)?))),
            None => Ok((c_string(data, &at)?, None)),
        });
        flags.chain(data).collect()
    }

    /// Where a source lies inside the root, if it is to show what an entry before this one has mounted there. A source is the
    /// host's otherwise, and opened while nothing of the container's can be in the way.
    fn shown_inside(&self, source: &Path) -> Option<String> {
        let inside = self.context.spec.inside_root(self.context.bundle, source)?;
        let mut targets = self.before.iter().map(|m| clean(&m.destination().to_string_lossy()));
        let shows =
            |target: String| target == inside || is_below(&inside, &target) || self.asked.rbind && is_below(&target, &inside);
        (!self.asked.copy_symlink && targets.any(shows)).then_some(inside)
    }

    /// A clone of a host tree.
    fn tree(&self, path: &Path, recursive: bool, below: Attrs, opens: &mut Vec<Open>) -> Result<Source> {
        let slot = Slot(opens.len());
        opens.push(self.open(&path.to_string_lossy(), What::Tree(self.clone_of(recursive, below)?))?);
        Ok(Source::Tree(slot))
    }

    fn open(&self, path: &str, what: What) -> Result<Open> {
        let field = format!("{}/source", self.field);
        Ok(Open { path: c_string(path, &field)?, field, what })
    }

    fn clone_of(&self, recursive: bool, below: Attrs) -> Result<Tree> {
        let asked = self.asked;
        let base = root_propagation(&self.context.spec.linux.rootfs_propagation);
        let mut propagation = asked.propagation.clone();
        let severed = propagation.first().is_some_and(|&(kind, all)| all && kind == libc::MS_PRIVATE);
        // A clone is a peer of what it was cloned from: what the container mounts there would show on the host.
        if !severed && base.0 != libc::MS_SHARED {
            let kind = if base.0 == libc::MS_UNBINDABLE { libc::MS_PRIVATE } else { base.0 };
            propagation.insert(0, (kind, true));
        }
        Ok(Tree {
            recursive,
            nofollow: asked.src_nofollow,
            copy_symlink: asked.copy_symlink,
            must_be_proc: self.target == "/proc",
            attrs: self.attrs(),
            recursive_attrs: below,
            propagation,
            idmap: self.idmap()?,
        })
    }

    /// The mapping of an idmapped mount: the entry's own, the option's, or the container's.
    fn idmap(&self) -> Result<Option<Idmap>> {
        let uids = self.m.uid_mappings().clone().unwrap_or_default();
        let gids = self.m.gid_mappings().clone().unwrap_or_default();
        let linux = &self.context.spec.linux;
        let idmap = match &self.asked.idmap {
            options::Idmap::None if uids.is_empty() && gids.is_empty() => return Ok(None),
            options::Idmap::None => Idmap { recursive: false, joined: None, uids, gids },
            options::Idmap::Container { recursive } if uids.is_empty() && gids.is_empty() => {
                let (uids, gids) = (linux.uid_mappings.clone(), linux.gid_mappings.clone());
                let joined = self.context.namespaces.joined_user.filter(|_| uids.is_empty() && gids.is_empty());
                Idmap { recursive: *recursive, joined, uids, gids }
            }
            options::Idmap::Container { recursive } => Idmap { recursive: *recursive, joined: None, uids, gids },
            options::Idmap::Mapped { uids, gids, recursive } => {
                let resolve = |list: &[options::IdRange], container: &[LinuxIdMapping]| {
                    list.iter().map(|r| r.mapping(container)).collect::<Result<Vec<_>>>()
                };
                let at = |e: Error| e.at(format!("{}/options", self.field));
                Idmap {
                    recursive: *recursive,
                    joined: None,
                    uids: resolve(uids, &linux.uid_mappings).map_err(at)?,
                    gids: resolve(gids, &linux.gid_mappings).map_err(at)?,
                }
            }
        };
        if idmap.joined.is_none() && (idmap.uids.is_empty() || idmap.gids.is_empty()) {
            return Err(Error::new("idmapped mount", "has no id mappings, and neither has the container").at(self.field));
        }
        Ok(Some(idmap))
    }

    /// A new file system.
    fn filesystem(&self, kind: &str) -> Result<Source> {
        let asked = self.asked;
        let mut parameters: Vec<(CString, Option<CString>)> = Vec::new();
        let source = self.m.source().as_deref().unwrap_or(Path::new("")).to_string_lossy();
        if !source.is_empty() {
            parameters.push((c"source".into(), Some(c_string(&source, &format!("{}/source", self.field))?)));
        }
        if asked.attr_set & attr::RDONLY != 0 && !PSEUDO.contains(&kind) {
            parameters.push((c"ro".into(), None));
        }
        parameters.extend(self.parameters()?);
        self.check_owners()?;
        let is_labelled = || asked.data.iter().any(|d| d.split_once('=').is_some_and(|(key, _)| labels::CONTEXTS.contains(&key)));
        if let Some((key, label)) = self.label.filter(|_| !UNLABELLED.contains(&kind) && !is_labelled()) {
            parameters.push((key.clone(), Some(label.clone())));
        }
        let has_mode = asked.data.iter().any(|d| d.starts_with("mode="));
        Ok(Source::Filesystem(Filesystem {
            kind: c_string(kind, &format!("{}/type", self.field))?,
            parameters,
            // A new mount has the kernel's default of relatime; strictatime clears it, which fsmount takes as given.
            attrs: combined(asked),
            // It is private already, and stays so below a root that is not shared.
            propagation: asked.propagation.iter().copied().filter(|&(kind, _)| kind != libc::MS_PRIVATE).collect(),
            inherit_mode: kind == "tmpfs" && !has_mode,
            copy_up: asked.tmpcopyup,
            otherwise: self.otherwise(kind)?,
        }))
    }

    /// What a user namespace gets instead of a file system that it may not mount: for it belongs to a namespace of somebody
    /// else's, which only the kernel knows where the runtime itself is in a user namespace, or parts of the one that can be
    /// seen are covered (`mount_too_revealing` of the kernel).
    fn otherwise(&self, kind: &str) -> Result<Option<(CString, u64)>> {
        let namespaces = self.context.namespaces;
        if !self.context.host.nested && !namespaces.has(flags::NEWUSER) {
            return Ok(None);
        }
        let attrs = combined(self.asked);
        Ok(match (kind, &self.context.host.hierarchy) {
            ("sysfs", _) => Some((c"/sys".into(), attrs | attr::RDONLY)),
            ("cgroup2", Some(hierarchy)) => Some((c_string(&hierarchy.mount.to_string_lossy(), self.field)?, attrs)),
            // Another PID or IPC namespace shows other things.
            ("proc", _) if !namespaces.has(flags::NEWPID) => Some((c"/proc".into(), attrs)),
            ("mqueue", _) if !namespaces.has(flags::NEWIPC) => Some((c"/dev/mqueue".into(), attrs)),
            _ => None,
        })
    }

    /// Owners that the new user namespace does not know are EINVAL to the kernel; the words are runc's.
    fn check_owners(&self) -> Result<()> {
        if self.context.namespaces.new & flags::NEWUSER == 0 {
            return Ok(());
        }
        let linux = &self.context.spec.linux;
        for option in &self.asked.data {
            let (maps, id) = match option.split_once('=') {
                Some(("uid", id)) => (&linux.uid_mappings, id),
                Some(("gid", id)) => (&linux.gid_mappings, id),
                _ => continue,
            };
            let Ok(id) = id.parse::<u32>() else { continue };
            let mapped = |m: &LinuxIdMapping| id.checked_sub(m.container_id()).is_some_and(|offset| offset < m.size());
            if !maps.iter().any(mapped) {
                let words = format!("cannot specify {option} mount option for rootless container");
                return Err(Error::new(format!("mount {} on {}", self.kind, self.target), words)
                    .at(format!("{}/options", self.field))
                    .hint(format!("{id} is not mapped in the container's user namespace: leave the option out, or map it")));
            }
        }
        Ok(())
    }
}

/// The attributes of a new mount, which has nothing below: `r*` words mean the same as the plain ones and come after them.
fn combined(asked: &MountOptions) -> u64 {
    let mut attrs = asked.attr_set & !asked.rec_clr;
    if (asked.rec_set | asked.rec_clr) & libc::MOUNT_ATTR__ATIME != 0 {
        attrs &= !libc::MOUNT_ATTR__ATIME;
    }
    attrs | asked.rec_set
}
