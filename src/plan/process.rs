//! `process` -> steps: limits, ids, capabilities, environment, program.

use super::{Action, Step, c_string};
use crate::config::{Process, values};
use crate::error::{Error, Result};
use crate::sys::creds::Caps;
use std::ffi::CString;

/// The five sets of `process.capabilities` as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sets {
    /// What capset(2) takes.
    pub caps: Caps,
    /// `bounding`.
    pub bounding: u64,
    /// `ambient`.
    pub ambient: u64,
}

/// Turns `process.capabilities` into bits. Unknown names are left out (`config::check` warns of them). So are ambient ones that are not also permitted and inheritable, which the kernel would refuse.
pub fn capabilities(process: &Process, warnings: &mut Vec<String>) -> Option<Sets> {
    let asked = process.capabilities.as_ref()?;
    let set = |list: &[String]| values::capabilities(list).bits;
    let bounding = set(&asked.bounding);
    let caps = Caps { effective: set(&asked.effective), permitted: set(&asked.permitted), inheritable: set(&asked.inheritable) };
    let wanted = set(&asked.ambient);
    let ambient = wanted & caps.permitted & caps.inheritable;
    if ambient != wanted {
        warnings.push("/process/capabilities/ambient: those that are not also permitted and inheritable are ignored".into());
    }
    Some(Sets { caps, bounding, ambient })
}

/// Limits and scheduling, set while there is the right to.
pub fn settings(process: &Process, steps: &mut Vec<Step>) -> Result<()> {
    for (n, limit) in process.rlimits.iter().enumerate() {
        let field = format!("/process/rlimits/{n}");
        let resource = values::rlimit(&limit.kind).map_err(|e| e.at(format!("{field}/type")))?;
        steps.push(Step { field, action: Action::Rlimit { resource, soft: limit.soft, hard: limit.hard } });
    }
    if let Some(asked) = &process.scheduler {
        let attr = values::sched_attr(asked).map_err(|e| e.under("/process/scheduler"))?;
        steps.push(Step { field: "/process/scheduler".into(), action: Action::Scheduler(attr) });
    }
    if let Some(asked) = &process.io_priority {
        let value = values::ioprio(asked).map_err(|e| e.under("/process/ioPriority"))?;
        let value = u32::try_from(value).map_err(|_| Error::new("ioPriority", "out of range"))?;
        steps.push(Step { field: "/process/ioPriority".into(), action: Action::IoPriority(value) });
    }
    Ok(())
}

/// What becomes of the supplementary groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// Exactly `additionalGids`, also when that is empty.
    Set,
    /// The caller's stay (annotation `run.oci.keep_original_groups`).
    Keep,
    /// setgroups(2) is denied in a user namespace that an unprivileged user maps by hand (user_namespaces(7)).
    Denied,
}

/// From the privileges of the runtime, `held` as bits, to those of the program.
pub fn identity(process: &Process, sets: Option<Sets>, held: u64, groups: Groups, steps: &mut Vec<Step>) -> Result<()> {
    let mut add = |field: &str, action| steps.push(Step { field: field.into(), action });
    let user = &process.user;
    if let Some(sets) = sets {
        let missing = sets.caps.permitted & !held;
        if missing != 0 {
            return Err(Error::new("set capabilities", format!("the runtime itself lacks {}", names(missing)))
                .at("/process/capabilities/permitted")
                .hint("the caller's own bounding set is smaller; leave them out of the configuration"));
        }
        add("/process/capabilities/bounding", Action::Bounding(sets.bounding));
    }
    match groups {
        Groups::Set => add("/process/user/additionalGids", Action::Groups(user.additional_gids.clone())),
        Groups::Keep => {}
        Groups::Denied if user.additional_gids.is_empty() => {}
        Groups::Denied => {
            let error = Error::exact("cannot set any additional groups in a rootless container");
            return Err(error.at("/process/user/additionalGids"));
        }
    }
    let cwd = c_string(if process.cwd.is_empty() { "/" } else { &process.cwd }, "/process/cwd")?;
    add("/process/cwd", Action::WorkingDirectory { path: cwd.clone(), last: false });
    add("/process/user", Action::User { uid: user.uid, gid: user.gid, keep: sets.is_some() });
    add("/process/cwd", Action::WorkingDirectory { path: cwd, last: true });
    if let Some(sets) = sets {
        let Sets { caps, ambient, bounding } = sets;
        add("/process/capabilities", Action::Capabilities { caps, ambient, bounding });
    }
    Ok(())
}

/// Names of the capabilities in a set.
pub fn names(set: u64) -> String {
    let mut list: Vec<String> = caps::all().into_iter().filter(|c| set & c.bitmask() != 0).map(|c| c.to_string()).collect();
    list.sort();
    list.join(", ")
}

/// The environment, without doubled names, in which what is `extra` counts; the second value is the entry that waits for the home directory.
pub fn environment(process: &Process, extra: &[String]) -> Result<(Vec<CString>, Option<usize>)> {
    let kept = values::environment(&process.env).map_err(|e| e.under("/process/env"))?;
    let mut env = Vec::with_capacity(kept.len() + extra.len() + 1);
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    for entry in kept.into_iter().filter(|entry| !extra.iter().any(|e| name(e) == name(entry))) {
        env.push(c_string(entry, "/process/env")?);
    }
    let has_home = env.iter().any(|e| e.to_bytes().starts_with(b"HOME=") && e.to_bytes().len() > 5);
    let home = if has_home {
        None
    } else {
        env.retain(|e| !e.to_bytes().starts_with(b"HOME="));
        env.push(c"HOME=/".into());
        Some(env.len() - 1)
    };
    for entry in extra {
        env.push(c_string(entry, "/process/env")?);
    }
    Ok((env, home))
}

/// The program's name and, for a name without a slash, where PATH says to look.
pub fn program(process: &Process) -> Result<Option<Action>> {
    let Some(name) = process.args.first() else { return Ok(None) };
    let path = process.env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
    let mut candidates = Vec::new();
    if !name.contains('/') && !name.is_empty() {
        // Relative entries would depend on the working directory: Go's LookPath, and so runc, refuses what they find.
        for dir in path.split(':').filter(|d| d.starts_with('/')) {
            candidates.push(c_string(&format!("{}/{name}", dir.trim_end_matches('/')), "/process/env")?);
        }
    }
    Ok(Some(Action::Program { name: c_string(name, "/process/args/0")?, candidates }))
}
