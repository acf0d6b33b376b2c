//! Machines made by hand, for targets that compile plans. Each uses some of it.
#![allow(dead_code)]

use onggi::cgroup::systemd::Instance;
use onggi::cgroup::{Delegation, Denied, Driver, Hierarchy};
use onggi::error::Error;
use onggi::host::Host;
use onggi::plan::{Plan, Request};
use std::path::Path;

/// Every controller of cgroup v2.
pub fn hierarchy() -> Hierarchy {
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
    Hierarchy {
        mount: "/sys/fs/cgroup".into(),
        controllers: controllers.map(String::from).into(),
        v1: Vec::new(),
        own: "/caller".into(),
    }
}

/// Root with everything there is.
pub fn root() -> Host {
    Host {
        permitted: (1 << 41) - 1,
        privileged: true,
        oom_score_adj: Some(0),
        apparmor: true,
        selinux: true,
        resctrl: Some("/sys/fs/resctrl".into()),
        hierarchy: Some(hierarchy()),
        ..Host::default()
    }
}

/// A user without capabilities.
pub fn user() -> Host {
    let denied = Some(Denied::Directory("/sys/fs/cgroup".into()));
    Host {
        uid: 1000,
        oom_score_adj: Some(0),
        open_files: Some((16, 4096)),
        hierarchy: Some(hierarchy()),
        delegation: Delegation { denied, ..Delegation::default() },
        ..Host::default()
    }
}

/// `create` as engines call it, or with systemd.
pub fn request(systemd: bool) -> Request<'static> {
    Request {
        id: "ID",
        bundle: Path::new("/bundle"),
        wait: true,
        no_pivot: false,
        no_new_keyring: false,
        preserve: 2,
        driver: if systemd { Driver::Systemd(Instance::System) } else { Driver::Cgroupfs },
        environment: Vec::new(),
        notify: None,
    }
}

/// What is printed of a plan or an error is made.
pub fn show(plan: &Result<Plan, Error>) {
    match plan {
        Ok(plan) => {
            let lines = plan.lines();
            assert!(!lines.is_empty(), "a plan of nothing");
            assert!(lines.iter().all(|line| !line.to_string().is_empty()));
        }
        Err(e) => assert!(!e.to_string().is_empty(), "an error of no words"),
    }
}
