//! SELinux: labels of processes, keys and mounts, in a machine that is booted with it. The policy is made here, the smallest
//! that has containers in it: who runs as `container_t` may write what is not `secret_t`.

use crate::bundle::{Bundle, Container, Output};
use crate::case;
use crate::case::Case;
use nix::libc;
use serde_json::{Value, json};
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

const PROCESS: &str = "u:r:container_t:s0:c1,c2";
const FILE: &str = "u:object_r:container_file_t:s0:c1,c2";

pub fn cases() -> Vec<Case> {
    let all = vec![
        case!(the_program_has_its_label),
        case!(the_label_holds),
        case!(the_keyring_has_the_label),
        case!(mounts_have_theirs).except("runc", "adds the label to a mount whose options have one, which the kernel refuses"),
        case!(the_mqueue_of_the_host_keeps_its_label).except("runc", "labels that of the host"),
        case!(the_mount_option_is_as_annotated).except("runc", "an annotation of crun's"),
        case!(an_executed_process_has_its_label),
        case!(nothing_at_proc_leads_it_astray).except("runc", "refuses a label where the container has no procfs"),
        case!(a_label_that_the_policy_lacks_is_refused).ours("ours in words"),
    ];
    // Another boot than that of the other tests: it is this or AppArmor.
    let is_on = fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains("selinuxfs"));
    all.into_iter().map(|case| if is_on { case.vm("SELinux") } else { case.without("a kernel booted with SELinux") }).collect()
}

/// Initial contexts in the kernel's order (security/selinux/include/initial_sid_to_string.h).
const SIDS: [&str; 27] = [
    "kernel",
    "security",
    "unlabeled",
    "fs",
    "file",
    "file_labels",
    "init",
    "any_socket",
    "port",
    "netif",
    "netmsg",
    "node",
    "igmp_packet",
    "icmp_socket",
    "tcp_socket",
    "sysctl_modprobe",
    "sysctl",
    "sysctl_fs",
    "sysctl_kernel",
    "sysctl_net",
    "sysctl_net_unix",
    "sysctl_vm",
    "sysctl_dev",
    "kmod",
    "policy",
    "scmp_packet",
    "devnull",
];

/// In CIL. Classes and permissions that are not in it are allowed; only the label of a thing whose class is not in it cannot
/// be changed (EINVAL).
fn policy() -> String {
    let mut text = String::from(
        "(handleunknown allow) (mls true) (policycap nnp_nosuid_transition)
        (class process (transition dyntransition)) (class file (write entrypoint)) (class dir ())
        (classorder (process file dir))
        (sensitivity s0) (sensitivityorder (s0)) (category c0) (category c1) (category c2) (categoryorder (c0 c1 c2))
        (sensitivitycategory s0 (c0 c1 c2)) (level low (s0)) (level high (s0 (c0 c1 c2)))
        (user u) (role r) (role object_r) (userrole u r) (userrole u object_r) (userlevel u low) (userrange u (low high))
        (typeattribute any) (typeattribute open)
        (typeattributeset open (and any (not secret_t)))
        (allow any any (process (transition dyntransition)))
        (allow any any (file (entrypoint)))
        (allow any open (file (write)))
        (allow kernel_t secret_t (file (write)))\n",
    );
    for name in ["kernel_t", "unlabeled_t", "fs_t", "container_t", "other_t", "container_file_t", "secret_t"] {
        let _ = writeln!(text, "(type {name}) (roletype r {name}) (roletype object_r {name}) (typeattributeset any ({name}))");
    }
    for sid in SIDS {
        let role = if matches!(sid, "kernel" | "init") { "r kernel_t" } else { "object_r unlabeled_t" };
        let _ = writeln!(text, "(sid {sid}) (sidcontext {sid} (u {role} (low high)))");
    }
    let _ = writeln!(text, "(sidorder ({}))", SIDS.join(" "));
    for (kind, list) in [("trans", "tmpfs devpts mqueue shm"), ("task", "pipefs sockfs"), ("xattr", "ext4 overlay")] {
        for fs in list.split(' ') {
            let _ = writeln!(text, "(fsuse {kind} {fs} (u object_r fs_t (low low)))");
        }
    }
    for fs in ["proc", "sysfs", "cgroup2", "selinuxfs", "rootfs", "securityfs"] {
        let _ = writeln!(text, "(genfscon {fs} \"/\" (u object_r fs_t (low low)))");
    }
    text
}

