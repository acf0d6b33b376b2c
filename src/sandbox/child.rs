//! The child: a loop over the plan's steps, a report when one fails, exec at the end. No parsing, no allocation, no
//! formatting, no locks, no exit handlers: what it needs was made by the parent before the clone, but for the
//! seccomp filter, for which there is room.

use super::channel::Theirs;
use super::open::Opened;
use super::report::{Detail, Kind, Report};
use super::steps;
use crate::plan::{Pause, Plan, Slot};
pub(super) use crate::sys::fs::leave;
use crate::sys::{exe, fs, process};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What the child was given before the clone.
pub struct Inheritance {
    /// The child's end of the channel to the parent.
    pub channel: Theirs,
    /// Opened things, by slot; empty where [`crate::plan::Action::Opens`] will fill them.
    pub slots: Vec<Opened>,
    /// The FIFO that `start` writes, and reads the reason of a failure from; absent in `run`.
    pub start: Option<OwnedFd>,
    /// Where the master of the pseudo-terminal goes.
    pub console: Option<OwnedFd>,
    /// The network namespace, where the clone does not make one; with `lo` up.
    pub network: Option<crate::sys::netns::Made>,
    /// Room for `HOME=...`, made before the clone and never freed.
    pub home: &'static mut [u8],
    /// Room for the seccomp filter, where there is one, or one will come.
    pub filter: Option<crate::sys::seccomp::Room>,
    /// A word shared with the parent, which learns of the seccomp listener there while the child may be unable to speak.
    pub listener: Option<crate::sys::shared::Word>,
}

/// The child's state while it walks the plan.
pub struct Child<'a> {
    pub(super) given: &'a mut Inheritance,
    /// Inside the container: the root of the assembled tree.
    pub(super) root: Option<OwnedFd>,
    /// A procfs to write through: a private one, or the one of the container while nobody else is there.
    pub(super) proc: Option<OwnedFd>,
    /// The kernel's account of this process.
    pub(super) account: Option<OwnedFd>,
    /// The container's devpts.
    pub(super) devpts: Option<OwnedFd>,
    /// The attached mount that masks directories, to be cloned for the next.
    pub(super) mask_dir: Option<OwnedFd>,
    /// True once the null device masks a file and its slot can be cloned.
    pub(super) null_attached: bool,
    /// The directory that a device or link was made in last, and its path: most go to /dev.
    pub(super) parent: Option<(OwnedFd, Parent)>,
    /// The root of the container's file system is the working directory, in a mount namespace made for it.
    pub(super) at_root: bool,
    /// The working directory has been entered.
    pub(super) cwd_entered: bool,
    /// Which candidate of the program step it is.
    pub(super) program: usize,
    /// True once `start` has said go: reports go to it.
    started: bool,
}

/// The path of a directory, on the stack.
pub struct Parent {
    bytes: [u8; 64],
    len: usize,
}

impl Parent {
    /// Takes a path, unless it is too long to be worth it.
    pub(super) fn new(path: &[u8]) -> Option<Self> {
        let mut bytes = [0; 64];
        bytes.get_mut(..path.len())?.copy_from_slice(path);
        Some(Self { bytes, len: path.len() })
    }

    /// Whether it is this path.
    pub(super) fn is(&self, path: &[u8]) -> bool {
        self.bytes.get(..self.len) == Some(path)
    }
}

/// Waits for the one byte that means go; false at end of file. The other side may count on us from here on, so a failing
/// call is tried again: it gives up only on what keeps failing.
fn go(from: BorrowedFd<'_>) -> nix::Result<bool> {
    const TRIES: u32 = 8;
    let mut tries = 1;
    loop {
        match fs::read_full(from, &mut [0; 1]) {
            Ok(n) => return Ok(n == 1),
            Err(e) if tries == TRIES => return Err(e),
            Err(_) => tries += 1,
        }
    }
}

/// Why a step failed.
pub struct Fail(pub Report);

impl Fail {
    /// A failed system call.
    pub fn call(name: &str, errno: Errno) -> Self {
        Self(Report::new(Kind::Failed, 0, errno as i32).call(name))
    }

    /// Our own refusal, in static words.
    pub fn refused(words: &str) -> Self {
        Self(Report::new(Kind::Failed, 0, 0).detail(Detail::Refused, words.as_bytes()))
    }
}

/// Names the system call of a failure.
pub trait Call<T> {
    /// `name` is the call's.
    fn call(self, name: &'static str) -> Result<T, Fail>;
}

impl<T> Call<T> for nix::Result<T> {
    fn call(self, name: &'static str) -> Result<T, Fail> {
        self.map_err(|e| Fail::call(name, e))
    }
}

/// Runs the plan from its first step to exec. The parent that reads the reports sees a step number with each.
pub fn run(plan: &mut Plan, given: &mut Inheritance) -> ! {
    let mut child = Child {
        given,
        root: None,
        proc: None,
        account: None,
        devpts: None,
        mask_dir: None,
        null_attached: false,
        parent: None,
        at_root: false,
        cwd_entered: false,
        program: 0,
        started: false,
    };
    let mut n = 0;
    loop {
        let number = u32::try_from(n).unwrap_or(u32::MAX);
        match steps::run(&mut child, plan, n, number) {
            Ok(()) => n += 1,
            Err(Fail(mut report)) => {
                report.step = number;
                // If nobody reads any more there is nobody to tell.
                let _gone = child.tell(&report);
                process::exit_now(1);
            }
        }
    }
}

impl Child<'_> {
    /// Tells the creator, or, after `start` has said go, that one.
    fn tell(&mut self, report: &Report) -> nix::Result<()> {
        match &self.given.start {
            Some(start) if self.started => report.send(start.as_fd()),
            _ => self.given.channel.send(report),
        }
    }

