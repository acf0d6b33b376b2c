//! Annotations that change what a plan says: crun's `run.oci.*`, which engines and users set. Every one is named by
//! `features` as potentially unsafe, so that an engine keeps users from setting them.

use crate::config::{Seccomp, Spec};
use crate::error::{Error, Result};
use crate::seccomp::{self, Filter};
use std::borrow::Cow;

const FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";
const RAW_FILTER: &str = "run.oci.seccomp_bpf_data";
const RECEIVER: &str = "run.oci.seccomp.receiver";
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// Those whose work is not there yet, or will never be: asked for in vain, they would weaken or change what the user gets.
const REFUSED: [&str; 5] = [
    "run.oci.handler",
    "run.oci.seccomp.plugins",
    "run.oci.systemd.force_cgroup_v1",
    "run.oci.systemd.subgroup",
    "run.oci.delegate-cgroup",
];

/// Refuses annotations that ask for what cannot be given.
pub fn check(spec: &Spec) -> Result<()> {
    match REFUSED.iter().find(|name| spec.annotations.contains_key(**name)) {
        Some(name) => Err(Error::new(format!("annotation {name}"), "not supported").at(format!("/annotations/{name}"))),
        None => Ok(()),
    }
}

/// Whether the caller's supplementary groups stay.
pub fn keeps_groups(spec: &Spec) -> bool {
    is_set(spec, KEEP_GROUPS)
}

fn is_set(spec: &Spec, name: &str) -> bool {
    spec.annotations.get(name).is_some_and(|v| v == "1" || v == "true")
}

/// The filter of `linux.seccomp`, or the one that an annotation brings ready-made. `stored` is what was kept of it when the
/// container was made, if anything.
pub fn filter(spec: &Spec, stored: Option<&[u8]>) -> Result<Option<Filter>> {
    let profile = spec.linux.seccomp.as_ref().map(|profile| with_receiver(spec, profile));
    if let Some(filter) = stored.and_then(|bytes| seccomp::stored::filter(bytes, profile.as_deref())) {
        return Ok(Some(filter));
    }
    if let Some(data) = spec.annotations.get(RAW_FILTER) {
        let field = format!("/annotations/{RAW_FILTER}");
        return seccomp::raw::filter(data, spec.linux.seccomp.as_ref()).map(Some).map_err(|e| e.at(field));
    }
    let Some(profile) = profile else { return Ok(None) };
    let Some(filter) = seccomp::compile(&profile)? else { return Ok(None) };
    match filter.unknown.first() {
        Some(name) if is_set(spec, FAIL_UNKNOWN) => {
            Err(Error::new("compile seccomp profile", format!("unknown system call {name}"))
                .at("/linux/seccomp/syscalls")
                .hint(format!("the annotation {FAIL_UNKNOWN} makes it an error")))
        }
        _ => Ok(Some(filter)),
    }
}

/// The listener of the annotation stands in for `listenerPath`.
fn with_receiver<'a>(spec: &Spec, profile: &'a Seccomp) -> Cow<'a, Seccomp> {
    match spec.annotations.get(RECEIVER) {
        Some(path) if profile.listener_path.is_empty() => Cow::Owned(Seccomp { listener_path: path.clone(), ..profile.clone() }),
        _ => Cow::Borrowed(profile),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(annotations: &str, profile: &str) -> Spec {
        let text = format!(r#"{{"annotations":{annotations},"linux":{{"seccomp":{profile}}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_unknown_call_can_be_an_error() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["no_such_call"],"action":"SCMP_ACT_ALLOW"}]}"#;
        assert!(filter(&spec("{}", profile), None).is_ok());
        let error = filter(&spec(r#"{"run.oci.seccomp_fail_unknown_syscall":"1"}"#, profile), None).unwrap_err();
        assert!(error.to_string().contains("no_such_call"), "{error}");
    }

    #[test]
    fn a_receiver_is_a_listener() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        assert!(filter(&spec("{}", profile), None).is_err());
        let filter = filter(&spec(r#"{"run.oci.seccomp.receiver":"/run/agent"}"#, profile), None).unwrap().unwrap();
        assert_eq!(filter.notify.unwrap().listener_path, "/run/agent");
    }

    #[test]
    fn what_cannot_be_given_is_refused() {
        let error = check(&spec(r#"{"run.oci.handler":"krun"}"#, "null")).unwrap_err();
        assert_eq!(error.field(), "/annotations/run.oci.handler");
        assert!(check(&spec(r#"{"org.example":"x"}"#, "null")).is_ok());
    }
}
