//! The program: why it cannot be run, in words; the directory, descriptors, streams and signals that it starts with.

use crate::bundle::{Bundle, limit};
use crate::canary::{Canary, link};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use crate::lifecycle::through_shell;
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

const WORDS: &str = "others name the program only";

pub fn cases() -> Vec<Case> {
    vec![
        case!(create_tells_what_is_wrong_with_the_name).ours("the words are those of a current runc, and a hint"),
        case!(run_tells_what_is_wrong_with_the_file).ours(WORDS),
        case!(start_tells_what_is_wrong_with_the_file).ours(WORDS),
        case!(a_mount_without_exec_is_told).ours(WORDS),
        case!(the_log_names_the_field).ours("others have no such key"),
        case!(arguments_may_be_long_and_in_any_script),
        case!(a_working_directory_of_root_is_entered_before_the_user),
        case!(a_working_directory_that_cannot_be_entered_is_an_error),
        case!(descriptors_of_socket_activation_get_in).except("crun", "leaves LISTEN_PID out"),
        case!(those_of_another_process_do_not).except("crun", "does not look at LISTEN_PID"),
        case!(a_preserved_descriptor_that_is_missing_is_named).ours("others hand on what has its number"),
        case!(closed_streams_are_no_obstacle).except("crun", "fails to give it to the user"),
        case!(a_caller_that_blocks_and_ignores_signals_is_no_obstacle).except("runc", "the mask stays").except("crun", "hangs"),
        case!(a_low_soft_limit_of_descriptors_is_no_obstacle).ours("others fail"),
        case!(few_descriptors_are_enough_or_named_as_the_cause).ours("others say something else"),
    ]
}

/// A program for a 64-bit little-endian machine of that number, which wants that loader.
fn elf(machine: u16, loader: &str) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let words = |file: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    file.extend([2, 0]);
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    // Entry, program headers, no section headers, flags 0.
    words(&mut file, &[0x40_0000, 64, 0]);
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // PT_INTERP, readable.
    file.extend(3u32.to_le_bytes());
    file.extend(4u32.to_le_bytes());
    let length = u64::try_from(loader.len() + 1).expect("a length");
    words(&mut file, &[120, 0, 0, length, length, 1]);
    file.extend(loader.bytes());
    file.push(0);
    file
}

fn create_tells_what_is_wrong_with_the_name() {
    let prefix = "runc create failed: unable to start container process: error during container init: ";
    for (name, text) in [
        ("nonesuch", "exec: \"nonesuch\": executable file not found in $PATH"),
        ("plain", "exec: \"plain\": executable file not found in $PATH"),
        ("/none/such", "exec: \"/none/such\": stat /none/such: no such file or directory"),
        ("./none", "exec: \"./none\": stat ./none: no such file or directory"),
        ("/etc", "exec: \"/etc\": is a directory"),
        (
            "/bin/plain",
            "exec: \"/bin/plain\": permission denied (is the file executable, and may the user pass the directories?)",
        ),
        ("/bin/sh/x", "exec: \"/bin/sh/x\": not a directory"),
    ] {
        let bundle = Bundle::new().file("/bin/plain", 0o644, "x").args([name]);
        bundle.write();
        let before = Snapshot::of(&bundle);
        let output = bundle.call(["create", &bundle.id]);
        assert_eq!((output.status, output.stderr), (1, format!("{prefix}{text}\n")), "{name}");
        before.assert_unchanged();
    }
}

/// Files that are executable, as far as their mode tells, and what `run` and `start` say of them.
fn wrong_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let missing = "exec /wrong: no such file or directory (it needs ";
    vec![
        (missing, b"#!/no/such/shell -x\necho\n".into(), "/no/such/shell, which is missing"),
        (missing, elf(62, "/lib/no-such-ld.so"), "/lib/no-such-ld.so, which is missing"),
        ("exec /wrong: no such file or directory (", b"#!/bin/sh\r\necho\r\n".into(), "carriage return"),
        ("exec /wrong: exec format error (", elf(183, "/lib/ld.so"), "it is built for aarch64, this machine is x86_64"),
        ("exec /wrong: exec format error (", b"just text\n".into(), "neither a binary nor a script"),
        ("exec /wrong: exec format error (", Vec::new(), "neither a binary nor a script"),
    ]
}

