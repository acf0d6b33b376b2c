//! Tracer that counts the system calls of a command and, at the N-th one, kills, fails it, or runs something else.
//!
//! ```text
//! ftkill MODE N REPORT CGROUP -- COMMAND ARG...
//!   MODE  ACTION | tree-ACTION
//!   ACTION
//!     count
//!     kill                   the process that makes the call
//!     errno=NUMBER           the call is not made, and answers so
//!     storm                  from N on every call that may be interrupted answers EINTR the first, third, ... time
//!     run=SHELL-COMMAND      before the call, with FTKILL_PID, and the container's first process as FTKILL_INIT
//!     each=SHELL-COMMAND     the same, and before every later call
//!     swap=A:B,C:D...        these names are exchanged before the call
//!     flip=A:B,C:D...        the same, and back before the next call
//!     mount=SOURCE:TARGET:ROOTFS  puts a mount of SOURCE over the container's TARGET, at the first call from N on where
//!                            there is one; ROOTFS is where the root lies before it is the root
//! FTKILL_PROGRAM  counts from the moment when this program is executed: what comes before, to become a user, is not counted
//! FTKILL_OWN      set: other programs that it executes (newuidmap) are not traced
//! FTKILL_THEN     once COMMAND has ended well this one is started, its words separated by newlines, and the tree of the first
//!                 traced further until that ends, too; STATUS is its
//! ```
//!
//! The command runs in the directory CGROUP. Calls of the command's own threads are counted, with `tree-` those of all
//! processes that it starts too, except of a payload: a program executed in another mount namespace than the command's.
//! REPORT then holds `CALLS NUMBER-OF-THE-CALL STATUS PLACE ENDED`, with -1 for a call that was not reached; PLACE is which
//! call it was, ENDED how many there had been when COMMAND ended. Once that is done, or the command has ended, everything
//! runs on untraced, as after a real kill.
//!
//! For x86_64 alone: registers are looked at by name.
//!
//! A program of its own, and not a thread of the tests: a tracer's death ends what it traces, and waiting for any child
//! here does not take one from someone else.

use super::overmount;
use crate::stage::shell_status;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// `PTRACE_EVENT_STOP`, which libc does not have: a stop that is neither a call nor a signal.
const EVENT_STOP: i32 = 128;

/// Calls that may be interrupted before they have done anything; close(2) is none of them: what it closes is closed.
const INTERRUPTIBLE: [i64; 30] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_flock,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_getrandom,
    libc::SYS_fsync,
];

enum Action {
    Count,
    Kill,
    Errno(i64),
    Storm,
    Run(String),
    Each(String),
    Swap(Vec<(String, String)>, Back),
    Mount([String; 3]),
}

/// Whether an exchange is undone.
#[derive(PartialEq, Clone, Copy)]
enum Back {
    Never,
    Pending,
    Due,
}

struct Tracer {
    action: Action,
    tree: bool,
    at: u64,
    calls: u64,
    /// The call at which the action was taken.
    fired: i64,
    /// Its place among all of them.
    place: i64,
    command: Pid,
    /// Counted from here on.
    program: Option<PathBuf>,
    /// What is started at the end of the command, and what of it is known by then.
    then: Option<Command>,
    ended: i64,
    /// How often each thread has made each call, in a storm.
    made: HashMap<(Pid, i64), u32>,
    /// Threads we trace, and whether each is between entry and exit of a call.
    threads: HashMap<Pid, Thread>,
    /// Everything that stops is let go.
    leaving: bool,
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
        None if mode == "storm" => Action::Storm,
        Some(("run", command)) => Action::Run(command.into()),
        Some(("each", command)) => Action::Each(command.into()),
        Some(("swap", pairs)) => Action::Swap(names(pairs), Back::Never),
        Some(("flip", pairs)) => Action::Swap(names(pairs), Back::Pending),
        Some(("mount", places)) => {
            let places: Vec<String> = places.split(':').map(Into::into).collect();
            Action::Mount(places.try_into().expect("SOURCE:TARGET:ROOTFS"))
        }
        _ => panic!("unknown mode {mode}"),
    };
    let mut tracer = Tracer {
        action,
        tree,
        at: at.parse().expect("a number"),
        calls: 0,
        fired: -1,
        place: -1,
        command,
        program: std::env::var_os("FTKILL_PROGRAM").map(PathBuf::from),
        then: std::env::var("FTKILL_THEN").ok().map(|line| {
            let mut words = line.split('\n');
            let mut then = Command::new(words.next().expect("a program"));
            then.args(words);
            then
        }),
        ended: -1,
        made: HashMap::new(),
        threads: HashMap::new(),
        leaving: false,
    };
    let status = tracer.trace().expect("trace the command");
    let Tracer { calls, fired, place, ended, .. } = tracer;
    fs::write(report, format!("{calls} {fired} {status} {place} {ended}")).expect("write the report");
    ExitCode::SUCCESS
}

