//! The cgroup2 hierarchy of this host: where it is mounted, which controllers it has, which ones cgroup v1 keeps from it.
//!
//! Plain data after [`Hierarchy::probe`], so that plans and tests can be made from a hand-written one. It says what the
//! root has, not what each directory on the way down was given: [`super::Cgroup::create`] finds that out.

use super::files;
use crate::error::{Context, Error, Result};
use nix::errno::Errno;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::path::{Path, PathBuf};

/// Where systemd mounts cgroup2 when it is the only hierarchy.
const UNIFIED: &str = "/sys/fs/cgroup";
/// Where systemd and its kin mount it beside cgroup v1 (the hybrid layout).
const HYBRID: &str = "/sys/fs/cgroup/unified";

/// What there is of cgroup v2 here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hierarchy {
    /// The mount point of cgroup2.
    pub mount: PathBuf,
    /// Controllers of its root (`cgroup.controllers`).
    pub controllers: Vec<String>,
    /// Controllers bound to cgroup v1, by the names that they would have in v2 (`io` for `blkio`).
    pub v1: Vec<String>,
    /// The caller's own cgroup below the mount, with a leading slash (the `0::` line of `/proc/self/cgroup`).
    pub own: String,
}

impl Hierarchy {
    /// Looks at this host: nine or ten system calls where cgroup2 has one of the two usual mount points. `None` when no
    /// cgroup2 is mounted.
    pub fn probe() -> Result<Option<Self>> {
        let Some(mount) = find_mount()? else { return Ok(None) };
        let path = mount.join("cgroup.controllers");
        let controllers = files::read_path(&path).step("read", || format!("read {}", path.display()))?;
        let memberships = files::read_path(Path::new("/proc/self/cgroup")).step("read", || "read /proc/self/cgroup".into())?;
        let (own, v1) = parse_memberships(&memberships);
        let controllers = controllers.split_ascii_whitespace().map(String::from).collect();
        Ok(Some(Self { mount, controllers, v1, own }))
    }

    /// The place of another process below the mount, as `own` is of this one.
    pub fn place_of(pid: i32) -> Result<String> {
        let path = format!("/proc/{pid}/cgroup");
        let memberships = files::read_path(Path::new(&path)).step("read", || format!("read {path}"))?;
        Ok(parse_memberships(&memberships).0)
    }

    /// Whether the root of the hierarchy has this controller.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    /// An error that says why a controller cannot be had, nothing when it can.
    pub(super) fn check(&self, controller: &str) -> std::result::Result<(), (String, &'static str)> {
        if self.has(controller) {
            Ok(())
        } else if self.v1.iter().any(|c| c == controller) {
            Err((
                format!("controller {controller} is bound to cgroup v1 on this host"),
                "remove the limit, or boot the host with cgroup v2 alone: systemd.unified_cgroup_hierarchy=1 or cgroup_no_v1=all",
            ))
        } else {
            Err((
                format!("controller {controller} is not in {}/cgroup.controllers", self.mount.display()),
                "the kernel lacks it, it is turned off by cgroup_disable=, or it was not delegated to this container or user",
            ))
        }
    }
}

fn find_mount() -> Result<Option<PathBuf>> {
    for candidate in [UNIFIED, HYBRID] {
        match statfs(candidate) {
            Ok(s) if s.filesystem_type() == CGROUP2_SUPER_MAGIC => return Ok(Some(candidate.into())),
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => {}
            Err(e) => return Err(Error::sys(format!("look for cgroup2 at {candidate}"), "statfs", e.into())),
        }
    }
    let mounts = procfs::process::Process::myself()
        .and_then(|p| p.mountinfo())
        .map_err(|e| Error::new("look for cgroup2 in /proc/self/mountinfo", e.to_string()))?;
    // A mount of a part of the hierarchy shows paths that /proc/self/cgroup does not: the whole one comes first.
    let mut found: Vec<_> = mounts.0.into_iter().filter(|m| m.fs_type == "cgroup2").collect();
    found.sort_by_key(|m| m.root != "/");
    Ok(found.into_iter().next().map(|m| m.mount_point))
}

/// The own cgroup of v2, and the controllers that have a v1 hierarchy, from lines `ID:controller,...:path` (cgroups(7)).
pub fn parse_memberships(text: &str) -> (String, Vec<String>) {
    let mut own = String::from("/");
    let mut v1 = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(list), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        if id == "0" {
            // A cgroup that was removed while we were in it.
            own = path.strip_suffix(" (deleted)").unwrap_or(path).to_owned();
            continue;
        }
        v1.extend(
            list.split(',')
                .filter(|c| !c.is_empty() && !c.starts_with("name="))
                .map(|c| if c == "blkio" { "io".to_owned() } else { c.to_owned() }),
        );
    }
    (own, v1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships_of_a_hybrid_host() {
        let text = "9:name=systemd:/a\n7:blkio:/\n4:memory:/m:x\n3:cpu,cpuacct:/\n0::/user.slice/x\n";
        let (own, v1) = parse_memberships(text);
        assert_eq!(own, "/user.slice/x");
        assert_eq!(v1, ["io", "memory", "cpu", "cpuacct"]);
    }

    #[test]
    fn memberships_of_a_unified_host() {
        assert_eq!(parse_memberships("0::/init.scope\n"), ("/init.scope".into(), vec![]));
        assert_eq!(parse_memberships("0::/gone (deleted)\n").0, "/gone");
        assert_eq!(parse_memberships(""), ("/".into(), vec![]));
    }

    #[test]
    fn a_missing_controller_says_why() {
        let h = Hierarchy {
            mount: "/sys/fs/cgroup".into(),
            controllers: vec!["pids".into()],
            v1: vec!["memory".into()],
            own: "/".into(),
        };
        assert!(h.check("pids").is_ok());
        assert_eq!(h.check("memory").unwrap_err().0, "controller memory is bound to cgroup v1 on this host");
        assert_eq!(h.check("rdma").unwrap_err().0, "controller rdma is not in /sys/fs/cgroup/cgroup.controllers");
    }
}
