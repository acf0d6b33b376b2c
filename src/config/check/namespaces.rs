//! `linux.namespaces`: which types the container has of its own or joins.

use super::{absolute, broken};
use crate::config::Namespace;
use crate::error::Result;

const TYPES: &[&str] = &["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];

/// The list, each type known and there once.
pub(super) struct Namespaces<'a>(&'a [Namespace]);

impl<'a> Namespaces<'a> {
    pub(super) fn check(list: &'a [Namespace]) -> Result<Self> {
        for (n, namespace) in list.iter().enumerate() {
            let field = format!("/linux/namespaces/{n}");
            if !TYPES.contains(&namespace.kind.as_str()) {
                return Err(broken(field + "/type", "unknown namespace type", format!("{:?}", namespace.kind)));
            }
            if list.iter().take(n).any(|other| other.kind == namespace.kind) {
                return Err(broken(field + "/type", "duplicate namespace", format!("{:?}", namespace.kind)));
            }
            if !namespace.path.is_empty() {
                absolute(field + "/path", &namespace.path)?;
            }
        }
        Ok(Self(list))
    }

    /// Is one made or joined?
    pub(super) fn has(&self, kind: &str) -> bool {
        self.0.iter().any(|n| n.kind == kind)
    }

    /// Is one made?
    pub(super) fn makes(&self, kind: &str) -> bool {
        self.0.iter().any(|n| n.kind == kind && n.path.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(kinds: &[(&str, &str)]) -> Vec<Namespace> {
        kinds.iter().map(|(k, p)| Namespace { kind: (*k).to_owned(), path: (*p).to_owned() }).collect()
    }

    #[test]
    fn made_and_joined() {
        let l = list(&[("pid", ""), ("network", "/run/netns/a")]);
        let n = Namespaces::check(&l).unwrap();
        assert!(n.has("pid") && n.makes("pid") && n.has("network") && !n.makes("network") && !n.has("user"));
    }

    #[test]
    fn broken_lists() {
        let at = |kinds: &[(&str, &str)]| Namespaces::check(&list(kinds)).err().map(|e| e.field().to_owned()).unwrap_or_default();
        assert_eq!(at(&[("pid", ""), ("net", "")]), "/linux/namespaces/1/type");
        assert_eq!(at(&[("pid", ""), ("pid", "/x")]), "/linux/namespaces/1/type");
        assert_eq!(at(&[("pid", "proc/1/ns/pid")]), "/linux/namespaces/0/path");
        assert_eq!(at(&[("pid", "/x\0")]), "/linux/namespaces/0/path");
    }
}
