//! Size and time of compiled profiles. `cargo test --release --test seccomp figures -- --nocapture` prints them.

use crate::{bpf, engine, kernel, libseccomp_as_runc};
use onggi::seccomp::compile;
use seccompiler::sock_filter;
use std::time::{Duration, Instant};

/// How long the kernel takes to load it, in a thread of its own: engines' profiles let a thread end.
fn loaded(program: &[sock_filter]) -> Duration {
    let program = program.to_vec();
    let thread = std::thread::spawn(move || {
        kernel::no_new_privs();
        let start = Instant::now();
        onggi::sys::seccomp::load(&program, 0).unwrap();
        start.elapsed()
    });
    thread.join().unwrap()
}

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
        let first = times[0];
        times.sort();
        let mut loads: Vec<_> = (0..100).map(|_| loaded(&filter.program)).collect();
        loads.sort();
        let theirs = libseccomp_as_runc::program(&profile, true).unwrap().len();
        println!("{name}: {instructions} instructions (libseccomp's tree {theirs}), at most {depth} run");
        println!("  compiled in {:?} (median of {rounds}; first {first:?}), loaded in {:?}", times[rounds / 2], loads[50]);
        assert!(instructions <= 500 && depth <= 40, "{name}: {instructions} instructions, depth {depth}");
    }
}
