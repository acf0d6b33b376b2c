//! The rootfs -> steps: devices and links of /dev, the console, the pivot, what is hidden and what is read-only.

use super::mounts::{self, Context};
use super::{Action, Device, Node, Open, Slot, Step, What, c_string};
use crate::config::{clean, options};
use crate::error::{Error, Result};
use crate::sys::clone::flags;
use crate::sys::mount::Attrs;
use std::ffi::CString;

/// Devices that every container has (config-linux.md, Default Devices), mode 0666.
const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links that every container has (runtime-linux.md, Dev symbolic links): name, target, replaced if taken, needed file.
const LINKS: [(&str, &str, bool, Option<&str>); 6] = [
    ("/dev/fd", "/proc/self/fd", false, None),
    ("/dev/stdin", "/proc/self/fd/0", false, None),
    ("/dev/stdout", "/proc/self/fd/1", false, None),
    ("/dev/stderr", "/proc/self/fd/2", false, None),
    ("/dev/core", "/proc/kcore", false, Some("/proc/kcore")),
    // Never a node: the devpts instance has its own.
    ("/dev/ptmx", "pts/ptmx", true, None),
];

/// Propagation and the rootfs itself.
pub fn hold(context: &Context<'_>, steps: &mut Vec<Step>) -> Result<()> {
    let spec = context.spec;
    let root = spec.root.as_ref().ok_or_else(|| Error::new("root", "is missing").at("/root"))?;
    let path = c_string(&context.bundle.join(&root.path).to_string_lossy(), "/root/path")?;
    let (propagation, _) = mounts::root_propagation(&spec.linux.rootfs_propagation);
    let field = if spec.linux.rootfs_propagation.is_empty() { String::new() } else { "/linux/rootfsPropagation".to_string() };
    // An unbindable mount cannot be cloned, and the rootfs is: it becomes so once it is the root.
    let first = if propagation == libc::MS_UNBINDABLE { libc::MS_PRIVATE } else { propagation };
    let attrs = Attrs { propagation: first, ..Attrs::default() };
    steps.push(Step { field: field.clone(), action: Action::Propagation(attrs) });
    let shared = propagation == libc::MS_SHARED;
    if shared {
        steps.push(Step { field, action: Action::PrivateParent(path.clone()) });
    }
    if !context.host.privileged || context.host.foreign_mounts {
        steps.push(Step { field: String::new(), action: Action::Opens });
    }
    // Without a word for it the root is cut off, as in runc: mounts that the host makes below the rootfs stay outside.
    let private = spec.linux.rootfs_propagation.is_empty();
    steps.push(Step { field: "/root/path".into(), action: Action::Root { path, private } });
    Ok(())
}

fn is_dev_the_host_s(context: &Context<'_>) -> bool {
    context.spec.mounts.iter().any(|m| {
        let bind = || options::parse(m.options().as_deref().unwrap_or_default()).is_ok_and(|o| o.bind);
        clean(&m.destination().to_string_lossy()) == "/dev" && (m.typ().as_deref() == Some("bind") || bind())
    })
}

