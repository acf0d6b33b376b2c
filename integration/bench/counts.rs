//! What is counted, not timed; and the parent's work alone, which a program of its own times (`work.rs`).

use crate::Options;
use crate::bundles::Bundle;
use crate::measure::{self, Samples, run};
use crate::runtime::Runtime;
use std::process::Command;
use std::time::{Duration, Instant};

/// Counts them for each runtime.
pub fn counts(options: &Options, bundle: &Bundle, samples: &mut Samples) {
    for runtime in &options.runtimes {
        let mut count = |what: &str, n: Option<u64>| samples.count(&runtime.name, what, n);
        let calls = |words: &[String]| measure::calls(words, &options.out, || ());
        count("peak memory of `run`, KiB", peak(runtime, bundle));
        count("system calls of `run`", calls(&runtime.run(bundle, "calls", "true")));
        // strace stays with the container's init, which has to end: once `create` has made it, and that is killed.
        let words = runtime.create(bundle, "traced", "sleep");
        count("system calls of `create`", measure::calls(&words, &options.out, || end(runtime, "traced")));
        run(&runtime.on(bundle, "delete", "traced"));
        run(&runtime.create(bundle, "waits", "sleep"));
        let pid = runtime.pid("waits");
        asleep(pid);
        let rollup = format!("/proc/{pid}/smaps_rollup");
        count("waiting init, Rss, KiB", measure::field(&rollup, "Rss:"));
        count("waiting init, private dirty, KiB", measure::field(&rollup, "Private_Dirty:"));
        for verb in ["start", "state", "kill"] {
            count(&format!("system calls of `{verb}`"), calls(&runtime.on(bundle, verb, "waits")));
        }
        kill(pid);
        measure::reap(pid);
        count("system calls of `delete`", calls(&runtime.on(bundle, "delete", "waits")));
        count("size of the binary, KiB", std::fs::metadata(runtime.program()).ok().map(|m| m.len() / 1024));
    }
}

/// Waits until the init of a container that has been made sleeps: it has been told to go on, and may have something to do.
fn asleep(pid: u32) {
    let status = format!("/proc/{pid}/status");
    let until = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(&status).is_ok_and(|text| text.contains("State:\tS")) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kill(pid: u32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::SIGKILL).expect("kill a process");
}

/// The most that the process of a foreground `run` ever had resident. Of itself: what a parent is told of its children has what
/// they shared with it before their exec.
fn peak(runtime: &Runtime, bundle: &Bundle) -> Option<u64> {
    let mut child = measure::started(&runtime.run(bundle, "peak", "sleep"));
    let until = Instant::now() + Duration::from_secs(10);
    while runtime.pid_if_made("peak").is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(100));
    let peak = measure::field(&format!("/proc/{}/status", child.id()), "VmHWM:");
    kill(runtime.pid("peak"));
    child.wait().expect("wait for a command");
    peak
}

/// Kills the init of a container that is being made, once it waits and its maker has left.
fn end(runtime: &Runtime, id: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    let parent = |pid| measure::field(&format!("/proc/{pid}/status"), "PPid:");
    let ours = Some(u64::from(std::process::id()));
    let pid = loop {
        assert!(Instant::now() < until, "{} create does not end under strace", runtime.name);
        std::thread::sleep(Duration::from_millis(5));
        if let Some(pid) = runtime.pid_if_made(id).filter(|pid| parent(*pid) == ours) {
            break pid;
        }
    };
    kill(pid);
    measure::reap(pid);
}

/// Microseconds for Docker's profile, from parsed JSON to a program, and for the kernel to take that.
#[derive(Debug, Clone, Copy)]
pub struct Seccomp {
    /// Compiled, as the median of many times in one process.
    pub compiled: f64,
    /// Compiled for the first time in a process: the median of some processes.
    pub first: f64,
    /// Loaded.
    pub loaded: f64,
    /// Instructions of the program.
    pub instructions: f64,
}

/// `None` where `work` has not been built.
pub fn seccomp(docker: &Bundle) -> Option<Seccomp> {
    let program = crate::release("onggi-work")?;
    let ask = |what: &str| {
        let output = Command::new(&program).arg(what).arg(docker.config()).arg("100").output().expect("start `work`");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("numbers");
        text.split_whitespace().map(|word| word.parse().expect("a number")).collect::<Vec<f64>>()
    };
    let column = |rows: &[Vec<f64>], n: usize| {
        let mut each: Vec<f64> = rows.iter().map(|row| row[n]).collect();
        each.sort_by(f64::total_cmp);
        each[each.len() / 2]
    };
    let compiled: Vec<_> = (0..21).map(|_| ask("seccomp")).collect();
    let loaded: Vec<_> = (0..5).map(|_| ask("load")).collect();
    Some(Seccomp {
        compiled: column(&compiled, 1),
        first: column(&compiled, 0),
        loaded: column(&loaded, 1),
        instructions: column(&loaded, 2),
    })
}
