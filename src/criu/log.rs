//! CRIU's own words: the error lines of its log, for the one line that ours is.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Most that is read from the end of a log, in bytes.
const TAIL: u64 = 256 << 10;
/// Most lines that are quoted.
const LINES: usize = 4;
/// Most bytes of a line.
const WIDTH: usize = 300;
/// The last words of one that waits for a request after it has failed: it is we who have closed the socket.
const CLOSED: &str = "Can't recv request: Connection reset by peer";

/// The error lines of a log file, joined; empty when there are none, or no file.
pub fn quote(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    read().map(|bytes| errors(&String::from_utf8_lossy(&bytes))).unwrap_or_default()
}

/// The program that an error line says could not be run.
pub fn missing_program(quoted: &str) -> Option<&str> {
    quoted.split_once("execvp(\"")?.1.split_once('"').map(|(name, _)| name)
}

/// The error lines of a text. Those that only say that it failed, or that stopped nothing, are left out as long as there
/// are others.
pub fn errors(text: &str) -> String {
    let found = text.lines().filter_map(|line| Some(line.get(line.find("Error (")?..)?.trim()));
    let all: Vec<&str> = found.filter(|line| !line.ends_with(CLOSED)).collect();
    // The second is of a process without CAP_SYS_RESOURCE, the third follows a line that says what.
    let idle = ["FAILED.", "Can't setup RLIMIT_NOFILE for self: Operation not permitted", "): exited, status=1"];
    let telling: Vec<&str> = all.iter().copied().filter(|line| !idle.iter().any(|end| line.ends_with(end))).collect();
    let lines = if telling.is_empty() { all } else { telling };
    let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
    let shown = last.iter().map(|line| line.chars().filter(|c| !c.is_control()).take(WIDTH).collect::<String>());
    shown.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_telling_lines_are_quoted() {
        let log = "(00.01) Dumping\n(00.04) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.\n\
                   (00.05) Unlock\n(00.06) Error (criu/cr-dump.c:2098): Dumping FAILED.\n";
        let want = "Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.";
        assert_eq!(errors(log), want);
        assert_eq!(
            errors("(00.06) Error (criu/cr-dump.c:2098): Dumping FAILED.\n"),
            "Error (criu/cr-dump.c:2098): Dumping FAILED."
        );
        assert_eq!(errors("(00.06) all is well\n"), "");
        assert_eq!(errors("Error (criu/cr-service.c:1246): Can't recv request: Connection reset by peer\n"), "");
        let log = "Error (criu/util.c:641): execvp(\"iptables-restore\", ...) failed: No such file or directory\n";
        assert_eq!(missing_program(&errors(log)), Some("iptables-restore"));
    }

    #[test]
    fn many_and_long_lines_stay_one_line() {
        let log: String = (0..50).map(|n| format!("(0{n}) Error (criu/x.c:{n}): \x1b[31m{}\r\n", "y".repeat(1000))).collect();
        let quoted = errors(&log);
        assert!(quoted.starts_with("Error (criu/x.c:46)") && quoted.len() <= LINES * (WIDTH + 2));
        assert!(!quoted.chars().any(char::is_control));
    }

    #[test]
    fn no_log_is_no_quote() {
        assert_eq!(quote(Path::new("/nonexistent/dump.log")), "");
    }
}