/// Devices and links of /dev. Not where /dev is the host's.
pub fn dev(context: &Context<'_>, opens: &mut Vec<Open>, steps: &mut Vec<Step>) -> Result<()> {
    if is_dev_the_host_s(context) {
        return Ok(());
    }
    let userns = context.namespaces.has(flags::NEWUSER);
    let c = |s: &str| CString::new(s).unwrap_or_default();
    let mut add = |field: String, path: &str, mode: u32, dev: u64, uid: u32, gid: u32| -> Result<()> {
        let c_path = c_string(path, &format!("{field}/path"))?;
        // A user namespace makes no nodes but FIFOs.
        let kind = mode & libc::S_IFMT;
        let host = (userns && kind != libc::S_IFIFO).then(|| {
            let directory = if kind == libc::S_IFBLK { "block" } else { "char" };
            let by_number = c(&format!("/dev/{directory}/{}:{}", libc::major(dev), libc::minor(dev)));
            opens.push(Open { field: field.clone(), path: c_path.clone(), what: What::Node(Node { kind, dev, by_number }) });
            Slot(opens.len() - 1)
        });
        steps.push(Step { field, action: Action::Device(Device { path: c_path, mode, dev, uid, gid, host }) });
        Ok(())
    };
    let asked = &context.spec.linux.devices;
    for (path, major, minor) in DEVICES {
        if !asked.iter().any(|d| clean(&d.path) == path) {
            add(String::new(), path, libc::S_IFCHR | 0o666, libc::makedev(major, minor), 0, 0)?;
        }
    }
    for (n, d) in asked.iter().enumerate() {
        let field = format!("/linux/devices/{n}");
        let path = clean(&d.path);
        if path == "/dev/ptmx" {
            // The link to the container's own devpts takes its place, as in runc.
            continue;
        }
        let kind = match d.kind.as_str() {
            "b" => libc::S_IFBLK,
            "p" => libc::S_IFIFO,
            _ => libc::S_IFCHR,
        };
        let number =
            |n: i64, name: &str| u32::try_from(n).map_err(|_| Error::new(name, "out of range").at(format!("{field}/{name}")));
        let dev = if kind == libc::S_IFIFO { 0 } else { libc::makedev(number(d.major, "major")?, number(d.minor, "minor")?) };
        let mode = kind | d.file_mode.unwrap_or(0o666) & 0o7777;
        add(field.clone(), &path, mode, dev, d.uid.unwrap_or(0), d.gid.unwrap_or(0))?;
    }
    for (path, target, replace, only_if) in LINKS {
        let action = Action::Symlink { path: c(path), target: c(target), replace, only_if: only_if.map(c) };
        steps.push(Step { field: String::new(), action });
    }
    Ok(())
}

/// The change of root.
///
/// # Errors
/// None but of a path with a NUL.
pub fn enter(context: &Context<'_>, no_pivot: bool, steps: &mut Vec<Step>) -> Result<()> {
    let word = &context.spec.linux.rootfs_propagation;
    let (propagation, recursive) = mounts::root_propagation(word);
    let shared = propagation == libc::MS_SHARED;
    if no_pivot {
        for path in &context.host.bare_mounts {
            steps.push(Step { field: String::new(), action: Action::Unexpose(c_string(path, "")?) });
        }
    }
    let action = if no_pivot { Action::MoveRoot } else { Action::Pivot { old_root_shared: shared } };
    steps.push(Step { field: "/root/path".into(), action });
    if !word.is_empty() && propagation != libc::MS_PRIVATE {
        let attrs = Attrs { propagation, ..Attrs::default() };
        steps.push(Step { field: "/linux/rootfsPropagation".into(), action: Action::RootPropagation(attrs, recursive) });
    }
    // A terminal replaces them anyhow.
    if !is_dev_the_host_s(context) && !context.spec.process.as_ref().is_some_and(|p| p.terminal) {
        steps.push(Step { field: String::new(), action: Action::NullStreams });
    }
    Ok(())
}

/// What is made read-only and what is hidden, once everything is in place.
pub fn close(context: &Context<'_>, opens: &mut Vec<Open>, steps: &mut Vec<Step>) -> Result<()> {
    let spec = context.spec;
    if spec.root.as_ref().is_some_and(|r| r.readonly) {
        steps.push(Step { field: "/root/readonly".into(), action: Action::ReadonlyRoot });
    }
    for (n, path) in spec.linux.readonly_paths.iter().enumerate() {
        let field = format!("/linux/readonlyPaths/{n}");
        let path = c_string(&clean(path), &field)?;
        steps.push(Step { field, action: Action::Readonly(path) });
    }
    if !spec.linux.masked_paths.is_empty() {
        opens.push(Open { field: "/linux/maskedPaths".into(), path: c"/dev/null".into(), what: What::Null });
    }
    let label = super::labels::of_mounts(spec, context.host)?;
    for (n, path) in spec.linux.masked_paths.iter().enumerate() {
        let field = format!("/linux/maskedPaths/{n}");
        let path = c_string(&clean(path), &field)?;
        steps.push(Step { field, action: Action::Mask { path, label: label.clone() } });
    }
    Ok(())
}
