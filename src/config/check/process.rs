//! `process`, of `config.json` and of `exec --process`.

use super::{absolute, broken, no_nul};
use crate::config::{Process, User, values};
use crate::error::Result;

/// The largest list of CPUs that is taken seriously: the kernel's NR_CPUS is at most 8192.
const MAX_CPUS: u32 = 8192;

/// Checks a process; fields in the errors are relative to it, `/cwd`.
///
/// Capabilities are not judged: unknown ones are warned of (see [`super::warnings`]).
///
/// # Errors
/// The first broken rule.
pub fn process(p: &Process) -> Result<()> {
    user(&p.user)?;
    if p.args.is_empty() {
        return Err(broken("/args", "missing", "args must not be empty"));
    }
    for (n, arg) in p.args.iter().enumerate() {
        no_nul(format!("/args/{n}"), arg)?;
    }
    values::environment(&p.env).map_err(|e| e.under("/env"))?;
    if p.cwd.is_empty() {
        return Err(broken("/cwd", "missing", "cwd must be an absolute path"));
    }
    absolute("/cwd", &p.cwd)?;
    rlimits(p)?;
    if let Some(score) = p.oom_score_adj.filter(|s| !(-1000..=1000).contains(s)) {
        return Err(broken("/oomScoreAdj", "out of range", format!("{score} is not in -1000 to 1000")));
    }
    if let Some(s) = &p.scheduler {
        values::sched_attr(s).map_err(|e| e.under("/scheduler"))?;
    }
    if let Some(i) = &p.io_priority {
        values::ioprio(i).map_err(|e| e.under("/ioPriority"))?;
    }
    if let Some(a) = &p.exec_cpu_affinity {
        for (field, list) in [("/execCPUAffinity/initial", &a.initial), ("/execCPUAffinity/final", &a.last)] {
            values::list(list, MAX_CPUS).map_err(|e| e.at(field))?;
        }
    }
    label("/apparmorProfile", &p.apparmor_profile)?;
    label("/selinuxLabel", &p.selinux_label)
}

/// The kernel takes a page of what is written to /proc/PID/attr (fs/proc/base.c), and a longer label would be another one.
fn label(field: &str, text: &str) -> Result<()> {
    const LONGEST: usize = 4000;
    no_nul(field, text)?;
    if text.len() > LONGEST {
        return Err(broken(field, "too long", format!("{} bytes, the most is {LONGEST}", text.len())));
    }
    if text.contains('\n') {
        return Err(broken(field, "not a label", "it has a line break"));
    }
    Ok(())
}

/// 4294967295 is -1 to the kernel: setresuid(2) would leave the id of the runtime in place.
fn user(u: &User) -> Result<()> {
    let valid = |field: String, id: u32| {
        if id == u32::MAX {
            Err(broken(field, "invalid id", "4294967295 means \"leave unchanged\" to the kernel"))
        } else {
            Ok(())
        }
    };
    valid("/user/uid".into(), u.uid)?;
    valid("/user/gid".into(), u.gid)?;
    for (n, gid) in u.additional_gids.iter().enumerate() {
        valid(format!("/user/additionalGids/{n}"), *gid)?;
    }
    match u.umask {
        Some(mask) if mask > 0o777 => {
            Err(broken("/user/umask", "out of range", format!("{mask} is not in 0 to 511 (octal 777)")))
        }
        _ => Ok(()),
    }
}

fn rlimits(p: &Process) -> Result<()> {
    for (n, limit) in p.rlimits.iter().enumerate() {
        let field = format!("/rlimits/{n}");
        values::rlimit(&limit.kind).map_err(|e| e.at(format!("{field}/type")))?;
        if p.rlimits.iter().take(n).any(|other| other.kind == limit.kind) {
            return Err(broken(field + "/type", "duplicate resource limit", format!("{:?}", limit.kind)));
        }
        if limit.soft > limit.hard {
            return Err(broken(field + "/soft", "out of range", format!("{} is above hard, {}", limit.soft, limit.hard)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(members: &str) -> String {
        let json = format!(r#"{{"args":["sh"],"cwd":"/",{members}}}"#);
        process(&Process::parse(json.as_bytes()).unwrap()).err().map(|e| e.field().to_owned()).unwrap_or_default()
    }

    #[test]
    fn what_is_needed() {
        let field = |json: &str| process(&Process::parse(json.as_bytes()).unwrap()).unwrap_err().field().to_owned();
        assert_eq!(field(r#"{"cwd":"/"}"#), "/args");
        assert_eq!(field(r#"{"args":["a\u0000"],"cwd":"/"}"#), "/args/0");
        assert_eq!(field(r#"{"args":["a"]}"#), "/cwd");
        assert_eq!(field(r#"{"args":["a"],"cwd":"tmp"}"#), "/cwd");
    }

    #[test]
    fn ranges() {
        assert_eq!(at(r#""user":{"uid":4294967294,"gid":4294967294,"umask":511}"#), "");
        assert_eq!(at(r#""user":{"uid":4294967295}"#), "/user/uid");
        assert_eq!(at(r#""user":{"gid":4294967295}"#), "/user/gid");
        assert_eq!(at(r#""user":{"additionalGids":[1,4294967295]}"#), "/user/additionalGids/1");
        assert_eq!(at(r#""user":{"umask":512}"#), "/user/umask");
        assert_eq!(at(r#""oomScoreAdj":-1000"#), "");
        assert_eq!(at(r#""oomScoreAdj":1001"#), "/oomScoreAdj");
        assert_eq!(at(r#""env":["A=1","B"]"#), "/env/1");
        assert_eq!(at(r#""execCPUAffinity":{"initial":"0-3","final":"3-0"}"#), "/execCPUAffinity/final");
        assert_eq!(at(r#""scheduler":{"policy":"X"}"#), "/scheduler/policy");
        assert_eq!(at(r#""ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}"#), "/ioPriority/priority");
    }

    #[test]
    fn limits() {
        let nofile = r#"{"type":"RLIMIT_NOFILE","soft":1,"hard":18446744073709551615}"#;
        assert_eq!(at(&format!(r#""rlimits":[{nofile}]"#)), "");
        assert_eq!(at(&format!(r#""rlimits":[{nofile},{nofile}]"#)), "/rlimits/1/type");
        assert_eq!(at(r#""rlimits":[{"type":"NOFILE"}]"#), "/rlimits/0/type");
        assert_eq!(at(r#""rlimits":[{"type":"RLIMIT_CPU","soft":2,"hard":1}]"#), "/rlimits/0/soft");
    }
}
