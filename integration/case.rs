//! One test: a function, its name, and where it cannot run and why.

use libtest_mimic::Trial;
use std::path::Path;

/// A test and what it needs. Made by [`case!`](crate::case!).
pub struct Case {
    name: String,
    run: Box<dyn FnOnce() + Send>,
    vm: bool,
    systemd: bool,
    ignored: Option<String>,
}

/// Makes a [`Case`] of a function, named `module::function`.
#[macro_export]
macro_rules! case {
    ($run:ident) => {
        $crate::case::Case::new(module_path!(), stringify!($run), $run)
    };
}

impl Case {
    pub fn new(module: &str, name: &str, run: fn()) -> Case {
        Case::of(module, name, run)
    }

    /// For one of a table.
    pub fn of(module: &str, name: &str, run: impl FnOnce() + Send + 'static) -> Case {
        let topic = module.split_once("::").map_or(module, |(_, topic)| topic);
        Case { name: format!("{topic}::{name}"), run: Box::new(run), vm: false, systemd: false, ignored: None }
    }

    /// Runs in the virtual machine alone, because of `what` is needed.
    pub fn vm(mut self, what: &str) -> Case {
        self.vm = true;
        if !crate::stage::vm() {
            self.ignored = Some(format!("needs the virtual machine: {what}"));
        }
        self
    }

    /// Runs nowhere but where there is `what`, and that is not here.
    pub fn without(mut self, what: &str) -> Case {
        self.ignored = Some(format!("needs {what}"));
        self
    }

    /// Runs where Linux is that new, for `what` is needed.
    pub fn since(mut self, major: u32, minor: u32, what: &str) -> Case {
        let here = nix::sys::utsname::uname().expect("ask for the kernel's name");
        let release = here.release().to_string_lossy();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
        if (numbers.next(), numbers.next()) < (Some(major), Some(minor)) {
            self.ignored = Some(format!("needs Linux {major}.{minor}: {what}"));
        }
        self
    }

    /// Runs in the virtual machine that systemd has booted, and that one runs no others.
    pub fn systemd(mut self) -> Case {
        self.systemd = true;
        if !crate::stage::systemd() && self.ignored.is_none() {
            self.ignored = Some("needs the virtual machine with systemd".into());
        }
        self
    }

    /// Runs here and in the virtual machine: there is more to see there.
    pub fn both(mut self) -> Case {
        self.vm = true;
        self
    }

    /// Does not run with that runtime, because it differs as the reason says.
    pub fn except(mut self, runtime: &str, reason: &str) -> Case {
        if name_of_runtime() == runtime {
            self.ignored = Some(format!("{runtime}: {reason}"));
        }
        self
    }

    /// Runs with Onggi alone: the behaviour is ours, as the reason says.
    pub fn ours(self, reason: &str) -> Case {
        match name_of_runtime().as_str() {
            "onggi" => self,
            other => self.except(other, reason),
        }
    }

    /// Whether it is to be run, or shown, at all.
    pub fn is_wanted(&self) -> bool {
        match crate::stage::systemd() {
            true => self.systemd,
            false => self.vm || !crate::stage::vm_only(),
        }
    }

    pub fn trial(self) -> Trial {
        let run = self.run;
        let ignored = self.ignored.is_some();
        let kind = self.ignored.unwrap_or_default();
        Trial::test(self.name, move || {
            run();
            Ok(())
        })
        .with_kind(kind)
        .with_ignored_flag(ignored)
    }
}

/// Path or name of the runtime that is tested: `RUNTIME`, else the one that was built along with the tests.
pub fn runtime() -> String {
    std::env::var("RUNTIME").unwrap_or_else(|_| env!("CARGO_BIN_EXE_onggi").into())
}

/// Its last path component.
pub fn name_of_runtime() -> String {
    let runtime = runtime();
    Path::new(&runtime).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
