//! Copies between the caller's terminal and the container's: no byte lost, nobody's pace forced, no spin.
//!
//! Bounded buffers of 64 KiB; what is full is not read. Nothing is ever set to O_NONBLOCK that others share: the caller's
//! pipes and terminals are opened anew for that.

use crate::console::{RawMode, copy_size, set_nonblocking};
use crate::error::{Context, Error, Result};
use crate::sys::open::open;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{getpgrp, isatty, read, tcgetpgrp, write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const ROOM: usize = 64 * 1024;
/// At most this at once: a pipe that is ready takes PIPE_BUF bytes without blocking (pipe(7)).
const CHUNK: usize = 4096;
/// How long a master is left alone that nobody holds the other end of, in ms.
const HUNG_UP: u8 = 100;
/// How long after init's end its terminal may be silent before it is over, in ms; only if others still hold it open.
const SILENCE: u8 = 200;
/// How long after init's end a reader of the output may take nothing, in ms: one that never comes back is not waited for.
const STALLED: u16 = 10_000;

/// The two sides.
#[derive(Debug)]
pub struct Terminal<'a> {
    /// The master of the container's terminal.
    pub master: OwnedFd,
    /// What is copied to it; made raw if it is a terminal and ours to use.
    pub input: BorrowedFd<'a>,
    /// Where its output goes.
    pub output: BorrowedFd<'a>,
    /// Where the window's size is found: the first that is a terminal.
    pub windows: &'a [BorrowedFd<'a>],
}

/// A running copy. Dropping it restores the caller's terminal.
#[derive(Debug)]
pub struct Relay<'a> {
    master: OwnedFd,
    /// Nobody has the other end open: reading says EIO, polling POLLHUP, until somebody opens it again.
    hung_up: bool,
    /// Nothing more will come of the master.
    over: bool,
    input: Option<End>,
    /// We are in the background: the terminal's input is another's until SIGCONT.
    paused: bool,
    output: Option<End>,
    to_master: Buffer,
    to_output: Buffer,
    raw: Option<RawMode>,
    tty: BorrowedFd<'a>,
    windows: &'a [BorrowedFd<'a>],
    trouble: Option<Error>,
}

impl<'a> Relay<'a> {
    /// Sets the window's size, makes the caller's terminal raw, and is ready to copy.
    pub fn start(terminal: Terminal<'a>) -> Result<Self> {
        let Terminal { master, input, output, windows } = terminal;
        set_nonblocking(master.as_fd(), true).step("fcntl", || "prepare the container's terminal".into())?;
        let step = || "take over the caller's terminal".to_owned();
        let mut relay = Self {
            master,
            hung_up: false,
            over: false,
            input: Some(End::new(input, false).step("open", step)?),
            paused: false,
            output: Some(End::new(output, true).step("open", step)?),
            to_master: Buffer::default(),
            to_output: Buffer::default(),
            raw: None,
            tty: input,
            windows,
            trouble: None,
        };
        relay.resize()?;
        relay.resume()?;
        Ok(relay)
    }

    /// Gives the container's terminal the size of the caller's.
    pub fn resize(&self) -> Result<()> {
        copy_size(self.windows, self.master.as_fd()).map(drop)
    }

    /// Takes the caller's terminal again, unless another job has it.
    pub fn resume(&mut self) -> Result<()> {
        if !isatty(self.tty).unwrap_or(false) {
            return Ok(());
        }
        self.paused = self.in_background();
        match &self.raw {
            _ if self.paused => Ok(()),
            Some(raw) => raw.apply(),
            None => {
                self.raw = Some(RawMode::new(self.tty)?);
                Ok(())
            }
        }
    }

    /// Without job control (another's terminal, say) there is no background.
    fn in_background(&self) -> bool {
        tcgetpgrp(self.tty).is_ok_and(|foreground| foreground != getpgrp())
    }

    /// Whether all that can come has been copied. Asked only after the end of init.
    pub fn done(&self) -> bool {
        self.over && (self.to_output.is_empty() || self.output.is_none())
    }

    /// What went wrong on the way.
    pub fn into_trouble(self) -> Option<Error> {
        self.trouble
    }

