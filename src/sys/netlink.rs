//! Network configuration by NETLINK_ROUTE (rtnetlink(7)): messages, answers, and the loopback device.
//!
//! Knows framing, not meaning: what is asked for is the caller's business. Every request is acknowledged or timed out.

use super::{check, fs, owned};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, setsockopt, sockopt};
use nix::sys::stat::Mode;
use nix::sys::time::{TimeVal, TimeValLike};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Brings up `lo` in the network namespace of the caller. Two system calls and no allocation, for the container's init,
/// which closes the socket with all else ([`fs::leave`]).
///
/// An ioctl on a socket of any family: measured within the noise of a netlink request, whose message takes one call more;
/// nearly all of the time is the kernel's, for the device itself.
///
/// # Errors
/// The name of the call that failed comes with its errno.
pub fn loopback_up() -> Result<(), (&'static str, Errno)> {
    let socket = socket::socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    let socket = socket.map_err(|e| ("socket", e))?;
    let request = loopback_request();
    #[allow(clippy::useless_conversion)] // its type differs by C library
    let set_flags = libc::Ioctl::try_from(SET_FLAGS).map_err(|_| ("ioctl", Errno::EINVAL))?;
    // SAFETY: SIOCSIFFLAGS reads a live ifreq.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), set_flags, &raw const request) };
    let done = check(libc::c_long::from(done)).map(drop).map_err(|e| ("ioctl", e));
    fs::leave(socket);
    done
}

/// `SIOCSIFFLAGS` of <linux/sockios.h>.
pub(super) const SET_FLAGS: i64 = 0x8914;

/// What [`SET_FLAGS`] is asked for `lo` to be up.
pub(super) fn loopback_request() -> libc::ifreq {
    // SAFETY: ifreq is plain data for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = IFF_UP;
    request
}

/// The network namespace that `socket` is in.
///
/// # Errors
/// EPERM without `CAP_NET_ADMIN` over it.
pub(super) fn namespace_of(socket: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    /// Of <linux/sockios.h>, since Linux 4.9.
    const SIOCGSKNS: libc::Ioctl = 0x894c;
    // SAFETY: integers only.
    owned(libc::c_long::from(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) }))
}

/// As wide as in ifreq.
const IFF_UP: libc::c_short = 1;

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kernel's errno, or one of the socket's.
    pub errno: Errno,
    /// The kernel's own words, often empty.
    pub words: String,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno, words: String::new() }
    }
}

/// A request under construction.
#[derive(Debug)]
pub struct Request(Vec<u8>);

impl Request {
    /// A request of this type to be acknowledged; `header` is the fixed struct that follows the netlink header.
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        bytes.extend_from_slice(header);
        Self(bytes)
    }

    /// A request for everything of this type.
    pub fn dump(kind: u16, header: &[u8]) -> Self {
        Self::new(kind, NLM_F_DUMP, header)
    }

    /// Adds an attribute; one too long for its 16-bit length is refused with EMSGSIZE.
    pub fn attr(mut self, kind: u16, value: &[u8]) -> nix::Result<Self> {
        let length = u16::try_from(value.len().saturating_add(4)).map_err(|_| Errno::EMSGSIZE)?;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        Ok(self)
    }
}

