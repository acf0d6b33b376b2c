//! Tracer that counts the system calls of a command and, at the N-th one, kills, fails it, or runs something else.
//!
//! ```text
//! ftkill MODE N REPORT CGROUP -- COMMAND ARG...
//!   MODE  count | kill | tree-kill | errno=NUMBER | tree-errno=NUMBER | run=SHELL-COMMAND | tree-each=SHELL-COMMAND
//! ```
//!
//! The command runs in the directory CGROUP. Calls of the command's own threads are counted, with `tree-` those of all
//! processes that it starts too, except of a payload: a program executed in another mount namespace than ours. The process
//! that makes the N-th call is the one that is killed. `each` runs its command at that call and at every later one. REPORT then holds `CALLS NUMBER-OF-THE-CALL STATUS`, with -1 for
//! a call that was not reached. Once that is done, or the command has ended, everything runs on untraced, as after a real kill.
//!
//! A program of its own, and not a thread of the tests: a tracer's death ends what it traces, and waiting for any child
//! here does not take one from someone else.

use crate::stage::shell_status;
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs;
use std::process::{Command, ExitCode};

/// `PTRACE_EVENT_STOP`, which libc does not have: a stop that is neither a call nor a signal.
const EVENT_STOP: i32 = 128;

enum Action {
    Count,
    Kill,
    Errno(i64),
    Run(String),
    Each(String),
}

struct Tracer {
    action: Action,
    tree: bool,
    at: u64,
    calls: u64,
    /// The call at which the action was taken.
    fired: i64,
    command: Pid,
    /// Threads we trace, and whether each is between entry and exit of a call.
    threads: HashMap<Pid, Thread>,
    /// Everything that stops is let go.
    leaving: bool,
    namespace: std::path::PathBuf,
}

#[derive(Default)]
struct Thread {
    in_call: bool,
    fail_with: Option<i64>,
}

#[expect(clippy::zombie_processes, reason = "waited for by its number, along with all else that is traced")]
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let [_, mode, at, report, cgroup, dashes, command @ ..] = args.as_slice() else {
        eprintln!("usage: ftkill MODE N REPORT CGROUP -- COMMAND ARG...");
        return ExitCode::from(64);
    };
    assert_eq!(dashes, "--");
    // It stops itself, so that we are attached before its first call of interest.
    let script = r#"echo 0 >"$0/cgroup.procs" && kill -STOP $$ && exec "$@""#;
    let child = Command::new("sh").args(["-c", script, cgroup]).args(command).spawn().expect("start the command");
    let command = Pid::from_raw(child.id().cast_signed());
    let (tree, mode) = mode.strip_prefix("tree-").map_or((false, mode.as_str()), |mode| (true, mode));
    let action = match mode.split_once('=') {
        None if mode == "count" => Action::Count,
        None if mode == "kill" => Action::Kill,
        Some(("errno", number)) => Action::Errno(number.parse().expect("a number")),
        Some(("run", command)) => Action::Run(command.into()),
        Some(("each", command)) => Action::Each(command.into()),
        _ => panic!("unknown mode {mode}"),
    };
    let mut tracer = Tracer {
        action,
        tree,
        at: at.parse().expect("a number"),
        calls: 0,
        fired: -1,
        command,
        threads: HashMap::new(),
        leaving: false,
        namespace: fs::read_link("/proc/self/ns/mnt").expect("our mount namespace"),
    };
    let status = tracer.trace().expect("trace the command");
    fs::write(report, format!("{} {} {status}", tracer.calls, tracer.fired)).expect("write the report");
    ExitCode::SUCCESS
}

