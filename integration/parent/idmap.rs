//! Maps that are really written.

use onggi::config::LinuxIdMapping;
use onggi::idmap::user_namespace_for;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

fn maps(lines: &[(u32, u32, u32)]) -> Vec<LinuxIdMapping> {
    let json = |&(c, h, s): &(u32, u32, u32)| serde_json::json!({"containerID": c, "hostID": h, "size": s});
    serde_json::from_value(lines.iter().map(json).collect()).unwrap()
}

fn make(uid: &[(u32, u32, u32)], gid: &[(u32, u32, u32)]) -> onggi::error::Result<OwnedFd> {
    let proc = File::open("/proc").unwrap();
    user_namespace_for(proc.as_fd(), "/mounts/3", &maps(uid), &maps(gid))
}

/// What `command` prints inside the namespace.
fn inside(namespace: &OwnedFd, command: &str) -> String {
    use std::os::fd::AsRawFd;
    let path = format!("--user=/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
    let output = Command::new("nsenter").args([&path, "--preserve-credentials", "sh", "-c", command]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_namespace_keeps_its_maps_without_a_process() {
    if !super::root("a_namespace_keeps_its_maps_without_a_process") {
        return;
    }
    let namespace = make(&[(0, 0, 1), (1, 100_000, 65535)], &[(0, 0, 1), (1, 200_000, 5)]).unwrap();
    let seen = inside(&namespace, "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups");
    assert_eq!(seen, "0 0 1 1 100000 65535 0 0 1 1 200000 5 allow");
}

#[test]
fn a_map_that_the_kernel_refuses_is_named() {
    let error = make(&[(0, 0, 1), (0, 5, 1)], &[(0, 0, 1)]).unwrap_err();
    assert_eq!(error.field(), "/mounts/3/uidMappings/1");
}

/// Runs a test of this file again as uid and gid 12345, after `before`, a shell command of root's in a mount namespace of
/// its own.
fn as_ordinary_user(test: &str, before: &str) {
    // Copied to where the user can execute it; the build directory may be closed to others.
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), mode).unwrap();
    let copy = dir.path().join("parent");
    // By another process: one that is forked here meanwhile would hold the file open for writing (ETXTBSY).
    assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&copy).status().unwrap().success());
    let user = "setpriv --reuid=12345 --regid=12345 --clear-groups --inh-caps=-all";
    let script = format!("{before} && exec {user} {} --exact idmap::{test} --nocapture", copy.display());
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .env("ONGGI_TEST_ORDINARY", "1")
        .current_dir("/")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn ordinary() -> bool {
    std::env::var_os("ONGGI_TEST_ORDINARY").is_some()
}

#[test]
fn an_ordinary_user_maps_the_own_id_and_setgroups_is_denied() {
    if ordinary() {
        let namespace = make(&[(0, 12345, 1)], &[(0, 12345, 1)]).unwrap();
        assert_eq!(inside(&namespace, "cat /proc/self/uid_map /proc/self/setgroups"), "0 12345 1 deny");
    } else if super::root("an_ordinary_user_maps_the_own_id_and_setgroups_is_denied") {
        as_ordinary_user("an_ordinary_user_maps_the_own_id_and_setgroups_is_denied", "true");
    }
}

#[test]
fn more_than_one_id_is_the_business_of_the_helper() {
    if ordinary() {
        let error = make(&[(0, 12345, 1)], &[(0, 12345, 1), (1, 100_000, 9)]).unwrap_err();
        let message = error.to_string();
        assert_eq!(error.field(), "/mounts/3/gidMappings", "{message}");
        assert!(message.contains(" 0 12345 1 1 100000 9 not allowed"), "{message}");
        assert!(message.contains("/etc/subgid"), "{message}");
        // PATH has one that would say yes.
        assert!(message.contains("run /usr/bin/newgidmap"), "{message}");
    } else if super::root("more_than_one_id_is_the_business_of_the_helper") {
        let before = "mount -t tmpfs none /mnt && cd /mnt \
            && printf '#!/bin/sh\necho \"$@ not allowed\" >&2\nexit 1\n' > no && printf '#!/bin/sh\n' > newgidmap && chmod 755 no newgidmap \
            && mkdir up work all && mount -t overlay -o lowerdir=/usr/bin,upperdir=up,workdir=work none all && cp no all/newgidmap \
            && mount --bind all /usr/bin && export PATH=$PWD:$PATH";
        as_ordinary_user("more_than_one_id_is_the_business_of_the_helper", before);
    }
}
