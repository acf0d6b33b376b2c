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

/// As an ordinary user: the own id by itself, more only with the helpers.
#[test]
fn an_ordinary_user_maps_the_own_id_and_setgroups_is_denied() {
    if std::env::var_os("ONGGI_TEST_ORDINARY").is_some() {
        let namespace = make(&[(0, 12345, 1)], &[(0, 12345, 1)]).unwrap();
        assert_eq!(inside(&namespace, "cat /proc/self/uid_map /proc/self/setgroups"), "0 12345 1 deny");
        let error = make(&[(0, 12345, 1)], &[(0, 12345, 2)]).unwrap_err();
        let message = error.to_string();
        assert!(error.field().starts_with("/mounts/3/gidMappings"), "{message}");
        assert!(message.contains("newgidmap is not installed") || message.contains("/etc/subgid"), "{message}");
        return;
    }
    if !super::root("an_ordinary_user_maps_the_own_id_and_setgroups_is_denied") {
        return;
    }
    // Copied to where the user can execute it; the build directory may be closed to others.
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), mode).unwrap();
    let copy = dir.path().join("parent");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let args = ["--exact", "idmap::an_ordinary_user_maps_the_own_id_and_setgroups_is_denied", "--nocapture"];
    let output = Command::new("setpriv")
        .args(["--reuid=12345", "--regid=12345", "--clear-groups", "--inh-caps=-all"])
        .arg(&copy)
        .args(args)
        .env("ONGGI_TEST_ORDINARY", "1")
        .current_dir("/")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
