//! The one error type: which field of `config.json`, what was being done, why it failed, what to do about it.
//!
//! `Display` is the one line that a person reads, `field: step: cause (hint)`. The JSON log carries the parts as keys of
//! their own. Engines match on the words of [`Error::exact`] messages: those stand alone, without field or step before them.

use std::fmt;

/// The result of everything that can fail in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, in parts. Built with [`Error::new`], [`Error::sys`] or [`Error::exact`], completed by [`Error::at`] and [`Error::hint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Parts>);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Parts {
    /// JSON pointer (RFC 6901) into `config.json`, for example `/mounts/3/options`; empty when no field is to blame.
    field: String,
    /// What was being done, or the whole message when `exact`.
    step: String,
    /// What went wrong, in words; empty when `errno` says it all.
    cause: String,
    /// The system call that failed.
    syscall: Option<&'static str>,
    /// Its errno, 0 for none.
    errno: i32,
    /// What the reader can do.
    hint: String,
    /// The message is a contract: print it without the field.
    exact: bool,
}

impl Error {
    /// A failure that is not a system call's: `step: cause`.
    pub fn new(step: impl Into<String>, cause: impl Into<String>) -> Self {
        Self(Box::new(Parts { step: step.into(), cause: cause.into(), ..Parts::default() }))
    }

    /// A failed system call, `step: words of errno`. One that is not there at all is named, whatever was being done.
    pub fn sys(step: impl Into<String>, syscall: &'static str, errno: Errno) -> Self {
        let hint = match errno.0 {
            libc::ENOSYS if !syscall.is_empty() => {
                format!("the kernel has no {syscall}, or a seccomp filter around the runtime refuses it")
            }
            _ => String::new(),
        };
        Self(Box::new(Parts { step: step.into(), syscall: Some(syscall), errno: errno.0, hint, ..Parts::default() }))
    }

    /// A message whose every word is a contract with engines (runc's wording).
    pub fn exact(message: impl Into<String>) -> Self {
        Self(Box::new(Parts { step: message.into(), exact: true, ..Parts::default() }))
    }

    /// Names the field of `config.json` by its JSON pointer. The first to name one is the one that knows best.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        if self.0.field.is_empty() {
            self.0.field = field.into();
        }
        self
    }

    /// Puts a pointer in front of the one that is there: `resources/pids` inside `/linux`.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.0.field.insert_str(0, prefix);
        self
    }

    /// Says what the reader can do about it; no words change nothing.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        if !hint.is_empty() {
            self.0.hint = hint;
        }
        self
    }

    /// Puts words before the step, as in `exec failed: ...`.
    #[must_use]
    pub fn context(mut self, words: &str) -> Self {
        self.0.step = format!("{words}: {}", self.0.step);
        self
    }

    /// The JSON pointer of the field to blame, empty for none.
    pub fn field(&self) -> &str {
        &self.0.field
    }

    /// What was being done.
    pub fn step(&self) -> &str {
        &self.0.step
    }

    /// The system call that failed, if one did.
    pub fn syscall(&self) -> Option<&'static str> {
        self.0.syscall
    }

    /// The errno, if a system call failed.
    pub fn errno(&self) -> Option<Errno> {
        (self.0.errno != 0).then_some(Errno(self.0.errno))
    }

    /// What the reader can do, empty when nothing is known.
    pub fn hint_text(&self) -> &str {
        &self.0.hint
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = &self.0;
        if !p.exact && !p.field.is_empty() {
            write!(f, "{}: ", p.field)?;
        }
        f.write_str(&p.step)?;
        if !p.cause.is_empty() {
            write!(f, ": {}", p.cause)?;
        }
        if p.errno != 0 {
            write!(f, ": {}", Errno(p.errno))?;
        }
        if !p.hint.is_empty() {
            write!(f, " ({})", p.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// A kernel error number. Prints in the C library's words with a lower-case first letter, as Go prints them: engines
/// match on `no such file or directory`, `permission denied` and their kin with case (docker/cli, CRI-O).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl From<nix::errno::Errno> for Errno {
    fn from(e: nix::errno::Errno) -> Self {
        Self(e as i32)
    }
}

impl From<&std::io::Error> for Errno {
    fn from(e: &std::io::Error) -> Self {
        Self(e.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Go's table differs from the C library's in a few places; these are the ones that can be met here.
        let text = match self.0 {
            libc::ELOOP => "too many levels of symbolic links",
            libc::ENODATA => "no data available",
            libc::EIO => "input/output error",
            libc::ENXIO => "no such device or address",
            libc::ENOTTY => "inappropriate ioctl for device",
            n => nix::errno::Errno::from_raw(n).desc(),
        };
        let mut chars = text.chars();
        match chars.next() {
            Some(first) => write!(f, "{}{}", first.to_ascii_lowercase(), chars.as_str()),
            None => write!(f, "error {}", self.0),
        }
    }
}

/// Turns the errors of `nix` and `std` into ours, with the step named at the call.
pub trait Context<T> {
    /// `what` is worked out only on failure.
    fn step(self, syscall: &'static str, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for nix::Result<T> {
    fn step(self, syscall: &'static str, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::sys(what(), syscall, e.into()))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn step(self, syscall: &'static str, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| match e.raw_os_error() {
            Some(n) => Error::sys(what(), syscall, Errno(n)),
            None => Error::new(what(), e.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_not_there_is_named() {
        let missing = Error::sys("open the cgroup", "openat2", Errno(libc::ENOSYS));
        let words = "open the cgroup: function not implemented (the kernel has no openat2, or a seccomp filter around the runtime \
                     refuses it)";
        assert_eq!(missing.clone().hint("").to_string(), words);
        assert!(missing.hint("boot another").to_string().ends_with("(boot another)"));
        assert!(Error::sys("open", "openat2", Errno(libc::EPERM)).hint_text().is_empty());
    }

    #[test]
    fn one_line_in_parts() {
        let e = Error::sys("mount tmpfs on /data", "fsconfig", Errno(libc::EINVAL)).at("/mounts/3/options").hint("try again");
        assert_eq!(e.to_string(), "/mounts/3/options: mount tmpfs on /data: invalid argument (try again)");
        assert_eq!(e.errno(), Some(Errno(libc::EINVAL)));
    }

    #[test]
    fn an_exact_message_stands_alone() {
        assert_eq!(Error::exact("container does not exist").at("/x").to_string(), "container does not exist");
    }

    #[test]
    fn errno_reads_as_go_writes_it() {
        for (n, words) in [
            (libc::ENOENT, "no such file or directory"),
            (libc::EACCES, "permission denied"),
            (libc::EPERM, "operation not permitted"),
            (libc::ESRCH, "no such process"),
            (libc::EISDIR, "is a directory"),
            (libc::ENOTDIR, "not a directory"),
            (libc::EINVAL, "invalid argument"),
            (libc::ENOSPC, "no space left on device"),
            (libc::ENOEXEC, "exec format error"),
        ] {
            assert_eq!(Errno(n).to_string(), words);
        }
    }
}
