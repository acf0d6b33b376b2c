//! Making a container's cgroup: the directories down to it, and the controllers handed down to it.

use super::{Cgroup, DIRECTORY, Hierarchy, files, life, limits, open_beneath};
use crate::error::{Context, Error, Result};
use crate::sys::open::{open, openat};
use limits::Write;
use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

impl Cgroup {
    /// Makes the cgroup at `below` the mount, or takes one that is there and empty, with the controllers that `writes` need.
    ///
    /// Refuses one that holds processes or is frozen. On failure what was made is removed again. Parents that are made
    /// stay when the cgroup is removed later, as with runc: others may have come to use them.
    pub fn create(hierarchy: &Hierarchy, below: &Path, writes: &[Write]) -> Result<Self> {
        let path = hierarchy.mount.join(below);
        let step = || format!("make the cgroup {}", path.display());
        let (Some(parent_path), Some(name)) = (below.parent(), below.file_name()) else {
            return Err(Error::new(step(), "it has no name").at("/linux/cgroupsPath"));
        };
        let mount = open(&hierarchy.mount, DIRECTORY, Mode::empty()).step("open", step)?;
        if fstatfs(&mount).step("fstatfs", step)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
            return Err(Error::new(step(), format!("{} is not a cgroup2 mount", hierarchy.mount.display())));
        }
        let place = Place { hierarchy, mount: &mount };
        let mut made = Made { mount: &mount, paths: Vec::new() };

        let opened;
        let parent = if parent_path.as_os_str().is_empty() {
            &mount
        } else {
            opened = match open_beneath(&mount, parent_path) {
                Err(Errno::ENOENT) => place.make_parents(parent_path, &mut made)?,
                other => other.step("openat2", || format!("open the cgroup {}", place.shown(parent_path)))?,
            };
            &opened
        };
        place.hand_down(parent_path, writes, true)?;
        let fresh = match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(e) => return Err(place.refused_mkdir(below, e)),
        };
        if fresh {
            made.paths.push(below.to_owned());
        }
        let dir = openat(parent, name, DIRECTORY, Mode::empty()).step("openat", step)?;
        let cgroup = Self { path: path.clone(), dir, fresh };
        cgroup.check_free(&place, below)?;
        made.paths.clear();
        Ok(cgroup)
    }

    /// Hands the controllers that `writes` need down to the cgroup at `below` the mount, which is there already.
    pub fn hand_down_to(hierarchy: &Hierarchy, below: &Path, writes: &[Write]) -> Result<()> {
        let Some(parent) = below.parent() else { return Ok(()) };
        let step = || format!("open {}", hierarchy.mount.display());
        let mount = open(&hierarchy.mount, DIRECTORY, Mode::empty()).step("open", step)?;
        Place { hierarchy, mount: &mount }.hand_down(parent, writes, false)
    }

    /// Nobody in it, and not frozen: a process cloned into a frozen cgroup would never run, and its parent would wait.
    fn check_free(&self, place: &Place<'_>, below: &Path) -> Result<()> {
        let events = files::read(&self.dir, "cgroup.events").step("read", || self.file("read", "cgroup.events"))?;
        if files::keyed(&events, "populated") == Some(1) {
            let members = life::members(&self.dir).step("read", || self.file("read", "cgroup.procs"))?;
            return Err(Error::exact(format!("container's cgroup is not empty: {} process(es) found", members.len()))
                .at("/linux/cgroupsPath")
                .hint(self.path.display().to_string()));
        }
        if files::keyed(&events, "frozen") == Some(1) {
            let by = place.first_above(below, |dir| {
                files::read(dir, "cgroup.freeze").is_ok_and(|t| t.trim() == "1").then(|| "it has cgroup.freeze 1".into())
            });
            let error =
                Error::new("enter the cgroup", format!("container's cgroup unexpectedly frozen: {}", self.path.display()));
            let error = error.at("/linux/cgroupsPath");
            return Err(match by {
                Some((path, words)) => error.hint(format!("{path}: {words}")),
                None => error,
            });
        }
        Ok(())
    }

    /// Makes it threaded (cgroups(7), "Thread mode"), the one way to take processes in below a cgroup that has some of its
    /// own and hands down controllers that allow this: cpu, cpuset, pids. Whether that was in the way.
    pub fn become_threaded(&self) -> bool {
        let invalid = files::read(&self.dir, "cgroup.type").is_ok_and(|t| t.trim() == "domain invalid");
        invalid && files::write(&self.dir, "cgroup.type", "threaded").is_ok()
    }

    /// Words a refusal to take a process in: EBUSY, EOPNOTSUPP and kin of `clone3` with `CLONE_INTO_CGROUP` or of a write
    /// to `cgroup.procs`. Looks at the cgroup for the reason; nothing is looked at when all goes well.
    pub fn refused_entry(&self, syscall: &'static str, errno: Errno) -> Error {
        let error = Error::sys(format!("enter the cgroup {}", self.path.display()), syscall, errno.into());
        let error = error.at("/linux/cgroupsPath");
        let read = |name| files::read(&self.dir, name).unwrap_or_default().trim().to_owned();
        match errno {
            Errno::EBUSY => {
                let on = read("cgroup.subtree_control");
                if on.is_empty() {
                    error
                } else {
                    error.hint(format!("it hands controllers down ({on}), and may then hold no process of its own"))
                }
            }
            Errno::EOPNOTSUPP => {
                let kind = read("cgroup.type");
                error
                    .hint(format!("its cgroup.type is {kind:?}: a cgroup above it is threaded, choose another linux.cgroupsPath"))
            }
            Errno::EACCES | Errno::EPERM => {
                error.hint("moving a process takes the right to write cgroup.procs here and in the nearest cgroup above both: start it in a delegated cgroup, as systemd-run --user --scope does")
            }
            _ => error,
        }
    }
}

