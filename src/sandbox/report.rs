//! What the child tells the parent: one fixed-size message of plain bytes, the same over the create channel (SEQPACKET
//! socket) and the FIFO that `start` reads. The child sends numbers; whoever has the field names words the error.

use std::os::fd::BorrowedFd;

/// Bytes of [`Report`]'s free text.
const TEXT: usize = 216;
/// Bytes of the system call's name.
const CALL: usize = 24;
/// Bytes of a message; below PIPE_BUF, so a FIFO takes it whole.
pub const SIZE: usize = 16 + CALL + TEXT;

/// What kind of thing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A pause was reached; the child waits.
    Reached = 1,
    /// The middle process made the container's init; `value` is its pid.
    Forked = 2,
    /// A step failed; `value` is the errno.
    Failed = 3,
}

/// What is known of a failure beyond its errno; says what the text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Detail {
    /// Nothing.
    #[default]
    None = 0,
    /// Text: the kernel's own message of a file system context.
    Kernel = 1,
    /// Text: why we refuse what the system call would have allowed.
    Refused = 2,
    /// No candidate in PATH may be executed.
    NotInPath = 3,
    /// Text: the interpreter or loader that the program names and that is missing.
    Interpreter = 4,
    /// Text: the same, and its name ends with a carriage return (a file with CRLF lines).
    CarriageReturn = 5,
    /// Text: the machine that the program was built for.
    Machine = 6,
    /// The program lies on a mount with `noexec`.
    NoExec = 7,
    /// Neither `#!` nor a binary format that the kernel knows.
    Format = 8,
    /// A hook ended with the exit status in `value`; text: the end of its stderr.
    HookStatus = 9,
    /// A hook was killed by the signal in `value`.
    HookSignal = 10,
    /// A hook outlived its timeout.
    HookTimeout = 11,
    /// A hook could not be executed; the errno in `value`.
    HookNotRun = 12,
    /// Text: what was read back and is not as it was set ([`super::verify`]).
    Difference = 13,
}

const DETAILS: [Detail; 14] = [
    Detail::None,
    Detail::Kernel,
    Detail::Refused,
    Detail::NotInPath,
    Detail::Interpreter,
    Detail::CarriageReturn,
    Detail::Machine,
    Detail::NoExec,
    Detail::Format,
    Detail::HookStatus,
    Detail::HookSignal,
    Detail::HookTimeout,
    Detail::HookNotRun,
    Detail::Difference,
];

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// What kind of thing is said.
    pub kind: Kind,
    /// How to read `text`.
    pub detail: Detail,
    /// Which part of the step: the hook's index.
    pub part: u16,
    /// The step's index in the plan.
    pub step: u32,
    /// Errno, pid or status, by `kind` and `detail`.
    pub value: i32,
    call: [u8; CALL],
    text: [u8; TEXT],
    text_len: u8,
}

impl Report {
    /// A message without text.
    pub fn new(kind: Kind, step: u32, value: i32) -> Self {
        Self { kind, detail: Detail::None, part: 0, step, value, call: [0; CALL], text: [0; TEXT], text_len: 0 }
    }

    /// Names the system call that failed.
    #[must_use]
    pub fn call(mut self, name: &str) -> Self {
        for (to, from) in self.call.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        self
    }

    /// Adds what is known; the text is cut to what fits.
    #[must_use]
    pub fn detail(mut self, detail: Detail, text: &[u8]) -> Self {
        self.detail = detail;
        self.text_len = 0;
        for (to, from) in self.text.iter_mut().zip(text) {
            *to = *from;
            self.text_len += 1;
        }
        self
    }

    /// The free text.
    pub fn text(&self) -> &[u8] {
        self.text.get(..self.text_len.into()).unwrap_or_default()
    }

    /// The name of the system call, empty if none failed.
    pub fn call_name(&self) -> &str {
        let len = self.call.iter().position(|&c| c == 0).unwrap_or(CALL);
        self.call.get(..len).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default()
    }

    fn to_bytes(self) -> [u8; SIZE] {
        let mut out = [0u8; SIZE];
        let head = [self.kind as u8, self.detail as u8, self.text_len, 0];
        let parts: [&[u8]; 6] =
            [&head, &self.part.to_le_bytes(), &[0, 0], &self.step.to_le_bytes(), &self.value.to_le_bytes(), &self.call];
        let mut bytes = out.iter_mut();
        for part in parts.into_iter().chain([&self.text[..]]) {
            for byte in part {
                if let Some(to) = bytes.next() {
                    *to = *byte;
                }
            }
        }
        out
    }

    /// Reads a message; `None` when it is not one of ours.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let kind = match bytes.first()? {
            1 => Kind::Reached,
            2 => Kind::Forked,
            3 => Kind::Failed,
            _ => return None,
        };
        let text_len = *bytes.get(2)?;
        if usize::from(text_len) > TEXT || bytes.len() != SIZE {
            return None;
        }
        Some(Self {
            kind,
            detail: *DETAILS.get(usize::from(*bytes.get(1)?))?,
            part: u16::from_le_bytes(bytes.get(4..6)?.try_into().ok()?),
            step: word(8)?,
            value: i32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?),
            call: bytes.get(16..16 + CALL)?.try_into().ok()?,
            text: bytes.get(16 + CALL..SIZE)?.try_into().ok()?,
            text_len,
        })
    }

    /// Writes the message. write(2): the one call that a filter which lets a program say anything allows.
    pub fn send(self, to: BorrowedFd<'_>) -> nix::Result<()> {
        crate::sys::fs::write_all(to, &self.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_wire() {
        let mut report =
            Report::new(Kind::Failed, 37, libc::ENOENT).call("move_mount").detail(Detail::Kernel, b"e tmpfs: Unknown parameter");
        report.part = 3;
        assert_eq!(Report::from_bytes(&report.to_bytes()), Some(report));
        assert_eq!(report.call_name(), "move_mount");
    }

    #[test]
    fn cuts_long_text_and_refuses_noise() {
        let report = Report::new(Kind::Failed, 0, 1).detail(Detail::Refused, &[b'x'; 1000]);
        assert_eq!(report.text().len(), TEXT);
        assert_eq!(Report::from_bytes(&[0; SIZE]), None);
        assert_eq!(Report::from_bytes(b"short"), None);
    }

    #[test]
    fn every_detail_has_its_number() {
        for (n, detail) in DETAILS.iter().enumerate() {
            assert_eq!(*detail as usize, n);
        }
    }
}
