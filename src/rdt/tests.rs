//! On a directory of plain files in the place of resctrl: no machine of ours has it. What the kernel does of itself when a
//! directory is made or removed, the tests do.

use super::*;
use crate::config::LinuxIntelRdt;
use std::cell::RefCell;
use std::fs as files;

/// The files that a new group has.
pub(super) fn fill(group: &Path) {
    files::write(group.join("tasks"), "").unwrap();
    if group.parent().unwrap().file_name().unwrap() != "mon_groups" {
        files::write(group.join("schemata"), "    L3:0=fff;1=fff\n    MB:0=100;1=100\n").unwrap();
        files::create_dir(group.join("mon_groups")).unwrap();
    }
}

/// Removing a group takes its files along, and its monitoring groups.
pub(super) fn let_go(group: &Path) {
    let Ok(entries) = files::read_dir(group) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() { files::remove_dir_all(path).unwrap() } else { files::remove_file(path).unwrap() }
    }
}

fn fake() -> (tempfile::TempDir, Root) {
    let top = tempfile::tempdir().unwrap();
    fill(top.path());
    let root = Root { dir: files::File::open(top.path()).unwrap().into(), path: top.path().into() };
    (top, root)
}

fn asked(json: &str) -> LinuxIntelRdt {
    serde_json::from_str(json).unwrap()
}

fn setup(root: &Root, json: &str) -> Setup {
    Setup::plan(&asked(json), "ID", Some(&root.path)).unwrap()
}

/// What was told, in order: `+` and what is to be made, `-` and what is let go.
#[derive(Default)]
struct Told(RefCell<Vec<String>>);

impl Ledger for Told {
    fn begin(&self, kind: Kind, path: &Path) -> Result<()> {
        assert!(!path.exists(), "told after it was made");
        self.0.borrow_mut().push(format!("+{kind:?} {}", path.file_name().unwrap().to_string_lossy()));
        Ok(())
    }

    fn release(&self, kind: Kind) -> Result<()> {
        self.0.borrow_mut().push(format!("-{kind:?}"));
        Ok(())
    }
}

/// Makes it; the groups below the mount, and what was told.
fn make(root: &Root, json: &str) -> (Result<Vec<String>>, Vec<String>) {
    let told = Told::default();
    let made = root.make(&setup(root, json), &told);
    let below = |p: PathBuf| p.strip_prefix(&root.path).unwrap().to_string_lossy().into_owned();
    (made.map(|list| list.into_iter().map(below).collect()), told.0.into_inner())
}

fn schemata_of(root: &Root, group: &str) -> String {
    files::read_to_string(root.path.join(group).join("schemata")).unwrap()
}