/// A NETLINK_ROUTE socket, bound to the network namespace in which it was made.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// In the caller's network namespace.
    pub fn open() -> nix::Result<Self> {
        let fd = socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(10))?;
        let (yes, size) = (1, libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(|_| Errno::EINVAL)?);
        let yes: *const libc::c_int = &raw const yes;
        // SAFETY: the option is a live int of the size given (Linux 4.12).
        let ret = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, yes.cast(), size) };
        check(ret.into())?;
        Ok(Self { fd, sequence: 0 })
    }

    /// In another network namespace: the calling thread enters it, and is back when this returns. If it cannot go back
    /// the process ends, since whatever it did next would happen in the wrong network.
    pub fn open_in(netns: BorrowedFd) -> nix::Result<Self> {
        let home = super::open::open("/proc/thread-self/ns/net", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        let socket = Self::open();
        if setns(home, CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
        socket
    }

    /// Sends a request and takes its answers, each given to `each` without its netlink header, up to the acknowledgement.
    pub fn ask(&mut self, mut request: Request, mut each: impl FnMut(&[u8])) -> Result<(), Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(request.0.len()).map_err(|_| Errno::EMSGSIZE)?;
        request.0[0..4].copy_from_slice(&length.to_ne_bytes());
        request.0[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        let kernel = NetlinkAddr::new(0, 0);
        socket::sendto(self.fd.as_raw_fd(), &request.0, &kernel, MsgFlags::MSG_NOSIGNAL)?;
        let mut buffer = vec![0u8; 32 * 1024];
        loop {
            let (length, from) = match socket::recvfrom::<NetlinkAddr>(self.fd.as_raw_fd(), &mut buffer) {
                Ok(received) => received,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT.into()),
                Err(e) => return Err(e.into()),
            };
            // Any process may send to this socket; only the kernel's port is 0.
            if from.is_none_or(|from| from.pid() != 0) {
                continue;
            }
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some(message) = Message::split(&mut rest) {
                if message.sequence != self.sequence {
                    continue;
                }
                if message.flags & NLM_F_DUMP_INTR != 0 {
                    return Err(Errno::EINTR.into());
                }
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => return message.verdict(),
                    _ => each(message.body),
                }
            }
        }
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes one message off the front; `None` at the end, or if what is left is no whole message.
    fn split(rest: &mut &'a [u8]) -> Option<Self> {
        let length = usize::try_from(u32_at(rest, 0)?).ok()?;
        let body = rest.get(HEADER..length)?;
        let message = Self { kind: u16_at(rest, 4)?, flags: u16_at(rest, 6)?, sequence: u32_at(rest, 8)?, body };
        *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }

    /// What an acknowledgement says: a negated errno, the request (its header alone if capped), attributes.
    fn verdict(&self) -> Result<(), Refusal> {
        let code = u32_at(self.body, 0).map_or(0, u32::cast_signed);
        if code == 0 {
            return Ok(());
        }
        let errno = Errno::from_raw(code.wrapping_neg());
        let echoed = if self.flags & NLM_F_CAPPED != 0 { Some(16) } else { u32_at(self.body, 4) };
        let skip = 4 + echoed.and_then(|n| usize::try_from(n).ok()).unwrap_or(0).next_multiple_of(4);
        let with_words = self.kind == NLMSG_ERROR && self.flags & NLM_F_ACK_TLVS != 0;
        let tlvs = if with_words { self.body.get(skip..).unwrap_or_default() } else { &[] };
        let words = attributes(tlvs)
            .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
            .map(|(_, text)| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
        Err(Refusal { errno, words: words.unwrap_or_default() })
    }
}

/// The attributes in `bytes`, each its type and value; stops at one that is not whole.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        // The two high bits are flags (nested, network byte order).
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The 32-bit number at `at`, in the machine's byte order.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_messages_and_attributes_end_the_walk() {
        let attr = Request::new(0, 0, &[]).attr(7, b"abc").unwrap().attr(8, b"").unwrap();
        let body = &attr.0[HEADER..];
        assert_eq!(attributes(body).collect::<Vec<_>>(), [(7, &b"abc"[..]), (8, &b""[..])]);
        for cut in 0..body.len() {
            assert!(attributes(&body[..cut]).count() < 2);
        }
        assert_eq!(attributes(&[0; 8]).count(), 0);
        for length in [0u32, 15, 17, u32::MAX] {
            let mut bytes = [0u8; HEADER];
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(Message::split(&mut &bytes[..]).is_none());
        }
    }

    #[test]
    fn the_kernel_s_refusal_comes_with_its_errno() {
        let mut socket = Socket::open().unwrap();
        let refusal = socket.ask(Request::new(18, 0, &[0; 16]).attr(3, b"no-such-dev\0").unwrap(), |_| ()).unwrap_err();
        assert_eq!(refusal.errno, Errno::ENODEV);
    }
}
