//! Tries the points of a sweep, and tells of all sweeps in one table.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A sweep: a command, who calls it, what is done to it.
pub struct Sweep {
    pub command: String,
    pub who: &'static str,
    pub mode: String,
    /// System calls that it makes when nothing is done to it.
    pub calls: u64,
    /// First call to be tried.
    pub first: u64,
    /// Every how many calls one is tried, unless FAULT_STEP says otherwise.
    pub step: u64,
}

/// What became of one point.
#[derive(Default)]
pub struct Tried {
    /// Number of the system call.
    pub call: i64,
    /// Where the action was taken; `None` for not at all: then it counts for nothing.
    pub place: Option<u64>,
    pub wrong: Vec<String>,
    /// It did not come to an end in time.
    pub hangs: bool,
}

impl Tried {
    pub fn hanging(at: u64) -> Tried {
        Tried { call: -1, place: Some(at), wrong: vec!["hangs".into()], hangs: true }
    }
}

struct Row {
    line: String,
    failed: usize,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

impl Sweep {
    /// Tries the points on two threads and prints those where something was wrong; that text, if there was one.
    pub fn check(&self, point: impl Fn(u64) -> Tried + Sync) -> String {
        let began = Instant::now();
        let step = step(self.step);
        let first = self.first + offset(step);
        let next = AtomicU64::new(first);
        let tried = AtomicU64::new(0);
        let found = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(step, Ordering::Relaxed);
                        if at > self.calls {
                            return;
                        }
                        let mut result = point(at);
                        // On a busy machine everything takes long; what hangs does so each time.
                        for _ in 0..2 {
                            if result.hangs {
                                result = point(at);
                            }
                        }
                        let Tried { call, place, wrong, .. } = result;
                        if let Some(place) = place {
                            tried.fetch_add(1, Ordering::Relaxed);
                            // Those before it would be the same once more.
                            next.fetch_max(place + 1, Ordering::Relaxed);
                        }
                        if !wrong.is_empty() {
                            found.lock().expect("no panic under the lock").push((at, call, wrong));
                        }
                    }
                });
            }
        });
        let mut found = found.into_inner().expect("no panic under the lock");
        found.sort_unstable();
        let tried = tried.into_inner();
        let Sweep { command, who, mode, calls, .. } = self;
        let each = if step == 1 { "each".into() } else { format!("every {step}th from {first}") };
        let mut text = format!("{command}, {who}, {mode}: {calls} calls, {each}, {tried} points tried, {} failed", found.len());
        let _ = writeln!(text, ", {} s", began.elapsed().as_secs());
        for (at, call, wrong) in &found {
            let _ = writeln!(text, "  at {at:4} (call {call:3}): {}", wrong.join("; "));
        }
        eprint!("{text}");
        let line = format!("| {command} | {who} | {mode} | {calls} | {each} | {tried} | {} |", found.len());
        ROWS.lock().expect("no panic under the lock").push(Row { line, failed: found.len() });
        if found.is_empty() { String::new() } else { text }
    }
}

/// What FAULT_STEP says, else the sweep's own.
fn step(own: u64) -> u64 {
    std::env::var("FAULT_STEP").map_or(own, |step| step.parse().expect("a number in FAULT_STEP"))
}

/// Of the points that a step leaves out, others each time.
fn offset(step: u64) -> u64 {
    let first = std::env::var("FAULT_FIRST").ok().map(|first| first.parse::<u64>().expect("a number in FAULT_FIRST"));
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs();
    first.map_or_else(|| seconds() % step, |first| first.saturating_sub(1).min(step - 1))
}

/// Prints what was swept, if anything was, and writes it to `target/sweeps.md` where there is such a directory.
pub fn print() {
    let mut rows = ROWS.lock().expect("no panic under the lock");
    if rows.is_empty() {
        return;
    }
    rows.sort_unstable_by(|a, b| a.line.cmp(&b.line));
    let mut table = "| command | called by | fault | calls | of them | points tried | points failed |\n".to_owned();
    table += "| --- | --- | --- | ---: | --- | ---: | ---: |\n";
    for row in rows.iter() {
        let _ = writeln!(table, "{}", row.line);
    }
    let failed: usize = rows.iter().map(|row| row.failed).sum();
    println!("{table}\n{} sweeps, {failed} points failed\n", rows.len());
    // That of a target which is named, as ours always is, lies below the target's name.
    if let Some(target) = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors().nth(2).filter(|target| target.exists()) {
        fs::write(target.join("sweeps.md"), table).expect("write the table of sweeps");
    }
}
