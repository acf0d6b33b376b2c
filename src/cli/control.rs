//! The flags of the commands on a running container in types: `exec`, `ps`, `events`, `update`.

use super::argv::Matches;
use super::command::{ExecArgs, UpdateArgs};
use super::{format_of, number, path};
use crate::config::values;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

fn text(m: &Matches, flag: &str) -> Result<Option<String>> {
    m.get_one(flag).filter(|v| !v.is_empty()).map(|v| utf8(v, flag)).transpose()
}

fn texts(m: &Matches, flag: &str) -> Result<Vec<String>> {
    m.get_many(flag).map(|v| utf8(v, flag)).collect()
}

fn utf8(value: &OsString, flag: &str) -> Result<String> {
    value.to_str().map(str::to_owned).ok_or_else(|| Error::new(format!("--{flag}"), format!("{value:?} is not UTF-8")))
}

fn file(m: &Matches, flag: &str) -> Option<PathBuf> {
    m.get_one(flag).cloned().and_then(path)
}

/// What follows the id.
pub(super) fn rest(m: &Matches) -> Vec<OsString> {
    m.operands().get(1..).unwrap_or_default().to_vec()
}

/// `ps --format`.
pub(super) fn json(value: &str) -> Result<bool> {
    format_of(value, &[("", false), ("table", false), ("json", true)])
}

/// `exec`.
pub(super) fn exec(m: &Matches, id: String) -> Result<ExecArgs> {
    let args = rest(m).iter().map(|a| utf8(a, "args")).collect::<Result<Vec<_>>>()?;
    let process = file(m, "process");
    if process.is_none() && args.is_empty() {
        return Err(Error::exact("process args cannot be empty"));
    }
    let gid = |g: &String| {
        values::user(g)
            .ok()
            .filter(|(_, more)| more.is_none())
            .map(|(gid, _)| gid)
            .ok_or_else(|| Error::new("--additional-gids", format!("{g:?} is not a number of 0 to 4294967294")))
    };
    Ok(ExecArgs {
        id,
        process,
        args,
        cwd: text(m, "cwd")?,
        env: texts(m, "env")?,
        tty: m.get_flag("tty"),
        user: text(m, "user")?.map(|u| values::user(&u).map_err(|e| e.context("--user"))).transpose()?,
        // Several may stand in one word, as Go's flags have it.
        additional_gids: texts(m, "additional-gids")?
            .iter()
            .flat_map(|l| l.split(','))
            .map(|g| gid(&g.to_owned()))
            .collect::<Result<_>>()?,
        process_label: text(m, "process-label")?,
        apparmor: text(m, "apparmor")?,
        no_new_privs: m.get_flag("no-new-privs"),
        caps: texts(m, "cap")?.iter().flat_map(|l| l.split(',')).map(str::to_owned).collect(),
        detach: m.get_flag("detach"),
        pid_file: file(m, "pid-file"),
        console_socket: file(m, "console-socket"),
        pidfd_socket: file(m, "pidfd-socket"),
        preserve_fds: number(&text(m, "preserve-fds")?.unwrap_or_default(), "preserve-fds")?,
        cgroup: sub_cgroup(&texts(m, "cgroup")?)?,
        ignore_paused: m.get_flag("ignore-paused"),
    })
}

/// `--cgroup [CONTROLLER[,CONTROLLER]:]PATH`: in the one hierarchy of cgroup v2 a process is in one place for all
/// controllers, so a prefix is refused in runc's words.
fn sub_cgroup(given: &[String]) -> Result<Option<String>> {
    let bad =
        |cause: String| Error::exact(cause).hint("cgroup v2 has one place for all controllers: give one path, without a prefix");
    let prefixed = given.iter().find_map(|g| Some((g, g.split_once(':')?.0)));
    match (given, prefixed) {
        ([], _) => Ok(None),
        ([one], None) => Ok(Some(one.clone())),
        (_, Some((whole, prefix))) => Err(bad(match prefix.split(',').find(|c| c.is_empty()) {
            Some(_) => format!("invalid --cgroup argument: {whole} (empty <controller> prefix)"),
            None => format!("unknown controller {} in SubCgroupPaths", prefix.split(',').next().unwrap_or_default()),
        })),
        ([first, ..], None) => Err(bad(format!("invalid --cgroup argument: {first} (missing <controller>: prefix)"))),
    }
}

