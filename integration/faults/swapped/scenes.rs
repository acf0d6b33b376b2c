//! What is attacked, and what has to come of it.

use super::{Attack, Scenario};
use crate::bundle::Bundle;
use crate::canary::{Canary, link};
use crate::faults::scene::Scene;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Kinds of mounts in the shared volume, each below a directory of its own: `a/b/c/d` is the mount point.
const KINDS: [&str; 5] = ["tmpfs", "dir", "file", "newdir", "newfile"];
/// Paths that are covered, each with what of the canary.
const COVERED: [(&str, &str); 10] = [
    ("/proc", "dir"),
    ("/proc/sys", "dir"),
    ("/proc/sys/net", "dir"),
    ("/proc/sys/net/ipv4/ip_default_ttl", "file"),
    ("/proc/1/attr/exec", "file"),
    ("/proc/keys", "file"),
    // What covers these is the container's then, to make devices and mount points in.
    ("/sys", "dir+ro"),
    ("/dev", "dir+ro"),
    ("/dev/null", "file"),
    ("/scratch", "dir+ro"),
];

pub fn all() -> Vec<Scenario> {
    let plain = |name: &str| Scenario {
        name: name.into(),
        bundle: |bundle, _| bundle,
        attack: Attack::Swap(Vec::new()),
        created: |_| Vec::new(),
        found: |_, _, _| Vec::new(),
        terminal: false,
        vm: false,
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let mut all = Vec::new();
    for (depth, bundle) in [at_depth::<1>, at_depth::<2>, at_depth::<3>, at_depth::<4>].into_iter().enumerate() {
        let place: String = ["/a", "/b", "/c", "/d"].iter().take(depth + 1).copied().collect();
        let link = format!("{}swap", &place[..place.len() - 1]);
        // A mount point that is missing cannot be exchanged; all before it can.
        let kinds = KINDS.iter().filter(|kind| depth < 3 || !kind.starts_with("new"));
        let pairs = kinds.map(|kind| pair(&format!("volume/{kind}{place}"), &format!("volume/{kind}{link}"))).collect();
        let name = format!("mount targets at depth {}", depth + 1);
        all.push(Scenario { bundle, attack: Attack::Swap(pairs), found: targets_found, ..plain(&name) });
    }
    all.push(Scenario {
        bundle: sources,
        attack: Attack::Swap(vec![pair("source", "link")]),
        found: sources_found,
        ..plain("the directory of mount sources")
    });
    all.push(Scenario {
        bundle: inner_source,
        attack: Attack::Swap(vec![pair("inner/dir", "inner/to-dir"), pair("inner/above", "inner/to-above")]),
        found: inner_source_found,
        ..plain("a mount source inside the root")
    });
    all.push(Scenario {
        bundle: sources,
        attack: Attack::Swap(vec![pair("source/dir", "source/to-dir"), pair("source/file", "source/to-file")]),
        found: sources_found,
        ..plain("mount sources")
    });
    all.push(Scenario {
        bundle: hidden,
        attack: Attack::Swap(vec![pair("volume/m", "volume/swap")]),
        found: hidden_found,
        ..plain("the directory of hidden paths")
    });
    all.push(Scenario {
        bundle: hidden,
        attack: Attack::Swap(vec![
            pair("volume/m/file", "volume/m/to-file"),
            pair("volume/m/dir", "volume/m/to-dir"),
            pair("volume/m/deep", "volume/m/to-deep"),
        ]),
        found: hidden_found,
        ..plain("hidden paths")
    });
    all.push(Scenario {
        bundle: own_dev,
        attack: Attack::Swap(vec![pair("bundle/rootfs/dev", "bundle/rootfs/to-canary")]),
        found: dev_found,
        ..plain("/dev")
    });
    all.push(Scenario {
        bundle: own_dev,
        attack: Attack::Swap(vec![pair("bundle/rootfs/dev/null", "bundle/rootfs/dev/to-null")]),
        found: dev_found,
        ..plain("/dev/null")
    });
    all.push(Scenario {
        bundle: own_dev,
        attack: Attack::Swap(vec![pair("bundle/rootfs/dev/console", "bundle/rootfs/dev/to-file")]),
        found: console_found,
        terminal: true,
        ..plain("/dev/console")
    });
    all.push(Scenario {
        bundle: own_dev,
        attack: Attack::Swap(vec![pair("bundle/rootfs/dev/pts", "bundle/rootfs/dev/to-dir")]),
        found: console_found,
        terminal: true,
        ..plain("/dev/pts")
    });
    all.push(Scenario {
        bundle: |bundle, _| reporting(bundle, CONSOLE),
        attack: Attack::Cover { source: "file", target: "/dev/console" },
        found: console_found,
        terminal: true,
        ..plain("/dev/console")
    });
    for (target, source) in COVERED {
        let attack = Attack::Cover { source, target };
        all.push(Scenario { bundle: covered, attack, created: sysctl_is_set, ..plain(target) });
    }
    for target in ["/proc/1/attr/exec", "/proc/1/attr/apparmor/exec", "/proc/1/attr/current"] {
        let attack = Attack::Cover { source: "file", target };
        let name = format!("label {target}");
        all.push(Scenario { bundle: labelled, attack, created: label_waits, found: label_found, vm: true, ..plain(&name) });
    }
    all
}

/// A program that writes down what it finds, by a script, and then stays.
fn reporting(bundle: Bundle, script: &str) -> Bundle {
    bundle.sh(&format!("exec 2>&1 >/out/new; {script}\necho END; mv /out/new /out/found; exec sleep 1000"))
}

fn make(path: &Path) {
    fs::create_dir_all(path).expect("make a directory");
}

fn volume(bundle: Bundle) -> Bundle {
    let volume = bundle.home.join("volume");
    make(&volume);
    make(&bundle.rootfs().join("vol"));
    bundle.mount("/vol", "bind", &volume.display().to_string(), &["rbind", "rw"])
}

/// Mount points below `/vol/KIND/a/b/c/d`, with a link to the canary beside the component at this depth (from 1).
fn at_depth<const DEPTH: usize>(bundle: Bundle, canary: &Canary) -> Bundle {
    let mut bundle = volume(bundle);
    let source = bundle.home.join("source");
    make(&source.join("dir"));
    make(&source.join("newdir"));
    for file in ["file", "newfile"] {
        fs::write(source.join(file), "source").expect("write a file");
    }
    for (n, kind) in KINDS.iter().enumerate() {
        let root = bundle.home.join("volume").join(kind);
        let parts = ["a", "b", "c", "d"];
        let existing = if kind.starts_with("new") { DEPTH.min(3) } else { 4 };
        let mut at = root;
        make(&at);
        for (level, part) in parts.iter().take(existing).enumerate() {
            if level + 1 == DEPTH {
                let to = if *kind == "file" && level == 3 { "file" } else { "deep" };
                symlink(&canary.names(to)[n % 2], at.join("swap")).expect("make a link");
            }
            at = at.join(part);
            if *kind == "file" && level == 3 {
                fs::write(&at, "under").expect("write a file");
            } else {
                make(&at);
            }
        }
        let target = format!("/vol/{kind}/a/b/c/d");
        bundle = match *kind {
            "tmpfs" => bundle.mount(&target, "tmpfs", "tmpfs", &["size=44k", "mode=700"]),
            kind => bundle.mount(&target, "bind", &source.join(kind).display().to_string(), &["rbind", "ro"]),
        };
    }
    reporting(bundle, "cat /proc/self/mountinfo")
}

/// Root, mount point, options and what follows of each line of mountinfo.
fn mounts(found: &str) -> Vec<(&str, &str, &str, &str)> {
    let line = |line: &'_ str| -> Option<[usize; 0]> { line.split(' ').nth(5).map(|_| []) };
    found
        .lines()
        .filter(|text| line(text).is_some())
        .filter_map(|text| {
            let mut words = text.splitn(7, ' ').skip(3);
            Some((words.next()?, words.next()?, words.next()?, words.next()?))
        })
        .collect()
}

/// Each mount is there, once, and read-only as it was to be.
fn targets_found(scene: &Scene, _: &Canary, found: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mounts = mounts(found);
    for kind in KINDS {
        let source = format!("/{}/source/{kind}", scene.bundle.id);
        let count = mounts
            .iter()
            .filter(|(root, _, options, rest)| {
                if kind == "tmpfs" { rest.contains("size=44k") } else { root.ends_with(&source) && options.starts_with("ro") }
            })
            .count();
        if count != 1 {
            wrong.push(format!("{count} mounts of {kind}: {found}"));
        }
    }
    wrong
}

fn sources(bundle: Bundle, canary: &Canary) -> Bundle {
    let source = bundle.home.join("source");
    make(&source.join("dir"));
    fs::write(source.join("file"), "source").expect("write a file");
    symlink(&canary.path, bundle.home.join("link")).expect("make a link");
    for name in ["dir", "file"] {
        symlink(canary.path.join(name), source.join(format!("to-{name}"))).expect("make a link");
    }
    make(&bundle.rootfs().join("from-dir"));
    let bundle = bundle.file("/from-file", 0o644, "");
    let bundle = bundle.mount("/from-dir", "bind", &source.join("dir").display().to_string(), &["rbind", "ro"]);
    let bundle = bundle.mount("/from-file", "bind", &source.join("file").display().to_string(), &["bind", "ro"]);
    reporting(bundle, "cat /proc/self/mountinfo; touch /from-dir/new && echo WROTE; echo x >>/from-file && echo WROTE")
}

/// Either of the two that the name has meant, whole and read-only.
fn sources_found(scene: &Scene, canary: &Canary, found: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let below = |root: &str, directory: &Path, name: &str| {
        let place = directory.strip_prefix("/run").unwrap_or(directory).join(name);
        Path::new(root) == Path::new("/").join(place)
    };
    for name in ["dir", "file"] {
        let target = format!("/from-{name}");
        let there: Vec<_> = mounts(found).into_iter().filter(|(_, at, ..)| *at == target).collect();
        let right = |root: &str| {
            below(root, &scene.bundle.home.join("source"), name)
                || below(root, &scene.bundle.home.join("source"), &format!("to-{name}"))
                || below(root, &canary.path, name)
                // The directory that was exchanged has the link's name now.
                || below(root, &scene.bundle.home.join("link"), name)
        };
        if !matches!(there.as_slice(), [(root, _, options, _)] if right(root) && options.starts_with("ro")) {
            wrong.push(format!("{target}: {there:?}"));
        }
    }
    if found.contains("WROTE") {
        wrong.push("a read-only source was written to".into());
    }
    wrong
}

/// Sources in a volume that an entry before has mounted: whoever writes to it lays links to the host's canary on the way.
fn inner_source(bundle: Bundle, canary: &Canary) -> Bundle {
    let volume = bundle.home.join("inner");
    make(&volume.join("dir"));
    make(&volume.join("above/dir"));
    symlink(canary.path.join("dir"), volume.join("to-dir")).expect("make a link");
    symlink(&canary.path, volume.join("to-above")).expect("make a link");
    for place in ["volume", "from-dir", "from-above"] {
        make(&bundle.rootfs().join(place));
    }
    let inside = bundle.rootfs().join("volume").display().to_string();
    let bundle = bundle.mount("/volume", "bind", &volume.display().to_string(), &["bind"]);
    let bundle = bundle.mount("/from-dir", "bind", &format!("{inside}/dir"), &["rbind", "ro"]);
    let bundle = bundle.mount("/from-above", "bind", &format!("{inside}/above/dir"), &["rbind", "ro"]);
    reporting(bundle, "cat /proc/self/mountinfo; touch /from-dir/new /from-above/new && echo WROTE")
}

/// The volume's own, whole and read-only: never what the links name on the host.
fn inner_source_found(scene: &Scene, _: &Canary, found: &str) -> Vec<String> {
    let volume = scene.bundle.home.join("inner");
    let volume = Path::new("/").join(volume.strip_prefix("/run").unwrap_or(&volume));
    let mut wrong = Vec::new();
    for target in ["/from-dir", "/from-above"] {
        let there: Vec<_> = mounts(found).into_iter().filter(|(_, at, ..)| *at == target).collect();
        let right = |root: &str| Path::new(root).starts_with(&volume);
        if !matches!(there.as_slice(), [(root, _, options, _)] if right(root) && options.starts_with("ro")) {
            wrong.push(format!("{target}: {there:?}"));
        }
    }
    if found.contains("WROTE") {
        wrong.push("a read-only source was written to".into());
    }
    wrong
}

/// Masked and read-only paths in a volume, with decoys inside the root where the links lead.
fn hidden(bundle: Bundle, canary: &Canary) -> Bundle {
    let mut bundle = volume(bundle);
    let decoy = bundle.rootfs().join(canary.path.strip_prefix("/").expect("an absolute path"));
    let m = bundle.home.join("volume/m");
    for place in [&decoy, &m] {
        make(&place.join("dir"));
        make(&place.join("deep"));
        fs::write(place.join("file"), "SECRET").expect("write a file");
        fs::write(place.join("dir/file"), "SECRET").expect("write a file");
    }
    symlink(&canary.path, bundle.home.join("volume/swap")).expect("make a link");
    for name in ["file", "dir", "deep"] {
        symlink(canary.path.join(name), m.join(format!("to-{name}"))).expect("make a link");
    }
    for (field, paths) in [("maskedPaths", &["/vol/m/file", "/vol/m/dir"][..]), ("readonlyPaths", &["/vol/m/deep"])] {
        for path in paths {
            bundle = bundle.set(&format!("/linux/{field}/-"), *path);
        }
    }
    let look = format!(
        "for at in $(cut -d' ' -f5 /proc/self/mountinfo | grep -E '^(/vol/|{})'); do echo AT $at; cat $at $at/* ; touch $at/new && echo WROTE; done",
        canary.path.display()
    );
    reporting(bundle.set("/root/readonly", false), &look)
}

/// Three mounts, whichever of the two places they are at; nothing is read or written through them.
fn hidden_found(_: &Scene, _: &Canary, found: &str) -> Vec<String> {
    let count = found.lines().filter(|line| line.starts_with("AT ")).count();
    let mut wrong = Vec::new();
    if count != 3 || found.contains("SECRET") || found.contains("WROTE") {
        wrong.push(format!("{count} paths are hidden: {found}"));
    }
    wrong
}

/// A `/dev` of the rootfs, with links to the canary beside what the runtime makes there.
fn own_dev(bundle: Bundle, canary: &Canary) -> Bundle {
    let mounts: Vec<Value> = bundle.config["mounts"].as_array().expect("mounts").clone();
    let terminal = bundle.config["process"]["terminal"] == true;
    // With a terminal its devpts stays.
    let keeps = |mount: &Value| {
        let at = mount["destination"].as_str().unwrap_or_default();
        !at.starts_with("/dev") || terminal && at == "/dev/pts"
    };
    let bundle = bundle.set("/mounts", mounts.into_iter().filter(keeps).collect::<Vec<_>>()).set("/root/readonly", false);
    let dev = bundle.rootfs().join("dev");
    make(&dev.join("pts"));
    fs::write(dev.join("console"), "").expect("write a file");
    fs::write(dev.join("to-null.new"), "").expect("write a file");
    nix::sys::stat::mknod(
        &dev.join("null"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::from_bits_truncate(0o666),
        nix::sys::stat::makedev(1, 3),
    )
    .expect("make a node");
    symlink(&canary.path, bundle.rootfs().join("to-canary")).expect("make a link");
    for name in ["null", "file", "dir"] {
        link(&bundle, &format!("/dev/to-{name}"), &canary.path.join(name).display().to_string());
    }
    let bundle = bundle.file("/secret", 0o644, "SECRET").set("/linux/maskedPaths/-", "/secret");
    let script = if terminal {
        CONSOLE
    } else {
        "cat /secret; for dev in /dev /to-canary; do stat -c '%F %t:%T' $dev/zero; done; [ -c /proc/self/fd/0 ] && stat -L -c 'IN %t:%T' /proc/self/fd/0"
    };
    reporting(bundle, script)
}

/// The directory that was opened has the devices, and what is hidden is hidden by the true one.
fn dev_found(_: &Scene, _: &Canary, found: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if found.contains("SECRET") || found.matches("character special file 1:5").count() != 1 {
        wrong.push(format!("found {found}"));
    }
    wrong
}

const CONSOLE: &str = "stat -L -c 'IN %t' /proc/self/fd/0";

/// The terminal is one of the container's devpts (major number 136), whatever /dev/console is.
fn console_found(_: &Scene, _: &Canary, found: &str) -> Vec<String> {
    if found.contains("IN 88\n") { Vec::new() } else { vec![format!("found {found}")] }
}

fn covered(bundle: Bundle, _: &Canary) -> Bundle {
    // What has covered /dev or /proc is no hindrance for it.
    reporting(bundle, ":")
}

/// Read from outside: the container's own /proc may be covered.
fn sysctl_is_set(scene: &Scene) -> Vec<String> {
    let pid = scene.state()["pid"].to_string();
    let mut look = Command::new("nsenter");
    look.args(["-t", &pid, "-n", "cat", "/proc/sys/net/ipv4/ip_default_ttl"]);
    let value = scene.bundle.finish(look);
    if value.stdout.trim() == "77" { Vec::new() } else { vec![format!("the sysctl is {value:?}")] }
}

fn labelled(bundle: Bundle, _: &Canary) -> Bundle {
    crate::apparmor::load();
    let label = json!(crate::apparmor::PROFILE);
    reporting(bundle.set("/process/apparmorProfile", label), ":")
}

/// It comes with the program.
fn label_waits(_: &Scene) -> Vec<String> {
    Vec::new()
}

fn label_found(scene: &Scene, _: &Canary, _: &str) -> Vec<String> {
    let label = fs::read_to_string(format!("/proc/{}/attr/current", scene.state()["pid"])).unwrap_or_default();
    if label.starts_with(crate::apparmor::PROFILE) { Vec::new() } else { vec![format!("the label is {label:?}")] }
}
