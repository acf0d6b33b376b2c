//! Runs a program to its end: input given, output bounded, time limited, nothing allocated.
//!
//! Not `std::process::Command`: hooks of the stages createContainer and startContainer are run by the container's init
//! between clone and exec, where there is no allocator to trust, no /dev/null and no /proc. What must work there works
//! everywhere, so hooks and helpers of the parent take the same way.
//!
//! Three choices keep it from ever hanging. The input is a memory file, so nobody has to feed it and nobody can refuse
//! it. The end of the program is its pidfd's, never the end of file of a pipe that a grandchild may hold (runc#5186).
//! Output is read as it comes and only its last bytes are kept.

use super::{check, owned, pidfd};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use pidfd::Exit;
use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// A program to run. All of it is borrowed, so that it can be laid out before a clone and used after it.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    /// The file to execute; never looked up in a PATH.
    pub path: &'a CStr,
    /// Its arguments, the name first.
    pub argv: Strings<'a>,
    /// Its whole environment.
    pub env: Strings<'a>,
    /// Where it starts; `None` for where the caller is.
    pub cwd: Option<BorrowedFd<'a>>,
    /// What it reads on stdin: these parts, one after another.
    pub stdin: &'a [&'a [u8]],
    /// Where its stdout goes instead of the capture.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Where its stderr goes instead of the capture.
    pub stderr: Option<BorrowedFd<'a>>,
    /// How long it may take, by CLOCK_MONOTONIC; `None` for as long as it likes.
    pub timeout: Option<Duration>,
    /// Called with the session's number when it is about to be killed, while that number cannot be taken by another: the
    /// place to kill what left the process group. `None` where there is no /proc to look into.
    pub kill_session: Option<fn(libc::pid_t)>,
}

/// A list of C strings as execve(2) wants it, borrowed from a [`StringList`].
#[derive(Debug, Clone, Copy)]
pub struct Strings<'a>(&'a [*const c_char]);

impl Strings<'static> {
    /// No strings.
    pub const EMPTY: Self = Self(&[std::ptr::null()]);
}

impl Strings<'_> {
    /// For execve(2): ends with a null.
    pub fn as_ptr(&self) -> *const *const c_char {
        self.0.as_ptr()
    }
}

/// C strings laid out for execve(2) ahead of time.
#[derive(Debug)]
pub struct StringList {
    strings: Vec<CString>,
    /// Into the heap blocks of `strings`, which stay where they are when the list moves, and a null.
    pointers: Vec<*const c_char>,
}

impl StringList {
    /// Takes the strings.
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect();
        Self { strings, pointers }
    }

    /// As execve(2) wants it. Allocates nothing.
    pub fn laid_out(&self) -> Strings<'_> {
        Strings(&self.pointers)
    }

    /// Lets entry `n` point at `string` instead. Allocates nothing.
    pub fn point(&mut self, n: usize, string: &'static CStr) {
        if n < self.strings.len()
            && let Some(pointer) = self.pointers.get_mut(n)
        {
            *pointer = string.as_ptr();
        }
    }

    /// The strings.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It ran, and ended by itself.
    Exited(Exit),
    /// It was never executed: the system call that failed, and its errno.
    NotRun(&'static str, Errno),
    /// It took longer than it may; it and its process group are dead.
    TimedOut,
}

/// What is known of a program that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub end: End,
    /// How long it took.
    pub took: Duration,
    /// How many bytes of the buffer hold captured output, from its start, in the order of writing.
    pub captured: usize,
    /// Whether earlier output was dropped for want of room.
    pub cut: bool,
}

