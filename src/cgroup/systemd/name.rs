//! `linux.cgroupsPath` as `slice:prefix:name` -> the names of a unit and of the slice that it lies in. Pure.

use crate::error::{Error, Result};
use std::path::PathBuf;

const FIELD: &str = "/linux/cgroupsPath";

/// The longest name of a unit (systemd's `UNIT_NAME_MAX`, without the NUL).
const LONGEST: usize = 255;

/// The unit of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Of the unit: a scope, or a slice when the container's name is that of one.
    pub unit: String,
    /// The slice above it.
    pub slice: String,
}

impl Name {
    /// Reads `cgroups_path`; an empty one stands for a scope `onggi-ID.scope`. An empty slice is `default_slice`.
    ///
    /// # Errors
    /// Not of that form, or names that systemd refuses.
    pub fn parse(cgroups_path: &str, id: &str, default_slice: &str) -> Result<Self> {
        let escaped = id.replace('+', "\\x2b");
        let parts: Vec<&str> = match cgroups_path {
            "" => vec!["", "onggi", &escaped],
            path => path.split(':').collect(),
        };
        let &[slice, prefix, name] = parts.as_slice() else {
            return Err(Error::exact(format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"{cgroups_path}\" instead"
            ))
            .at(FIELD));
        };
        let unit = match (prefix, name) {
            (_, name) if name.ends_with(".slice") => name.to_owned(),
            ("", name) => format!("{name}.scope"),
            (prefix, name) => format!("{prefix}-{name}.scope"),
        };
        let slice = if slice.is_empty() { default_slice } else { slice };
        below(slice)?;
        if unit.ends_with(".slice") {
            below(&unit)?;
        }
        let odd = |c: char| !(c.is_ascii_alphanumeric() || ":-_.\\@".contains(c));
        if name.is_empty() || unit.len() > LONGEST || unit.contains(odd) {
            return Err(Error::new(format!("name the unit {unit:?}"), "systemd takes no such name")
                .at(FIELD)
                .hint(format!("letters, digits and any of :-_.\\@, {LONGEST} at most; systemd-escape(1) writes others")));
        }
        Ok(Self { unit, slice: slice.to_owned() })
    }

    /// Whether it is a slice: those are given no processes by systemd.
    pub fn is_slice(&self) -> bool {
        self.unit.ends_with(".slice")
    }

    /// The directory below the manager's own cgroup.
    ///
    /// # Errors
    /// As in [`below`].
    pub fn path(&self) -> Result<PathBuf> {
        // A slice's name says where it lies.
        if self.is_slice() { below(&self.unit) } else { below(&self.slice).map(|dir| dir.join(&self.unit)) }
    }
}

/// `a-b.slice` -> `a.slice/a-b.slice` (systemd.slice(5)).
///
/// # Errors
/// No slice's name.
pub fn below(slice: &str) -> Result<PathBuf> {
    if slice == "-.slice" {
        return Ok(PathBuf::new());
    }
    let stem = slice.strip_suffix(".slice").unwrap_or_default();
    let odd = |part: &str| part.is_empty() || part.contains(|c: char| !(c.is_ascii_alphanumeric() || ":_.\\".contains(c)));
    if slice.len() > LONGEST || stem.split('-').any(odd) {
        return Err(Error::new(format!("place the unit in {slice:?}"), format!("invalid slice name: {slice}")).at(FIELD));
    }
    let ends = stem.match_indices('-').map(|(n, _)| n).chain([stem.len()]);
    Ok(ends.filter_map(|end| stem.get(..end)).map(|part| format!("{part}.slice")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> (String, String, String) {
        let name = Name::parse(path, "the+id", "system.slice").unwrap();
        let place = name.path().unwrap().display().to_string();
        (name.unit, name.slice, place)
    }

    #[test]
    fn names() {
        for (path, unit, slice, place) in [
            ("", "onggi-the\\x2bid.scope", "system.slice", "system.slice/onggi-the\\x2bid.scope"),
            ("system.slice:docker:abc", "docker-abc.scope", "system.slice", "system.slice/docker-abc.scope"),
            (":docker:abc", "docker-abc.scope", "system.slice", "system.slice/docker-abc.scope"),
            ("a-b.slice::abc", "abc.scope", "a-b.slice", "a.slice/a-b.slice/abc.scope"),
            ("-.slice:x:y", "x-y.scope", "-.slice", "x-y.scope"),
            ("machine.slice:libpod:p-q.slice", "p-q.slice", "machine.slice", "p.slice/p-q.slice"),
            (
                "kubepods-besteffort-pod1_2.slice:cri-containerd:f00",
                "cri-containerd-f00.scope",
                "kubepods-besteffort-pod1_2.slice",
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-f00.scope",
            ),
        ] {
            assert_eq!(parsed(path), (unit.into(), slice.into(), place.into()), "{path}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for path in ["/docker/abc", "abc", "a.slice:b", "a.slice:b:c:d"] {
            let e = Name::parse(path, "id", "system.slice").unwrap_err();
            assert_eq!(
                e.to_string(),
                format!("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"{path}\" instead")
            );
        }
        let long = format!("a.slice:b:{}", "x".repeat(300));
        for path in [
            "a:b:c",
            "a/b.slice:b:c",
            "a--b.slice:b:c",
            "-a.slice:b:c",
            ".slice:b:c",
            "a.slice:b:",
            "a.slice:b/c:d",
            &long,
            "::a/../b",
        ] {
            assert_eq!(Name::parse(path, "id", "system.slice").unwrap_err().field(), FIELD, "{path}");
        }
    }
}
