//! `make order`: which functions the commands run, for the linker to lay them side by side (`order.ld`). A file is mapped in
//! pieces of 16 pages, each when it is first touched (4 microseconds where that was measured), and what a command runs is
//! strewn over the whole program otherwise.
//!
//! The commands are executed step by step, once with the default bundle and once with Docker's; where a step is, the
//! linker's map tells (lld's or GNU ld's).

use crate::bundles::Bundle;
use crate::runtime::Runtime;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Which part of a command runs a section.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// All of a command that makes no process in a container; what others do on the host's binary.
    First,
    /// What is done when the program has left the host's binary: all of it is mapped anew then (`src/seal.rs`).
    Out,
    /// The process in the container, which maps nothing of what its parent has.
    Child,
}

type Verb = &'static str;

/// Who runs a section, by the pattern that names it.
#[derive(Default)]
pub struct Order(BTreeMap<String, BTreeSet<(Verb, Part)>>);

impl Order {
    /// Steps through the commands of a program, whose map is beside it.
    pub fn add(&mut self, runtime: &Runtime, bundles: &[&Bundle]) {
        let map = Map::of(Path::new(&format!("{}.map", runtime.program())));
        for bundle in bundles {
            let id = "order";
            self.see("create", &map, steps(&runtime.create(bundle, id, "sleep")));
            for verb in SHORT.into_iter().filter(|verb| *verb != "delete") {
                self.see(verb, &map, steps(&runtime.on(bundle, verb, id)));
            }
            self.see("exec", &map, steps(&runtime.exec(bundle, id)));
            let pid = runtime.pid(id);
            nix::sys::signal::kill(Pid::from_raw(pid.cast_signed()), nix::sys::signal::SIGKILL).expect("kill a container");
            crate::measure::reap(pid);
            self.see("delete", &map, steps(&runtime.on(bundle, "delete", id)));
            self.see("run", &map, steps(&runtime.run(bundle, "run", "true")));
        }
    }

    fn see(&mut self, verb: Verb, map: &Map, steps: BTreeSet<(Part, u64)>) {
        for (part, address) in steps {
            if let Some(pattern) = map.section(address) {
                self.0.entry(pattern.to_owned()).or_default().insert((verb, part));
            }
        }
    }

    /// The linker script: what the process in the container runs, then what `exec` does on the host's binary, then what the
    /// short commands run, the most common first, then the rest of `exec`, then what others do on the host's binary: of the
    /// orders that were tried the one in which commands touch the fewest pieces.
    pub fn script(&self) -> String {
        let rank = |runs: &BTreeSet<(Verb, Part)>| {
            let has = |run: (Verb, Part)| runs.contains(&run);
            let short = SHORT.into_iter().filter(|verb| has((verb, Part::First))).count();
            let child = runs.iter().any(|(_, part)| *part == Part::Child);
            let makes = ["create", "run"].into_iter().any(|verb| has((verb, Part::First)));
            Reverse((child, has(("exec", Part::First)), short, has(("exec", Part::Out)), makes))
        };
        let mut patterns: Vec<_> = self.0.iter().map(|(pattern, runs)| (rank(runs), pattern)).collect();
        patterns.sort();
        let lines: String = patterns.into_iter().map(|(_, pattern)| format!("        {pattern}\n")).collect();
        format!("{HEAD}{lines}{TAIL}")
    }
}

const SHORT: [Verb; 5] = ["list", "state", "start", "kill", "delete"];

/// At the address where a piece begins. Every command runs the first of these two.
const HEAD: &str = "\
/* Made by `make order`, which tells why. What is named here and is not there any more does no harm, and what is there and is
   not named lies with the rest. */
