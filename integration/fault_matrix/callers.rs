//! F-22: ten kinds of caller, each of them odd in its own way; the program never notices.

use super::OURS;
use crate::bundle::{Bundle, Output};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use crate::lifecycle::through_shell;
use std::process::Command;

pub fn cases() -> Vec<Case> {
    vec![case!(f_22_ten_odd_callers_get_what_they_ask_for).ours(OURS), case!(f_22_the_first_process_of_a_namespace_may_call)]
}

/// What is odd, as a line of bash before the command.
const ODD: [(&str, &str); 10] = [
    ("ignores SIGCHLD and SIGPIPE", "trap '' CHLD PIPE HUP"),
    ("blocks what can be blocked", "set -- env --block-signal=TERM,CHLD,USR1,PIPE,RTMIN \"$@\""),
    ("allows eight descriptors", "ulimit -n 8"),
    ("masks every permission", "umask 0777"),
    ("has a large environment", "for n in $(seq 12); do export BIG$n=$(head -c 100000 /dev/zero | tr '\\0' x); done"),
    ("has no environment", "set -- env -i \"$@\""),
    ("has descriptors left open", "for n in $(seq 3 60); do eval \"exec $n</etc/passwd\"; done"),
    ("has a small stack and no core", "ulimit -s 256; ulimit -c 0"),
    ("leads a session without a terminal", "set -- setsid --wait \"$@\""),
    (
        "is nice and preloads a library",
        "export LD_PRELOAD=/absent.so LD_LIBRARY_PATH=/absent RUST_BACKTRACE=1; set -- nice -n 10 \"$@\"",
    ),
];

/// The program's view, which is the same whoever calls.
const SCRIPT: &str = "grep -E '^(Sig(Blk|Ign)|Umask|Threads)' /proc/self/status | tr '\\t' ' '; env | sort | tr '\\n' ' '; \
    ls /proc/self/fd | wc -l; exit 7";

fn seen(bundle: &Bundle, line: &str, words: &[&str]) -> Output {
    bundle.finish(through_shell(&bundle.command(words), line, bundle))
}

fn f_22_ten_odd_callers_get_what_they_ask_for() {
    let view = |line: &str| {
        let bundle = Bundle::new().sh(SCRIPT);
        bundle.write();
        let before = Snapshot::of(&bundle);
        let output = seen(&bundle, line, &["run", &bundle.id]);
        before.assert_unchanged();
        output
    };
    let usual = view(":");
    assert_eq!(usual.status, 7, "{usual:?}");
    for (what, line) in ODD {
        let run = view(line);
        let few = what.contains("eight") && run.status == 1 && run.stderr.contains("too many open files");
        // What a C library keeps for itself in whoever started us is not ours to say.
        assert!(few || (run.status, &run.stdout) == (7, &usual.stdout), "{what}: {run:?}\nnot as usual: {usual:?}");
        let bundle = Bundle::new().args(["sleep", "1000"]);
        let before = Snapshot::of(&bundle);
        bundle.write();
        let id = bundle.id.as_str();
        for (words, wanted) in [
            (vec!["create", id], 0),
            (vec!["start", id], 0),
            (vec!["exec", id, "sh", "-c", "exit 6"], 6),
            (vec!["kill", id, "KILL"], 0),
            (vec!["delete", "--force", id], 0),
        ] {
            let output = seen(&bundle, line, &words);
            let named = what.contains("eight") && output.stderr.contains("too many open files");
            assert!(output.status == wanted || named, "{what}: {words:?}: {output:?}");
            if named && words[0] == "create" {
                break;
            }
        }
        before.assert_unchanged();
    }
    gone();
}

/// Its working directory is no more.
fn gone() {
    let bundle = Bundle::new().sh("pwd; exit 7");
    bundle.write();
    let dir = bundle.dir().display().to_string();
    let run = bundle.command(["run", "--bundle", &dir, &bundle.id]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "mkdir gone; cd gone; rmdir ../gone; exec \"$@\"", "sh"]);
    shell.arg(run.get_program()).args(run.get_args()).current_dir(&bundle.home);
    let output = bundle.finish(shell);
    assert_eq!((output.status, output.stdout.as_str()), (7, "/\n"), "{output:?}");
}

fn f_22_the_first_process_of_a_namespace_may_call() {
    let bundle = Bundle::new().sh("sleep 0.1 & exit 7");
    bundle.write();
    let before = Snapshot::of(&bundle);
    let run = bundle.command(["run", &bundle.id]);
    let mut first = Command::new("unshare");
    first.args(["--pid", "--fork", "--mount", "--mount-proc", "--kill-child"]);
    first.arg(run.get_program()).args(run.get_args()).current_dir(bundle.dir());
    let output = bundle.finish(first);
    assert_eq!(output.status, 7, "{output:?}");
    before.assert_unchanged();
}
