//! D-Bus messages (D-Bus Specification, "Message Format"). Pure: bytes in and out.

use super::wire::{Reader, Value, Writer, malformed};
use crate::error::{Error, Result};

/// The longest message that is taken: what systemd has to say to us takes some hundred bytes.
pub const LONGEST: usize = 1 << 20;

/// Bytes from which the length of a message is known.
pub const FIXED: usize = 16;

/// The one signal whose arguments are read.
pub const JOB_REMOVED: &str = "JobRemoved";

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A method call.
    Call,
    /// Its answer.
    Return,
    /// Its failure.
    Error,
    /// A signal.
    Signal,
    /// One of a later specification: to be passed over.
    Unknown,
}

/// A message as far as anybody here looks at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its number, of the sender's.
    pub serial: u32,
    /// The number of the call that it answers.
    pub reply_to: u32,
    /// The object's path.
    pub path: String,
    /// The interface.
    pub interface: String,
    /// The method or signal.
    pub member: String,
    /// The error's name.
    pub error: String,
    /// The name of the receiver on a bus; empty for none.
    pub destination: String,
    /// The arguments.
    pub body: Vec<Value>,
}

impl Message {
    /// A method call, not numbered yet.
    pub fn call(destination: &str, path: &str, interface: &str, member: &str, body: Vec<Value>) -> Self {
        Self {
            kind: Kind::Call,
            serial: 0,
            reply_to: 0,
            path: path.into(),
            interface: interface.into(),
            member: member.into(),
            error: String::new(),
            destination: destination.into(),
            body,
        }
    }

    /// The bytes.
    ///
    /// # Errors
    /// It cannot be said: a NUL in a string, or too long.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut body = Writer::default();
        for value in &self.body {
            body.put(value)?;
        }
        let body = body.into_bytes();
        let signature: String = self.body.iter().map(Value::signature).collect();
        let text = |t: &String, value: Value| (!t.is_empty()).then_some(value);
        let fields = [
            (1, text(&self.path, Value::Path(self.path.clone()))),
            (2, text(&self.interface, Value::text(&*self.interface))),
            (3, text(&self.member, Value::text(&*self.member))),
            (4, text(&self.error, Value::text(&*self.error))),
            (5, (self.reply_to != 0).then_some(Value::U32(self.reply_to))),
            (6, text(&self.destination, Value::text(&*self.destination))),
            (8, text(&signature, Value::Signature(signature.clone()))),
        ];
        let fields = fields
            .into_iter()
            .filter_map(|(code, value)| Some(Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value?))])))
            .collect();
        let kind = match self.kind {
            Kind::Call => 1,
            Kind::Return => 2,
            Kind::Error => 3,
            Kind::Signal => 4,
            Kind::Unknown => 0,
        };
        let mut all = Writer::default();
        // Little-endian, this kind, no flags, version 1.
        for byte in [b'l', kind, 0, 1] {
            all.put(&Value::Byte(byte))?;
        }
        let size = u32::try_from(body.len()).map_err(|_| Error::new("write a D-Bus message", "too long"))?;
        all.put(&Value::U32(size))?;
        all.put(&Value::U32(self.serial))?;
        all.put(&Value::Array("(yv)".into(), fields))?;
        all.align(8);
        let mut bytes = all.into_bytes();
        bytes.extend(body);
        Ok(bytes)
    }

    /// The length of the whole message, from its first [`FIXED`] bytes.
    ///
    /// # Errors
    /// Not a message, or longer than [`LONGEST`].
    pub fn length(fixed: &[u8; FIXED]) -> Result<usize> {
        let mut reader = Reader::new(fixed, order(fixed[0])?);
        let mut number = |at: usize| -> Result<usize> {
            reader.align(4)?;
            while reader.at() < at {
                reader.u32()?;
            }
            usize::try_from(reader.u32()?).map_err(|_| malformed("a length is out of range"))
        };
        let (body, fields) = (number(4)?, number(12)?);
        let header = fields.checked_next_multiple_of(8).and_then(|n| n.checked_add(FIXED));
        let whole = header.and_then(|n| n.checked_add(body)).filter(|n| *n <= LONGEST);
        whole.ok_or_else(|| malformed("it is too long"))
    }

    /// Reads one whole message.
    ///
    /// # Errors
    /// Anything that is not exactly one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let fixed: [u8; FIXED] = bytes.get(..FIXED).and_then(|b| b.try_into().ok()).ok_or_else(|| malformed("it ends early"))?;
        if Self::length(&fixed)? != bytes.len() {
            return Err(malformed("it is not as long as it says"));
        }
        if fixed[3] != 1 {
            return Err(malformed("it is of another version of the protocol"));
        }
        let big = order(fixed[0])?;
        let kind = match fixed[1] {
            0 => return Err(malformed("it is of no type")),
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => Kind::Unknown,
        };
        let mut message = Self { kind, ..Self::call("", "", "", "", Vec::new()) };
        let mut reader = Reader::new(bytes, big);
        reader.u32()?;
        reader.u32()?;
        message.serial = reader.u32()?;
        let (Value::Array(_, fields), _) = reader.value("a(yv)")? else { return Err(malformed("it has no fields")) };
        let mut signature = String::new();
        for field in fields {
            let Value::Struct(members) = field else { continue };
            let [Value::Byte(code), Value::Variant(value)] = members.as_slice() else { continue };
            match (code, value.as_ref()) {
                (1, Value::Path(text)) => message.path.clone_from(text),
                (2, Value::Text(text)) => message.interface.clone_from(text),
                (3, Value::Text(text)) => message.member.clone_from(text),
                (4, Value::Text(text)) => message.error.clone_from(text),
                (5, Value::U32(serial)) => message.reply_to = *serial,
                (6, Value::Text(text)) => message.destination.clone_from(text),
                (8, Value::Signature(text)) => signature.clone_from(text),
                (1..=6 | 8, _) => return Err(malformed("a field is of a wrong type")),
                _ => {}
            }
        }
        if kind == Kind::Signal && message.member != JOB_REMOVED {
            // systemd tells its private clients of every change of every unit.
            return Ok(message);
        }
        reader.align(8)?;
        let mut reader = Reader::new(bytes.get(reader.at()..).unwrap_or_default(), big);
        let mut rest = signature.as_str();
        while !rest.is_empty() {
            let (value, after) = reader.value(rest)?;
            message.body.push(value);
            rest = after;
        }
        if FIXED + reader.at() > bytes.len() {
            return Err(malformed("its body is longer than it says"));
        }
        Ok(message)
    }

    /// The arguments as texts, in order: strings and paths.
    pub fn texts(&self) -> Vec<&str> {
        let text = |v| match v {
            &Value::Text(ref text) | &Value::Path(ref text) => Some(text.as_str()),
            _ => None,
        };
        self.body.iter().filter_map(text).collect()
    }
}

