//! Taking one measurement, and what many of them say.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One command, or some after each other.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// From before its start to after its end.
    pub wall: Duration,
    /// Of all processes that were waited for in that time, whole.
    pub cpu: Duration,
}

impl Sample {
    /// The two one after the other.
    pub fn add(&mut self, other: &Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

/// All measurements, by runtime and phase; phases in the order in which they were first met.
#[derive(Default)]
pub struct Samples {
    timed: BTreeMap<(String, String), Vec<Sample>>,
    counted: BTreeMap<(String, String), u64>,
    /// Phases that were timed.
    pub phases: Vec<String>,
    /// Things that were counted.
    pub counts: Vec<String>,
}

/// Milliseconds of one phase of one runtime.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// The tenth of a hundred.
    pub p10: f64,
    /// The fiftieth.
    pub median: f64,
    /// The ninety-fifth.
    pub p95: f64,
    /// The median of the CPU time.
    pub cpu: f64,
}

impl Samples {
    /// Keeps a time.
    pub fn add(&mut self, runtime: &str, phase: &str, sample: Sample) {
        if !self.phases.iter().any(|p| p == phase) {
            self.phases.push(phase.into());
        }
        self.timed.entry((runtime.into(), phase.into())).or_default().push(sample);
    }

    /// Keeps a count.
    pub fn count(&mut self, runtime: &str, what: &str, n: Option<u64>) {
        if !self.counts.iter().any(|c| c == what) {
            self.counts.push(what.into());
        }
        if let Some(n) = n {
            self.counted.insert((runtime.into(), what.into()), n);
        }
    }

    /// What the samples of a phase say.
    pub fn figures(&self, runtime: &str, phase: &str) -> Option<Figures> {
        let all = self.timed.get(&(runtime.into(), phase.into()))?;
        let sorted = |part: fn(&Sample) -> Duration| {
            let mut each: Vec<f64> = all.iter().map(|s| part(s).as_secs_f64() * 1e3).collect();
            each.sort_by(f64::total_cmp);
            each
        };
        let of_hundred = |each: &[f64], n: usize| each.get((each.len() * n / 100).min(each.len() - 1)).copied();
        let (wall, cpu) = (sorted(|s| s.wall), sorted(|s| s.cpu));
        Some(Figures {
            p10: of_hundred(&wall, 10)?,
            median: of_hundred(&wall, 50)?,
            p95: of_hundred(&wall, 95)?,
            cpu: of_hundred(&cpu, 50)?,
        })
    }

    /// A count.
    pub fn counted(&self, runtime: &str, what: &str) -> Option<u64> {
        self.counted.get(&(runtime.into(), what.into())).copied()
    }
}

/// CPU time of all children that were waited for, and of theirs.
pub fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("ask for the use of the CPU");
    let time = |t: nix::sys::time::TimeVal| {
        use nix::sys::time::TimeValLike;
        Duration::from_micros(t.num_microseconds().unsigned_abs())
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// Times what it does.
pub fn clocked(work: impl FnOnce()) -> Sample {
    let (since, before) = (Instant::now(), children());
    work();
    Sample { wall: since.elapsed(), cpu: children().saturating_sub(before) }
}

/// Runs a command; its output goes nowhere. Panics if it fails.
pub fn run(words: &[String]) {
    let status = started(words).wait().expect("wait for a command");
    assert!(status.success(), "{words:?}: {status}");
}

/// [`run`], timed.
pub fn timed(words: &[String]) -> Sample {
    clocked(|| run(words))
}

/// Starts a command; its output goes nowhere.
pub fn started(words: &[String]) -> Child {
    let (program, arguments) = words.split_first().expect("a command");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// Waits for a container's first process, which is ours since its runtime has left (`main` makes us a subreaper).
pub fn reap(pid: u32) {
    waitpid(Pid::from_raw(pid.cast_signed()), None).expect("wait for a container's first process");
}

/// In another order each time (a xorshift generator; its state is the clock's).
pub fn shuffled<T: Copy>(all: &[T]) -> Vec<T> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut state = u64::from(now.subsec_nanos()) | 1;
    let mut all = all.to_vec();
    for n in (1..all.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.swap(n, usize::try_from(state % (n as u64 + 1)).unwrap_or(0));
    }
    all
}

/// System calls of all processes of a command, the container's program among them. None without strace. `meanwhile` runs
/// beside it, and must see to it that the last process ends.
pub fn calls(words: &[String], scratch: &Path, meanwhile: impl FnOnce()) -> Option<u64> {
    let log = scratch.join("strace.log");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "signal=none", "-o"]).arg(&log).args(words);
    let mut child = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    meanwhile();
    let status = child.wait().ok()?;
    let text = std::fs::read_to_string(&log).ok()?;
    std::fs::remove_file(&log).ok()?;
    let calls = text.lines().filter(|line| !line.contains("resumed>") && !line.contains("+++"));
    status.success().then(|| calls.count() as u64)
}

/// The number behind a name in a file of procfs.
pub fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
