//! D-Bus values and their form on the wire (D-Bus Specification, "Marshaling"). Pure: bytes in and out.
//!
//! Reading trusts nothing: every length is checked against what is left, and values nest at most [`DEEPEST`] levels.

use crate::error::{Error, Result};
use std::fmt;

/// How deep values may nest: the specification allows 32 arrays and 32 structures.
pub const DEEPEST: usize = 64;

/// How many values one message may hold: a byte on the wire takes some forty here.
const MOST: usize = 1 << 14;

/// A value as D-Bus knows it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `b`.
    Bool(bool),
    /// `y`.
    Byte(u8),
    /// `n`.
    I16(i16),
    /// `q`.
    U16(u16),
    /// `i`.
    I32(i32),
    /// `u`.
    U32(u32),
    /// `x`.
    I64(i64),
    /// `t`.
    U64(u64),
    /// `d`.
    F64(f64),
    /// `s`.
    Text(String),
    /// `o`.
    Path(String),
    /// `g`.
    Signature(String),
    /// `a`: the signature of the elements, and those.
    Array(String, Vec<Value>),
    /// `(...)`.
    Struct(Vec<Value>),
    /// `{..}`: only as an element of an array.
    Entry(Box<(Value, Value)>),
    /// `v`.
    Variant(Box<Value>),
}

impl Value {
    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// An array of strings.
    pub fn texts(all: &[&str]) -> Self {
        Self::Array("s".into(), all.iter().map(|t| Self::text(*t)).collect())
    }

    /// An array of bytes.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::Array("y".into(), bytes.iter().copied().map(Self::Byte).collect())
    }

    /// Its signature.
    pub fn signature(&self) -> String {
        match self {
            Self::Bool(_) => "b".into(),
            Self::Byte(_) => "y".into(),
            Self::I16(_) => "n".into(),
            Self::U16(_) => "q".into(),
            Self::I32(_) => "i".into(),
            Self::U32(_) => "u".into(),
            Self::I64(_) => "x".into(),
            Self::U64(_) => "t".into(),
            Self::F64(_) => "d".into(),
            Self::Text(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(members) => format!("({})", members.iter().map(Self::signature).collect::<String>()),
            Self::Entry(pair) => format!("{{{}{}}}", pair.0.signature(), pair.1.signature()),
            Self::Variant(_) => "v".into(),
        }
    }
}

/// As in the text format of GVariant, without types; `infinity` for the largest number.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, values: &[Self]| {
            values.iter().enumerate().try_for_each(|(n, v)| write!(f, "{}{v}", if n == 0 { "" } else { ", " }))
        };
        match self {
            Self::Bool(b) => write!(f, "{b}"),
            Self::Byte(n) => write!(f, "{n}"),
            Self::I16(n) => write!(f, "{n}"),
            Self::U16(n) => write!(f, "{n}"),
            Self::I32(n) => write!(f, "{n}"),
            Self::U32(n) => write!(f, "{n}"),
            Self::I64(n) => write!(f, "{n}"),
            Self::U64(u64::MAX) => f.write_str("infinity"),
            Self::U64(n) => write!(f, "{n}"),
            Self::F64(n) => write!(f, "{n}"),
            Self::Text(text) | Self::Path(text) | Self::Signature(text) => write!(f, "'{}'", text.escape_default()),
            Self::Array(_, values) => f.write_str("[").and_then(|()| list(f, values)).and_then(|()| f.write_str("]")),
            Self::Struct(values) => f.write_str("(").and_then(|()| list(f, values)).and_then(|()| f.write_str(")")),
            Self::Entry(pair) => write!(f, "{}: {}", pair.0, pair.1),
            Self::Variant(inner) => write!(f, "<{inner}>"),
        }
    }
}