SECTIONS
{
    .text.used ALIGN(0x10000) : {
        KEEP (*(SORT_NONE(.init)))
        KEEP (*(SORT_NONE(.fini)))
";

const TAIL: &str = "    }\n}\nINSERT BEFORE .text;\n";

/// The addresses of a command's instructions; of the process that it makes, too, until that executes another program.
fn steps(words: &[String]) -> BTreeSet<(Part, u64)> {
    let (program, arguments) = words.split_first().expect("a command");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: one system call.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    let id = command.spawn().map(|child| child.id()).expect("start a command");
    let main = Pid::from_raw(id.cast_signed());
    let mut seen = BTreeSet::new();
    let mut part = Part::First;
    let mut threads = vec![main];
    loop {
        let status = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL)).expect("wait for a step");
        let pid = status.pid().expect("a process");
        let signal = match status {
            WaitStatus::Exited(ended, code) if ended == main => {
                assert_eq!(code, 0, "{words:?}");
                return seen;
            }
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => continue,
            WaitStatus::PtraceEvent(child, _, nix::libc::PTRACE_EVENT_EXEC) if child != main => {
                ptrace::detach(child, None).expect("leave a program alone");
                continue;
            }
            WaitStatus::PtraceEvent(maker, _, nix::libc::PTRACE_EVENT_CLONE) => {
                let thread = ptrace::getevent(maker).expect("learn of a thread");
                threads.push(Pid::from_raw(thread.try_into().expect("a thread's id")));
                None
            }
            WaitStatus::Stopped(_, nix::sys::signal::SIGTRAP | nix::sys::signal::SIGSTOP) => {
                if seen.is_empty() {
                    let all = Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK;
                    ptrace::setoptions(pid, all | Options::PTRACE_O_TRACEEXEC).expect("trace its children");
                }
                let registers = ptrace::getregs(pid).expect("read the registers");
                if (registers.rax.cast_signed(), registers.rdi) == (libc::SYS_prctl, libc::PR_SET_MM as u64) {
                    part = Part::Out;
                }
                seen.insert((if threads.contains(&pid) { part } else { Part::Child }, registers.rip));
                None
            }
            WaitStatus::Stopped(_, signal) => Some(signal),
            _ => None,
        };
        ptrace::step(pid, signal).expect("do a step");
    }
}

/// Where the sections of code lie: address, length, the pattern that names it.
struct Map(Vec<Section>);

impl Map {
    fn of(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        let mut sections: Vec<_> = of_lld(&text).chain(of_gnu(&text)).collect();
        assert!(!sections.is_empty(), "{}: no map of a linker that is known", path.display());
        sections.sort();
        Self(sections)
    }

    fn section(&self, address: u64) -> Option<&str> {
        let (start, size, pattern) = self.0.get(self.0.partition_point(|(start, ..)| *start <= address).checked_sub(1)?)?;
        (address - start < *size).then_some(pattern)
    }
}

type Section = (u64, u64, String);

/// `VMA LMA SIZE ALIGN FILE:(SECTION)`, the numbers but the alignment in hexadecimal.
fn of_lld(text: &str) -> impl Iterator<Item = Section> {
    text.lines().filter_map(|line| {
        let (place, section) = line.trim_end().strip_suffix(')')?.rsplit_once(":(")?;
        let mut words = place.split_whitespace();
        let mut number = || u64::from_str_radix(words.next()?, 16).ok();
        let (address, _, size) = (number()?, number()?, number()?);
        let file = words.nth(1)?;
        section.starts_with(".text").then(|| (address, size, pattern(file, section)))
    })
}

/// ` SECTION 0xADDRESS 0xSIZE FILE`, where a long name has a line of its own.
fn of_gnu(text: &str) -> impl Iterator<Item = Section> {
    let mut name = "";
    text.lines().filter_map(move |line| {
        let mut words = line.split_whitespace().peekable();
        if line.starts_with(" .") {
            name = words.next()?;
        }
        let mut number = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
        let (address, size) = (number()?, number()?);
        let file = words.next()?;
        (name.starts_with(".text") && address > 0).then(|| (address, size, pattern(file, name)))
    })
}

/// What names a section in builds to come as well: without hashes of compiler and crate in it.
fn pattern(file: &str, section: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    let name = without_hashes(section);
    match base.strip_suffix(')').and_then(|base| base.split_once(".a(")) {
        _ if name.contains("_ZN") || name.contains("_R") => format!("*({name})"),
        Some((archive, member)) => format!("*{archive}.a:{member}({name})"),
        None if base.ends_with(".rcgu.o") => format!("*({name})"),
        None => format!("*{base}({name})"),
    }
}

fn without_hashes(section: &str) -> String {
    // Legacy mangling: 17h, sixteen digits, E.
    if let Some((name, _)) = section.split_once("17h") {
        return format!("{name}17h*");
    }
    // The other: Cs, a number of base 62, an underscore.
    let mut parts = section.split("Cs");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| match part.split_once('_') {
        Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_alphanumeric()) => format!("{name}Cs*_{rest}"),
        _ => format!("{name}Cs{part}"),
    })
}