/// Runs `program` in a session of its own, with default signal dispositions, an empty signal mask and no descriptors but
/// 0, 1 and 2, and waits for it. The last bytes of its stdout and stderr are left in `buffer`. A program that does not
/// end with status 0 takes its process group with it; one that does may leave a daemon behind.
pub fn run(program: &Program, buffer: &mut [u8]) -> nix::Result<Report> {
    let start = now();
    // A caller's SIGCHLD ignored, and inherited by us, would make the kernel throw the exit status away.
    default_signal(libc::SIGCHLD)?;
    let stdin = memory_file(program.stdin)?;
    let (output, output_end) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    // Our end only: the program's must block as any other.
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // An eventfd carries the errno of a failed exec: it can be asked without waiting for anybody's end of file.
    // SAFETY: eventfd takes two numbers.
    let failure = owned(libc::c_long::from(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }))?;
    let streams = [stdin.as_fd(), program.stdout.unwrap_or(output_end.as_fd()), program.stderr.unwrap_or(output_end.as_fd())];
    let (pid, child) = fork(program, &streams, failure.as_fd())?;
    drop((output_end, stdin));

    let mut tail = Tail { buffer, written: 0 };
    let deadline = program.timeout.map(|limit| start.saturating_add(limit));
    let ended = watch(&child, &output, deadline, &mut tail)?;
    let exit = if ended { pidfd::peek_ended(child.as_fd())? } else { None };
    if exit.is_none_or(|exit| !exit.success()) {
        kill_all(pid, child.as_fd(), program.kill_session);
    }
    // What was killed is given a moment to go; one stuck in the kernel is left to whoever inherits it.
    if ended || pidfd::poll_exit(&child, Some(500)).unwrap_or(false) {
        let _reaped = pidfd::wait(child.as_fd())?;
    }
    tail.fill(&output)?;
    let end = match (not_run(&failure), exit) {
        (Some(end), _) => end,
        (None, Some(exit)) => End::Exited(exit),
        (None, None) => End::TimedOut,
    };
    let (captured, cut) = tail.finish();
    Ok(Report { end, took: now().saturating_sub(start), captured, cut })
}

/// Keeps reading the output until the child has ended (true) or the deadline has passed (false).
fn watch(child: &OwnedFd, output: &OwnedFd, deadline: Option<Duration>, tail: &mut Tail) -> nix::Result<bool> {
    let mut fds = [
        libc::pollfd { fd: child.as_raw_fd(), events: libc::POLLIN, revents: 0 },
        libc::pollfd { fd: output.as_raw_fd(), events: libc::POLLIN, revents: 0 },
    ];
    loop {
        let left = match deadline.map(|deadline| deadline.saturating_sub(now())) {
            Some(Duration::ZERO) => return Ok(false),
            // Rounded up, so that the last millisecond is not spent in a spin.
            Some(left) => c_int::try_from(left.as_millis().saturating_add(1)).unwrap_or(c_int::MAX),
            None => -1,
        };
        // SAFETY: both pollfd are live, and the count says two.
        match check(libc::c_long::from(unsafe { libc::poll(fds.as_mut_ptr(), 2, left) })) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
        if fds[0].revents != 0 {
            return Ok(true);
        }
        // Once every writer is gone the pipe would be ready for ever.
        if fds[1].revents != 0 && tail.read(output)? == Some(0) {
            fds[1].fd = -1;
        }
    }
}

/// Kills the process group of `pid`, which is not yet reaped, so the number can name no other.
fn kill_all(pid: libc::pid_t, child: BorrowedFd, kill_session: Option<fn(libc::pid_t)>) {
    // SAFETY: kill takes two numbers. ESRCH (no process of the group is left, or none yet) is no failure: the next line
    // reaches the child itself.
    unsafe { libc::kill(-pid, libc::SIGKILL) };
    let _gone = pidfd::send_signal(child, libc::SIGKILL);
    // Last, so that a shell does not live to tell of the death of its jobs.
    if let Some(kill_session) = kill_session {
        kill_session(pid);
    }
}

