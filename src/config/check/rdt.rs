//! `linux.intelRdt`.

use super::broken;
use crate::config::LinuxIntelRdt;
use crate::error::Result;

/// Names that the kernel has taken in every group, or in the root of resctrl.
const TAKEN: [&str; 9] = ["info", "mon_groups", "mon_data", "tasks", "schemata", "cpus", "cpus_list", "mode", "size"];

/// Checks it; fields in the errors are relative to it, `/closID`.
pub(super) fn check(rdt: &LinuxIntelRdt) -> Result<()> {
    if let Some(name) = rdt.clos_id() {
        clos_id(name)?;
    }
    let line = |field: String, text: &str| match text.find(['\n', '\0']) {
        Some(_) => Err(broken(field, "not a line of schemata", format!("{text:?}"))),
        None => Ok(()),
    };
    if let Some(text) = rdt.l3_cache_schema().as_ref().filter(|text| text.contains('\0')) {
        return Err(broken("/l3CacheSchema", "not a line of schemata", format!("{text:?}")));
    }
    if let Some(text) = rdt.mem_bw_schema().as_ref().filter(|text| !text.is_empty()) {
        line("/memBwSchema".into(), text)?;
        if !text.starts_with("MB:") {
            return Err(broken("/memBwSchema", "must start with MB:", format!("{text:?}")));
        }
    }
    for (n, text) in rdt.schemata().iter().flatten().enumerate() {
        line(format!("/schemata/{n}"), text)?;
    }
    Ok(())
}

/// One component, so that the group is in resctrl and nowhere else; `/` is the root.
fn clos_id(name: &str) -> Result<()> {
    let bad = |cause: &str| Err(broken("/closID", "not the name of a resctrl group", format!("{name:?} {cause}")));
    match name {
        "/" => Ok(()),
        "." | ".." => bad("is not one"),
        _ if name.contains(['/', '\0', '\n']) => bad("has a character that no name has"),
        _ if name.len() > 255 => bad("is too long"),
        _ if TAKEN.contains(&name) => bad("is the kernel's"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(json: &str) -> Option<String> {
        check(&serde_json::from_str(json).unwrap()).err().map(|e| e.field().to_owned())
    }

    #[test]
    fn names_of_groups() {
        for name in ["/", "gold", "a b", "...", ""] {
            assert!(clos_id(name).is_ok(), "{name}");
        }
        for name in ["a/b", "..", ".", "info", "mon_groups", "/x", &"x".repeat(256)] {
            assert_eq!(clos_id(name).unwrap_err().field(), "/closID", "{name}");
        }
    }

    #[test]
    fn lines_of_schemata() {
        assert_eq!(field(r#"{"l3CacheSchema": "L3:0=f\nL3:1=f", "memBwSchema": "MB:0=10", "schemata": ["L2:0=1"]}"#), None);
        assert_eq!(field(r#"{"memBwSchema": "L3:0=f"}"#).as_deref(), Some("/memBwSchema"));
        assert_eq!(field(r#"{"memBwSchema": "MB:0=1\nL3:0=f"}"#).as_deref(), Some("/memBwSchema"));
        assert_eq!(field(r#"{"schemata": ["L3:0=f", "L3:0=f\nMB:0=1"]}"#).as_deref(), Some("/schemata/1"));
    }
}