    fn reads_input(&self) -> bool {
        self.input.is_some() && !self.paused && !self.over && !self.to_master.is_full()
    }

    /// POLLIN while there is room for output, POLLOUT while there is input; nothing if that is nothing, for POLLHUP would be
    /// reported all the same.
    fn master_events(&self) -> PollFlags {
        let mut events = PollFlags::empty();
        if !self.over && !self.hung_up {
            events.set(PollFlags::POLLIN, !self.to_output.is_full());
            events.set(PollFlags::POLLOUT, !self.to_master.is_empty());
        }
        events
    }

    /// Adds what is to be polled, in the order in which `serve` expects the answers.
    pub fn interests<'b>(&'b self, fds: &mut Vec<PollFd<'b>>) {
        if let (true, Some(input)) = (self.reads_input(), &self.input) {
            fds.push(PollFd::new(input.fd.as_fd(), PollFlags::POLLIN));
        }
        if !self.master_events().is_empty() {
            fds.push(PollFd::new(self.master.as_fd(), self.master_events()));
        }
        if let (false, Some(output)) = (self.to_output.is_empty(), &self.output) {
            fds.push(PollFd::new(output.fd.as_fd(), PollFlags::POLLOUT));
        }
    }

    /// How long to poll.
    pub fn timeout(&self, ended: bool) -> PollTimeout {
        if self.hung_up && !self.over && !self.to_output.is_full() {
            // At the end the kernel hangs up first and tells of the end after: nobody should wait for that.
            if ended { PollTimeout::ZERO } else { PollTimeout::from(HUNG_UP) }
        } else if ended && !self.over && self.to_output.is_empty() {
            PollTimeout::from(SILENCE)
        } else if ended && !self.to_output.is_empty() {
            PollTimeout::from(STALLED)
        } else {
            PollTimeout::NONE
        }
    }

    /// Copies what is ready. `idle` says that nothing was, in the whole time of [`Self::timeout`]; `ended` that init has
    /// ended; `events` answers [`Self::interests`].
    pub fn serve(&mut self, idle: bool, ended: bool, events: &[PollFlags]) -> Result<()> {
        let mut events = events.iter().copied();
        let mut next = |asked: bool| if asked { events.next().unwrap_or(PollFlags::empty()) } else { PollFlags::empty() };
        let input = next(self.reads_input());
        let master = next(!self.master_events().is_empty());
        let output = next(!self.to_output.is_empty() && self.output.is_some());
        if !input.is_empty() {
            self.read_input();
        }
        if master.contains(PollFlags::POLLOUT) {
            self.write_master()?;
        }
        let retry = self.hung_up && (idle || ended);
        if retry || master.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            self.read_master(ended)?;
        } else if idle && ended {
            self.over = true;
            // Empty after a silence; else its reader has stalled.
            self.to_output = Buffer::default();
        }
        if !output.is_empty() {
            self.write_output();
        }
        Ok(())
    }

    fn read_input(&mut self) {
        let Some(input) = &self.input else { return };
        match self.to_master.fill(&input.fd) {
            Ok(0) => self.input = None,
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(Errno::EIO) if self.in_background() => self.paused = true,
            // A hung-up terminal, or nothing that can be read: there is no more input.
            Err(_) => self.input = None,
        }
    }

    fn write_master(&mut self) -> Result<()> {
        match self.to_master.drain(|bytes| write(&self.master, bytes)) {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(Errno::EIO) => {
                self.hung_up = true;
                Ok(())
            }
            Err(e) => Err(Error::sys("write to the container's terminal", "write", e.into())),
        }
    }

    fn read_master(&mut self, ended: bool) -> Result<()> {
        if self.to_output.is_full() {
            // Only POLLHUP can have brought us here: look again once there is room.
            self.hung_up = true;
            return Ok(());
        }
        match self.to_output.fill(&self.master) {
            Ok(0) | Err(Errno::EIO) if ended => self.over = true,
            Ok(0) | Err(Errno::EIO) => self.hung_up = true,
            Ok(_) => self.hung_up = false,
            Err(Errno::EAGAIN | Errno::EINTR) => self.hung_up = false,
            Err(e) => return Err(Error::sys("read from the container's terminal", "read", e.into())),
        }
        if self.output.is_none() {
            // With the reader gone the output still has to go somewhere, or the container would hang.
            self.to_output = Buffer::default();
        }
        Ok(())
    }

    fn write_output(&mut self) {
        let Some(output) = &self.output else { return };
        match self.to_output.drain(|bytes| output.write(bytes)) {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => return,
            // The reader has left; that is its right.
            Err(Errno::EPIPE | Errno::EIO | Errno::ECONNRESET) => {}
            Err(e) => {
                self.trouble = Some(Error::sys("write the container's output", "write", e.into()));
            }
        }
        self.output = None;
        self.to_output = Buffer::default();
    }
}

