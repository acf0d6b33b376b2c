//! What takes the place of things that were on the captured machine.

use super::Captured;
use crate::bundle::{Bundle, eventually};
use crate::case::name_of_runtime;
use crate::stage::{WORK, vm};
use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

/// A captured configuration that can run here.
pub struct Prepared {
    pub bundle: Bundle,
    pub neighbour: Option<Neighbour>,
}

impl Prepared {
    pub fn new(captured: &Captured) -> Prepared {
        let mut bundle = Bundle::new();
        let without_resources = bundle.config["linux"]["resources"].is_null();
        bundle.config = serde_json::from_str(captured.text).expect("parse a captured configuration");
        if without_resources {
            bundle.config["linux"]["resources"] = json!({});
        }
        if name_of_runtime() == "crun" {
            // crun 1.8 knows no later version than this.
            bundle.config["ociVersion"] = "1.0.2".into();
        }
        bundle.config["root"]["path"] = "rootfs".into();
        if let Some(path) = bundle.config["linux"]["cgroupsPath"].as_str() {
            // Two bundles were captured with the same path.
            bundle.config["linux"]["cgroupsPath"] = format!("{path}-{}", bundle.id).into();
        }
        fill_root(&bundle);
        bind_sources(&mut bundle);
        give_root_away(&bundle);
        let mut left_out = Vec::new();
        limits(&mut bundle.config, &mut left_out);
        capabilities(&mut bundle.config, &mut left_out);
        rlimits(&mut bundle.config, &mut left_out);
        assert!(!vm() || left_out.is_empty(), "the virtual machine lacks {left_out:?}");
        hooks(&mut bundle.config);
        let mut neighbour = None;
        namespaces(&mut bundle, &mut neighbour);
        Prepared { bundle, neighbour }
    }

    /// Asserts that the hook was run in time, with what the specification promises it.
    pub fn check_hooks(&self) {
        let config = &self.bundle.config;
        let Some(hook) = config.pointer("/hooks/prestart/0") else { return };
        let recorded = fs::read(self.bundle.dir().join("hook.json")).expect("the hook has left a record");
        let recorded: Value = serde_json::from_slice(&recorded).expect("a record in JSON");
        assert_eq!(recorded["args"], hook["args"], "{recorded}");
        if name_of_runtime() == "onggi" {
            // Others of this age hand down their own when none is given.
            assert_eq!(recorded["env"], json!({}), "{recorded}");
        }
        let state = &recorded["state"];
        assert_eq!(state["id"], self.bundle.id, "{recorded}");
        assert_eq!(state["bundle"], self.bundle.dir().display().to_string(), "{recorded}");
        assert!(state["ociVersion"].is_string() && state["pid"].as_i64() > Some(0), "{recorded}");
        if name_of_runtime() != "crun" {
            assert_eq!(state["status"], "creating", "{recorded}");
        }
        assert_eq!(recorded["alive"], true, "{recorded}");
        let namespaces = config["linux"]["namespaces"].as_array().expect("namespaces");
        if namespaces.iter().any(|n| n["type"] == "network") {
            let ours = fs::metadata("/proc/self/ns/net").expect("our network").ino();
            assert!(recorded["network"].as_u64().is_some_and(|inode| inode != ours), "{recorded}");
        }
    }
}

/// A process that holds the namespaces which the configuration joins.
pub struct Neighbour(Child);

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What images of the captured containers had beside busybox.
fn fill_root(bundle: &Bundle) {
    let root = bundle.rootfs();
    fs::write(root.join("catatonit"), "#!/bin/sh\nsleep 1000\nexit 0\n").expect("write a stand-in");
    fs::set_permissions(root.join("catatonit"), PermissionsExt::from_mode(0o755)).expect("set its mode");
    let args = bundle.config["process"]["args"].as_array().expect("arguments");
    if args.iter().any(|arg| arg == "/x") && args[0] == "cat" {
        fs::write(root.join("x"), "x\n").expect("write a file");
    }
}

/// Sources of bind mounts: a file where the destination is known to be one, else a directory with a file `f`.
fn bind_sources(bundle: &mut Bundle) {
    let home = bundle.home.join("sources");
    fs::create_dir_all(&home).expect("make a directory");
    for (n, mount) in bundle.config["mounts"].as_array_mut().expect("mounts").iter_mut().enumerate() {
        let options = mount["options"].as_array().cloned().unwrap_or_default();
        if mount["type"] != "bind" && !options.iter().any(|option| option == "bind" || option == "rbind") {
            continue;
        }
        let source = home.join(n.to_string());
        let destination = mount["destination"].as_str().expect("a destination");
        match destination.rsplit('/').next().expect("a name") {
            "resolv.conf" | "hostname" | "hosts" | ".containerenv" => {
                fs::write(&source, "# stand-in\n").expect("write a stand-in");
            }
            "docker-init" => {
                fs::write(&source, "#!/bin/sh\nshift\nexec \"$@\"\n").expect("write a stand-in");
                fs::set_permissions(&source, PermissionsExt::from_mode(0o755)).expect("set its mode");
            }
            _ => {
                fs::create_dir(&source).expect("make a stand-in");
                fs::write(source.join("f"), "1\n").expect("write a file");
                fs::set_permissions(&source, PermissionsExt::from_mode(0o1777)).expect("set its mode");
            }
        }
        mount["source"] = source.display().to_string().into();
    }
}

