//! System calls that a kernel, or a filter around the runtime, does not have: each is refused in turn, from the first
//! instruction of the command on (F-19).
//!
//! What is newer than Linux 5.14 is never missed. What is not there and needed ends the command with a line that names it,
//! and nothing is left; what is documented to have a replacement is replaced.

use crate::bundle::{Bundle, Output};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use crate::rootless::{for_nested, nested, of_user};
use nix::libc::{self, c_long};
use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

const NUMBERS: &str = "numbers are of x86_64, and what is missed is ours to say";

pub fn cases() -> Vec<Case> {
    if cfg!(not(target_arch = "x86_64")) {
        return Vec::new();
    }
    vec![
        case!(no_call_newer_than_the_floor_is_missed).ours(NUMBERS),
        case!(all_newer_calls_together_are_not_missed_in_a_whole_life).ours(NUMBERS),
        case!(flags_newer_than_the_floor_are_not_missed).ours(NUMBERS),
        case!(a_needed_call_that_is_missing_is_named_and_nothing_is_left).ours(NUMBERS),
        case!(a_needed_call_that_is_forbidden_is_named_in_the_log_and_nothing_is_left).ours(NUMBERS),
        case!(calls_of_later_commands_are_named).ours(NUMBERS),
        case!(what_was_not_set_is_noticed_whatever_the_call_says).ours(NUMBERS),
        case!(what_has_a_replacement_is_replaced).ours(NUMBERS),
        case!(a_network_namespace_that_no_thread_can_make_is_made_by_the_clone).ours(NUMBERS),
        case!(a_kind_of_namespace_that_the_host_forbids_is_named).ours(WORDS),
        case!(a_host_without_proc_is_told).ours(WORDS),
        case!(a_state_directory_that_executes_nothing_is_enough).ours(WORDS),
        case!(a_host_without_devpts_is_good_enough).ours(WORDS),
    ]
}

const WORDS: &str = "others say less";

/// What is refused.
#[derive(Debug, Clone, Copy)]
enum Mask {
    /// A call.
    Call(c_long),
    /// All calls from this number on.
    From(c_long),
    /// A call whose argument of this index has one of the bits.
    Bits(c_long, u32, u32),
    /// A call whose argument of this index is this.
    Equal(c_long, u32, u32),
}