fn load() {
    static LOADED: OnceLock<()> = OnceLock::new();
    LOADED.get_or_init(|| {
        let selinuxfs = Path::new("/sys/fs/selinux");
        if !selinuxfs.join("load").exists() {
            let done = Command::new("mount").args(["-t", "selinuxfs", "selinuxfs"]).arg(selinuxfs).status();
            assert!(done.expect("run mount").success());
        }
        let work = Path::new(crate::stage::WORK);
        fs::write(work.join("policy.cil"), policy()).expect("write the policy");
        let version = fs::read_to_string(selinuxfs.join("policyvers")).expect("read the policy version");
        let version = version.trim().parse::<u32>().expect("a number").min(33).to_string();
        let mut command = Command::new("secilc");
        command.args(["-c", &version, "-M", "true", "-o", "policy.bin", "-f", "contexts", "policy.cil"]).current_dir(work);
        let done = command.output().expect("run secilc");
        assert!(done.status.success(), "{done:?}");
        let binary = fs::read(work.join("policy.bin")).expect("read the policy");
        fs::write(selinuxfs.join("load"), binary).expect("load the policy");
        fs::write(selinuxfs.join("enforce"), "1").expect("enforce the policy");
    });
}

fn labelled() -> Bundle {
    load();
    Bundle::new().set("/process/selinuxLabel", PROCESS)
}

fn label(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/attr/current")).expect("read a label");
    text.trim_end_matches(['\0', '\n']).to_owned()
}

