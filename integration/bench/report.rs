//! The tables and the plot.

use crate::measure::Samples;
use crate::runtime::Runtime;
use std::fmt::Write;

/// What the machine is, in a line.
fn machine() -> String {
    let first = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        line.rsplit(':').next().unwrap_or_default().trim().to_owned()
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("Linux {}, {cpus} CPUs, {}; load at the end {load}", kernel.trim(), first("/proc/cpuinfo", "model name"))
}

/// The report: medians first, then the spread, then what was counted.
pub fn markdown(runtimes: &[Runtime], samples: &Samples, notes: &[String], rounds: usize, many: usize) -> String {
    let mut text = String::new();
    let mut line = |words: &str| {
        let _infallible = writeln!(text, "{words}");
    };
    line(&format!("{}. {rounds} rounds, {many} containers where many are there.", machine()));
    notes.iter().for_each(|note| line(&format!("Note: {note}.")));
    line("");
    let names: Vec<&str> = runtimes.iter().map(|r| r.name.as_str()).collect();
    let first = names.first().copied().unwrap_or_default();
    let others: Vec<&str> = names.iter().skip(1).copied().collect();
    line(&format!(
        "| median, ms | {} | {} |",
        names.join(" | "),
        others.iter().map(|o| format!("/ {o}")).collect::<Vec<_>>().join(" | ")
    ));
    line(&format!("| --- |{}", " ---: |".repeat(names.len() + others.len())));
    for phase in &samples.phases {
        let median = |name: &str| samples.figures(name, phase).map(|f| f[1]);
        let cells = names.iter().map(|name| median(name).map_or("".into(), |ms| format!("{ms:.2}")));
        let ratios = others.iter().map(|other| match (median(first), median(other)) {
            (Some(ours), Some(theirs)) => format!("{:.2}", ours / theirs),
            _ => String::new(),
        });
        line(&format!("| {phase} | {} |", cells.chain(ratios).collect::<Vec<_>>().join(" | ")));
    }
    line("");
    line(&format!("| p10 / p95 / CPU, ms | {} |", names.join(" | ")));
    line(&format!("| --- |{}", " ---: |".repeat(names.len())));
    for phase in &samples.phases {
        let cells = names.iter().map(|name| {
            samples.figures(name, phase).map_or(String::new(), |[low, _, high, cpu]| format!("{low:.2} / {high:.2} / {cpu:.2}"))
        });
        line(&format!("| {phase} | {} |", cells.collect::<Vec<_>>().join(" | ")));
    }
    line("");
    line(&format!("| counted | {} |", names.join(" | ")));
    line(&format!("| --- |{}", " ---: |".repeat(names.len())));
    for what in &samples.counts {
        let cells = names.iter().map(|name| samples.counted(name, what).map_or(String::new(), |n| n.to_string()));
        line(&format!("| {what} | {} |", cells.collect::<Vec<_>>().join(" | ")));
    }
    text
}

/// Bars of the medians, each group to the scale of its longest.
pub fn svg(runtimes: &[Runtime], samples: &Samples) -> String {
    const COLOURS: [&str; 5] = ["#b5532a", "#7a8b99", "#b8c4cc", "#d9d2c5", "#4f6d4a"];
    let groups = ["lifecycle", "run", "exec", "state", "kill", "list", "run, 8 at once"];
    let height = groups.len() * (runtimes.len() * 14 + 22) + 10;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"680\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n"
    );
    let mut y = 16;
    for group in groups {
        let medians: Vec<(usize, f64)> =
            runtimes.iter().enumerate().filter_map(|(n, runtime)| Some((n, samples.figures(&runtime.name, group)?[1]))).collect();
        let longest = medians.iter().map(|(_, ms)| *ms).fold(0.001, f64::max);
        let _infallible = writeln!(text, "<text x=\"4\" y=\"{y}\" font-weight=\"bold\">{group}, ms</text>");
        for (n, ms) in medians {
            let (name, colour) = (runtimes.get(n).map_or("", |r| &r.name), COLOURS.get(n % COLOURS.len()).unwrap_or(&"#888"));
            let width = ms / longest * 500.0;
            let (top, label) = (y + 5, y + 14);
            let _infallible = writeln!(
                text,
                "<rect x=\"60\" y=\"{top}\" width=\"{width:.0}\" height=\"11\" fill=\"{colour}\"/>\
                 <text x=\"4\" y=\"{label}\">{name}</text><text x=\"{:.0}\" y=\"{label}\">{ms:.2}</text>",
                width + 65.0
            );
            y += 14;
        }
        y += 22;
    }
    text.push_str("</svg>\n");
    text
}
