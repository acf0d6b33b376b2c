//! Configurations of real engines and of the specification: all are taken, and read as the `oci-spec` crate reads them.

use oci_spec::runtime as oci;
use onggi::config::{Process, Seccomp, Spec, check};
use onggi::host::Host;
use onggi::plan::exec::{compile_exec, complete};
use onggi::plan::{ExecRequest, seccomp::filter};
use std::fs;
use std::path::PathBuf;

/// The JSON files of a directory of `tests/data`, by name.
fn files(dir: &str) -> Vec<(String, Vec<u8>)> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data")).join(dir);
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|f| f.unwrap().path())
        .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&p).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn what_engines_write_is_taken() {
    for (name, bytes) in files("bundles").into_iter().chain(files("spec")) {
        let spec = Spec::parse(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        check::check(&spec).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(check::warnings(&spec), [], "{name}");
    }
    for (name, bytes) in files("exec") {
        let process = Process::parse(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        check::process(&process).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// `exec` reads a part of what `create` has read as a whole: it must be the part that counts.
#[test]
fn a_further_process_is_planned_from_a_part_as_from_the_whole() {
    let host = Host { privileged: true, permitted: u64::MAX, apparmor: true, selinux: true, ..Host::default() };
    let request = ExecRequest { id: "c", differ: u64::MAX, keyring: true, preserve: 0, placed: false, busy: false };
    for (name, bytes) in ["bundles", "spec", "schema/good"].into_iter().flat_map(files) {
        let (whole, part) = (Spec::parse(&bytes).unwrap(), Spec::parse_for_exec(&bytes).unwrap());
        for own in [None, whole.process.clone()] {
            let process = complete(own.unwrap_or_default(), &whole);
            assert_eq!(format!("{process:?}"), format!("{:?}", complete(process.clone(), &part)), "{name}");
            let [of_whole, of_part] = [&whole, &part].map(|spec| {
                let plan = compile_exec(spec, &process, &request, &host);
                let parts = plan.map(|p| (p.steps, p.from_outside, p.namespaces, p.opens, p.warnings, p.affinity));
                format!("{parts:?}")
            });
            assert_eq!(of_whole, of_part, "{name}");
            let [of_whole, of_part] = [&whole, &part].map(|spec| filter(spec, &bytes, || None).map(|filter| filter.is_some()));
            assert_eq!(format!("{of_whole:?}"), format!("{of_part:?}"), "{name}");
        }
    }
}

/// One byte wrong, or the end missing: a verdict each time, in one line, and never a panic.
#[test]
fn damaged_files_get_a_verdict() {
    let (_, good) = files("schema/good").into_iter().find(|(name, _)| name == "spec-example.json").unwrap();
    let good = serde_json::to_vec(&serde_json::from_slice::<serde_json::Value>(&good).unwrap()).unwrap();
    let judge = |bytes: &[u8]| Spec::parse(bytes).and_then(|s| check::check(&s).map(|()| check::warnings(&s)));
    for at in (0..good.len()).step_by(3) {
        assert!(Spec::parse(&good[..at]).is_err_and(|e| e.to_string().lines().count() == 1), "cut at {at}");
        for byte in *b"\"-9{" {
            let mut bytes = good.clone();
            bytes[at] = byte;
            if let Err(e) = judge(&bytes) {
                assert_eq!(e.to_string().lines().count(), 1, "{byte} at {at}: {e}");
            }
        }
    }
}

#[test]
fn samples_of_the_specification() {
    for (name, bytes) in files("schema/good") {
        let mut spec = Spec::parse(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        if spec.oci_version == "0.5.0-dev" {
            // The example has kept the version of its first day.
            spec.oci_version = "1.0.0".into();
        }
        let verdict = check::check(&spec);
        match name.as_str() {
            // Right in form only: it has no network namespace to move the devices to.
            "linux-netdevice.json" => assert_eq!(verdict.unwrap_err().field(), "/linux/netDevices"),
            // Those of other systems are read, and need not make sense here.
            other if other.starts_with("zos") || other.starts_with("freebsd") => {}
            _ => verdict.unwrap_or_else(|e| panic!("{name}: {e}")),
        }
    }
    for (name, bytes) in files("schema/bad") {
        if !name.starts_with("freebsd") {
            let checked = Spec::parse(&bytes).and_then(|spec| check::check(&spec));
            assert!(checked.and_then(|()| Seccomp::parse(&bytes)).is_err(), "{name}");
        }
    }
}

#[test]
fn oci_spec_reads_the_same() {
    for (name, bytes) in files("bundles") {
        let ours = Spec::parse(&bytes).unwrap();
        let theirs: oci::Spec = serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        same(&name, &ours, &theirs);
        same_process(&name, ours.process.as_ref().unwrap(), theirs.process().as_ref().unwrap());
        same_linux(&name, &ours.linux, theirs.linux().as_ref().unwrap());
        let rules = Seccomp::parse(&bytes).unwrap().map(|s| s.syscalls.into_iter().map(|r| r.names).collect::<Vec<_>>());
        let theirs = theirs.linux().as_ref().unwrap().seccomp().as_ref();
        assert_eq!(rules, theirs.map(|s| s.syscalls().iter().flatten().map(|r| r.names().clone()).collect()), "{name}");
    }
    for (name, bytes) in files("exec") {
        let theirs: oci::Process = serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        same_process(&name, &Process::parse(&bytes).unwrap(), &theirs);
    }
}

fn same(name: &str, ours: &Spec, theirs: &oci::Spec) {
    assert_eq!(&ours.oci_version, theirs.version(), "{name}");
    assert_eq!(ours.hostname, theirs.hostname().clone().unwrap_or_default(), "{name}");
    assert_eq!(ours.domainname, theirs.domainname().clone().unwrap_or_default(), "{name}");
    assert_eq!(&ours.mounts, theirs.mounts().as_deref().unwrap_or_default(), "{name}");
    assert_eq!(&ours.hooks, theirs.hooks(), "{name}");
    assert_eq!(ours.annotations.len(), theirs.annotations().as_ref().map_or(0, |a| a.len()), "{name}");
    for (key, value) in &ours.annotations {
        assert_eq!(theirs.annotations().as_ref().unwrap().get(key), Some(value), "{name}");
    }
    let (root, their_root) = (ours.root.as_ref().unwrap(), theirs.root().as_ref().unwrap());
    assert_eq!((&root.path, root.readonly), (their_root.path(), their_root.readonly().unwrap_or_default()), "{name}");
}

fn same_process(name: &str, ours: &Process, theirs: &oci::Process) {
    assert_eq!(ours.terminal, theirs.terminal().unwrap_or_default(), "{name}");
    assert_eq!(&ours.args, theirs.args().as_deref().unwrap_or_default(), "{name}");
    assert_eq!(&ours.env, theirs.env().as_deref().unwrap_or_default(), "{name}");
    assert_eq!(PathBuf::from(&ours.cwd), *theirs.cwd(), "{name}");
    assert_eq!(ours.no_new_privileges, theirs.no_new_privileges().unwrap_or_default(), "{name}");
    assert_eq!(ours.oom_score_adj, theirs.oom_score_adj(), "{name}");
    assert_eq!(ours.apparmor_profile, theirs.apparmor_profile().clone().unwrap_or_default(), "{name}");
    let (user, their_user) = (&ours.user, theirs.user());
    assert_eq!((user.uid, user.gid, user.umask), (their_user.uid(), their_user.gid(), their_user.umask()), "{name}");
    assert_eq!(&user.additional_gids, their_user.additional_gids().as_deref().unwrap_or_default(), "{name}");
    let limits: Vec<_> = ours.rlimits.iter().map(|l| (l.kind.clone(), l.soft, l.hard)).collect();
    let their_limits: Vec<_> = theirs.rlimits().iter().flatten().map(|l| (l.typ().to_string(), l.soft(), l.hard())).collect();
    assert_eq!(limits, their_limits, "{name}");
    assert_eq!(ours.capabilities.is_some(), theirs.capabilities().is_some(), "{name}");
    if let (Some(c), Some(t)) = (&ours.capabilities, theirs.capabilities()) {
        for (ours, theirs) in [
            (&c.bounding, t.bounding()),
            (&c.effective, t.effective()),
            (&c.inheritable, t.inheritable()),
            (&c.permitted, t.permitted()),
            (&c.ambient, t.ambient()),
        ] {
            let mut names: Vec<String> = theirs.iter().flatten().map(|c| format!("CAP_{c}")).collect();
            let mut ours = ours.clone();
            names.sort();
            ours.sort();
            assert_eq!(ours, names, "{name}");
        }
    }
}

fn same_linux(name: &str, ours: &onggi::config::Linux, theirs: &oci::Linux) {
    let namespaces: Vec<_> = ours.namespaces.iter().map(|n| (n.kind.clone(), PathBuf::from(&n.path))).collect();
    let their_namespaces: Vec<_> = theirs
        .namespaces()
        .iter()
        .flatten()
        .map(|n| (serde_json::to_value(n.typ()).unwrap().as_str().unwrap().to_owned(), n.path().clone().unwrap_or_default()))
        .collect();
    assert_eq!(namespaces, their_namespaces, "{name}");
    assert_eq!(&ours.uid_mappings, theirs.uid_mappings().as_deref().unwrap_or_default(), "{name}");
    assert_eq!(&ours.gid_mappings, theirs.gid_mappings().as_deref().unwrap_or_default(), "{name}");
    assert_eq!(&ours.masked_paths, theirs.masked_paths().as_deref().unwrap_or_default(), "{name}");
    assert_eq!(&ours.readonly_paths, theirs.readonly_paths().as_deref().unwrap_or_default(), "{name}");
    assert_eq!(PathBuf::from(&ours.cgroups_path), theirs.cgroups_path().clone().unwrap_or_default(), "{name}");
    let their_sysctl = theirs.sysctl().clone().unwrap_or_default();
    assert_eq!(ours.sysctl, their_sysctl.into_iter().collect(), "{name}");
    let devices: Vec<_> =
        ours.devices.iter().map(|d| (PathBuf::from(&d.path), d.major, d.minor, d.file_mode, d.uid, d.gid)).collect();
    let their_devices: Vec<_> = theirs
        .devices()
        .iter()
        .flatten()
        .map(|d| (d.path().clone(), d.major(), d.minor(), d.file_mode(), d.uid(), d.gid()))
        .collect();
    assert_eq!(devices, their_devices, "{name}");
    assert_eq!(
        ours.seccomp.as_ref().map(|s| s.syscalls.len()),
        theirs.seccomp().as_ref().map(|s| s.syscalls().iter().flatten().count())
    );
    let (Some(r), Some(t)) = (&ours.resources, theirs.resources()) else {
        return assert_eq!(ours.resources.is_some(), theirs.resources().is_some(), "{name}");
    };
    let memory = r.memory.as_ref().map(|m| (m.limit, m.reservation, m.swap));
    assert_eq!(memory, t.memory().as_ref().map(|m| (m.limit(), m.reservation(), m.swap())), "{name}");
    let cpu = r.cpu.as_ref().map(|c| (c.shares, c.quota, c.period));
    assert_eq!(cpu, t.cpu().as_ref().map(|c| (c.shares(), c.quota(), c.period())), "{name}");
    assert_eq!(r.pids.as_ref().and_then(|p| p.limit), t.pids().as_ref().map(|p| p.limit()), "{name}");
    let rules: Vec<_> = r.devices.iter().map(|d| (d.allow, d.major, d.minor, d.access.clone())).collect();
    let their_rules: Vec<_> =
        t.devices().iter().flatten().map(|d| (d.allow(), d.major(), d.minor(), d.access().clone().unwrap_or_default())).collect();
    assert_eq!(rules, their_rules, "{name}");
}
