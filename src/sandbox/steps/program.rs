//! The program: found as its user, run, and, when the kernel refuses it, looked at to say why.

use crate::plan::{Action, ChildHook, Plan};
use crate::sandbox::child::{Call, Child, Fail};
use crate::sandbox::passwd::Line;
use crate::sandbox::report::{Detail, Kind, Report};
use crate::sys::inroot;
use crate::sys::pidfd::Exit;
use crate::sys::spawn::{self, End, Program, StringList};
use crate::sys::{elf, fs, process, vfs};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

/// Largest part of the container's /etc/passwd that is looked at: a file of any size may lie there.
const PASSWD_LIMIT: usize = 1 << 20;

/// Replaces the placeholder in the environment by the user's home directory; `/` when the container does not tell.
pub(super) fn home(child: &mut Child, envp: &mut StringList, entry: usize, uid: u32) -> Result<(), Fail> {
    let root = child.root.as_ref().ok_or_else(|| Fail::call("openat2", Errno::EBADF))?;
    let room = std::mem::take(&mut child.given.home);
    let prefix = b"HOME=";
    let start = prefix.len();
    // One byte stays for the NUL.
    let limit = room.len().saturating_sub(1);
    let len = room.get_mut(start..limit).and_then(|space| look_up_home(root.as_fd(), uid, space));
    let end = start + len.unwrap_or(1);
    if let Some(space) = room.get_mut(..start) {
        space.copy_from_slice(prefix);
    }
    if len.is_none()
        && let Some(first) = room.get_mut(start)
    {
        *first = b'/';
    }
    if let Some(nul) = room.get_mut(end) {
        *nul = 0;
    }
    let room: &'static [u8] = room;
    let text = CStr::from_bytes_until_nul(room).map_err(|_| Fail::call("execve", Errno::EINVAL))?;
    envp.point(entry, text);
    Ok(())
}

/// The home directory of `uid` in etc/passwd, into `space`. Only a regular file is read, and no more than the limit.
fn look_up_home(root: BorrowedFd<'_>, uid: u32, space: &mut [u8]) -> Option<usize> {
    let file = inroot::open(root, c"/etc/passwd", libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0).ok()?;
    if fs::kind(fs::stat(file.as_fd()).ok()?.st_mode) != libc::S_IFREG {
        return None;
    }
    let mut buffer = [0u8; 4096];
    let mut line = Line::of(uid);
    let mut total = 0;
    while total < PASSWD_LIMIT {
        let n = fs::read_full(file.as_fd(), &mut buffer).ok()?;
        total += n;
        for &byte in buffer.get(..n)? {
            if line.push(byte, space) {
                return Some(line.len());
            }
        }
        if n < buffer.len() {
            break;
        }
    }
    // The last line may lack its newline.
    line.push(b'\n', space).then_some(line.len())
}

/// Finds the program: a name with a slash is the one candidate, any other is looked for in PATH. Opens nothing: the limit
/// of open files is the program's by now.
pub(super) fn find(child: &mut Child, name: &CStr, candidates: &[std::ffi::CString]) -> Result<(), Fail> {
    if name.to_bytes().contains(&b'/') {
        return match fs::is_directory(name) {
            Ok(true) => Err(Fail::call("execve", Errno::EISDIR)),
            Ok(false) => fs::executable(fs::cwd(), name).map_err(|e| not_executable(name, e)),
            Err(e) => Err(Fail::call("stat", e)),
        };
    }
    for (n, candidate) in candidates.iter().enumerate() {
        if fs::is_directory(candidate) != Ok(false) {
            continue;
        }
        match fs::executable(fs::cwd(), candidate) {
            Ok(()) => {
                child.program = n;
                return Ok(());
            }
            // The call itself is refused, not the program: one not there would be the wrong answer.
            Err(errno @ (Errno::ENOSYS | Errno::EPERM)) => return Err(Fail::call("faccessat2", errno)),
            Err(_) => {}
        }
    }
    let Fail(report) = Fail::call("execve", Errno::ENOENT);
    Err(Fail(report.detail(Detail::NotInPath, &[])))
}

/// EACCES has three causes: no x bit, a directory on the way, or a mount with noexec.
fn not_executable(path: &CStr, errno: Errno) -> Fail {
    let call = if errno == Errno::ENOSYS { "faccessat2" } else { "execve" };
    let Fail(report) = Fail::call(call, errno);
    if errno == Errno::EACCES && vfs::is_noexec(path) == Ok(true) {
        return Fail(report.detail(Detail::NoExec, &[]));
    }
    Fail(report)
}

