//! `linux.resources.blockIO` -> `io.bfq.weight` or `io.weight`, and `io.max`.

use super::{List, Rule, refuse};
use crate::config::{BlockIo, LinuxThrottleDevice};
use crate::error::Result;

pub(super) fn add(list: &mut List, block: &BlockIo) -> Result<()> {
    if let Some(w) = block.weight.filter(|&w| w != 0) {
        weight(list, "", w, "blockIO/weight".into())?;
    }
    for (i, d) in block.weight_device.iter().enumerate() {
        let member = format!("blockIO/weightDevice/{i}");
        let device = device(d.major(), d.minor(), &member)?;
        if let Some(w) = d.weight().filter(|&w| w != 0) {
            weight(list, &format!("{device} "), w, format!("{member}/weight"))?;
        }
    }
    for (member, key, devices) in [
        ("throttleReadBpsDevice", "rbps", &block.throttle_read_bps_device),
        ("throttleWriteBpsDevice", "wbps", &block.throttle_write_bps_device),
        ("throttleReadIOPSDevice", "riops", &block.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", "wiops", &block.throttle_write_iops_device),
    ] {
        for (i, d) in devices.iter().enumerate() {
            throttle(list, d, key, &format!("blockIO/{member}/{i}"))?;
        }
    }
    Ok(())
}

/// The BFQ scheduler takes the weight as it is; `io.weight` (iocost) has 1..=10000 for the same span.
fn weight(list: &mut List, device: &str, w: u16, member: String) -> Result<()> {
    if !(10..=1000).contains(&w) {
        return Err(refuse("read the weight", format!("{w} is not from 10 to 1000"), member));
    }
    let wide = 1 + (u32::from(w) - 10) * 9999 / 990;
    list.add("io", "io.bfq.weight", format!("{device}{w}"), member).rule =
        Rule::Else { file: "io.weight".into(), value: format!("{device}{wide}") };
    Ok(())
}

fn throttle(list: &mut List, d: &LinuxThrottleDevice, key: &str, member: &str) -> Result<()> {
    let device = device(d.major(), d.minor(), member)?;
    // 0 took a limit off in cgroup v1; io.max refuses it.
    let rate = if d.rate() == 0 { "max".to_owned() } else { d.rate().to_string() };
    list.add("io", "io.max", format!("{device} {key}={rate}"), member);
    Ok(())
}

fn device(major: i64, minor: i64, member: &str) -> Result<String> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(a), Ok(b)) => Ok(format!("{a}:{b}")),
        _ => Err(refuse("read the device's number", format!("{major}:{minor} is no device number"), member)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{everything, parse, plain, refused};
    use super::*;

    #[test]
    fn weights_have_a_second_file() {
        for (w, wide) in [(10, 1), (500, 4950), (100, 910), (1000, 10_000)] {
            let all = super::super::writes(&parse(&format!(r#"{{"blockIO":{{"weight":{w}}}}}"#)), &everything()).unwrap();
            assert_eq!((all[0].file.as_str(), all[0].value.clone()), ("io.bfq.weight", w.to_string()));
            assert_eq!(all[0].rule, Rule::Else { file: "io.weight".into(), value: wide.to_string() });
        }
        let json = r#"{"blockIO":{"weightDevice":[{"major":8,"minor":16,"weight":10,"leafWeight":20},{"major":8,"minor":0}]}}"#;
        let all = super::super::writes(&parse(json), &everything()).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].value, "8:16 10");
        assert_eq!(all[0].rule, Rule::Else { file: "io.weight".into(), value: "8:16 1".into() });
        assert_eq!(all[0].field, "/linux/resources/blockIO/weightDevice/0/weight");
    }

    #[test]
    fn throttles() {
        let json = r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1000}],
            "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":2000}],
            "throttleReadIOPSDevice":[{"major":8,"minor":1,"rate":3}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":1,"rate":4},{"major":9,"minor":1,"rate":0}]}}"#;
        let want =
            ["io.max=8:0 rbps=1000", "io.max=8:0 wbps=2000", "io.max=8:1 riops=3", "io.max=8:1 wiops=4", "io.max=9:1 wiops=max"];
        assert_eq!(plain(json), want);
    }

    #[test]
    fn bad_numbers_are_refused() {
        for (json, field) in [
            (r#"{"blockIO":{"weight":9}}"#, "/linux/resources/blockIO/weight"),
            (r#"{"blockIO":{"weight":1001}}"#, "/linux/resources/blockIO/weight"),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":-1,"minor":0,"rate":1}]}}"#,
                "/linux/resources/blockIO/throttleReadBpsDevice/0",
            ),
        ] {
            assert_eq!(refused(json).field(), field);
        }
    }
}
