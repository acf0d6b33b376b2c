//! Signals by number or name.

use crate::error::{Error, Result};
use nix::sys::signal::Signal;
use std::str::FromStr;

/// The first real-time signal that programs may use: glibc keeps 32 and 33.
const RTMIN: i32 = 34;
/// The last real-time signal.
const RTMAX: i32 = 64;

/// Reads a signal: `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN`, `SIGRTMIN+3`, `RTMAX-1`. 0 only asks whether the process is there.
///
/// # Errors
/// Names that Linux does not have and numbers outside 0..=64.
pub fn signal(text: &str) -> Result<i32> {
    let unknown = || Error::new("unknown signal", format!("{text:?}"));
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|n| (0..=RTMAX).contains(n)).ok_or_else(unknown);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // Other names of the same numbers.
    let name = match name {
        "IOT" => "ABRT",
        "POLL" => "IO",
        "CLD" => "CHLD",
        name => name,
    };
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(RTMIN, offset, '+').ok_or_else(unknown);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(RTMAX, offset, '-').ok_or_else(unknown);
    }
    Signal::from_str(&format!("SIG{name}")).map(|s| s as i32).map_err(|_| unknown())
}

fn real_time(base: i32, offset: &str, sign: char) -> Option<i32> {
    if offset.is_empty() {
        return Some(base);
    }
    let digits = offset.strip_prefix(sign)?;
    let n: i32 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    let number = if sign == '+' { base.checked_add(n)? } else { base.checked_sub(n)? };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_number_and_by_name() {
        for (text, n) in [
            ("9", 9),
            ("0", 0),
            ("64", 64),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("Term", 15),
            ("SIGSTKFLT", 16),
            ("PWR", 30),
            ("SYS", 31),
            ("IOT", 6),
            ("POLL", 29),
            ("SIGCLD", 17),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmin+30", 64),
            ("RTMAX", 64),
            ("SIGRTMAX-30", 34),
            ("WINCH", 28),
            ("37", 37),
            ("USR1", 10),
        ] {
            assert_eq!(signal(text).unwrap(), n, "{text}");
        }
        for text in [
            "",
            "65",
            "-1",
            "+9",
            "SIG",
            "SIGSIGKILL",
            "9 ",
            "KILL9",
            "RTMIN-1",
            "RTMIN+31",
            "RTMAX+1",
            "RTMAX-31",
            "RTMIN+",
            "RTMIN+-1",
            "RTMIN3",
            "99999999999",
            "KILL\0",
        ] {
            assert!(signal(text).is_err(), "{text:?}");
        }
        assert_eq!(signal("FOO").unwrap_err().to_string(), "unknown signal: \"FOO\"");
    }
}
