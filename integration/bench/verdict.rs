//! The ratios that the project has set itself, each with its limit.

use crate::counts::Seccomp;
use crate::measure::{Figures, Samples};
use crate::runtime::Runtime;
use crate::scale;
use std::fmt::Write;

/// A figure and the most that it may be.
struct Row {
    what: &'static str,
    /// `None` where what it is compared with was not there.
    found: Option<f64>,
    limit: f64,
    /// The figure must not be below the limit, rather than not above.
    least: bool,
}

/// The table for each of our builds among the runtimes: the first, and those whose name begins with `onggi`. One with `musl` in
/// its name has the limits of that link. Of the host that is full, where the shorter commands take a few microseconds more, the
/// two are judged that the mounts weigh on.
pub fn markdown(runtimes: &[Runtime], samples: &Samples, many: usize, seccomp: Option<Seccomp>) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        let _infallible = writeln!(text, "{words}");
    };
    for (n, runtime) in runtimes.iter().enumerate().filter(|(n, r)| *n == 0 || r.name.starts_with("onggi")) {
        line(format!("| {}: what was promised | found | limit | |", runtime.name));
        line("| --- | ---: | ---: | --- |".into());
        for row in rows(&runtime.name, n == 0, samples, many, seccomp.filter(|_| n == 0)) {
            let (found, verdict) = match row.found {
                Some(found) if row.least == (found >= row.limit) || found == row.limit => (format!("{found:.2}"), "ok"),
                Some(found) => (format!("{found:.2}"), "**missed**"),
                None => (String::new(), "not measured"),
            };
            line(format!("| {} | {found} | {} {:.2} | {verdict} |", row.what, if row.least { "≥" } else { "≤" }, row.limit));
        }
        line(String::new());
    }
    text
}

fn rows(ours: &str, first: bool, samples: &Samples, many: usize, seccomp: Option<Seccomp>) -> Vec<Row> {
    let figures = |name: &str, phase: &str| samples.figures(name, phase);
    let median = |name: &str, phase: &str| figures(name, phase).map(|f| f.median);
    let over =
        |other: &str, phase: &str, part: fn(Figures) -> f64| Some(part(figures(ours, phase)?) / part(figures(other, phase)?));
    let ratio = |other: &str, phase: &str| over(other, phase, |f| f.median);
    let counted = |what: &str| samples.counted(ours, what).map(|n| n as f64);
    let row = |what, found, limit| Row { what, found, limit, least: false };
    let musl = ours.contains("musl");
    let list = format!("list, {many} there");
    let docker = median(ours, "lifecycle, Docker's bundle").zip(median(ours, "lifecycle")).map(|(docker, plain)| docker - plain);
    let more = |phase: &str| Some(scale::added(samples, ours, phase)? / scale::added(samples, "floor", phase)?);
    let mut rows = vec![
        row("lifecycle / crun", ratio("crun", "lifecycle"), 0.40),
        row("lifecycle / floor", ratio("floor", "lifecycle"), if musl { 1.35 } else { 1.75 }),
        row("lifecycle, Docker's bundle: more than the default one's, ms", docker, 0.40),
        row("lifecycle / floor, CPU time", over("floor", "lifecycle", |f| f.cpu), 1.80),
        row("run / floor", ratio("floor", "run"), 1.50),
        row("exec / floor", ratio("floor", "exec"), if musl { 1.40 } else { 1.90 }),
        row("state / crun", ratio("crun", "state"), 0.25),
        row("kill / crun", ratio("crun", "kill"), 0.25),
        row("list of many / crun", ratio("crun", &list), 0.35),
        Row {
            what: "8 at once: throughput / crun's",
            found: ratio("crun", "lifecycle, 8 at once").map(|r| 1.0 / r),
            limit: 2.5,
            least: true,
        },
    ];
    if first {
        let host = [("full host: added to lifecycle / floor's", "lifecycle"), ("full host: added to run / floor's", "run")];
        rows.extend(host.into_iter().map(|(what, phase)| row(what, more(phase), 1.10)));
        rows.push(row("Docker's seccomp profile compiled, µs", seccomp.map(|s| s.compiled), 150.0));
        rows.push(row("and loaded by the kernel, µs", seccomp.map(|s| s.loaded), 100.0));
    }
    rows.push(row("system calls of create", counted("system calls of `create`"), 330.0));
    rows.push(row("system calls of start", counted("system calls of `start`"), 45.0));
    rows.push(row("system calls of delete", counted("system calls of `delete`"), 50.0));
    rows.push(row("system calls of state", counted("system calls of `state`"), 25.0));
    rows.push(row("waiting init, private dirty, KiB", counted("waiting init, private dirty, KiB"), 200.0));
    rows.push(row("waiting init, Rss, KiB", counted("waiting init, Rss, KiB"), 1000.0));
    rows.push(row("binary, KiB", counted("size of the binary, KiB"), 2560.0));
    rows
}
