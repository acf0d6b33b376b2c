//! What systemd or a bus says: one message, and addresses from the environment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onggi::cgroup::systemd::address;
use onggi::cgroup::systemd::message::{FIXED, Kind, LONGEST, Message};
use onggi::cgroup::systemd::wire::{Reader, Value, Writer, single};

/// Most values that one message may hold, arrays and structures too: `MOST` of `wire.rs`.
const MOST: usize = 1 << 14;

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(_, values) | Value::Struct(values) => values.iter().map(count).sum(),
        Value::Entry(pair) => count(&pair.0) + count(&pair.1),
        Value::Variant(inner) => count(inner),
        _ => 0,
    }
}

/// What was read is written and read again, the same but for what is no number.
fn again(value: &Value) {
    let mut writer = Writer::default();
    writer.put(value).expect("what was read can be written");
    let bytes = writer.into_bytes();
    let signature = value.signature();
    assert_eq!(single(&signature).expect("its signature").1, "");
    let (back, _) = Reader::new(&bytes, false).value(&signature).expect("what was written can be read");
    assert_eq!(back.to_string(), value.to_string());
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(fixed) = bytes.first_chunk::<FIXED>()
        && let Ok(length) = Message::length(fixed)
    {
        assert!((FIXED..=LONGEST).contains(&length));
    }
    if let Ok(message) = Message::from_bytes(bytes) {
        assert!(message.body.iter().map(count).sum::<usize>() <= MOST);
        message.body.iter().for_each(again);
        if message.kind != Kind::Unknown {
            let bytes = message.to_bytes().expect("what was read can be written");
            let back = Message::from_bytes(&bytes).expect("what was written can be read");
            assert_eq!(back.body.len(), message.body.len());
            assert_eq!((back.serial, back.reply_to, &back.member), (message.serial, message.reply_to, &message.member));
            assert_eq!(back.texts(), message.texts());
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(places) = address::places(text)
    {
        assert!(!places.is_empty());
        address::is_direct(text);
    }
});
