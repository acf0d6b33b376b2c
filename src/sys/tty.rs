//! Terminals: pairs from a devpts instance, window sizes, the controlling terminal (ioctl_tty(2), pty(7)).
//!
//! Nothing here goes by a path but the one name `ptmx` inside an instance that the caller holds by descriptor: the other
//! end is asked of the kernel (TIOCGPTPEER, Linux 4.13), never looked up below the container's /dev/pts (CVE-2025-52565).
//! Nothing allocates.

use super::open::openat;
use super::{check, owned};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, major};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Rows and columns, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// A new terminal of the devpts instance whose root directory is `devpts`: its master and its slave, both close-on-exec,
/// neither the controlling terminal of anybody yet. ENODEV when what came is not such a terminal.
pub fn open_pair(devpts: BorrowedFd) -> nix::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let master = openat(devpts, c"ptmx", flags, Mode::empty())?;
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one live int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }.into())?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags by value and returns a descriptor.
    let slave = owned(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }.into())?;
    // Slaves have the majors 136 to 143; the file must be of the very instance that was asked.
    let file = fstat(&slave)?;
    let kind = SFlag::from_bits_truncate(file.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFCHR || !(136..=143).contains(&major(file.st_rdev)) || file.st_dev != fstat(devpts)?.st_dev {
        return Err(Errno::ENODEV);
    }
    Ok((master, slave))
}

/// The number N of a master's slave, as in /dev/pts/N.
pub fn number(master: BorrowedFd) -> nix::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one live unsigned int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) }.into())?;
    Ok(number)
}

/// The window's size. ENOTTY if it is no terminal.
pub fn size(tty: impl AsFd) -> nix::Result<Size> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one live winsize.
    check(unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) }.into())?;
    Ok(Size { height: size.ws_row, width: size.ws_col })
}

/// Sets the window's size; the foreground group gets SIGWINCH if it differs.
pub fn set_size(tty: impl AsFd, size: Size) -> nix::Result<()> {
    let size = libc::winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one live winsize.
    check(unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into())?;
    Ok(())
}

/// Makes the slave the controlling terminal of the caller, which must lead a session without one (setsid(2)).
pub fn take_control(slave: BorrowedFd) -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes a number; 0 is not to steal it from another session.
    check(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) }.into())?;
    Ok(())
}

/// Clears ONLCR: where our caller's terminal shows the output, that adds the carriage return itself. Not for a terminal
/// whose master is handed out: its receiver sees the return, as with runc.
pub fn clear_onlcr(tty: BorrowedFd) -> nix::Result<()> {
    // SAFETY: termios is plain data for which all zeroes is valid.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: tcgetattr writes and tcsetattr reads one live termios; both are one ioctl each.
    unsafe {
        check(libc::tcgetattr(tty.as_raw_fd(), &raw mut settings).into())?;
        settings.c_oflag &= !libc::ONLCR;
        check(libc::tcsetattr(tty.as_raw_fd(), libc::TCSANOW, &raw const settings).into())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_pair_talks_and_adds_no_carriage_return() {
        let (master, slave) = open_pair(File::open("/dev/pts").unwrap().as_fd()).unwrap();
        clear_onlcr(master.as_fd()).unwrap();
        nix::unistd::write(&slave, b"a\nb\n").unwrap();
        let mut text = [0; 16];
        let length = nix::unistd::read(&master, &mut text).unwrap();
        assert_eq!(&text[..length], b"a\nb\n");
        let size_wanted = Size { height: 33, width: 101 };
        set_size(&master, size_wanted).unwrap();
        assert_eq!(size(&slave), Ok(size_wanted));
        assert!(std::path::Path::new(&format!("/dev/pts/{}", number(master.as_fd()).unwrap())).exists());
    }

    #[test]
    fn a_directory_that_is_no_devpts_gives_no_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let open = || open_pair(File::open(dir.path()).unwrap().as_fd()).unwrap_err();
        assert_eq!(open(), Errno::ENOENT);
        std::os::unix::fs::symlink("/dev/pts/ptmx", dir.path().join("ptmx")).unwrap();
        assert_eq!(open(), Errno::ELOOP);
        std::fs::remove_file(dir.path().join("ptmx")).unwrap();
        std::fs::write(dir.path().join("ptmx"), "").unwrap();
        assert_eq!(open(), Errno::ENOTTY);
        assert_eq!(size(File::open(dir.path()).unwrap()), Err(Errno::ENOTTY));
    }
}
