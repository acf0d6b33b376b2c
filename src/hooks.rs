//! Hooks: programs that the caller wants run at set points of a container's life (config.md, "POSIX-platform Hooks").
//!
//! Runs those of the runtime's namespaces. The ones of createContainer and startContainer are executed by the container's
//! init with [`spawn::run`], the same code; [`Laid`] prepares them and words their failures.
//!
//! A hook gets its own session, exactly the environment that it names, the bundle as its directory, the container's state
//! on stdin, and no descriptor but 0, 1 and 2 (SEC-30). Its last words are in the error, because an exit status alone has
//! never helped anybody (runc#733).

use crate::config::{Hook, Hooks};
use crate::error::{Context, Error, Result};
use crate::sys::pidfd::Exit;
use crate::sys::spawn::{self, End, Program, Report, StringList};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// How much of a hook's output is kept, in bytes.
pub const KEPT: usize = 4096;

/// The point of the life at which a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `prestart`, deprecated: as createRuntime, before it.
    Prestart,
    /// `createRuntime`: namespaces exist, the root is not yet pivoted; in the runtime's namespaces.
    CreateRuntime,
    /// `createContainer`: the same moment, in the container's namespaces.
    CreateContainer,
    /// `startContainer`: just before the program, in the container.
    StartContainer,
    /// `poststart`: just after the program was started; in the runtime's namespaces.
    Poststart,
    /// `poststop`: after the container was deleted; in the runtime's namespaces.
    Poststop,
}

impl Stage {
    /// The name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// The hooks of this stage, in the order in which they run.
    pub fn of(self, hooks: &Hooks) -> &[Hook] {
        #[allow(deprecated)] // prestart is, in the specification too; engines still use it
        let list = match self {
            Self::Prestart => hooks.prestart(),
            Self::CreateRuntime => hooks.create_runtime(),
            Self::CreateContainer => hooks.create_container(),
            Self::StartContainer => hooks.start_container(),
            Self::Poststart => hooks.poststart(),
            Self::Poststop => hooks.poststop(),
        };
        list.as_deref().unwrap_or_default()
    }
}

/// Files that take the hooks' output in place of the error message (`run.oci.hooks.stdout`, `run.oci.hooks.stderr`).
#[derive(Debug, Default)]
pub struct Output {
    /// For stdout.
    pub stdout: Option<File>,
    /// For stderr.
    pub stderr: Option<File>,
}

impl Output {
    /// Opens the files that the annotations name, to append.
    pub fn open(annotations: &BTreeMap<String, String>) -> Result<Self> {
        let open = |name: &str| {
            let Some(path) = annotations.get(name) else { return Ok(None) };
            // Not blocking, so that a FIFO without a reader is an error and not a hang.
            let mut options = OpenOptions::new();
            let options = options.append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
            let file = options
                .open(path)
                .step("open", || format!("open {path} for the output of hooks"))
                .map_err(|e| e.at(format!("/annotations/{name}")))?;
            fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND)).step("fcntl", || format!("set {path} to block"))?;
            Ok(Some(file))
        };
        Ok(Self { stdout: open("run.oci.hooks.stdout")?, stderr: open("run.oci.hooks.stderr")? })
    }
}

/// Runs the hooks of a stage one after another, in the runtime's namespaces; stops at the first that fails.
/// `state_json` is the state document that each reads on stdin, `bundle` the directory in which each starts.
pub fn run(stage: Stage, hooks: &[Hook], state_json: &[u8], bundle: &Path, output: &Output) -> Result<()> {
    hooks.iter().enumerate().try_for_each(|(n, hook)| run_one(stage, n, hook, state_json, bundle, output))
}

/// Runs all hooks of a stage, whatever becomes of each: `poststop`, whose failures are warnings.
pub fn run_all(stage: Stage, hooks: &[Hook], state_json: &[u8], bundle: &Path, output: &Output) -> Vec<Error> {
    let one = |(n, hook)| run_one(stage, n, hook, state_json, bundle, output).err();
    hooks.iter().enumerate().filter_map(one).collect()
}

