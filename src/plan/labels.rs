//! Labels of security modules -> steps: AppArmor's profile and SELinux's label of the program, the label of what is mounted.
//!
//! A module that is off cannot be asked for anything: the container is refused, and never runs unconfined instead.

use super::{Action, Step, c_string};
use crate::config::{Process, Spec};
use crate::error::{Error, Result};
use crate::host::Host;
use std::ffi::CString;

const APPARMOR: &str = "/process/apparmorProfile";
const SELINUX: &str = "/process/selinuxLabel";
const MOUNTS: &str = "/linux/mountLabel";
/// crun's annotation: which of SELinux's mount options says it.
pub(super) const CONTEXT_TYPE: &str = "run.oci.mount_context_type";
/// SELinux's mount options.
pub const CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// `process.apparmorProfile`. Nothing for `unconfined` where AppArmor is off: so everything is there.
///
/// # Errors
/// AppArmor is off.
pub fn apparmor(process: &Process, host: &Host) -> Result<Option<Step>> {
    let profile = &process.apparmor_profile;
    if profile.is_empty() || (profile == "unconfined" && !host.apparmor) {
        return Ok(None);
    }
    if !host.apparmor {
        let error = Error::new("apparmor", "config provided but apparmor not supported").at(APPARMOR);
        return Err(error.hint("boot the host with AppArmor (lsm=...,apparmor), or leave the profile out"));
    }
    let action =
        Action::ExecProfile { command: c_string(&format!("exec {profile}"), APPARMOR)?, profile: c_string(profile, APPARMOR)? };
    Ok(Some(Step { field: APPARMOR.into(), action }))
}

/// `process.selinuxLabel`: of the program, and of the session keyring.
///
/// # Errors
/// SELinux is off.
fn selinux(process: &Process, host: &Host) -> Result<Option<CString>> {
    if process.selinux_label.is_empty() {
        return Ok(None);
    }
    if !host.selinux {
        let cause = "selinux label is specified in config, but selinux is disabled or not supported";
        let error = Error::new("label the process", cause).at(SELINUX);
        return Err(error.hint("boot the host with SELinux and a policy, or leave the label out"));
    }
    c_string(&process.selinux_label, SELINUX).map(Some)
}

/// The step that labels the keyring, before that is made.
pub fn key(process: &Process, host: &Host) -> Result<Option<Step>> {
    Ok(selinux(process, host)?.map(|label| Step { field: SELINUX.into(), action: Action::KeyLabel(label) }))
}

/// The step that labels the program.
pub fn program(process: &Process, host: &Host) -> Result<Option<Step>> {
    Ok(selinux(process, host)?.map(|label| Step { field: SELINUX.into(), action: Action::ExecLabel(label) }))
}

/// Whether steps of this process write to its /proc/self/attr: the field that asks for it.
pub fn field(process: &Process, host: &Host) -> Option<&'static str> {
    match (process.selinux_label.is_empty(), process.apparmor_profile.is_empty()) {
        (false, _) => Some(SELINUX),
        (_, false) if host.apparmor => Some(APPARMOR),
        _ => None,
    }
}

/// `linux.mountLabel` as a parameter of a new file system.
///
/// # Errors
/// SELinux is off, or the annotation says something else than a mount option of SELinux's.
pub fn of_mounts(spec: &Spec, host: &Host) -> Result<Option<(CString, CString)>> {
    let label = &spec.linux.mount_label;
    if label.is_empty() {
        return Ok(None);
    }
    if !host.selinux {
        let error = Error::new(format!("label mounts {label}"), "selinux is disabled or not supported").at(MOUNTS);
        return Err(error.hint("boot the host with SELinux and a policy, or leave the label out"));
    }
    let key = spec.annotations.get(CONTEXT_TYPE).map_or(CONTEXTS[0], String::as_str);
    if !CONTEXTS.contains(&key) {
        let error = Error::new(format!("annotation {CONTEXT_TYPE}"), format!("{key:?} is none of {}", CONTEXTS.join(", ")));
        return Err(error.at(format!("/annotations/{CONTEXT_TYPE}")));
    }
    Ok(Some((c_string(key, MOUNTS)?, c_string(label, MOUNTS)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(apparmor: &str, selinux: &str) -> Process {
        Process { apparmor_profile: apparmor.into(), selinux_label: selinux.into(), ..Process::default() }
    }

    #[test]
    fn what_is_off_is_refused() {
        let (off, on) = (Host::default(), Host { apparmor: true, selinux: true, ..Host::default() });
        assert_eq!(apparmor(&process("x", ""), &off).unwrap_err().field(), APPARMOR);
        assert_eq!(program(&process("", "x"), &off).unwrap_err().field(), SELINUX);
        assert!(apparmor(&process("unconfined", ""), &off).unwrap().is_none());
        assert!(apparmor(&process("", ""), &on).unwrap().is_none());
        let step = apparmor(&process("unconfined", ""), &on).unwrap().unwrap();
        assert!(matches!(step.action, Action::ExecProfile { command, .. } if command.as_c_str() == c"exec unconfined"));
    }

    #[test]
    fn the_mount_option_can_be_another() {
        let host = Host { selinux: true, ..Host::default() };
        let spec = |kind: &str| {
            let text = format!(r#"{{"linux":{{"mountLabel":"u:r:t:s0"}},"annotations":{{"{CONTEXT_TYPE}":"{kind}"}}}}"#);
            Spec::parse(text.as_bytes()).unwrap()
        };
        assert_eq!(of_mounts(&spec("rootcontext"), &host).unwrap().unwrap().0.as_c_str(), c"rootcontext");
        assert_eq!(of_mounts(&spec("size"), &host).unwrap_err().field(), format!("/annotations/{CONTEXT_TYPE}"));
        assert_eq!(of_mounts(&spec("context"), &Host::default()).unwrap_err().field(), MOUNTS);
    }
}
