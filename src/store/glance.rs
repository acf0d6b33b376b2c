//! What `list` asks of every container, from the state root: to open each directory first would be a fifth of its calls. And
//! `state.json` is taken apart where it lies, without a copy of what is shown and a look at the rest.

use super::init::Known;
use super::record::{VERSION, whole};
use super::{EXEC, MAX_STATE, Record, STATE, Store};
use crate::error::{Context, Result};
use crate::sys::dirent::Buffer;
use crate::sys::fs::Reader;
use nix::errno::Errno;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::str::FromStr;

/// Not blocking: what is not a regular file is not ours.
const FLAGS: i32 = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;

impl Store {
    /// Ids of all that is there, sorted: the names of directories.
    pub fn ids(&self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        let mut buffer = Buffer::new();
        loop {
            let entries = buffer.read(self.dir.as_fd());
            let entries = entries.step("getdents64", || format!("list the state root {}", self.path.display()))?;
            if entries.is_empty() {
                break;
            }
            let names = entries.filter_map(|(name, kind)| Some((name.to_str().ok()?, kind)));
            let names = names.filter(|(name, _)| !matches!(*name, "." | ".."));
            let is_directory = |name, kind| kind == libc::DT_DIR || kind == libc::DT_UNKNOWN && self.open_entry(name).is_ok();
            ids.extend(names.filter(|(name, kind)| is_directory(name, *kind)).map(|(name, _)| String::from(name)));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// The state of a container; `None` when there is none yet, or no such container.
    ///
    /// # Errors
    /// As [`super::Entry::state`].
    pub fn seen<'a>(&self, id: &str, reader: &'a mut Reader) -> Result<Option<Seen<'a>>> {
        let step = || format!("read {}", self.path.join(id).join(STATE).display());
        let bytes = match reader.read(self.dir.as_fd(), &[id, "/", STATE], FLAGS, MAX_STATE) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.step("read", step)?,
        };
        match Seen::of_bytes(bytes) {
            Some(seen) => Ok(Some(seen)),
            // Damaged, or of another form, which may be an earlier one.
            None => Record::from_bytes(bytes).map(|record| Some(Seen::of(&record))).map_err(|e| e.context(&step())),
        }
    }

    /// The FIFO that the container's init waits on, as [`super::Entry::open_fifo`] opens it for writing.
    pub fn open_start_of(&self, id: &str, reader: &mut Reader) -> nix::Result<OwnedFd> {
        reader.open(self.dir.as_fd(), &[id, "/", EXEC], libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOFOLLOW)
    }
}

/// What is shown of a container, and what its status is told by; see [`Record`].
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the same members
pub struct Seen<'a> {
    pub id: Cow<'a, str>,
    pub pid: i32,
    start_time: u64,
    pidfs: Option<u64>,
    boot_id: Option<Cow<'a, str>>,
    pub bundle: Cow<'a, str>,
    pub rootfs: Cow<'a, str>,
    pub created: Cow<'a, str>,
    pub owner: u32,
    pub oci_version: Cow<'a, str>,
    pub cgroup: Option<Cow<'a, str>>,
    /// As JSON.
    annotations: Cow<'a, str>,
}

