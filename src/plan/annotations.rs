//! Annotations that change what a plan says: crun's `run.oci.*`, which engines and users set. Every one is named by
//! `features` as potentially unsafe, so that an engine keeps users from setting them.

use crate::config::Spec;
use crate::error::{Error, Result};

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

/// Whether an annotation says yes.
pub(super) fn is_set(spec: &Spec, name: &str) -> bool {
    spec.annotations.get(name).is_some_and(|v| v == "1" || v == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_given_is_refused() {
        let spec = |annotations: &str| Spec::parse(format!(r#"{{"annotations":{annotations}}}"#).as_bytes()).unwrap();
        let error = check(&spec(r#"{"run.oci.handler":"krun"}"#)).unwrap_err();
        assert_eq!(error.field(), "/annotations/run.oci.handler");
        assert!(check(&spec(r#"{"org.example":"x"}"#)).is_ok());
    }
}
