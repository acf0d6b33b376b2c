//! Users, groups, capabilities: exactly those that are asked for, by numbers that mean themselves.

use super::report_of;
use crate::bundle::{Bundle, Output, find_program};
use crate::case;
use crate::case::{Case, name_of_runtime, runtime};
use crate::exec::{exec, report, sleeper};
use serde_json::{Value, json};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

pub fn cases() -> Vec<Case> {
    let of = |name, run| Case::new(module_path!(), name, run);
    vec![
        case!(sec_01_cve_2016_3697_exec_s_user_is_a_number)
            .except("crun", "takes much for a number")
            .except("runc", "1.1 takes names"),
        case!(sec_01_cve_2016_3697_no_id_means_unchanged).except("crun", "takes it").except("runc", "1.1 takes it"),
        case!(sec_10_cve_2022_29162_exec_adds_nothing_inheritable),
        case!(sec_10_cve_2022_24769_the_default_has_nothing_inheritable),
        case!(sec_10_cve_2016_8867_a_user_has_no_capabilities_but_ambient_ones),
        of("sec_23_cve_2020_5291_maps_are_exact", crate::userns::maps_of_several_lines_are_exact),
        of("sec_23_cve_2014_8989_setgroups_is_denied_without_root", crate::rootless::setgroups_is_denied_with_one_id),
        of("sec_23_cve_2014_8989_groups_are_refused_without_root", crate::rootless::additional_groups_are_refused_with_one_id)
            .except("crun", "ignores the failure"),
        case!(sec_23_cve_2020_5291_no_capability_outside),
        case!(sec_29_cve_2022_36109_groups_are_exactly_those_asked_for),
        case!(sec_34_cve_2017_5985_a_set_user_id_binary_refuses).ours("others run"),
    ]
}

fn sec_01_cve_2016_3697_exec_s_user_is_a_number() {
    let bundle = sleeper();
    let container = bundle.detach();
    let names = "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/:/bin/sh\n4294967296:x:0:0::/:/bin/sh\n1:x:0:0::/:/bin/sh\n";
    fs::write(bundle.rootfs().join("etc/passwd"), format!("{names}x:x:7:7::/:/bin/sh\n:x:0:0::/:/bin/sh\n"))
        .expect("write passwd");
    for (user, uid, gid) in [
        ("1", 1, 0),
        ("1:2", 1, 2),
        ("1000", 1000, 0),
        ("0", 0, 0),
        ("4294967294", 4_294_967_294u32, 0),
        ("0:4294967294", 0, 4_294_967_294),
    ] {
        let report = report(&container, &["--user", user]);
        let four = |id: u32| format!("{id} {id} {id} {id}");
        assert_eq!((&report["status"]["Uid"], &report["status"]["Gid"]), (&json!(four(uid)), &json!(four(gid))), "{user}");
    }
    for user in [
        "4294967295",
        "4294967296",
        "4294967297",
        "18446744073709551616",
        "18446744073709551617",
        "-1",
        "+1",
        " 1",
        "1 ",
        "0x10",
        "010",
        "00",
        ":",
        "1:",
        ":1",
        "root",
        "x",
        "65536:99999999999",
        "1:4294967295",
        "1:2:3",
        "1:root",
        "1:-1",
        "1:+2",
        "1: 2",
        "1,2",
        "1\n",
        "１",
        "1e3",
        "1_000",
    ] {
        let output = exec(&container, &["--user", user], &["id", "-u"]);
        assert!(output.status != 0 && output.stdout.is_empty() && !output.stderr.is_empty(), "{user:?}: {output:?}");
    }
}

/// 4294967295 is how setresuid(2) is told to leave an id alone.
fn sec_01_cve_2016_3697_no_id_means_unchanged() {
    let unchanged = 4_294_967_295u64;
    for (pointer, value) in [
        ("/process/user/uid", json!(unchanged)),
        ("/process/user/gid", json!(unchanged)),
        ("/process/user/additionalGids", json!([1, unchanged])),
        ("/process/user/uid", json!(unchanged + 1)),
        ("/process/user/uid", json!(unchanged + 2)),
        ("/process/user/gid", json!(-1)),
        ("/process/user/uid", json!(1.5)),
        ("/process/user/uid", json!("0")),
    ] {
        Bundle::new().set(pointer, value).args(["id", "-u"]).fails("/process/user");
    }
    let bundle = sleeper();
    let container = bundle.detach();
    for (field, value) in [("uid", json!(unchanged)), ("gid", json!(unchanged)), ("additionalGids", json!([unchanged]))] {
        let process = json!({"args": ["id"], "cwd": "/", "user": {"uid": 1, "gid": 1, field: value}});
        let output = exec(&container, &["--process", &crate::exec::process_file(&bundle, &process)], &[]);
        assert!(output.status == 255 && output.stdout.is_empty(), "{field}: {output:?}");
    }
}

