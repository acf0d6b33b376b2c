//! Opens what a plan lists of the host: namespaces, and mount trees as detached clones with their final attributes, so
//! that a mount is never visible without its flags and nothing is ever mounted in the host's namespace. Run by the parent
//! before the clone, or by the child where the parent may not; therefore without allocation.

use super::child::{Call, Fail};
use crate::plan::{Open, Tree, What};
use crate::sys::mount::{self, Attrs};
use crate::sys::{fs, inroot};
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What came of an [`Open`].
#[derive(Debug)]
pub enum Opened {
    /// Not opened yet.
    Nothing,
    /// A descriptor; for trees, whether it is a directory.
    Fd(OwnedFd, bool),
    /// The source is a link, to be made anew (`copy-symlink`): its target.
    Link(CString),
}

/// Opens one entry. `userns` is the user namespace of an idmapped mount.
pub fn open(entry: &Open, userns: Option<BorrowedFd<'_>>) -> Result<Opened, Fail> {
    match &entry.what {
        What::Namespace(_) => {
            let fd = fs::open(fs::cwd(), &entry.path, libc::O_RDONLY, 0).call("openat")?;
            if fs::magic(fd.as_fd()).call("fstatfs")? != NSFS_MAGIC {
                return Err(Fail::refused("not a namespace"));
            }
            Ok(Opened::Fd(fd, false))
        }
        // The command's, handed over by `launch`.
        What::Init => Err(Fail::call("pidfd_open", Errno::ESRCH)),
        What::Append => {
            // Not blocking, so that a FIFO without a reader is an error and not a hang.
            let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NONBLOCK | libc::O_NOCTTY;
            let fd = fs::open(fs::cwd(), &entry.path, flags, 0o600).call("openat")?;
            fs::set_status_flags(fd.as_fd(), libc::O_APPEND).call("fcntl")?;
            Ok(Opened::Fd(fd, false))
        }
        What::Node(node) => match open_node(&entry.path, true, node.kind, node.dev)? {
            Looked::Found(opened) => Ok(opened),
            at_path => match (open_node(&node.by_number, false, node.kind, node.dev)?, at_path) {
                (Looked::Found(opened), _) => Ok(opened),
                (_, Looked::Absent) => Err(Fail::call("open_tree", Errno::ENOENT)),
                _ => Err(Fail::refused("on the host another file has that name")),
            },
        },
        What::Null => match open_node(&entry.path, true, libc::S_IFCHR, libc::makedev(1, 3))? {
            Looked::Found(opened) => Ok(opened),
            Looked::Absent => Err(Fail::call("open_tree", Errno::ENOENT)),
            Looked::Another => Err(Fail::refused("not the null device")),
        },
        What::Tree(tree) => {
            let fd = mount::open_tree(fs::cwd(), &entry.path, tree.recursive, tree.nofollow).call("open_tree")?;
            finish(fd, tree, userns)
        }
        What::Inside(_) => match userns {
            Some(userns) => {
                let copy = userns.try_clone_to_owned().map_err(|e| Errno::try_from(e).unwrap_or(Errno::EMFILE));
                Ok(Opened::Fd(copy.call("fcntl")?, false))
            }
            None => Ok(Opened::Nothing),
        },
    }
}

/// What lies at the path of a device node.
enum Looked {
    Found(Opened),
    Absent,
    Another,
}

/// Clones the node at `path`, if it is that device.
fn open_node(path: &CStr, nofollow: bool, kind: u32, dev: u64) -> Result<Looked, Fail> {
    let fd = match mount::open_tree(fs::cwd(), path, false, nofollow) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(Looked::Absent),
        other => other.call("open_tree")?,
    };
    let st = fs::stat(fd.as_fd()).call("fstat")?;
    if fs::kind(st.st_mode) != kind || st.st_rdev != dev {
        return Ok(Looked::Another);
    }
    // A clone is a peer of the host's mount: what the container mounts over it would show on the host.
    mount::mount_setattr(fd.as_fd(), c"", false, PRIVATE, None).call("mount_setattr")?;
    Ok(Looked::Found(Opened::Fd(fd, false)))
}

const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Cut off from every other mount.
pub const PRIVATE: Attrs = Attrs { set: 0, clear: 0, propagation: libc::MS_PRIVATE };

/// Clones what lies at the path inside the root now.
pub fn clone_inside(root: BorrowedFd<'_>, path: &CStr, tree: &Tree, userns: Option<BorrowedFd<'_>>) -> Result<Opened, Fail> {
    let flags = libc::O_PATH | if tree.nofollow { libc::O_NOFOLLOW } else { 0 };
    let source = inroot::open(root, path, flags, 0).call("openat2")?;
    let fd = mount::open_tree(source.as_fd(), c"", tree.recursive, false).call("open_tree")?;
    super::child::leave(source);
    finish(fd, tree, userns)
}

/// Gives a clone its attributes.
fn finish(fd: OwnedFd, tree: &Tree, userns: Option<BorrowedFd<'_>>) -> Result<Opened, Fail> {
    if tree.must_be_proc && fs::magic(fd.as_fd()).call("fstatfs")? != fs::PROC_MAGIC {
        return Err(Fail::refused("only procfs may be mounted there"));
    }
    let set = |recursive: bool, attrs: Attrs, userns: Option<BorrowedFd<'_>>| {
        mount::mount_setattr(fd.as_fd(), c"", recursive, attrs, userns).call("mount_setattr")
    };
    for &(propagation, recursive) in &tree.propagation {
        set(recursive, Attrs { propagation, ..Attrs::default() }, None)?;
    }
    if let Some(idmap) = &tree.idmap {
        set(idmap.recursive, Attrs { set: mount::attr::IDMAP, ..Attrs::default() }, userns)?;
    }
    if tree.recursive_attrs != Attrs::default() {
        set(true, tree.recursive_attrs, None)?;
    }
    if tree.attrs != Attrs::default() {
        set(false, tree.attrs, None)?;
    }
    let directory = fs::kind(fs::stat(fd.as_fd()).call("fstat")?.st_mode) == libc::S_IFDIR;
    Ok(Opened::Fd(fd, directory))
}

/// The link target of a source that is a link, for `copy-symlink`. Allocates: for the parent.
#[inline(never)] // for the size of its buffer
pub fn link_target(entry: &Open) -> Result<Option<CString>, Fail> {
    let mut buffer = [0u8; libc::PATH_MAX as usize];
    match fs::readlink(fs::cwd(), &entry.path, &mut buffer) {
        Ok(n) => Ok(CString::new(buffer.get(..n).unwrap_or_default()).ok()),
        // Not a link.
        Err(Errno::EINVAL) => Ok(None),
        Err(e) => Err(Fail::call("readlinkat", e)),
    }
}

/// Opens a directory or file inside `root` just to look at it.
pub fn look(root: BorrowedFd<'_>, path: &CStr) -> Result<Option<OwnedFd>, Fail> {
    match inroot::open(root, path, libc::O_PATH, 0) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(Fail::call("openat2", e)),
    }
}
