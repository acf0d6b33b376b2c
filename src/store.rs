//! The state directory: one directory a container, named by its id, under the state root (`/run/onggi`).
//!
//! Write ahead: the directory is made before anything else of the container (mkdir is the claim to the id), then the link
//! `cgroup`, which names the cgroup before that exists and cannot be half written, then the FIFO, and `state.json` by
//! rename once init is ready. Whatever is there when a command is killed, `delete --force` finds the rest through it.
//! Removal goes the other way round; the directory itself goes last.
//!
//! The lock of a container is flock(2) on its directory: it dies with its holder and leaves no file.

mod companion;
mod glance;
pub mod init;
mod record;

pub use glance::Seen;
pub use record::Record;

use crate::error::{Context, Error, Result};
use crate::sys::fs::{self, leave, lock, read_file};
use crate::sys::open::{open, openat};
use crate::sys::{auxv, heap};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Most that is read of a state file: a larger one is not ours.
const MAX_STATE: usize = 16 << 20;
/// More than almost every file of state has: one read gets it all, into half a page.
const USUAL_STATE: usize = (2 << 10) - heap::HEADER - 1;
/// More than the configurations that engines write. What is not filled costs nothing.
const USUAL_CONFIG: usize = (32 << 10) - heap::HEADER - 1;
/// How a container's directory is opened.
const ENTRY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// What init waits on, and then tells `start` why it could not execute the program. runc's name: its tests and its users'
/// monitors know it.
const EXEC: &str = "exec.fifo";
const STATE: &str = "state.json";
const STATE_NEW: &str = "state.json.new";
const CONFIG: &str = "config.json";
const CONFIG_NEW: &str = "config.json.new";
const CGROUP: &str = "cgroup";
const SECCOMP: &str = "seccomp.bpf";
const UNIT: &str = "unit";
const NOTIFY: &str = "notify";
/// The resctrl group that was made for the container, and its monitoring group.
pub const RDT: [&str; 2] = ["rdt", "rdt-monitor"];

/// The default state root: `/run/onggi`, or `$XDG_RUNTIME_DIR/onggi` for whoever is not root of the first user namespace. Root of
/// another who is called so too (`USER`) has a system of its own, such as a container's, and `/run` there; an engine's root is
/// a user of the host by name. These are runc's rules.
///
/// # Errors
/// No directory that is the user's own is known.
pub fn default_root() -> Result<PathBuf> {
    let root = auxv::euid() == 0;
    let user =
        || crate::sys::namespaces::are_nested().unwrap_or(false) && std::env::var_os("USER").is_none_or(|name| name != "root");
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty()) {
        Some(dir) if !root || user() => Ok(Path::new(&dir).join("onggi")),
        None if !root => Err(Error::new("find the state root", "XDG_RUNTIME_DIR is not set").hint("set it, or pass --root")),
        _ => Ok("/run/onggi".into()),
    }
}

/// Where a container's notify socket will be, absolute.
///
/// # Errors
/// As [`default_root`]; the working directory is gone.
pub fn notify_directory(root: Option<&Path>, id: &str) -> Result<PathBuf> {
    let root = root.map_or_else(default_root, |r| Ok(r.to_owned()))?;
    Ok(std::path::absolute(root).step("getcwd", || "find the state root".into())?.join(id).join(NOTIFY))
}

/// The state root.
#[derive(Debug)]
pub struct Store {
    dir: Rc<OwnedFd>,
    path: PathBuf,
}

impl Store {
    /// Opens the root to look at what is there; `None` when nothing ever was.
    ///
    /// # Errors
    /// It is writable by others, or not ours: who can write there can make us kill and remove.
    pub fn open(root: Option<&Path>) -> Result<Option<Self>> {
        let path = root.map_or_else(default_root, |r| Ok(r.to_owned()))?;
        match open_dir(&path) {
            Err(Errno::ENOENT) => Ok(None),
            other => {
                let dir = other.step("open", || format!("open the state root {}", path.display()))?;
                Self::of(dir, path).map(Some)
            }
        }
    }

