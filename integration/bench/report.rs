//! The tables.

use crate::Options;
use crate::counts::Seccomp;
use crate::measure::{Figures, Samples};
use crate::scale;
use std::fmt::Write;

/// What the machine is, and how it was used, in a line.
fn machine(options: &Options) -> String {
    let first = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        line.rsplit(':').next().unwrap_or_default().trim().to_owned()
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let priority = if options.realtime {
        "all that was measured ran at real-time priority (SCHED_FIFO 10)"
    } else {
        "all that was measured ran at ordinary priority"
    };
    let load = |text: &str| text.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    let now = load(&std::fs::read_to_string("/proc/loadavg").unwrap_or_default());
    format!(
        "Linux {}, {cpus} CPUs, {}; load before {}, at the end {now}; {priority}",
        kernel.trim(),
        first("/proc/cpuinfo", "model name"),
        load(&options.load)
    )
}

/// Versions of the runtimes, as they say them.
fn versions(options: &Options) -> String {
    let version = |program: &str| {
        let output = std::process::Command::new(program).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
    };
    let each =
        options.runtimes.iter().filter(|r| !r.is_floor()).filter_map(|r| Some(format!("{}: {}", r.name, version(r.program())?)));
    each.collect::<Vec<_>>().join("; ")
}

/// The report: medians first, then the spread, the full host, then what was counted.
pub fn markdown(options: &Options, samples: &Samples, notes: &[String], seccomp: Option<Seccomp>) -> String {
    let mut text = String::new();
    let mut line = |words: &str| {
        let _infallible = writeln!(text, "{words}");
    };
    line(&format!("{}. {}.", machine(options), versions(options)));
    line(&format!("{} rounds, {} containers where many are there.", options.rounds, options.many));
    notes.iter().for_each(|note| line(&format!("Note: {note}.")));
    line("");
    let names: Vec<&str> = options.runtimes.iter().map(|r| r.name.as_str()).collect();
    let first = names.first().copied().unwrap_or_default();
    let others: Vec<&str> = names.iter().skip(1).copied().collect();
    let phases: Vec<&String> =
        samples.phases.iter().filter(|p| !p.ends_with(scale::EMPTY) && !p.ends_with(scale::FULL)).collect();
    let compared = others.iter().map(|o| format!("/ {o}")).collect::<Vec<_>>();
    line(&format!("| median, ms | {} | {} |", names.join(" | "), compared.join(" | ")));
    line(&format!("| --- |{}", " ---: |".repeat(names.len() + others.len())));
    let row = |phase: &str, part: fn(Figures) -> f64| {
        let figure = |name: &str| samples.figures(name, phase).map(part);
        let cells = names.iter().map(|name| figure(name).map_or("".into(), |ms| format!("{ms:.2}")));
        let ratios = others.iter().map(|other| match (figure(first), figure(other)) {
            (Some(ours), Some(theirs)) => format!("{:.2}", ours / theirs),
            _ => String::new(),
        });
        cells.chain(ratios).collect::<Vec<_>>().join(" | ")
    };
    phases.iter().for_each(|phase| line(&format!("| {phase} | {} |", row(phase, |f| f.median))));
    for phase in ["lifecycle", "run", "exec"] {
        line(&format!("| {phase}, CPU time | {} |", row(phase, |f| f.cpu)));
    }
    line("");
    line(&format!("| p10 / p95 / CPU, ms | {} |", names.join(" | ")));
    line(&format!("| --- |{}", " ---: |".repeat(names.len())));
    for phase in &phases {
        let cell = |f: Figures| format!("{:.2} / {:.2} / {:.2}", f.p10, f.p95, f.cpu);
        let cells = names.iter().map(|name| samples.figures(name, phase).map_or(String::new(), cell));
        line(&format!("| {phase} | {} |", cells.collect::<Vec<_>>().join(" | ")));
    }
    line("");
    let scaled: Vec<&str> = names.iter().copied().filter(|name| scale::added(samples, name, "lifecycle").is_some()).collect();
    if !scaled.is_empty() {
        let host = format!("{} containers of each and {} mounts", options.containers, options.mounts);
        line(&format!("| added with {host}, ms (from, to) | {} |", scaled.join(" | ")));
        line(&format!("| --- |{}", " ---: |".repeat(scaled.len())));
        for phase in scale::PHASES {
            let median = |name: &str, host: &str| samples.figures(name, &format!("{phase}{host}")).map_or(0.0, |f| f.median);
            let cells = scaled.iter().map(|name| {
                let added = scale::added(samples, name, phase).unwrap_or_default();
                format!("{added:.2} ({:.2}, {:.2})", median(name, scale::EMPTY), median(name, scale::FULL))
            });
            line(&format!("| {phase} | {} |", cells.collect::<Vec<_>>().join(" | ")));
        }
        line("");
    }
    line(&format!("| counted | {} |", names.join(" | ")));
    line(&format!("| --- |{}", " ---: |".repeat(names.len())));
    for what in &samples.counts {
        let cells = names.iter().map(|name| samples.counted(name, what).map_or(String::new(), |n| n.to_string()));
        line(&format!("| {what} | {} |", cells.collect::<Vec<_>>().join(" | ")));
    }
    if let Some(s) = seccomp {
        line("");
        line(&format!(
            "Docker's seccomp profile: from parsed JSON to a program of {} instructions in {:.0} µs ({:.0} µs the first time in a \
             process); the kernel loads it in {:.0} µs.",
            s.instructions, s.compiled, s.first, s.loaded
        ));
    }
    text
}