/// `ld [at]`, `ret` and jumps of classic BPF.
fn insn(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const HAS: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const PR_CAPBSET_DROP: u32 = 24;
const PR_SET_NO_NEW_PRIVS: u32 = 38;
/// First number of x32, which nobody here uses.
const X32: u32 = 0x4000_0000;

fn program(mask: Mask, errno: i32) -> Vec<libc::sock_filter> {
    let number = |n: c_long| u32::try_from(n).expect("a number of a call");
    let refuse = insn(RETURN, 0, 0, 0x5_0000 | errno.unsigned_abs());
    let allow = insn(RETURN, 0, 0, ALLOW);
    let argument = |index: u32| insn(LOAD, 0, 0, 16 + 8 * index);
    match mask {
        Mask::Call(n) => vec![insn(LOAD, 0, 0, 0), insn(EQUAL, 0, 1, number(n)), refuse, allow],
        Mask::From(n) => {
            vec![insn(LOAD, 0, 0, 0), insn(AT_LEAST, 2, 0, X32), insn(AT_LEAST, 0, 1, number(n)), refuse, allow]
        }
        Mask::Bits(n, index, bits) => {
            vec![insn(LOAD, 0, 0, 0), insn(EQUAL, 0, 3, number(n)), argument(index), insn(HAS, 0, 1, bits), refuse, allow]
        }
        Mask::Equal(n, index, value) => {
            vec![insn(LOAD, 0, 0, 0), insn(EQUAL, 0, 3, number(n)), argument(index), insn(EQUAL, 0, 1, value), refuse, allow]
        }
    }
}

/// Puts the command, and all that it starts, under filters. Without no_new_privs, which would be seen: the tests are root.
fn under(command: &mut Command, masks: &[(Mask, i32)]) {
    let programs: Vec<_> = masks.iter().map(|(mask, errno)| program(*mask, *errno)).collect();
    let install = move || {
        for program in &programs {
            let length = u16::try_from(program.len()).unwrap_or(u16::MAX);
            let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
            // SAFETY: the program outlives the call, which copies it.
            if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only prctl(2) is called, on memory that was there before.
    unsafe { command.pre_exec(install) };
}

fn masked(bundle: &Bundle, masks: &[(Mask, i32)], args: &[&str]) -> Output {
    let mut command = bundle.command(args);
    under(&mut command, masks);
    bundle.finish(command)
}

/// A container that tells what it has.
fn teller() -> Bundle {
    Bundle::new().sh(
        "grep -E '^(Cap|NoNew|Uid|Gid|Groups)' /proc/self/status; hostname; wc -l </proc/self/mountinfo; ls /dev /proc/self/fd",
    )
}

/// `run` under the masks does what it does without.
fn makes_no_difference(masks: &[(Mask, i32)]) {
    let bundle = teller();
    let before = Snapshot::of(&bundle);
    let good = bundle.stdout();
    let output = masked(&bundle, masks, &["run", &bundle.id]);
    assert!(output.status == 0 && output.stderr.is_empty(), "{masks:?}: {output:?}");
    assert_eq!(output.stdout, good, "{masks:?}");
    before.assert_unchanged();
}

const BOTH: [i32; 2] = [libc::ENOSYS, libc::EPERM];

/// First number after those of Linux 5.14 (447 is memfd_secret).
const AFTER_FLOOR: c_long = 448;

/// Calls that came after it, up to Linux 6.18. Numbers are the same on all architectures.
const NEWER: [(&str, c_long); 24] = [
    ("process_mrelease", 448),
    ("futex_waitv", 449),
    ("set_mempolicy_home_node", 450),
    ("cachestat", 451),
    ("fchmodat2", 452),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("statmount", 457),
    ("listmount", 458),
    ("lsm_get_self_attr", 459),
    ("lsm_set_self_attr", 460),
    ("lsm_list_modules", 461),
    ("mseal", 462),
    ("setxattrat", 463),
    ("getxattrat", 464),
    ("listxattrat", 465),
    ("removexattrat", 466),
    ("open_tree_attr", 467),
    ("file_getattr", 468),
    ("file_setattr", 469),
    ("listns", 470),
    ("rseq_slice_yield", 471),
];

fn no_call_newer_than_the_floor_is_missed() {
    assert!(NEWER.iter().zip(AFTER_FLOOR..).all(|((_, number), n)| *number == n));
    for (_, number) in NEWER {
        for errno in BOTH {
            makes_no_difference(&[(Mask::Call(number), errno)]);
        }
    }
}

fn all_newer_calls_together_are_not_missed_in_a_whole_life() {
    for errno in BOTH {
        let masks = &[(Mask::From(AFTER_FLOOR), errno)];
        makes_no_difference(masks);
        let bundle = Bundle::new().args(["sleep", "1000"]);
        let before = Snapshot::of(&bundle);
        bundle.write();
        let id = bundle.id.as_str();
        let lines: [&[&str]; 12] = [
            &["create", id],
            &["start", id],
            &["state", id],
            &["exec", id, "true"],
            &["exec", "--detach", id, "sleep", "1000"],
            &["ps", id],
            &["pause", id],
            &["resume", id],
            &["list"],
            &["events", "--stats", id],
            &["kill", id, "KILL"],
            &["delete", "--force", id],
        ];
        for line in lines {
            let output = masked(&bundle, masks, line);
            assert!(output.status == 0 && output.stderr.is_empty(), "{errno} {line:?}: {output:?}");
        }
        before.assert_unchanged();
    }
}

/// As a kernel of 5.14 answers: it does not know the flag.
fn flags_newer_than_the_floor_are_not_missed() {
    const MFD_EXEC: u32 = 0x10;
    const F_SEAL_EXEC: u32 = 0x20;
    let all = [
        (Mask::Bits(libc::SYS_memfd_create, 1, MFD_EXEC), libc::EINVAL),
        // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
        (Mask::Bits(libc::SYS_seccomp, 1, 1 << 5), libc::EINVAL),
    ];
    makes_no_difference(&all[..1]);
    makes_no_difference(&all[1..]);
    // PR_SET_MM gone, so that the memory file is needed, with and without its newer flag and seal.
    let no_map = (Mask::Equal(libc::SYS_prctl, 0, 35), libc::EPERM);
    makes_no_difference(&[no_map, all[0]]);
    // Of what fcntl is asked for meanwhile only the seals have this bit.
    makes_no_difference(&[no_map, (Mask::Bits(libc::SYS_fcntl, 2, F_SEAL_EXEC), libc::EINVAL)]);
}

/// Calls that `run` of a plain container cannot do without, and what they are called in errors. Left out is what no program
/// can do without (read, write, openat, mmap ...), and what takes away: unlinkat, readlinkat.
const NEEDED: [(&str, c_long); 38] = [
    ("bpf", libc::SYS_bpf),
    ("capset", libc::SYS_capset),
    ("chdir", libc::SYS_chdir),
    ("clone3", libc::SYS_clone3),
    ("close_range", libc::SYS_close_range),
    ("faccessat2", libc::SYS_faccessat2),
    ("fchdir", libc::SYS_fchdir),
    ("flock", libc::SYS_flock),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsmount", libc::SYS_fsmount),
    ("fsopen", libc::SYS_fsopen),
    ("fstatfs", libc::SYS_fstatfs),
    ("ioctl", libc::SYS_ioctl),
    ("mkdirat", libc::SYS_mkdirat),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("move_mount", libc::SYS_move_mount),
    ("open_tree", libc::SYS_open_tree),
    ("openat2", libc::SYS_openat2),
    ("pivot_root", libc::SYS_pivot_root),
    ("prctl", libc::SYS_prctl),
    ("prlimit64", libc::SYS_prlimit64),
    ("recvfrom", libc::SYS_recvfrom),
    ("renameat", libc::SYS_renameat),
    ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    ("sendto", libc::SYS_sendto),
    ("setgroups", libc::SYS_setgroups),
    ("sethostname", libc::SYS_sethostname),
    ("setresgid", libc::SYS_setresgid),
    ("setresuid", libc::SYS_setresuid),
    ("setsid", libc::SYS_setsid),
    ("signalfd4", libc::SYS_signalfd4),
    ("socket", libc::SYS_socket),
    ("socketpair", libc::SYS_socketpair),
    ("statfs", libc::SYS_statfs),
    ("symlinkat", libc::SYS_symlinkat),
    ("umount2", libc::SYS_umount2),
    ("waitid", libc::SYS_waitid),
    ("mknodat", libc::SYS_mknodat),
];

/// `run` under the mask fails with one line, which is given back with what the log says, and leaves nothing.
fn refused(mask: (Mask, i32), what: &str) -> (String, Value) {
    let bundle = Bundle::new();
    let log = bundle.home.join("log");
    let bundle = bundle.flag("--log").flag(&log.display().to_string()).flag("--log-format").flag("json");
    let before = Snapshot::of(&bundle);
    bundle.write();
    let output = masked(&bundle, &[mask], &["run", &bundle.id]);
    assert!(output.status != 0 && output.stdout.is_empty(), "{what}: {output:?}");
    let logged = fs::read_to_string(log).expect("read the log");
    let errors: Vec<Value> = logged
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"))
        .filter(|line| line["level"] == "error")
        .collect();
    let [error] = errors.as_slice() else { panic!("{what}: one error: {logged}") };
    let said = output.error();
    assert_eq!(said.lines().count(), 1, "{what}: one line: {output:?}");
    let delta = before.delta();
    assert!(delta.is_empty(), "{what}: {said}: left on the host:\n{}", delta.join("\n"));
    (said, error.clone())
}

/// Calls that set something for the program answer that they have, and have not.
fn what_was_not_set_is_noticed_whatever_the_call_says() {
    let bundle = Bundle::new().args(["sleep", "1000"]);
    let container = bundle.detach();
    let other = Bundle::new();
    other.write();
    let (id, new) = (bundle.id.as_str(), other.id.as_str());
    for (mask, field, line) in [
        (Mask::Call(libc::SYS_capset), "/process/capabilities/permitted", "CapPrm: 0x"),
        (Mask::Equal(libc::SYS_prctl, 0, PR_CAPBSET_DROP), "/process/capabilities/bounding", "CapBnd: 0x"),
        (Mask::Equal(libc::SYS_prctl, 0, PR_SET_NO_NEW_PRIVS), "/process/noNewPrivileges", "NoNewPrivs: 0x0, not 0x1"),
    ] {
        // The child that exec does not wait for, those that it waits for, and init.
        for words in [
            &["exec", id, "true"][..],
            &["exec", "--detach", "--pid-file", "pid", id, "true"],
            &["exec", "--tty", id, "true"],
            &["run", new],
            &["create", new],
        ] {
            let of = if words.contains(&new) { &other } else { &bundle };
            let before = Snapshot::of(of);
            let output = masked(of, &[(mask, 0)], words);
            let said = output.error();
            let told = said.starts_with(field) && said.contains(&format!("read back what was set: {line}"));
            assert!(told && output.status != 0 && output.stdout.is_empty(), "{words:?} {mask:?}: {output:?}");
            before.assert_unchanged();
        }
    }
    container.ok("delete", &["--force"]);
}

fn a_needed_call_that_is_missing_is_named_and_nothing_is_left() {
    let mut wrong = Vec::new();
    for (name, number) in NEEDED {
        let (said, error) = refused((Mask::Call(number), libc::ENOSYS), name);
        // CONFIG_BPF_SYSCALL is a name, too.
        if !said.to_lowercase().contains(name) || !error["msg"].as_str().is_some_and(|msg| said.contains(msg)) {
            wrong.push(format!("{name}: {said} {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn a_needed_call_that_is_forbidden_is_named_in_the_log_and_nothing_is_left() {
    let mut wrong = Vec::new();
    // Where a device node cannot be made, the host's is bound.
    for (name, number) in NEEDED.into_iter().filter(|(name, _)| *name != "mknodat") {
        let (said, error) = refused((Mask::Call(number), libc::EPERM), name);
        if !said.contains("operation not permitted") || error["syscall"] != name && !said.contains(name) {
            wrong.push(format!("{name}: {said} {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn a_network_namespace_that_no_thread_can_make_is_made_by_the_clone() {
    let thread = Mask::Bits(libc::SYS_clone, 0, libc::CLONE_THREAD.cast_unsigned());
    for mask in [thread, Mask::Call(libc::SYS_unshare)] {
        for errno in [libc::EAGAIN, libc::ENOSPC, libc::ENOSYS, libc::EPERM] {
            makes_no_difference(&[(mask, errno)]);
        }
    }
}

fn calls_of_later_commands_are_named() {
    let bundle = Bundle::new().args(["sleep", "1000"]);
    let before = Snapshot::of(&bundle);
    let id = bundle.id.clone();
    let container = bundle.create();
    let fails = |name: &str, number: c_long, line: &[&str]| {
        let output = masked(&bundle, &[(Mask::Call(number), libc::ENOSYS)], line);
        let said = output.error();
        assert!(output.status != 0 && said.lines().count() == 1 && said.contains(name), "{name} {line:?}: {output:?}");
    };
    fails("pidfd_open", libc::SYS_pidfd_open, &["start", &id]);
    assert_eq!(container.status(), "created");
    container.start();
    fails("setns", libc::SYS_setns, &["exec", &id, "true"]);
    fails("clone3", libc::SYS_clone3, &["exec", &id, "true"]);
    fails("close_range", libc::SYS_close_range, &["exec", &id, "true"]);
    fails("pidfd_open", libc::SYS_pidfd_open, &["exec", &id, "true"]);
    fails("pidfd_open", libc::SYS_pidfd_open, &["kill", &id, "KILL"]);
    fails("pidfd_send_signal", libc::SYS_pidfd_send_signal, &["kill", &id, "KILL"]);
    assert_eq!(container.status(), "running");
    // The cgroup ends what cannot be held.
    let output = masked(&bundle, &[(Mask::Call(libc::SYS_pidfd_open), libc::ENOSYS)], &["delete", "--force", &id]);
    assert_eq!(output.status, 0, "{output:?}");
    before.assert_unchanged();
}

/// README, "Kernel": ways that are second best, and what is then left out.
fn what_has_a_replacement_is_replaced() {
    for errno in BOTH {
        makes_no_difference(&[(Mask::Call(libc::SYS_memfd_create), errno)]);
        // PR_SET_MM: the second way of keeping the binary out; without memory files besides, the third.
        let no_map = (Mask::Equal(libc::SYS_prctl, 0, 35), errno);
        makes_no_difference(&[no_map]);
        makes_no_difference(&[no_map, (Mask::Call(libc::SYS_memfd_create), errno)]);
        makes_no_difference(&[(Mask::Call(libc::SYS_mremap), errno)]);
    }
    // No keyring is made where there are none.
    makes_no_difference(&[(Mask::Call(libc::SYS_keyctl), libc::ENOSYS)]);
}

/// User namespaces: `rootless::a_host_without_user_namespaces_is_hinted_at`.
fn a_kind_of_namespace_that_the_host_forbids_is_named() {
    for kind in ["mnt", "pid", "net", "ipc", "uts"] {
        // The network's is no part of what `spec --rootless` writes.
        let bundle = for_nested(of_user()).set("/linux/namespaces/-", serde_json::json!({"type": "network"}));
        let before = Snapshot::of(&bundle);
        let output = nested(&bundle, &format!("echo 0 >/proc/sys/user/max_{kind}_namespaces"));
        let said = output.error();
        let want = format!("user.max_{kind}_namespaces is 0");
        assert!(output.status != 0 && said.lines().count() == 1 && said.contains(&want), "{kind}: {output:?}");
        before.assert_unchanged();
    }
}

/// `run` in a mount namespace of its own, after a line of shell.
fn on_a_host(bundle: &Bundle, line: &str, flags: &[&str]) -> Output {
    bundle.write();
    let run = bundle.command(["run"].iter().chain(flags).chain(&[bundle.id.as_str()]));
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-ec", &format!("{line}; exec \"$@\""), "sh"]);
    command.arg(run.get_program()).args(run.get_args()).current_dir(bundle.dir());
    bundle.finish(command)
}

fn a_host_without_proc_is_told() {
    let bundle = Bundle::new();
    let before = Snapshot::of(&bundle);
    let output = on_a_host(&bundle, "mount -t tmpfs none /proc", &[]);
    let said = output.error();
    assert!(output.status != 0 && said.lines().count() == 1 && said.contains("/proc"), "{output:?}");
    before.assert_unchanged();
}

/// The binary's third way out of the host is a copy there, which then must be executed.
fn a_state_directory_that_executes_nothing_is_enough() {
    let bundle = teller();
    let good = bundle.stdout();
    let root = bundle.root().display().to_string();
    let line = format!("mkdir -p {root}; mount -t tmpfs -o noexec,mode=700 none {root}");
    let output = on_a_host(&bundle, &line, &[]);
    assert!(output.status == 0 && output.stdout == good, "{output:?}");
}

fn a_host_without_devpts_is_good_enough() {
    // The container has an instance of its own.
    let output = on_a_host(&teller(), "umount -l /dev/pts || :; mount -t tmpfs none /dev/shm", &[]);
    assert_eq!(output.status, 0, "{output:?}");
}
