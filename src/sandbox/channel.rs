//! How the two processes of a launch speak to each other: over a socket, or, where the child works in the parent's memory, by
//! what it leaves there.

use super::report::Report;
use crate::error::{Error, Result};
use crate::sys::clone::Life;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The parent's side.
pub enum Ours {
    /// SEQPACKET: a message is whole or not there, and the end of one side is the end of file of the other.
    Socket(OwnedFd),
    /// What the child has left: the parent stood still until the child had executed the program, or ended.
    Left(Option<Report>),
}

/// The child's side.
pub enum Theirs {
    /// See [`Ours::Socket`].
    Socket(OwnedFd),
    /// Where the one report goes, if there is one: the parent reads it when the child has ended.
    Memory(Option<Report>, Life),
}

/// A pair of sockets.
pub fn sockets() -> nix::Result<(Ours, Theirs)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((Ours::Socket(ours), Theirs::Socket(theirs)))
}

impl Ours {
    /// The socket, which is there wherever the plan has pauses.
    pub fn socket(&self) -> Result<BorrowedFd<'_>> {
        match self {
            Self::Socket(socket) => Ok(socket.as_fd()),
            Self::Left(_) => Err(Error::new("speak to the container's process", "it does not listen")),
        }
    }
}

impl Theirs {
    /// The same for the child.
    pub fn socket(&self) -> nix::Result<BorrowedFd<'_>> {
        match self {
            Self::Socket(socket) => Ok(socket.as_fd()),
            Self::Memory(..) => Err(Errno::ENOTCONN),
        }
    }

    /// Whether this process works in the memory of its parent.
    pub fn is_memory(&self) -> bool {
        matches!(self, Self::Memory(..))
    }

    /// Says it.
    pub fn send(&mut self, report: &Report) -> nix::Result<()> {
        match self {
            Self::Socket(socket) => report.send(socket.as_fd()),
            Self::Memory(place, _) => {
                *place = Some(*report);
                Ok(())
            }
        }
    }
}
