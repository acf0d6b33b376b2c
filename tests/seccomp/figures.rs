//! Size and time of compiled profiles. `cargo test --release --test seccomp figures -- --nocapture` prints them.

use crate::{bpf, engine, libseccomp_as_runc};
use onggi::seccomp::compile;
use std::time::Instant;

/// Instructions are what a load costs, and the longest way is what a denied call costs: neither may grow unnoticed.
#[test]
fn figures_of_engines_profiles() {
    for (name, profile) in engine::profiles() {
        let filter = compile(&profile).unwrap().unwrap();
        let (instructions, depth) = (filter.program.len(), bpf::depth(&filter.program));
        let rounds = 500;
        let mut times: Vec<_> = (0..rounds)
            .map(|_| {
                let start = Instant::now();
                std::hint::black_box(compile(std::hint::black_box(&profile)).unwrap());
                start.elapsed()
            })
            .collect();
        times.sort();
        let theirs = libseccomp_as_runc::program(&profile, true).unwrap().len();
        println!(
            "{name}: {instructions} instructions (libseccomp's tree {theirs}), at most {depth} run; compiled in {:?}, median of {rounds}",
            times[rounds / 2]
        );
        assert!(instructions <= 500 && depth <= 40, "{name}: {instructions} instructions, depth {depth}");
    }
}
