//! What is timed: one container alone, one beside many, and several at a time.

use crate::Options;
use crate::bundles::Bundle;
use crate::measure::{self, Sample, Samples, clocked, reap, run, timed};
use crate::runtime::Runtime;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// After the end of a container, for what the kernel still does about it.
const PAUSE: Duration = Duration::from_millis(20);
/// How many containers at a time.
pub const WIDTHS: [usize; 3] = [1, 2, 8];
/// One burst of containers: before it is counted, and while it is.
const WARM: Duration = Duration::from_millis(200);
const BURST: Duration = Duration::from_millis(1000);

/// A whole life in its phases.
pub fn life(runtime: &Runtime, bundle: &Bundle, id: &str, mut keep: impl FnMut(&str, Sample)) {
    let mut life = Sample::default();
    let mut phase = |name: &str, sample: Sample| {
        life.add(&sample);
        keep(name, sample);
    };
    phase("create", timed(&runtime.create(bundle, id, "true")));
    let pid = runtime.pid(id);
    phase("start", timed(&runtime.on(bundle, "start", id)));
    phase("exit", clocked(|| reap(pid)));
    phase("delete", timed(&runtime.on(bundle, "delete", id)));
    keep("lifecycle", life);
}

/// One container at a time: a whole life, `run`, and what is asked of a running one; both bundles in turns.
pub fn alone(options: &Options, bundles: &[&Bundle], samples: &mut Samples) {
    let pairs: Vec<(&Runtime, &Bundle)> = options.runtimes.iter().flat_map(|r| bundles.iter().map(move |b| (r, *b))).collect();
    let there = |bundle: &Bundle| format!("there{}", u8::from(bundle.docker));
    for (runtime, bundle) in &pairs {
        run(&runtime.create(bundle, &there(bundle), "sleep"));
        run(&runtime.on(bundle, "start", &there(bundle)));
    }
    for round in 0..=options.rounds {
        for (runtime, bundle) in measure::shuffled(&pairs) {
            // The first round only warms up.
            let mut keep = |phase: &str, sample| {
                if round > 0 {
                    samples.add(&runtime.name, &format!("{phase}{}", bundle.label), sample);
                }
            };
            life(runtime, bundle, "life", &mut keep);
            std::thread::sleep(PAUSE);
            keep("run", timed(&runtime.run(bundle, "run", "true")));
            std::thread::sleep(PAUSE);
            keep("exec", timed(&runtime.exec(bundle, &there(bundle))));
            for phase in ["state", "kill", "list"].iter().filter(|_| !bundle.docker) {
                keep(phase, timed(&runtime.on(bundle, phase, &there(bundle))));
            }
        }
    }
    for (runtime, bundle) in &pairs {
        runtime.destroy(bundle, &there(bundle));
    }
}

/// The same questions where many containers wait.
pub fn beside_many(options: &Options, bundle: &Bundle, samples: &mut Samples) {
    let many = options.many;
    for runtime in &options.runtimes {
        (0..many).for_each(|n| run(&runtime.create(bundle, &format!("many{n}"), "sleep")));
    }
    for _ in 0..options.rounds {
        for runtime in measure::shuffled(&options.runtimes.iter().collect::<Vec<_>>()) {
            for phase in ["state", "kill", "list"] {
                let sample = timed(&runtime.on(bundle, phase, "many0"));
                samples.add(&runtime.name, &format!("{phase}, {many} there"), sample);
            }
            let sample = timed(&runtime.run(bundle, "run", "true"));
            samples.add(&runtime.name, &format!("run, {many} there"), sample);
        }
    }
    for runtime in &options.runtimes {
        (0..many).for_each(|n| runtime.destroy(bundle, &format!("many{n}")));
    }
}

/// Whole lives, several at a time, in bursts: milliseconds a container. What is under way when the counting begins or ends
/// is counted where it ends.
pub fn at_once(options: &Options, bundle: &Bundle, samples: &mut Samples) {
    for _ in 0..options.bursts {
        for width in WIDTHS {
            for runtime in measure::shuffled(&options.runtimes.iter().collect::<Vec<_>>()) {
                let sample = burst(runtime, bundle, width);
                samples.add(&runtime.name, &format!("lifecycle, {width} at once"), sample);
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn burst(runtime: &Runtime, bundle: &Bundle, width: usize) -> Sample {
    let (ended, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (mut wall, mut counted) = (Duration::ZERO, 0);
    let all = clocked(|| {
        std::thread::scope(|scope| {
            for lane in 0..width {
                let (ended, over) = (&ended, &over);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        life(runtime, bundle, &format!("lane{lane}"), |_, _| {});
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            std::thread::sleep(WARM);
            let (since, before) = (Instant::now(), ended.load(Ordering::Relaxed));
            std::thread::sleep(BURST);
            counted = ended.load(Ordering::Relaxed) - before;
            wall = since.elapsed();
            over.store(true, Ordering::Relaxed);
        });
    });
    let each = |time: Duration, n: usize| time / u32::try_from(n.max(1)).expect("not that many containers");
    Sample { wall: each(wall, counted), cpu: each(all.cpu, ended.into_inner()) }
}
