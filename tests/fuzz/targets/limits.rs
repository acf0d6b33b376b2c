//! Limits: numbers of cgroup v1 and of the configuration become files of cgroup v2 and properties of systemd. What is written
//! is a name without a path and a value that the kernel reads as one.
#![no_main]

mod machine;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use onggi::cgroup::limits::{Rule, controllers, writes};
use onggi::cgroup::systemd::properties;
use onggi::config::{Resources, check};
use serde_json::{Map, Value, json};

fn unsigned(bytes: &mut Unstructured) -> Result<Value> {
    Ok(match bytes.int_in_range(0..=5u8)? {
        0 => Value::Null,
        1 => bytes.int_in_range(0..=20_000u64)?.into(),
        2 => (1u64 << bytes.int_in_range(0..=63u8)?).into(),
        3 => (u64::MAX - u64::from(bytes.arbitrary::<u8>()?)).into(),
        4 => bytes.arbitrary::<u32>()?.into(),
        _ => bytes.arbitrary::<u64>()?.into(),
    })
}

fn signed(bytes: &mut Unstructured) -> Result<Value> {
    Ok(match bytes.int_in_range(0..=4u8)? {
        0 => Value::Null,
        1 => bytes.int_in_range(-2..=20_000i64)?.into(),
        2 => (1i64 << bytes.int_in_range(0..=62u8)?).into(),
        3 => i64::MIN.saturating_add(bytes.int_in_range(0..=3)?).into(),
        _ => bytes.arbitrary::<i64>()?.into(),
    })
}

fn small(bytes: &mut Unstructured) -> Result<Value> {
    Ok(if bytes.ratio(1, 4)? { Value::Null } else { bytes.arbitrary::<u16>()?.into() })
}

fn members(names: &[&str], bytes: &mut Unstructured, of: fn(&mut Unstructured) -> Result<Value>) -> Result<Map<String, Value>> {
    names.iter().map(|name| Ok(((*name).to_owned(), of(bytes)?))).collect()
}

fn text(bytes: &mut Unstructured) -> Result<String> {
    let length = bytes.int_in_range(0..=12usize)?;
    let length = length.min(bytes.len());
    Ok(String::from_utf8_lossy(bytes.bytes(length)?).into_owned())
}

fn throttle(bytes: &mut Unstructured) -> Result<Value> {
    let one = |b: &mut Unstructured| {
        Ok(json!({"major": b.arbitrary::<i64>()?, "minor": b.arbitrary::<u8>()?, "rate": b.arbitrary::<u64>()?}))
    };
    (0..bytes.int_in_range(0..=2u8)?).map(|_| one(bytes)).collect()
}

fn resources(bytes: &mut Unstructured) -> Result<Value> {
    let mut memory = members(&["limit", "reservation", "swap", "kernel", "kernelTCP"], bytes, signed)?;
    memory.extend(members(&["swappiness"], bytes, unsigned)?);
    memory.insert("checkBeforeUpdate".into(), bytes.arbitrary::<bool>()?.into());
    let mut cpu = members(&["shares", "burst", "period", "realtimePeriod"], bytes, unsigned)?;
    cpu.extend(members(&["quota", "realtimeRuntime", "idle"], bytes, signed)?);
    cpu.insert("cpus".into(), text(bytes)?.into());
    cpu.insert("mems".into(), text(bytes)?.into());
    let mut io = members(&["weight", "leafWeight"], bytes, small)?;
    for kind in ["throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice"] {
        io.insert(kind.into(), throttle(bytes)?);
    }
    io.insert("weightDevice".into(), json!([{"major": 8, "minor": 0, "weight": bytes.arbitrary::<u16>()?}]));
    let page = json!([{"pageSize": text(bytes)?, "limit": bytes.arbitrary::<u64>()?}]);
    let rdma = json!({(text(bytes)?): {"hcaHandles": bytes.arbitrary::<u32>()?, "hcaObjects": bytes.arbitrary::<u32>()?}});
    let unified = json!({(text(bytes)?): text(bytes)?, "memory.high": text(bytes)?});
    Ok(json!({"memory": memory, "cpu": cpu, "blockIO": io, "pids": {"limit": signed(bytes)?},
        "hugepageLimits": if bytes.arbitrary()? { page } else { json!([]) },
        "rdma": if bytes.arbitrary()? { rdma } else { json!({}) },
        "unified": if bytes.arbitrary()? { unified } else { json!({}) }}))
}

fn in_range(value: &str, first: u64, last: u64) -> bool {
    value.parse::<u64>().is_ok_and(|n| (first..=last).contains(&n))
}

fn written(resources: &Resources) {
    let Ok(list) = writes(resources, &machine::hierarchy()) else { return };
    let unified = |file: &str| resources.unified.contains_key(file);
    for w in &list {
        assert!(!w.file.contains('/') && w.file != "." && w.file != ".." && !w.file.contains(['\0', '\n']), "{w:?}");
        assert!(!w.field.is_empty() && w.field.starts_with('/'), "{w:?}");
        if let Rule::Else { file, .. } = &w.rule {
            assert!(!file.contains('/'), "{w:?}");
        }
        if unified(&w.file) {
            continue;
        }
        let value = w.value.as_str();
        assert!(!value.is_empty(), "{w:?}");
        match w.file.as_str() {
            "cpu.weight" => assert!(in_range(value, 1, 10_000), "{w:?}"),
            "io.weight" | "io.bfq.weight" if !value.contains([' ', ':']) => assert!(in_range(value, 1, 10_000), "{w:?}"),
            "pids.max" => assert!(value == "max" || in_range(value, 1, u64::MAX), "{w:?}"),
            "memory.max" | "memory.low" | "memory.swap.max" => {
                assert!(value == "max" || in_range(value, 0, u64::MAX), "{w:?}");
            }
            _ => {}
        }
    }
    assert!(controllers(&list).iter().all(|controller| controller != "cgroup"));
    for bfq in [None, Some(true), Some(false)] {
        for (name, value) in properties::limits(&list, bfq) {
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric()));
            let mut writer = onggi::cgroup::systemd::wire::Writer::default();
            // A NUL in a text of `unified` is refused by the wire; everything else can be said.
            assert!(writer.put(&value).is_ok() || format!("{value:?}").contains("\\0"), "{value:?}");
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(resources) = Resources::parse(bytes) {
        let _ = check::resources(&resources);
        written(&resources);
    }
    let Ok(json) = resources(&mut Unstructured::new(bytes)) else { return };
    let Ok(resources) = Resources::parse(json.to_string().as_bytes()) else { return };
    let _ = check::resources(&resources);
    written(&resources);
});