fn mask(report: &Value, set: &str) -> u64 {
    u64::from_str_radix(report["status"][set].as_str().unwrap_or_default(), 16).expect("a mask")
}

const NET_RAW: u64 = 1 << 13;

fn sec_10_cve_2022_29162_exec_adds_nothing_inheritable() {
    let bundle = sleeper();
    let container = bundle.detach();
    let plain = report(&container, &[]);
    for user in ["0:0", "1000:1000"] {
        let report = report(&container, &["--cap", "CAP_NET_RAW", "--user", user]);
        assert_eq!((mask(&report, "CapInh"), mask(&report, "CapAmb")), (0, 0), "{user}: {}", report["status"]);
        assert_eq!(mask(&report, "CapBnd"), mask(&plain, "CapBnd") | NET_RAW, "{user}");
    }
    let kept = report(&container, &[]);
    assert_eq!(mask(&kept, "CapBnd"), mask(&plain, "CapBnd"), "what one was given is not the next one's");
}

fn sec_10_cve_2022_24769_the_default_has_nothing_inheritable() {
    let bundle = Bundle::new();
    let written = bundle.home.join("new");
    fs::create_dir_all(written.join("rootfs")).expect("make a directory");
    let mut spec = bundle.command(["spec"]);
    spec.current_dir(&written);
    assert_eq!(bundle.finish(spec).status, 0);
    let config: Value = serde_json::from_slice(&fs::read(written.join("config.json")).expect("read it")).expect("parse it");
    assert_eq!(config["process"]["capabilities"]["inheritable"].as_array().map_or(0, Vec::len), 0, "{config:#}");
    let report = Bundle::new().report(&[]);
    assert_eq!((mask(&report, "CapInh"), mask(&report, "CapAmb")), (0, 0));
}

/// With every capability bounding, none of them ambient: a program has none, nor by what its file inherits.
fn sec_10_cve_2016_8867_a_user_has_no_capabilities_but_ambient_ones() {
    let user = |bundle: Bundle| {
        let all = json!(["CAP_NET_RAW", "CAP_CHOWN", "CAP_SETUID", "CAP_KILL"]);
        let sets = json!({"bounding": all, "effective": all, "permitted": all});
        bundle
            .set("/process/capabilities", sets)
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .set("/process/noNewPrivileges", false)
    };
    let report = user(Bundle::new()).report(&[]);
    assert_eq!((mask(&report, "CapPrm"), mask(&report, "CapEff"), mask(&report, "CapInh")), (0, 0, 0), "{}", report["status"]);
    assert!(mask(&report, "CapBnd") & NET_RAW != 0);
    // VFS_CAP_REVISION_2 with the effective bit, nothing permitted, NET_RAW inheritable (capabilities(7), File capabilities).
    let numbers = [0x0200_0001u32, 0, 1 << 13, 0, 0];
    let value: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let bundle = user(Bundle::new());
    fs::create_dir(bundle.rootfs().join("caps")).expect("make a directory");
    let copy = bundle.rootfs().join("caps/grep");
    let status = Command::new("cp").arg(find_program("busybox").expect("find busybox")).arg(&copy).status().expect("run cp");
    assert!(status.success());
    let file = fs::File::open(&copy).expect("open the copy");
    onggi::sys::xattr::set(file.as_fd(), c"security.capability", &value).expect("give it capabilities");
    let printed = bundle.args(["/caps/grep", "-E", "^Cap(Prm|Eff)", "/proc/self/status"]).stdout();
    assert_eq!(printed, "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n");
}

