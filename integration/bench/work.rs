//! The parent's work alone, without a container: for `make bench` to time, and for the budgets to count its instructions.
//!
//! ```text
//! work plan CONFIG.JSON TIMES      parse it, compile its plan and its profile
//! work seccomp CONFIG.JSON TIMES   parse it once, compile its profile; prints MICROSECONDS: the first time, the median
//! work load CONFIG.JSON TIMES      load the compiled profile into the kernel; prints the same, and its instructions
//! ```

use onggi::cgroup::Driver;
use onggi::config::{Seccomp, Spec};
use onggi::host::Host;
use onggi::plan::{Request, compile, seccomp as plan_seccomp};
use onggi::{seccomp, sys};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [what, file, times] = words.as_slice() else { panic!("usage: work plan|seccomp|load CONFIG.JSON TIMES") };
    let text = std::fs::read(file).expect("read config.json");
    let times: usize = times.parse().expect("a number of times");
    match what.as_str() {
        "plan" => plan(&text, times),
        "seccomp" => print(&mut compilations(&text, times), ""),
        "load" => load(&text, times),
        _ => panic!("{what}?"),
    }
}

fn plan(text: &[u8], times: usize) {
    let host = Host::probe(&Spec::parse(text).expect("parse")).expect("look at the host");
    let request = Request {
        id: "work",
        bundle: Path::new("/"),
        wait: true,
        no_pivot: false,
        no_new_keyring: false,
        preserve: 0,
        driver: Driver::Cgroupfs,
        environment: Vec::new(),
        notify: None,
    };
    for _ in 0..times {
        let spec = Spec::parse(black_box(text)).expect("parse");
        black_box(compile(&spec, &request, &host).expect("compile the plan"));
        black_box(plan_seccomp::filter(&spec, black_box(text), || None).expect("compile the profile"));
    }
}

fn profile(text: &[u8]) -> Seccomp {
    Seccomp::parse(text).expect("parse").expect("a seccomp profile")
}

fn filter(profile: &Seccomp) -> seccomp::Filter {
    seccomp::compile(black_box(profile)).expect("compile the profile").expect("a filter")
}

fn compilations(text: &[u8], times: usize) -> Vec<Duration> {
    let profile = profile(text);
    let once = |_| {
        let since = Instant::now();
        black_box(filter(&profile));
        since.elapsed()
    };
    (0..times).map(once).collect()
}

/// Each into a thread of its own: filters of one thread add up.
fn load(text: &[u8], times: usize) {
    let filter = filter(&profile(text));
    let once = |_| {
        let program = filter.program.clone();
        let thread = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().expect("set no_new_privs");
            let since = Instant::now();
            sys::seccomp::load(&program, 0).expect("load the filter");
            since.elapsed()
        });
        thread.join().expect("a thread that loads")
    };
    let mut each: Vec<Duration> = (0..times).map(once).collect();
    print(&mut each, &format!(" {}", filter.program.len()));
}

fn print(each: &mut [Duration], more: &str) {
    let first = each.first().expect("one time at least").as_secs_f64() * 1e6;
    each.sort();
    let median = each[each.len() / 2].as_secs_f64() * 1e6;
    println!("{first:.1} {median:.1}{more}");
}
