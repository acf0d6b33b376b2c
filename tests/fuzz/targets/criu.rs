//! What CRIU answers, and the log that it leaves. The messages that it is sent come back from their own bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onggi::criu::log::{errors, missing_program};
use onggi::criu::message::Answer;
use onggi::criu::wire::{Value, Writer, read};

fuzz_target!(|bytes: &[u8]| {
    let mut fields = Vec::new();
    let whole = read(bytes, |field, value| fields.push((field, value)));
    if let Some(answer) = Answer::parse(bytes) {
        assert!(whole.is_some());
        assert!(answer.script.len() <= 3 * bytes.len() && answer.message.len() <= 3 * bytes.len());
    }
    if whole.is_some() {
        let mut writer = Writer::default();
        let mut kept = Vec::new();
        for (field, value) in &fields {
            let Ok(number) = u32::try_from(*field) else { continue };
            if number >= 1 << 29 {
                continue;
            }
            match value {
                Value::Number(n) => writer.number(number, *n),
                Value::Bytes(bytes) => writer.bytes(number, bytes),
            }
            kept.push((*field, *value));
        }
        let bytes = writer.into_bytes();
        let mut back = Vec::new();
        assert!(read(&bytes, |field, value| back.push((field, value))).is_some());
        assert_eq!(back, kept);
    }
    let text = String::from_utf8_lossy(bytes);
    let quoted = errors(&text);
    assert!(!quoted.contains('\n') && quoted.chars().count() <= 4 * 300 + 6);
    missing_program(&text);
});
