//! What a plan needs to know of this machine and of the runtime's own process: probed once, plain data, made by hand in tests.

use crate::cgroup::{Delegation, Hierarchy};
use crate::config::{Process, Spec};
use crate::error::{Context, Error, Result};
use crate::sys::namespaces::{self, Namespaces};
use crate::sys::{auxv, fs};
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// The host, as far as plans depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Effective user id.
    pub uid: u32,
    /// The permitted capability set, a bit a capability.
    pub permitted: u64,
    /// Root with CAP_SYS_ADMIN over its own namespaces: may enter namespaces, clone mounts, make device nodes.
    pub privileged: bool,
    /// The runtime lives in a user namespace other than the first (rootless engines, nesting).
    pub nested: bool,
    /// The mounts that the runtime sees belong to a user namespace above its own: it cannot clone them, a process in a new
    /// mount namespace can.
    pub foreign_mounts: bool,
    /// Signals that the runtime ignores, and that its child must not.
    pub ignored_signals: Vec<i32>,
    /// The runtime's own oom_score_adj, -1000..=1000, which its child starts with; `None` where nobody asks for another.
    pub oom_score_adj: Option<i32>,
    /// setgroups(2) is denied in our user namespace, and so in all below it (user_namespaces(7)).
    pub setgroups_denied: bool,
    /// The cgroup2 hierarchy; `None` where none is mounted.
    pub hierarchy: Option<Hierarchy>,
    /// The caller's soft and hard limit of open files; `None` where it does not matter.
    pub open_files: Option<(u64, u64)>,
    /// What may be done in it.
    pub delegation: Delegation,
    /// Mount points of procfs and sysfs, deepest first; looked for only for `--no-pivot`, by [`Host::find_bare_mounts`].
    pub bare_mounts: Vec<String>,
    /// AppArmor is on. Looked at only where a profile is asked for.
    pub apparmor: bool,
    /// Whoever changes its user is dumpable from then on (`fs.suid_dumpable` is 1, proc_sys_fs(5)). Looked at only for `exec`.
    pub dumps_setuid: bool,
    /// SELinux is on and has a policy. Looked at only where a label is asked for.
    pub selinux: bool,
    /// Where resctrl is mounted. Looked for only where `linux.intelRdt` asks for it.
    pub resctrl: Option<PathBuf>,
}

const CAP_SYS_ADMIN: u64 = 1 << 21;
const IN_USER: &str = "look at /proc/self/ns/user";
const NO_PROC: &str = "is /proc mounted?";

impl Host {
    /// Looks at the machine through /proc, as far as a plan for `spec` depends on it.
    ///
    /// # Errors
    /// /proc is not mounted or cannot be read.
    pub fn probe(spec: &Spec) -> Result<Self> {
        let process = spec.process.as_ref();
        let nested = namespaces::are_nested().step("newfstatat", || IN_USER.into()).map_err(|e| e.hint(NO_PROC))?;
        let host = Self::probe_for(process, nested, !spec.linux.mount_label.is_empty())?;
        let hierarchy = Hierarchy::probe()?;
        let delegation = match &hierarchy {
            Some(hierarchy) if host.nested || !host.privileged => Delegation::probe(hierarchy, &spec.linux.cgroups_path)
                .step("faccessat2", || "look at what is delegated to this user".into())?,
            _ => Delegation::default(),
        };
        let resctrl = if spec.linux.intel_rdt.is_some() { crate::rdt::find_mount()? } else { None };
        Ok(Self { hierarchy, delegation, resctrl, ..host })
    }

    /// The same for a further process of the container that `spec` made, which needs no cgroup of its own. `own` are the
    /// runtime's namespaces.
    ///
    /// # Errors
    /// As [`Host::probe`].
    pub fn probe_for_exec(spec: &Spec, process: &Process, own: &Namespaces) -> Result<Self> {
        let nested = own.are_nested().step("readlinkat", || IN_USER.into())?;
        let mut host = Self::probe_for(Some(process), nested, !spec.linux.mount_label.is_empty())?;
        if (process.user.uid, process.user.gid, auxv::egid()) != (0, 0, 0) {
            let path = c"/proc/sys/fs/suid_dumpable";
            host.dumps_setuid = fs::read_small(fs::cwd(), path).step("read", || "read fs.suid_dumpable".into())?.trim() == "1";
        }
        Ok(host)
    }