impl Tracer {
    /// Runs the command to its end; its exit status.
    fn trace(&mut self) -> nix::Result<i32> {
        waitpid(self.command, Some(WaitPidFlag::WUNTRACED))?;
        let mut options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACEEXEC;
        options |= Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK;
        ptrace::seize(self.command, options)?;
        self.threads.insert(self.command, Thread::default());
        kill(self.command, Signal::SIGCONT)?;
        // Counted from the moment when the command's program runs, which is its execve event.
        let mut started = false;
        let mut status = None;
        loop {
            if status.is_some() {
                self.let_go();
                if self.threads.is_empty() {
                    return Ok(status.unwrap_or(0));
                }
            }
            let event = match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Err(Errno::ECHILD) => return Ok(status.unwrap_or(0)),
                event => event?,
            };
            match event {
                WaitStatus::Exited(pid, code) => {
                    self.threads.remove(&pid);
                    if pid == self.command {
                        status = Some(code);
                    }
                }
                WaitStatus::Signaled(pid, signal, _) => {
                    self.threads.remove(&pid);
                    if pid == self.command {
                        status = Some(128 + signal as i32);
                    }
                }
                WaitStatus::PtraceSyscall(pid) if self.leaving || !started => self.resume(pid, None)?,
                WaitStatus::PtraceSyscall(pid) => self.call(pid)?,
                // Also for a stop by SIGSTOP, which does not last under us: nothing that is traced here stops itself.
                WaitStatus::PtraceEvent(pid, _, EVENT_STOP) => {
                    self.appeared(pid);
                    self.resume(pid, None)?;
                }
                WaitStatus::PtraceEvent(pid, _, event) => {
                    if event == nix::libc::PTRACE_EVENT_EXEC {
                        started = true;
                        self.executed(pid)?;
                    } else {
                        self.resume(pid, None)?;
                    }
                }
                WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal))?,
                _ => {}
            }
        }
    }

    /// A thread's first stop: ours to trace, or not.
    fn appeared(&mut self, pid: Pid) {
        if self.threads.contains_key(&pid) {
            return;
        }
        let own_thread = fs::metadata(format!("/proc/{}/task/{pid}", self.command)).is_ok();
        if (self.tree || own_thread) && !self.leaving {
            self.threads.insert(pid, Thread::default());
        }
    }

    /// After an `execve`: threads other than this one are gone, and it may now be the payload.
    fn executed(&mut self, pid: Pid) -> nix::Result<()> {
        self.threads.entry(pid).or_default().in_call = true;
        let namespace = fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap_or_default();
        if pid != self.command && namespace != self.namespace {
            self.threads.remove(&pid);
        }
        self.resume(pid, None)
    }

    /// Entry or exit of a call.
    fn call(&mut self, pid: Pid) -> nix::Result<()> {
        let Some(thread) = self.threads.get_mut(&pid) else { return self.resume(pid, None) };
        thread.in_call = !thread.in_call;
        if !thread.in_call {
            if let Some(errno) = thread.fail_with.take() {
                let mut registers = gone_is_fine(ptrace::getregs(pid))?;
                if let Some(registers) = &mut registers {
                    registers.rax = (-errno).cast_unsigned();
                    gone_is_fine(ptrace::setregs(pid, *registers))?;
                }
            }
            return self.resume(pid, None);
        }
        self.calls += 1;
        let each = matches!(self.action, Action::Each(_)) && self.calls > self.at;
        if each || self.calls == self.at && self.fired < 0 {
            self.fire(pid)?;
        }
        self.resume(pid, None)
    }

    fn fire(&mut self, pid: Pid) -> nix::Result<()> {
        let Some(mut registers) = gone_is_fine(ptrace::getregs(pid))? else { return Ok(()) };
        self.fired = registers.orig_rax.cast_signed();
        match &self.action {
            Action::Count => self.fired = -1,
            Action::Kill => {
                gone_is_fine(kill(pid, Signal::SIGKILL))?;
                self.leaving = true;
                self.let_go();
            }
            Action::Errno(errno) => {
                // No such call: the kernel does nothing, and its exit is where the answer is put.
                registers.orig_rax = u64::MAX;
                ptrace::setregs(pid, registers)?;
                if let Some(thread) = self.threads.get_mut(&pid) {
                    thread.fail_with = Some(*errno);
                }
            }
            Action::Run(command) | Action::Each(command) => {
                let status = Command::new("sh").args(["-c", command]).status().expect("run the command");
                assert!(status.success(), "{command}: status {}", shell_status(&status));
            }
        }
        Ok(())
    }

    /// Makes every thread stop, so that it can be let go.
    fn let_go(&mut self) {
        self.leaving = true;
        let command = self.command;
        self.threads.retain(|pid, _| *pid == command || ptrace::interrupt(*pid).is_ok());
        let _ = ptrace::interrupt(command);
    }

    fn resume(&mut self, pid: Pid, signal: Option<Signal>) -> nix::Result<()> {
        gone_is_fine(if self.leaving || !self.threads.contains_key(&pid) {
            self.threads.remove(&pid);
            ptrace::detach(pid, signal)
        } else {
            ptrace::syscall(pid, signal)
        })?;
        Ok(())
    }
}

/// A thread may be killed at any moment, also by us; its end is told by `waitpid`.
fn gone_is_fine<T>(result: nix::Result<T>) -> nix::Result<Option<T>> {
    match result {
        Err(Errno::ESRCH) => Ok(None),
        other => other.map(Some),
    }
}