/// A duration as Go writes it: numbers with units, `1m30s`, `0.5s`.
pub(super) fn interval(text: &str) -> Result<Duration> {
    if text.is_empty() {
        return Ok(Duration::from_secs(5));
    }
    let bad = || Error::new("--interval", format!("{text:?} is no duration")).hint("a duration looks like 500ms, 5s or 1m30s");
    let mut total = Duration::ZERO;
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (count, unit) = rest.split_at(digits);
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let (unit, next) = unit.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        let part = count.parse::<f64>().map_err(|_| bad())? * seconds;
        total = Duration::try_from_secs_f64(part).ok().and_then(|d| total.checked_add(d)).ok_or_else(bad)?;
        rest = next;
    }
    if total.is_zero() {
        return Err(Error::exact("duration interval must be greater than 0"));
    }
    Ok(total)
}

/// `update`: the flags as the object that they stand for.
pub(super) fn update(m: &Matches, id: String) -> Result<UpdateArgs> {
    let mut rdt = Vec::new();
    for (flag, member) in [("l3-cache-schema", "l3CacheSchema"), ("mem-bw-schema", "memBwSchema")] {
        rdt.extend(text(m, flag)?.filter(|schema| !schema.is_empty()).map(|schema| (member, schema)));
    }
    let mut flags = json!({});
    let mut add = |pointer: [&str; 2], value: Value| {
        let [group, member] = pointer;
        flags[group][member] = value;
    };
    type Read = fn(&str, &str) -> Result<Value>;
    let table: [(&str, [&str; 2], Read); 15] = [
        ("blkio-weight", ["blockIO", "weight"], unsigned),
        ("cpu-period", ["cpu", "period"], unsigned),
        ("cpu-quota", ["cpu", "quota"], signed),
        ("cpu-burst", ["cpu", "burst"], unsigned),
        ("cpu-share", ["cpu", "shares"], unsigned),
        ("cpu-rt-period", ["cpu", "realtimePeriod"], unsigned),
        ("cpu-rt-runtime", ["cpu", "realtimeRuntime"], signed),
        ("cpu-idle", ["cpu", "idle"], signed),
        ("cpuset-cpus", ["cpu", "cpus"], word),
        ("cpuset-mems", ["cpu", "mems"], word),
        ("kernel-memory", ["memory", "kernel"], bytes),
        ("kernel-memory-tcp", ["memory", "kernelTCP"], bytes),
        ("memory", ["memory", "limit"], bytes),
        ("memory-reservation", ["memory", "reservation"], bytes),
        ("memory-swap", ["memory", "swap"], bytes),
    ];
    for (flag, pointer, read) in table {
        if let Some(value) = text(m, flag)? {
            add(pointer, read(&value, flag)?);
        }
    }
    if let Some(value) = text(m, "pids-limit")? {
        add(["pids", "limit"], signed(&value, "pids-limit")?);
    }
    Ok(UpdateArgs { id, resources: file(m, "resources"), flags, rdt })
}

fn unsigned(value: &str, flag: &str) -> Result<Value> {
    value.parse::<u64>().map(Value::from).map_err(|_| not_a(value, flag, "number from 0 on"))
}

fn signed(value: &str, flag: &str) -> Result<Value> {
    value.parse::<i64>().map(Value::from).map_err(|_| not_a(value, flag, "number"))
}

fn word(value: &str, _: &str) -> Result<Value> {
    Ok(Value::from(value))
}

/// `512M`, `1.5GiB`, `100`, `-1`: units of 1024, in any case, as Docker's go-units reads them.
fn bytes(value: &str, flag: &str) -> Result<Value> {
    let bad = || not_a(value, flag, "number of bytes such as 512M, nor -1");
    if value == "-1" {
        return Ok(Value::from(-1));
    }
    let lower = value.to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (count, unit) = lower.split_at(end);
    let power = match unit.trim_start() {
        "" | "b" => 0u32,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(bad()),
    };
    let scale = 1i64 << (10 * power);
    // Whole numbers stay exact.
    let (whole, fraction) = count.split_once('.').unwrap_or((count, ""));
    let whole = whole.parse::<i64>().ok().and_then(|n| n.checked_mul(scale)).ok_or_else(bad)?;
    let mut rest = 0i128;
    let mut parts = 1i128;
    // More digits than a byte of the largest unit has would not be seen.
    for digit in fraction.chars().take(18) {
        rest = rest * 10 + i128::from(digit.to_digit(10).ok_or_else(bad)?);
        parts *= 10;
    }
    let rest = i64::try_from(i128::from(scale) * rest / parts).map_err(|_| bad())?;
    whole.checked_add(rest).map(Value::from).ok_or_else(bad)
}