/// What is written to `cgroup.subtree_control` to enable controllers.
fn enabling(controllers: &[&String]) -> String {
    controllers.iter().map(|c| format!("+{c}")).collect::<Vec<_>>().join(" ")
}

/// Enables controllers that nobody asked for, as far as that goes.
fn offer(level: &Path, dir: &OwnedFd, rest: &[&String]) {
    let available = files::read(dir, "cgroup.controllers").unwrap_or_default();
    let rest: Vec<&String> = rest.iter().copied().filter(|c| available.split_ascii_whitespace().any(|a| a == *c)).collect();
    // In one that has processes of its own the controllers for threads would make children threaded (cgroups(7)).
    let is_root = level.as_os_str().is_empty();
    if rest.is_empty() || !is_root && files::read(dir, "cgroup.procs").is_ok_and(|procs| !procs.trim().is_empty()) {
        return;
    }
    match files::write(dir, "cgroup.subtree_control", &enabling(&rest)) {
        Ok(()) | Err(Errno::EACCES | Errno::EPERM | Errno::EROFS) => {}
        // One that cannot be had is not in the way of the others.
        Err(_) => {
            for controller in rest {
                let _not_asked_for = files::write(dir, "cgroup.subtree_control", &format!("+{controller}"));
            }
        }
    }
}

/// Where things are made.
struct Place<'a> {
    hierarchy: &'a Hierarchy,
    mount: &'a OwnedFd,
}

