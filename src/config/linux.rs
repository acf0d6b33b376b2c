//! `linux`, but for `resources`: namespaces, id mappings, devices, paths, and the smaller kernel settings.

use super::shape::{null_is_default, object_map, objects, optional_object};
use super::{LinuxIdMapping, LinuxIntelRdt, LinuxTimeOffset, Resources, SeccompOutline};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `linux`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Linux {
    /// `namespaces`: each type once; without a path a new one is made.
    #[serde(deserialize_with = "objects")]
    pub namespaces: Vec<Namespace>,
    /// `uidMappings`.
    #[serde(deserialize_with = "objects")]
    pub uid_mappings: Vec<LinuxIdMapping>,
    /// `gidMappings`.
    #[serde(deserialize_with = "objects")]
    pub gid_mappings: Vec<LinuxIdMapping>,
    /// `timeOffsets`: keys `monotonic` and `boottime`.
    #[serde(deserialize_with = "object_map")]
    pub time_offsets: BTreeMap<String, LinuxTimeOffset>,
    /// `devices`.
    #[serde(deserialize_with = "objects")]
    pub devices: Vec<Device>,
    /// `netDevices`: host name of a network device -> what to do with it.
    #[serde(deserialize_with = "object_map")]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// `cgroupsPath`; empty when absent.
    #[serde(deserialize_with = "null_is_default")]
    pub cgroups_path: String,
    /// `resources`.
    #[serde(deserialize_with = "optional_object")]
    pub resources: Option<Resources>,
    /// `intelRdt`.
    #[serde(deserialize_with = "optional_object")]
    pub intel_rdt: Option<LinuxIntelRdt>,
    /// `memoryPolicy`.
    #[serde(deserialize_with = "optional_object")]
    pub memory_policy: Option<MemoryPolicy>,
    /// `sysctl`.
    #[serde(deserialize_with = "null_is_default")]
    pub sysctl: BTreeMap<String, String>,
    /// `seccomp`, without its rules.
    #[serde(deserialize_with = "optional_object")]
    pub seccomp: Option<SeccompOutline>,
    /// `rootfsPropagation`; empty when absent.
    #[serde(deserialize_with = "null_is_default")]
    pub rootfs_propagation: String,
    /// `maskedPaths`.
    #[serde(deserialize_with = "null_is_default")]
    pub masked_paths: Vec<String>,
    /// `readonlyPaths`.
    #[serde(deserialize_with = "null_is_default")]
    pub readonly_paths: Vec<String>,
    /// `mountLabel`, SELinux.
    #[serde(deserialize_with = "null_is_default")]
    pub mount_label: String,
    /// `personality`.
    #[serde(deserialize_with = "optional_object")]
    pub personality: Option<Personality>,
}

/// One of `linux.namespaces`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Namespace {
    /// `type`: pid, network, mount, ipc, uts, user, cgroup or time.
    #[serde(rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    /// `path`: absolute, in the runtime's mount namespace; empty makes a new one.
    #[serde(deserialize_with = "null_is_default")]
    pub path: String,
}

/// One of `linux.devices`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device {
    /// `type`: c, u, b or p.
    #[serde(rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    /// `path`, absolute, inside the container.
    #[serde(deserialize_with = "null_is_default")]
    pub path: String,
    /// `major`.
    #[serde(deserialize_with = "null_is_default")]
    pub major: i64,
    /// `minor`.
    #[serde(deserialize_with = "null_is_default")]
    pub minor: i64,
    /// `fileMode`; 0666 when absent, as runc.
    pub file_mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
}

/// One of `linux.netDevices`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetDevice {
    /// `name`: its name in the container; empty keeps it.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
}

/// `linux.memoryPolicy` (set_mempolicy(2)).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MemoryPolicy {
    /// `mode`, for example `MPOL_BIND`.
    #[serde(deserialize_with = "null_is_default")]
    pub mode: String,
    /// `nodes`, a list such as `0-3,7`.
    #[serde(deserialize_with = "null_is_default")]
    pub nodes: String,
    /// `flags`, `MPOL_F_*`.
    #[serde(deserialize_with = "null_is_default")]
    pub flags: Vec<String>,
}

/// `linux.personality` (personality(2)).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Personality {
    /// `domain`: `LINUX` or `LINUX32`.
    #[serde(deserialize_with = "null_is_default")]
    pub domain: String,
    /// `flags`: none is defined by the spec yet.
    #[serde(deserialize_with = "null_is_default")]
    pub flags: Vec<String>,
}
