//! `features`: what this program supports, whatever the host (OCI runtime spec 1.3.0, features.md). Engines decide by it
//! whether they may use idmapped mounts, recursive read-only mounts and user namespaces. It tells only what is there.

use crate::config::OCI_VERSION;
use crate::config::options::KNOWN as MOUNT_OPTIONS;
use crate::error::{Error, Result};
use crate::seccomp::{ACTIONS, ARCHS, FLAGS, OPERATORS};
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
    actions: Vec<&'static str>,
    operators: &'static [&'static str],
    archs: Vec<&'static str>,
    known_flags: Vec<&'static str>,
    supported_flags: Vec<&'static str>,
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

const NAMESPACES: &[&str] = &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

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
            cgroup: Cgroup { v1: false, v2: true, systemd: true, systemd_user: true, rdma: true },
            seccomp: Seccomp {
                enabled: true,
                actions: ACTIONS.iter().map(|(name, _)| *name).collect(),
                operators: &OPERATORS,
                archs: ARCHS.iter().map(|arch| arch.name).collect(),
                known_flags: FLAGS.iter().map(|(name, _)| *name).collect(),
                supported_flags: FLAGS.iter().map(|(name, _)| *name).collect(),
            },
            apparmor: Enabled { enabled: true },
            selinux: Enabled { enabled: true },
            intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
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
