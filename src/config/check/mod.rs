//! The rules inside and between the fields of `config.json` that can be judged without the host. Pure: no file is looked
//! at, nothing is asked of the kernel.
//!
//! What a file, a label or a controller has to say about a configuration is judged where it is used. Everything here is
//! refused before any file, cgroup or process exists, each time with the field to blame. Unknown members never fail.

mod identity;
mod linux;
mod mounts;
mod namespaces;
mod process;
mod rdt;
mod resources;
mod sysctl;

pub use mounts::may_lie_in_proc;
pub use process::process;
pub use resources::resources;
pub use sysctl::sysctl_path;

use super::place::member;
use super::{Hook, Hooks, Spec, values};
use crate::error::{Error, Result};
use namespaces::Namespaces;
use std::collections::BTreeSet;

/// Checks the whole configuration.
///
/// # Errors
/// The first broken rule, with the JSON pointer of its field.
pub fn check(spec: &Spec) -> Result<()> {
    version(&spec.oci_version)?;
    root(spec)?;
    let namespaces = Namespaces::check(&spec.linux.namespaces)?;
    names(spec, &namespaces)?;
    identity::check(&spec.linux, &namespaces)?;
    if let Some(p) = &spec.process {
        process(p).map_err(|e| e.under("/process"))?;
        identity::process(p, &spec.linux, &namespaces)?;
    }
    mounts::check(spec, &namespaces)?;
    hooks(spec.hooks.as_ref())?;
    linux::check(&spec.linux, &namespaces)?;
    sysctl::check(&spec.linux.sysctl, &namespaces)?;
    match &spec.linux.resources {
        Some(r) => resources(r).map_err(|e| e.under("/linux/resources")),
        None => Ok(()),
    }
}

/// What is let pass but should be said: each once, with its field.
pub fn warnings(spec: &Spec) -> Vec<Error> {
    let (mut said, mut unknown) = (Vec::new(), BTreeSet::new());
    if let Some(c) = spec.process.as_ref().and_then(|p| p.capabilities.as_ref()) {
        for (set, names) in [
            ("bounding", &c.bounding),
            ("effective", &c.effective),
            ("inheritable", &c.inheritable),
            ("permitted", &c.permitted),
            ("ambient", &c.ambient),
        ] {
            for name in values::capabilities(names).unknown.into_iter().filter(|n| unknown.insert(n.clone())) {
                said.push(Error::new("ignoring unknown capability", name).at(format!("/process/capabilities/{set}")));
            }
        }
    }
    for (n, m) in spec.mounts.iter().enumerate() {
        if m.destination().is_relative() {
            let field = format!("/mounts/{n}/destination");
            said.push(Error::new("relative destination", format!("{:?} is taken from /", m.destination())).at(field));
        }
    }
    if spec.linux.personality.as_ref().is_some_and(|p| !p.flags.is_empty()) {
        said.push(Error::new("ignoring personality flags", "none is supported").at("/linux/personality/flags"));
    }
    said
}

/// A broken rule: the field, the rule, the value.
fn broken(field: impl Into<String>, rule: impl Into<String>, value: impl Into<String>) -> Error {
    Error::new(rule, value).at(field)
}

/// C strings end at a NUL: what stands behind one would be lost on the way to the kernel.
fn no_nul(field: impl Into<String>, text: &str) -> Result<()> {
    if text.contains('\0') { Err(broken(field, "contains a NUL byte", format!("{text:?}"))) } else { Ok(()) }
}

fn absolute(field: impl Into<String> + Clone, path: &str) -> Result<()> {
    no_nul(field.clone(), path)?;
    if path.starts_with('/') { Ok(()) } else { Err(broken(field, "not an absolute path", format!("{path:?}"))) }
}

/// SemVer 2.0.0, major version 1; pre-releases of 1.0.0 were in use and count as 1.
fn version(text: &str) -> Result<()> {
    let field = "/ociVersion";
    if text.is_empty() {
        return Err(broken(field, "missing", "required by the OCI runtime specification"));
    }
    let bad = || broken(field, "not a semantic version", format!("{text:?}"));
    let (rest, build) = text.split_once('+').map_or((text, None), |(r, b)| (r, Some(b)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(c, p)| (c, Some(p)));
    let identifier = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()) && (s == "0" || !s.starts_with('0'));
    let numeric_if_digits = |s: &str| !s.bytes().all(|b| b.is_ascii_digit()) || number(s);
    if core.split('.').count() != 3
        || !core.split('.').all(number)
        || !pre.is_none_or(|p| p.split('.').all(|i| identifier(i) && numeric_if_digits(i)))
        || !build.is_none_or(|b| b.split('.').all(identifier))
    {
        return Err(bad());
    }
    match core.split('.').next() {
        Some("1") => Ok(()),
        _ => Err(broken(field, "unsupported version", format!("{text:?} is not 1.x"))),
    }
}