/// What is written, little-endian.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Fills up with zeros to a multiple of `to`.
    pub fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// Writes a value, aligned from the start of the buffer.
    ///
    /// # Errors
    /// A string that the wire has no form for (a NUL), or more bytes than its lengths can count.
    pub fn put(&mut self, value: &Value) -> Result<()> {
        self.align(alignment(value.signature().as_bytes().first().copied().unwrap_or(b'y')));
        match value {
            Value::Bool(b) => self.bytes.extend(u32::from(*b).to_le_bytes()),
            Value::Byte(n) => self.bytes.push(*n),
            Value::I16(n) => self.bytes.extend(n.to_le_bytes()),
            Value::U16(n) => self.bytes.extend(n.to_le_bytes()),
            Value::I32(n) => self.bytes.extend(n.to_le_bytes()),
            Value::U32(n) => self.bytes.extend(n.to_le_bytes()),
            Value::I64(n) => self.bytes.extend(n.to_le_bytes()),
            Value::U64(n) => self.bytes.extend(n.to_le_bytes()),
            Value::F64(n) => self.bytes.extend(n.to_le_bytes()),
            Value::Text(text) | Value::Path(text) => {
                self.bytes.extend(length(text.len())?.to_le_bytes());
                self.put_text(text)?;
            }
            Value::Signature(text) => {
                self.bytes.push(u8::try_from(text.len()).map_err(|_| too_long())?);
                self.put_text(text)?;
            }
            Value::Array(element, values) => {
                let at = self.bytes.len();
                self.bytes.extend([0; 4]);
                self.align(alignment(element.as_bytes().first().copied().unwrap_or(b'y')));
                let start = self.bytes.len();
                for v in values {
                    self.put(v)?;
                }
                let size = length(self.bytes.len() - start)?.to_le_bytes();
                if let Some(slot) = self.bytes.get_mut(at..at + 4) {
                    slot.copy_from_slice(&size);
                }
            }
            Value::Struct(members) => members.iter().try_for_each(|v| self.put(v))?,
            Value::Entry(pair) => {
                self.put(&pair.0)?;
                self.put(&pair.1)?;
            }
            Value::Variant(inner) => {
                self.put(&Value::Signature(inner.signature()))?;
                self.put(inner)?;
            }
        }
        Ok(())
    }

    fn put_text(&mut self, text: &str) -> Result<()> {
        if text.contains('\0') {
            return Err(Error::new(format!("say {text:?} to systemd"), "has a NUL byte"));
        }
        self.bytes.extend(text.bytes());
        self.bytes.push(0);
        Ok(())
    }
}

fn length(bytes: usize) -> Result<u32> {
    u32::try_from(bytes).map_err(|_| too_long())
}

fn too_long() -> Error {
    Error::new("write a D-Bus message", "too long")
}

/// Boundary on which a type begins, by the first letter of its signature.
fn alignment(kind: u8) -> usize {
    match kind {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 1,
    }
}