#[allow(unsafe_code)]
fn set_label(path: &Path, label: &str) {
    let path = CString::new(path.to_str().expect("a path")).expect("a path");
    let name = c"security.selinux".as_ptr();
    // SAFETY: two NUL-terminated strings; pointer and length of one string.
    let done = unsafe { libc::setxattr(path.as_ptr(), name, label.as_ptr().cast(), label.len(), 0) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[allow(unsafe_code)]
fn label_of(path: &str) -> String {
    let path = CString::new(path).expect("a path");
    let mut text = vec![0u8; 256];
    // SAFETY: two NUL-terminated strings; pointer and length of one buffer.
    let n = unsafe { libc::getxattr(path.as_ptr(), c"security.selinux".as_ptr(), text.as_mut_ptr().cast(), text.len()) };
    text.truncate(usize::try_from(n).expect("a label"));
    String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned()
}

fn exec(container: &Container<'_>, flags: &[&str], args: &[&str]) -> Output {
    let words = ["exec"].into_iter().chain(flags.iter().copied()).chain([container.bundle.id.as_str()]);
    container.bundle.call(words.chain(args.iter().copied()))
}

fn the_program_has_its_label() {
    for no_new_privileges in [true, false] {
        let bundle = labelled().set("/process/noNewPrivileges", no_new_privileges).args(["sleep", "100"]);
        let bundle = bundle.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"}));
        let container = bundle.create();
        assert!(label(container.pid).contains(":kernel_t:"), "{}", label(container.pid));
        container.start();
        // runc's start does not wait for the program.
        let until = Instant::now() + Duration::from_secs(10);
        while label(container.pid).contains(":kernel_t:") && Instant::now() < until {
            sleep(Duration::from_millis(10));
        }
        assert_eq!(label(container.pid), PROCESS);
    }
    // In other words than the kernel's.
    let bundle = Bundle::new().set("/process/selinuxLabel", "u:r:container_t:s0:c2,c1,c0").args(["sleep", "100"]);
    assert_eq!(label(bundle.detach().pid), "u:r:container_t:s0:c0.c2");
}

fn the_label_holds() {
    let bundle = labelled().file("/secret", 0o666, "before\n").file("/open", 0o666, "");
    set_label(&bundle.rootfs().join("secret"), "u:object_r:secret_t:s0");
    let script = "echo after >>/open && echo wrote; echo after >/secret || echo denied";
    assert_eq!(bundle.sh(script).run().stdout, "wrote\ndenied\n");
    let bundle = Bundle::new().file("/secret", 0o666, "");
    set_label(&bundle.rootfs().join("secret"), "u:object_r:secret_t:s0");
    assert_eq!(bundle.sh("echo after >/secret && echo wrote").stdout(), "wrote\n");
}

fn the_keyring_has_the_label() {
    let report = labelled().report(&[]);
    assert_eq!(report["key_label"], PROCESS);
    assert!(labelled().remove("/process/selinuxLabel").report(&[])["key_label"].as_str().is_some_and(|l| l.contains("kernel_t")));
}

fn mounts_have_theirs() {
    let bundle =
        labelled().set("/linux/mountLabel", FILE).mount("/own", "tmpfs", "tmpfs", &["context=\"u:object_r:secret_t:s0:c0,c1\""]);
    let bundle = bundle.set("/linux/maskedPaths", json!(["/proc/acpi", "/sys/firmware"])).args(["sleep", "100"]);
    let container = bundle.detach();
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", container.pid)).expect("read mountinfo");
    let context = |target: &str| {
        let line = mounts.lines().rev().find(|line| line.split(' ').nth(4) == Some(target));
        let line = line.unwrap_or_else(|| panic!("{target} not in {mounts}"));
        line.split("context=")
            .nth(1)
            .map(|rest| rest.trim_start_matches('"').split(['"', ' ']).next().unwrap_or_default().to_owned())
    };
    for target in ["/dev", "/dev/pts", "/dev/shm", "/sys/firmware"] {
        assert_eq!(context(target).as_deref(), Some(FILE), "{target}");
    }
    assert_eq!(context("/own").as_deref(), Some("u:object_r:secret_t:s0:c0,c1"));
    for target in ["/proc", "/sys"] {
        assert_eq!(context(target), None, "{target}");
    }
    assert_eq!(label_of(&format!("/proc/{}/root/dev/mqueue", container.pid)), FILE);
    assert_eq!(label_of(&format!("/proc/{}/root/dev/null", container.pid)), FILE);
}

fn the_mqueue_of_the_host_keeps_its_label() {
    let mut bundle = labelled().set("/linux/mountLabel", FILE).args(["sleep", "100"]);
    let namespaces = bundle.config["linux"]["namespaces"].as_array().expect("namespaces");
    let namespaces: Vec<Value> = namespaces.iter().filter(|namespace| namespace["type"] != "ipc").cloned().collect();
    bundle = bundle.set("/linux/namespaces", namespaces);
    let before = label_of("/dev/mqueue");
    let container = bundle.detach();
    assert_eq!(label_of("/dev/mqueue"), before);
    assert_eq!(label_of(&format!("/proc/{}/root/dev/mqueue", container.pid)), before);
}

fn the_mount_option_is_as_annotated() {
    let bundle = labelled().set("/linux/mountLabel", FILE).set("/annotations/run.oci.mount_context_type", "rootcontext");
    let mounts =
        bundle.set("/linux/maskedPaths", json!([])).sh("grep ' /dev tmpfs\\| /dev .* tmpfs' /proc/self/mountinfo").stdout();
    assert!(mounts.contains(",rootcontext=") && !mounts.contains(",context="), "{mounts}");
}

fn an_executed_process_has_its_label() {
    let bundle = labelled().args(["sleep", "100"]);
    let container = bundle.detach();
    let current = ["cat", "/proc/self/attr/current"];
    let said = |flags: &[&str]| exec(&container, flags, &current).stdout.trim_end_matches(['\0', '\n']).to_owned();
    assert_eq!(said(&[]), PROCESS);
    assert_eq!(said(&["--process-label", "u:r:other_t:s0:c2"]), "u:r:other_t:s0:c2");
    for (own, label) in [(json!({}), PROCESS), (json!({"selinuxLabel": "u:r:other_t:s0"}), "u:r:other_t:s0")] {
        let mut process = json!({"args": current, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
        process.as_object_mut().expect("an object").extend(own.as_object().expect("an object").clone());
        let file = bundle.home.join("process.json");
        fs::write(&file, process.to_string()).expect("write a process");
        let output = exec(&container, &["--process", &file.display().to_string()], &[]);
        assert_eq!(output.stdout.trim_end_matches(['\0', '\n']), label, "{output:?}");
    }
    let output = exec(&container, &["--process-label", "u:r:no_such_t:s0"], &["true"]);
    assert!(output.status != 0, "{output:?}");
}

fn nothing_at_proc_leads_it_astray() {
    let mut bundle = labelled().args(["sleep", "100"]);
    let mounts: Vec<Value> = bundle.config["mounts"].as_array().expect("mounts").clone();
    let mounts: Vec<Value> = mounts.into_iter().filter(|mount| mount["destination"] != "/proc").collect();
    bundle = bundle.set("/mounts", mounts).set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    for place in ["self", "thread-self"] {
        bundle =
            bundle.file(&format!("/proc/{place}/attr/exec"), 0o666, "").file(&format!("/proc/{place}/attr/keycreate"), 0o666, "");
    }
    let container = bundle.detach();
    assert_eq!(label(container.pid), PROCESS);
    assert_eq!(exec(&container, &[], &["true"]).status, 0);
    assert_eq!(fs::read_to_string(bundle.rootfs().join("proc/self/attr/exec")).expect("read a file"), "");
}

fn a_label_that_the_policy_lacks_is_refused() {
    let bundle = labelled().set("/process/selinuxLabel", "u:r:no_such_t:s0");
    let output = bundle.fails("/process/selinuxLabel: write SELinux label u:r:no_such_t:s0 to `/proc/self/attr/keycreate`");
    assert!(output.error().contains("the policy that is loaded has no such label"), "{output:?}");
    labelled().set("/linux/mountLabel", "u:object_r:no_such_t:s0").fails("/mounts/");
}
