//! The process of `exec --process`, into a container that has namespaces, a user namespace among them, and limits.
#![no_main]

mod machine;

use libfuzzer_sys::fuzz_target;
use onggi::config::{Process, Spec};
use onggi::plan::{self, ExecRequest};
use onggi::sys::clone::flags;
use std::sync::OnceLock;

const CONTAINER: &[u8] = include_bytes!("../../data/bundles/containerd-01-sh-c-echo-hi-exit-7.json");

fuzz_target!(|bytes: &[u8]| {
    static SPEC: OnceLock<Spec> = OnceLock::new();
    let spec = SPEC.get_or_init(|| Spec::parse(CONTAINER).expect("a bundle of an engine"));
    let process = match Process::parse(bytes) {
        Ok(process) => process,
        Err(e) => return assert!(!e.to_string().is_empty()),
    };
    let mut process = plan::exec::complete(process, spec);
    plan::exec::add_capabilities(&mut process, &["CAP_NET_RAW".into(), "CAP_NONE".into()]);
    let others = flags::NEWNS | flags::NEWPID | flags::NEWNET | flags::NEWIPC | flags::NEWUTS;
    for (host, differ, busy) in
        [(machine::root(), others, true), (machine::root(), others, false), (machine::user(), others | flags::NEWUSER, true)]
    {
        let request = ExecRequest { id: "ID", differ, keyring: true, preserve: 1, placed: busy, busy };
        machine::show(&plan::compile_exec(spec, &process, &request, &host));
    }
});