/// What is read.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
    values: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, with numbers in big-endian order or little-endian.
    pub fn new(bytes: &'a [u8], big: bool) -> Self {
        Self { bytes, at: 0, big, values: 0 }
    }

    /// How far it has read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Steps over padding to a multiple of `to`.
    pub fn align(&mut self, to: usize) -> Result<()> {
        let next = self.at.next_multiple_of(to);
        if next > self.bytes.len() {
            return Err(malformed("it ends early"));
        }
        self.at = next;
        Ok(())
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or_else(|| malformed("it ends early"))?;
        self.at += n;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.align(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        if self.big {
            bytes.reverse();
        }
        Ok(bytes)
    }

    /// One `u`.
    pub fn u32(&mut self) -> Result<u32> {
        self.number().map(u32::from_le_bytes)
    }

    fn string(&mut self, size: usize) -> Result<String> {
        let bytes = self.take(size)?;
        if self.take(1)? != [0] || bytes.contains(&0) {
            return Err(malformed("a string does not end with its one NUL"));
        }
        String::from_utf8(bytes.to_vec()).map_err(|_| malformed("a string is not UTF-8"))
    }

    fn size(&mut self) -> Result<usize> {
        usize::try_from(self.u32()?).map_err(|_| malformed("a length is out of range"))
    }

    /// One value of a type; `signature` may go on behind it, and the rest of it is given back.
    pub fn value<'s>(&mut self, signature: &'s str) -> Result<(Value, &'s str)> {
        let (first, rest) = single(signature)?;
        Ok((self.get(first, 0)?, rest))
    }

    fn get(&mut self, signature: &str, depth: usize) -> Result<Value> {
        if depth > DEEPEST {
            return Err(malformed("it nests too deep"));
        }
        self.values += 1;
        if self.values > MOST {
            return Err(malformed("it holds too many values"));
        }
        let kind = signature.as_bytes().first().copied().unwrap_or(0);
        self.align(alignment(kind))?;
        let inner = signature.get(1..).unwrap_or_default();
        Ok(match kind {
            b'b' => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(malformed("a boolean is neither 0 nor 1")),
            },
            b'y' => Value::Byte(self.number::<1>()?[0]),
            b'n' => Value::I16(i16::from_le_bytes(self.number()?)),
            b'q' => Value::U16(u16::from_le_bytes(self.number()?)),
            b'i' => Value::I32(i32::from_le_bytes(self.number()?)),
            // A descriptor's index: none are ever taken.
            b'u' | b'h' => Value::U32(self.u32()?),
            b'x' => Value::I64(i64::from_le_bytes(self.number()?)),
            b't' => Value::U64(u64::from_le_bytes(self.number()?)),
            b'd' => Value::F64(f64::from_le_bytes(self.number()?)),
            b's' | b'o' => {
                let size = self.size()?;
                let text = self.string(size)?;
                if kind == b's' { Value::Text(text) } else { Value::Path(text) }
            }
            b'g' => {
                let size = self.number::<1>()?[0];
                Value::Signature(self.string(size.into())?)
            }
            b'v' => {
                let Value::Signature(inner) = self.get("g", depth)? else { return Err(malformed("a variant has no type")) };
                match single(&inner)? {
                    (first, "") => Value::Variant(Box::new(self.get(first, depth + 1)?)),
                    _ => return Err(malformed("a variant has not one type")),
                }
            }
            b'a' => self.array(inner, depth)?,
            b'(' | b'{' => {
                let mut rest = inner.get(..inner.len().saturating_sub(1)).unwrap_or_default();
                let mut members = Vec::new();
                while !rest.is_empty() {
                    let (first, after) = single(rest)?;
                    members.push(self.get(first, depth + 1)?);
                    rest = after;
                }
                match (kind, <[Value; 2]>::try_from(members)) {
                    (b'{', Ok([key, value])) => Value::Entry(Box::new((key, value))),
                    (b'(', Ok(pair)) => Value::Struct(pair.into()),
                    (b'(', Err(members)) if !members.is_empty() => Value::Struct(members),
                    _ => return Err(malformed("a structure has not the members that it must have")),
                }
            }
            _ => return Err(malformed("a type is unknown")),
        })
    }

    fn array(&mut self, element: &str, depth: usize) -> Result<Value> {
        let size = self.size()?;
        self.align(alignment(element.as_bytes().first().copied().unwrap_or(0)))?;
        let end = self.at.checked_add(size).filter(|end| *end <= self.bytes.len()).ok_or_else(|| malformed("it ends early"))?;
        let mut values = Vec::new();
        while self.at < end {
            let before = self.at;
            values.push(self.get(element, depth + 1)?);
            if self.at == before {
                return Err(malformed("an element of an array takes no bytes"));
            }
        }
        if self.at != end {
            return Err(malformed("an array is not as long as it says"));
        }
        Ok(Value::Array(element.into(), values))
    }
}

/// The first complete type of a signature, and what follows it.
pub fn single(signature: &str) -> Result<(&str, &str)> {
    let unknown = || malformed("a signature is no signature");
    let mut open = Vec::new();
    for (n, kind) in signature.bytes().enumerate() {
        match kind {
            b'a' => {
                if n >= DEEPEST {
                    return Err(unknown());
                }
                continue;
            }
            b'(' => open.push(b')'),
            b'{' => open.push(b'}'),
            b')' | b'}' if open.last() == Some(&kind) => drop(open.pop()),
            b'b' | b'y' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v' | b'h' => {}
            _ => return Err(unknown()),
        }
        if open.len() > DEEPEST {
            return Err(unknown());
        }
        if open.is_empty() {
            return signature.split_at_checked(n + 1).ok_or_else(unknown);
        }
    }
    Err(unknown())
}