impl<'a> Seen<'a> {
    /// Of a whole record.
    pub fn of(record: &Record) -> Seen<'static> {
        let text = |path: &std::path::Path| Cow::Owned(path.to_string_lossy().into_owned());
        Seen {
            id: record.id.clone().into(),
            pid: record.pid,
            start_time: record.start_time,
            pidfs: record.pidfs,
            boot_id: record.boot_id.clone().map(Cow::Owned),
            bundle: text(&record.bundle),
            rootfs: text(&record.rootfs),
            created: record.created.clone().into(),
            owner: record.owner,
            oci_version: record.oci_version.clone().into(),
            cgroup: record.cgroup.as_deref().map(text),
            // Strings cannot fail to serialize.
            annotations: serde_json::to_string(&record.annotations).unwrap_or_default().into(),
        }
    }

    /// Of the file, if it is whole, of the form that [`Record::to_bytes`] writes today, and has no string with an escape in it.
    fn of_bytes(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = Rest(whole(bytes)?);
        if rest.number::<u32>("{\"version\":")? != VERSION {
            return None;
        }
        // In the order of its fields. Others follow.
        Some(Self {
            id: rest.text(",\"id\":")?.into(),
            pid: rest.number(",\"pid\":")?,
            start_time: rest.number(",\"startTime\":")?,
            pidfs: rest.unless_null(",\"pidfs\":", Rest::number)?,
            boot_id: rest.unless_null(",\"bootId\":", Rest::text)?.map(Cow::Borrowed),
            bundle: rest.text(",\"bundle\":")?.into(),
            rootfs: rest.text(",\"rootfs\":")?.into(),
            created: rest.text(",\"created\":")?.into(),
            owner: rest.number(",\"owner\":")?,
            oci_version: rest.text(",\"ociVersion\":")?.into(),
            annotations: rest.map(",\"annotations\":")?.into(),
            cgroup: rest.unless_null(",\"cgroup\":", Rest::text)?.map(Cow::Borrowed),
        })
    }

    /// The annotations.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        // Most have none. They were written as a map of strings, and are as they were written.
        if self.annotations == "{}" { BTreeMap::new() } else { serde_json::from_str(&self.annotations).unwrap_or_default() }
    }

    /// Its init.
    pub fn process(&self) -> Known<'_> {
        Known { pid: self.pid, start_time: self.start_time, pidfs: self.pidfs, boot_id: self.boot_id.as_deref() }
    }
}

/// What is left of an object that was written without spaces and without escapes; `before` is what stands before a value.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip(&mut self, before: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(before)?;
        Some(())
    }

    fn take(&mut self, length: usize) -> Option<&'a str> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self, before: &str) -> Option<&'a str> {
        self.skip(before)?;
        self.skip("\"")?;
        let text = self.take(self.0.bytes().position(|byte| matches!(byte, b'"' | b'\\'))?)?;
        self.skip("\"")?;
        Some(text)
    }

    fn number<T: FromStr>(&mut self, before: &str) -> Option<T> {
        self.skip(before)?;
        self.take(self.0.bytes().position(|byte| matches!(byte, b',' | b'}'))?)?.parse().ok()
    }

    /// A map of strings, as it stands.
    fn map(&mut self, before: &str) -> Option<&'a str> {
        self.skip(before)?;
        let whole = self.0;
        self.skip("{")?;
        while !self.0.starts_with('}') {
            self.text(if self.0.starts_with(',') { "," } else { "" })?;
            self.text(":")?;
        }
        self.skip("}")?;
        whole.get(..whole.len() - self.0.len())
    }

    fn unless_null<T>(&mut self, before: &str, value: fn(&mut Self, &str) -> Option<T>) -> Option<Option<T>> {
        self.skip(before)?;
        if self.skip("null").is_some() { Some(None) } else { value(self, "").map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_what_the_record_has() {
        let mut record = Record::new("c");
        assert_eq!(Seen::of_bytes(&record.to_bytes()), Some(Seen::of(&record)));
        (record.pid, record.start_time, record.pidfs, record.owner) = (7, u64::MAX, Some(12), 1000);
        record.bundle = "/a,b:{c}/옹기".into();
        record.cgroup = Some("/sys/fs/cgroup/a]".into());
        record.boot_id = Some("b".into());
        record.annotations.insert("a,b".into(), "{[".into());
        record.annotations.insert("pid".into(), "8".into());
        assert_eq!(Seen::of_bytes(&record.to_bytes()), Some(Seen::of(&record)));
        assert_eq!(Seen::of(&record).annotations(), record.annotations);
        for escaped in ["\"", "\\", "\u{1}"] {
            record.bundle = escaped.into();
            assert_eq!(Seen::of_bytes(&record.to_bytes()), None);
        }
    }

    #[test]
    fn what_is_not_of_that_form_is_left_to_the_other_reader() {
        let bytes = Record::new("c").to_bytes();
        let json = whole(&bytes).unwrap();
        for other in [
            json.replace("\"version\":1", "\"version\":2"),
            json.replace(':', ": "),
            json.replace("\"owner\":0,", ""),
            json.replace("\"pid\":0", "\"pid\":\"0\""),
            json.replace("{}", "{{]"),
            json.replace("{}", "{\"a\":1}"),
            json[..json.len() / 2].into(),
            String::new(),
        ] {
            let sum = super::super::record::checksum(other.as_bytes());
            assert_eq!(Seen::of_bytes(format!("{other}\n{sum:016x}\n").as_bytes()).map(|_| &other), None);
        }
    }
}
