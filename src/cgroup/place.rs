//! `linux.cgroupsPath` -> the directory below the cgroup2 mount. Pure, and for the cgroupfs driver only.
//!
//! The rules are runc's (`fs2/defaultpath.go`), since engines compute the same path to read statistics from it.

use crate::error::{Error, Result};
use std::path::PathBuf;

const FIELD: &str = "/linux/cgroupsPath";

/// The container's cgroup, relative to the mount: no leading slash, no `.` or `..`, never empty.
///
/// An absolute `cgroups_path` lies below the mount. A relative one lies beside the caller's own cgroup `own` (an absolute
/// path as in `/proc/self/cgroup`): the own one holds processes, so it can hand down no controller. An empty one stands
/// for `id`. `..` stops at the start of what was given, so that no path leaves the mount. Colons mean nothing here:
/// `slice:prefix:name` is a plain name without the systemd driver.
///
/// Fails when the path names no directory of its own (`/`, `.`), or has a NUL or a newline, which cgroups(7) refuses.
pub fn directory(cgroups_path: &str, id: &str, own: &str) -> Result<PathBuf> {
    let bad = |cause: String| Err(Error::new("place the cgroup", cause).at(FIELD));
    if cgroups_path.contains(['\0', '\n']) {
        return bad(format!("{cgroups_path:?} holds a character that no cgroup's name may have"));
    }
    let asked = if cgroups_path.is_empty() { id } else { cgroups_path };
    let inner = clean(asked);
    if inner.is_empty() {
        return bad(format!("{asked:?} names no cgroup of its own"));
    }
    let mut whole = Vec::new();
    if !asked.starts_with('/') {
        whole = clean(own);
        whole.pop();
    }
    whole.extend(inner);
    Ok(whole.iter().collect())
}

/// The components that are left when `.`, `..` and doubled slashes are worked out; `..` at the start goes nowhere.
pub(super) fn clean(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_runc_places_it() {
        for (path, own, want) in [
            ("/docker/abc", "/user.slice/s.scope", "docker/abc"),
            ("docker/abc", "/user.slice/s.scope", "user.slice/docker/abc"),
            ("", "/user.slice/s.scope", "user.slice/the-id"),
            ("", "/", "the-id"),
            ("x", "/one", "x"),
            ("/../../etc", "/a/b", "etc"),
            ("/a/../../b/./c//d/", "/", "b/c/d"),
            ("../../x", "/a/b/c", "a/b/x"),
            ("a/../../x", "/a/b/c", "a/b/x"),
            ("system.slice:onggi:the-id", "/", "system.slice:onggi:the-id"),
            ("/system.slice:onggi:the-id", "/a/b", "system.slice:onggi:the-id"),
            // Outside the root of our own cgroup namespace.
            ("x", "/../other", "x"),
        ] {
            assert_eq!(directory(path, "the-id", own).unwrap(), PathBuf::from(want), "{path} below {own}");
        }
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        for path in ["/", ".", "..", "/..", "a/..", "./.", "a\nb", "a\0b"] {
            let e = directory(path, "the-id", "/a/b").unwrap_err();
            assert_eq!(e.field(), "/linux/cgroupsPath", "{path:?}");
        }
    }
}
