//! `plan`: what `create` would do with this bundle on this host, a line a step. Changes nothing and needs no rights.

use super::unit;
use crate::cli::Global;
use crate::config::Bundle;
use crate::error::Result;
use crate::host::Host;
use crate::plan::{self, Request};
use std::path::Path;

/// `plan`.
pub fn plan(global: &Global, bundle: Option<&Path>, json: bool) -> Result<u8> {
    let bundle = Bundle::load(bundle.unwrap_or(Path::new(".")), None)?;
    let request = Request {
        id: "ID",
        bundle: &bundle.dir,
        wait: true,
        no_pivot: false,
        no_new_keyring: false,
        preserve: 0,
        driver: unit::driver(global.cgroup_manager),
        environment: Vec::new(),
        notify: None,
    };
    let mut plan = plan::compile(&bundle.spec, &request, &Host::probe(&bundle.spec)?)?;
    if let Some(filter) = plan::seccomp::filter(&bundle.spec, &bundle.raw, || None)? {
        plan.set_filter(filter);
    }
    for warning in &plan.warnings {
        crate::log::warn(warning);
    }
    let lines = plan.lines();
    let text = if json {
        serde_json::to_string_pretty(&lines).unwrap_or_default() + "\n"
    } else {
        lines.iter().map(|line| format!("{line}\n")).collect()
    };
    super::print(&text)
}
