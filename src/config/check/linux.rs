//! `linux`: devices, network devices, hidden and read-only paths, propagation, personality, memory policy.

use super::namespaces::Namespaces;
use super::{absolute, broken, member, no_nul};
use crate::config::{Device, Linux, NetDevice, values};
use crate::error::Result;
use std::collections::BTreeMap;

pub(super) fn check(linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    for (n, d) in linux.devices.iter().enumerate() {
        device(d).map_err(|e| e.under(&format!("/linux/devices/{n}")))?;
    }
    net_devices(&linux.net_devices, namespaces)?;
    for (field, paths) in [("/linux/maskedPaths", &linux.masked_paths), ("/linux/readonlyPaths", &linux.readonly_paths)] {
        if !paths.is_empty() && !namespaces.has("mount") {
            return Err(broken(field, "unable to restrict sys entries without a private MNT namespace", ""));
        }
        for (n, path) in paths.iter().enumerate() {
            absolute(format!("{field}/{n}"), path)?;
        }
    }
    no_nul("/linux/cgroupsPath", &linux.cgroups_path)?;
    no_nul("/linux/mountLabel", &linux.mount_label)?;
    if let Some(rdt) = &linux.intel_rdt {
        super::rdt::check(rdt).map_err(|e| e.under("/linux/intelRdt"))?;
    }
    propagation(&linux.rootfs_propagation)?;
    if let Some(p) = &linux.personality {
        values::personality(p).map_err(|e| e.under("/linux/personality"))?;
    }
    if let Some(m) = &linux.memory_policy {
        values::memory_policy(m).map_err(|e| e.under("/linux/memoryPolicy"))?;
    }
    Ok(())
}

/// mknod(2)'s device numbers: 12 bits of major, 20 of minor (`new_decode_dev`).
pub(super) const MAX_MAJOR: i64 = 0xfff;
/// See [`MAX_MAJOR`].
pub(super) const MAX_MINOR: i64 = 0xf_ffff;

fn device(d: &Device) -> Result<()> {
    let file_type = match d.kind.as_str() {
        "c" | "u" => libc::S_IFCHR,
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        other => return Err(broken("/type", "unknown device type", format!("{other:?} is not c, u, b or p"))),
    };
    absolute("/path", &d.path)?;
    if d.path.trim_matches('/').is_empty() {
        return Err(broken("/path", "not a file", format!("{:?}", d.path)));
    }
    if d.kind != "p" {
        for (field, number, max) in [("/major", d.major, MAX_MAJOR), ("/minor", d.minor, MAX_MINOR)] {
            if !(0..=max).contains(&number) {
                return Err(broken(field, "out of range", format!("{number} is not in 0 to {max}")));
            }
        }
    }
    // Podman writes st_mode whole, with the file type in it.
    let mode = d.file_mode.unwrap_or_default();
    if mode & !0o7777 != 0 && mode & !0o7777 != file_type {
        return Err(broken("/fileMode", "out of range", format!("{mode} (octal {mode:o}) is not in 0 to 4095 (octal 7777)")));
    }
    for (field, id) in [("/uid", d.uid), ("/gid", d.gid)] {
        if id == Some(u32::MAX) {
            return Err(broken(field, "invalid id", "4294967295 means \"leave unchanged\" to the kernel"));
        }
    }
    Ok(())
}

fn net_devices(devices: &BTreeMap<String, NetDevice>, namespaces: &Namespaces) -> Result<()> {
    let field = "/linux/netDevices";
    if !devices.is_empty() && !namespaces.has("network") {
        return Err(broken(field, "unable to move network devices without a private NET namespace", ""));
    }
    let mut taken = BTreeMap::new();
    for (host, device) in devices {
        let at = member(field, host);
        if !interface_name(host) {
            return Err(broken(at, "invalid network device name", format!("{host:?}")));
        }
        let name = if device.name.is_empty() { host } else { &device.name };
        // The kernel numbers a template by itself, and takes one %d and no other %.
        let template = device.name.contains('%');
        if !interface_name(name) || (template && (name.matches('%').count() != 1 || !name.contains("%d"))) {
            return Err(broken(at + "/name", "invalid network device name", format!("{name:?}")));
        }
        if !template && let Some(other) = taken.insert(name, host) {
            return Err(broken(at + "/name", "duplicate network device name", format!("{other:?} is named {name:?} too")));
        }
    }
    Ok(())
}

