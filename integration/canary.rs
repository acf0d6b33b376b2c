//! Things of the host that no container may change, and a look at whether one has.

use crate::bundle::Bundle;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A directory beside the bundle: `file`, an empty `dir`, and `deep/file`.
pub struct Canary {
    pub path: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    pub fn new(bundle: &Bundle) -> Canary {
        let path = bundle.home.join("canary");
        for directory in ["dir", "deep"] {
            fs::create_dir_all(path.join(directory)).expect("make a directory");
        }
        for file in ["file", "deep/file", "null"] {
            fs::write(path.join(file), "sings\n").expect("write a file");
            fs::set_permissions(path.join(file), fs::Permissions::from_mode(0o604)).expect("set its mode");
        }
        Canary { before: look(&path), path }
    }

    /// Names for `name` of it that a link in the rootfs can hold: absolute, and from above the rootfs.
    pub fn names(&self, name: &str) -> [String; 2] {
        let path = self.path.join(name).display().to_string();
        [path.clone(), format!("{}{path}", "../".repeat(40).trim_end_matches('/'))]
    }

    pub fn is_unchanged(&self) -> bool {
        look(&self.path) == self.before
    }

    #[track_caller]
    pub fn assert_unchanged(&self, what: &str) {
        assert_eq!(look(&self.path), self.before, "{what}: the canary has changed");
    }
}

/// Puts a link in the place of whatever the rootfs has there.
pub fn link(bundle: &Bundle, place: &str, target: &str) {
    let place = bundle.rootfs().join(place.trim_start_matches('/'));
    fs::create_dir_all(place.parent().expect("a parent")).expect("make the parent directory");
    match fs::symlink_metadata(&place) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(&place).expect("remove a directory"),
        Ok(_) => fs::remove_file(&place).expect("remove a file"),
        Err(_) => {}
    }
    symlink(target, place).expect("make a link");
}

fn look(path: &Path) -> BTreeMap<PathBuf, String> {
    let meta = fs::symlink_metadata(path).expect("look at the canary");
    let content = if meta.is_file() { fs::read_to_string(path).expect("read the canary") } else { String::new() };
    let facts = [meta.dev(), meta.ino(), meta.mode().into(), meta.uid().into(), meta.gid().into(), meta.rdev()];
    let mut found = BTreeMap::from([(path.to_owned(), format!("{facts:?} {} {content}", meta.mtime_nsec()))]);
    if meta.is_dir() {
        for entry in fs::read_dir(path).expect("list the canary").flatten() {
            found.append(&mut look(&entry.path()));
        }
    }
    found
}
