//! `linux.resources`: limits, with absent and zero kept apart. `update --resources` reads the same object.

use super::shape::{null_is_default, object_map, objects, optional_object};
pub use oci_spec::runtime::{LinuxRdma, LinuxThrottleDevice, LinuxWeightDevice};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `linux.resources`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// `devices`: rules in order, the last that matches decides.
    #[serde(deserialize_with = "objects")]
    pub devices: Vec<DeviceRule>,
    /// `memory`.
    #[serde(deserialize_with = "optional_object")]
    pub memory: Option<Memory>,
    /// `cpu`.
    #[serde(deserialize_with = "optional_object")]
    pub cpu: Option<Cpu>,
    /// `pids`.
    #[serde(deserialize_with = "optional_object")]
    pub pids: Option<Pids>,
    /// `blockIO`.
    #[serde(rename = "blockIO", deserialize_with = "optional_object")]
    pub block_io: Option<BlockIo>,
    /// `hugepageLimits`.
    #[serde(deserialize_with = "objects")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// `rdma`: device -> limits.
    #[serde(deserialize_with = "object_map")]
    pub rdma: BTreeMap<String, LinuxRdma>,
    /// `unified`: file of cgroup v2 -> text, written after everything else.
    #[serde(deserialize_with = "null_is_default")]
    pub unified: BTreeMap<String, String>,
}

/// One of `linux.resources.devices`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeviceRule {
    /// `allow`.
    #[serde(deserialize_with = "null_is_default")]
    pub allow: bool,
    /// `type`: a (or empty), c or b.
    #[serde(rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    /// `major`; absent or negative stands for every one.
    pub major: Option<i64>,
    /// `minor`; absent or negative stands for every one.
    pub minor: Option<i64>,
    /// `access`: of r, w, m; empty stands for all three.
    #[serde(deserialize_with = "null_is_default")]
    pub access: String,
}

/// `linux.resources.memory`, in bytes; -1 stands for no limit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Memory {
    /// `limit` -> memory.max.
    pub limit: Option<i64>,
    /// `reservation` -> memory.low.
    pub reservation: Option<i64>,
    /// `swap`: memory and swap together; memory.swap.max gets the difference.
    pub swap: Option<i64>,
    /// `checkBeforeUpdate`: refuse a limit below what is in use.
    #[serde(deserialize_with = "null_is_default")]
    pub check_before_update: bool,
}

/// `linux.resources.cpu`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cpu {
    /// `shares`, 2..=262144 -> cpu.weight.
    pub shares: Option<u64>,
    /// `quota`, microseconds a period -> cpu.max.
    pub quota: Option<i64>,
    /// `burst`, microseconds -> cpu.max.burst.
    pub burst: Option<u64>,
    /// `period`, microseconds -> cpu.max.
    pub period: Option<u64>,
    /// `realtimeRuntime`: cgroup v1 only.
    pub realtime_runtime: Option<i64>,
    /// `realtimePeriod`: cgroup v1 only.
    pub realtime_period: Option<u64>,
    /// `cpus` -> cpuset.cpus.
    #[serde(deserialize_with = "null_is_default")]
    pub cpus: String,
    /// `mems` -> cpuset.mems.
    #[serde(deserialize_with = "null_is_default")]
    pub mems: String,
    /// `idle` -> cpu.idle.
    pub idle: Option<i64>,
}

/// `linux.resources.pids`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pids {
    /// `limit` -> pids.max: absent leaves it, negative is no limit, 0 is 1.
    pub limit: Option<i64>,
}

/// `linux.resources.blockIO`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BlockIo {
    /// `weight`, 10..=1000.
    pub weight: Option<u16>,
    /// `leafWeight`: cgroup v1 only.
    pub leaf_weight: Option<u16>,
    /// `weightDevice`.
    #[serde(deserialize_with = "objects")]
    pub weight_device: Vec<LinuxWeightDevice>,
    /// `throttleReadBpsDevice`.
    #[serde(deserialize_with = "objects")]
    pub throttle_read_bps_device: Vec<LinuxThrottleDevice>,
    /// `throttleWriteBpsDevice`.
    #[serde(deserialize_with = "objects")]
    pub throttle_write_bps_device: Vec<LinuxThrottleDevice>,
    /// `throttleReadIOPSDevice`.
    #[serde(rename = "throttleReadIOPSDevice", deserialize_with = "objects")]
    pub throttle_read_iops_device: Vec<LinuxThrottleDevice>,
    /// `throttleWriteIOPSDevice`.
    #[serde(rename = "throttleWriteIOPSDevice", deserialize_with = "objects")]
    pub throttle_write_iops_device: Vec<LinuxThrottleDevice>,
}

/// One of `linux.resources.hugepageLimits`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HugepageLimit {
    /// `pageSize`, for example `2MB`.
    #[serde(deserialize_with = "null_is_default")]
    pub page_size: String,
    /// `limit`, bytes.
    #[serde(deserialize_with = "null_is_default")]
    pub limit: u64,
}
