//! Paths, by their words alone.

use super::Spec;
use std::path::Path;

/// A path from /, without `.`, `..` and doubled slashes, as runc cleans paths before it looks them up.
pub fn clean(path: &str) -> String {
    let mut clean = String::with_capacity(path.len() + 1);
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => clean.truncate(clean.rfind('/').unwrap_or(0)),
            name => {
                clean.push('/');
                clean.push_str(name);
            }
        }
    }
    if clean.is_empty() {
        clean.push('/');
    }
    clean
}

impl Spec {
    /// Where a path of the host lies in the root file system, if it does: from the container's /. A root that is the host's has
    /// no such paths.
    pub fn inside_root(&self, bundle: &Path, path: &Path) -> Option<String> {
        let root = clean(&bundle.join(&self.root.as_ref()?.path).to_string_lossy());
        // Cleaning only shortens: most paths are the container's own, and too short.
        if path.as_os_str().len() < root.len() || root == "/" {
            return None;
        }
        let path = clean(&path.to_string_lossy());
        path.strip_prefix(&root).filter(|rest| rest.is_empty() || rest.starts_with('/')).map(clean)
    }

    /// Makes destinations of mounts that are written as paths of the host, below the root's, paths of the container. runc has
    /// always taken both.
    pub(super) fn take_destinations_inside(&mut self, bundle: &Path) {
        let inside: Vec<_> = self.mounts.iter().map(|mount| self.inside_root(bundle, mount.destination())).collect();
        for (mount, inside) in self.mounts.iter_mut().zip(inside) {
            if let Some(inside) = inside {
                mount.set_destination(inside.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (path, want) in [("/a/../../b/./c//", "/b/c"), ("x", "/x"), ("/", "/"), ("..", "/")] {
            assert_eq!(clean(path), want);
        }
    }

    #[test]
    fn paths_of_the_host_are_found_inside_the_root() {
        let spec = |root: &str| Spec::parse(format!(r#"{{"root":{{"path":"{root}"}}}}"#).as_bytes()).unwrap();
        for (root, path, inside) in [
            ("rootfs", "/b/rootfs/mnt/x", Some("/mnt/x")),
            ("rootfs", "/b/./rootfs/../rootfs//mnt/", Some("/mnt")),
            ("rootfs", "/b/rootfs", Some("/")),
            ("rootfs", "/b/rootfs2/mnt", None),
            ("rootfs", "/mnt", None),
            ("rootfs", "/b/rootfs/../mnt", None),
            ("/srv/root/", "/srv/root/etc", Some("/etc")),
            ("../b/rootfs", "/b/rootfs/etc", Some("/etc")),
            ("/", "/etc", None),
        ] {
            assert_eq!(spec(root).inside_root(Path::new("/b"), Path::new(path)).as_deref(), inside, "{path}");
        }
        assert_eq!(Spec::default().inside_root(Path::new("/b"), Path::new("/b/rootfs")), None);
    }
}
