//! Where messages go: the `--log` file in the form that engines read, and stderr.
//!
//! Not a logging framework: one sink, set once, one `write(2)` a line (several processes append to one file). At the
//! default level nothing but the final error is written, because Podman reads the whole file as one JSON object and
//! containerd decodes every line of it.

use crate::error::Error;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time="..." level=error msg="..."`, the form of logrus.
    Text,
    /// One object a line with `level`, `msg`, `time`, and for an error its parts.
    Json,
}

/// How much a message matters; a sink takes its own level and those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The command failed.
    Error,
    /// Something was left out or went wrong beside the work.
    Warning,
    /// Worth knowing.
    Info,
    /// For those who look for a fault.
    Debug,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

struct Sink {
    /// The `--log` file; `None` for stderr.
    file: Option<File>,
    format: Format,
    level: Level,
}

/// How long a reader of stderr may keep the last words waiting, in ms.
const PATIENCE: u16 = 3000;

static SINK: OnceLock<Sink> = OnceLock::new();

/// Opens the sink, once in a process. `file` is appended to and made with mode 0644; a message goes to stderr when it is
/// `None`.
///
/// # Errors
/// The file cannot be opened. The sink is then stderr.
pub fn init(file: Option<&Path>, format: Format, level: Level) -> crate::error::Result<()> {
    let mut sink = Sink { file: None, format, level };
    let mut result = Ok(());
    // Opening /dev/stderr fails when it is a socket, as it is under systemd.
    if let Some(path) = file.filter(|p| *p != Path::new("/dev/stderr")) {
        // Opened close-on-exec by std. A terminal must not become the controlling one.
        match OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(libc::O_NOCTTY).open(path) {
            Ok(file) => sink.file = Some(file),
            Err(e) => result = Err(Error::sys(format!("open log file {}", path.display()), "open", (&e).into())),
        }
    }
    // A second call changes nothing: the first sink has been promised to callers.
    drop(SINK.set(sink));
    result
}

/// Whether messages of this level are taken, for those that are costly to make.
pub fn enabled(level: Level) -> bool {
    SINK.get().is_some_and(|sink| level <= sink.level)
}

/// Something was left out or went wrong beside the work. Not written at the default level.
pub fn warn(message: &str) {
    record(Level::Warning, message, None);
}

/// Worth knowing. The message is made only if it is taken.
pub fn info(message: impl FnOnce() -> String) {
    if enabled(Level::Info) {
        record(Level::Info, &message(), None);
    }
}

/// For those who look for a fault. The message is made only if it is taken.
pub fn debug(message: impl FnOnce() -> String) {
    if enabled(Level::Debug) {
        record(Level::Debug, &message(), None);
    }
}

/// The final error of the command: to the log with its parts, and as a plain line to stderr. For `main` only.
pub fn fatal(error: &Error) {
    record(Level::Error, &error.to_string(), Some(error));
    // Without a log file the record has been on stderr, unless it is text: people get the plain line.
    let on_stderr = SINK.get().is_some_and(|s| s.file.is_none() && s.format == Format::Json);
    if !on_stderr {
        write_stderr(format!("{error}\n").as_bytes());
    }
}

fn record(level: Level, message: &str, error: Option<&Error>) {
    let Some(sink) = SINK.get().filter(|s| level <= s.level) else { return };
    if level == Level::Error && sink.file.is_none() && sink.format == Format::Text {
        return;
    }
    let time = rfc3339(SystemTime::now());
    let line = match sink.format {
        Format::Json => json(level, message, &time, error),
        Format::Text => text(level, message, &time),
    };
    match &sink.file {
        // A log that is full or gone must not fail the work; the error itself is on stderr too.
        Some(file) => drop(whole(file, line.as_bytes())),
        None => write_stderr(line.as_bytes()),
    }
}

/// One `write(2)` for the line; what a short write leaves is written after it.
fn whole(mut file: &File, line: &[u8]) -> std::io::Result<()> {
    file.write_all(line)
}

/// It may be closed, or a pipe or terminal that nobody reads (runc#2530): then there is nobody left to tell.
fn write_stderr(line: &[u8]) {
    let mut stderr = std::io::stderr();
    // A pipe that is ready takes so much at once without waiting (pipe(7), PIPE_BUF).
    for part in line.chunks(4096) {
        let ready = poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(PATIENCE));
        if ready == Ok(0) || stderr.write_all(part).is_err() {
            return;
        }
    }
}

/// Keys in the order of the alphabet as Go's encoder writes them, then the parts of the error.
#[derive(Serialize)]
struct Record<'a> {
    level: &'static str,
    msg: &'a str,
    time: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    field: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    step: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    syscall: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    hint: &'a str,
}

fn json(level: Level, message: &str, time: &str, error: Option<&Error>) -> String {
    let record = Record {
        level: level.word(),
        msg: message,
        time,
        field: error.map_or("", Error::field),
        step: error.map_or("", Error::step),
        syscall: error.and_then(Error::syscall),
        errno: error.and_then(Error::errno).map(|e| e.0),
        hint: error.map_or("", Error::hint_text),
    };
    // Strings and numbers only: there is nothing in it that the encoder could refuse.
    let mut line = serde_json::to_string(&record).unwrap_or_default();
    line.push('\n');
    line
}

fn text(level: Level, message: &str, time: &str) -> String {
    let mut quoted = String::with_capacity(message.len() + 2);
    for c in message.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.extend(c.escape_unicode()),
            c => quoted.push(c),
        }
    }
    format!("time=\"{time}\" level={} msg=\"{quoted}\"\n", level.word())
}

/// A time as RFC 3339 in UTC with nanoseconds, `2026-01-02T03:04:05.000000006Z`, which Go's decoder takes. Times before
/// 1970 are written as 1970.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Civil date from the day count, in the calendar whose years begin in March, so that the leap day is the last.
    let era_day = days + 719_468;
    let (era, day_of_era) = (era_day / 146_097, era_day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;

    #[test]
    fn times() {
        for (seconds, nanos, want) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (1_767_225_599, 999_999_999, "2025-12-31T23:59:59.999999999Z"),
            (4_107_542_399, 0, "2100-02-28T23:59:59.000000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::new(seconds, nanos)), want);
        }
    }

    #[test]
    fn an_error_in_json_carries_its_parts() {
        let error = Error::sys("mount tmpfs", "fsconfig", Errno(libc::EINVAL)).at("/mounts/0").hint("h");
        let line = json(Level::Error, &error.to_string(), "T", Some(&error));
        let want = r#"{"level":"error","msg":"/mounts/0: mount tmpfs: invalid argument (h)","time":"T","field":"/mounts/0","step":"mount tmpfs","syscall":"fsconfig","errno":22,"hint":"h"}"#;
        assert_eq!(line, format!("{want}\n"));
        assert_eq!(json(Level::Warning, "w", "T", None), "{\"level\":\"warning\",\"msg\":\"w\",\"time\":\"T\"}\n");
    }

    #[test]
    fn text_is_one_line_whatever_the_message() {
        assert_eq!(text(Level::Error, "a \"b\"\nc\\", "T"), "time=\"T\" level=error msg=\"a \\\"b\\\"\\nc\\\\\"\n");
    }

    #[test]
    fn levels_in_order() {
        assert!(Level::Error < Level::Warning && Level::Warning < Level::Info && Level::Info < Level::Debug);
    }
}
