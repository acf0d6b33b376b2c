//! What somebody who is not the host's root may do with cgroups: the part of the hierarchy that was delegated to them
//! (cgroups(7), "Cgroups delegation"), looked at before a plan is made, so that it says what will happen.

use super::{Hierarchy, place};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use std::path::{Path, PathBuf};

/// What may be done where `linux.cgroupsPath` leads. The default is the host's root: everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delegation {
    /// Why no cgroup can be made there.
    pub denied: Option<Denied>,
    /// A path that is not absolute is meant below the caller's own cgroup: beside it, the usual place, nothing can be made.
    pub below_own: bool,
}

/// Why no cgroup can be made, or none be entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// This directory is not the caller's.
    Directory(PathBuf),
    /// Processes cannot be moved from the caller's cgroup: this is the nearest one above both, and its `cgroup.procs` is
    /// not the caller's.
    Entry(PathBuf),
}

impl Delegation {
    /// Asks the kernel for the rights of the effective user.
    ///
    /// # Errors
    /// The kernel does not tell: what is allowed is not to be given up for that.
    pub fn probe(hierarchy: &Hierarchy, cgroups_path: &str) -> nix::Result<Self> {
        let beside = denied(hierarchy, cgroups_path, &hierarchy.own)?;
        if beside.is_some() && !cgroups_path.starts_with('/') {
            let below = denied(hierarchy, cgroups_path, &inside(&hierarchy.own))?;
            if below.is_none() {
                return Ok(Self { denied: None, below_own: true });
            }
        }
        Ok(Self { denied: beside, below_own: false })
    }
}

/// The path that [`place::directory`] is given so that a relative one lies below `own` and not beside it.
pub(super) fn inside(own: &str) -> String {
    format!("{own}/own")
}

fn denied(hierarchy: &Hierarchy, cgroups_path: &str, own: &str) -> nix::Result<Option<Denied>> {
    // A path that is no path is refused when the plan is made.
    let Ok(target) = place::directory(cgroups_path, "id", own) else { return Ok(None) };
    // Named after the container, it is not there yet.
    let first = if cgroups_path.is_empty() { target.parent() } else { Some(target.as_path()) };
    let Some(first) = first else { return Ok(None) };
    for level in first.ancestors() {
        let directory = hierarchy.mount.join(level);
        match allowed(&directory, AccessFlags::W_OK | AccessFlags::X_OK) {
            Err(Errno::ENOENT) => {}
            other if !other? => return Ok(Some(Denied::Directory(directory))),
            _ if level == target && !may_enter(&directory)? => return Ok(Some(Denied::Entry(directory))),
            _ => break,
        }
    }
    let above = common(&hierarchy.own, &target);
    let outside = hierarchy.own.starts_with("/..");
    let above = hierarchy.mount.join(above);
    Ok(if may_enter(&above)? && !outside { None } else { Some(Denied::Entry(above)) })
}

/// Whether processes may be moved there. What is missing cannot be written to either.
fn may_enter(directory: &Path) -> nix::Result<bool> {
    match allowed(&directory.join("cgroup.procs"), AccessFlags::W_OK) {
        Err(Errno::ENOENT) => Ok(false),
        other => other,
    }
}

/// Whether the effective user may.
pub(super) fn allowed(path: &Path, how: AccessFlags) -> nix::Result<bool> {
    match faccessat(AT_FDCWD, path, how, AtFlags::AT_EACCESS) {
        Ok(()) => Ok(true),
        Err(Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The nearest cgroup above both, or one of them, relative to the mount.
fn common(own: &str, target: &Path) -> PathBuf {
    let own = Path::new(own).strip_prefix("/").unwrap_or(Path::new(own));
    own.components().zip(target.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Plain directories in the place of cgroupfs: root may write to all, so only what is missing can be shown here.
    #[test]
    fn the_nearest_cgroup_above_both() {
        for (own, target, want) in [
            ("/user.slice/a.scope", "user.slice/box", "user.slice"),
            ("/user.slice/a.scope", "user.slice/a.scope/box", "user.slice/a.scope"),
            ("/user.slice/a.scope", "system.slice/box", ""),
            ("/", "box", ""),
        ] {
            assert_eq!(common(own, Path::new(target)), Path::new(want), "{own} {target}");
        }
    }

    #[test]
    fn a_missing_cgroup_is_made_below_the_nearest_that_is_there() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("a/own")).unwrap();
        fs::write(top.path().join("a/cgroup.procs"), "").unwrap();
        let hierarchy = Hierarchy { mount: top.path().into(), own: "/a/own".into(), ..Hierarchy::default() };
        assert_eq!(denied(&hierarchy, "", "/a/own"), Ok(None));
        assert_eq!(denied(&hierarchy, "b/c/d", "/a/own"), Ok(None));
        // No cgroup.procs here.
        assert_eq!(denied(&hierarchy, "/b/c/d", "/a/own"), Ok(Some(Denied::Entry(top.path().into()))));
        let outside = Hierarchy { own: "/../b".into(), ..hierarchy };
        assert!(matches!(denied(&outside, "/a/b", "/../b"), Ok(Some(Denied::Entry(_)))));
    }
}
