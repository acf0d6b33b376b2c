//! The configurations that real engines wrote, each run to its end, and looked at from inside.
//!
//! What belonged to the machine they were captured on is replaced: the root file system by busybox, sources of bind mounts
//! by stand-ins, namespaces of others by some of our own, hook programs by one that writes down what it was given. Where the
//! tests lack a controller, a capability or a limit, it is left out; in the virtual machine nothing may be left out.

mod inside;
mod stand_in;
mod table;

pub use stand_in::record_hook;

use crate::bundle::{Output, eventually};
use crate::case::Case;
use crate::hostdelta::Snapshot;
use stand_in::Prepared;
use std::fs;

/// A captured configuration and how it ends.
#[derive(Clone)]
pub struct Captured {
    name: &'static str,
    text: &'static str,
    status: i32,
    stdout: Stdout,
    /// Runs until it is killed: always, or where nothing limits its memory.
    endless: Endless,
    /// Another status where the machine lacks a controller.
    without: Option<(&'static str, i32)>,
    /// Why crun fails.
    crun: Option<&'static str>,
}

#[derive(Clone)]
enum Stdout {
    Unknown,
    Is(&'static str),
    Contains(&'static str),
}

#[derive(Clone, PartialEq)]
enum Endless {
    No,
    Yes,
    WithoutMemoryLimit,
}

impl Captured {
    fn new(name: &'static str, text: &'static str, status: i32) -> Captured {
        Captured { name, text, status, stdout: Stdout::Unknown, endless: Endless::No, without: None, crun: None }
    }

    fn prints(mut self, text: &'static str) -> Captured {
        self.stdout = Stdout::Is(text);
        self
    }

    fn contains(mut self, text: &'static str) -> Captured {
        self.stdout = Stdout::Contains(text);
        self
    }

    fn endless(mut self) -> Captured {
        self.endless = Endless::Yes;
        self
    }

    fn ended_by_its_memory_limit(mut self) -> Captured {
        self.endless = Endless::WithoutMemoryLimit;
        self
    }

    fn without_controller(mut self, controller: &'static str, status: i32) -> Captured {
        self.without = Some((controller, status));
        self
    }

    fn except_crun(mut self, reason: &'static str) -> Captured {
        self.crun = Some(reason);
        self
    }

    /// The test that runs it as it is.
    fn run(&self) {
        let prepared = Prepared::new(self);
        let before = Snapshot::of(&prepared.bundle);
        let lacks = |controller: &str| !stand_in::controllers().iter().any(|c| c == controller);
        if self.endless == Endless::Yes || (self.endless == Endless::WithoutMemoryLimit && lacks("memory")) {
            self.kill(&prepared);
        } else {
            let output = prepared.bundle.run();
            let status = match self.without {
                Some((controller, status)) if lacks(controller) => status,
                _ => self.status,
            };
            assert_eq!(output.status, status, "{output:?}");
            self.check_stdout(&output);
        }
        prepared.check_hooks();
        before.assert_unchanged();
    }

    /// Starts it, sees that it is what was asked for, kills it.
    fn kill(&self, prepared: &Prepared) {
        let container = prepared.bundle.detach();
        let asked = prepared.bundle.config["process"]["args"].as_array().expect("arguments");
        let asked: String = asked.iter().filter_map(|a| a.as_str()).map(|a| format!("{a}\0")).collect();
        // A script's line begins with its interpreter.
        let line = || fs::read_to_string(format!("/proc/{}/cmdline", container.pid)).unwrap_or_default();
        eventually("the program runs", || line().ends_with(&asked));
        assert_eq!(container.status(), "running");
        container.kill("KILL");
        assert_eq!(container.wait(), 137);
        container.ok("delete", &[]);
    }

    fn check_stdout(&self, output: &Output) {
        match self.stdout {
            Stdout::Is(text) => assert_eq!(output.stdout, text, "{output:?}"),
            Stdout::Contains(text) => assert!(output.stdout.contains(text), "{output:?}"),
            Stdout::Unknown => {}
        }
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![crate::case!(every_captured_bundle_is_in_the_table)];
    for captured in table::all() {
        let (run, inside) = (captured.clone(), captured.clone());
        let name = captured.name;
        let pair = [
            Case::of(module_path!(), name, move || run.run()),
            Case::of(module_path!(), &format!("{name}::inside"), move || inside.inside()),
        ];
        for case in pair {
            let case = case.both();
            cases.push(match captured.crun {
                Some(reason) => case.except("crun", reason),
                None => case,
            });
        }
    }
    cases
}

fn every_captured_bundle_is_in_the_table() {
    let files = fs::read_dir(crate::stage::data("bundles"))
        .expect("list the bundles")
        .map(|entry| entry.expect("list the bundles").file_name());
    let mut files: Vec<String> = files.map(|name| name.to_string_lossy().trim_end_matches(".json").to_owned()).collect();
    files.sort();
    assert_eq!(files, table::all().iter().map(|captured| captured.name).collect::<Vec<_>>());
}
