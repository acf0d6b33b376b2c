//! Reads `config.json` and its parts from bytes into types. Judges shape only: what the values mean is `check`'s.
//!
//! The file is parsed straight into its types. Only when that fails is the field to blame looked for, by the place of the
//! error; the start of a container does not pay for it.
//!
//! What `serde` makes of odd input: a member of an object given twice is an error, `duplicate field`; a key given twice in
//! an object with free keys (`annotations`, `sysctl`, `unified` ...) counts as its last; numbers must be whole and fit.

use super::further::Further;
use super::shape::{Object, object, optional_object};
use super::{Process, Resources, Seccomp, Spec, place};
use crate::error::{Context, Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The largest `config.json` that is read, in bytes. Engines write some 10 KiB.
pub const MAX_BYTES: u64 = 64 << 20;

/// A bundle directory and its configuration, read but not yet checked.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The bundle's directory, absolute and without symbolic links.
    pub dir: PathBuf,
    /// What `config.json` says.
    pub spec: Spec,
    /// `config.json`, byte for byte: what is stored, since the types drop unknown members.
    pub raw: Vec<u8>,
}

impl Bundle {
    /// Reads `config.json` in `dir`, or `file`, relative to it.
    ///
    /// # Errors
    /// `JSON specification file config.json not found`, word for word as runc says it (with the name of `file`); a file that cannot be read, is not
    /// a regular file or is larger than [`MAX_BYTES`]; and those of [`Spec::parse`].
    pub fn load(dir: &Path, file: Option<&Path>) -> Result<Self> {
        let dir = fs::canonicalize(dir).step("realpath", || format!("open bundle {}", dir.display()))?;
        let raw = read(&dir, file.unwrap_or(Path::new("config.json")))?;
        Self::of(dir, raw)
    }

    /// A bundle of this directory, and the text of its `config.json`.
    ///
    /// # Errors
    /// Those of [`Spec::parse`].
    pub fn of(dir: PathBuf, raw: Vec<u8>) -> Result<Self> {
        let mut spec = Spec::parse(&raw)?;
        spec.take_destinations_inside(&dir);
        Ok(Self { dir, spec, raw })
    }

    /// The root filesystem, absolute: `root.path` is relative to the bundle (config.md, Root).
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join(self.spec.root.as_ref().map_or(Path::new(""), |r| &r.path))
    }
}

impl Spec {
    /// Parses `config.json`.
    ///
    /// # Errors
    /// Malformed JSON, and values of a wrong type or out of the range of their type: with the field, line and column.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        parse(bytes, "parse config.json")
    }

    /// Of a `config.json` that has been parsed and checked before, what [`compile_exec`](crate::plan::compile_exec) and its
    /// callers look at; the rest is as if it were absent.
    ///
    /// # Errors
    /// As [`Spec::parse`].
    pub fn parse_for_exec(bytes: &[u8]) -> Result<Self> {
        parse(bytes, "parse config.json").map(|further: Further| further.into())
    }
}

impl Process {
    /// Parses the file of `exec --process`.
    ///
    /// # Errors
    /// As [`Spec::parse`]; the field is relative to the `process` object.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        parse(bytes, "parse process")
    }
}

impl Resources {
    /// Parses the file of `update --resources`.
    ///
    /// # Errors
    /// As [`Spec::parse`]; the field is relative to the `resources` object.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        parse(bytes, "parse resources")
    }
}

impl Seccomp {
    /// Parses `linux.seccomp` of a `config.json`, and nothing else of it.
    ///
    /// # Errors
    /// As [`Spec::parse`].
    pub fn parse(config: &[u8]) -> Result<Option<Self>> {
        parse(config, "parse config.json").map(|profiled: Profiled| profiled.linux.seccomp)
    }
}

/// The way to `linux.seccomp`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Profiled {
    #[serde(deserialize_with = "object")]
    linux: ProfiledLinux,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ProfiledLinux {
    #[serde(deserialize_with = "optional_object")]
    seccomp: Option<Seccomp>,
}

fn read(dir: &Path, name: &Path) -> Result<Vec<u8>> {
    let path = &dir.join(name);
    // Not to hang on a FIFO in the place of the file.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::exact(format!("JSON specification file {} not found", name.display())));
        }
        opened => opened.step("openat", || format!("open {}", path.display()))?,
    };
    let meta = file.metadata().step("fstat", || format!("stat {}", path.display()))?;
    if !meta.is_file() {
        return Err(Error::new(format!("read {}", path.display()), "not a regular file"));
    }
    let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    crate::sys::fs::read_file(file.as_fd(), bytes(meta.len()), bytes(MAX_BYTES))
        .step("read", || format!("read {}", path.display()))
}