fn run_one(stage: Stage, n: usize, hook: &Hook, state_json: &[u8], bundle: &Path, output: &Output) -> Result<()> {
    let laid = Laid::new(stage, n, hook)?;
    let cwd = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_PATH)
        .open(bundle)
        .step("open", || format!("open the bundle {}", bundle.display()))?;
    let parts = [state_json];
    let program = Program {
        cwd: Some(cwd.as_fd()),
        stdin: &parts,
        stdout: output.stdout.as_ref().map(AsFd::as_fd),
        stderr: output.stderr.as_ref().map(AsFd::as_fd),
        kill_session: Some(kill_session),
        ..laid.program()
    };
    let mut buffer = [0; KEPT];
    let report = spawn::run(&program, &mut buffer).step("clone", || laid_step(stage, n)).map_err(|e| e.at(pointer(stage, n)))?;
    laid.outcome(&report, buffer.get(..report.captured).unwrap_or_default())
}

/// A hook with its strings laid out for execve(2), so that a process that must not allocate can run it.
#[derive(Debug)]
pub struct Laid {
    stage: Stage,
    index: usize,
    path: CString,
    argv: StringList,
    env: StringList,
    timeout: Option<Duration>,
}

impl Laid {
    /// Checks hook `index` of `stage` and lays it out. The error names the field.
    pub fn new(stage: Stage, index: usize, hook: &Hook) -> Result<Self> {
        let bad = |field: &str, cause: &str| Error::new(laid_step(stage, index), cause).at(pointer(stage, index) + field);
        if !hook.path().is_absolute() {
            return Err(bad("/path", "path must be absolute"));
        }
        let path = CString::new(hook.path().as_os_str().as_bytes()).map_err(|_| bad("/path", "path holds a zero byte"))?;
        let strings = |list: &Option<Vec<String>>, field| {
            let list = list.as_deref().unwrap_or_default().iter();
            list.map(|s| CString::new(s.as_str()).map_err(|_| bad(field, "a zero byte"))).collect::<Result<Vec<_>>>()
        };
        let (mut argv, env) = (strings(hook.args(), "/args")?, strings(hook.env(), "/env")?);
        if argv.is_empty() {
            argv.push(path.clone());
        }
        let timeout = match hook.timeout().map(u64::try_from) {
            None => None,
            Some(Ok(seconds)) if seconds > 0 => Some(Duration::from_secs(seconds)),
            Some(_) => return Err(bad("/timeout", "timeout must be greater than zero")),
        };
        Ok(Self { stage, index, path, argv: StringList::new(argv), env: StringList::new(env), timeout })
    }

    /// The same with `environment` where the hook names none.
    #[must_use]
    pub fn or_environment(mut self, hook: &Hook, environment: &[CString]) -> Self {
        if hook.env().is_none() {
            self.env = StringList::new(environment.to_vec());
        }
        self
    }

    /// The program to run: without input, directory or files for its output, which the caller fills in. Does not allocate.
    pub fn program(&self) -> Program<'_> {
        Program {
            path: &self.path,
            argv: self.argv.laid_out(),
            env: self.env.laid_out(),
            cwd: None,
            stdin: &[],
            stdout: None,
            stderr: None,
            timeout: self.timeout,
            kill_session: None,
        }
    }

    /// Words how the hook went, with the last bytes of its output; `Ok` if it went well.
    pub fn outcome(&self, report: &Report, output: &[u8]) -> Result<()> {
        let path = self.path.to_string_lossy();
        let step = format!("{}: {path}", laid_step(self.stage, self.index));
        // Init has no clock to spare for the hooks that it runs.
        let took = if report.took.is_zero() { String::new() } else { format!(" after {:.3} s", report.took.as_secs_f64()) };
        let error = match report.end {
            End::Exited(exit) if exit.success() => return Ok(()),
            End::NotRun(call, errno) => {
                let e = Error::sys(step, call, errno.into());
                match not_run_hint(call, errno) {
                    "" => e,
                    hint => e.hint(hint),
                }
            }
            End::Exited(Exit::Code(code)) => {
                Error::new(step, format!("exit status {code}{took}") + &last_words(output, report.cut))
            }
            End::Exited(Exit::Signal { signal, core }) => {
                let core = if core { ", core dumped" } else { "" };
                Error::new(
                    step,
                    format!("killed by signal {}{core}{took}", signal_name(signal)) + &last_words(output, report.cut),
                )
            }
            End::TimedOut => {
                let limit = self.timeout.unwrap_or_default().as_secs();
                Error::new(step, format!("timeout of {limit} s exceeded, killed{took}") + &last_words(output, report.cut))
            }
        };
        Err(error.at(pointer(self.stage, self.index)))
    }
}