    fn socket(&self) -> Result<BorrowedFd<'_>, Fail> {
        self.given.channel.socket().call("recvfrom")
    }

    /// Waits for the parent. End of file means that it is gone before it could commit: then this process must not live on.
    pub(super) fn pause(&self, pause: Pause, number: u32) -> Result<(), Fail> {
        // At these the parent does not wait for the child.
        if !matches!(pause, Pause::Mapped | Pause::Placed | Pause::Cleared) {
            Report::new(Kind::Reached, number, 0).send(self.socket()?).call("write")?;
        }
        match go(self.socket()?) {
            Ok(true) => Ok(()),
            _ => process::exit_now(1),
        }
    }

    /// Goes on, unless the parent, which stands still and has lent its memory, is gone.
    pub(super) fn go_on_if_watched(&self) -> Result<(), Fail> {
        match &self.given.channel {
            Theirs::Memory(_, parent) if !parent.lasts() => process::exit_now(1),
            _ => Ok(()),
        }
    }

    /// Waits for the filter, like [`Child::pause`], if it has not been given one.
    pub(super) fn wait_for_filter(&mut self) -> Result<(), Fail> {
        let Some(filter) = &mut self.given.filter else { return Err(Fail::refused("there is no room for a filter")) };
        if filter.is_filled() {
            return Ok(());
        }
        match filter.receive(self.given.channel.socket().call("recvmsg")?).call("recvmsg")? {
            true => Ok(()),
            false => process::exit_now(1),
        }
    }

    /// Waits until `start` writes. The child holds the FIFO open for reading and writing, so this is one quiet read(2)
    /// that ends for no other reason.
    pub(super) fn wait_for_start(&mut self) -> Result<(), Fail> {
        let Some(start) = &self.given.start else { return Ok(()) };
        // The creator has left; it is `start` that is told from here on.
        if let Ok(channel) = u32::try_from(self.socket()?.as_raw_fd()) {
            // One that cannot be closed stays until exec, with nobody at its other end: no reason to fail any more.
            let _kept = fs::close_between(channel, channel);
        }
        // It has handed the listener over: it did so before the pause at which it let this process go.
        if let Some(listener) = self.listener() {
            fs::close_between(listener, listener).call("close_range")?;
        }
        exe::shed();
        go(start.as_fd()).call("read")?;
        self.started = true;
        Ok(())
    }

    /// Tells `start`, if it is that who waits, that the hooks are behind us: an end without this is not the program's.
    pub(super) fn hooks_done(&mut self) -> Result<(), Fail> {
        if !self.started {
            return Ok(());
        }
        self.tell(&Report::new(Kind::Reached, 0, 0)).call("write")
    }

    /// Closes everything from descriptor `first` on but the channel, the FIFO, what is still wanted of this process, and what
    /// `slots` hold (at most two: the files for the output of startContainer hooks): what waits for `start`, perhaps for days,
    /// or shows itself in a container, holds nothing of the caller's and nothing of the host's that it was not given. And who
    /// waits ends when told to: the kernel keeps signals without a handler from the first process of a PID namespace
    /// (pid_namespaces(7)).
    pub(super) fn release(&mut self, first: u32, slots: &[Slot]) -> Result<(), Fail> {
        let number = |fd: &OwnedFd| u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX);
        // The numbers that stay; what is below `first` does anyhow.
        let mut keep = [0; 6];
        if let Theirs::Socket(channel) = &self.given.channel {
            keep[0] = number(channel);
        }
        if let Some(start) = &self.given.start {
            keep[1] = number(start);
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
                process::end_by(signal).call("rt_sigaction")?;
            }
        }
        for (to, slot) in keep[2..4].iter_mut().zip(slots) {
            if let Some(Opened::Fd(fd, _)) = self.given.slots.get(slot.0) {
                *to = number(fd);
            }
        }
        if let Some(console) = &self.given.console {
            keep[4] = number(console);
        }
        if let Some(account) = &self.account {
            keep[5] = number(account);
        }
        keep.sort_unstable();
        let mut next = first;
        for kept in keep {
            if kept > next {
                fs::close_between(next, kept - 1).call("close_range")?;
            }
            next = next.max(kept.saturating_add(1));
        }
        fs::close_between(next, u32::MAX).call("close_range")?;
        // Their numbers are free now, and may come to mean something else.
        std::mem::forget(self.parent.take());
        for fd in [&mut self.root, &mut self.proc, &mut self.devpts, &mut self.mask_dir] {
            std::mem::forget(fd.take());
        }
        if self.given.channel.is_memory() {
            // The parent has them still, and closes what it finds here. No step behind this one looks at them.
            return Ok(());
        }
        for (_, slot) in self.given.slots.iter_mut().enumerate().filter(|(n, _)| !slots.contains(&Slot(*n))) {
            std::mem::forget(std::mem::replace(slot, Opened::Nothing));
        }
        Ok(())
    }

    /// The number of the seccomp listener, once the filter is loaded.
    fn listener(&self) -> Option<u32> {
        self.given.listener.as_ref().and_then(crate::sys::shared::Word::get).and_then(|n| u32::try_from(n).ok())
    }

    /// The root of the assembled tree.
    pub(super) fn root(&self) -> Result<BorrowedFd<'_>, Fail> {
        self.root.as_ref().map(AsFd::as_fd).ok_or_else(|| Fail::call("openat2", Errno::EBADF))
    }
}