fn run_tells_what_is_wrong_with_the_file() {
    for (begin, file, more) in wrong_files() {
        let output = Bundle::new().file("/wrong", 0o755, file).args(["/wrong"]).fails(begin);
        assert!(output.stderr.contains(more) && output.stderr.contains("runc run failed: "), "{output:?}");
    }
}

fn start_tells_what_is_wrong_with_the_file() {
    for (begin, file, more) in wrong_files() {
        let bundle = Bundle::new().file("/wrong", 0o755, file).args(["/wrong"]);
        let container = bundle.create();
        let output = container.call("start", &[]);
        assert!(output.status == 1 && output.stderr.contains(begin) && output.stderr.contains(more), "{output:?}");
        assert!(output.stderr.starts_with("runc start failed: ") && output.stderr.lines().count() == 1, "{output:?}");
        container.wait();
        assert_eq!(container.status(), "stopped");
        container.ok("delete", &[]);
    }
}

fn a_mount_without_exec_is_told() {
    let bundle = Bundle::new();
    let source = bundle.home.join("source");
    fs::create_dir(&source).expect("make a directory");
    fs::write(source.join("tool"), "#!/bin/sh\n").expect("write a script");
    fs::set_permissions(source.join("tool"), fs::Permissions::from_mode(0o755)).expect("set its mode");
    let bundle = bundle.mount("/mnt", "bind", &source.display().to_string(), &["bind", "noexec"]).args(["/mnt/tool"]);
    let output = bundle.fails("exec: \"/mnt/tool\": permission denied");
    assert!(output.stderr.contains("noexec"), "{output:?}");
}

fn the_log_names_the_field() {
    let bundle = Bundle::new().args(["/nonesuch"]);
    let log = bundle.home.join("log").display().to_string();
    let bundle = bundle.flag("--log").flag(&log).flag("--log-format").flag("json");
    bundle.run();
    let text = fs::read_to_string(log).expect("read the log");
    let entry: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).expect("parse the log");
    assert_eq!((&entry["level"], &entry["field"]), (&json!("error"), &json!("/process/args/0")), "{text}");
}

fn arguments_may_be_long_and_in_any_script() {
    let long = "x".repeat(100_000);
    let report = Bundle::new().report(&["옹기 ✓", " ", "\t\n", &long]);
    assert_eq!(report["args"], json!(["/inside", "report", "옹기 ✓", " ", "\t\n", long]));
}

pub fn home_of_a_strange_passwd_is_the_root() {
    for kind in ["fifo", "sparse", "device", "directory", "link to itself", "late", "long line"] {
        let bundle = Bundle::new().set("/process/user", json!({"uid": 1000, "gid": 1000})).sh("echo $HOME");
        let passwd = bundle.rootfs().join("etc/passwd");
        fs::remove_file(&passwd).expect("remove a file");
        match kind {
            "fifo" => nix::unistd::mkfifo(&passwd, Mode::from_bits_truncate(0o644)).expect("make a fifo"),
            "sparse" => fs::File::create(&passwd).and_then(|file| file.set_len(10 << 30)).expect("make a file"),
            "device" => symlink("/dev/zero", &passwd).expect("make a link"),
            "directory" => fs::create_dir(&passwd).expect("make a directory"),
            "link to itself" => symlink("passwd", &passwd).expect("make a link"),
            "late" => {
                let text = format!("{}user:x:1000:1000::/home/user:/bin/sh\n", "#\n".repeat(1 << 20));
                fs::write(&passwd, text).expect("write a file");
            }
            _ => fs::write(&passwd, format!("user:x:1000:1000::/{}:/bin/sh\n", "h".repeat(100_000))).expect("write a file"),
        }
        assert_eq!(bundle.stdout(), "/\n", "{kind}");
    }
}

pub fn a_directory_of_the_caller_is_no_working_directory() {
    // CVE-2024-21626. Some of the numbers are the caller's, others may be the runtime's.
    for number in [3, 4, 5, 6, 7, 8, 9, 12, 20] {
        for through_link in [false, true] {
            let mut bundle = Bundle::new().sh("cat file ../file deep/file 2>/dev/null; ls -A . ..");
            let canary = Canary::new(&bundle);
            let mut cwd = format!("/proc/self/fd/{number}");
            if through_link {
                link(&bundle, "/way", &cwd);
                cwd = "/way".into();
            }
            bundle = bundle.set("/process/cwd", cwd.as_str());
            bundle.write();
            let run = bundle.command(["run", &bundle.id]);
            let output = bundle.finish(through_shell(&run, "exec 3<canary 4<canary 7<canary/deep 9</ 20<canary", &bundle));
            canary.assert_unchanged(&cwd);
            let inside = !output.stdout.contains("sings") && !output.stdout.contains("canary");
            assert!(inside && (output.status != 0 || !output.stdout.contains("sbin")), "{cwd}: {output:?}");
        }
    }
}