/// Forks; in the child, executes the program. No atfork handler of the C library runs: clone is called raw. It is clone
/// and not clone3 because filters of engines let the former through only (their answer to clone3 is ENOSYS).
fn fork(program: &Program, streams: &[BorrowedFd; 3], failure: BorrowedFd) -> nix::Result<(libc::pid_t, OwnedFd)> {
    let mut child: RawFd = -1;
    // SAFETY: getpid takes nothing.
    let parent = unsafe { libc::getpid() };
    let flags = libc::c_long::from(libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: without CLONE_VM this is fork: the child runs on a copy of this memory and stack. The third argument points to
    // a live int for the pidfd. The last two, whose order differs by architecture, are both null.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, &raw mut child, 0usize, 0usize) })?;
    if pid == 0 {
        let (stage, errno) = execute(program, streams, parent);
        let word = u64::from(stage) << 32 | u64::from(u32::try_from(errno as i32).unwrap_or(0));
        // SAFETY: the word is eight live bytes; _exit runs no handler of the parent's memory that this process copied.
        unsafe {
            libc::write(failure.as_raw_fd(), (&raw const word).cast(), 8);
            libc::_exit(127)
        }
    }
    Ok((libc::pid_t::try_from(pid).map_err(|_| Errno::EPROTO)?, owned(libc::c_long::from(child))?))
}

/// The calls that can fail between clone and exec, by the number that travels in the eventfd.
const STAGES: [&str; 6] = ["prctl", "fcntl", "dup2", "fchdir", "close_range", "execve"];

/// Becomes the program; returns only if that fails, with an index into [`STAGES`].
fn execute(program: &Program, streams: &[BorrowedFd; 3], parent: libc::pid_t) -> (u8, Errno) {
    default_signals();
    // SAFETY: calls with numbers only, on descriptors that are open here. PDEATHSIG: the program must not outlive a runtime
    // that is killed; who came too late for it sees another parent.
    unsafe {
        libc::setsid();
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
            return (0, Errno::last());
        }
        // 0: the parent is outside of a pid namespace that it has set for its children.
        if ![0, parent].contains(&libc::getppid()) {
            return (0, Errno::ESRCH);
        }
    }
    let mut high: [RawFd; 3] = [-1; 3];
    for (high, stream) in high.iter_mut().zip(streams) {
        // First away from 0..=2, so that no dup2 below overwrites a source.
        // SAFETY: numbers only.
        *high = unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
        if *high == -1 {
            return (1, Errno::last());
        }
    }
    for (number, high) in (0..).zip(high) {
        // SAFETY: numbers only; 0..=2 of this process belong to the program from here on.
        if unsafe { libc::dup2(high, number) } == -1 {
            return (2, Errno::last());
        }
    }
    if let Some(cwd) = program.cwd {
        // SAFETY: numbers only.
        if unsafe { libc::fchdir(cwd.as_raw_fd()) } == -1 {
            return (3, Errno::last());
        }
    }
    // SAFETY: numbers only; close-on-exec, so the eventfd still works if exec fails.
    if unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } == -1 {
        return (4, Errno::last());
    }
    // SAFETY: path is a C string, the lists are null-terminated and their strings outlive `program` (`Strings`).
    unsafe { libc::execve(program.path.as_ptr(), program.argv.as_ptr(), program.env.as_ptr()) };
    (5, Errno::last())
}

/// Default dispositions for all signals and an empty mask: an ignored signal and a blocked one outlive execve(2), and
/// ours are SIGPIPE ignored (by Rust) and everything blocked (by `run`).
pub fn default_signals() {
    for signal in 1..=64 {
        // SIGKILL and SIGSTOP cannot be changed.
        let _as_they_are = default_signal(signal);
    }
    // SAFETY: an all-zero sigset_t is the empty set; the old mask is not asked for.
    unsafe {
        let empty: libc::sigset_t = std::mem::zeroed();
        let old: *mut libc::sigset_t = std::ptr::null_mut();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const empty, old, 8usize);
    }
}