#[test]
fn a_group_of_its_own() {
    let (_top, root) = fake();
    let (made, told) = make(&root, r#"{"l3CacheSchema": "L3:0=f0", "enableMonitoring": true}"#);
    assert_eq!(made.unwrap(), ["ID", "ID/mon_groups/ID"]);
    assert_eq!(told, ["+Control ID", "+Monitor ID"]);
    assert!(schemata_of(&root, "ID").starts_with("L3:0=f0\n"));
    let groups = [root.path.join("ID"), root.path.join("ID/mon_groups/ID")];
    add(&groups, 4711).unwrap();
    for group in &groups {
        assert_eq!(files::read_to_string(group.join("tasks")).unwrap(), "4711");
    }
    // Again, with the first still there.
    let (made, told) = make(&root, "{}");
    assert_eq!((made.unwrap_err().field(), told.len()), (FIELD, 0));
    for group in groups.iter().rev() {
        remove(group).unwrap();
        remove(group).unwrap();
        assert!(!group.exists());
    }
    remove(&groups[1]).unwrap();
    add_further(&groups, 1).unwrap();
}

#[test]
fn nothing_is_written_that_was_not_asked_for() {
    let (_top, root) = fake();
    let (made, _) = make(&root, "{}");
    assert_eq!(made.unwrap(), ["ID"]);
    assert!(schemata_of(&root, "ID").starts_with("    L3:0=fff"));
}

#[test]
fn a_named_group_without_limits_must_be_there() {
    let (_top, root) = fake();
    let (made, told) = make(&root, r#"{"closID": "gold"}"#);
    assert_eq!((made.unwrap_err().field(), told.len()), (CLOS_ID, 0));
    files::create_dir(root.path.join("gold")).unwrap();
    fill(&root.path.join("gold"));
    let (made, told) = make(&root, r#"{"closID": "gold", "enableMonitoring": true}"#);
    assert_eq!(made.unwrap(), ["gold", "gold/mon_groups/ID"]);
    assert_eq!(told, ["+Monitor ID"]);
}

#[test]
fn a_named_group_with_limits_is_made_once_and_then_compared() {
    let (_top, root) = fake();
    let first = r#"{"closID": "gold", "l3CacheSchema": "L3:0=f0", "memBwSchema": "MB:0=20", "schemata": ["L2:0=f"]}"#;
    let (made, told) = make(&root, first);
    assert_eq!(made.unwrap(), ["gold"]);
    // Ours only until it has its limits.
    assert_eq!(told, ["+Control gold", "-Control"]);
    files::write(root.path.join("gold/schemata"), "    L3:0=0f0;1=fff\n    MB:0= 20;1=100\n").unwrap();
    let (made, told) = make(&root, first);
    assert_eq!((made.unwrap().len(), told.len()), (1, 0));
    // Only what is not compared.
    assert!(schemata_of(&root, "gold").starts_with("L2:0=f\n"));
    files::write(root.path.join("gold/schemata"), "    L3:0=0f0;1=fff\n    MB:0= 20;1=100\n").unwrap();
    let (made, _) = make(&root, r#"{"closID": "gold", "memBwSchema": "MB:0=30"}"#);
    let e = made.unwrap_err();
    assert_eq!(e.field(), "/linux/intelRdt/memBwSchema");
    assert!(e.to_string().contains("MB:0= 20;1=100") || e.to_string().contains("MB:0="), "{e}");
}

#[test]
fn the_default_group_is_the_root() {
    let (_top, root) = fake();
    let (made, told) = make(&root, r#"{"closID": "/", "enableMonitoring": true}"#);
    assert_eq!(made.unwrap(), ["", "mon_groups/ID"]);
    assert_eq!(told, ["+Monitor ID"]);
}

#[test]
fn a_line_that_is_refused_names_its_field() {
    let (_top, root) = fake();
    files::create_dir(root.path.join("info")).unwrap();
    files::write(root.path.join("info/last_cmd_status"), "Mask f00 out of range\n").unwrap();
    let group = root.path.join("none");
    let lines = setup(&root, r#"{"schemata": ["MB:0=10", "L3:0=f00"]}"#).lines;
    let e = root.change(&group, &lines[1..]).unwrap_err();
    assert_eq!(e.field(), "/linux/intelRdt/schemata/1");
    assert!(e.to_string().contains("the kernel says: Mask f00 out of range"), "{e}");
}

#[test]
fn others_may_hold_the_lock() {
    let (_top, root) = fake();
    let held = root.lock().unwrap();
    let path = root.path.clone();
    let other = std::thread::spawn(move || Root { dir: files::File::open(&path).unwrap().into(), path }.lock().map(drop));
    sleep(Duration::from_millis(50));
    assert!(!other.is_finished());
    drop(held);
    other.join().unwrap().unwrap();
}

#[test]
fn without_resctrl_it_is_refused() {
    let e = Setup::plan(&asked(r#"{"closID": "gold"}"#), "ID", None).unwrap_err();
    assert_eq!(e.field(), FIELD);
    let top = tempfile::tempdir().unwrap();
    assert!(Root::open(top.path()).unwrap_err().to_string().contains("not a resctrl file system"));
}

#[test]
fn statistics_in_runc_s_form() {
    let (_top, root) = fake();
    let write = |file: &str, text: &str| {
        let path = root.path.join(file);
        files::create_dir_all(path.parent().unwrap()).unwrap();
        files::write(path, text).unwrap();
    };
    for (file, text) in [("cbm_mask", "fff\n"), ("min_cbm_bits", "2\n"), ("num_closids", "15\n")] {
        write(&format!("info/L3/{file}"), text);
    }
    let (made, _) = make(&root, r#"{"enableMonitoring": true}"#);
    made.unwrap();
    for (domain, n) in [("mon_L3_00", 1), ("mon_L3_01", 2)] {
        let dir = format!("ID/mon_groups/ID/mon_data/{domain}");
        write(&format!("{dir}/mbm_total_bytes"), &format!("{n}00\n"));
        write(&format!("{dir}/mbm_local_bytes"), &format!("{n}0\n"));
        write(&format!("{dir}/llc_occupancy"), if n == 1 { "7\n" } else { "Unavailable\n" });
    }
    let groups = [root.path.join("ID"), root.path.join("ID/mon_groups/ID")];
    let found = serde_json::to_value(Statistics::read(&root.path, &groups)).unwrap();
    let want = serde_json::json!({
        "l3_cache_info": {"cbm_mask": "fff", "min_cbm_bits": 2, "num_closids": 15},
        "l3_cache_schema_root": "L3:0=fff;1=fff", "l3_cache_schema": "L3:0=fff;1=fff",
        "mem_bw_schema_root": "MB:0=100;1=100", "mem_bw_schema": "MB:0=100;1=100",
        "mbm_stats": [{"mbm_total_bytes": 100, "mbm_local_bytes": 10}, {"mbm_total_bytes": 200, "mbm_local_bytes": 20}],
        "cmt_stats": [{"llc_occupancy": 7}],
    });
    assert_eq!(found, want);
    assert_eq!(serde_json::to_string(&Statistics::default()).unwrap(), "{}");
}
