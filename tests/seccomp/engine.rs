//! Engine profiles (moby's and containers-common's format) -> `linux.seccomp`, as the engines do it on an amd64 host.
//!
//! `tests/data/seccomp`: the default profiles as moby and containers-common ship them (Apache-2.0), and a config.json each as
//! Docker 26.1 and Podman 5.4 wrote them.

use onggi::config::{Seccomp, SyscallRule};
use serde_json::{Value, json};

pub const MOBY: &str = include_str!("../data/seccomp/moby-default.json");
pub const CONTAINERS_COMMON: &str = include_str!("../data/seccomp/containers-common.json");
const DOCKER_BUNDLE: &str = include_str!("../data/seccomp/docker-bundle.json");
const PODMAN_BUNDLE: &str = include_str!("../data/seccomp/podman-bundle.json");

const DOCKER_CAPS: &[&str] = &["CAP_SYS_CHROOT", "CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW"];
const PODMAN_CAPS: &[&str] = &["CAP_SYS_CHROOT"];

/// The capabilities of a container: some, or all.
#[derive(Clone, Copy)]
pub enum Caps {
    These(&'static [&'static str]),
    All,
}

impl Caps {
    fn has(self, cap: &Value) -> bool {
        match self {
            Self::These(caps) => caps.iter().any(|c| cap == c),
            Self::All => true,
        }
    }
}

/// The OCI form. Every `minKernel` is met.
pub fn oci(profile: &str, caps: Caps) -> Seccomp {
    let profile: Value = serde_json::from_str(profile).unwrap();
    let list = |rule: &Value, when: &str, what: &str| rule[when][what].as_array().cloned().unwrap_or_default();
    let amd64 = |arch: &Value| arch == "amd64";
    let applies = |rule: &&Value| {
        let (arches, include) = (list(rule, "includes", "arches"), list(rule, "includes", "caps"));
        (arches.is_empty() || arches.iter().any(amd64))
            && include.iter().all(|cap| caps.has(cap))
            && !list(rule, "excludes", "arches").iter().any(amd64)
            && !list(rule, "excludes", "caps").iter().any(|cap| caps.has(cap))
    };
    let rules = profile["syscalls"].as_array().unwrap().iter().filter(applies);
    let mut seccomp: Seccomp = serde_json::from_value(json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    }))
    .unwrap();
    seccomp.syscalls = rules.map(|rule| serde_json::from_value::<SyscallRule>(rule.clone()).unwrap()).collect();
    seccomp
}

fn bundle(config: &str) -> Seccomp {
    Seccomp::parse(config.as_bytes()).unwrap().unwrap()
}

/// The profiles of the field.
pub fn profiles() -> Vec<(&'static str, Seccomp)> {
    vec![
        ("moby", oci(MOBY, Caps::These(DOCKER_CAPS))),
        ("moby, all capabilities", oci(MOBY, Caps::All)),
        ("containers-common", oci(CONTAINERS_COMMON, Caps::These(PODMAN_CAPS))),
        ("containers-common, all capabilities", oci(CONTAINERS_COMMON, Caps::All)),
        ("docker's bundle", bundle(DOCKER_BUNDLE)),
        ("podman's bundle", bundle(PODMAN_BUNDLE)),
    ]
}
