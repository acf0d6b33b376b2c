//! Maps of user and group ids: writes those of a child, and makes user namespaces that exist for their maps alone
//! (user_namespaces(7)).
//!
//! Whether the kernel lets us write a map is decided before the attempt: with CAP_SETUID (or CAP_SETGID) in our own user
//! namespace anything goes, without it only one's own single id; everything else is for newuidmap(1) and newgidmap(1),
//! which are looked for in fixed places and never in a PATH that somebody else may have set.

mod userns_denied;

pub use userns_denied::{why as why_no_user_namespace, why_it_is_powerless, why_no_namespace};

use crate::config::LinuxIdMapping;
use crate::error::{Context, Error, Result};
use crate::sys::open::openat;
use crate::sys::pidfd::Exit;
use crate::sys::spawn::{self, End, Program, StringList, Strings};
use crate::sys::userns::Holder;
use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{getegid, geteuid, getgid, getuid, write};
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Where the setuid helpers are looked for.
const HELPER_DIRS: [&str; 7] =
    ["/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin", "/sbin", "/run/wrappers/bin", "/run/current-system/sw/bin"];

/// The kernel takes no more lines (user_namespaces(7), Linux 4.15).
const MAX_LINES: usize = 340;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Uid,
    Gid,
}

impl Kind {
    fn field(self) -> &'static str {
        if self == Self::Uid { "uidMappings" } else { "gidMappings" }
    }

    fn file(self) -> &'static str {
        if self == Self::Uid { "uid_map" } else { "gid_map" }
    }

    fn helper(self) -> &'static str {
        if self == Self::Uid { "newuidmap" } else { "newgidmap" }
    }

    fn database(self) -> &'static str {
        if self == Self::Uid { "/etc/subuid" } else { "/etc/subgid" }
    }
}

/// What decides who writes a map.
#[derive(Debug, Clone, Copy)]
struct Writer {
    /// Our effective id of this kind.
    id: u32,
    /// Whether CAP_SETUID (CAP_SETGID) is effective.
    privileged: bool,
}

impl Writer {
    fn me(kind: Kind) -> Result<Self> {
        let (id, capability) = match kind {
            Kind::Uid => (geteuid().as_raw(), Capability::CAP_SETUID),
            Kind::Gid => (getegid().as_raw(), Capability::CAP_SETGID),
        };
        let privileged = caps::has_cap(None, CapSet::Effective, capability)
            .map_err(|e| Error::new("read the capabilities of the runtime", e.to_string()))?;
        Ok(Self { id, privileged })
    }

    /// Whether the kernel takes this map from us (user_namespaces(7), "Defining user and group ID mappings").
    fn may_write(self, mappings: &[LinuxIdMapping]) -> bool {
        self.privileged || matches!(mappings, [only] if only.size() == 1 && only.host_id() == self.id)
    }
}

/// Writes both maps of the new user namespace that `pid` is in. `pid` must be a child of ours that is not yet reaped, so
/// that the number cannot name another, and must be dumpable if we are not root: else its files in procfs are not ours,
/// and newuidmap refuses too. `proc` is the root of a procfs of our pid namespace, `at` the JSON pointer of the object that
/// has the mappings (`/linux`, `/mounts/3`).
pub fn write_maps(proc: BorrowedFd, pid: i32, at: &str, uid: &[LinuxIdMapping], gid: &[LinuxIdMapping]) -> Result<()> {
    check(at, Kind::Uid, uid)?;
    check(at, Kind::Gid, gid)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = openat(proc, pid.to_string().as_str(), flags, Mode::empty()).step("openat", || format!("open /proc/{pid}"))?;
    write_map(dir.as_fd(), pid, at, Kind::Gid, gid)?;
    write_map(dir.as_fd(), pid, at, Kind::Uid, uid)
}

fn write_map(dir: BorrowedFd, pid: i32, at: &str, kind: Kind, mappings: &[LinuxIdMapping]) -> Result<()> {
    if mappings.is_empty() {
        return Ok(());
    }
    let writer = Writer::me(kind)?;
    let done = if writer.may_write(mappings) {
        let lines: String = mappings.iter().map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size())).collect();
        let allow = if kind == Kind::Gid && !writer.privileged { write_file(dir, "setgroups", "deny") } else { Ok(()) };
        allow.and_then(|()| write_file(dir, kind.file(), &lines)).map_err(|(file, errno)| {
            Error::sys(format!("write {file} of the new user namespace"), "write", errno.into()).hint(refused(writer, errno))
        })
    } else {
        run_helper(kind, pid, mappings)
    };
    // One mapping is to blame by itself, of several nobody can say which.
    let field = if mappings.len() == 1 { format!("{at}/{}/0", kind.field()) } else { format!("{at}/{}", kind.field()) };
    done.map_err(|e| e.at(field))
}

