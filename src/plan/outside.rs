//! What of a container lies outside of it, for CRIU: it saves and restores what the container's namespaces hold, and must be
//! told of the rest by name.
//!
//! The names are destinations as `config.json` has them (engines restore with one that has the same mounts in another
//! order), never paths that were looked up where the container has a say: whoever could exchange two of them would get a
//! read-only source writable (CVE-2026-119101).

use super::{Action, Plan, Slot, Source, What};
use crate::sys::clone::flags;
use crate::sys::mount::attr;
use std::ffi::CStr;

/// A mount that shows something of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside<'a> {
    /// The field that asked for it.
    pub field: &'a str,
    /// The name that CRIU's images know it by.
    pub key: &'a CStr,
    /// Where it is asked for, inside the root.
    pub target: &'a CStr,
    /// What is mounted.
    pub slot: Slot,
    /// Nothing in the container may write through it.
    pub readonly: bool,
    /// One of `maskedPaths`: mounted only over what is no directory.
    pub mask: bool,
}

/// All mounts of a plan that show something of the host, in order.
pub fn mounts(plan: &Plan) -> Vec<Outside<'_>> {
    let null = plan.opens.iter().position(|o| matches!(o.what, What::Null)).map(Slot);
    let readonly = |slot: Slot| match plan.opens.get(slot.0).map(|o| &o.what) {
        Some(What::Tree(tree)) => (tree.attrs.set | tree.recursive_attrs.set) & attr::RDONLY != 0,
        _ => false,
    };
    let mut found = Vec::new();
    for step in &plan.steps {
        let field = step.field.as_str();
        match &step.action {
            Action::Mount(m) => {
                if let Source::Tree(slot) = m.source {
                    let readonly = readonly(slot);
                    found.push(Outside { field, key: &m.target, target: &m.target, slot, readonly, mask: false });
                }
            }
            Action::Device(d) => {
                if let Some(slot) = d.host {
                    found.push(Outside { field, key: &d.path, target: &d.path, slot, readonly: false, mask: false });
                }
            }
            Action::Mask { path, .. } => {
                if let Some(slot) = null {
                    found.push(Outside { field, key: c"/dev/null", target: path, slot, readonly: false, mask: true });
                }
            }
            _ => {}
        }
    }
    found
}

/// A namespace of somebody else that the container has joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined<'a> {
    /// Its `CLONE_NEW*` kind.
    pub kind: u64,
    /// Where it was found.
    pub path: &'a CStr,
    /// Its descriptor.
    pub slot: Slot,
    /// The field that asked for it.
    pub field: &'a str,
}

impl Joined<'_> {
    /// What CRIU calls it when it is to be left alone and found again: the name of a kind of namespace under /proc/PID/ns,
    /// and a key (the same as runc's). `None` for a kind that CRIU saves, and joins only when it restores.
    pub fn left_alone(&self) -> Option<(&'static str, &'static str)> {
        match self.kind {
            flags::NEWNET => Some(("net", "extRootNetNS")),
            flags::NEWPID => Some(("pid", "extRootPidNS")),
            _ => None,
        }
    }

    /// CRIU's name of a kind that it can join; `None` where it cannot.
    pub fn name(&self) -> Option<&'static str> {
        match self.kind {
            flags::NEWIPC => Some("ipc"),
            flags::NEWUTS => Some("uts"),
            flags::NEWTIME => Some("time"),
            flags::NEWUSER => Some("user"),
            _ => None,
        }
    }
}

/// The namespaces of others in a plan.
pub fn namespaces(plan: &Plan) -> Vec<Joined<'_>> {
    plan.opens
        .iter()
        .enumerate()
        .filter_map(|(n, open)| match open.what {
            What::Namespace(kind) => Some(Joined { kind, path: &open.path, slot: Slot(n), field: &open.field }),
            _ => None,
        })
        .collect()
}