/// Gives the root file system to the root of the container's user namespace, as an engine does.
fn give_root_away(bundle: &Bundle) {
    let map = |kind: &str| bundle.config.pointer(&format!("/linux/{kind}/0/hostID")).and_then(Value::as_u64);
    let (Some(uid), Some(gid)) = (map("uidMappings"), map("gidMappings")) else { return };
    let id = |id: u64| u32::try_from(id).ok();
    for path in [bundle.home.clone(), bundle.dir()] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("set a mode");
    }
    let root = bundle.rootfs();
    for entry in fs::read_dir(&root).expect("list the root").flatten().map(|entry| entry.path()).chain([root]) {
        // Not through links, and not the programs that all bundles share.
        if entry.is_dir() {
            chown(entry, id(uid), id(gid)).expect("give it to the container's root");
        }
    }
}

/// Controllers that cgroups made here can have.
pub fn controllers() -> Vec<String> {
    let list = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").expect("read the controllers");
    list.split_whitespace().map(Into::into).collect()
}

fn limits(config: &mut Value, left_out: &mut Vec<String>) {
    let there = controllers();
    let Some(resources) = config["linux"]["resources"].as_object_mut() else { return };
    for (member, controller) in [("memory", "memory"), ("cpu", "cpu"), ("pids", "pids"), ("blockIO", "io")] {
        if resources.contains_key(member) && !there.iter().any(|c| c == controller) {
            resources.remove(member);
            left_out.push(member.into());
        }
    }
}

fn capabilities(config: &mut Value, left_out: &mut Vec<String>) {
    let ours = caps::read(None, caps::CapSet::Permitted).expect("read our capabilities");
    let Some(sets) = config["process"]["capabilities"].as_object_mut() else { return };
    for list in sets.values_mut().filter_map(Value::as_array_mut) {
        list.retain(|name| {
            let known = name.as_str().and_then(|name| name.parse::<caps::Capability>().ok());
            let kept = known.is_none_or(|capability| ours.contains(&capability));
            if !kept {
                left_out.push(name.to_string());
            }
            kept
        });
    }
}

fn rlimits(config: &mut Value, left_out: &mut Vec<String>) {
    if caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE).unwrap_or(false) {
        return;
    }
    for limit in config["process"]["rlimits"].as_array_mut().into_iter().flatten() {
        let resource = match limit["type"].as_str() {
            Some("RLIMIT_NOFILE") => Resource::RLIMIT_NOFILE,
            Some("RLIMIT_NPROC") => Resource::RLIMIT_NPROC,
            _ => continue,
        };
        let (_, hard) = getrlimit(resource).expect("read a limit");
        if limit["hard"].as_u64() > Some(hard) {
            (limit["soft"], limit["hard"]) = (hard.into(), hard.into());
            left_out.push(limit["type"].to_string());
        }
    }
}

fn hooks(config: &mut Value) {
    for hook in config.pointer_mut("/hooks/prestart").and_then(Value::as_array_mut).into_iter().flatten() {
        // This very program; what it does is chosen by the name that the hook's arguments begin with.
        hook["path"] = Path::new(WORK).join("inside").display().to_string().into();
    }
}

/// The hook program: writes what it was given into the bundle.
pub fn record_hook() -> ExitCode {
    let mut state = String::new();
    std::io::stdin().read_to_string(&mut state).expect("read the state");
    let state: Value = serde_json::from_str(&state).expect("a state in JSON");
    let proc = Path::new("/proc").join(state["pid"].to_string());
    let record = json!({
        "args": std::env::args().collect::<Vec<_>>(),
        "env": std::env::vars().collect::<std::collections::BTreeMap<_, _>>(),
        "alive": proc.exists(),
        "network": fs::metadata(proc.join("ns/net")).map(|meta| meta.ino()).ok(),
        "state": &state,
    });
    let bundle = Path::new(state["bundle"].as_str().expect("a bundle"));
    fs::write(bundle.join("hook.json"), record.to_string()).expect("write the record");
    ExitCode::SUCCESS
}

/// Namespaces by path: those of a process of our own, which serves a file in its network.
fn namespaces(bundle: &mut Bundle, neighbour: &mut Option<Neighbour>) {
    let www = bundle.home.join("www");
    let serve = match bundle.config["process"]["args"][0].as_str() {
        Some("wget") => "ip link set lo up; touch ready; exec busybox httpd -f -p 80 -h .",
        _ => "touch ready; exec sleep 1000",
    };
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().expect("namespaces") {
        let Some(kind) = namespace.get("path").and(namespace["type"].as_str()).map(str::to_owned) else { continue };
        let neighbour = neighbour.get_or_insert_with(|| {
            fs::create_dir_all(&www).and_then(|()| fs::write(www.join("passwd"), "served\n")).expect("write a page");
            let mut unshare = Command::new("unshare");
            unshare.args(["--net", "--ipc", "--uts", "sh", "-c", serve]).current_dir(&www).stdin(Stdio::null());
            let child = unshare.spawn().expect("start a neighbour");
            eventually("the neighbour serves", || {
                let listening = fs::read_to_string(format!("/proc/{}/net/tcp6", child.id())).unwrap_or_default()
                    + &fs::read_to_string(format!("/proc/{}/net/tcp", child.id())).unwrap_or_default();
                www.join("ready").exists() && (listening.contains(":0050 ") || !serve.contains("httpd"))
            });
            Neighbour(child)
        });
        let kind = if kind == "network" { "net".to_owned() } else { kind };
        namespace["path"] = format!("/proc/{}/ns/{kind}", neighbour.0.id()).into();
    }
}