/// The default disposition for one signal. EINVAL for those that cannot be changed.
pub fn default_signal(signal: c_int) -> nix::Result<()> {
    // The kernel's sigaction for SIG_DFL without flags or mask: four zero words on every 64-bit architecture.
    let default = [0u64; 4];
    let old: *mut u64 = std::ptr::null_mut();
    // SAFETY: `default` is as large as the kernel's struct, and SIG_DFL installs no code of ours. Raw, because the C library
    // refuses its own two signals (32, 33), which a caller may have left ignored.
    check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, 8usize) }).map(drop)
}

/// A memory file with these contents, to be read from its start.
fn memory_file(parts: &[&[u8]]) -> nix::Result<OwnedFd> {
    let create = |flags: libc::c_uint| {
        // SAFETY: the name is a C string.
        owned(libc::c_long::from(unsafe { libc::memfd_create(c"stdin".as_ptr(), flags | libc::MFD_CLOEXEC) }))
    };
    // Linux 6.3 and later can be set to refuse a file that is not marked (vm.memfd_noexec), older ones do not know the mark.
    let file = match create(libc::MFD_NOEXEC_SEAL) {
        Err(Errno::EINVAL) => create(0)?,
        other => other?,
    };
    let mut offset: libc::off_t = 0;
    for mut part in parts.iter().copied() {
        while !part.is_empty() {
            // SAFETY: `part` is live memory of the length given. The file's own offset stays 0.
            let ret = unsafe { libc::pwrite(file.as_raw_fd(), part.as_ptr().cast(), part.len(), offset) };
            match usize::try_from(ret) {
                Ok(0) => return Err(Errno::ENOSPC),
                Ok(n) => part = part.get(n..).unwrap_or_default(),
                Err(_) if Errno::last() == Errno::EINTR => continue,
                Err(_) => return Err(Errno::last()),
            }
            offset = offset.saturating_add(libc::off_t::try_from(ret).map_err(|_| Errno::EFBIG)?);
        }
    }
    Ok(file)
}

/// What the child wrote if it could not execute.
fn not_run(failure: &OwnedFd) -> Option<End> {
    let mut word = [0u8; 8];
    // SAFETY: eight live bytes.
    let got = unsafe { libc::read(failure.as_raw_fd(), word.as_mut_ptr().cast(), 8) };
    if got != 8 {
        return None;
    }
    let word = u64::from_ne_bytes(word);
    let stage = usize::try_from(word >> 32).ok().and_then(|stage| STAGES.get(stage)).copied().unwrap_or("execve");
    Some(End::NotRun(stage, Errno::from_raw(i32::try_from(word & 0xffff_ffff).unwrap_or(0))))
}

/// The last bytes of a stream, in a ring.
struct Tail<'a> {
    buffer: &'a mut [u8],
    written: usize,
}

