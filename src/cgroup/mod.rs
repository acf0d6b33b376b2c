//! Where a container is counted and limited: cgroup v2, made through cgroupfs or by [`systemd`].
//!
//! No cgroup v1. Both ways end in the same [`Cgroup`].
//! [`Hierarchy`], [`place`], [`limits`] and [`devices`] say what is to be done, [`Cgroup`] does it on a directory's
//! descriptor, so that a path that is removed and made anew meanwhile is not taken for ours.

mod create;
mod delegation;
pub mod devices;
mod files;
mod hierarchy;
mod life;
pub mod limits;
pub mod place;
mod setup;
mod statistics;
pub mod systemd;
mod tree;
mod watch;

pub use delegation::{Delegation, Denied};
pub use hierarchy::{Hierarchy, parse_memberships};
pub use setup::{Driver, Rights, Setup};
pub use statistics::Statistics;
pub use watch::Watch;

use crate::config::Memory;
use crate::error::{Context, Error, Result};
use crate::sys::bpf;
use crate::sys::open::open;
use limits::{Rule, Write};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::{Uid, fchown, fchownat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The name of our device programs, to tell them from those of systemd.
const PROGRAM_NAME: bpf::Name = *b"onggi_devices\0\0\0";

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A directory of cgroup2, open.
#[derive(Debug)]
pub struct Cgroup {
    /// Absolute, for messages, for the state, and for the one thing that takes a path: rmdir.
    path: PathBuf,
    dir: OwnedFd,
    /// We made it just now, so nothing of anyone is in it.
    fresh: bool,
}

impl Cgroup {
    /// Opens the cgroup at an absolute path; nothing when it is gone.
    ///
    /// Fails when the path leads elsewhere than into cgroup2.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let step = || format!("open the cgroup {}", path.display());
        let dir = match open(path, DIRECTORY, Mode::empty()) {
            Err(e) if tree::gone(e) => return Ok(None),
            other => other.step("open", step)?,
        };
        if fstatfs(&dir).step("fstatfs", step)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
            return Err(Error::new(step(), "it is not in a cgroup2 file system"));
        }
        Ok(Some(Self { path: path.to_owned(), dir, fresh: false }))
    }

    /// Opens a cgroup below this one, for a process to be put there. `below` never leads out of it: `..` above the start, and
    /// symbolic links, are errors. The words are runc's.
    pub fn open_below(&self, below: &str) -> Result<Self> {
        let relative = below.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        let step = || format!("adding pid to {}", self.path.join(relative).join("cgroup.procs").display());
        let dir = match open_beneath(&self.dir, relative) {
            Err(Errno::EXDEV) => {
                return Err(Error::new("open the container's cgroup", format!("{below} is not a sub cgroup path")));
            }
            other => other.step("openat2", step)?,
        };
        Ok(Self { path: self.path.join(relative), dir, fresh: false })
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the writes, in order. Stops at the first that fails.
    pub fn apply(&self, writes: &[Write]) -> Result<()> {
        let mut again: Vec<&Write> = Vec::new();
        for w in writes {
            match files::write(&self.dir, &w.file, &w.value) {
                Ok(()) => {}
                Err(Errno::ENOENT) if w.rule == Rule::IfThere => {}
                Err(Errno::EINVAL) if matches!(w.rule, Rule::AgainAfter(_)) => {
                    again.push(w);
                    continue;
                }
                Err(Errno::ENOENT) if matches!(w.rule, Rule::Else { .. }) => self.write_other(w)?,
                Err(e) => return Err(self.refused_write(w, &w.file, &w.value, e)),
            }
            for late in again.extract_if(.., |a| matches!(a.rule, Rule::AgainAfter(file) if file == w.file)) {
                files::write(&self.dir, &late.file, &late.value)
                    .map_err(|e| self.refused_write(late, &late.file, &late.value, e))?;
            }
        }
        match again.first() {
            Some(w) => Err(self.refused_write(w, &w.file, &w.value, Errno::EINVAL)),
            None => Ok(()),
        }
    }

    /// Makes the writes, then `tell`s others of them; when one of this fails, puts back what the files held.
    pub fn change(&self, writes: &[Write], tell: impl FnOnce() -> Result<()>) -> Result<()> {
        // Of files with a line a device one line would not do: those stay as far as they came.
        let before: Vec<_> = writes.iter().map(|w| (&w.file, self.line(&w.file))).collect();
        let done = self.apply(writes).and_then(|()| tell());
        if done.is_err() {
            for (file, text) in before.iter().rev() {
                if let Some(text) = text {
                    // The first error is the one to tell.
                    let _best_effort = files::write(&self.dir, file, text.trim());
                }
            }
        }
        done
    }

    /// Puts back the files among `names` that `meanwhile` has changed.
    pub fn keep(&self, names: &[&str], meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        let before: Vec<_> = names.iter().filter_map(|name| Some((*name, self.line(name)?))).collect();
        meanwhile()?;
        for (name, text) in before {
            if self.line(name).is_some_and(|now| now != text) {
                files::write(&self.dir, name, text.trim()).step("write", || self.file("restore", name))?;
            }
        }
        Ok(())
    }

    /// What a file holds that has one line.
    fn line(&self, name: &str) -> Option<String> {
        files::read(&self.dir, name).ok().filter(|text| text.lines().count() == 1)
    }

    fn write_other(&self, w: &Write) -> Result<()> {
        let Rule::Else { file, value } = &w.rule else { return Ok(()) };
        files::write(&self.dir, file, value).map_err(|e| match e {
            Errno::ENOENT => Error::new(
                format!("write {:?} to {}", w.value, self.path.join(&w.file).display()),
                format!("neither {} nor {file} is there", w.file),
            )
            .at(w.field.clone())
            .hint("the kernel lacks what gives weights to block I/O: the BFQ scheduler, or CONFIG_BLK_CGROUP_IOCOST"),
            e => self.refused_write(w, file, value, e),
        })
    }

    fn refused_write(&self, w: &Write, file: &str, value: &str, e: Errno) -> Error {
        let error = Error::sys(format!("write {value:?} to {}", self.path.join(file).display()), "write", e.into());
        let error = error.at(w.field.clone());
        match (e, file) {
            (Errno::ENOENT, "memory.swap.max") => error.hint("the kernel does not count swap: swapaccount=1, CONFIG_SWAP"),
            (Errno::ENOENT, _) => error.hint(format!("controller {} of this kernel has no such file", w.controller)),
            (Errno::ENODEV, _) => error.hint("the number must be that of a whole disk that is there, not of a partition"),
            (Errno::EACCES | Errno::EPERM | Errno::EROFS, _) => error.hint("the cgroup is not delegated to this user"),
            _ => error,
        }
    }

    /// Puts the device program in force, in place of ours that is there; nothing takes ours away.
    ///
    /// Programs of others stay: all must agree on an access.
    pub fn attach_devices(&self, program: Option<&[u64]>) -> Result<()> {
        const FIELD: &str = "/linux/resources/devices";
        let step = |what: &str| format!("{what} the device program of {}", self.path.display());
        let mut ours = Vec::new();
        if !self.fresh {
            ours = bpf::attached(&self.dir).step("bpf", || step("look for")).map_err(|e| e.at(FIELD))?;
            ours.retain(|(_, name)| *name == PROGRAM_NAME);
        }
        let mut ours = ours.into_iter().map(|(p, _)| p);
        if let Some(insns) = program {
            let loaded = bpf::load(insns, PROGRAM_NAME).map_err(|e| refused_program(step("load"), insns, e).at(FIELD))?;
            match ours.next() {
                Some(old) => bpf::replace(&self.dir, &loaded, &old),
                None => bpf::attach(&self.dir, &loaded),
            }
            .step("bpf", || step("attach"))
            .map_err(|e| e.at(FIELD))?;
        }
        for old in ours {
            bpf::detach(&self.dir, &old).step("bpf", || step("detach")).map_err(|e| e.at(FIELD))?;
        }
        Ok(())
    }

    /// Gives the cgroup to a user of the host, so that the container's root may make cgroups in its own namespace: the
    /// directory and the files of `/sys/kernel/cgroup/delegate`, no limits among them.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        let owner = Some(Uid::from_raw(uid));
        let step = |what: &Path| format!("give {} to user {uid}", what.display());
        fchown(&self.dir, owner, None).step("fchown", || step(&self.path))?;
        // Since 4.15; what it lists is up to the kernel.
        let list = files::read_path(Path::new("/sys/kernel/cgroup/delegate"))
            .step("read", || "read /sys/kernel/cgroup/delegate".into())?;
        for name in list.split_ascii_whitespace() {
            match fchownat(&self.dir, name, owner, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
                // A file of a controller that is not here.
                Err(Errno::ENOENT) => {}
                other => other.step("fchownat", || step(&self.path.join(name)))?,
            }
        }
        Ok(())
    }

    /// How many times the out-of-memory killer killed here; nothing without the memory controller.
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        match files::read(&self.dir, "memory.events") {
            Err(e) if tree::gone(e) => Ok(None),
            other => Ok(files::keyed(&other.step("read", || self.file("read", "memory.events"))?, "oom_kill")),
        }
    }

    /// Refuses a limit that is not above what is in use, where `checkBeforeUpdate` asks for that; else the kernel would
    /// reclaim, and kill when that is not enough.
    pub fn check_memory(&self, memory: &Memory) -> Result<()> {
        if !memory.check_before_update {
            return Ok(());
        }
        let text = match files::read(&self.dir, "memory.current") {
            Err(e) if tree::gone(e) => return Ok(()),
            other => other.step("read", || self.file("read", "memory.current"))?,
        };
        let used = text.trim().parse::<i64>().map_err(|e| Error::new(self.file("read", "memory.current"), e.to_string()))?;
        for (limit, member) in [(memory.swap, "swap"), (memory.limit, "limit")] {
            if let Some(limit) = limit.filter(|&l| l > 0 && l <= used) {
                return Err(Error::new("check the new limit", format!("{limit} is not above the {used} bytes in use"))
                    .at(format!("/linux/resources/memory/{member}"))
                    .hint("checkBeforeUpdate asks for this check"));
            }
        }
        Ok(())
    }

    /// Whether it has a file of this name.
    pub fn has(&self, file: &str) -> bool {
        nix::sys::stat::fstatat(&self.dir, file, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// `verb PATH/name`, for errors.
    fn file(&self, verb: &str, name: &str) -> String {
        format!("{verb} {}", self.path.join(name).display())
    }
}

impl AsFd for Cgroup {
    /// For `CLONE_INTO_CGROUP`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Opens a directory below `dir`: no `..` out of it, no symbolic link, no other mount.
fn open_beneath(dir: impl AsFd, path: impl AsRef<Path>) -> nix::Result<OwnedFd> {
    let path = path.as_ref();
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    loop {
        match openat2(&dir, path, OpenHow::new().flags(DIRECTORY).resolve(resolve)) {
            // A rename or mount elsewhere made a ".." doubtful.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
}

fn refused_program(step: String, insns: &[u64], e: Errno) -> Error {
    match e {
        Errno::EPERM => Error::sys(step, "bpf", e.into())
            .hint("device rules need CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, in the first user namespace"),
        Errno::ENOSYS => Error::sys(step, "bpf", e.into()).hint("the kernel lacks CONFIG_BPF_SYSCALL or CONFIG_CGROUP_BPF"),
        Errno::EINVAL | Errno::EACCES => {
            let log = bpf::verifier_log(insns, PROGRAM_NAME);
            let words = log.lines().rev().find(|l| !l.starts_with("processed ")).unwrap_or_default();
            let error = Error::sys(step, "bpf", e.into());
            if words.is_empty() { error } else { error.hint(format!("the verifier says: {words}")) }
        }
        _ => Error::sys(step, "bpf", e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory of plain files in the place of cgroupfs.
    fn fake(files: &[&str]) -> (tempfile::TempDir, Cgroup) {
        let top = tempfile::tempdir().unwrap();
        for f in files {
            fs::write(top.path().join(f), "").unwrap();
        }
        let cgroup = Cgroup { path: top.path().into(), dir: fs::File::open(top.path()).unwrap().into(), fresh: true };
        (top, cgroup)
    }

    fn write(file: &str, value: &str, rule: Rule) -> Write {
        let controller = file.split('.').next().unwrap().to_owned();
        Write { controller, file: file.into(), value: value.into(), field: "/f".into(), rule }
    }

    #[test]
    fn each_rule_of_a_write() {
        let (top, cgroup) = fake(&["memory.max", "io.weight"]);
        let other = Rule::Else { file: "io.weight".into(), value: "4950".into() };
        cgroup
            .apply(&[
                write("memory.swap.max", "0", Rule::IfThere),
                write("memory.max", "1000", Rule::Must),
                write("io.bfq.weight", "500", other.clone()),
            ])
            .unwrap();
        assert_eq!(fs::read_to_string(top.path().join("memory.max")).unwrap(), "1000");
        assert_eq!(fs::read_to_string(top.path().join("io.weight")).unwrap(), "4950");
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 2, "no file is made");

        let e = cgroup.apply(&[write("memory.swap.max", "7", Rule::Must)]).unwrap_err();
        assert_eq!((e.field(), e.errno()), ("/f", Some(crate::error::Errno(libc::ENOENT))));
        assert!(e.hint_text().contains("swapaccount=1"), "{e}");
        fs::remove_file(top.path().join("io.weight")).unwrap();
        let e = cgroup.apply(&[write("io.bfq.weight", "500", other)]).unwrap_err();
        assert!(e.to_string().contains("neither io.bfq.weight nor io.weight is there"), "{e}");
    }

    #[test]
    fn the_first_bfq_file_is_enough() {
        let (top, cgroup) = fake(&["io.bfq.weight", "io.weight"]);
        let other = Rule::Else { file: "io.weight".into(), value: "4950".into() };
        cgroup.apply(&[write("io.bfq.weight", "500", other)]).unwrap();
        assert_eq!(fs::read_to_string(top.path().join("io.bfq.weight")).unwrap(), "500");
        assert_eq!(fs::read_to_string(top.path().join("io.weight")).unwrap(), "");
    }

    #[test]
    fn a_limit_below_what_is_in_use() {
        let (top, cgroup) = fake(&["memory.current", "memory.events"]);
        fs::write(top.path().join("memory.current"), "5000\n").unwrap();
        fs::write(top.path().join("memory.events"), "oom 4\noom_kill 3\n").unwrap();
        let ask = |limit, swap, check_before_update| {
            cgroup.check_memory(&Memory { limit, swap, check_before_update, ..Memory::default() })
        };
        assert_eq!(ask(Some(5000), None, true).unwrap_err().field(), "/linux/resources/memory/limit");
        assert_eq!(ask(Some(6000), Some(4000), true).unwrap_err().field(), "/linux/resources/memory/swap");
        ask(Some(5001), Some(-1), true).unwrap();
        ask(Some(1), Some(1), false).unwrap();
        assert_eq!(cgroup.oom_kills().unwrap(), Some(3));
    }

    #[test]
    fn nothing_follows_a_link_out() {
        let (top, cgroup) = fake(&[]);
        std::os::unix::fs::symlink("/", top.path().join("link")).unwrap();
        fs::write(top.path().join("target"), "").unwrap();
        std::os::unix::fs::symlink("target", top.path().join("memory.max")).unwrap();
        assert!(cgroup.open_below("link").is_err());
        for away in ["..", "../..", "/../x"] {
            let error = cgroup.open_below(away).unwrap_err().to_string();
            assert!(error.ends_with(&format!(": {away} is not a sub cgroup path")), "{error}");
        }
        assert!(cgroup.apply(&[write("memory.max", "1", Rule::Must)]).is_err());
    }
}
