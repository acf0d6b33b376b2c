//! The resctrl groups of a container: made with it, removed with it, and named in its directory in between.

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::rdt::{self, Kind, Ledger, Line, Root};
use crate::store::{Entry, RDT, Record};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

impl Ledger for Entry {
    fn begin(&self, kind: Kind, path: &Path) -> Result<()> {
        self.name_rdt(link(kind), path)
    }

    fn release(&self, kind: Kind) -> Result<()> {
        self.release_rdt(link(kind))
    }
}

fn link(kind: Kind) -> &'static str {
    match kind {
        Kind::Control => RDT[0],
        Kind::Monitor => RDT[1],
    }
}

/// Makes what the plan asks for; the directories whose `tasks` take the container's processes.
pub fn make(plan: &Plan, entry: &Entry) -> Result<Vec<PathBuf>> {
    match &plan.rdt {
        Some(setup) => Root::open(&setup.root)?.make(setup, entry),
        None => Ok(Vec::new()),
    }
}

/// Removes what was made, the inner one first.
pub fn remove(entry: &Entry) -> Result<()> {
    for link in RDT.iter().rev() {
        if let Some(path) = entry.rdt(link)? {
            rdt::remove(&path)?;
        }
    }
    Ok(())
}

/// Puts new schemata into the kept configuration, and gives the lines to write.
pub fn update(config: &mut Value, given: &[(&'static str, String)]) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (member, text) in given {
        let asked = config.pointer_mut("/linux/intelRdt").and_then(Value::as_object_mut);
        let Some(asked) = asked else {
            return Err(Error::new("update", "the container was made without Intel RDT")
                .at(format!("/linux/intelRdt/{member}"))
                .hint("create it with linux.intelRdt"));
        };
        asked.insert((*member).to_owned(), json!(text));
        lines.extend(rdt::schema(member, text));
    }
    Ok(lines)
}

/// Writes them.
pub fn change(record: &Record, lines: &[Line]) -> Result<()> {
    let (Some(group), false) = (record.rdt.first(), lines.is_empty()) else { return Ok(()) };
    let gone = || Error::new("update", "no resctrl file system is mounted").at("/linux/intelRdt");
    Root::open(&rdt::find_mount()?.ok_or_else(gone)?)?.change(group, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Killed before it made the directory, after, and after the second.
    #[test]
    fn what_a_killed_command_has_left_is_removed() {
        let top = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open_or_make(Some(&top.path().join("state"))).unwrap();
        let group = top.path().join("c");
        let monitor = group.join("mon_groups/c");
        for made in 0..3 {
            let entry = store.create("c").unwrap();
            entry.begin(Kind::Control, &group).unwrap();
            if made > 0 {
                std::fs::create_dir_all(group.join("mon_groups")).unwrap();
                entry.begin(Kind::Monitor, &monitor).unwrap();
            }
            if made > 1 {
                std::fs::create_dir(&monitor).unwrap();
            }
            remove(&entry).unwrap();
            assert!(!group.exists(), "{made}");
            remove(&entry).unwrap();
            entry.remove().unwrap();
        }
        // What was let go is others' by now.
        let entry = store.create("c").unwrap();
        entry.begin(Kind::Control, &group).unwrap();
        std::fs::create_dir(&group).unwrap();
        entry.release(Kind::Control).unwrap();
        remove(&entry).unwrap();
        assert!(group.exists());
    }

    #[test]
    fn new_schemata_are_kept() {
        let mut config = json!({"linux": {"intelRdt": {"l3CacheSchema": "L3:0=ff"}}});
        let lines = update(&mut config, &[("memBwSchema", "MB:0=10".into())]).unwrap();
        assert_eq!(config["linux"]["intelRdt"], json!({"l3CacheSchema": "L3:0=ff", "memBwSchema": "MB:0=10"}));
        assert_eq!((lines.len(), lines[0].text.as_str()), (1, "MB:0=10"));
        let e = update(&mut json!({"linux": {}}), &[("memBwSchema", "MB:0=10".into())]).unwrap_err();
        assert_eq!(e.field(), "/linux/intelRdt/memBwSchema");
        assert!(update(&mut json!({}), &[]).unwrap().is_empty());
    }
}