fn names(pairs: &str) -> Vec<(String, String)> {
    pairs.split(',').map(|pair| pair.split_once(':').expect("A:B")).map(|(a, b)| (a.into(), b.into())).collect()
}

fn exchange(pairs: &[(String, String)]) {
    for (a, b) in pairs {
        renameat2(AT_FDCWD, a.as_str(), AT_FDCWD, b.as_str(), RenameFlags::RENAME_EXCHANGE)
            .unwrap_or_else(|error| panic!("exchange {a} and {b}: {error}"));
    }
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
        let mut further = None;
        loop {
            if status == Some(0)
                && let Some(mut then) = self.then.take()
            {
                self.ended = self.calls.cast_signed();
                status = None;
                #[expect(clippy::zombie_processes, reason = "waited for by its number")]
                let child = then.spawn().expect("start the second command");
                further = Some(Pid::from_raw(child.id().cast_signed()));
            }
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
                    if pid == further.unwrap_or(self.command) {
                        status = Some(code);
                    }
                }
                WaitStatus::Signaled(pid, signal, _) => {
                    self.threads.remove(&pid);
                    if pid == further.unwrap_or(self.command) {
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
                    if event == libc::PTRACE_EVENT_EXEC {
                        started |= self.is_program(pid);
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

    /// Whether it is the program from which on calls are counted.
    fn is_program(&self, pid: Pid) -> bool {
        let Some(program) = &self.program else { return true };
        pid == self.command && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == *program)
    }

    /// After an `execve`: threads other than this one are gone, and it may now be the payload.
    fn executed(&mut self, pid: Pid) -> nix::Result<()> {
        self.threads.entry(pid).or_default().in_call = true;
        if pid != self.command && (self.is_inside(pid) || std::env::var_os("FTKILL_OWN").is_some()) {
            self.threads.remove(&pid);
        }
        self.resume(pid, None)
    }

    /// Whether it is in another mount namespace than the command; than we, when that is gone.
    fn is_inside(&self, pid: Pid) -> bool {
        let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/mnt")).ok();
        namespace(&pid.to_string()) != namespace(&self.command.to_string()).or_else(|| namespace("self"))
    }

    /// The container's first process, as long as it is ours to trace.
    fn init(&self) -> Option<Pid> {
        self.threads.keys().copied().find(|pid| *pid != self.command && self.is_inside(*pid))
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
        if let Action::Swap(pairs, back) = &mut self.action
            && *back == Back::Due
        {
            exchange(pairs);
            *back = Back::Never;
        }
        let wanted = match self.action {
            Action::Storm | Action::Each(_) => self.calls >= self.at,
            Action::Mount(_) => self.calls >= self.at && self.fired < 0,
            _ => self.calls == self.at && self.fired < 0,
        };
        if wanted {
            self.fire(pid)?;
        }
        self.resume(pid, None)
    }

    fn fire(&mut self, pid: Pid) -> nix::Result<()> {
        let Some(mut registers) = gone_is_fine(ptrace::getregs(pid))? else { return Ok(()) };
        let call = registers.orig_rax.cast_signed();
        let init = self.init();
        let mut fails = None;
        match &mut self.action {
            Action::Count => return Ok(()),
            Action::Kill => {
                gone_is_fine(kill(pid, Signal::SIGKILL))?;
                self.leaving = true;
                self.let_go();
            }
            Action::Errno(errno) => fails = Some(*errno),
            Action::Storm => {
                if !INTERRUPTIBLE.contains(&call) {
                    return Ok(());
                }
                let made = self.made.entry((pid, call)).or_default();
                *made += 1;
                fails = (*made % 2 == 1).then_some(i64::from(libc::EINTR));
            }
            Action::Run(command) | Action::Each(command) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", command]).env("FTKILL_PID", pid.to_string());
                let status = shell.env("FTKILL_INIT", init.map_or_else(String::new, |pid| pid.to_string())).status();
                let status = status.expect("run the command");
                assert!(status.success(), "{command}: status {}", shell_status(&status));
            }
            Action::Swap(pairs, back) => {
                exchange(pairs);
                if *back == Back::Pending {
                    *back = Back::Due;
                }
            }
            Action::Mount([source, target, rootfs]) => {
                let Some(init) = init else { return Ok(()) };
                if !overmount::cover(init, source, target, Path::new(rootfs)) {
                    return Ok(());
                }
            }
        }
        if let Some(errno) = fails {
            // No such call: the kernel does nothing, and its exit is where the answer is put.
            registers.orig_rax = u64::MAX;
            gone_is_fine(ptrace::setregs(pid, registers))?;
            if let Some(thread) = self.threads.get_mut(&pid) {
                thread.fail_with = Some(errno);
            }
        }
        self.fired = call;
        self.place = self.calls.cast_signed();
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
