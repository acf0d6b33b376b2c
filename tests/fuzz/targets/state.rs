//! What the state directory holds: `state.json`, `seccomp.bpf`, `unit`. The first byte says which.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onggi::cgroup::systemd::Registered;
use onggi::seccomp::{MAX_INSTRUCTIONS, stored};
use onggi::store::Record;

/// FNV-1a, as at the end of `state.json`: no chance would find it.
fn summed(json: &[u8]) -> Vec<u8> {
    let sum = json.iter().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    [json, format!("\n{sum:016x}\n").as_bytes()].concat()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, rest)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => {
            if let Ok(record) = Record::from_bytes(&summed(rest)) {
                assert_eq!(Record::from_bytes(&record.to_bytes()).expect("its own text"), record);
            }
        }
        1 => assert!(Record::from_bytes(rest).is_err() || rest.ends_with(b"\n")),
        2 => {
            if let Some(filter) = stored::filter(rest) {
                assert!((1..=MAX_INSTRUCTIONS).contains(&filter.program.len()));
                assert_eq!(stored::bytes(&filter).as_deref(), Some(rest));
            }
        }
        _ => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            if let Ok(unit) = Registered::parse(text) {
                assert_eq!(unit.to_string(), text);
            }
        }
    }
});