    /// The root, if nobody else can put anything there.
    fn of(dir: OwnedFd, path: PathBuf) -> Result<Self> {
        let refused = |cause| Error::new(format!("use the state root {}", path.display()), cause);
        let stat = fstat(&dir).step("fstat", || format!("look at the state root {}", path.display()))?;
        // A sticky bit does not keep others from making what is not there yet.
        if stat.st_mode & 0o022 != 0 {
            return Err(refused("others may write to it").hint("chmod go-w"));
        }
        if stat.st_uid != auxv::euid() {
            return Err(refused("it belongs to another user"));
        }
        Ok(Self { dir: Rc::new(dir), path })
    }

    /// Opens the root, making it if need be: mode 0700, and sticky for a user's, so that no cleaner takes it away.
    ///
    /// # Errors
    /// It is writable by others, or not ours: who can write there can make us kill and remove.
    pub fn open_or_make(root: Option<&Path>) -> Result<Self> {
        let path = root.map_or_else(default_root, |r| Ok(r.to_owned()))?;
        // In a user's own directory, which root of a user namespace may have too.
        let sticky = auxv::euid() != 0 || root.is_none() && path != Path::new("/run/onggi");
        let refused = |e: Error| match e.errno() {
            Some(crate::error::Errno(libc::EACCES | libc::EPERM | libc::EROFS)) => {
                e.hint("set XDG_RUNTIME_DIR to a directory of the user's, or pass --root")
            }
            _ => e,
        };
        let step = || format!("make the state root {}", path.display());
        let dir = match open_dir(&path) {
            Err(Errno::ENOENT) => {
                use std::os::unix::fs::DirBuilderExt;
                let mode = if sticky { 0o1700 } else { 0o700 };
                if let Some(parent) = path.parent() {
                    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).step("mkdir", step).map_err(refused)?;
                }
                match nix::unistd::mkdir(&path, Mode::from_bits_truncate(mode)) {
                    // Another command was quicker.
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(e) => return Err(refused(Error::sys(step(), "mkdir", e.into()))),
                }
                open_dir(&path).step("open", step)?
            }
            other => other.step("open", || format!("open the state root {}", path.display()))?,
        };
        Self::of(dir, path)
    }

    /// Claims the id and locks its directory.
    pub fn create(&self, id: &str) -> Result<Entry> {
        match mkdirat(&*self.dir, id, Mode::from_bits_truncate(0o700)) {
            Err(Errno::EEXIST) => return Err(Error::exact("container with given ID already exists")),
            other => other.step("mkdirat", || format!("make the state directory {}", self.path.join(id).display()))?,
        }
        self.entry(id).inspect_err(|_| {
            // Empty, and nobody else's: if this fails too, `delete --force` finds it.
            let _left = unlinkat(&*self.dir, id, UnlinkatFlags::RemoveDir);
        })
    }

    /// Opens the container's directory and locks it, waiting for whoever works on it now.
    pub fn entry(&self, id: &str) -> Result<Entry> {
        self.locked(id, libc::LOCK_EX)
    }

    /// Opens the container's directory to look at it, without waiting.
    pub fn look(&self, id: &str) -> Result<Entry> {
        let dir = self.open_entry(id)?;
        Ok(Entry { dir: File::from(dir), root: Some(Rc::clone(&self.dir)), id: id.into(), path: self.path.join(id) })
    }

    /// [`Store::open`] and [`Store::look`] in one: for the commands that ask, or signal, one container.
    pub fn look_at(root: Option<&Path>, id: &str) -> Result<Entry> {
        let path = root.map_or_else(default_root, |r| Ok(r.to_owned()))?;
        let entry = path.join(id);
        match open(&entry, ENTRY, Mode::empty()) {
            Ok(dir) => Ok(Entry { dir: File::from(dir), root: None, id: id.into(), path: entry }),
            // In two steps, to say which is at fault.
            Err(_) => Self::open(Some(&path))?.ok_or_else(unknown)?.look(id),
        }
    }

    fn open_entry(&self, id: &str) -> Result<OwnedFd> {
        match openat(&*self.dir, id, ENTRY, Mode::empty()) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Err(unknown()),
            other => other.step("openat", || format!("open the state directory {}", self.path.join(id).display())),
        }
    }

    fn locked(&self, id: &str, how: i32) -> Result<Entry> {
        let dir = self.open_entry(id)?;
        let path = self.path.join(id);
        let dir = File::from(dir);
        lock(dir.as_fd(), how).step("flock", || format!("lock {}", path.display()))?;
        // While we waited it may have been removed, and perhaps made anew.
        // No other failure may count as that: `delete --force` is content with what is not there.
        let step = || format!("look at the state directory {}", path.display());
        let held = fstat(&dir).step("fstat", step)?;
        match fstatat(&*self.dir, id, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Err(unknown()),
            named if !same_file(&held, &named.step("newfstatat", step)?) => return Err(unknown()),
            _ => {}
        }
        Ok(Entry { dir, root: Some(Rc::clone(&self.dir)), id: id.into(), path })
    }
}

