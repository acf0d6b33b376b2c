//! `features`: what this program supports, whatever the host (OCI runtime spec 1.3.0, features.md). Engines decide by it
//! whether they may use idmapped mounts, recursive read-only mounts and user namespaces. It tells only what is there.

use super::version::OCI_VERSION;
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// The features structure. Its `linux` is never null: containerd does not look before it reads inside.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: &'static [&'static str],
    mount_options: &'static [&'static str],
    linux: Linux,
    annotations: BTreeMap<&'static str, &'static str>,
    potentially_unsafe_config_annotations: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: &'static [&'static str],
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: &'static [&'static str],
    operators: &'static [&'static str],
    archs: &'static [&'static str],
    known_flags: &'static [&'static str],
    supported_flags: &'static [&'static str],
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Serialize)]
struct MemoryPolicy {
    modes: &'static [&'static str],
    flags: &'static [&'static str],
}

#[derive(Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

const HOOKS: &[&str] = &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Mount options that are not data of a file system.
#[rustfmt::skip]
const MOUNT_OPTIONS: &[&str] = &[
    "async", "atime", "bind", "copy-symlink", "defaults", "dest-nofollow", "dev", "diratime", "dirsync", "exec", "idmap",
    "iversion", "lazytime", "loud", "mand", "noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime",
    "nomand", "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev", "rdiratime",
    "relatime", "remount", "rexec", "ridmap", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnorelatime",
    "rnostrictatime", "rnosuid", "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave",
    "rstrictatime", "rsuid", "rsymfollow", "runbindable", "rw", "shared", "silent", "slave", "src-nofollow",
    "strictatime", "suid", "symfollow", "sync", "tmpcopyup", "unbindable",
];

const NAMESPACES: &[&str] = &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

#[rustfmt::skip]
const ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
];

#[rustfmt::skip]
const OPERATORS: &[&str] = &[
    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
];

#[rustfmt::skip]
const ARCHS: &[&str] = &[
    "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K", "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB", "SCMP_ARCH_X32",
    "SCMP_ARCH_X86", "SCMP_ARCH_X86_64",
];

const FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

#[rustfmt::skip]
const MEMORY_MODES: &[&str] = &[
    "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

const MEMORY_FLAGS: &[&str] = &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/// Annotations of `config.json` that change what this program does; an engine that lets users set annotations keeps these
/// to itself. A name that ends with a dot is a prefix. Those of the next version are listed now: an engine reads the list
/// when it starts.
const UNSAFE_ANNOTATIONS: &[&str] = &["org.criu.config", "org.systemd.property.", "run.oci."];

fn supported() -> Features {
    let commit = option_env!("ONGGI_COMMIT").filter(|c| !c.is_empty()).unwrap_or(env!("CARGO_PKG_VERSION"));
    // In the order of the kernel's numbers.
    let mut capabilities: Vec<_> = caps::all().into_iter().collect();
    capabilities.sort_by_key(|c| c.index());
    Features {
        oci_version_min: "1.0.0",
        oci_version_max: OCI_VERSION,
        hooks: HOOKS,
        mount_options: MOUNT_OPTIONS,
        linux: Linux {
            namespaces: NAMESPACES,
            capabilities: capabilities.iter().map(ToString::to_string).collect(),
            cgroup: Cgroup { v1: false, v2: true, systemd: false, systemd_user: false, rdma: true },
            seccomp: Seccomp {
                enabled: true,
                actions: ACTIONS,
                operators: OPERATORS,
                archs: ARCHS,
                known_flags: FLAGS,
                supported_flags: FLAGS,
            },
            apparmor: Enabled { enabled: false },
            selinux: Enabled { enabled: false },
            intel_rdt: IntelRdt { enabled: false, schemata: false, monitoring: false },
            memory_policy: MemoryPolicy { modes: MEMORY_MODES, flags: MEMORY_FLAGS },
            mount_extensions: MountExtensions { idmap: Enabled { enabled: true } },
            net_devices: Enabled { enabled: true },
        },
        annotations: BTreeMap::from([("io.github.onggi.commit", commit), ("io.github.onggi.version", env!("CARGO_PKG_VERSION"))]),
        potentially_unsafe_config_annotations: UNSAFE_ANNOTATIONS,
    }
}

/// `features`.
pub fn features() -> Result<u8> {
    let mut text =
        serde_json::to_string_pretty(&supported()).map_err(|e| Error::new("write the features structure", e.to_string()))?;
    text.push('\n');
    super::print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_look_for() {
        let value = serde_json::to_value(supported()).unwrap();
        assert_eq!(value["ociVersionMin"], "1.0.0");
        assert_eq!(value["ociVersionMax"], "1.3.0");
        assert!(value["mountOptions"].as_array().unwrap().contains(&"rro".into()));
        assert!(value["linux"]["namespaces"].as_array().unwrap().contains(&"user".into()));
        assert_eq!(value["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        assert_eq!(value["linux"]["capabilities"][0], "CAP_CHOWN");
        assert_eq!(value["linux"]["capabilities"].as_array().unwrap().len(), 41);
    }
}