/// The kernel's `dev_valid_name`: IFNAMSIZ is 16 with the NUL at the end.
fn interface_name(name: &str) -> bool {
    (1..16).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| matches!(c, '/' | ':' | '\0') || c.is_whitespace())
}

fn propagation(word: &str) -> Result<()> {
    match word {
        "" | "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" | "unbindable" | "runbindable" => Ok(()),
        other => Err(broken("/linux/rootfsPropagation", "unknown mount propagation", format!("{other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Spec;

    fn at(members: &str) -> String {
        let json = format!(r#"{{"linux":{{"namespaces":[{{"type":"mount"}},{{"type":"network"}}],{members}}}}}"#);
        let spec = Spec::parse(json.as_bytes()).unwrap();
        let ns = Namespaces::check(&spec.linux.namespaces).unwrap();
        check(&spec.linux, &ns).err().map(|e| e.field().to_owned()).unwrap_or_default()
    }

    #[test]
    fn devices() {
        let d = |members: &str| at(&format!(r#""devices":[{{{members}}}]"#)).replace("/linux/devices/0", "");
        assert_eq!(d(r#""type":"c","path":"/dev/x","major":4095,"minor":1048575,"fileMode":4095"#), "");
        assert_eq!(d(r#""type":"p","path":"/x","major":-1,"minor":-1"#), "");
        assert_eq!(d(r#""type":"c","path":"/x","fileMode":8630"#), "", "S_IFCHR | 0666");
        assert_eq!(d(r#""type":"b","path":"/x","fileMode":8630"#), "/fileMode");
        assert_eq!(d(r#""type":"a","path":"/x""#), "/type");
        assert_eq!(d(r#""type":"c","path":"x""#), "/path");
        assert_eq!(d(r#""type":"c","path":"//""#), "/path");
        assert_eq!(d(r#""type":"c","path":"/x","major":4096"#), "/major");
        assert_eq!(d(r#""type":"b","path":"/x","minor":-1"#), "/minor");
        assert_eq!(d(r#""type":"b","path":"/x","gid":4294967295"#), "/gid");
    }

    #[test]
    fn network_devices() {
        let n = |map: &str| at(&format!(r#""netDevices":{map}"#)).replace("/linux/netDevices", "");
        assert_eq!(n(r#"{"eth0":{},"eth1":{"name":"net%d"},"eth2":{"name":"net%d"},"abcdefghijklmno":null}"#.replace(",\"abcdefghijklmno\":null", "").as_str()), "");
        assert_eq!(n(r#"{"abcdefghijklmno":{}}"#), "");
        for bad in ["", "abcdefghijklmnop", "a/b", "a:b", "a b", ".", "..", "a\\u0000", "a\\n"] {
            assert_ne!(n(&format!(r#"{{"{bad}":{{}}}}"#)), "", "{bad}");
            if !bad.is_empty() {
                assert_eq!(n(&format!(r#"{{"eth0":{{"name":"{bad}"}}}}"#)), "/eth0/name", "{bad}");
            }
        }
        assert_eq!(n(r#"{"a":{"name":"%d%d"}}"#), "/a/name");
        assert_eq!(n(r#"{"a":{"name":"x%s"}}"#), "/a/name");
        assert_eq!(n(r#"{"a":{"name":"c"},"b":{"name":"c"}}"#), "/b/name");
        assert_eq!(n(r#"{"a":{"name":"b"},"b":{}}"#), "/b/name");
    }

    #[test]
    fn paths_and_words() {
        assert_eq!(at(r#""maskedPaths":["/a","b"]"#), "/linux/maskedPaths/1");
        assert_eq!(at(r#""readonlyPaths":[""]"#), "/linux/readonlyPaths/0");
        assert_eq!(at(r#""rootfsPropagation":"rshared""#), "");
        assert_eq!(at(r#""rootfsPropagation":"x""#), "/linux/rootfsPropagation");
        assert_eq!(at(r#""personality":{"domain":"BSD"}"#), "/linux/personality/domain");
        assert_eq!(at(r#""memoryPolicy":{"mode":"MPOL_BIND"}"#), "/linux/memoryPolicy/nodes");
    }
}