/// One of the caller's streams.
#[derive(Debug)]
struct End {
    fd: OwnedFd,
    socket: bool,
}

impl End {
    /// A descriptor that does not block, where one can be had without changing the caller's: pipes and terminals are opened
    /// anew, sockets have a flag for it, files never block. Else (a terminal of another user) a copy.
    fn new(fd: BorrowedFd, to_write: bool) -> nix::Result<Self> {
        let kind = SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT;
        let anew = kind == SFlag::S_IFIFO || isatty(fd).unwrap_or(false);
        let access = if to_write { OFlag::O_WRONLY } else { OFlag::O_RDONLY };
        let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let opened =
            if anew { open(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str(), flags, Mode::empty()).ok() } else { None };
        let fd = match opened {
            Some(fd) => fd,
            None => fd.try_clone_to_owned().map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EMFILE)))?,
        };
        Ok(Self { fd, socket: kind == SFlag::S_IFSOCK })
    }

    fn write(&self, bytes: &[u8]) -> nix::Result<usize> {
        if self.socket {
            return send(self.fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        }
        write(&self.fd, bytes)
    }
}

/// Bytes on their way, at most [`ROOM`].
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// How many at the front are gone already.
    gone: usize,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.gone == self.bytes.len()
    }

    fn is_full(&self) -> bool {
        self.bytes.len() - self.gone > ROOM - CHUNK
    }

    /// One read of at most [`CHUNK`], 0 at the end of the file. Only for a buffer that is not full.
    fn fill(&mut self, from: &OwnedFd) -> nix::Result<usize> {
        if self.bytes.len() > ROOM - CHUNK {
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
        let mut chunk = [0; CHUNK];
        let length = read(from, &mut chunk)?;
        self.bytes.extend_from_slice(chunk.get(..length).unwrap_or_default());
        Ok(length)
    }

    /// One write of at most [`CHUNK`].
    fn drain(&mut self, to: impl FnOnce(&[u8]) -> nix::Result<usize>) -> nix::Result<()> {
        let rest = self.bytes.get(self.gone..).unwrap_or_default();
        let written = to(rest.get(..CHUNK).unwrap_or(rest))?;
        self.gone = self.gone.saturating_add(written).min(self.bytes.len());
        if self.is_empty() {
            self.bytes.clear();
            self.gone = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_bounded_and_keeps_order() {
        let source = OwnedFd::from(std::fs::File::open("/proc/kallsyms").unwrap());
        let mut buffer = Buffer::default();
        let (mut read, mut written) = (0, Vec::new());
        for turn in 0..200 {
            if !buffer.is_full() {
                read += buffer.fill(&source).unwrap();
            }
            assert!(buffer.bytes.len() <= ROOM);
            if turn % 3 == 0 {
                buffer
                    .drain(|bytes| {
                        written.extend_from_slice(&bytes[..bytes.len().min(1000)]);
                        Ok(bytes.len().min(1000))
                    })
                    .unwrap();
            }
        }
        assert!(buffer.is_full());
        while !buffer.is_empty() {
            buffer
                .drain(|bytes| {
                    written.extend_from_slice(bytes);
                    Ok(bytes.len())
                })
                .unwrap();
        }
        let mut wanted = vec![0; read];
        std::io::Read::read_exact(&mut std::fs::File::open("/proc/kallsyms").unwrap(), &mut wanted).unwrap();
        assert!(written == wanted);
    }
}
