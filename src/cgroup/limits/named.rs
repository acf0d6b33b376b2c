//! The limits whose file or line is named by `config.json`: `hugepageLimits`, `rdma`, `unified`.
//!
//! Each name is checked here, since it becomes a part of a file name or of a line (runc#4103: a page size with a slash
//! wrote files of other cgroups).

use super::{List, escape, refuse};
use crate::config::{HugepageLimit, LinuxRdma};
use crate::error::Result;
use std::collections::BTreeMap;

/// `hugetlb.SIZE.max` counts pages in use, `hugetlb.SIZE.rsvd.max` (5.7) those set aside by mmap, where the limit fails
/// early and not by SIGBUS.
pub(super) fn hugepages(list: &mut List, limits: &[HugepageLimit]) -> Result<()> {
    for (i, l) in limits.iter().enumerate() {
        let size = &l.page_size;
        let digits = size.trim_end_matches(|c: char| !c.is_ascii_digit());
        let known = !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && matches!(size.strip_prefix(digits), Some("KB" | "MB" | "GB"));
        if !known {
            let cause = format!("{size:?} is not a size as the kernel writes it, for example 64KB, 2MB or 1GB");
            return Err(refuse("read the page size", cause, format!("hugepageLimits/{i}/pageSize")));
        }
        let member = format!("hugepageLimits/{i}/limit");
        list.add("hugetlb", format!("hugetlb.{size}.max"), l.limit, &member);
        list.add("hugetlb", format!("hugetlb.{size}.rsvd.max"), l.limit, &member);
    }
    Ok(())
}

/// One line a device, `NAME hca_handle=N hca_object=N`.
pub(super) fn rdma(list: &mut List, devices: &BTreeMap<String, LinuxRdma>) -> Result<()> {
    for (name, limits) in devices {
        let member = format!("rdma/{}", escape(name));
        let odd = |c: char| c == '/' || c == '\0' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.contains(odd) || name.contains("..") {
            return Err(refuse("read the device's name", format!("{name:?} is no name of an RDMA device"), member));
        }
        let mut line = name.to_owned();
        for (key, value) in [("hca_handle", limits.hca_handles()), ("hca_object", limits.hca_objects())] {
            if let Some(v) = value {
                line += &format!(" {key}={v}");
            }
        }
        if line.len() > name.len() {
            list.add("rdma", "rdma.max", line, member);
        }
    }
    Ok(())
}

/// Each line of a value is a write of its own, as the kernel takes one line at a time in files such as `io.max`.
pub(super) fn unified(list: &mut List, files: &BTreeMap<String, String>) -> Result<()> {
    for (file, value) in files {
        let member = format!("unified/{}", escape(file));
        if file.contains(['/', '\0', '\n']) || file.contains("..") {
            return Err(refuse("read the name of the file", format!("{file:?} is not a plain file name"), member));
        }
        let Some((controller, _)) = file.split_once('.').filter(|(c, p)| !c.is_empty() && !p.is_empty()) else {
            let cause = format!("unified resource {file:?} must be in the form CONTROLLER.PARAMETER");
            return Err(refuse("read the name of the file", cause, member));
        };
        // Not limits: they act on processes, and would freeze or kill the init that is about to come in.
        if matches!(file.as_str(), "cgroup.procs" | "cgroup.threads" | "cgroup.kill" | "cgroup.freeze") {
            return Err(refuse("read the name of the file", format!("{file} is not a limit"), member));
        }
        let mut lines: Vec<_> = value.lines().filter(|l| !l.is_empty()).collect();
        if lines.is_empty() {
            // Has a meaning of its own: it clears a cpuset.
            lines.push("");
        }
        for line in lines {
            list.add(controller, file, line, &member);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{plain, refused};

    #[test]
    fn values() {
        for (json, want) in [
            (
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":9223372036854775807}]}"#,
                vec!["hugetlb.2MB.max=9223372036854775807", "hugetlb.2MB.rsvd.max=9223372036854775807"],
            ),
            (r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10}}}"#, vec!["rdma.max=mlx5_1 hca_handle=3 hca_object=10"]),
            (r#"{"rdma":{"a":{"hcaObjects":0},"b":{}}}"#, vec!["rdma.max=a hca_object=0"]),
            (r#"{"unified":{"io.max":"8:0 rbps=1\n8:1 rbps=2\n"}}"#, vec!["io.max=8:0 rbps=1", "io.max=8:1 rbps=2"]),
            (r#"{"unified":{"memory.max":"max"}}"#, vec!["memory.max=max"]),
            (r#"{"unified":{"cpuset.cpus":""}}"#, vec!["cpuset.cpus="]),
        ] {
            assert_eq!(plain(json), want, "{json}");
        }
    }

    /// SEC-19.
    #[test]
    fn issue_4103_names_reach_no_other_file() {
        for size in ["", "2", "MB", "2mb", "../2MB", "2MB/../x", "2MB\\n", "2MB.max", "2 MB", "2MB\\u0000", "..", "2XMB"] {
            let e = refused(&format!(r#"{{"hugepageLimits":[{{"pageSize":"{size}","limit":1}}]}}"#));
            assert_eq!(e.field(), "/linux/resources/hugepageLimits/0/pageSize", "{size}");
        }
        for (name, field) in [("", ""), ("a/b", "a~1b"), ("a b", "a b"), ("..", ".."), ("a\\nb", "a\nb"), ("a\\u0000", "a\0")] {
            let e = refused(&format!(r#"{{"rdma":{{"{name}":{{"hcaHandles":1}}}}}}"#));
            assert_eq!(e.field(), format!("/linux/resources/rdma/{field}"));
        }
        for name in ["../memory.max", "a/b.c", "memory", "memory.", ".max", "a..b", "memory.max\\n", "memory.max\\u0000", ""] {
            let e = refused(&format!(r#"{{"unified":{{"{name}":"1"}}}}"#));
            assert!(e.field().starts_with("/linux/resources/unified/"), "{name}: {e}");
        }
        for name in ["cgroup.procs", "cgroup.kill", "cgroup.freeze", "cgroup.threads"] {
            assert!(refused(&format!(r#"{{"unified":{{"{name}":"1"}}}}"#)).to_string().ends_with("is not a limit"));
        }
    }
}
