//! `make bench`: what each command costs, beside other runtimes and beside the floor (`floor.rs`). Whole processes, from
//! their start to their end; runtimes take turns in an order drawn anew each round, so that what else the machine does
//! meets all of them alike.
//!
//! ```text
//! bench [OPTION...] [NAME=PATH ...]
//!   --rounds N       of each phase (100)
//!   --many N         containers where many are there (200)
//!   --bursts N       of one, two, eight containers at a time, a second each (8); 0 leaves them out
//!   --containers N   on the full host (1000); 0 leaves it out
//!   --mounts N       on the full host (10000)
//!   --realtime       at real-time priority, on a machine that does other work
//!   --out DIR        for the report (target/bench)
//!   --order FILE     writes nothing but the linker script for the runtimes given (`order.rs`)
//! ```
//!
//! Without runtimes: those of onggi, crun and runc that are in PATH, onggi first from the build. Needs root.

#[path = "../stage.rs"]
#[allow(dead_code)] // it serves the tests too
mod stage;

mod bundles;
mod counts;
mod measure;
mod order;
mod phases;
mod plot;
mod report;
mod runtime;
mod scale;
mod verdict;

use bundles::Bundle;
use measure::Samples;
use onggi::config::Seccomp;
use runtime::Runtime;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What one run of the program does.
pub struct Options {
    rounds: usize,
    many: usize,
    bursts: usize,
    containers: usize,
    mounts: usize,
    realtime: bool,
    out: PathBuf,
    order: Option<PathBuf>,
    runtimes: Vec<Runtime>,
    /// What /proc/loadavg said before.
    load: String,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let realtime = words.iter().any(|word| word == "--realtime");
    if realtime && std::env::var_os(REALTIME).is_none() {
        // The scheduler is inherited by all that we start.
        let this = std::env::current_exe().expect("find this program");
        let failed = Command::new("chrt").args(["--fifo", "10"]).arg(this).args(&words).env(REALTIME, "10").exec();
        panic!("chrt (package util-linux): {failed}");
    }
    let here = std::env::current_dir().expect("find the working directory");
    stage::enter(stage::mount_over);
    let mut options = Options {
        rounds: 250,
        many: 200,
        bursts: 8,
        containers: 1000,
        mounts: 10_000,
        realtime,
        out: here.join("target/bench"),
        order: None,
        runtimes: Vec::new(),
        load: std::fs::read_to_string("/proc/loadavg").unwrap_or_default(),
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        let mut number = || value().parse().unwrap_or_else(|_| panic!("{word} wants a number"));
        match word.as_str() {
            "--rounds" => options.rounds = number(),
            "--many" => options.many = number(),
            "--bursts" => options.bursts = number(),
            "--containers" => options.containers = number(),
            "--mounts" => options.mounts = number(),
            "--out" => options.out = here.join(value()),
            "--order" => options.order = Some(here.join(value())),
            "--realtime" => {}
            // Of cargo, for its own harness.
            "--bench" | "--nocapture" => {}
            _ => options.runtimes.push(Runtime::named(&word)),
        }
    }
    std::fs::create_dir_all(&options.out).expect("make the directory for the report");
    if options.runtimes.is_empty() {
        options.runtimes = Runtime::all();
    }
    // A container's first process becomes ours when its runtime leaves: we see its end at once, and its CPU time.
    nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
    match options.order.take() {
        Some(file) => order(&mut options.runtimes, &file),
        None => bench(options),
    }
}

fn order(runtimes: &mut Vec<Runtime>, file: &Path) {
    let mut notes = Vec::new();
    let bundles = [Bundle::plain(runtimes, &mut notes), Bundle::docker(runtimes, &mut notes)];
    assert!(notes.is_empty() && !runtimes.is_empty(), "{notes:?}");
    let mut order = order::Order::default();
    runtimes.iter().for_each(|runtime| order.add(runtime, &bundles.each_ref()));
    std::fs::write(file, order.script()).expect("write the linker script");
}

/// Says that the scheduler has been set.
const REALTIME: &str = "ONGGI_BENCH_REALTIME";

fn bench(mut options: Options) {
    let mut notes = Vec::new();
    if let Some(floor) = Runtime::floor(&options.out, &docker_filter()) {
        options.runtimes.push(floor);
    } else {
        notes.push("no floor: it is written for x86_64".into());
    }
    options.runtimes.iter_mut().for_each(|runtime| runtime.settle(&options.out));
    let plain = Bundle::plain(&mut options.runtimes, &mut notes);
    let docker = Bundle::docker(&mut options.runtimes, &mut notes);
    let mut samples = Samples::default();
    let step = |what: &str| eprintln!("{what} ...");
    step("one container");
    phases::alone(&options, &[&plain, &docker], &mut samples);
    step("beside many");
    phases::beside_many(&options, &plain, &mut samples);
    step("several at once");
    phases::at_once(&options, &plain, &mut samples);
    if options.containers > 0 {
        step("on a full host");
        scale::scale(&options, &plain, &mut samples);
    }
    step("counts");
    counts::counts(&options, &plain, &mut samples);
    let seccomp = counts::seccomp(&docker);
    let verdict = verdict::markdown(&options.runtimes, &samples, options.many, seccomp);
    let text = format!("{}\n{verdict}", report::markdown(&options, &samples, &notes, seccomp));
    std::fs::write(options.out.join("bench.md"), &text).expect("write the table");
    std::fs::write(options.out.join("bench.svg"), plot::svg(&options.runtimes, &samples, options.many)).expect("write the plot");
    println!("{text}");
}

/// The filter of Docker's profile, for the floor.
fn docker_filter() -> Vec<u8> {
    let profile = Seccomp::parse(bundles::docker().to_string().as_bytes()).expect("parse Docker's config.json");
    let profile = profile.expect("a seccomp profile");
    let filter = onggi::seccomp::compile(&profile).expect("compile the profile").expect("a filter");
    let bytes = |i: &seccompiler::sock_filter| [&i.code.to_ne_bytes()[..], &[i.jt, i.jf], &i.k.to_ne_bytes()].concat();
    filter.program.iter().flat_map(bytes).collect()
}

/// A program of the release build, if it has been built.
fn release(name: &str) -> Option<String> {
    // This one is in target/TRIPLE/debug/deps.
    let this = std::env::current_exe().ok()?;
    let path = this.ancestors().nth(3)?.join("release").join(name);
    Path::new(&path).exists().then(|| path.display().to_string())
}
