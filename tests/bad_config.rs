//! Broken configurations: each is refused, with the field to blame and the words that say why.

use onggi::config::{Bundle, Spec, check};
use onggi::error::Error;
use onggi::plan::seccomp::filter;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/bad");

fn judge(bytes: &[u8]) -> Result<(), Error> {
    let spec = Spec::parse(bytes)?;
    check::check(&spec)?;
    filter(&spec, bytes, || None).map(drop)
}

fn cases() -> Vec<(String, String, String)> {
    let index = fs::read_to_string(Path::new(DIR).join("index.tsv")).unwrap();
    let lines = index.lines().filter(|l| !l.starts_with('#'));
    lines
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [name, pointer, words] => (name.to_owned(), pointer.trim_start_matches('-').to_owned(), words.to_owned()),
            _ => panic!("index.tsv: {line:?}"),
        })
        .collect()
}

#[test]
fn the_base_is_good() {
    judge(&fs::read(Path::new(DIR).join("base.json")).unwrap()).unwrap();
}

#[test]
fn each_fault_is_found_where_it_is() {
    let mut wrong = Vec::new();
    for (name, pointer, words) in cases() {
        match judge(&fs::read(Path::new(DIR).join(format!("{name}.json"))).unwrap()) {
            Ok(()) => wrong.push(format!("{name}: taken")),
            Err(e) if e.field() != pointer || !e.to_string().contains(&words) => wrong.push(format!("{name}: {e}")),
            Err(e) => assert_eq!(e.to_string().lines().count(), 1, "{name}: {e}"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join(".."));
}

#[test]
fn every_file_is_in_the_index() {
    let files: BTreeSet<String> = fs::read_dir(DIR)
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .filter(|f| f != "index.tsv" && f != "base.json")
        .collect();
    let listed: BTreeSet<String> = cases().into_iter().map(|(name, ..)| name + ".json").collect();
    assert_eq!(files, listed);
    assert!(listed.len() >= 60);
}

#[test]
fn a_bundle_without_configuration() {
    let e = Bundle::load(&Path::new(DIR).join(".."), None).unwrap_err();
    assert_eq!(e.to_string(), "JSON specification file config.json not found");
}
