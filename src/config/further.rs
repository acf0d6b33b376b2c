//! What a further process of a container depends on: a part of the `config.json` that was taken as a whole at `create`. The
//! rest (mounts, resources, devices, paths, hooks) is skipped, not made into types: probes call `exec` each second.

use super::shape::{null_is_default, object, objects, optional_object};
use super::{Linux, LinuxIdMapping, MemoryPolicy, Namespace, Personality, Process, SeccompOutline, Spec};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Members as those of [`Spec`].
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Further {
    #[serde(deserialize_with = "optional_object")]
    process: Option<Process>,
    #[serde(deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "object")]
    linux: FurtherLinux,
}

/// Members as those of [`Linux`].
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FurtherLinux {
    #[serde(deserialize_with = "objects")]
    namespaces: Vec<Namespace>,
    #[serde(deserialize_with = "objects")]
    uid_mappings: Vec<LinuxIdMapping>,
    #[serde(deserialize_with = "objects")]
    gid_mappings: Vec<LinuxIdMapping>,
    #[serde(deserialize_with = "optional_object")]
    memory_policy: Option<MemoryPolicy>,
    #[serde(deserialize_with = "optional_object")]
    seccomp: Option<SeccompOutline>,
    #[serde(deserialize_with = "null_is_default")]
    mount_label: String,
    #[serde(deserialize_with = "optional_object")]
    personality: Option<Personality>,
}

impl From<Further> for Spec {
    fn from(Further { process, annotations, linux }: Further) -> Self {
        let FurtherLinux { namespaces, uid_mappings, gid_mappings, memory_policy, seccomp, mount_label, personality } = linux;
        let linux = Linux {
            namespaces,
            uid_mappings,
            gid_mappings,
            memory_policy,
            seccomp,
            mount_label,
            personality,
            ..Linux::default()
        };
        Self { process, annotations, linux, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That no more is needed is held by `tests/good_config.rs`.
    #[test]
    fn what_is_read_is_what_the_whole_has() {
        let json = br#"{"ociVersion":"1.3.0","hostname":"h","mounts":[{"destination":"/proc"}],
            "process":{"cwd":"/","args":["a"],"capabilities":{"bounding":["CAP_KILL"]}},
            "annotations":{"run.oci.keep_original_groups":"1"},
            "linux":{"namespaces":[{"type":"pid","path":"/x"}],"uidMappings":[{"containerID":0,"hostID":1,"size":2}],
                "gidMappings":[{"containerID":0,"hostID":3,"size":4}],"mountLabel":"m","personality":{"domain":"LINUX32"},
                "memoryPolicy":{"mode":"MPOL_BIND","nodes":"0"},"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"},
                "resources":{"pids":{"limit":1}},"maskedPaths":["/m"]}}"#;
        let text = |spec: Spec| {
            let Linux { namespaces, uid_mappings, gid_mappings, memory_policy, seccomp, mount_label, personality, .. } =
                spec.linux;
            assert!(personality.is_some() && memory_policy.is_some() && seccomp.is_some());
            format!(
                "{:?} {:?} {namespaces:?} {uid_mappings:?} {gid_mappings:?} {memory_policy:?} {seccomp:?} {mount_label:?} {personality:?}",
                spec.process, spec.annotations
            )
        };
        let (whole, part) = (Spec::parse(json).unwrap(), Spec::parse_for_exec(json).unwrap());
        assert_eq!((part.mounts.len(), part.linux.resources.is_none()), (0, true));
        assert_eq!(text(whole), text(part));
    }
}
