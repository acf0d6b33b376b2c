//! Annotations that change what a plan says: crun's `run.oci.*`, which engines and users set. Every one is named by
//! `features` as potentially unsafe, so that an engine keeps users from setting them.

use super::Action;
use crate::config::{Seccomp, Spec};
use crate::error::{Error, Result};
use crate::seccomp::{self, Filter};

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

/// The step that loads a filter, if one is asked for. The filter itself is [`filter`]'s, and comes later.
pub(super) fn seccomp(spec: &Spec) -> Option<Action> {
    if spec.annotations.contains_key(RAW_FILTER) {
        return Some(Action::Seccomp { listens: false, filter: None });
    }
    let outline = spec.linux.seccomp.as_ref().filter(|outline| !outline.is_off())?;
    Some(Action::Seccomp { listens: outline.listens(), filter: None })
}

/// The filter of `linux.seccomp` in `config`, the text that `spec` was read from, or the one that an annotation brings
/// ready-made. `stored` is what was kept of it when the container was made, if anything: of one with a listener, nothing.
///
/// # Errors
/// A profile that cannot be read or compiled, by its field.
pub fn filter(spec: &Spec, config: &[u8], stored: Option<&[u8]>) -> Result<Option<Filter>> {
    if seccomp(spec).is_none() {
        return Ok(None);
    }
    if let Some(filter) = stored.and_then(seccomp::stored::filter) {
        return Ok(Some(filter));
    }
    let profile = Seccomp::parse(config)?;
    if let Some(data) = spec.annotations.get(RAW_FILTER) {
        let field = format!("/annotations/{RAW_FILTER}");
        return seccomp::raw::filter(data, profile.as_ref()).map(Some).map_err(|e| e.at(field));
    }
    let mut profile = profile.unwrap_or_default();
    // The listener of the annotation stands in for `listenerPath`.
    if let Some(path) = spec.annotations.get(RECEIVER).filter(|_| profile.listener_path.is_empty()) {
        profile.listener_path.clone_from(path);
    }
    let filter = seccomp::compile(&profile)?;
    match filter.as_ref().and_then(|filter| filter.unknown.first()) {
        Some(name) if is_set(spec, FAIL_UNKNOWN) => {
            Err(Error::new("compile seccomp profile", format!("unknown system call {name}"))
                .at("/linux/seccomp/syscalls")
                .hint(format!("the annotation {FAIL_UNKNOWN} makes it an error")))
        }
        _ => Ok(filter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(annotations: &str, profile: &str) -> String {
        format!(r#"{{"annotations":{annotations},"linux":{{"seccomp":{profile}}}}}"#)
    }

    fn compiled(annotations: &str, profile: &str) -> Result<Option<Filter>> {
        let text = text(annotations, profile);
        filter(&Spec::parse(text.as_bytes())?, text.as_bytes(), None)
    }

    #[test]
    fn an_unknown_call_can_be_an_error() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["no_such_call"],"action":"SCMP_ACT_ALLOW"}]}"#;
        assert!(compiled("{}", profile).is_ok());
        let error = compiled(r#"{"run.oci.seccomp_fail_unknown_syscall":"1"}"#, profile).unwrap_err();
        assert!(error.to_string().contains("no_such_call"), "{error}");
    }

    #[test]
    fn a_receiver_is_a_listener() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        assert!(compiled("{}", profile).is_err());
        let filter = compiled(r#"{"run.oci.seccomp.receiver":"/run/agent"}"#, profile).unwrap().unwrap();
        assert_eq!(filter.notify.unwrap().listener_path, "/run/agent");
    }

    #[test]
    fn the_step_is_there_exactly_when_there_is_a_filter() {
        let notify = r#"{"listenerPath":"/a","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}],"defaultAction":"SCMP_ACT_ALLOW"}"#;
        for (annotations, profile, listens) in [
            ("{}", "null", None),
            ("{}", "{}", None),
            ("{}", r#"{"architectures":["SCMP_ARCH_X86"],"syscalls":[]}"#, None),
            ("{}", r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#, Some(false)),
            ("{}", notify, Some(true)),
            (r#"{"run.oci.seccomp_bpf_data":"BgAAAAAA/38="}"#, "null", Some(false)),
            (r#"{"run.oci.seccomp_bpf_data":"BgAAAAAA/38="}"#, notify, Some(false)),
        ] {
            let step = seccomp(&Spec::parse(text(annotations, profile).as_bytes()).unwrap());
            let found = step.map(|step| matches!(step, Action::Seccomp { listens: true, .. }));
            assert_eq!(found, listens, "{annotations} {profile}");
            let filter = compiled(annotations, profile).unwrap();
            assert_eq!(filter.map(|filter| filter.notify.is_some()), listens, "{annotations} {profile}");
        }
    }

    #[test]
    fn what_cannot_be_given_is_refused() {
        let spec = |annotations: &str| Spec::parse(text(annotations, "null").as_bytes()).unwrap();
        let error = check(&spec(r#"{"run.oci.handler":"krun"}"#)).unwrap_err();
        assert_eq!(error.field(), "/annotations/run.oci.handler");
        assert!(check(&spec(r#"{"org.example":"x"}"#)).is_ok());
    }
}
