//! Messages of protocol buffers, as far as CRI needs them: numbers, texts, and messages in messages.

/// A message being put together: fields by their numbers, in any order.
#[derive(Clone, Default)]
pub struct Message(pub Vec<u8>);

/// What a field holds.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed size, which nothing here reads.
    Fixed,
}

impl Message {
    pub fn new() -> Message {
        Message::default()
    }

    pub fn number(mut self, field: u32, number: i64) -> Message {
        self.varint(u64::from(field) << 3);
        self.varint(number.cast_unsigned());
        self
    }

    pub fn bytes(mut self, field: u32, bytes: &[u8]) -> Message {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn text(self, field: u32, text: &str) -> Message {
        self.bytes(field, text.as_bytes())
    }

    pub fn texts(self, field: u32, texts: &[&str]) -> Message {
        texts.iter().fold(self, |message, text| message.text(field, text))
    }

    pub fn message(self, field: u32, message: Message) -> Message {
        self.bytes(field, &message.0)
    }

    /// An entry of a map.
    pub fn entry(self, field: u32, key: &str, value: &str) -> Message {
        self.message(field, Message::new().text(1, key).text(2, value))
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
            number >>= 7;
        }
        self.0.push(u8::try_from(number).expect("seven bits"));
    }

    /// The last number of that field; 0 if there is none, as the format has it.
    pub fn get_number(&self, field: u32) -> u64 {
        let number = |value| if let Value::Number(number) = value { number } else { 0 };
        self.fields().into_iter().rfind(|(found, _)| *found == field).map_or(0, |(_, value)| number(value))
    }

    pub fn get_message(&self, field: u32) -> Message {
        let bytes = |value| if let Value::Bytes(bytes) = value { bytes.to_vec() } else { Vec::new() };
        Message(self.fields().into_iter().rfind(|(found, _)| *found == field).map_or(Vec::new(), |(_, value)| bytes(value)))
    }

    pub fn get_text(&self, field: u32) -> String {
        String::from_utf8_lossy(&self.get_message(field).0).into_owned()
    }

    fn fields(&self) -> Vec<(u32, Value<'_>)> {
        let mut rest = self.0.as_slice();
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let key = take_varint(&mut rest);
            let value = match key & 7 {
                0 => Value::Number(take_varint(&mut rest)),
                2 => {
                    let length = usize::try_from(take_varint(&mut rest)).expect("a length");
                    let (bytes, after) = rest.split_at(length);
                    rest = after;
                    Value::Bytes(bytes)
                }
                kind => {
                    rest = &rest[if kind == 1 { 8 } else { 4 }..];
                    Value::Fixed
                }
            };
            fields.push((u32::try_from(key >> 3).expect("a field"), value));
        }
        fields
    }
}

fn take_varint(rest: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, after) = rest.split_first().expect("a whole message");
        *rest = after;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    number
}
