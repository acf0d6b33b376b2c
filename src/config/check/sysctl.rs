//! `linux.sysctl`: only what the container's own namespaces confine.
//!
//! runc's list of keys, with a stricter grammar: CVE-2022-0811 passed a second key inside a first one.

use super::namespaces::Namespaces;
use super::{broken, member, no_nul};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

const IPC: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

pub(super) fn check(sysctl: &BTreeMap<String, String>, namespaces: &Namespaces) -> Result<()> {
    let mut paths = BTreeMap::new();
    for (key, value) in sysctl {
        let field = member("/linux/sysctl", key);
        let path = sysctl_path(key).map_err(|e| e.at(field.clone()))?;
        confined(&path, namespaces).map_err(|e| e.at(field.clone()))?;
        no_nul(field.clone(), value)?;
        if let Some(other) = paths.insert(path, key) {
            return Err(broken(field, "duplicate sysctl", format!("{other:?} is the same one")));
        }
    }
    Ok(())
}

fn confined(path: &str, namespaces: &Namespaces) -> Result<()> {
    let needs = |kind: &str, words: &str| {
        let refused = || Error::new(format!("sysctl is not allowed in the host's {words} namespace"), "");
        if namespaces.has(kind) {
            Ok(())
        } else {
            Err(refused().hint(format!("add {{\"type\":\"{kind}\"}} to linux.namespaces")))
        }
    };
    match path.split_once('/') {
        _ if IPC.contains(&path) => needs("ipc", "IPC"),
        Some(("fs", rest)) if rest.starts_with("mqueue/") => needs("ipc", "IPC"),
        Some(("net", _)) => needs("network", "network"),
        Some(("user", _)) => needs("user", "user"),
        _ if path == "kernel/domainname" => needs("uts", "UTS"),
        _ if path == "kernel/hostname" => {
            Err(Error::new("sysctl is not allowed", "it conflicts with the field hostname").hint("use hostname"))
        }
        _ => Err(Error::new("sysctl is not in a separate kernel namespace", "it would change the host")),
    }
}

/// The path below /proc/sys of a sysctl named as sysctl(8) names them: `net.ipv4.ip_forward` and `net/ipv4/ip_forward` are
/// `net/ipv4/ip_forward`. Whichever of `.` and `/` comes first separates; the other one is then a `.` inside the name of a
/// network interface, and allowed there only: `net.ipv4.conf.eth0/100.forwarding` is `net/ipv4/conf/eth0.100/forwarding`.
///
/// # Errors
/// Anything else: empty components, `.` and `..`, characters that no sysctl has.
pub fn sysctl_path(key: &str) -> Result<String> {
    let bad = |cause: String| Error::new("invalid sysctl", cause);
    let slashes = key.chars().find(|c| matches!(c, '.' | '/')) == Some('/');
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let path: String = if slashes { key.to_owned() } else { key.chars().map(swap).collect() };
    let parts: Vec<&str> = path.split('/').collect();
    for (n, part) in parts.iter().enumerate() {
        let interface = n == 3 && matches!(parts.as_slice(), ["net", _, "conf" | "neigh", ..]);
        if matches!(*part, "" | "." | "..") {
            return Err(bad(format!("{key:?} has an empty component or one of dots")));
        }
        if part.contains('.') && !interface {
            return Err(bad(format!("{key:?} mixes '.' and '/'")));
        }
        if let Some(c) = part.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-' | '.')) {
            return Err(bad(format!("{key:?} contains {c:?}")));
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Namespace;

    #[test]
    fn two_ways_to_write_a_path() {
        for (key, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
            ("net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding"),
            ("net.ipv6.neigh.br-0.retrans_time", "net/ipv6/neigh/br-0/retrans_time"),
            ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
        ] {
            assert_eq!(sysctl_path(key).unwrap(), path);
        }
    }

    /// SEC-27: the grammar alone refuses these, whatever namespaces there are.
    #[test]
    fn keys_that_hide_another() {
        for key in [
            "",
            ".",
            "/",
            "..",
            "net..ipv4",
            "net.ipv4.",
            ".net.ipv4",
            "/net/ipv4",
            "net//ipv4",
            "net/../kernel/core_pattern",
            "net/ipv4/../../kernel/core_pattern",
            "net.ipv4/ip_forward",
            "net/ipv4.ip_forward",
            "kernel.shm/max",
            "net.//.kernel",
            "net.ipv4.conf.//.forwarding",
            "net/ipv4/conf/../ip_forward",
            "kernel.shmmax=1",
            "kernel.shmmax+kernel.core_pattern",
            "net.ipv4.ip_forward kernel.core_pattern",
            "net.ipv4.ip_forward\n",
            "net.ipv4\0",
            "net.ipv4.é",
            "net.ipv4.*",
            "net\\ipv4",
            "net/ipv4/conf/eth0.1/a.b",
            "net.ipv4.conf/x.y",
        ] {
            assert!(sysctl_path(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn each_namespace_frees_its_own_keys() {
        let judge = |kinds: &[&str], key: &str| {
            let list: Vec<_> = kinds.iter().map(|k| Namespace { kind: (*k).to_owned(), path: String::new() }).collect();
            check(&BTreeMap::from([(key.to_owned(), "1".to_owned())]), &Namespaces::check(&list).unwrap())
        };
        for (kind, keys) in [
            ("ipc", &["kernel.msgmax", "kernel.sem", "kernel.shm_rmid_forced", "fs.mqueue.queues_max", "fs/mqueue/msg_max"][..]),
            ("network", &["net.core.somaxconn", "net/ipv4/ip_forward"]),
            ("user", &["user.max_user_namespaces"]),
            ("uts", &["kernel.domainname"]),
        ] {
            for key in keys {
                assert!(judge(&[kind], key).is_ok(), "{key}");
                let others: Vec<_> =
                    ["ipc", "network", "user", "uts", "pid", "mount"].into_iter().filter(|k| *k != kind).collect();
                assert!(judge(&others, key).is_err(), "{key}");
            }
        }
        let all = ["ipc", "network", "user", "uts", "pid", "mount", "cgroup", "time"];
        for key in [
            "kernel.hostname",
            "kernel.core_pattern",
            "kernel.modprobe",
            "kernel.shmmax.x",
            "kernel.randomize_va_space",
            "vm.swappiness",
            "fs.file-max",
            "fs.mqueue",
            "net",
            "user",
            "kernel",
            "kernel.yama.ptrace_scope",
            "kernel.pid_max",
            "kernel.msg",
            "fs.mqueuex.y",
            "netx.a",
            "dev.x",
            "debug.x",
            "abi.x",
            "sunrpc.x",
            "kernel.ns_last_pid",
            "kernel.panic",
            "kernel.sysrq",
        ] {
            let e = judge(&all, key).expect_err(key);
            assert_eq!(e.field(), format!("/linux/sysctl/{key}"));
        }
    }

    #[test]
    fn one_key_in_two_spellings() {
        let both = BTreeMap::from([("net.a.b".to_owned(), "1".to_owned()), ("net/a/b".to_owned(), "2".to_owned())]);
        let list = [Namespace { kind: "network".into(), path: String::new() }];
        assert_eq!(check(&both, &Namespaces::check(&list).unwrap()).unwrap_err().field(), "/linux/sysctl/net~1a~1b");
    }
}