fn order(first: u8) -> Result<bool> {
    match first {
        b'l' => Ok(false),
        b'B' => Ok(true),
        _ => Err(malformed("it is no message")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Message {
        let body = vec![Value::text("onggi-a.scope"), Value::U32(7), Value::Array("(sv)".into(), vec![])];
        let mut message =
            Message::call("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "a.b", "StartTransientUnit", body);
        message.serial = 3;
        message
    }

    #[test]
    fn a_message_comes_back() {
        let bytes = example().to_bytes().unwrap();
        assert_eq!(Message::length(bytes[..FIXED].try_into().unwrap()).unwrap(), bytes.len());
        assert_eq!(Message::from_bytes(&bytes).unwrap(), example());
        assert_eq!(example().texts(), ["onggi-a.scope"]);
    }

    /// As `busctl` and systemd write it: the example of the specification's marshalling, checked by hand.
    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let mut hello = Message::call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", vec![]);
        hello.serial = 1;
        let bytes = hello.to_bytes().unwrap();
        assert_eq!(&bytes[..12], b"l\x01\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00");
        assert_eq!(&bytes[16..24], b"\x01\x01o\x00\x15\x00\x00\x00");
        assert_eq!(&bytes[24..46], b"/org/freedesktop/DBus\x00");
        assert_eq!(bytes.len() % 8, 0);
    }

    #[test]
    fn no_bytes_bring_it_down() {
        let good = example().to_bytes().unwrap();
        for n in 0..good.len() {
            assert!(Message::from_bytes(&good[..n]).is_err());
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[n] ^= 1 << bit;
                // Whatever it says: an answer, and within bounds.
                let _either = Message::from_bytes(&bad);
            }
        }
        // A cheap generator: the same bytes each time.
        let mut state = 1u64;
        for round in 0..2000usize {
            let mut bytes: Vec<u8> = (0..round % 200)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    state.to_be_bytes()[0]
                })
                .collect();
            if let Some(start) = bytes.get_mut(..4) {
                start.copy_from_slice(b"l\x02\x00\x01");
            }
            let _either = Message::from_bytes(&bytes);
        }
    }

    #[test]
    fn lengths_have_an_end() {
        let mut fixed = *b"l\x02\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00";
        assert_eq!(Message::length(&fixed).unwrap(), FIXED);
        for at in [4, 12] {
            let mut long = fixed;
            long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            assert!(Message::length(&long).is_err());
        }
        fixed[0] = b'x';
        assert!(Message::length(&fixed).is_err());
    }
}