fn private_directory(bundle: &Bundle, name: &str, uid: u32) {
    let path = bundle.rootfs().join(name);
    fs::create_dir(&path).expect("make a directory");
    std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("set its owner");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("set its mode");
}

fn a_working_directory_of_root_is_entered_before_the_user() {
    let bundle = Bundle::new().set("/process/user", json!({"uid": 1000, "gid": 1000})).set("/process/cwd", "/private");
    private_directory(&bundle, "private", 0);
    let bundle = bundle.sh("pwd; ls / >/dev/null; ls . 2>/dev/null || echo closed");
    assert_eq!(bundle.stdout(), "/private\nclosed\n");
}

fn a_working_directory_that_cannot_be_entered_is_an_error() {
    for (cwd, cause) in [("/etc/passwd", "ot a directory"), ("/loop", "ymbolic links")] {
        let bundle = Bundle::new().set("/process/cwd", cwd);
        link(&bundle, "/loop", "loop");
        let output = bundle.run();
        let error = output.error();
        assert!(output.status != 0 && (error.contains(cause) || error.contains(cwd)), "{cwd}: {output:?}");
    }
}

/// `run` with a descriptor 3 to a file that says `spoken`, after a line of shell.
fn activated(line: &str, script: &str) -> crate::bundle::Output {
    let bundle = Bundle::new().sh(script);
    bundle.write();
    fs::write(bundle.home.join("file"), "spoken\n").expect("write a file");
    let run = bundle.command(["run", &bundle.id]);
    bundle.finish(through_shell(&run, line, &bundle))
}

fn descriptors_of_socket_activation_get_in() {
    let output = activated("exec 3<file; export LISTEN_FDS=1 LISTEN_PID=$$", "echo $LISTEN_FDS $LISTEN_PID; cat <&3");
    assert_eq!((output.status, output.stdout.as_str()), (0, "1 1\nspoken\n"), "{output:?}");
}

fn those_of_another_process_do_not() {
    let script = "echo \"<$LISTEN_FDS>\"; test ! -e /proc/self/fd/3 || echo there";
    let output = activated("exec 3<file; export LISTEN_FDS=1 LISTEN_PID=1", script);
    assert_eq!((output.status, output.stdout.as_str()), (0, "<>\n"), "{output:?}");
}

fn a_preserved_descriptor_that_is_missing_is_named() {
    let bundle = Bundle::new();
    bundle.write();
    let before = Snapshot::of(&bundle);
    let run = bundle.command(["run", "--preserve-fds", "3", &bundle.id]);
    let output = bundle.finish(through_shell(&run, "exec 3</dev/null 4<&- 5</dev/null", &bundle));
    assert!(output.status != 0 && output.error().contains('4'), "{output:?}");
    before.assert_unchanged();
}

pub fn a_waiting_init_holds_its_streams_and_fifos_alone() {
    let bundle = Bundle::new();
    let _canary = Canary::new(&bundle);
    bundle.write();
    let pid_file = bundle.home.join("pid");
    let create = bundle.command(["create", "--pid-file", &pid_file.display().to_string(), &bundle.id]);
    let leak = "for n in $(seq 3 20); do eval \"exec $n<canary\"; done; exec 100</ 200<.";
    let output = bundle.finish(through_shell(&create, leak, &bundle));
    assert_eq!(output.status, 0, "{output:?}");
    let pid = fs::read_to_string(pid_file).expect("read the pid file");
    let root = bundle.root().join(&bundle.id);
    let held = || -> Vec<(u32, PathBuf)> {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("list its descriptors").flatten();
        let number = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().parse().expect("a number");
        // One that it closes meanwhile has no link.
        entries.filter_map(|entry| Some((number(&entry), fs::read_link(entry.path()).ok()?))).collect()
    };
    // `create` ends when it has told init to go on: init then closes what it was told by.
    let few = |held: &[(u32, PathBuf)]| held.len() <= 5 && held.iter().all(|(n, target)| *n < 3 || target.starts_with(&root));
    let mut last = Vec::new();
    let until = Instant::now() + limit();
    while !few(&last) || last.is_empty() {
        last = held();
        assert!(Instant::now() < until, "{last:?}");
    }
    // And nothing of the host is its working directory or root.
    for name in ["cwd", "root"] {
        let target = fs::read_link(format!("/proc/{pid}/{name}")).expect("read a link");
        assert_eq!(target.display().to_string(), "/", "{name}");
    }
}

