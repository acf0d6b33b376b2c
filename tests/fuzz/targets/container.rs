//! Bytes that a container chooses and the runtime reads: programs that do not run, `/etc/passwd`, what is said to NOTIFY_SOCKET,
//! the child's messages. The first byte says which.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onggi::notify::is_ready;
use onggi::sandbox::passwd::Line;
use onggi::sandbox::report::{Report, SIZE};
use onggi::sys::{elf, memfd};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;

fn program(bytes: &[u8]) {
    if let Some(machine) = elf::machine(bytes) {
        assert!(!elf::machine_name(machine).is_empty());
    }
    let Ok(fd) = memfd::create(c"fuzz") else { return };
    let mut file = std::fs::File::from(fd);
    if file.write_all(bytes).and_then(|()| file.seek(SeekFrom::Start(0))).is_err() {
        return;
    }
    let mut name = [0; 256];
    if let Some(length) = elf::loader(file.as_fd(), &mut name) {
        assert!(length <= name.len());
    }
}

/// passwd(5) read as a whole, as the child reads it byte by byte.
fn home(bytes: &[u8], uid: u32, room: usize) -> Option<Vec<u8>> {
    bytes.split(|&b| b == b'\n').find_map(|line| {
        let fields: Vec<_> = line.split(|&b| b == b':').collect();
        let id = std::str::from_utf8(fields.get(2)?).ok()?;
        let digits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
        let home = fields.get(5)?;
        let fits = !home.is_empty() && home.len() <= room;
        (digits && id.parse() == Ok(uid) && fits).then(|| home.to_vec())
    })
}

fn passwd(bytes: &[u8], uid: u32) {
    let mut space = [0; 40];
    let mut line = Line::of(uid);
    let mut found = None;
    for byte in bytes.iter().chain([&b'\n']) {
        if line.push(*byte, &mut space) {
            found = Some(space[..line.len()].to_vec());
            break;
        }
    }
    assert_eq!(found, home(bytes, uid, space.len()));
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, rest)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => program(rest),
        1 => [0, 1000, u32::MAX].into_iter().for_each(|uid| passwd(rest, uid)),
        2 => assert_eq!(is_ready(rest), String::from_utf8_lossy(rest).split('\n').any(|line| line == "READY=1")),
        _ => {
            let mut message = rest.to_vec();
            message.resize(SIZE, 0);
            if let Some(report) = Report::from_bytes(&message) {
                assert!(report.text().len() <= SIZE && report.call_name().len() <= SIZE);
            }
            assert!(rest.len() == SIZE || Report::from_bytes(rest).is_none());
        }
    }
});