/// All capabilities of a user namespace are worth nothing over what belongs to the host's.
fn sec_23_cve_2020_5291_no_capability_outside() {
    let all: Vec<String> =
        (0..=40u8).filter_map(|n| caps::all().into_iter().find(|cap| cap.index() == n)).map(|cap| cap.to_string()).collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1000}]);
    let script = "mknod /dev/made c 1 3; chroot /proc/1/cwd true; mount -o remount,rw /sys;
        /inside open w /proc/sys/kernel/panic /proc/sys/vm/swappiness /proc/sysrq-trigger /sys/fs/cgroup/cgroup.procs";
    let bundle = Bundle::new().namespace("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let output = bundle.capabilities(&names).sh(script).run();
    assert!(!output.stdout.contains(" ok") && output.stdout.lines().count() == 4, "{output:?}");
    assert!(output.stderr.contains("mknod") && output.stderr.contains("mount"), "{output:?}");
    let report = Bundle::new().namespace("user");
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    let bundle = report.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    for directory in [&bundle.home, &bundle.dir(), &bundle.rootfs()] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("change a mode");
    }
    let report = bundle.report(&["/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups"]);
    for file in ["uid_map", "gid_map"] {
        let map = report["files"][format!("/proc/self/{file}")].as_str().unwrap_or_default();
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "10"], "{file}");
    }
}

/// By a caller who has groups of its own.
fn with_groups(bundle: &Bundle, command: &Command) -> Output {
    let mut caller = Command::new("setpriv");
    caller.args(["--groups", "4,27"]).arg(command.get_program()).args(command.get_args()).current_dir(bundle.dir());
    bundle.finish(caller)
}

fn sec_29_cve_2022_36109_groups_are_exactly_those_asked_for() {
    for (uid, groups, wanted) in
        [(0, json!([]), ""), (0, json!([10, 20]), "10 20"), (1000, json!([]), ""), (1000, json!([7]), "7")]
    {
        let user = json!({"uid": uid, "gid": 5, "additionalGids": groups});
        let bundle = Bundle::new().set("/process/user", user.clone()).inside(&["report"]);
        bundle.write();
        let report = report_of(&with_groups(&bundle, &bundle.command(["run", &bundle.id])).stdout);
        assert_eq!((&report["status"]["Groups"], &report["status"]["Gid"]), (&json!(wanted), &json!("5 5 5 5")), "{user}");
        let bundle = sleeper().set("/process/user", user.clone());
        bundle.write();
        assert_eq!(with_groups(&bundle, &bundle.command(["run", "--detach", &bundle.id])).status, 0);
        let exec = bundle.command(["exec", &bundle.id, "/inside", "report"]);
        assert_eq!(report_of(&with_groups(&bundle, &exec).stdout)["status"]["Groups"], wanted, "exec: {user}");
        let process = json!({"args": ["/inside", "report"], "cwd": "/", "user": {"uid": uid, "gid": 6}});
        let exec = bundle.command(["exec", "--process", &crate::exec::process_file(&bundle, &process), &bundle.id]);
        assert_eq!(report_of(&with_groups(&bundle, &exec).stdout)["status"]["Groups"], "", "exec of a process: {user}");
    }
}

/// Whoever makes it so is told; the binary gives nobody rights.
fn sec_34_cve_2017_5985_a_set_user_id_binary_refuses() {
    let bundle = Bundle::new();
    bundle.write();
    let place = std::path::Path::new(crate::stage::WORK).join(format!("{}-suid", bundle.id));
    fs::create_dir(&place).expect("make a directory");
    // `/run` is mounted without set-user-ID.
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "suid"]).arg(&place).status().expect("run mount");
    assert!(mounted.success());
    let copy = place.join(name_of_runtime());
    let found = find_program(&runtime()).expect("find the runtime");
    assert!(Command::new("cp").arg(found).arg(&copy).status().expect("run cp").success());
    let outputs = [0o4755, 0o2755].map(|mode| {
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).expect("set its mode");
        let mut user = Command::new("setpriv");
        user.args(["--reuid=1000", "--regid=1000", "--clear-groups"]).arg(&copy).args(["--root", "/run/test/none", "list"]);
        bundle.finish(user)
    });
    assert!(Command::new("umount").arg("-l").arg(&place).status().expect("run umount").success());
    fs::remove_dir(&place).expect("remove the directory");
    for output in outputs {
        assert!(output.status == 1 && output.stderr.contains("set-user-ID") && output.stdout.is_empty(), "{output:?}");
    }
}