fn parse<T: DeserializeOwned>(bytes: &[u8], step: &str) -> Result<T> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(Error::new(step, format!("larger than {MAX_BYTES} bytes")));
    }
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        return Err(Error::new(step, "starts with a byte order mark").hint("save it as UTF-8 without BOM"));
    }
    // As a whole: serde_json would look at each string by itself, for a seventh of its time.
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = bytes.get(..e.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|&&byte| byte != b'\n').count();
        Error::new(step, format!("invalid unicode code point at line {line} column {column}"))
            .at(place::pointer(bytes, line, column, false))
    })?;
    let explain =
        |e: serde_json::Error| Error::new(step, e.to_string()).at(place::pointer(bytes, e.line(), e.column(), e.is_data()));
    serde_json::from_str::<Object<T>>(text).map(|o| o.0).map_err(explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> String {
        Spec::parse(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn an_error_names_field_line_and_column() {
        assert_eq!(
            message("{\"linux\":{\"resources\":{\n\"pids\":{\"limit\":\"7\"}}}}"),
            "/linux/resources/pids/limit: parse config.json: invalid type: string \"7\", expected i64 at line 2 column 19"
        );
        assert!(message(r#"{"process":{"user":{"additionalGids":[1,-1]}}}"#).starts_with("/process/user/additionalGids/1: "));
        assert!(message(r#"{"process":{"user":{"uid":4294967296}}}"#).starts_with("/process/user/uid: "));
        assert!(message(r#"{"linux":{"sysctl":{"a/b~c":1}}}"#).starts_with("/linux/sysctl/a~1b~0c: "));
        assert!(message(r#"{"linux":{"resources":{"unified":{"x":{}}}}}"#).starts_with("/linux/resources/unified/x: "));
        assert!(message(r#"{"mounts":[{"destination":"/","options":"ro"}]}"#).starts_with("/mounts/0/options: "));
    }

    #[test]
    fn what_is_no_text_is_refused_wherever_it_stands() {
        for json in [&b"{\"hostname\":\n\"a\xff\"}"[..], b"{\"unknown\":\n\"a\xc3\"}", b"{\"unknown\":\n\"a\xed\xa0\x80\"}"] {
            let error = Spec::parse(json).unwrap_err();
            assert!(error.to_string().contains("invalid unicode code point at line 2 column 3"), "{error}");
        }
        assert_eq!(Spec::parse("{\"hostname\":\"\u{e4}\"}".as_bytes()).unwrap().hostname, "\u{e4}");
    }

    #[test]
    fn one_shape_is_not_taken_for_another() {
        for (json, at) in [
            (r#"[]"#, ""),
            (r#""x""#, ""),
            (r#"{"process":[]}"#, "/process"),
            (r#"{"process":{"args":"sh"}}"#, "/process/args"),
            (r#"{"process":{"user":[0,0]}}"#, "/process/user"),
            (r#"{"linux":[]}"#, "/linux"),
            (r#"{"linux":{"namespaces":{}}}"#, "/linux/namespaces"),
            (r#"{"linux":{"namespaces":[["pid"]]}}"#, "/linux/namespaces/0"),
            (r#"{"linux":{"netDevices":{"eth0":[]}}}"#, "/linux/netDevices/eth0"),
            (r#"{"linux":{"timeOffsets":[]}}"#, "/linux/timeOffsets"),
        ] {
            let e = Spec::parse(json.as_bytes()).unwrap_err();
            assert_eq!(e.field(), at, "{json}: {e}");
        }
    }

    #[test]
    fn absent_null_and_zero() {
        let s = Spec::parse(
            br#"{"process":{"user":{"uid":null,"additionalGids":null},"env":null},"hooks":null,"mounts":null,
            "linux":{"resources":{"pids":{},"memory":null,"hugepageLimits":[{"pageSize":"2MB","limit":18446744073709551615}]}}}"#,
        )
        .unwrap();
        let r = s.linux.resources.unwrap();
        assert_eq!(r.pids.unwrap().limit, None);
        assert_eq!(r.hugepage_limits[0].limit, u64::MAX);
        assert_eq!(s.process.unwrap().user.uid, 0);
        let p = Resources::parse(br#"{"pids":{"limit":0}}"#).unwrap();
        assert_eq!(p.pids.unwrap().limit, Some(0));
    }

    #[test]
    fn unknown_members_are_ignored_and_known_ones_are_not_repeated() {
        assert!(Spec::parse(br#"{"x":1,"process":{"commandLine":"x","y":{}},"windows":{}}"#).is_ok());
        let e = Spec::parse(br#"{"hostname":"a","hostname":"b"}"#).unwrap_err();
        assert!(e.to_string().contains("duplicate field `hostname`"), "{e}");
        let s = Spec::parse(br#"{"annotations":{"a":"1","a":"2"}}"#).unwrap();
        assert_eq!(s.annotations["a"], "2");
    }

    #[test]
    fn broken_documents() {
        assert!(message("\u{feff}{}").contains("byte order mark"));
        assert!(message("").contains("EOF while parsing a value"));
        assert!(message("{} x").contains("trailing characters at line 1 column 4"));
        assert!(message("{\"a\":").contains("EOF"));
        // Members that nobody knows are skipped without recursion, known ones are nested as deep as their types.
        assert!(message(&format!("{{\"a\":{}", "[".repeat(1_000_000))).contains("EOF while parsing"));
        assert!(Spec::parse(b"{\"hostname\":\"\xff\"}").unwrap_err().to_string().starts_with("/hostname: "));
        assert!(Process::parse(b"{\"cwd\":1}").unwrap_err().to_string().starts_with("/cwd: parse process: "));
    }

    #[test]
    fn a_bundle_is_read_from_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Bundle::load(dir.path(), None).unwrap_err().to_string(), "JSON specification file config.json not found");
        assert!(Bundle::load(&dir.path().join("x"), None).unwrap_err().to_string().ends_with("no such file or directory"));
        fs::write(dir.path().join("config.json"), br#"{"ociVersion":"1.0.0","root":{"path":"rootfs"}}"#).unwrap();
        let b = Bundle::load(dir.path(), None).unwrap();
        assert_eq!(b.dir, dir.path().canonicalize().unwrap());
        assert_eq!(b.rootfs(), b.dir.join("rootfs"));
        assert_eq!(b.raw, br#"{"ociVersion":"1.0.0","root":{"path":"rootfs"}}"#);
        fs::remove_file(dir.path().join("config.json")).unwrap();
        fs::create_dir(dir.path().join("config.json")).unwrap();
        assert!(Bundle::load(dir.path(), None).unwrap_err().to_string().ends_with("not a regular file"));
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("config.json")).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        assert!(Bundle::load(dir.path(), None).unwrap_err().to_string().contains("larger than 67108864 bytes"));
    }
}