fn open_dir(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

fn read(dir: BorrowedFd<'_>, name: &str, usual: usize, step: impl Fn(&str) -> String) -> Result<(Vec<u8>, OwnedFd)> {
    // Not blocking: what is not a regular file is not ours, and does not read as one of ours.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty()).step("openat", || step("open"))?;
    let bytes = read_file(fd.as_fd(), usual, MAX_STATE).step("read", || step("read"))?;
    Ok((bytes, fd))
}

/// What [`read`] found of [`STATE`].
fn state(found: Result<Vec<u8>>, step: impl Fn() -> String) -> Result<Option<Record>> {
    match found {
        Err(e) if e.errno() == Some(crate::error::Errno(libc::ENOENT)) => Ok(None),
        Err(e) => Err(e),
        Ok(bytes) => Record::from_bytes(&bytes).map(Some).map_err(|e| e.context(&step())),
    }
}

fn open_fifo(dir: BorrowedFd<'_>, name: &str, write: bool) -> nix::Result<OwnedFd> {
    let flags = if write { OFlag::O_WRONLY } else { OFlag::O_RDONLY } | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

fn same_file(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

/// No such container, in the words that engines match on.
pub fn unknown() -> Error {
    Error::exact("container does not exist")
}

/// One container's directory, locked while this lives (unless it was only looked at).
#[derive(Debug)]
pub struct Entry {
    dir: File,
    /// The state root; `None` after [`Store::look_at`].
    root: Option<Rc<OwnedFd>>,
    id: String,
    path: PathBuf,
}

impl Entry {
    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The path of its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory, to make sockets and files in.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Lets others work on the container, while this process goes on to look.
    pub fn unlock(&self) -> Result<()> {
        lock(self.dir.as_fd(), libc::LOCK_UN).step("flock", || format!("unlock {}", self.path.display()))
    }

    fn step(&self, what: &str, name: &str) -> String {
        format!("{what} {}", self.path.join(name).display())
    }

    /// Names what is about to be made, as the text of a link: that cannot be half written.
    fn name<P: ?Sized + nix::NixPath>(&self, link: &str, text: &P) -> Result<()> {
        symlinkat(text, &self.dir, link).step("symlinkat", || self.step("make the link", link))
    }

    /// What a link names, whether it exists or not.
    fn named(&self, link: &str) -> Result<Option<PathBuf>> {
        match readlinkat(&self.dir, link) {
            Ok(text) => Ok(Some(text.into())),
            Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
            Err(e) => Err(Error::sys(self.step("read the link", link), "readlinkat", e.into())),
        }
    }

    /// Names the cgroup, before it is made.
    pub fn name_cgroup(&self, path: &Path) -> Result<()> {
        self.name(CGROUP, path)
    }

    /// The cgroup that was named, whether it exists or not.
    pub fn cgroup(&self) -> Result<Option<PathBuf>> {
        self.named(CGROUP)
    }

    /// Names the unit that systemd is about to make.
    pub fn name_unit(&self, text: &str) -> Result<()> {
        self.name(UNIT, text)
    }

    /// The unit that was named, whether it exists or not.
    pub fn unit(&self) -> Result<Option<String>> {
        Ok(self.named(UNIT)?.map(|text| text.to_string_lossy().into_owned()))
    }

    /// Names a resctrl group, before it is made; `link` is one of [`RDT`].
    pub fn name_rdt(&self, link: &str, path: &Path) -> Result<()> {
        self.name(link, path)
    }

    /// The resctrl group that was named, whether it exists or not.
    pub fn rdt(&self, link: &str) -> Result<Option<PathBuf>> {
        self.named(link)
    }

    /// The resctrl group is not the container's any more, to be removed with it.
    pub fn release_rdt(&self, link: &str) -> Result<()> {
        unlinkat(&self.dir, link, UnlinkatFlags::NoRemoveDir).step("unlinkat", || self.step("remove the link", link))
    }

    /// Makes the FIFO between init and `start` and opens it for reading and writing, so that init can hold it without a
    /// peer. Nobody else holds it for reading: without a reader init is gone, or has executed the program. It is locked as long
    /// as it is open here or in init, which tells init from a stranger who reads it.
    pub fn make_fifo(&self) -> Result<OwnedFd> {
        mknodat(&self.dir, EXEC, SFlag::S_IFIFO, Mode::from_bits_truncate(0o600), 0)
            .step("mknodat", || self.step("make", EXEC))?;
        let fifo = openat(&self.dir, EXEC, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
        let fifo = fifo.step("openat", || self.step("open", EXEC))?;
        lock(fifo.as_fd(), libc::LOCK_EX).step("flock", || self.step("lock", EXEC))?;
        Ok(fifo)
    }

    /// Opens it without waiting for its other end: for writing, ENXIO means that nobody has it open for reading.
    pub fn open_fifo(&self, write: bool) -> nix::Result<OwnedFd> {
        open_fifo(self.dir(), EXEC, write)
    }

    /// Makes the directory of the notify socket. The container sees it, by any user of its own.
    pub fn make_notify(&self) -> Result<OwnedFd> {
        mkdirat(&self.dir, NOTIFY, Mode::from_bits_truncate(0o755)).step("mkdirat", || self.step("make", NOTIFY))?;
        let dir = self.notify()?.ok_or_else(unknown)?;
        // Whatever the umask is.
        fchmod(&dir, Mode::from_bits_truncate(0o755)).step("fchmod", || self.step("open", NOTIFY))?;
        Ok(dir)
    }

    /// The directory of the notify socket, if the container was made with one.
    pub fn notify(&self) -> Result<Option<OwnedFd>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.dir, NOTIFY, flags, Mode::empty()) {
            Err(Errno::ENOENT) => Ok(None),
            other => other.map(Some).step("openat", || self.step("open", NOTIFY)),
        }
    }

    /// Keeps the bundle's configuration: hooks and limits are wanted after the bundle may be gone.
    pub fn write_config(&self, bytes: &[u8]) -> Result<()> {
        self.write_new(CONFIG, bytes)
    }

    /// Puts another in its place, whole or not at all.
    pub fn replace_config(&self, bytes: &[u8]) -> Result<()> {
        self.write_new(CONFIG_NEW, bytes)?;
        renameat(&self.dir, CONFIG_NEW, &self.dir, CONFIG).step("renameat", || self.step("replace", CONFIG))
    }

    /// The kept configuration.
    pub fn config(&self) -> Result<Vec<u8>> {
        self.read(CONFIG, USUAL_CONFIG)
    }

    /// Keeps the compiled seccomp filter, for `exec`.
    pub fn write_filter(&self, bytes: &[u8]) -> Result<()> {
        self.write_new(SECCOMP, &[bytes, &record::checksum(bytes).to_ne_bytes()].concat())
    }

    /// The kept filter. `None` when there is none, or it is damaged: it can be made again.
    pub fn filter(&self) -> Option<Vec<u8>> {
        let mut bytes = self.read(SECCOMP, USUAL_CONFIG).ok()?;
        let sum = bytes.split_off(bytes.len().checked_sub(8)?);
        (sum == record::checksum(&bytes).to_ne_bytes()).then_some(bytes)
    }

    /// Writes the state beside the one that counts.
    pub fn prepare_state(&self, record: &Record) -> Result<()> {
        self.write_new(STATE_NEW, &record.to_bytes())
    }

    /// Makes the prepared state the one that counts.
    pub fn commit_state(&self) -> Result<()> {
        renameat(&self.dir, STATE_NEW, &self.dir, STATE).step("renameat", || self.step("commit", STATE))
    }

    /// The state; `None` while the container is being made, or if its making was cut short.
    ///
    /// # Errors
    /// The file is not ours, or damaged.
    pub fn state(&self) -> Result<Option<Record>> {
        state(self.read(STATE, USUAL_STATE), || self.step("read", STATE))
    }

    /// What the state will be, while a command is making the container: it holds the lock then. What one that was killed
    /// has left is no container.
    pub fn creating(&self) -> Option<Record> {
        lock(self.dir.as_fd(), libc::LOCK_SH | libc::LOCK_NB).err()?;
        Record::from_bytes(&self.read(STATE_NEW, USUAL_STATE).ok()?).ok()
    }

    fn read(&self, name: &str, usual: usize) -> Result<Vec<u8>> {
        let (bytes, file) = read(self.dir(), name, usual, |what| self.step(what, name))?;
        leave(file);
        Ok(bytes)
    }

    fn write_new(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // What is left of a write that was cut short.
        let open = || openat(&self.dir, name, flags, Mode::from_bits_truncate(0o600));
        let fd = match open() {
            Err(Errno::EEXIST) => {
                unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir).step("unlinkat", || self.step("replace", name))?;
                open()
            }
            other => other,
        };
        let fd = fd.step("openat", || self.step("make", name))?;
        File::from(fd).write_all(bytes).step("write", || self.step("write", name))
    }

    /// Removes the directory with all that is in it. A second time is a success.
    pub fn remove(&self) -> Result<()> {
        // Mostly these are all, and to list a directory takes as many calls again.
        for name in [CONFIG, EXEC, CGROUP, STATE] {
            match unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(e) => return Err(Error::sys(self.step("remove", name), "unlinkat", e.into())),
            }
        }
        match self.remove_directory() {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            other => return other.step("unlinkat", || self.step("remove", "")),
        }
        let mut dir = openat(&self.dir, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .and_then(nix::dir::Dir::from_fd)
            .step("openat", || self.step("list", ""))?;
        for entry in dir.iter() {
            let entry = entry.step("getdents64", || self.step("list", ""))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // A container that may change its mounts can have put anything there; links are not followed.
            if name.to_bytes() == NOTIFY.as_bytes() {
                std::fs::remove_dir_all(format!("/proc/self/fd/{}/{NOTIFY}", self.dir.as_raw_fd()))
                    .step("unlinkat", || self.step("remove", NOTIFY))?;
                continue;
            }
            match unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                // Nothing else of ours is a directory; what somebody put there is theirs.
                Err(e) => return Err(Error::sys(self.step("remove", &name.to_string_lossy()), "unlinkat", e.into())),
            }
        }
        self.remove_directory().step("unlinkat", || self.step("remove", ""))
    }

    fn remove_directory(&self) -> nix::Result<()> {
        let removed = match &self.root {
            Some(root) => unlinkat(&**root, self.id.as_str(), UnlinkatFlags::RemoveDir),
            None => unlinkat(fs::cwd(), &self.path, UnlinkatFlags::RemoveDir),
        };
        match removed {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }
}