    fn probe_for(process: Option<&Process>, nested: bool, labels_mounts: bool) -> Result<Self> {
        let read = |path: &CStr| {
            let text = fs::read_small(fs::cwd(), path).step("read", || format!("read {}", path.to_string_lossy()));
            text.map_err(|e| e.hint(NO_PROC))
        };
        let status = read(c"/proc/self/status")?;
        let oom_score_adj = match process.and_then(|p| p.oom_score_adj) {
            Some(_) => Some(read(c"/proc/self/oom_score_adj")?),
            None => None,
        };
        let [uid, ignored, permitted] = fields(&status, ["Uid:", "SigIgn:", "CapPrm:"]);
        let incomplete = || Error::new("read /proc/self/status", "lines are missing");
        let hex = |value: Option<&str>| value.and_then(|v| u64::from_str_radix(v, 16).ok()).ok_or_else(incomplete);
        let uid = uid.and_then(|v| v.split_whitespace().nth(1)).and_then(|v| v.parse().ok()).ok_or_else(incomplete)?;
        let (ignored, permitted) = (hex(ignored)?, hex(permitted)?);
        let foreign = || crate::sys::userns::mounts_are_foreign().step("ioctl", || "look at the mount namespace".into());
        let setgroups_denied = nested && read(c"/proc/self/setgroups")?.trim() == "deny";
        let privileged = uid == 0 && permitted & CAP_SYS_ADMIN != 0;
        Ok(Self {
            uid,
            permitted,
            privileged,
            nested,
            foreign_mounts: nested && foreign()?,
            ignored_signals: (1..=64).filter(|n| ignored & (1 << (n - 1)) != 0).collect(),
            oom_score_adj: oom_score_adj.and_then(|text| text.trim().parse().ok()),
            setgroups_denied,
            open_files: Some(crate::sys::process::open_files().step("prlimit64", || "read the limit of open files".into())?),
            bare_mounts: Vec::new(),
            delegation: Delegation::default(),
            apparmor: process.is_some_and(|p| !p.apparmor_profile.is_empty()) && has_apparmor(),
            selinux: (process.is_some_and(|p| !p.selinux_label.is_empty()) || labels_mounts) && has_selinux(),
            dumps_setuid: false,
            resctrl: None,
            hierarchy: None,
        })
    }

    /// Fills [`Host::bare_mounts`].
    ///
    /// # Errors
    /// /proc/self/mountinfo cannot be read.
    pub fn find_bare_mounts(&mut self) -> Result<()> {
        let all = procfs::process::Process::myself()
            .and_then(|me| me.mountinfo())
            .map_err(|e| Error::new("read /proc/self/mountinfo", e.to_string()))?;
        let bare = all.into_iter().filter(|m| m.root == "/" && matches!(m.fs_type.as_str(), "proc" | "sysfs"));
        self.bare_mounts = bare.map(|m| m.mount_point.to_string_lossy().into_owned()).collect();
        self.bare_mounts.reverse();
        Ok(())
    }

    /// What the cgroup part of a plan depends on.
    pub fn cgroups(&self) -> crate::cgroup::Rights<'_> {
        crate::cgroup::Rights {
            hierarchy: self.hierarchy.as_ref(),
            delegation: &self.delegation,
            may_load_programs: self.privileged && !self.nested,
        }
    }
}

/// What the module says of itself. Not whether securityfs is there to tell more: nothing here needs that.
fn has_apparmor() -> bool {
    fs::read_small(fs::cwd(), c"/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// selinuxfs has one place (selinux(8)). Without a policy every process is `kernel`, and labels mean nothing.
fn has_selinux() -> bool {
    const SELINUX_MAGIC: i64 = 0xf97c_ff8c;
    let mounted = fs::open(fs::cwd(), c"/sys/fs/selinux", libc::O_PATH, 0).and_then(|dir| fs::magic(dir.as_fd()));
    mounted == Ok(SELINUX_MAGIC)
        && fs::read_small(fs::cwd(), c"/proc/self/attr/current")
            .is_ok_and(|label| label.trim_end_matches(['\0', '\n']) != "kernel")
}

/// The values of lines, which come in the order of `names`.
fn fields<'a, const N: usize>(status: &'a str, names: [&str; N]) -> [Option<&'a str>; N] {
    let mut lines = status.lines();
    names.map(|name| lines.find_map(|line| line.strip_prefix(name)).map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_this_machine() {
        let host = Host::probe(&Spec::default()).unwrap();
        // Rust's start-up ignores SIGPIPE, and cargo's tests run with that.
        assert!(host.ignored_signals.iter().all(|n| (1..=64).contains(n)));
    }
}