impl Tail<'_> {
    /// One read: how many bytes came, `Some(0)` at the end of file, `None` if there is nothing now.
    fn read(&mut self, from: &OwnedFd) -> nix::Result<Option<usize>> {
        let mut chunk = [0u8; 4096];
        match nix::unistd::read(from, &mut chunk) {
            Ok(n) => {
                for byte in chunk.iter().take(n) {
                    if let Some(at) = self.written.checked_rem(self.buffer.len()) {
                        self.buffer[at] = *byte;
                    }
                    self.written = self.written.wrapping_add(1);
                }
                Ok(Some(n))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Takes what is in the pipe now: at most one pipe's worth twice, for a grandchild may go on writing.
    fn fill(&mut self, from: &OwnedFd) -> nix::Result<()> {
        for _ in 0..32 {
            if matches!(self.read(from)?, None | Some(0)) {
                break;
            }
        }
        Ok(())
    }

    /// Puts the ring in order: how many bytes there are, and whether others were lost.
    fn finish(self) -> (usize, bool) {
        let room = self.buffer.len();
        if self.written <= room {
            return (self.written, false);
        }
        self.buffer.rotate_left(self.written.checked_rem(room).unwrap_or(0));
        (room, true)
    }
}

/// CLOCK_MONOTONIC.
fn now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live timespec; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &CStr, change: impl Fn(&mut Program), buffer: &mut [u8]) -> Report {
        let argv = StringList::new([c"sh", c"-c", script].map(CStr::to_owned).to_vec());
        let mut program = Program {
            path: c"/bin/sh",
            argv: argv.laid_out(),
            env: Strings::EMPTY,
            cwd: None,
            stdin: &[b"{\"a\":", b"1}"],
            stdout: None,
            stderr: None,
            timeout: Some(Duration::from_secs(20)),
            kill_session: None,
        };
        change(&mut program);
        run(&program, buffer).unwrap()
    }

    #[test]
    fn parts_are_read_in_order_and_output_comes_back() {
        let mut buffer = [0; 64];
        let report = sh(c"cat; echo err >&2; exit 3", |_| {}, &mut buffer);
        assert_eq!(report.end, End::Exited(Exit::Code(3)));
        assert_eq!(&buffer[..report.captured], b"{\"a\":1}err\n");
        assert!(!report.cut);
    }

    #[test]
    fn only_the_last_bytes_of_much_output_are_kept() {
        let mut buffer = [0; 10];
        let report = sh(c"i=0; while [ $i -lt 20000 ]; do echo line$i; i=$((i+1)); done", |_| {}, &mut buffer);
        assert_eq!(report.end, End::Exited(Exit::Code(0)));
        assert_eq!(&buffer[..report.captured], b"line19999\n");
        assert!(report.cut);
        assert_eq!(sh(c"echo much", |_| {}, &mut []).captured, 0);
    }

    #[test]
    fn what_cannot_be_executed_says_why() {
        let end = |path| sh(c"", |p| p.path = path, &mut [0; 16]).end;
        assert_eq!(end(c"/nonexistent"), End::NotRun("execve", Errno::ENOENT));
        assert_eq!(end(c"/etc/passwd"), End::NotRun("execve", Errno::EACCES));
        assert_eq!(end(c"/"), End::NotRun("execve", Errno::EACCES));
    }

    #[test]
    fn the_time_limit_holds_though_a_grandchild_has_the_pipe() {
        let report = sh(c"sleep 60 & sleep 60", |p| p.timeout = Some(Duration::from_millis(200)), &mut [0; 16]);
        assert_eq!(report.end, End::TimedOut);
        assert!(report.took < Duration::from_millis(700), "{:?}", report.took);
        // A daemon left behind by a program that is content holds the pipe as well.
        let report = sh(c"sleep 2 & exit 0", |_| {}, &mut [0; 16]);
        assert_eq!(report.end, End::Exited(Exit::Code(0)));
        assert!(report.took < Duration::from_millis(1500), "{:?}", report.took);
    }

    #[test]
    fn nothing_of_ours_is_inherited() {
        let _leak = (0..20).map(|_| nix::unistd::dup(std::io::stdin()).unwrap()).collect::<Vec<_>>();
        let mut buffer = [0; 512];
        // Number 3 is the shell's own, for the substitution.
        let script = c"echo $(ls /proc/$$/fd) $(grep -E 'Sig(Blk|Ign)' /proc/$$/status); \
            set -- $(cat /proc/$$/stat); test $1 = $5 && test $1 = $6 && echo leader; /usr/bin/env | grep -v ^PWD= | grep -v ^_=";
        let report = sh(script, |_| {}, &mut buffer);
        let text = String::from_utf8_lossy(&buffer[..report.captured]).into_owned();
        assert!(text.starts_with("0 1 2 3 SigBlk: 0000000000000000 SigIgn: 0000000000000000\nleader\n"), "{text}");
        assert!(!text.contains("HOME"), "{text}");
    }
}