/// What the kernel would answer with a bare EINVAL.
fn check(at: &str, kind: Kind, mappings: &[LinuxIdMapping]) -> Result<()> {
    let bad = |n: usize, cause: String| {
        Err(Error::new(format!("check {}", kind.field()), cause).at(format!("{at}/{}/{n}", kind.field())))
    };
    if mappings.len() > MAX_LINES {
        return bad(MAX_LINES, format!("{} mappings, the kernel takes {MAX_LINES}", mappings.len()));
    }
    let overlap = |a: u32, a_size: u32, b: u32, b_size: u32| {
        u64::from(a) < u64::from(b) + u64::from(b_size) && u64::from(b) < u64::from(a) + u64::from(a_size)
    };
    for (n, m) in mappings.iter().enumerate() {
        let end = |first: u32| u64::from(first) + u64::from(m.size());
        if m.size() == 0 {
            return bad(n, "size must not be 0".into());
        }
        // The last number, 4294967295, stands for "no id".
        if end(m.container_id()) > u64::from(u32::MAX) || end(m.host_id()) > u64::from(u32::MAX) {
            return bad(n, "ids beyond 4294967294".into());
        }
        let clash = mappings.iter().take(n).position(|o| {
            overlap(m.container_id(), m.size(), o.container_id(), o.size())
                || overlap(m.host_id(), m.size(), o.host_id(), o.size())
        });
        if let Some(other) = clash {
            return bad(n, format!("overlaps with mapping {other}"));
        }
    }
    Ok(())
}

fn write_file(dir: BorrowedFd, name: &'static str, text: &str) -> std::result::Result<(), (&'static str, Errno)> {
    let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(dir, name, flags, Mode::empty()).map_err(|e| (name, e))?;
    // The kernel takes a map in one write, whole or not at all.
    match write(&file, text.as_bytes()) {
        Ok(n) if n == text.len() => Ok(()),
        Ok(_) => Err((name, Errno::EIO)),
        Err(e) => Err((name, e)),
    }
}

fn refused(writer: Writer, errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM if writer.privileged => {
            "are the host ids mapped in the user namespace of the runtime, and has it CAP_SETFCAP if one of them is 0?"
        }
        Errno::EPERM => "is the map written already?",
        Errno::EACCES => "the child is not dumpable, or procfs is read-only",
        _ => "",
    }
}

fn run_helper(kind: Kind, pid: i32, mappings: &[LinuxIdMapping]) -> Result<()> {
    let name = kind.helper();
    let path = HELPER_DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file()).ok_or_else(|| {
        Error::new(format!("map {}", kind.field()), format!("{name} is not installed"))
            .hint("an ordinary user can map the own id alone, one of size 1, without it: install the package uidmap (Debian), shadow-utils or shadow")
    })?;
    let step = || format!("run {}", path.display());
    let nul = |_| Error::new(step(), "a zero byte");
    let program_path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(nul)?;
    let numbers = mappings.iter().flat_map(|m| [m.container_id(), m.host_id(), m.size()]);
    let args = [name.to_owned(), pid.to_string()].into_iter().chain(numbers.map(|n| n.to_string()));
    let argv = StringList::new(args.map(CString::new).collect::<std::result::Result<_, _>>().map_err(nul)?);
    let program = Program {
        path: &program_path,
        argv: argv.laid_out(),
        env: Strings::EMPTY,
        cwd: None,
        stdin: &[],
        stdout: None,
        stderr: None,
        timeout: Some(Duration::from_secs(30)),
        kill_session: None,
    };
    let mut buffer = [0; 512];
    let report = spawn::run(&program, &mut buffer).step("clone", step)?;
    let said = String::from_utf8_lossy(buffer.get(..report.captured).unwrap_or_default()).trim().to_owned();
    match report.end {
        End::Exited(exit) if exit.success() => Ok(()),
        End::Exited(Exit::Code(_)) => Err(Error::new(step(), said).hint(why_refused(kind, &path, mappings))),
        End::NotRun(call, errno) => Err(Error::sys(step(), call, errno.into())),
        End::Exited(Exit::Signal { signal, .. }) => Err(Error::new(step(), format!("killed by signal {signal}"))),
        End::TimedOut => Err(Error::new(step(), "no answer in 30 s")),
    }
}

