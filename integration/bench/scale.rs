//! What each command costs more where the host has many containers and mounts.

use crate::Options;
use crate::bundles::Bundle;
use crate::measure::{self, Samples, run, timed};
use crate::phases::life;
use crate::runtime::Runtime;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Name of the state of the host in the phases' names.
pub const EMPTY: &str = ", empty host";
/// The other one.
pub const FULL: &str = ", full host";
/// What is compared.
pub const PHASES: [&str; 9] = ["create", "start", "exit", "delete", "lifecycle", "run", "exec", "state", "kill"];

/// Measures the first runtime and the floor, makes containers of both and mounts, and measures again. The mounts are of the
/// mount namespace that the stage has made, the containers in its cgroup: both end with it, also when it is killed.
pub fn scale(options: &Options, bundle: &Bundle, samples: &mut Samples) {
    let compared: Vec<&Runtime> =
        options.runtimes.iter().enumerate().filter(|(n, r)| *n == 0 || r.is_floor()).map(|(_, r)| r).collect();
    for runtime in &compared {
        run(&runtime.create(bundle, "scale", "sleep"));
        run(&runtime.on(bundle, "start", "scale"));
    }
    rounds(options, bundle, &compared, EMPTY, samples);
    for runtime in &compared {
        (0..options.containers).for_each(|n| run(&runtime.create(bundle, &format!("scale{n}"), "sleep")));
    }
    let dir = make_mounts(options.mounts);
    rounds(options, bundle, &compared, FULL, samples);
    umount2(dir.as_str(), MntFlags::MNT_DETACH).expect("unmount the mounts");
    for runtime in &compared {
        (0..options.containers).for_each(|n| runtime.destroy(bundle, &format!("scale{n}")));
        runtime.destroy(bundle, "scale");
    }
}

fn rounds(options: &Options, bundle: &Bundle, compared: &[&Runtime], host: &str, samples: &mut Samples) {
    for round in 0..=options.rounds {
        for runtime in measure::shuffled(compared) {
            let mut keep = |phase: &str, sample| {
                if round > 0 {
                    samples.add(&runtime.name, &format!("{phase}{host}"), sample);
                }
            };
            life(runtime, bundle, "life", &mut keep);
            keep("run", timed(&runtime.run(bundle, "run", "true")));
            keep("exec", timed(&runtime.exec(bundle, "scale")));
            for phase in ["state", "kill"] {
                keep(phase, timed(&runtime.on(bundle, phase, "scale")));
            }
        }
    }
}

/// A tmpfs with that many binds of one of its directories; where it is.
fn make_mounts(many: usize) -> String {
    let dir = format!("{}/mounts", crate::stage::WORK);
    let none = None::<&str>;
    std::fs::create_dir(&dir).expect("make a directory");
    mount(Some("tmpfs"), dir.as_str(), Some("tmpfs"), MsFlags::empty(), none).expect("mount a tmpfs");
    let source = format!("{dir}/source");
    std::fs::create_dir(&source).expect("make a directory");
    for n in 0..many {
        let target = format!("{dir}/{n}");
        std::fs::create_dir(&target).expect("make a directory");
        mount(Some(source.as_str()), target.as_str(), none, MsFlags::MS_BIND, none).expect("bind a directory");
    }
    dir
}

/// What is paid more on the full host, in milliseconds.
pub fn added(samples: &Samples, runtime: &str, phase: &str) -> Option<f64> {
    let median = |host: &str| samples.figures(runtime, &format!("{phase}{host}")).map(|f| f.median);
    Some(median(FULL)? - median(EMPTY)?)
}
