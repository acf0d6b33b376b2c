//! Calls the tracer of `ftkill.rs`, and reads what it reports.

use crate::bundle::Bundle;
use crate::stage::this_program_as;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What the tracer is to do, with what.
pub struct Order<'a> {
    pub mode: &'a str,
    pub at: u64,
    pub command: &'a [String],
    /// Calls are counted from the moment when it is executed; `None` for the command's own program.
    pub program: Option<&'a Path>,
    /// Programs that it executes are left alone.
    pub own: bool,
    /// What is called once the command has ended well, its words a line each.
    pub then: Option<String>,
    pub limit: Duration,
}

/// What the tracer reports.
#[derive(Debug)]
pub struct Report {
    pub calls: u64,
    /// Number of the call at which it acted, -1 if it did not.
    pub call: i64,
    /// Exit status of the command.
    pub status: i64,
    /// Which call it was at which it acted.
    pub place: Option<u64>,
    /// How many there had been when the command ended and another one followed.
    pub ended: Option<u64>,
    /// What the command wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub printed: String,
}

/// Runs a command under the tracer from a cgroup; `None` if it does not end within the limit.
pub fn trace(bundle: &Bundle, group: &Path, order: &Order<'_>) -> Option<Report> {
    let report = bundle.home.join("report");
    let mut tracer = this_program_as("ftkill");
    tracer.args([order.mode, &order.at.to_string()]).arg(&report).arg(group).arg("--").args(order.command);
    tracer.current_dir(bundle.dir()).stdin(std::process::Stdio::null()).env_remove("XDG_RUNTIME_DIR");
    tracer.env_remove("FTKILL_PROGRAM").env_remove("FTKILL_THEN");
    if order.own {
        tracer.env("FTKILL_OWN", "1");
    }
    if let Some(program) = order.program {
        tracer.env("FTKILL_PROGRAM", program);
    }
    if let Some(then) = &order.then {
        tracer.env("FTKILL_THEN", then);
    }
    let output = bundle.finish_within(tracer, order.limit)?;
    assert_eq!(output.status, 0, "the tracer fails: {output:?}");
    let report = fs::read_to_string(report).expect("read the report");
    let numbers: Vec<i64> = report.split(' ').map(|number| number.parse().expect("a number in the report")).collect();
    let [calls, call, status, place, ended] = numbers[..] else { panic!("a report of five numbers: {report}") };
    Some(Report {
        calls: calls.cast_unsigned(),
        call,
        status,
        place: u64::try_from(place).ok(),
        ended: u64::try_from(ended).ok(),
        stdout: output.stdout,
        printed: output.stderr,
    })
}
