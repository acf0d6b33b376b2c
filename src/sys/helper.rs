//! Work in a process of its own, on another processor, whose result is bytes. Not in a thread: what the C library brings for
//! those is 80 KiB of program, and memory that a container's init would be charged for.

use super::clone::{self, Side};
use super::pidfd::{self, Exit};
use super::{fs, heap, process, spawn};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

/// A process at work.
pub struct Helper {
    pidfd: OwnedFd,
    result: OwnedFd,
}

impl Helper {
    /// Begins `work` in a copy of this process, which must have one thread.
    ///
    /// # Errors
    /// Those of pipe2(2) and clone3(2), of a limit above all: the work is to be done otherwise then.
    pub fn begin(work: impl FnOnce() -> Vec<u8>) -> nix::Result<Self> {
        // Who ignores it is told nothing of the end of a child.
        spawn::default_signal(libc::SIGCHLD)?;
        let (result, ours) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        heap::share();
        match clone::clone3(0, None, false)? {
            Side::Child => {
                // Else a parent that is gone would not be noticed.
                drop(result);
                process::exit_now(fs::write_all(ours.as_fd(), &work()).is_err().into());
            }
            Side::Parent(pid, pidfd) => {
                // Where this fails it is slower, and nothing else.
                let _same = process::keep_off_this_cpu(pid);
                Ok(Self { pidfd, result })
            }
        }
    }

    /// Waits for the result; `None` when there is none that is whole.
    pub fn result(self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        // Closed before the wait: who still wants to write ends.
        let read = File::from(self.result).read_to_end(&mut bytes);
        let exit = pidfd::wait(self.pidfd.as_fd());
        (read.is_ok() && exit == Ok(Exit::Code(0))).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_whole_or_not_there() {
        // Made before: another test's thread may hold the C library's memory when the copy is made.
        let of = |ready: Vec<u8>| Helper::begin(move || ready).unwrap().result();
        for length in [0, 1, 65_536, 65_537, 3 << 20] {
            assert_eq!(of(vec![7; length]), Some(vec![7; length]));
        }
        let ready = vec![7];
        let killed = Helper::begin(move || {
            // SAFETY: ends this process.
            unsafe { libc::raise(libc::SIGKILL) };
            ready
        });
        assert_eq!(killed.unwrap().result(), None);
    }
}
