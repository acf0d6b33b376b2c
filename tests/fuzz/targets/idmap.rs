//! Id maps: those of `config.json` as the kernel would judge them, and `idmap=` of crun's mount options against a container's.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use onggi::config::options::{self, IdRange, Idmap};
use onggi::config::{LinuxIdMapping, Spec, check};
use serde_json::{Value, json};

fn number(bytes: &mut Unstructured) -> Result<u32> {
    Ok(match bytes.int_in_range(0..=3u8)? {
        0 => bytes.int_in_range(0..=9)?,
        1 => 1 << bytes.int_in_range(0..=31u8)?,
        2 => u32::MAX - bytes.int_in_range(0..=9)?,
        _ => bytes.arbitrary()?,
    })
}

fn map(bytes: &mut Unstructured) -> Result<Value> {
    let count = bytes.int_in_range(0..=6u8)?;
    let line = |b: &mut Unstructured| Ok(json!({"containerID": number(b)?, "hostID": number(b)?, "size": number(b)?}));
    (0..count).map(|_| line(bytes)).collect::<Result<Vec<_>>>().map(Value::from)
}

/// user_namespaces(7), with numbers that cannot overflow.
fn kernel_takes(map: &[LinuxIdMapping]) -> bool {
    let spans = |of: fn(&LinuxIdMapping) -> u32| {
        let mut all: Vec<_> = map.iter().map(|m| (u64::from(of(m)), u64::from(of(m)) + u64::from(m.size()))).collect();
        all.sort_unstable();
        all.iter().all(|(_, end)| *end <= u64::from(u32::MAX)) && all.windows(2).all(|two| two[0].1 <= two[1].0)
    };
    map.len() <= 340 && map.iter().all(|m| m.size() > 0) && spans(LinuxIdMapping::container_id) && spans(LinuxIdMapping::host_id)
}

fn ranges(ranges: &[IdRange], container: &[LinuxIdMapping]) {
    for range in ranges {
        assert!(range.size > 0);
        let Ok(mapping) = range.mapping(container) else { continue };
        assert_eq!((mapping.container_id(), mapping.size()), (range.inside, range.size));
        if !range.relative {
            assert_eq!(mapping.host_id(), range.outside);
        }
    }
}

fn structured(bytes: &mut Unstructured) -> Result<()> {
    let (uids, gids) = (map(bytes)?, map(bytes)?);
    let json = json!({"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "linux": {
        "namespaces": [{"type": "user"}, {"type": "mount"}], "uidMappings": uids, "gidMappings": gids}});
    let spec = Spec::parse(json.to_string().as_bytes()).expect("numbers that fit");
    let (uids, gids) = (&spec.linux.uid_mappings, &spec.linux.gid_mappings);
    let good = !uids.is_empty() && !gids.is_empty() && kernel_takes(uids) && kernel_takes(gids);
    match check::check(&spec) {
        Ok(()) => assert!(good, "taken: {json}"),
        Err(e) => assert!(!good || !e.field().contains("Mappings"), "refused: {json}: {e}"),
    }
    let text = String::from_utf8_lossy(bytes.take_rest_slice()).into_owned();
    for word in [format!("idmap={text}"), format!("ridmap={text}")] {
        let Ok(mount) = options::parse(&[word]) else { continue };
        if let Idmap::Mapped { uids: inside, gids: beside, .. } = &mount.idmap {
            assert!(!inside.is_empty() && !beside.is_empty());
            ranges(inside, uids);
            ranges(beside, gids);
        }
    }
    Ok(())
}

/// What is left, all of it.
trait Rest<'a> {
    fn take_rest_slice(&mut self) -> &'a [u8];
}

impl<'a> Rest<'a> for Unstructured<'a> {
    fn take_rest_slice(&mut self) -> &'a [u8] {
        self.bytes(self.len()).unwrap_or_default()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let _ = structured(&mut Unstructured::new(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = options::parse(&[format!("idmap={text}")]);
    }
});
