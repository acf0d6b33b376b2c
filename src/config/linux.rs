//! `linux`, but for `resources`: namespaces, id mappings, devices, paths, seccomp, and the smaller kernel settings.

use super::shape::{null_is_default, object_map, objects, optional_object};
use super::{LinuxIdMapping, LinuxIntelRdt, LinuxTimeOffset, Resources};
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
    /// `seccomp`.
    #[serde(deserialize_with = "optional_object")]
    pub seccomp: Option<Seccomp>,
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

/// `linux.seccomp`. Names stay strings: they are judged, with the words that runc has for them, by `crate::seccomp`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Seccomp {
    /// `defaultAction`; empty with no rules switches seccomp off.
    #[serde(deserialize_with = "null_is_default")]
    pub default_action: String,
    /// `defaultErrnoRet`.
    pub default_errno_ret: Option<u32>,
    /// `architectures`, `SCMP_ARCH_*`; the native one is always added.
    #[serde(deserialize_with = "null_is_default")]
    pub architectures: Vec<String>,
    /// `flags`: absent is not the same as empty (then SPEC_ALLOW is not added).
    pub flags: Option<Vec<String>>,
    /// `listenerPath`.
    #[serde(deserialize_with = "null_is_default")]
    pub listener_path: String,
    /// `listenerMetadata`.
    #[serde(deserialize_with = "null_is_default")]
    pub listener_metadata: String,
    /// `syscalls`.
    #[serde(deserialize_with = "objects")]
    pub syscalls: Vec<SyscallRule>,
}

/// One of `linux.seccomp.syscalls`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SyscallRule {
    /// `names`.
    #[serde(deserialize_with = "null_is_default")]
    pub names: Vec<String>,
    /// `action`, `SCMP_ACT_*`.
    #[serde(deserialize_with = "null_is_default")]
    pub action: String,
    /// `errnoRet`.
    pub errno_ret: Option<u32>,
    /// `args`: all must hold.
    #[serde(deserialize_with = "objects")]
    pub args: Vec<SyscallArg>,
}

/// One of `linux.seccomp.syscalls[].args`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SyscallArg {
    /// `index`, 0..=5.
    #[serde(deserialize_with = "null_is_default")]
    pub index: u32,
    /// `value`; the mask for `SCMP_CMP_MASKED_EQ`.
    #[serde(deserialize_with = "null_is_default")]
    pub value: u64,
    /// `valueTwo`; the expected bits for `SCMP_CMP_MASKED_EQ`.
    #[serde(deserialize_with = "null_is_default")]
    pub value_two: u64,
    /// `op`, `SCMP_CMP_*`.
    #[serde(deserialize_with = "null_is_default")]
    pub op: String,
}