/// What systemd or the bus sent makes no sense.
pub fn malformed(what: &str) -> Error {
    Error::new("read a D-Bus message", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(value: &Value) {
        let mut writer = Writer::default();
        writer.put(value).unwrap();
        let bytes = writer.into_bytes();
        let signature = value.signature();
        let mut reader = Reader::new(&bytes, false);
        assert_eq!(reader.value(&signature).unwrap(), (value.clone(), ""));
        assert_eq!(reader.at(), bytes.len());
        for n in 0..bytes.len() {
            assert!(Reader::new(&bytes[..n], false).value(&signature).is_err(), "{value:?} cut at {n}");
        }
    }

    #[test]
    fn every_type_comes_back() {
        for value in [
            Value::Bool(true),
            Value::Byte(7),
            Value::I16(-3),
            Value::U16(65535),
            Value::I32(-70000),
            Value::U32(u32::MAX),
            Value::I64(i64::MIN),
            Value::U64(u64::MAX),
            Value::F64(1.5),
            Value::text("onggi-a.scope"),
            Value::Path("/org/freedesktop/systemd1".into()),
            Value::Signature("a(sv)".into()),
            Value::texts(&["a", "", "bc"]),
            Value::bytes(&[1, 2, 255]),
            Value::Array("(sv)".into(), vec![]),
            Value::Array("t".into(), vec![Value::U64(1)]),
            Value::Struct(vec![Value::Byte(1), Value::U64(2), Value::Variant(Box::new(Value::texts(&["x"])))]),
            Value::Array(
                "{sv}".into(),
                vec![Value::Entry(Box::new((Value::text("k"), Value::Variant(Box::new(Value::Byte(1))))))],
            ),
        ] {
            there_and_back(&Value::Struct(vec![Value::Byte(9), value]));
        }
    }

    #[test]
    fn numbers_of_the_other_order() {
        assert_eq!(Reader::new(&[0, 0, 0, 5], true).value("u").unwrap().0, Value::U32(5));
        assert_eq!(Reader::new(&[0, 0, 0, 1, b'x', 0], true).value("s").unwrap().0, Value::text("x"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (bytes, signature) in [
            (&[2u8, 0, 0, 0][..], "b"),
            (&[1, 0, 0, 0, b'x', 1], "s"),
            (&[1, 0, 0, 0, 0xff, 0], "s"),
            (&[255, 255, 255, 255], "s"),
            (&[255, 255, 255, 255], "ay"),
            (&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "au"),
            (&[0], "()"),
            (&[0; 16], "{y}"),
            (&[0; 16], "z"),
            (&[0; 16], "a"),
            (&[0; 16], "(y"),
            (&[0; 16], "(y}"),
            (&[2, b'y', b'y', 0, 1, 1], "v"),
            (&[0, 0], "v"),
        ] {
            assert!(Reader::new(bytes, false).value(signature).is_err(), "{signature} {bytes:?}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let mut deep = Vec::new();
        (0..5000).for_each(|_| deep.extend([1, b'v', 0]));
        assert!(Reader::new(&deep, false).value("v").unwrap_err().to_string().contains("too deep"));
        assert!(single(&"a".repeat(70000)).is_err());
        assert!(single(&"(".repeat(70000)).is_err());
    }

    #[test]
    fn many_values_have_an_end() {
        let mut many = (1u32 << 18).to_le_bytes().to_vec();
        many.resize(4 + (1 << 18), 0);
        assert!(Reader::new(&many, false).value("ay").unwrap_err().to_string().contains("too many"));
    }

    #[test]
    fn a_nul_is_never_said() {
        assert!(Writer::default().put(&Value::text("a\0b")).is_err());
    }
}
