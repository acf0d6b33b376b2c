//! `make bench`: what each command costs, beside other runtimes and beside the floor (`floor.rs`). Whole processes, from
//! their start to their end; runtimes take turns in an order drawn anew each round, so that what else the machine does
//! meets all of them alike.
//!
//! ```text
//! bench [--rounds N] [--many N] [--out DIR] [NAME=PATH ...]
//! ```
//!
//! Without runtimes: those of onggi, crun and runc that are in PATH, onggi first from the build. Needs root.

#[path = "../stage.rs"]
#[allow(dead_code)] // it serves the tests too
mod stage;

mod measure;
mod report;
mod runtime;

use measure::{Samples, spread};
use runtime::{Bundle, Runtime};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What one run of the program does.
struct Options {
    rounds: usize,
    many: usize,
    out: PathBuf,
    runtimes: Vec<Runtime>,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "--peak") {
        return measure::print_peak(words.get(1..).unwrap_or_default());
    }
    let out = std::env::current_dir().expect("find the working directory");
    stage::enter(stage::mount_over);
    let mut options = Options { rounds: 100, many: 200, out: out.join("target/bench"), runtimes: Vec::new() };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            "--rounds" => options.rounds = value().parse().expect("a number of rounds"),
            "--many" => options.many = value().parse().expect("a number of containers"),
            "--out" => options.out = out.join(value()),
            // Of cargo, for its own harness.
            "--bench" | "--nocapture" => {}
            _ => options.runtimes.push(Runtime::named(&word)),
        }
    }
    std::fs::create_dir_all(&options.out).expect("make the directory for the report");
    if options.runtimes.is_empty() {
        options.runtimes = Runtime::all();
    }
    if let Some(floor) = Runtime::floor(&options.out) {
        options.runtimes.push(floor);
    }
    let mut samples = Samples::default();
    let mut notes = Vec::new();
    let plain = Bundle::plain(&mut options.runtimes, &mut notes);
    let docker = Bundle::docker(&options.runtimes, &notes);
    for (bundle, name) in [(&plain, ""), (&docker, " (Docker's bundle)")] {
        alone(&options, bundle, name, &mut samples);
    }
    beside_many(&options, &plain, &mut samples);
    at_once(&options, &plain, &mut samples);
    counts(&options, &plain, &mut samples);
    let text = report::markdown(&options.runtimes, &samples, &notes, options.rounds, options.many);
    std::fs::write(options.out.join("bench.md"), &text).expect("write the table");
    std::fs::write(options.out.join("bench.svg"), report::svg(&options.runtimes, &samples)).expect("write the plot");
    println!("{text}");
}

/// One container at a time: a whole life in its phases, `run`, and what is asked of a running one.
fn alone(options: &Options, bundle: &Bundle, name: &str, samples: &mut Samples) {
    let able: Vec<&Runtime> = options.runtimes.iter().filter(|r| bundle.suits(r)).collect();
    for runtime in &able {
        runtime.must(&runtime.create(bundle, "there", "sleep"));
        runtime.must(&runtime.on("start", "there"));
    }
    for round in 0..options.rounds + 1 {
        for runtime in measure::shuffled(&able) {
            let mut life = spread(&[]);
            let mut keep = |phase: &str, one: measure::Sample| {
                life.add(&one);
                // The first round only warms up.
                if round > 0 {
                    samples.add(&runtime.name, &format!("{phase}{name}"), one);
                }
            };
            keep("create", runtime.timed(&runtime.create(bundle, "life", "true")));
            let pid = runtime.pid("life");
            keep("start", runtime.timed(&runtime.on("start", "life")));
            let since = Instant::now();
            while Path::new(&format!("/proc/{pid}")).exists() {
                assert!(since.elapsed() < Duration::from_secs(10), "the payload does not end");
                std::thread::sleep(Duration::from_micros(20));
            }
            keep("exit", measure::Sample { wall: since.elapsed(), cpu: Duration::ZERO });
            keep("delete", runtime.timed(&runtime.on("delete", "life")));
            if round > 0 {
                samples.add(&runtime.name, &format!("lifecycle{name}"), life);
                samples.add(&runtime.name, &format!("run{name}"), runtime.timed(&runtime.run(bundle, "run", "true")));
                samples.add(&runtime.name, &format!("exec{name}"), runtime.timed(&runtime.exec("there", "true")));
            }
            if round > 0 && name.is_empty() {
                for phase in ["state", "kill", "list"] {
                    samples.add(&runtime.name, phase, runtime.timed(&runtime.on(phase, "there")));
                }
            }
        }
    }
    for runtime in &able {
        runtime.destroy("there");
    }
}

