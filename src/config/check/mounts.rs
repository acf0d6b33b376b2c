//! `mounts`: destinations, options that fit the kind of mount, id mappings, and what may be put on /proc.

use super::namespaces::Namespaces;
use super::{broken, identity, no_nul};
use crate::config::options::{self, Idmap, MountOptions};
use crate::config::{Linux, Mount, Spec, clean};
use crate::error::{Error, Result};
use std::path::Path;

/// What lxcfs shows a container in the place of the host's numbers: the only files of /proc that a mount may hide.
const LXCFS: &[&str] = &[
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "net/dev",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

/// Whether a mount may lie at this path inside /proc (absolute, without `.` and `..`).
pub fn may_lie_in_proc(path: &str) -> bool {
    path.strip_prefix("/proc/").is_some_and(|file| LXCFS.contains(&file))
}

pub(super) fn check(spec: &Spec, namespaces: &Namespaces) -> Result<()> {
    if !spec.mounts.is_empty() && !namespaces.has("mount") {
        return Err(broken("/mounts", "mounts need a mount namespace", "linux.namespaces has none"));
    }
    let mut proc = None;
    for (n, mount) in spec.mounts.iter().enumerate() {
        let at = |e: Error| e.under(&format!("/mounts/{n}"));
        let list = mount.options().as_deref().unwrap_or_default();
        let options = options::parse(list).map_err(|e| at(e.under("/options")))?;
        one(mount, &options).map_err(at)?;
        idmap(mount, &options, &spec.linux, namespaces).map_err(at)?;
        let destination = clean(&mount.destination().to_string_lossy());
        on_proc(mount, &options, Path::new(&destination)).map_err(at)?;
        if destination == "/proc"
            && !options.remount
            && let Some(first) = proc.replace(n)
        {
            return Err(broken(
                format!("/mounts/{n}/destination"),
                "duplicate mount",
                format!("/mounts/{first} is on /proc too"),
            ));
        }
    }
    Ok(())
}

fn one(mount: &Mount, options: &MountOptions) -> Result<()> {
    let kind = mount.typ().as_deref().unwrap_or_default();
    let destination = mount.destination();
    if destination.as_os_str().is_empty() {
        return Err(broken("/destination", "missing", "a mount needs a mount point"));
    }
    no_nul("/destination", &destination.to_string_lossy())?;
    no_nul("/type", kind)?;
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    no_nul("/source", &source.to_string_lossy())?;
    if options.remount && clean(&destination.to_string_lossy()) == "/" {
        return Err(broken("/options", "cannot remount /", "use root.readonly"));
    }
    if options.bind {
        if !options.data.is_empty() {
            let words = "bind mounts cannot have any filesystem-specific options applied";
            return Err(broken("/options", words, options.data.join(",")));
        }
        if source.as_os_str().is_empty() && !options.remount {
            return Err(broken("/source", "missing", "a bind mount needs a source"));
        }
    } else if !options.remount {
        match kind {
            "bind" => return Err(broken("/options", "type bind without option", "neither bind nor rbind is there")),
            // An entry with nothing but propagation changes the mount that is there.
            "" if options.propagation.is_empty() => {
                return Err(broken("/type", "missing", "a mount that is not a bind mount needs a filesystem type"));
            }
            _ => {}
        }
    }
    if options.tmpcopyup && (options.bind || kind != "tmpfs") {
        return Err(broken("/options", "tmpcopyup is for tmpfs", format!("the type is {kind:?}")));
    }
    Ok(())
}

fn idmap(mount: &Mount, options: &MountOptions, linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    let uids = mount.uid_mappings().as_deref().unwrap_or_default();
    let gids = mount.gid_mappings().as_deref().unwrap_or_default();
    let given = !uids.is_empty() || !gids.is_empty();
    if !given && options.idmap == Idmap::None {
        return Ok(());
    }
    if given {
        for (field, map) in [("/uidMappings", uids), ("/gidMappings", gids)] {
            if map.is_empty() {
                return Err(broken(field, "missing", "id-mapped mounts must have both uid and gid mappings specified"));
            }
            identity::mapping(field, map)?;
        }
    }
    if !options.bind {
        let field = if given { "/uidMappings" } else { "/options" };
        return Err(broken(field, "id-mapped mounts are only supported for bind mounts", ""));
    }
    match &options.idmap {
        Idmap::Container { .. } if !given && !namespaces.has("user") => Err(broken(
            "/options",
            "idmap without uidMappings and gidMappings needs a user namespace",
            "linux.namespaces has none",
        )),
        Idmap::Mapped { .. } if given => Err(broken("/options", "conflict", "both idmap= and uidMappings are given")),
        // The maps of a user namespace that is joined may be unknown here.
        Idmap::Mapped { uids, gids, .. } if namespaces.makes("user") || !namespaces.has("user") => {
            for (ranges, container) in [(uids, &linux.uid_mappings), (gids, &linux.gid_mappings)] {
                for range in ranges {
                    range.mapping(container).map_err(|e| e.at("/options"))?;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A filesystem other than procfs on /proc would let the image answer what the runtime asks of it (CVE-2019-16884). A
/// bind mount there is judged when its source is open, and all of it once more on the resolved path.
fn on_proc(mount: &Mount, options: &MountOptions, destination: &Path) -> Result<()> {
    let Ok(inside) = destination.strip_prefix("/proc") else { return Ok(()) };
    let kind = mount.typ().as_deref().unwrap_or_default();
    let refuse = |why: &str| Err(broken("/destination", format!("{} cannot be mounted", destination.display()), why));
    if inside.as_os_str().is_empty() {
        let same = kind == "proc" || (kind.is_empty() && (options.remount || !options.propagation.is_empty()));
        return if options.bind || same { Ok(()) } else { refuse("it is not of type proc") };
    }
    if LXCFS.iter().any(|file| inside == Path::new(file)) { Ok(()) } else { refuse("it is inside /proc") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(mounts: &str, linux: &str) -> Result<()> {
        let json = format!(r#"{{"mounts":[{mounts}],"linux":{{"namespaces":[{{"type":"mount"}}{linux}}}}}"#);
        let spec = Spec::parse(json.as_bytes()).unwrap();
        check(&spec, &Namespaces::check(&spec.linux.namespaces).unwrap())
    }

    fn at(mounts: &str) -> String {
        judge(mounts, "]").err().map(|e| e.field().to_owned()).unwrap_or_default()
    }

    fn mount(destination: &str, kind: &str, options: &str) -> String {
        let options: Vec<_> = options.split_whitespace().map(|o| format!("{o:?}")).collect();
        format!(r#"{{"destination":"{destination}","type":"{kind}","source":"/s","options":[{}]}}"#, options.join(","))
    }

    #[test]
    fn kinds_of_mounts() {
        assert_eq!(at(&mount("/tmp", "tmpfs", "size=1k nosuid tmpcopyup")), "");
        assert_eq!(at(&mount("data", "none", "rbind ro")), "");
        assert_eq!(at(&mount("/a", "", "bind")), "");
        assert_eq!(at(&mount("/a", "", "rshared")), "");
        assert_eq!(at(&mount("/a", "", "remount ro")), "");
        assert_eq!(at(&mount("/a", "", "ro")), "/mounts/0/type");
        assert_eq!(at(&mount("/a", "bind", "ro")), "/mounts/0/options");
        assert_eq!(at(&mount("", "tmpfs", "")), "/mounts/0/destination");
        assert_eq!(at(&mount("/a\\u0000", "tmpfs", "")), "/mounts/0/destination");
        assert_eq!(at(r#"{"destination":"/a","options":["bind"]}"#), "/mounts/0/source");
        assert_eq!(at(&mount("/x/..", "none", "bind remount ro")), "/mounts/0/options");
        assert_eq!(at(&mount("/a", "ext4", "tmpcopyup")), "/mounts/0/options");
        let e = judge(&mount("/a", "bind", "bind size=1k"), "]").unwrap_err();
        assert_eq!(e.to_string(), "/mounts/0/options: bind mounts cannot have any filesystem-specific options applied: size=1k");
        assert_eq!(at(&mount("/a", "bind", "rbind copy-symlink")), "");
    }

    #[test]
    fn what_may_lie_on_proc() {
        assert_eq!(at(&mount("/proc", "proc", "")), "");
        assert_eq!(at(&mount("//x/../proc/.", "tmpfs", "")), "/mounts/0/destination");
        assert_eq!(at(&mount("proc", "tmpfs", "")), "/mounts/0/destination");
        assert_eq!(at(&mount("/proc", "none", "rbind")), "");
        assert_eq!(at(&mount("/proc/cpuinfo", "none", "bind")), "");
        assert_eq!(at(&mount("/proc/sys/kernel/ns_last_pid", "none", "bind")), "");
        for path in ["/proc/self", "/proc/sys", "/proc/self/attr", "/proc/sys/kernel", "/proc/cpuinfo/x", "/proc/1"] {
            assert_eq!(at(&mount(path, "none", "bind")), "/mounts/0/destination", "{path}");
        }
        assert_eq!(at(&mount("/procx", "tmpfs", "")), "");
        let twice = format!("{},{}", mount("/proc", "proc", ""), mount("/proc/", "proc", ""));
        assert_eq!(at(&twice), "/mounts/1/destination");
        let again = format!("{},{}", mount("/proc", "proc", ""), mount("/proc", "proc", "remount hidepid=2"));
        assert_eq!(at(&again), "");
    }

    #[test]
    fn id_mapped_mounts() {
        let map = |options: &str, members: &str| {
            let options: Vec<_> = options.split_whitespace().map(|o| format!("{o:?}")).collect();
            format!(r#"{{"destination":"/a","source":"/s","type":"tmpfs","options":[{}]{members}}}"#, options.join(","))
        };
        let both = r#","uidMappings":[{"size":1}],"gidMappings":[{"size":1}]"#;
        let user = r#",{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":9,"size":5}],"gidMappings":[{"size":5}]"#;
        let field = |m: &str, l: &str| judge(m, l).err().map(|e| e.field().to_owned()).unwrap_or_default();
        assert_eq!(field(&map("bind idmap", both), "]"), "");
        assert_eq!(field(&map("bind", both), "]"), "");
        assert_eq!(field(&map("bind", r#","uidMappings":[{"size":1}]"#), "]"), "/mounts/0/gidMappings");
        assert_eq!(field(&map("bind", &both.replace('1', "0")), "]"), "/mounts/0/uidMappings/0/size");
        assert_eq!(field(&map("", both), "]"), "/mounts/0/uidMappings");
        assert_eq!(field(&map("ridmap", ""), user), "/mounts/0/options");
        assert_eq!(field(&map("bind idmap", ""), "]"), "/mounts/0/options");
        assert_eq!(field(&map("bind idmap", ""), user), "");
        assert_eq!(field(&map("bind idmap=uids=0-1-2;gids=0-1-2", ""), "]"), "");
        assert_eq!(field(&map("bind idmap=uids=0-1-2;gids=0-1-2", both), "]"), "/mounts/0/options");
        assert_eq!(field(&map("bind idmap=uids=@0-1-2;gids=0-1-2", ""), "]"), "/mounts/0/options");
        assert_eq!(field(&map("bind idmap=uids=@0-1-2;gids=@0-1-2", ""), user), "");
    }

    #[test]
    fn mounts_need_their_namespace() {
        let spec = Spec::parse(br#"{"mounts":[{"destination":"/a","type":"tmpfs"}]}"#).unwrap();
        assert_eq!(check(&spec, &Namespaces::check(&[]).unwrap()).unwrap_err().field(), "/mounts");
    }
}