fn closed_streams_are_no_obstacle() {
    let script = "exec 9>/log; for n in 0 1 2; do (readlink /proc/$$/fd/$n || echo closed) >&9; done; exit 7";
    for closed in ["0<&-", "1>&-", "2>&-", "0<&- 1>&-", "0<&- 2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"] {
        let bundle = Bundle::new().sh(script);
        bundle.write();
        let run = bundle.command(["run", &bundle.id]);
        let output = bundle.finish(through_shell(&run, &format!("exec {closed}"), &bundle));
        assert_eq!(output.status, 7, "{closed}: {output:?}");
        let log = fs::read_to_string(bundle.rootfs().join("log")).expect("read what it wrote");
        let home = bundle.home.display().to_string();
        for (number, target) in log.lines().enumerate() {
            let ours = target == "/dev/null" || target == "closed";
            let callers = target.starts_with(&home) && !target.contains("state");
            assert!(ours || callers || target.starts_with("pipe:"), "{closed}: {number}: {target}");
        }
        assert_eq!(log.lines().count(), 3, "{closed}: {log}");
    }
}

fn a_caller_that_blocks_and_ignores_signals_is_no_obstacle() {
    let bundle = Bundle::new().sh("grep '^Sig[BI]' /proc/self/status; exit 7");
    bundle.write();
    let run = bundle.command(["run", &bundle.id]);
    let mut caller = Command::new("env");
    caller.args(["--block-signal=TERM,HUP,USR1,CHLD,PIPE,RTMIN", "--ignore-signal=CHLD,PIPE,USR2,INT"]);
    caller.arg(run.get_program()).args(run.get_args()).current_dir(bundle.dir());
    let output = bundle.finish(caller);
    let sets: Vec<u64> = output
        .stdout
        .lines()
        .filter_map(|line| u64::from_str_radix(line.split_once('\t')?.1, 16).ok())
        // Of the C library's own two, whoever started us is to blame.
        .map(|set| set & !(0b11 << 31))
        .collect();
    assert_eq!((output.status, sets.as_slice()), (7, &[0, 0][..]), "{output:?}");
}

/// The runtime's own limit is raised where it may be; the program has the caller's.
fn a_low_soft_limit_of_descriptors_is_no_obstacle() {
    for limit in [12, 20, 60] {
        let bundle = Bundle::new().remove("/process/rlimits").sh("ulimit -Sn; ulimit -Hn");
        bundle.write();
        let line = format!("ulimit -Sn {limit}; ulimit -Hn 4096");
        let run = bundle.command(["run", &bundle.id]);
        let output = bundle.finish(through_shell(&run, &line, &bundle));
        assert_eq!((output.status, output.stdout), (0, format!("{limit}\n4096\n")), "{}", output.stderr);
        let bundle = bundle.args(["sleep", "1000"]);
        bundle.detach();
        let exec = bundle.command(["exec", &bundle.id, "sh", "-c", "ulimit -Sn"]);
        let output = bundle.finish(through_shell(&exec, &line, &bundle));
        assert_eq!((output.status, output.stdout), (0, format!("{limit}\n")), "{}", output.stderr);
    }
}

fn few_descriptors_are_enough_or_named_as_the_cause() {
    for limit in [8, 12, 16, 32] {
        let bundle = Bundle::new().args(["echo", "ran"]);
        bundle.write();
        let before = Snapshot::of(&bundle);
        let run = bundle.command(["run", &bundle.id]);
        let output = bundle.finish(through_shell(&run, &format!("ulimit -n {limit}"), &bundle));
        let named = output.status != 0 && output.stderr.to_lowercase().contains("too many open files");
        assert!((output.status == 0 && output.stdout == "ran\n") || named, "{limit}: {output:?}");
        before.assert_unchanged();
    }
}