/// The same questions where many containers wait.
fn beside_many(options: &Options, bundle: &Bundle, samples: &mut Samples) {
    let able: Vec<&Runtime> = options.runtimes.iter().filter(|r| bundle.suits(r)).collect();
    let many = options.many;
    for runtime in &able {
        for n in 0..many {
            runtime.must(&runtime.create(bundle, &format!("many{n}"), "sleep"));
        }
    }
    for _ in 0..options.rounds {
        for runtime in measure::shuffled(&able) {
            for phase in ["state", "list"] {
                let sample = runtime.timed(&runtime.on(phase, "many0"));
                samples.add(&runtime.name, &format!("{phase}, {many} there"), sample);
            }
            samples.add(&runtime.name, &format!("run, {many} there"), runtime.timed(&runtime.run(bundle, "run", "true")));
        }
    }
    for runtime in &able {
        (0..many).for_each(|n| runtime.destroy(&format!("many{n}")));
    }
}

/// Whole runs, several at a time: milliseconds a container.
fn at_once(options: &Options, bundle: &Bundle, samples: &mut Samples) {
    let able: Vec<&Runtime> = options.runtimes.iter().filter(|r| bundle.suits(r)).collect();
    for width in [1usize, 2, 8] {
        for _ in 0..(options.rounds / 10).max(3) {
            for runtime in measure::shuffled(&able) {
                let (since, before) = (Instant::now(), measure::children());
                let each = 4;
                std::thread::scope(|scope| {
                    for lane in 0..width {
                        scope.spawn(move || {
                            for n in 0..each {
                                runtime.must(&runtime.run(bundle, &format!("lane{lane}-{n}"), "true"));
                            }
                        });
                    }
                });
                let containers = u32::try_from(width * each).expect("few containers");
                let (wall, cpu) = (since.elapsed() / containers, (measure::children() - before) / containers);
                samples.add(&runtime.name, &format!("run, {width} at once"), measure::Sample { wall, cpu });
            }
        }
    }
}

/// What is counted, not timed.
fn counts(options: &Options, bundle: &Bundle, samples: &mut Samples) {
    for runtime in options.runtimes.iter().filter(|r| bundle.suits(r)) {
        let mut count = |what: &str, n: Option<u64>| samples.count(&runtime.name, what, n);
        count("peak memory of `run`, KiB", measure::peak(&runtime.run(bundle, "peak", "true")));
        count("system calls of `run`", measure::calls(&runtime.run(bundle, "calls", "true"), &options.out));
        runtime.must(&runtime.create(bundle, "waits", "sleep"));
        let rollup = format!("/proc/{}/smaps_rollup", runtime.pid("waits"));
        count("waiting init, Rss, KiB", measure::field(&rollup, "Rss:"));
        count("waiting init, private dirty, KiB", measure::field(&rollup, "Private_Dirty:"));
        count("system calls of `start`", measure::calls(&runtime.on("start", "waits"), &options.out));
        count("system calls of `state`", measure::calls(&runtime.on("state", "waits"), &options.out));
        runtime.destroy("waits");
        count("size of the binary, KiB", std::fs::metadata(runtime.program()).ok().map(|m| m.len() / 1024));
    }
}