impl Place<'_> {
    fn shown(&self, below: &Path) -> String {
        self.hierarchy.mount.join(below).display().to_string()
    }

    fn make_parents(&self, path: &Path, made: &mut Made<'_>) -> Result<OwnedFd> {
        let mut here = PathBuf::new();
        let mut dir = open_beneath(self.mount, "").step("openat2", || format!("open {}", self.shown(Path::new(""))))?;
        for name in path {
            here.push(name);
            match mkdirat(&dir, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) => made.paths.push(here.clone()),
                Err(Errno::EEXIST) => {}
                Err(e) => return Err(self.refused_mkdir(&here, e)),
            }
            dir = openat(&dir, name, DIRECTORY, Mode::empty())
                .step("openat", || format!("open the cgroup {}", self.shown(&here)))?;
        }
        Ok(dir)
    }

    /// Enables controllers in `cgroup.subtree_control` of `parent` and of those above it: what `writes` need, or it is an
    /// error; and with `all`, what else there is, as other runtimes do: engines read the statistics of containers that have
    /// no limits, too.
    fn hand_down(&self, parent: &Path, writes: &[Write], all: bool) -> Result<()> {
        let needed = limits::controllers(writes);
        let every = &self.hierarchy.controllers;
        if needed.is_empty() && (!all || every.is_empty()) {
            return Ok(());
        }
        let mut lacking = Vec::new();
        for level in parent.ancestors() {
            let step = || format!("read {}/cgroup.subtree_control", self.shown(level));
            // The mount itself is open.
            let opened = match level.as_os_str().is_empty() {
                true => None,
                false => Some(open_beneath(self.mount, level).step("openat2", step)?),
            };
            let on = files::read(opened.as_ref().unwrap_or(self.mount), "cgroup.subtree_control").step("read", step)?;
            let is_off = |c: &&String| on.split_ascii_whitespace().all(|o| o != c.as_str());
            let missing: Vec<&String> = needed.iter().filter(is_off).collect();
            let rest: Vec<&String> = every.iter().filter(|c| all && !needed.contains(*c)).filter(is_off).collect();
            if missing.is_empty() && rest.is_empty() {
                break;
            }
            lacking.push((level, opened, missing, rest));
        }
        for (level, opened, missing, rest) in lacking.iter().rev() {
            let dir = opened.as_ref().unwrap_or(self.mount);
            if !missing.is_empty() {
                let value = enabling(missing);
                files::write(dir, "cgroup.subtree_control", &value).map_err(|e| {
                    let field = writes.iter().find(|w| missing.contains(&&w.controller)).map(|w| w.field.clone());
                    self.refused_controllers(level, dir, missing, &value, e).at(field.unwrap_or_default())
                })?;
            }
            offer(level, dir, rest);
        }
        Ok(())
    }

    /// The first cgroup that refuses, and why.
    fn refused_controllers(&self, level: &Path, dir: &OwnedFd, missing: &[&String], value: &str, e: Errno) -> Error {
        let shown = self.shown(level);
        let error = Error::sys(format!("write {value:?} to {shown}/cgroup.subtree_control"), "write", e.into());
        match e {
            Errno::EBUSY => {
                let members = life::members(dir).unwrap_or_default();
                let pids: Vec<_> = members.iter().take(5).map(ToString::to_string).collect();
                error.hint(format!(
                    "{shown} holds {} process(es) of its own ({}), so it can hand down no controller: move them to a cgroup below it (systemd since 254: DelegateSubgroup=), or set linux.cgroupsPath to a place elsewhere",
                    members.len(),
                    pids.join(", ")
                ))
            }
            Errno::ENOENT => {
                let have = files::read(dir, "cgroup.controllers").unwrap_or_default();
                let not: Vec<_> = missing
                    .iter()
                    .filter(|m| have.split_ascii_whitespace().all(|c| c != m.as_str()))
                    .map(|m| m.as_str())
                    .collect();
                error.hint(not_delegated(&not.join(", "), &shown))
            }
            Errno::EOPNOTSUPP => {
                let kind = files::read(dir, "cgroup.type").unwrap_or_default();
                error.hint(format!("{shown} is {}, which only some controllers can be used in", kind.trim()))
            }
            // From here on upwards it is somebody else's: what it does not hand down was not delegated.
            Errno::EACCES | Errno::EPERM | Errno::EROFS => {
                let names: Vec<_> = missing.iter().map(|m| m.as_str()).collect();
                error.hint(not_delegated(&names.join(", "), &shown))
            }
            _ => error,
        }
    }

    fn refused_mkdir(&self, below: &Path, e: Errno) -> Error {
        let error = Error::sys(format!("make the cgroup {}", self.shown(below)), "mkdirat", e.into()).at("/linux/cgroupsPath");
        match e {
            // cgroup_mkdir answers so when cgroup.max.depth or cgroup.max.descendants is reached.
            Errno::EAGAIN => {
                let by = self.first_above(below.parent().unwrap_or(below), |dir| {
                    ["cgroup.max.descendants", "cgroup.max.depth"].iter().find_map(|name| {
                        let value = files::read(dir, name).ok()?;
                        (value.trim() != "max").then(|| format!("{name} is {}", value.trim()))
                    })
                });
                error
                    .hint(by.map_or("cgroup.max.descendants or cgroup.max.depth is reached".into(), |(p, w)| format!("{p}: {w}")))
            }
            Errno::EROFS => error.hint(
                "its mount is read-only, as in a container: mount it writable there, or do without limits (--cgroup-manager disabled)",
            ),
            Errno::EACCES | Errno::EPERM => {
                error.hint("making cgroups there needs root, or a delegated cgroup (systemd: Delegate=yes)")
            }
            _ => error,
        }
    }

    /// The nearest of `below` and its parents of which `say` has something to say.
    fn first_above(&self, below: &Path, say: impl Fn(&OwnedFd) -> Option<String>) -> Option<(String, String)> {
        below.ancestors().find_map(|level| {
            let dir = open_beneath(self.mount, level).ok()?;
            Some((self.shown(level), say(&dir)?))
        })
    }
}

/// What root has to do so that an ordinary user gets a controller.
fn not_delegated(controllers: &str, shown: &str) -> String {
    format!(
        "controller {controllers} is not delegated to this user: {shown} does not hand it down; as root, systemctl edit user@.service, with [Service] Delegate=cpu cpuset io memory pids, or Delegate=yes in the unit that this runs in"
    )
}

/// Directories made so far, removed again unless all went well.
struct Made<'a> {
    mount: &'a OwnedFd,
    paths: Vec<PathBuf>,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        for path in self.paths.iter().rev() {
            // Fails only where another process made a cgroup or moved in: then it is theirs.
            let _ = unlinkat(self.mount, path, UnlinkatFlags::RemoveDir);
        }
    }
}
