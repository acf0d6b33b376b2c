//! The filter of system calls: the step that loads it, which the plan needs to know of, and the filter itself, which is compiled
//! when the child is at work. From `linux.seccomp`, or the annotations that stand in for parts of it, crun's.

use super::{Action, annotations};
use crate::config::{Seccomp, Spec};
use crate::error::{Error, Result};
use crate::seccomp::{self, Filter};

const FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";
const RAW_FILTER: &str = "run.oci.seccomp_bpf_data";
const RECEIVER: &str = "run.oci.seccomp.receiver";

/// The step that loads a filter, if one is asked for. The filter itself is [`filter`]'s, and comes later.
pub(super) fn step(spec: &Spec) -> Option<Action> {
    if spec.annotations.contains_key(RAW_FILTER) {
        return Some(Action::Seccomp { listens: false, filter: None });
    }
    let outline = spec.linux.seccomp.as_ref().filter(|outline| !outline.is_off())?;
    Some(Action::Seccomp { listens: outline.listens(), filter: None })
}

/// The filter of `linux.seccomp` in `config`, the text that `spec` was read from, or the one that an annotation brings
/// ready-made. `stored` gives what was kept of it when the container was made, if anything: of one with a listener, nothing.
///
/// # Errors
/// A profile that cannot be read or compiled, by its field.
pub fn filter(spec: &Spec, config: &[u8], stored: impl FnOnce() -> Option<Vec<u8>>) -> Result<Option<Filter>> {
    if step(spec).is_none() {
        return Ok(None);
    }
    if let Some(filter) = stored().and_then(|bytes| seccomp::stored::filter(&bytes)) {
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
        Some(name) if annotations::is_set(spec, FAIL_UNKNOWN) => {
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
        filter(&Spec::parse(text.as_bytes())?, text.as_bytes(), || None)
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
            let step = step(&Spec::parse(text(annotations, profile).as_bytes()).unwrap());
            let found = step.map(|step| matches!(step, Action::Seccomp { listens: true, .. }));
            assert_eq!(found, listens, "{annotations} {profile}");
            let filter = compiled(annotations, profile).unwrap();
            assert_eq!(filter.map(|filter| filter.notify.is_some()), listens, "{annotations} {profile}");
        }
    }
}
