//! The man pages and completions that are kept in the repository are those that the table of commands gives.

use super::repository;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[path = "../../man/generate.rs"]
#[expect(dead_code, reason = "its main is for the command line")]
mod generate;

fn files(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for sub in ["", "completions"] {
        for entry in fs::read_dir(dir.join(sub)).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
            let name = format!("{sub}/{}", entry.file_name().to_string_lossy());
            // Section 7 is written by hand.
            if !name.ends_with(".rs") && !name.ends_with(".7") {
                found.insert(name, fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    found
}

#[test]
fn man_pages_and_completions_are_current() {
    let dir = tempfile::tempdir().unwrap();
    generate::write(dir.path()).unwrap();
    let (now, kept) = (files(dir.path()), files(&repository("man")));
    assert_eq!(now.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>(), "run `make man`");
    for (name, text) in &now {
        assert!(kept[name] == *text, "{name} is not current: run `make man`");
    }
}
