//! The options of a mount, a line each, and the paths of mounts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onggi::config::check::may_lie_in_proc;
use onggi::config::clean;
use onggi::config::options::{KNOWN, parse};
use onggi::plan::mounts::root_propagation;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let options: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Ok(mount) = parse(&options) {
        // No bit is both asked for and refused, but for the access times (MOUNT_ATTR__ATIME), which are one field.
        let atime = 0x70;
        assert_eq!(mount.attr_set & mount.attr_clr & !atime, 0, "{options:?}");
        assert_eq!(mount.rec_set & mount.rec_clr & !atime, 0, "{options:?}");
        for part in &mount.data {
            assert!(!part.is_empty() && !part.contains('\0') && !part.starts_with('='), "{options:?}");
        }
        // What is known never reaches the file system.
        for option in options.iter().filter(|o| KNOWN.contains(&o.as_str())) {
            let alone = parse(std::slice::from_ref(option)).expect("it is known");
            assert!(alone.data.is_empty());
        }
    }
    for line in &options {
        root_propagation(line);
        let path = clean(line);
        assert_eq!(clean(&path), path);
        assert!(!path.split('/').any(|part| part == ".."), "{line:?} {path:?}");
        may_lie_in_proc(line);
    }
});
