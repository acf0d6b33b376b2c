//! A container's standard streams, where they are files of others. A checkpoint leaves them alone, and a restore puts its
//! caller's in their place, so both must know them by CRIU's names. They are noted when the container is made: later, a shell
//! may just have another file under their numbers.

use crate::error::{Context, Error, Result};
use crate::sys::fs;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Beside CRIU's own images: the names, as an array of three strings. runc has a file of the same name, with pipes in the same
/// words.
const FILE: &str = "descriptors.json";
/// What follows the name of a stream that was the null device.
const NULL: &str = ":/dev/null";

/// CRIU's names of the three streams, each empty for one that CRIU has none for: a terminal, a socket.
pub type Names = [String; 3];

/// The names of our own streams, which the container gets.
///
/// # Errors
/// statx(2) failed.
pub fn ours() -> Result<Names> {
    Ok([name(fs::stdio(0))?, name(fs::stdio(1))?, name(fs::stdio(2))?])
}

/// The name of an open file that is not the container's.
fn name(fd: BorrowedFd<'_>) -> Result<String> {
    let st = fs::statx(fd, libc::STATX_TYPE | libc::STATX_INO | libc::STATX_MNT_ID);
    let st = st.step("statx", || "look at the standard streams".into())?;
    let null = if (st.stx_rdev_major, st.stx_rdev_minor) == (1, 3) { NULL } else { "" };
    Ok(match fs::kind(st.stx_mode.into()) {
        libc::S_IFIFO => format!("pipe:[{}]", st.stx_ino),
        libc::S_IFREG => format!("file[{:x}:{:x}]", st.stx_mnt_id, st.stx_ino),
        libc::S_IFCHR if !null.is_empty() => format!("file[{:x}:{:x}]{null}", st.stx_mnt_id, st.stx_ino),
        _ => String::new(),
    })
}

/// What CRIU is told at a checkpoint: pipes it finds by itself.
pub fn external(names: &Names) -> Vec<String> {
    let mut external: Vec<String> = Vec::new();
    for name in names.iter().filter(|name| name.starts_with("file[")) {
        let name = name.strip_suffix(NULL).unwrap_or(name);
        if !external.iter().any(|known| known == name) {
            external.push(name.to_owned());
        }
    }
    external
}

/// Writes the names down beside the images.
///
/// # Errors
/// The file cannot be written.
pub fn save(names: &Names, images: &Path) -> Result<()> {
    let path = images.join(FILE);
    let step = || format!("write {}", path.display());
    let bytes = serde_json::to_vec(names).map_err(|e| Error::new(step(), e.to_string()))?;
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path).step("openat", step)?;
    std::io::Write::write_all(&mut file, &bytes).step("write", step)
}

/// What takes the place of the streams of a container that is restored.
pub struct Given {
    /// The files with the names of those whose place they take. One that stood for several streams is given once.
    pub files: Vec<(String, OwnedFd)>,
    /// The names of the new streams.
    pub names: Names,
}

/// Reads what [`save`] wrote, and finds a file for each stream that has a name: the null device again, or the caller's stream of
/// that number.
///
/// # Errors
/// The file is missing or no array of strings; or the null device cannot be opened.
pub fn give(images: &Path) -> Result<Given> {
    let path = images.join(FILE);
    let step = || format!("read {}", path.display());
    let bytes = std::fs::read(&path).step("openat", step)?;
    let old: Vec<String> = serde_json::from_slice(&bytes).map_err(|e| Error::new(step(), e.to_string()))?;
    let mut given = Given { files: Vec::new(), names: Names::default() };
    for ((old, new), n) in old.iter().zip(&mut given.names).zip(0..3) {
        if !["pipe:[", "file["].iter().any(|start| old.starts_with(start)) {
            continue;
        }
        let (key, was_null) = old.strip_suffix(NULL).map_or((old.as_str(), false), |key| (key, true));
        if !given.files.iter().any(|(known, _)| known == key) {
            let file = if was_null {
                fs::open(fs::cwd(), c"/dev/null", libc::O_RDWR, 0).step("openat", || "open /dev/null".into())?
            } else {
                fs::stdio(n).try_clone_to_owned().step("fcntl", || format!("give standard stream {n} to CRIU"))?
            };
            given.files.push((key.to_owned(), file));
        }
        if let Some((_, file)) = given.files.iter().find(|(known, _)| known == key) {
            *new = name(file.as_fd())?;
        }
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn each_kind_has_its_name() {
        let (pipe, _writer) = std::io::pipe().unwrap();
        assert_eq!(
            name(pipe.as_fd()).unwrap(),
            std::fs::read_link(format!("/proc/self/fd/{}", pipe.as_raw_fd())).unwrap().to_str().unwrap()
        );
        let null = File::open("/dev/null").unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        let of = |file: &File| {
            let id = crate::criu::mountinfo::id_of(file.as_raw_fd()).unwrap().unwrap();
            format!("file[{id:x}:{:x}]", file.metadata().unwrap().ino())
        };
        assert_eq!(name(null.as_fd()).unwrap(), of(&null) + NULL);
        assert_eq!(name(file.as_fd()).unwrap(), of(&file));
        for other in [File::open("/dev/zero").unwrap(), File::open("/").unwrap()] {
            assert_eq!(name(other.as_fd()).unwrap(), "");
        }
    }

    #[test]
    fn a_stream_that_stands_for_two_is_named_once() {
        let names = ["pipe:[1]".into(), "file[a:b]:/dev/null".into(), "file[a:b]".into()];
        assert_eq!(external(&names), ["file[a:b]"]);
    }

    #[test]
    fn what_was_saved_is_given_again() {
        let dir = std::env::temp_dir().join(format!("onggi-streams-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let names = ["file[1:2]:/dev/null".into(), "pipe:[7]".into(), "pipe:[7]".into()];
        let given = save(&names, &dir).and_then(|()| give(&dir));
        std::fs::remove_dir_all(&dir).unwrap();
        let given = given.unwrap();
        let keys: Vec<&str> = given.files.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["file[1:2]", "pipe:[7]"]);
        assert!(given.names[0].ends_with(NULL), "{:?}", given.names);
        let stdout = name(fs::stdio(1)).unwrap();
        assert_eq!(given.names[1..], [stdout.clone(), stdout]);
    }
}
