//! `linux.resources`, of `config.json` and of `update --resources`: names that become names of files or lines in them.
//!
//! What a number may be is judged where it is written, by `crate::cgroup`.

use super::linux::{MAX_MAJOR, MAX_MINOR};
use super::{broken, member, no_nul};
use crate::config::{DeviceRule, Resources};
use crate::error::Result;

/// Checks the resources; fields in the errors are relative to them, `/hugepageLimits/0/pageSize`.
///
/// # Errors
/// The first broken rule.
pub fn resources(r: &Resources) -> Result<()> {
    for (n, rule) in r.devices.iter().enumerate() {
        device_rule(rule).map_err(|e| e.under(&format!("/devices/{n}")))?;
    }
    if let Some(cpu) = &r.cpu {
        for (field, list) in [("/cpu/cpus", &cpu.cpus), ("/cpu/mems", &cpu.mems)] {
            // The kernel's lists know more than ours: 0-31:1/2.
            if let Some(c) = list.chars().find(|c| !c.is_ascii_digit() && !matches!(c, '-' | ',' | ':' | '/' | ' ')) {
                return Err(broken(field, "invalid list", format!("{list:?} contains {c:?}")).hint("a list looks like 0-3,7"));
            }
        }
    }
    for (n, limit) in r.hugepage_limits.iter().enumerate() {
        if !page_size(&limit.page_size) {
            let field = format!("/hugepageLimits/{n}/pageSize");
            return Err(broken(field, "invalid page size", format!("{:?}", limit.page_size)).hint("a page size looks like 2MB"));
        }
    }
    for device in r.rdma.keys() {
        if !file_name(device) || device.contains(char::is_whitespace) {
            return Err(broken(member("/rdma", device), "invalid device name", format!("{device:?}")));
        }
    }
    for (file, text) in &r.unified {
        let field = member("/unified", file);
        if !file_name(file) {
            return Err(broken(field, "must be a file name (no slashes)", format!("{file:?}")));
        }
        no_nul(field, text)?;
    }
    Ok(())
}

/// A number and a unit, as the kernel names `hugetlb.2MB.max`: whatever else stood here would reach other files (runc#4103).
fn page_size(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.strip_suffix(unit).unwrap_or_default();
    !digits.is_empty() && !digits.starts_with('0') && matches!(unit, "KB" | "MB" | "GB" | "TB")
}

fn file_name(text: &str) -> bool {
    !text.is_empty() && !text.contains("..") && text != "." && !text.contains(|c: char| c == '/' || c.is_control())
}

fn device_rule(rule: &DeviceRule) -> Result<()> {
    if !matches!(rule.kind.as_str(), "" | "a" | "b" | "c") {
        return Err(broken("/type", "unknown device type", format!("{:?} is not a, b or c", rule.kind)));
    }
    for (field, number, max) in [("/major", rule.major, MAX_MAJOR), ("/minor", rule.minor, MAX_MINOR)] {
        if let Some(n) = number.filter(|n| *n > max) {
            return Err(broken(field, "out of range", format!("{n} is not in 0 to {max}")));
        }
    }
    // runc lets `a`, which the kernel has for types, pass here, and callers have written it to forbid all.
    match rule.access.chars().find(|c| !matches!(c, 'r' | 'w' | 'm') && (rule.allow || *c != 'a')) {
        Some(_) => Err(broken("/access", "unknown access", format!("{:?} is not of r, w and m", rule.access))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(json: &str) -> String {
        resources(&Resources::parse(json.as_bytes()).unwrap()).err().map(|e| e.field().to_owned()).unwrap_or_default()
    }

    /// SEC-19.
    #[test]
    fn names_stay_names() {
        for ok in ["2MB", "1GB", "64KB", "16GB"] {
            assert_eq!(at(&format!(r#"{{"hugepageLimits":[{{"pageSize":"{ok}"}}]}}"#)), "");
        }
        for bad in [
            "",
            "MB",
            "2",
            "2mb",
            "0MB",
            "02MB",
            "2MB/..",
            "../2MB",
            "2MB.max",
            "2MB\\n",
            "2MB\\u0000",
            "-2MB",
            "2 MB",
            "2MBMB",
            "１MB",
        ] {
            assert_eq!(at(&format!(r#"{{"hugepageLimits":[{{"pageSize":"{bad}"}}]}}"#)), "/hugepageLimits/0/pageSize", "{bad}");
        }
        for bad in ["a/b", "..", ".", "../x", "a\\u0000", "a\\n", ""] {
            assert!(at(&format!(r#"{{"unified":{{"{bad}":"1"}}}}"#)).starts_with("/unified/"), "{bad}");
            assert!(at(&format!(r#"{{"rdma":{{"{bad}":{{}}}}}}"#)).starts_with("/rdma/"), "{bad}");
        }
        assert_eq!(at(r#"{"rdma":{"mlx5 hca_handle=max":{}}}"#), "/rdma/mlx5 hca_handle=max");
        assert_eq!(at(r#"{"rdma":{"mlx5_0":{}},"unified":{"memory.high":"1","io.max":"8:0 rbps=1\n8:1 rbps=1"}}"#), "");
        assert_eq!(at(r#"{"unified":{"memory.high":"1\u0000"}}"#), "/unified/memory.high");
        assert_eq!(at(r#"{"cpu":{"cpus":"0-3,7","mems":"0\n"}}"#), "/cpu/mems");
    }

    #[test]
    fn device_rules() {
        assert_eq!(at(r#"{"devices":[{"allow":false},{"type":"a","access":"rwm"},{"type":"c","major":-1,"minor":5}]}"#), "");
        assert_eq!(at(r#"{"devices":[{"type":"u"}]}"#), "/devices/0/type");
        assert_eq!(at(r#"{"devices":[{"access":"rx"}]}"#), "/devices/0/access");
        assert_eq!(at(r#"{"devices":[{"access":"rwa"}]}"#), "");
        assert_eq!(at(r#"{"devices":[{"allow":true,"access":"rwa"}]}"#), "/devices/0/access");
        assert_eq!(at(r#"{"devices":[{"major":4096}]}"#), "/devices/0/major");
    }
}
