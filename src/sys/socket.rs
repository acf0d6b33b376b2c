//! Descriptors over AF_UNIX sockets (unix(7), SCM_RIGHTS), without allocation: both sides of a clone use it.
//!
//! Not `nix::sys::socket::sendmsg`, which builds its control message in a `Vec`.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Room for a control message with up to eight descriptors, aligned as `cmsghdr` wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

// The type of lengths differs by C library.
#[allow(clippy::useless_conversion)]
fn message(part: &mut libc::iovec, control: &mut Control, control_length: usize) -> nix::Result<libc::msghdr> {
    // SAFETY: msghdr is plain data for which all zeroes is valid: no name, no flags.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control_length.try_into().map_err(|_| Errno::EINVAL)?;
    Ok(message)
}

/// Sends one descriptor with `payload`, at least one byte, in one message. Never raises SIGPIPE. EAGAIN if the socket does
/// not block and is full.
pub fn send_fd(socket: BorrowedFd, fd: BorrowedFd, payload: &[u8]) -> nix::Result<()> {
    let one = u32::try_from(size_of::<RawFd>()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: arithmetic on a number.
    let (space, length) = unsafe { (libc::CMSG_SPACE(one), libc::CMSG_LEN(one)) };
    let space = usize::try_from(space).map_err(|_| Errno::EINVAL)?;
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    let message = message(&mut part, &mut control, space)?;
    // SAFETY: the control buffer is aligned and longer than the one header with its descriptor, so CMSG_FIRSTHDR is not
    // null and CMSG_DATA lies inside. The int is written unaligned.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = length.try_into().map_err(|_| Errno::EINVAL)?;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd.as_raw_fd());
    }
    loop {
        // SAFETY: `message` points to live buffers, which the kernel only reads.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match usize::try_from(sent) {
            Ok(n) if n == payload.len() => return Ok(()),
            Ok(_) => return Err(Errno::EMSGSIZE),
            Err(_) if Errno::last() == Errno::EINTR => {}
            Err(_) => return Err(Errno::last()),
        }
    }
}

/// Receives one message with exactly one descriptor, close-on-exec: the descriptor, and how many bytes of `payload` came
/// with it. ENODATA at the end of the stream, EBADMSG for a message with another number of descriptors.
pub fn recv_fd(socket: BorrowedFd, payload: &mut [u8]) -> nix::Result<(OwnedFd, usize)> {
    match recv_maybe_fd(socket, payload)? {
        (received, Some(fd)) => Ok((fd, received)),
        (0, None) => Err(Errno::ENODATA),
        (_, None) => Err(Errno::EBADMSG),
    }
}

/// Receives one message with one descriptor, close-on-exec, or none: how many bytes of `payload` came, and the descriptor.
/// No bytes and no descriptor are the end of the stream. EBADMSG for a message with more than one descriptor.
pub fn recv_maybe_fd(socket: BorrowedFd, payload: &mut [u8]) -> nix::Result<(usize, Option<OwnedFd>)> {
    let mut control = Control([0; 64]);
    let room = control.0.len();
    let mut part = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
    let mut message = message(&mut part, &mut control, room)?;
    let received = loop {
        // SAFETY: `message` points to live buffers of the lengths given.
        let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match usize::try_from(got) {
            Ok(n) => break n,
            Err(_) if Errno::last() == Errno::EINTR => {}
            Err(_) => return Err(Errno::last()),
        }
    };
    let (mut found, mut count) = (None, 0);
    // SAFETY: the kernel filled the control buffer and set its length; the CMSG macros stay inside it. Each int is a
    // descriptor that this process has just got and nobody else owns; surplus ones are closed by their OwnedFd.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let start = libc::CMSG_DATA(header);
                #[allow(clippy::useless_conversion)] // as above
                let length = usize::try_from((*header).cmsg_len).map_err(|_| Errno::EINVAL)?;
                let bytes = length.saturating_sub(start.offset_from_unsigned(header.cast()));
                for n in 0..bytes / size_of::<RawFd>() {
                    let fd = start.cast::<RawFd>().add(n).read_unaligned();
                    found = Some(OwnedFd::from_raw_fd(fd));
                    count += 1;
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    if count > 1 || message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(Errno::EBADMSG);
    }
    Ok((received, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_goes_over_with_its_payload() {
        let (here, there) = UnixStream::pair().unwrap();
        let sent = std::fs::File::open("/proc/self/status").unwrap();
        send_fd(here.as_fd(), sent.as_fd(), b"/dev/pts/0").unwrap();
        let mut name = [0; 64];
        let (fd, length) = recv_fd(there.as_fd(), &mut name).unwrap();
        assert_eq!(&name[..length], b"/dev/pts/0");
        let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
        assert_eq!(nix::sys::stat::fstat(&fd).unwrap().st_ino, nix::sys::stat::fstat(&sent).unwrap().st_ino);
    }

    #[test]
    fn bytes_alone_and_a_closed_end_are_told_apart() {
        let (here, there) = UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut &here, b"x").unwrap();
        assert_eq!(recv_fd(there.as_fd(), &mut [0; 4]).unwrap_err(), Errno::EBADMSG);
        drop(here);
        assert_eq!(recv_fd(there.as_fd(), &mut [0; 4]).unwrap_err(), Errno::ENODATA);
        assert_eq!(send_fd(there.as_fd(), there.as_fd(), b"x").unwrap_err(), Errno::EPIPE);
    }
}
