//! That each rule can fail: made traces, each with one breach, beside its lawful neighbour.

use super::rules::{Run, check};

const RUN: Run<'static> = Run { rootfs: "/b/rootfs", runtime: "/usr/bin/onggi", programs: &["/usr/bin/hook"] };
/// A child that holds the root file system as 9.
const CHILD: &str = "\
1 execve(\"/usr/bin/onggi\", [\"onggi\"], 0x7ff) = 0
1 clone3({flags=CLONE_PIDFD|CLONE_NEWNS|CLONE_NEWPID, pidfd=0x7ff} => {pidfd=[4]}, 88) = 2
2 prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE) = 0
2 openat(AT_FDCWD, \"/b/rootfs\", O_RDONLY|O_CLOEXEC|O_PATH|O_DIRECTORY) = 8
2 open_tree(8, \"\", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH|AT_RECURSIVE) = 9
";
/// The same after the pivot.
const INSIDE: &str = "\
2 pivot_root(\".\", \".\") = 0
2 umount2(\".\", MNT_DETACH) = 0
2 close_range(3, 4294967295, CLOSE_RANGE_CLOEXEC) = 0
";

/// Breaches found in what follows, whose rules must be exactly these.
#[track_caller]
fn finds(before: &[&str], lines: &str, rules: &[&str]) {
    let text = before.concat() + lines;
    let found = check(&text, &RUN).found;
    let named: Vec<&str> = found.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(named, rules, "{found:#?} in\n{text}");
}

#[track_caller]
fn inside(lines: &str, rules: &[&str]) {
    finds(&[CHILD, INSIDE], lines, rules);
}

#[track_caller]
fn child(lines: &str, rules: &[&str]) {
    finds(&[CHILD], lines, rules);
}

pub fn t1_a_mount_by_path_is_found() {
    child("2 mount(\"proc\", \"/x\", \"proc\", 0, NULL) = 0\n", &["T1"]);
    child("2 umount2(\"/old\", MNT_DETACH) = 0\n", &["T1"]);
    child("2 umount2(\".\", MNT_DETACH) = 0\n", &[]);
}

pub fn t2_a_path_of_the_root_file_system_is_found() {
    child("2 newfstatat(AT_FDCWD, \"/b/rootfs/etc\", 0x7ff, 0) = 0\n", &["T2"]);
    child("2 newfstatat(AT_FDCWD, \"/b/rootfs2\", 0x7ff, 0) = 0\n", &[]);
    child("2 mkdirat(9, \"a/b\", 0755) = 0\n", &["T2"]);
    child("2 mkdirat(9, \"a\", 0755) = 0\n", &[]);
    child("2 symlinkat(\"/proc/self/fd\", 9, \"a/fd\") = 0\n", &["T2"]);
}

pub fn t3_a_lookup_that_is_not_bounded_is_found() {
    let open = |resolve: &str| format!("2 openat2(9, \"/etc\", {{flags=O_PATH|O_CLOEXEC, resolve={resolve}}}, 24) = 10\n");
    child(&open("RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT"), &[]);
    child(&open("RESOLVE_NO_MAGICLINKS|RESOLVE_BENEATH"), &[]);
    child(&open("RESOLVE_NO_MAGICLINKS"), &["T3"]);
    child(&open("RESOLVE_IN_ROOT"), &["T3"]);
    child("2 openat(9, \"etc\", O_RDONLY|O_CLOEXEC) = 10\n", &["T3"]);
    inside("2 openat(AT_FDCWD, \"/etc/passwd\", O_RDONLY|O_CLOEXEC) = 10\n", &["T3"]);
    inside("2 openat(AT_FDCWD, \"/\", O_RDONLY|O_CLOEXEC|O_PATH|O_DIRECTORY) = 10\n", &[]);
}

pub fn t4_a_descriptor_that_stays_open_is_found() {
    child("2 openat(AT_FDCWD, \"/x\", O_RDONLY) = 10\n", &["T4"]);
    child("2 fsopen(\"proc\", 0) = 10\n", &["T4"]);
    child("2 socket(AF_UNIX, SOCK_STREAM, 0) = 10\n", &["T4"]);
    child("2 dup3(9, 10, 0) = 10\n", &["T4"]);
    child("2 dup3(9, 0, 0) = 0\n", &[]);
    child("2 fcntl(9, F_DUPFD, 3) = 10\n", &["T4"]);
    // Also while another process is in between, and where the call is printed in two halves.
    child("2 socket(AF_UNIX, SOCK_STREAM <unfinished ...>\n1 close(4) = 0\n2 <... socket resumed>, 0) = 10\n", &["T4"]);
}

pub fn t5_a_write_to_a_procfs_that_is_not_ours_is_found() {
    let host = "2 openat(AT_FDCWD, \"/proc/sys/kernel/msgmax\", O_WRONLY|O_CLOEXEC) = 10\n2 write(10, \"1\", 1) = 1\n";
    child(host, &["T5"]);
    let own = "2 fsopen(\"proc\", FSOPEN_CLOEXEC) = 10\n2 fsmount(10, FSMOUNT_CLOEXEC, 0) = 11\n\
        2 openat2(11, \"sys/kernel/msgmax\", {flags=O_WRONLY|O_CLOEXEC, resolve=RESOLVE_NO_XDEV}, 24) = 12\n2 write(12, \"1\", 1) = 1\n";
    child(own, &[]);
    let attached = "2 openat2(9, \"/proc/self/attr/exec\", {flags=O_RDONLY|O_CLOEXEC, resolve=RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT}, \
        24) = 10\n2 write(10, \"label\", 5) = 5\n";
    child(attached, &["T5"]);
    finds(&[CHILD], "1 openat(AT_FDCWD, \"/proc/2/uid_map\", O_WRONLY|O_CLOEXEC) = 10\n1 write(10, \"0 0 1\", 5) = 5\n", &[]);
    finds(&[CHILD], "1 openat(AT_FDCWD, \"/proc/2/attr/exec\", O_WRONLY|O_CLOEXEC) = 10\n1 write(10, \"a\", 1) = 1\n", &["T5"]);
}

pub fn t6_what_comes_too_late_is_found() {
    let filter = "2 prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) = 0\n2 seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=9, filter=0x1}) = 0\n";
    let execute = "2 execve(\"/bin/true\", [\"true\"], 0x7ff) = 0\n";
    inside(&format!("{filter}{execute}"), &[]);
    inside(&format!("{filter}2 capset({{version=1, pid=0}}, {{effective=0}}) = 0\n{execute}"), &["T6"]);
    let without = "2 seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=9, filter=0x1}) = 0\n2 setresuid(1, 1, 1) = 0\n";
    inside(&format!("{without}{execute}"), &[]);
    inside(&format!("{without}2 setns(9, CLONE_NEWNET) = 0\n{execute}"), &["T6"]);
    inside(&format!("2 openat(AT_FDCWD, \"/\", O_RDONLY|O_CLOEXEC|O_PATH) = 10\n{execute}"), &["T6"]);
    finds(&[CHILD], &format!("2 pivot_root(\".\", \".\") = 0\n{execute}"), &["T6"]);
}

pub fn t7_who_can_be_traced_is_found() {
    let begin = "1 execve(\"/usr/bin/onggi\", [\"onggi\"], 0x7ff) = 0\n1 setns(6, CLONE_NEWPID) = 0\n";
    let clone = "1 clone3({flags=CLONE_PIDFD} => {pidfd=[4]}, 88) = 2\n";
    finds(&[begin], clone, &["T7"]);
    finds(&[begin, "1 prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE) = 0\n"], clone, &[]);
    let back = "1 openat(AT_FDCWD, \"/proc/self/ns/pid\", O_RDONLY|O_CLOEXEC) = 5\n1 setns(5, CLONE_NEWPID) = 0\n";
    finds(&[begin, back], clone, &[]);
    let alone = "1 clone3({flags=CLONE_PIDFD|CLONE_NEWPID} => {pidfd=[4]}, 88) = 2\n2 setns(4, CLONE_NEWNS) = 0\n";
    finds(&[], alone, &["T7"]);
}

pub fn t8_a_signal_by_number_is_found() {
    child("1 kill(2, SIGKILL) = 0\n", &["T8"]);
    child("2 tgkill(1, 1, SIGABRT) = 0\n", &["T8"]);
    child("1 kill(-2, SIGKILL) = 0\n", &[]);
    child("1 kill(-3, SIGKILL) = 0\n", &["T8"]);
    child("1 pidfd_send_signal(4, SIGKILL, NULL, 0) = 0\n", &[]);
}

pub fn t9_a_terminal_by_name_and_a_write_below_the_root_are_found() {
    child("2 openat(AT_FDCWD, \"/dev/pts/3\", O_RDWR|O_NOCTTY|O_CLOEXEC) = 10\n", &["T9"]);
    child("2 openat(AT_FDCWD, \"/dev/ptmx\", O_RDWR|O_CLOEXEC) = 10\n", &["T9"]);
    let open = |flags: &str, path: &str| {
        format!("2 openat2(9, \"{path}\", {{flags={flags}|O_CLOEXEC, resolve=RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT}}, 24) = 10\n")
    };
    child(&open("O_WRONLY", "/etc/mtab"), &["T9"]);
    child(&open("O_RDWR|O_NOFOLLOW", "/dev/null"), &[]);
    child(&open("O_RDWR", "/dev/null"), &["T9"]);
    child("2 openat(9, \"target\", O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0644) = 10\n", &[]);
    child("2 openat(9, \"target\", O_WRONLY|O_CREAT|O_NOFOLLOW|O_CLOEXEC, 0644) = 10\n", &["T9"]);
    child("2 unlinkat(9, \"etc\", 0) = 0\n", &["T9"]);
    let pts = "2 openat2(9, \"/dev/pts\", {flags=O_PATH|O_CLOEXEC, resolve=RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT}, 24) = 10\n";
    let check = "2 fstatfs(10, {f_type=DEVPTS_SUPER_MAGIC, f_bsize=4096}) = 0\n";
    let open = "2 openat(10, \"ptmx\", O_RDWR|O_NOCTTY|O_NOFOLLOW|O_CLOEXEC) = 11\n";
    child(&format!("{pts}{check}{open}"), &[]);
    child(&format!("{pts}{open}"), &["T9"]);
}

pub fn t10_another_program_is_found() {
    finds(&[], "1 execve(\"/usr/bin/hook\", [\"hook\"], 0x7ff) = 0\n", &[]);
    finds(&[], "1 execve(\"/usr/bin/newuidmap\", [\"newuidmap\"], 0x7ff) = 0\n", &[]);
    finds(&[], "1 execve(\"newuidmap\", [\"newuidmap\"], 0x7ff) = 0\n", &["T10"]);
    finds(&[], "1 execve(\"/b/rootfs/bin/sh\", [\"sh\"], 0x7ff) = 0\n", &["T10"]);
    // What another program does is its own affair.
    finds(&[], "1 execve(\"/usr/bin/hook\", [\"hook\"], 0x7ff) = 0\n1 kill(2, SIGKILL) = 0\n", &[]);
}
