//! Programs of the matrix: this test program under other names, since what they do is done to a process of its own.

use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};

/// `holder PID`: keeps a process from being gone once it is killed, as one in uninterruptible sleep, until stdin ends.
pub fn holder() -> ExitCode {
    let pid = std::env::args().nth(1).and_then(|pid| pid.parse().ok()).expect("a pid");
    let pid = Pid::from_raw(pid);
    ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACEEXIT).expect("trace it");
    println!("held");
    let waiter = std::thread::spawn(|| {
        let _end = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    // Its last stop, in which it stays: neither alive nor gone. The end of this process lets it go.
    let _stopped = waitpid(pid, None);
    let _never = waiter.join();
    ExitCode::SUCCESS
}

/// `mountwatch COMMAND...`: runs it in a mount namespace that is a host of its own, all shared, and prints on a line of its
/// own whether the mounts of that have changed since: a look, once, would miss what was put back.
pub fn mountwatch() -> ExitCode {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("leave the others' peer groups");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none).expect("share anew");
    let table = std::fs::File::open("/proc/self/mountinfo").expect("open the table of mounts");
    let changed = || {
        let mut fds = [PollFd::new(table.as_fd(), PollFlags::POLLPRI)];
        poll(&mut fds, PollTimeout::ZERO).expect("poll") > 0
    };
    let _first = changed();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let status = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).status().expect("run a command");
    println!("mounts {}", if changed() { "changed" } else { "same" });
    ExitCode::from(u8::try_from(status.code().unwrap_or(255)).unwrap_or(255))
}
