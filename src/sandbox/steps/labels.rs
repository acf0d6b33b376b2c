//! Labels of security modules: written through the private procfs, never through what the container has at /proc, and as
//! one write, which is all that the kernel takes. A label that went elsewhere would leave the program unconfined
//! (CVE-2019-16884, CVE-2025-52881).

use crate::sandbox::child::{Call, Child, Fail, leave};
use crate::sys::{fs, inroot, xattr};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A file of this process's own attributes.
fn open(child: &Child, path: &CStr) -> Result<OwnedFd, Fail> {
    let proc = child.proc.as_ref().ok_or_else(|| Fail::call("openat2", Errno::EBADF))?;
    let file = inroot::open(proc.as_fd(), path, libc::O_RDWR, inroot::NO_XDEV).call("openat2")?;
    if fs::magic(file.as_fd()).call("fstatfs")? != fs::PROC_MAGIC {
        return Err(Fail::refused("not a file of procfs"));
    }
    Ok(file)
}

/// Writes an attribute.
pub(super) fn write(child: &Child, path: &CStr, value: &CStr) -> Result<(), Fail> {
    let file = open(child, path)?;
    fs::write_all(file.as_fd(), value.to_bytes()).call("write")?;
    leave(file);
    Ok(())
}

/// Names the AppArmor profile of the next exec. Read back here: who else looks at this file is shown his own profile.
pub(super) fn profile(child: &Child, command: &CStr, profile: &CStr) -> Result<(), Fail> {
    let file = open(child, c"self/attr/apparmor/exec")?;
    fs::write_all(file.as_fd(), command.to_bytes()).call("write")?;
    let mut shown = [0u8; 4608];
    let n = fs::read_full(file.as_fd(), &mut shown).call("read")?;
    leave(file);
    if is_profile(profile.to_bytes(), shown.get(..n).unwrap_or_default()) {
        Ok(())
    } else {
        Err(Fail::refused("the kernel shows another profile than the one that was written"))
    }
}

/// Labels the root of a detached mount.
pub(super) fn relabel(mounted: BorrowedFd<'_>, label: &CStr) -> Result<(), Fail> {
    let root = fs::open(mounted, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0).call("openat")?;
    xattr::set(root.as_fd(), c"security.selinux", label.to_bytes()).call("fsetxattr")?;
    leave(root);
    Ok(())
}

/// Whether what the kernel shows, `NAME (MODE)`, is the profile that was asked for: a name, one in a namespace of policies
/// (`:NS:NAME`, also `:NS://NAME`), or several at once (`A//&B`), which come back in the kernel's order.
fn is_profile(asked: &[u8], shown: &[u8]) -> bool {
    let end = shown.iter().rposition(|c| !matches!(c, b'\n' | 0)).map_or(0, |at| at + 1);
    let shown = shown.get(..end).unwrap_or_default();
    if asked == shown {
        return true;
    }
    let mode = if shown.ends_with(b")") { shown.windows(2).rposition(|two| two == b" (") } else { None };
    let shown = shown.get(..mode.unwrap_or(shown.len())).unwrap_or_default();
    !shown.is_empty()
        && parts(asked).all(|one| parts(shown).any(|other| is_same(one, other)))
        && parts(shown).all(|one| parts(asked).any(|other| is_same(other, one)))
}

/// The profiles of a stack.
fn parts(label: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(label);
    std::iter::from_fn(move || {
        let text = rest?;
        let cut = text.windows(3).position(|three| three == b"//&");
        rest = cut.and_then(|at| text.get(at + 3..));
        text.get(..cut.unwrap_or(text.len()))
    })
}

/// One profile, with or without the slashes after its namespace.
fn is_same(asked: &[u8], shown: &[u8]) -> bool {
    let split = |text: &[u8]| {
        let colon = text.strip_prefix(b":")?.iter().position(|&c| c == b':')? + 1;
        Some(colon)
    };
    match (split(asked), split(shown)) {
        (Some(a), Some(s)) => {
            let name = |text: &[u8], at: usize| {
                let name = text.get(at + 1..).unwrap_or_default();
                name.len() - name.strip_prefix(b"//").unwrap_or(name).len() + at + 1
            };
            asked.get(..a) == shown.get(..s) && asked.get(name(asked, a)..) == shown.get(name(shown, s)..)
        }
        (None, None) => asked == shown,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_shows_what_was_asked_for() {
        for (asked, shown) in [
            ("docker-default", "docker-default (enforce)\n"),
            ("x", "x (complain)\n"),
            ("unconfined", "unconfined\n"),
            ("/usr/bin/a b", "/usr/bin/a b (enforce)\0"),
            ("odd (name)", "odd (name) (kill)\n"),
            (":ns:p", ":ns:p (enforce)\n"),
            (":ns://p", ":ns:p (enforce)\n"),
            ("b//&a", "a//&b (mixed)\n"),
            ("a//child", "a//child (enforce)\n"),
        ] {
            assert!(is_profile(asked.as_bytes(), shown.as_bytes()), "{asked} {shown:?}");
        }
    }

    #[test]
    fn another_one_is_found_out() {
        for (asked, shown) in [
            ("docker-default", ""),
            ("docker-default", "\n"),
            ("docker-default", "unconfined\n"),
            ("docker-default", "docker-default-2 (enforce)\n"),
            ("a//&b", "a (enforce)\n"),
            ("a", "a//&b (enforce)\n"),
            (":ns:p", ":other:p (enforce)\n"),
            (":ns:p", "p (enforce)\n"),
            ("p", ":ns:p (enforce)\n"),
        ] {
            assert!(!is_profile(asked.as_bytes(), shown.as_bytes()), "{asked} {shown:?}");
        }
    }
}