fn not_a(value: &str, flag: &str, what: &str) -> Error {
    Error::new(format!("--{flag}"), format!("{value:?} is not a {what}"))
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Line};
    use super::*;

    fn command(line: &str) -> Result<Command> {
        let words: Vec<OsString> = std::iter::once("onggi").chain(line.split_whitespace()).map(OsString::from).collect();
        Line::read(&words)?.command()
    }

    #[test]
    fn exec_with_everything() {
        let line = "exec -t -d -e A=1 --env B=2 --cwd /w -u 5:6 -g 7,8 -g 9 --cap CAP_KILL --no-new-privs --pid-file P \
                    --console-socket S --pidfd-socket F --preserve-fds 2 --cgroup sub --ignore-paused c ls -l -- -d";
        let want = ExecArgs {
            id: "c".into(),
            args: ["ls", "-l", "--", "-d"].map(String::from).into(),
            cwd: Some("/w".into()),
            env: vec!["A=1".into(), "B=2".into()],
            tty: true,
            user: Some((5, Some(6))),
            additional_gids: vec![7, 8, 9],
            no_new_privs: true,
            caps: vec!["CAP_KILL".into()],
            detach: true,
            pid_file: Some("P".into()),
            console_socket: Some("S".into()),
            pidfd_socket: Some("F".into()),
            preserve_fds: 2,
            cgroup: Some("sub".into()),
            ignore_paused: true,
            ..ExecArgs::default()
        };
        assert_eq!(command(line).unwrap(), Command::Exec(want));
    }

    #[test]
    fn exec_refusals() {
        for (line, text) in [
            ("exec c", "process args cannot be empty"),
            ("exec --user root c ls", "--user"),
            ("exec -g 1:2 c ls", "--additional-gids"),
            ("exec --cgroup cpu,io:x c ls", "unknown controller cpu in SubCgroupPaths"),
            ("exec --cgroup :x c ls", "invalid --cgroup argument: :x (empty <controller> prefix)"),
            ("exec --cgroup x --cgroup y c ls", "invalid --cgroup argument: x (missing <controller>: prefix)"),
        ] {
            assert!(command(line).unwrap_err().to_string().contains(text), "{line}");
        }
        assert!(command("exec --process F c").is_ok());
    }

    #[test]
    fn durations_of_go() {
        for (text, ms) in [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("0.5s", 500), ("", 5000), ("1h", 3_600_000)] {
            assert_eq!(interval(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["5", "s", "-1s", "1d", "0s", "1.1.1s"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn memory_with_units() {
        for (text, want) in [
            ("512M", 512 << 20),
            ("1.5g", 3 << 29),
            ("1.5GiB", 3 << 29),
            ("100", 100),
            ("100b", 100),
            ("2 kb", 2048),
            ("-1", -1),
            ("9007199254740993", 9_007_199_254_740_993i64),
        ] {
            assert_eq!(bytes(text, "memory").unwrap(), Value::from(want), "{text}");
        }
        for text in ["", "M", "1x", "-2", "1.x", "99999999P"] {
            assert!(bytes(text, "memory").is_err(), "{text}");
        }
    }

    #[test]
    fn update_flags_are_an_object() {
        let Command::Update(args) = command("update --memory 1k --pids-limit -1 --cpuset-cpus 0-1 --cpu-quota 5 c").unwrap()
        else {
            panic!("not update")
        };
        let want = json!({"memory": {"limit": 1024}, "pids": {"limit": -1}, "cpu": {"cpus": "0-1", "quota": 5}});
        assert_eq!(args.flags, want);
        assert_eq!(args.rdt, []);
        let line = "update --l3-cache-schema L3:0=f --mem-bw-schema MB:0=10 c";
        let Command::Update(args) = command(line).unwrap() else { panic!("not update") };
        assert_eq!(args.rdt, [("l3CacheSchema", "L3:0=f".to_owned()), ("memBwSchema", "MB:0=10".to_owned())]);
    }
}
