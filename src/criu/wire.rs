//! The encoding of CRIU's messages (protocol buffers, as far as `rpc.proto` needs it): a message is a list of numbered
//! fields, each a variable-length number or a string of bytes. Fields that nobody asked for are skipped.

/// A message under construction.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

impl Writer {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f).to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    /// A number: `uint32`, `uint64`, an enum.
    pub fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value);
    }

    /// An `int32`; a negative one takes ten bytes.
    pub fn int(&mut self, field: u32, value: i32) {
        self.number(field, i64::from(value).cast_unsigned());
    }

    /// A `bool` that is true; one that is not is left out.
    pub fn flag(&mut self, field: u32, value: bool) {
        if value {
            self.number(field, 1);
        }
    }

    /// A string, or bytes.
    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A string that may be absent.
    pub fn maybe(&mut self, field: u32, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.bytes(field, value);
        }
    }

    /// A message inside the message.
    pub fn message(&mut self, field: u32, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// The whole.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Any kind of number.
    Number(u64),
    /// A string, bytes, or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// As an `int32`, 0 if it is none.
    pub fn int(self) -> i32 {
        match self {
            Self::Number(n) => i32::try_from(n.cast_signed()).unwrap_or(0),
            Self::Bytes(_) => 0,
        }
    }

    /// As a `bool`.
    pub fn flag(self) -> bool {
        matches!(self, Self::Number(n) if n != 0)
    }

    /// As a string or a message, empty if it is none.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Number(_) => &[],
            Self::Bytes(bytes) => bytes,
        }
    }

    /// As text.
    pub fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// Hands each field of a message to `field`; `None` if the message is cut short or no message at all.
pub fn read<'a>(mut rest: &'a [u8], mut field: impl FnMut(u64, Value<'a>)) -> Option<()> {
    while !rest.is_empty() {
        let key = take_varint(&mut rest)?;
        let value = match key & 7 {
            VARINT => Value::Number(take_varint(&mut rest)?),
            BYTES => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                Value::Bytes(take(&mut rest, length)?)
            }
            FIXED64 => Value::Bytes(take(&mut rest, 8)?),
            FIXED32 => Value::Bytes(take(&mut rest, 4)?),
            _ => return None,
        };
        field(key >> 3, value);
    }
    Some(())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_as_protocol_buffers_has_them() {
        let mut w = Writer::default();
        w.number(1, 150);
        w.int(2, -1);
        w.flag(3, true);
        w.flag(4, false);
        w.bytes(20, b"testing");
        w.message(5, |m| m.number(1, 1));
        let want = [
            &[0x08, 0x96, 0x01][..],
            &[0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x18, 0x01],
            &[0xa2, 0x01, 0x07],
            b"testing",
            &[0x2a, 0x02, 0x08, 0x01],
        ];
        assert_eq!(w.into_bytes(), want.concat());
    }

    #[test]
    fn what_was_written_is_read_and_the_unknown_skipped() {
        let mut w = Writer::default();
        w.int(7, -22);
        w.bytes(9, b"why");
        let mut bytes = w.into_bytes();
        bytes.extend([0x51, 1, 2, 3, 4, 5, 6, 7, 8, 0x5d, 1, 2, 3, 4]);
        let mut seen = Vec::new();
        read(&bytes, |n, v| seen.push((n, v.int(), v.text()))).unwrap();
        assert_eq!(seen[0], (7, -22, String::new()));
        assert_eq!(seen[1], (9, 0, "why".into()));
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn a_message_cut_short_is_none() {
        let mut w = Writer::default();
        w.bytes(1, b"abc");
        let bytes = w.into_bytes();
        for n in 1..bytes.len() {
            assert!(read(&bytes[..n], |_, _| ()).is_none(), "{n}");
        }
        assert!(read(&[0x0b], |_, _| ()).is_none(), "a group");
        assert!(read(&[0xff; 11], |_, _| ()).is_none(), "a number without end");
    }
}
