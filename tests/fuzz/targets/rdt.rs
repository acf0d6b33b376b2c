//! Intel RDT: `schemata`, the kernel's file and the configuration's lines, with a NUL between the two.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onggi::config::{Spec, check::check};
use onggi::rdt::{Setup, schema, schemata};
use serde_json::json;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (there, asked) = text.split_once('\0').unwrap_or((&text, &text));
    schemata::holds(there, asked);
    for line in there.lines() {
        let Some((resource, _)) = line.split_once(':') else { continue };
        let found = schemata::line(there, resource.trim()).expect("it is there");
        // What is there first is held by what is there.
        assert!(schemata::holds(there, found) || repeated(found), "{there:?} {found:?}");
    }
    for line in schema("schemata", asked) {
        assert!(!line.text.contains('\n') && line.field.starts_with('/'), "{line:?}");
    }
    let asked =
        json!({"closID": there, "l3CacheSchema": asked, "memBwSchema": asked, "schemata": [asked], "enableMonitoring": true});
    let spec = json!({"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "linux": {"intelRdt": asked, "namespaces": [{"type": "mount"}]}});
    let Ok(spec) = Spec::parse(spec.to_string().as_bytes()) else { return };
    if check(&spec).is_err() {
        return;
    }
    let asked = spec.linux.intel_rdt.as_ref().expect("it was put there");
    let setup = Setup::plan(asked, "ID", Some(Path::new("/sys/fs/resctrl"))).expect("it is mounted");
    assert!(setup.lines.iter().all(|line| !line.text.contains('\n')));
    assert!(Setup::plan(asked, "ID", None).is_err());
});

/// Whether a domain comes twice, with two values: the first one counts.
fn repeated(line: &str) -> bool {
    let domains = line.split_once(':').map_or("", |(_, domains)| domains);
    let ids: Vec<_> = domains.split(';').filter_map(|pair| pair.split_once('=')).map(|(id, _)| id.trim()).collect();
    ids.iter().enumerate().any(|(n, id)| ids[..n].contains(id))
}