fn root(spec: &Spec) -> Result<()> {
    let root = spec.root.as_ref().ok_or_else(|| broken("/root", "missing", "a container needs a root filesystem"))?;
    if root.path.as_os_str().is_empty() {
        return Err(broken("/root/path", "missing", "a container needs a root filesystem"));
    }
    no_nul("/root/path", &root.path.to_string_lossy())
}

/// The kernel's `__NEW_UTS_LEN`.
const MAX_NAME: usize = 64;

fn names(spec: &Spec, namespaces: &Namespaces) -> Result<()> {
    for (field, what, name) in [("/hostname", "hostname", &spec.hostname), ("/domainname", "domainname", &spec.domainname)] {
        if name.is_empty() {
            continue;
        }
        if !namespaces.has("uts") {
            return Err(broken(field, format!("unable to set {what} without a private UTS namespace"), ""));
        }
        no_nul(field, name)?;
        if name.len() > MAX_NAME {
            return Err(broken(field, "too long", format!("{} bytes, the kernel takes {MAX_NAME}", name.len())));
        }
    }
    Ok(())
}

fn hooks(hooks: Option<&Hooks>) -> Result<()> {
    let Some(h) = hooks else { return Ok(()) };
    // Deprecated in the spec, and still what Docker uses.
    #[allow(deprecated)]
    let prestart = h.prestart();
    for (kind, list) in [
        ("prestart", prestart),
        ("createRuntime", h.create_runtime()),
        ("createContainer", h.create_container()),
        ("startContainer", h.start_container()),
        ("poststart", h.poststart()),
        ("poststop", h.poststop()),
    ] {
        for (n, hook) in list.iter().flatten().enumerate() {
            self::hook(hook).map_err(|e| e.under(&format!("/hooks/{kind}/{n}")))?;
        }
    }
    Ok(())
}

fn hook(hook: &Hook) -> Result<()> {
    absolute("/path", &hook.path().to_string_lossy())?;
    for (n, arg) in hook.args().iter().flatten().enumerate() {
        no_nul(format!("/args/{n}"), arg)?;
    }
    if let Some(env) = hook.env() {
        values::environment(env).map_err(|e| e.under("/env"))?;
    }
    match hook.timeout() {
        Some(seconds) if seconds <= 0 => Err(broken("/timeout", "not above 0", format!("{seconds} s"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for ok in ["1.0.0", "1.0.2-dev", "1.0.0-rc5", "1.3.0", "1.99.0+x.y-1", "1.0.0-rc.1+b", "1.2.0-x-y"] {
            assert!(version(ok).is_ok(), "{ok}");
        }
        for bad in [
            "",
            "1",
            "1.0",
            "1.0.0.0",
            "v1.0.0",
            "01.0.0",
            "1.0.0-",
            "1.0.0-01",
            "1.0.0+",
            "1.0.0-a..b",
            "0.9.0",
            "2.0.0",
            "10.0.0",
        ] {
            assert_eq!(version(bad).unwrap_err().field(), "/ociVersion", "{bad}");
        }
    }

    #[test]
    fn what_is_only_said() {
        let spec = Spec::parse(
            br#"{"process":{"capabilities":{"bounding":["CAP_KILL","CAP_NEW"],"ambient":["CAP_NEW","x"]}},
            "mounts":[{"destination":"data"}],"linux":{"personality":{"domain":"LINUX","flags":["X"]}}}"#,
        )
        .unwrap();
        let lines: Vec<String> = warnings(&spec).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "/process/capabilities/bounding: ignoring unknown capability: CAP_NEW",
                "/process/capabilities/ambient: ignoring unknown capability: x",
                "/mounts/0/destination: relative destination: \"data\" is taken from /",
                "/linux/personality/flags: ignoring personality flags: none is supported",
            ]
        );
    }
}