/// Why a helper has refused, as far as its database and its own mode tell.
fn why_refused(kind: Kind, helper: &Path, mappings: &[LinuxIdMapping]) -> String {
    use std::os::unix::fs::PermissionsExt;
    let database = kind.database();
    let uid = getuid().as_raw().to_string();
    // Not by the C library: a static one knows no other name service, and neither is there one in most containers.
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find(|line| line.split(':').nth(2) == Some(&uid)).and_then(|line| line.split(':').next());
    let name = name.unwrap_or(&uid);
    let ranges = ranges(&fs::read_to_string(database).unwrap_or_default(), name, &uid);
    if ranges.is_empty() {
        return format!("{database} has no range for this user: add the line {name}:100000:65536, or map the own id alone");
    }
    let own = if kind == Kind::Uid { getuid().as_raw() } else { getgid().as_raw() };
    let held = |m: &LinuxIdMapping| {
        let end = u64::from(m.host_id()) + u64::from(m.size());
        m.host_id() == own && m.size() == 1
            || ranges.iter().any(|&(first, count)| first <= u64::from(m.host_id()) && end <= first.saturating_add(count))
    };
    if let Some(m) = mappings.iter().find(|m| !held(m)) {
        let last = u64::from(m.host_id()) + u64::from(m.size()) - 1;
        let has = ranges.iter().map(|&(first, count)| format!("{first} to {}", first.saturating_add(count).saturating_sub(1)));
        let has = has.collect::<Vec<_>>().join(", ");
        return format!("{database} gives {name} {has}, and not all of {} to {last}", m.host_id());
    }
    if fs::metadata(helper).is_ok_and(|file| file.permissions().mode() & 0o4000 == 0) {
        let capability = if kind == Kind::Uid { "cap_setuid" } else { "cap_setgid" };
        return format!("{} is not setuid root: chmod u+s it, or setcap {capability}+ep", helper.display());
    }
    "is it mounted nosuid, or are we kept from gaining privileges (no_new_privs, an outer container)?".into()
}

/// First id and count of each range of a user in subuid(5).
fn ranges(database: &str, name: &str, uid: &str) -> Vec<(u64, u64)> {
    let range = |line: &str| {
        let mut parts = line.trim().split(':');
        let who = parts.next()?;
        let range = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (who == name || who == uid).then_some(range)
    };
    database.lines().filter_map(range).collect()
}

/// A user namespace with these maps and nobody in it, for an idmapped mount (mount_setattr(2), MOUNT_ATTR_IDMAP). `at` is
/// the JSON pointer of the mount. The maps of equal mounts are equal: callers keep one descriptor for them.
pub fn user_namespace_for(proc: BorrowedFd, at: &str, uid: &[LinuxIdMapping], gid: &[LinuxIdMapping]) -> Result<OwnedFd> {
    let holder = Holder::new().map_err(|e| {
        let error = Error::sys("make a user namespace for the mappings", "clone3", e.into()).at(format!("{at}/uidMappings"));
        match userns_denied::why(e) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })?;
    write_maps(proc, holder.pid(), at, uid, gid)?;
    let path = format!("{}/ns/user", holder.pid());
    openat(proc, path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).step("openat", || format!("open /proc/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(lines: &[(u32, u32, u32)]) -> Vec<LinuxIdMapping> {
        let json = |&(c, h, s): &(u32, u32, u32)| serde_json::json!({"containerID": c, "hostID": h, "size": s});
        serde_json::from_value(lines.iter().map(json).collect()).unwrap()
    }

    #[test]
    fn only_the_own_single_id_can_be_mapped_without_privilege() {
        let user = Writer { id: 1000, privileged: false };
        assert!(user.may_write(&maps(&[(0, 1000, 1)])));
        assert!(!user.may_write(&maps(&[(0, 1001, 1)])));
        assert!(!user.may_write(&maps(&[(0, 1000, 2)])));
        assert!(!user.may_write(&maps(&[(0, 1000, 1), (1, 100_000, 65536)])));
        assert!(Writer { id: 0, privileged: true }.may_write(&maps(&[(0, 1000, 2)])));
    }

    #[test]
    fn ranges_of_a_user_by_name_and_number() {
        let database = "root:1:2\nuser:100000:65536\n1000:300000:10\nuser2:5:5\nuser:x:1\n";
        assert_eq!(ranges(database, "user", "1000"), [(100_000, 65536), (300_000, 10)]);
        assert!(ranges("", "user", "1000").is_empty());
    }

    #[test]
    fn what_the_kernel_would_refuse_is_named_by_its_number() {
        let field = |lines: &[_]| check("/linux", Kind::Uid, &maps(lines)).unwrap_err().field().to_owned();
        assert_eq!(field(&[(0, 0, 1), (1, 1, 0)]), "/linux/uidMappings/1");
        assert_eq!(field(&[(0, 0, 10), (9, 100, 1)]), "/linux/uidMappings/1");
        assert_eq!(field(&[(0, 0, 10), (50, 50, 1), (100, 9, 1)]), "/linux/uidMappings/2");
        assert_eq!(field(&[(0, u32::MAX, 1)]), "/linux/uidMappings/0");
        let many: Vec<_> = (0..341).map(|n| (n, n, 1)).collect();
        assert_eq!(field(&many), "/linux/uidMappings/340");
        check("/linux", Kind::Gid, &maps(&[(0, 0, 10), (10, 10, u32::MAX - 10)])).unwrap();
    }
}