/// Runs hooks of `hooks.createContainer` or `hooks.startContainer`. How one failed goes to the parent in numbers.
pub(super) fn hooks(child: &mut Child, hooks: &[ChildHook]) -> Result<(), Fail> {
    for (n, hook) in hooks.iter().enumerate() {
        let cwd = match &hook.cwd {
            Some(path) => Some(fs::open(fs::cwd(), path, libc::O_PATH | libc::O_DIRECTORY, 0).call("openat")?),
            None => None,
        };
        let mut digits = [0u8; 12];
        let stdin: [&[u8]; 3] = [&hook.state.0, decimal(process::pid(), &mut digits), &hook.state.1];
        let [stdout, stderr] = hook.output.map(|slot| slot.and_then(|slot| child.slot(slot.0).ok()));
        let program = Program { cwd: cwd.as_ref().map(AsFd::as_fd), stdin: &stdin, stdout, stderr, ..hook.laid.program() };
        let mut buffer = [0u8; 200];
        let report = spawn::run(&program, &mut buffer).call("clone")?;
        let (value, detail, call) = match report.end {
            End::Exited(exit) if exit.success() => continue,
            End::Exited(Exit::Code(code)) => (i32::from(code), Detail::HookStatus, ""),
            End::Exited(Exit::Signal { signal, .. }) => (i32::from(signal), Detail::HookSignal, ""),
            End::TimedOut => (0, Detail::HookTimeout, ""),
            End::NotRun(call, errno) => (errno as i32, Detail::HookNotRun, call),
        };
        let said = buffer.get(..report.captured).unwrap_or_default();
        let mut failed = Report::new(Kind::Failed, 0, value).call(call).detail(detail, said);
        failed.part = u16::try_from(n).unwrap_or(u16::MAX);
        return Err(Fail(failed));
    }
    child.hooks_done()
}

/// `n` in decimal digits.
fn decimal(n: i32, digits: &mut [u8; 12]) -> &[u8] {
    let mut n = n.max(0);
    let mut at = digits.len();
    loop {
        at -= 1;
        if let Some(to) = digits.get_mut(at) {
            *to = b'0' + u8::try_from(n % 10).unwrap_or_default();
        }
        n /= 10;
        if n == 0 || at == 0 {
            return digits.get(at..).unwrap_or_default();
        }
    }
}

/// Runs the program. Comes back only to say why not.
pub(super) fn exec(child: &Child, plan: &Plan) -> Result<(), Fail> {
    let found = plan.steps.iter().rev().find_map(|step| match &step.action {
        Action::Program { name, candidates } if name.to_bytes().contains(&b'/') => Some((name, candidates.len())),
        Action::Program { candidates, .. } => candidates.get(child.program).map(|c| (c, candidates.len())),
        _ => None,
    });
    let Some((path, _)) = found else { return Err(Fail::refused("the plan names no program")) };
    let errno = process::exec(path, &plan.argv, &plan.envp);
    Err(why(path, errno))
}

/// What the file says about the kernel's refusal. Reads its first bytes only.
fn why(path: &CStr, errno: Errno) -> Fail {
    let Fail(report) = Fail::call("execve", errno);
    let Ok(file) = fs::open(fs::cwd(), path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0) else {
        return Fail(report);
    };
    if errno == Errno::EACCES && vfs::is_noexec(path) == Ok(true) {
        return Fail(report.detail(Detail::NoExec, &[]));
    }
    let mut head = [0u8; 256];
    let n = fs::read_full(file.as_fd(), &mut head).unwrap_or(0);
    let head = head.get(..n).unwrap_or_default();
    if let Some(line) = head.strip_prefix(b"#!") {
        return Fail(script(report, line));
    }
    match (errno, elf::machine(head)) {
        (Errno::ENOEXEC | Errno::EINVAL, Some(machine)) if machine != elf::NATIVE => {
            Fail(report.detail(Detail::Machine, elf::machine_name(machine)))
        }
        (Errno::ENOEXEC, None) => Fail(report.detail(Detail::Format, &[])),
        (Errno::ENOENT, Some(_)) => {
            let mut loader = [0u8; 200];
            match elf::loader(file.as_fd(), &mut loader) {
                Some(n) => Fail(report.detail(Detail::Interpreter, loader.get(..n).unwrap_or_default())),
                None => Fail(report),
            }
        }
        _ => Fail(report),
    }
}

/// A script: its `#!` line names what is missing.
fn script(report: crate::sandbox::report::Report, line: &[u8]) -> crate::sandbox::report::Report {
    let line = line.split(|&c| c == b'\n').next().unwrap_or_default();
    let line = line.trim_ascii_start();
    let end = line.iter().position(|c| matches!(c, b' ' | b'\t')).unwrap_or(line.len());
    let interpreter = line.get(..end).unwrap_or_default();
    match interpreter.strip_suffix(b"\r") {
        Some(stripped) => report.detail(Detail::CarriageReturn, stripped),
        None => report.detail(Detail::Interpreter, interpreter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home_of(passwd: &[u8], uid: u32) -> Option<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let mut space = [0u8; 64];
        look_up_home(root.as_fd(), uid, &mut space).map(|n| space[..n].to_vec())
    }

    #[test]
    fn home_from_passwd() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\n# junk\nbad:line\napp:x:1000:1000::/home/app";
        assert_eq!(home_of(passwd, 0).as_deref(), Some(&b"/root"[..]));
        assert_eq!(home_of(passwd, 1000).as_deref(), Some(&b"/home/app"[..]));
        assert_eq!(home_of(passwd, 7), None);
        assert_eq!(home_of(b"x:x::0::/no-uid:\nempty:x:5:5:::\n", 0), None);
        assert_eq!(home_of(b"empty:x:5:5:::\n", 5), None);
        assert_eq!(home_of(b"wrap:x:4294967296:0::/zero:\n", 0), None);
        assert_eq!(home_of(&[b"long:x:5:5::/".to_vec(), vec![b'a'; 5000]].concat(), 5), None);
    }

    #[test]
    fn decimals() {
        assert_eq!(decimal(1, &mut [0; 12]), b"1");
        assert_eq!(decimal(4_194_304, &mut [0; 12]), b"4194304");
        assert_eq!(decimal(0, &mut [0; 12]), b"0");
    }
}
