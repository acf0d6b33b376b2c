//! The plot.

use crate::measure::Samples;
use crate::runtime::Runtime;
use std::fmt::Write;

/// One colour a runtime, in their order.
const COLOURS: [&str; 5] = ["#b5532a", "#7a8b99", "#b8c4cc", "#d9d2c5", "#4f6d4a"];

/// Bars of the medians, each group to the scale of its longest.
pub fn svg(runtimes: &[Runtime], samples: &Samples, many: usize) -> String {
    let list = format!("list, {many} there");
    let groups = ["lifecycle", "lifecycle, Docker's bundle", "run", "exec", "state", "kill", &list, "lifecycle, 8 at once"];
    let height = groups.len() * (runtimes.len() * 14 + 22) + 10;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"680\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"680\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let mut y = 16;
    for group in groups {
        let medians: Vec<(usize, f64)> =
            runtimes.iter().enumerate().filter_map(|(n, r)| Some((n, samples.figures(&r.name, group)?.median))).collect();
        let longest = medians.iter().map(|(_, ms)| *ms).fold(0.001, f64::max);
        let _infallible = writeln!(text, "<text x=\"4\" y=\"{y}\" font-weight=\"bold\">{group}, ms</text>");
        for (n, ms) in medians {
            let (name, colour) = (runtimes.get(n).map_or("", |r| &r.name), COLOURS.get(n % COLOURS.len()).unwrap_or(&"#888"));
            let width = ms / longest * 500.0;
            let (top, label) = (y + 5, y + 14);
            let _infallible = writeln!(
                text,
                "<rect x=\"80\" y=\"{top}\" width=\"{width:.0}\" height=\"11\" fill=\"{colour}\"/>\
                 <text x=\"4\" y=\"{label}\">{name}</text><text x=\"{:.0}\" y=\"{label}\">{ms:.2}</text>",
                width + 85.0
            );
            y += 14;
        }
        y += 22;
    }
    text.push_str("</svg>\n");
    text
}