fn laid_step(stage: Stage, n: usize) -> String {
    format!("error running {} hook #{n}", stage.name())
}

fn pointer(stage: Stage, n: usize) -> String {
    format!("/hooks/{}/{n}", stage.name())
}

fn not_run_hint(call: &str, errno: nix::errno::Errno) -> &'static str {
    match (call, errno) {
        ("execve", nix::errno::Errno::ENOENT) => "the file, or the interpreter that it names, is missing",
        ("execve", nix::errno::Errno::EACCES) => "is it a file, executable, and on a file system without noexec?",
        ("execve", nix::errno::Errno::ENOEXEC) => "a script needs a #! line; a binary must be for this architecture",
        _ => "",
    }
}

fn signal_name(signal: u8) -> String {
    let known = nix::sys::signal::Signal::try_from(i32::from(signal));
    known.map_or_else(|_| signal.to_string(), |known| known.as_str().to_owned())
}

/// A hook's output as part of one line: lines joined, and nothing that a terminal would obey.
fn last_words(output: &[u8], cut: bool) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return String::new();
    }
    let clean: String = lines.join("; ").chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    format!(", stderr: {}{clean}", if cut { "..." } else { "" })
}

/// Kills the members of a session that have left its leader's process group, as a shell's background jobs do. Those that
/// vanish while this looks are dead already, which is what was wanted.
fn kill_session(session: libc::pid_t) {
    let Ok(processes) = procfs::process::all_processes() else { return };
    for process in processes.flatten() {
        if process.pid != session
            && process.stat().is_ok_and(|stat| stat.session == session)
            && let Ok(pidfd) = crate::sys::pidfd::open(process.pid)
            // Asked again under the descriptor: the number may have come to name another since.
            && process.stat().is_ok_and(|stat| stat.session == session)
        {
            let _gone = crate::sys::pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(json: &str) -> Hook {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_field_is_named_when_a_hook_is_wrong() {
        let error = |json: &str| Laid::new(Stage::CreateRuntime, 2, &hook(json)).unwrap_err().to_string();
        assert_eq!(
            error(r#"{"path":"bin/x"}"#),
            "/hooks/createRuntime/2/path: error running createRuntime hook #2: path must be absolute"
        );
        for timeout in ["0", "-1"] {
            let json = format!(r#"{{"path":"/x","timeout":{timeout}}}"#);
            let message = error(&json);
            assert!(message.starts_with("/hooks/createRuntime/2/timeout: "), "{message}");
        }
        assert!(error(r#"{"path":"/x","env":["A=\u0000"]}"#).starts_with("/hooks/createRuntime/2/env: "));
    }

    #[test]
    fn output_is_one_line_that_no_terminal_obeys() {
        assert_eq!(last_words(b"one\n\n two\x1b[31m\r\n", true), ", stderr: ...one; two\u{fffd}[31m");
        assert_eq!(last_words(b" \n", false), "");
    }

    #[test]
    fn stages_pick_their_own_hooks() {
        let hooks: Hooks = serde_json::from_str(r#"{"poststop":[{"path":"/a"},{"path":"/b"}]}"#).unwrap();
        assert_eq!(Stage::Poststop.of(&hooks).len(), 2);
        assert!(Stage::Prestart.of(&hooks).is_empty());
    }
}
