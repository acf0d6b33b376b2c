//! The mounts of a process, as far as they tell which is which (proc_pid_mountinfo(5)).

use crate::error::{Context, Result};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number, as in fdinfo.
    pub id: u32,
    /// Its file system, `major:minor`.
    pub device: String,
    /// What of the file system is mounted.
    pub root: PathBuf,
    /// Where, as the process sees it.
    pub point: PathBuf,
    /// The mount is read-only.
    pub readonly: bool,
}

/// The mounts of a process, lower ones before those that cover them.
pub fn of(pid: i32) -> Result<Vec<Mount>> {
    let path = format!("/proc/{pid}/mountinfo");
    let bytes = std::fs::read(&path).step("read", || format!("read {path}"))?;
    Ok(parse(&bytes))
}

/// The mounts that the text of a `mountinfo` lists, in its order; lines that are none are left out.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&b| b == b'\n').filter_map(line).collect()
}

/// The number of the mount that an open file of ours lies on.
pub fn id_of(fd: i32) -> Result<Option<u32>> {
    let path = format!("/proc/self/fdinfo/{fd}");
    let text = std::fs::read_to_string(&path).step("read", || format!("read {path}"))?;
    Ok(text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok()))
}

fn line(text: &[u8]) -> Option<Mount> {
    let mut words = text.split(|&b| b == b' ');
    let utf8 = |word: &[u8]| std::str::from_utf8(word).ok().map(str::to_owned);
    let id = utf8(words.next()?)?.parse().ok()?;
    let device = utf8(words.nth(1)?)?;
    let root = unescape(words.next()?);
    let point = unescape(words.next()?);
    let readonly = words.next()?.split(|&b| b == b',').any(|word| word == b"ro");
    Some(Mount { id, device, root, point, readonly })
}

/// Blanks and backslashes are three octal digits.
fn unescape(word: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => {
                out.push(code);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out).into()
}

impl Mount {
    /// Whether both show the same place of one file system.
    pub fn same_source(&self, other: &Self) -> bool {
        (&self.device, &self.root) == (&other.device, &other.root)
    }

    /// The mount on `point`, the uppermost one if there are several.
    pub fn on<'a>(mounts: &'a [Self], point: &Path) -> Option<&'a Self> {
        mounts.iter().rfind(|m| m.point.as_os_str().as_bytes() == point.as_os_str().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_parts() {
        let line = br"151 139 0:59 /a\040b /proc/ke\134ys ro,nosuid shared:3 - tmpfs dev rw,mode=755";
        let want = Mount { id: 151, device: "0:59".into(), root: "/a b".into(), point: r"/proc/ke\ys".into(), readonly: true };
        assert_eq!(parse(line), [want]);
        assert_eq!(parse(b""), []);
    }

    #[test]
    fn our_own_mounts_have_a_root() {
        let mounts = of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let file = std::fs::File::open("/").unwrap();
        let id = id_of(std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap();
        assert_eq!(Mount::on(&mounts, Path::new("/")).map(|m| m.id), id);
    }
}
