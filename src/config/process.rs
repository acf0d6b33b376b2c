//! `process`: the program, who it runs as, and what it may do. `exec --process` reads the same object.

use super::shape::{null_is_default, object, objects, optional_object};
use serde::Deserialize;

/// `process`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// `terminal`: attach a pseudo-terminal.
    #[serde(deserialize_with = "null_is_default")]
    pub terminal: bool,
    /// `consoleSize`; ignored without a terminal.
    #[serde(deserialize_with = "optional_object")]
    pub console_size: Option<ConsoleSize>,
    /// `user`.
    #[serde(deserialize_with = "object")]
    pub user: User,
    /// `args`: must not be empty when the container is started.
    #[serde(deserialize_with = "null_is_default")]
    pub args: Vec<String>,
    /// `env`, entries `NAME=value`; of two with one name the last wins.
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// `cwd`, absolute.
    #[serde(deserialize_with = "null_is_default")]
    pub cwd: String,
    /// `capabilities`: absent leaves the sets alone, present replaces all five.
    #[serde(deserialize_with = "optional_object")]
    pub capabilities: Option<Capabilities>,
    /// `rlimits`.
    #[serde(deserialize_with = "objects")]
    pub rlimits: Vec<Rlimit>,
    /// `noNewPrivileges`.
    #[serde(deserialize_with = "null_is_default")]
    pub no_new_privileges: bool,
    /// `apparmorProfile`.
    #[serde(deserialize_with = "null_is_default")]
    pub apparmor_profile: String,
    /// `selinuxLabel`.
    #[serde(deserialize_with = "null_is_default")]
    pub selinux_label: String,
    /// `oomScoreAdj`: -1000..=1000, absent leaves it alone.
    pub oom_score_adj: Option<i32>,
    /// `scheduler`.
    #[serde(deserialize_with = "optional_object")]
    pub scheduler: Option<Scheduler>,
    /// `ioPriority`.
    #[serde(deserialize_with = "optional_object")]
    pub io_priority: Option<IoPriority>,
    /// `execCPUAffinity`; used by `exec` only.
    #[serde(rename = "execCPUAffinity", deserialize_with = "optional_object")]
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
}

/// `process.consoleSize`, in characters.
#[derive(Debug, Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsoleSize {
    /// Rows.
    #[serde(deserialize_with = "null_is_default")]
    pub height: u16,
    /// Columns.
    #[serde(deserialize_with = "null_is_default")]
    pub width: u16,
}

/// `process.user`: numbers only, the container's user database is never asked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// `uid`, 0..=4294967294.
    #[serde(deserialize_with = "null_is_default")]
    pub uid: u32,
    /// `gid`, 0..=4294967294.
    #[serde(deserialize_with = "null_is_default")]
    pub gid: u32,
    /// `umask`; 0022 when absent.
    pub umask: Option<u32>,
    /// `additionalGids`.
    #[serde(deserialize_with = "null_is_default")]
    pub additional_gids: Vec<u32>,
}

/// `process.capabilities`: names as written; names that the kernel does not know are left out with a warning.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Capabilities {
    /// `bounding`.
    #[serde(deserialize_with = "null_is_default")]
    pub bounding: Vec<String>,
    /// `effective`.
    #[serde(deserialize_with = "null_is_default")]
    pub effective: Vec<String>,
    /// `inheritable`.
    #[serde(deserialize_with = "null_is_default")]
    pub inheritable: Vec<String>,
    /// `permitted`.
    #[serde(deserialize_with = "null_is_default")]
    pub permitted: Vec<String>,
    /// `ambient`.
    #[serde(deserialize_with = "null_is_default")]
    pub ambient: Vec<String>,
}

/// One of `process.rlimits` (getrlimit(2)).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rlimit {
    /// `type`, for example `RLIMIT_NOFILE`.
    #[serde(rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    /// `hard`: the ceiling.
    #[serde(deserialize_with = "null_is_default")]
    pub hard: u64,
    /// `soft`: what is enforced.
    #[serde(deserialize_with = "null_is_default")]
    pub soft: u64,
}

/// `process.scheduler` (sched_setattr(2)).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Scheduler {
    /// `policy`, for example `SCHED_BATCH`.
    #[serde(deserialize_with = "null_is_default")]
    pub policy: String,
    /// `nice`, -20..=19.
    #[serde(deserialize_with = "null_is_default")]
    pub nice: i32,
    /// `priority`, static priority of SCHED_FIFO and SCHED_RR.
    #[serde(deserialize_with = "null_is_default")]
    pub priority: i32,
    /// `flags`, `SCHED_FLAG_*`.
    #[serde(deserialize_with = "null_is_default")]
    pub flags: Vec<String>,
    /// `runtime`, ns, SCHED_DEADLINE.
    #[serde(deserialize_with = "null_is_default")]
    pub runtime: u64,
    /// `deadline`, ns, SCHED_DEADLINE.
    #[serde(deserialize_with = "null_is_default")]
    pub deadline: u64,
    /// `period`, ns, SCHED_DEADLINE.
    #[serde(deserialize_with = "null_is_default")]
    pub period: u64,
}

/// `process.ioPriority` (ioprio_set(2)).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IoPriority {
    /// `class`: `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
    #[serde(deserialize_with = "null_is_default")]
    pub class: String,
    /// `priority`, 0..=7.
    #[serde(deserialize_with = "null_is_default")]
    pub priority: i32,
}

/// `process.execCPUAffinity`: CPU lists, for example `0-3,7`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExecCpuAffinity {
    /// Set before the process is moved to the container's cgroup.
    #[serde(deserialize_with = "null_is_default")]
    pub initial: String,
    /// Set after it.
    #[serde(rename = "final", deserialize_with = "null_is_default")]
    pub last: String,
}
