//! What `inside report` says of confinement, in a form in which two runs of one configuration are equal: without what is
//! another for each container (ids, inodes, numbers of mounts), and without what the kernel counts.

use serde_json::{Map, Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Lines of `/proc/self/status` that say how a process is confined.
const STATUS: [&str; 16] = [
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "Cpus_allowed_list",
];

/// The report of the container with this id.
pub fn normal(text: &str, id: &str) -> Result<Value, String> {
    let mut report: Value = serde_json::from_str(&text.replace(id, "ID")).map_err(|error| format!("no whole report: {error}"))?;
    let status = &report["status"];
    let kept = STATUS.iter().map(|name| ((*name).to_owned(), status[*name].clone())).collect::<Map<_, _>>();
    // Its number in its own PID namespace.
    let own = status["NSpid"].as_str().and_then(|list| list.rsplit(' ').next()?.parse::<i64>().ok());
    // `/` where the container does not tell: not a matter of confinement, and no reason to fail.
    if let Some(env) = report["env"].as_object_mut() {
        env.remove("HOME");
    }
    report["session"] = json!(report["session"].as_i64() == own);
    report["status"] = kept.into();
    if let Some(namespaces) = report["namespaces"].as_object_mut() {
        for (kind, inode) in namespaces {
            let host = fs::metadata(format!("/proc/self/ns/{kind}")).ok().map(|meta| meta.ino());
            *inode = json!(if inode.as_u64() == host { "the host's" } else { "its own" });
        }
    }
    for mount in report["mounts"].as_array_mut().into_iter().flatten() {
        mount["propagation"] = without_digits(&mount["propagation"]);
    }
    for target in report["fds"].as_object_mut().into_iter().flat_map(|fds| fds.values_mut()) {
        *target = without_digits(target);
    }
    Ok(report)
}

fn without_digits(text: &Value) -> Value {
    text.as_str().unwrap_or_default().chars().filter(|c| !c.is_ascii_digit()).collect::<String>().into()
}

/// Where two values differ, by JSON pointer.
pub fn differences(good: &Value, other: &Value) -> Vec<String> {
    fn walk(at: &str, good: &Value, other: &Value, found: &mut Vec<String>) {
        match (good, other) {
            _ if good == other => {}
            (Value::Object(a), Value::Object(b)) => {
                let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for name in names {
                    walk(&format!("{at}/{name}"), &good[name], &other[name], found);
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (n, (a, b)) in a.iter().zip(b).enumerate() {
                    walk(&format!("{at}/{n}"), a, b, found);
                }
            }
            (Value::Array(a), Value::Array(b)) => {
                let only = |x: &[Value], y: &[Value]| {
                    x.iter().filter(|value| !y.contains(value)).map(Value::to_string).collect::<Vec<_>>()
                };
                found.push(format!("{at}: only in a good run {:?}, only in this one {:?}", only(a, b), only(b, a)));
            }
            _ => found.push(format!("{at}: {other}, not {good}")),
        }
    }
    let mut found = Vec::new();
    walk("", good, other, &mut found);
    found
}
