//! `ps`: the processes in the container's cgroup, as numbers or as ps(1) shows them.

use crate::cgroup::Cgroup;
use crate::cli::Global;
use crate::error::{Context, Error, Result};
use crate::store::{Record, Store, unknown};
use std::ffi::OsString;
use std::process::{Command, Stdio};

/// `ps`.
pub fn ps(global: &Global, id: &str, json: bool, arguments: &[OsString]) -> Result<u8> {
    let entry = Store::open(global.root.as_deref())?.ok_or_else(unknown)?.look(id)?;
    let record = entry.state()?.ok_or_else(unknown)?;
    let pids = pids(&record)?;
    if json {
        return super::print(&format!("{}\n", serde_json::Value::from(pids)));
    }
    let default = ["-ef".into()];
    let table = run(if arguments.is_empty() { &default } else { arguments })?;
    super::print(&filter(&table, &pids)?)
}

/// As this PID namespace counts them.
fn pids(record: &Record) -> Result<Vec<i32>> {
    match &record.cgroup {
        Some(path) => Cgroup::open(path)?.map_or(Ok(Vec::new()), |cgroup| cgroup.pids()),
        None if record.init()?.is_none() => Ok(Vec::new()),
        None if record.own_pid_namespace => in_namespace_of(record.pid),
        None => Err(Error::new("list the processes", "the container has neither a cgroup nor a PID namespace of its own")),
    }
}

/// All processes in the PID namespace of `init`.
pub(super) fn in_namespace_of(init: i32) -> Result<Vec<i32>> {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid"));
    let own = namespace(init).step("readlink", || format!("look at the PID namespace of process {init}"))?;
    let all = std::fs::read_dir("/proc").step("getdents64", || "list /proc".into())?;
    let mut pids: Vec<i32> = all
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        // Gone since it was listed, or another's: not in it.
        .filter(|&pid| namespace(pid).is_ok_and(|n| n == own))
        .collect();
    pids.sort_unstable();
    Ok(pids)
}

fn run(arguments: &[OsString]) -> Result<String> {
    let ended = Command::new("ps")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .step("execve", || "run ps".into())
        .map_err(|e| e.hint("the table needs ps(1), package procps; --format json does not"))?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(Error::new("run ps", format!("{}: {}", ended.status, said.lines().next().unwrap_or_default())))
}

/// The header, and the lines whose column PID is one of `pids`.
fn filter(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_ascii_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Error::exact("couldn't find PID field in ps output").hint("its options must leave the column PID"))?;
    let mut out = format!("{header}\n");
    for line in lines.filter(|l| !l.trim().is_empty()) {
        let field = line.split_ascii_whitespace().nth(column).unwrap_or_default();
        let pid: i32 = field.parse().map_err(|_| Error::new("read the output of ps", format!("unexpected pid {field:?}")))?;
        if pids.contains(&pid) {
            out.push_str(line);
            out.push('\n');
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_header_and_the_container_s_lines() {
        let table = "UID   PID  PPID CMD\nroot    1     0 init\nroot   42     1 sleep 42\nroot  142     1 142 42\n";
        assert_eq!(filter(table, &[42]).unwrap(), "UID   PID  PPID CMD\nroot   42     1 sleep 42\n");
        assert_eq!(filter(table, &[]).unwrap(), "UID   PID  PPID CMD\n");
        assert!(filter("CMD\nx\n", &[]).unwrap_err().to_string().contains("couldn't find PID field"));
        assert!(filter("PID\nx\n", &[]).unwrap_err().to_string().contains("unexpected pid"));
    }
}
