//! `linux.seccomp` (config-linux.md, "Seccomp"), read twice: its outline with everything else, for the plan; its rules, which are
//! most of what an engine writes into config.json, when they are compiled.

use super::shape::{null_is_default, objects};
use serde::Deserialize;

/// `linux.seccomp` as far as a plan needs it. [`Seccomp::parse`] reads the rest.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SeccompOutline {
    /// `defaultAction`.
    #[serde(deserialize_with = "null_is_default")]
    pub default_action: String,
    /// `syscalls`.
    #[serde(deserialize_with = "objects")]
    pub syscalls: Vec<RuleOutline>,
}

/// One of `linux.seccomp.syscalls`, in a [`SeccompOutline`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RuleOutline {
    /// `action`, `SCMP_ACT_*`.
    #[serde(deserialize_with = "null_is_default")]
    pub action: String,
}

impl SeccompOutline {
    /// No default action and no rules: seccomp is switched off.
    pub fn is_off(&self) -> bool {
        self.default_action.is_empty() && self.syscalls.is_empty()
    }

    /// There are rules that ask an agent.
    pub fn listens(&self) -> bool {
        self.syscalls.iter().any(|rule| rule.action == "SCMP_ACT_NOTIFY")
    }
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
