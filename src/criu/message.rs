//! What is asked of CRIU and what it answers: the messages of its `rpc.proto`, as far as they are used here.

use super::wire::{Value, Writer, read};
use std::ffi::CString;
use std::os::fd::RawFd;

/// `criu_req_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Save a process tree.
    Dump,
    /// Bring one back.
    Restore,
    /// Save its memory and let it go on.
    PreDump,
    /// CRIU is at one of its action scripts' points, and waits for the answer.
    Notify,
    /// What the kernel offers.
    FeatureCheck,
    /// What CRIU it is.
    Version,
}

const KINDS: [(Kind, u64); 6] =
    [(Kind::Dump, 1), (Kind::Restore, 2), (Kind::PreDump, 4), (Kind::Notify, 6), (Kind::FeatureCheck, 9), (Kind::Version, 10)];

impl Kind {
    fn number(self) -> u64 {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, n)| *n)
    }

    fn of(value: Value<'_>) -> Option<Self> {
        KINDS.iter().find(|(_, n)| Value::Number(*n) == value).map(|(kind, _)| *kind)
    }

    /// What is being done, for errors.
    pub fn words(self) -> &'static str {
        match self {
            Self::Dump => "checkpoint the container",
            Self::Restore => "restore the container",
            Self::PreDump => "save the container's memory ahead",
            Self::Notify => "answer CRIU",
            Self::FeatureCheck => "ask CRIU what this kernel offers",
            Self::Version => "ask CRIU for its version",
        }
    }
}

/// `criu_cg_mode`: what CRIU does about cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupMode {
    /// Nothing.
    Ignore,
    /// Restores the limits of the cgroups that it makes.
    Soft,
    /// Restores all limits.
    Full,
    /// Fails where a cgroup is there already.
    Strict,
}

/// `criu_network_lock_method`: how packets are kept from the container's connections meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkLock {
    /// By iptables-restore(8).
    Iptables,
    /// By nftables.
    Nftables,
    /// Not at all.
    Skip,
}

/// `criu_opts`. Descriptors are this process's.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // named as in rpc.proto, which explains them
pub struct Options {
    pub images_dir: RawFd,
    pub work_dir: Option<RawFd>,
    pub log_file: &'static str,
    pub pid: Option<i32>,
    pub root: Option<CString>,
    pub leave_running: bool,
    pub ext_unix_sk: bool,
    pub tcp_established: bool,
    pub tcp_skip_in_flight: bool,
    pub tcp_close: bool,
    pub evasive_devices: bool,
    pub shell_job: bool,
    pub file_locks: bool,
    pub link_remap: bool,
    pub auto_dedup: bool,
    pub lazy_pages: bool,
    pub rst_sibling: bool,
    pub track_mem: bool,
    pub parent_img: Option<String>,
    pub page_server: Option<(String, u16)>,
    pub ext_mnt: Vec<(CString, CString)>,
    pub cgroup_mode: Option<CgroupMode>,
    pub cgroup_roots: Vec<(String, String)>,
    pub inherit_fd: Vec<(String, RawFd)>,
    pub external: Vec<String>,
    pub empty_ns: u64,
    pub join_ns: Vec<(&'static str, CString)>,
    pub freeze_cgroup: Option<CString>,
    pub config_file: Option<String>,
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
    pub network_lock: Option<NetworkLock>,
}

/// CRIU's own log level: everything that helps to find a fault, as in runc.
const LOG_LEVEL: i32 = 4;

impl Options {
    fn write(&self, w: &mut Writer) {
        w.int(1, self.images_dir);
        if let Some(pid) = self.pid {
            w.int(2, pid);
        }
        for (field, on) in [
            (3, self.leave_running),
            (4, self.ext_unix_sk),
            (5, self.tcp_established),
            (6, self.evasive_devices),
            (7, self.shell_job),
            (8, self.file_locks),
            // notify_scripts: tell us of each point.
            (12, true),
            (15, self.track_mem),
            (16, self.auto_dedup),
            (18, self.link_remap),
            (26, self.rst_sibling),
            (46, self.tcp_skip_in_flight),
            (48, self.lazy_pages),
            // orphan_pts_master: a terminal's master is sent to us.
            (50, true),
            (52, self.tcp_close),
        ] {
            w.flag(field, on);
        }
        w.int(9, LOG_LEVEL);
        w.bytes(10, self.log_file.as_bytes());
        if let Some((address, port)) = &self.page_server {
            w.message(11, |m| {
                m.bytes(1, address.as_bytes());
                m.int(2, i32::from(*port));
            });
        }
        w.maybe(13, self.root.as_ref().map(|s| s.as_bytes()));
        w.maybe(14, self.parent_img.as_ref().map(|s| s.as_bytes()));
        if let Some(fd) = self.work_dir {
            w.int(17, fd);
        }
        for (key, value) in &self.ext_mnt {
            w.message(23, |m| {
                m.bytes(1, key.as_bytes());
                m.bytes(2, value.as_bytes());
            });
        }
        for (controllers, path) in &self.cgroup_roots {
            w.message(25, |m| {
                m.bytes(1, controllers.as_bytes());
                m.bytes(2, path.as_bytes());
            });
        }
        for (key, fd) in &self.inherit_fd {
            w.message(27, |m| {
                m.bytes(1, key.as_bytes());
                m.int(2, *fd);
            });
        }
        if let Some(mode) = self.cgroup_mode {
            w.number(
                34,
                match mode {
                    CgroupMode::Ignore => 0,
                    CgroupMode::Soft => 3,
                    CgroupMode::Full => 4,
                    CgroupMode::Strict => 5,
                },
            );
        }
        for external in &self.external {
            w.bytes(37, external.as_bytes());
        }
        if self.empty_ns != 0 {
            w.number(38, self.empty_ns);
        }
        for (kind, path) in &self.join_ns {
            w.message(39, |m| {
                m.bytes(1, kind.as_bytes());
                m.bytes(2, path.as_bytes());
            });
        }
        w.maybe(44, self.freeze_cgroup.as_ref().map(|s| s.as_bytes()));
        w.maybe(51, self.config_file.as_ref().map(|s| s.as_bytes()));
        w.maybe(53, self.lsm_profile.as_ref().map(|s| s.as_bytes()));
        w.maybe(63, self.lsm_mount_context.as_ref().map(|s| s.as_bytes()));
        if let Some(method) = self.network_lock {
            w.number(
                64,
                match method {
                    NetworkLock::Iptables => 1,
                    NetworkLock::Nftables => 2,
                    NetworkLock::Skip => 3,
                },
            );
        }
    }
}

/// `criu_features`: what a checkpoint may need of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Soft-dirty bits of pages: for `--pre-dump`.
    pub mem_track: bool,
    /// userfaultfd: for `--lazy-pages`.
    pub lazy_pages: bool,
}

/// `criu_req`.
pub fn request(kind: Kind, options: Option<&Options>, features: Option<Features>, keep_open: bool) -> Vec<u8> {
    let mut w = Writer::default();
    w.number(1, kind.number());
    if let Some(options) = options {
        w.message(2, |m| options.write(m));
    }
    w.flag(4, keep_open);
    if let Some(features) = features {
        w.message(5, |m| {
            m.flag(1, features.mem_track);
            m.flag(2, features.lazy_pages);
        });
    }
    w.into_bytes()
}

/// The answer to a notification.
pub fn acknowledge(success: bool) -> Vec<u8> {
    let mut w = Writer::default();
    w.number(1, Kind::Notify.number());
    // Written out when false too.
    w.number(3, u64::from(success));
    w.into_bytes()
}

/// `criu_resp`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// What it answers; `None` for a kind that is not used here.
    pub kind: Option<Kind>,
    /// Whether it went well.
    pub success: bool,
    /// Which point was reached.
    pub script: String,
    /// Of a notification: the process that it is about, 0 for none.
    pub pid: i32,
    /// Of a failure.
    pub errno: i32,
    /// Of a failure, in words.
    pub message: String,
    /// Of a [`Kind::FeatureCheck`].
    pub features: Features,
    /// Of a [`Kind::Version`]: major * 10000 + minor * 100 + sublevel.
    pub version: i32,
}

impl Answer {
    /// Reads one; `None` if it is no message.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut answer = Self::default();
        let mut sound = Some(());
        read(bytes, |field, value| match field {
            1 => answer.kind = Kind::of(value),
            2 => answer.success = value.flag(),
            5 => {
                sound = sound.and(read(value.bytes(), |field, value| match field {
                    1 => answer.script = value.text(),
                    2 => answer.pid = value.int(),
                    _ => {}
                }));
            }
            7 => answer.errno = value.int(),
            8 => {
                sound = sound.and(read(value.bytes(), |field, value| match field {
                    1 => answer.features.mem_track = value.flag(),
                    2 => answer.features.lazy_pages = value.flag(),
                    _ => {}
                }));
            }
            9 => answer.message = value.text(),
            10 => {
                sound = sound.and(read(value.bytes(), |field, value| {
                    let part = match field {
                        1 => value.int().saturating_mul(10_000),
                        2 => value.int().saturating_mul(100),
                        4 => value.int(),
                        _ => 0,
                    };
                    answer.version = answer.version.saturating_add(part);
                }));
            }
            _ => {}
        })?;
        sound.map(|()| answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of the options inside a request, in order.
    fn fields(options: &Options) -> Vec<(u64, String)> {
        let bytes = request(Kind::Dump, Some(options), None, false);
        let mut inner = Vec::new();
        read(&bytes, |field, value| {
            if field == 2 {
                inner = value.bytes().to_vec();
            }
        })
        .unwrap();
        let mut seen = Vec::new();
        read(&inner, |field, value| {
            seen.push((field, if value.bytes().is_empty() { value.int().to_string() } else { value.text() }));
        })
        .unwrap();
        seen
    }

    #[test]
    fn options_have_the_numbers_of_rpc_proto() {
        let seen = fields(&Options {
            images_dir: 5,
            work_dir: Some(6),
            log_file: "dump.log",
            pid: Some(42),
            leave_running: true,
            tcp_established: true,
            freeze_cgroup: Some(c"/sys/fs/cgroup/c".into()),
            cgroup_mode: Some(CgroupMode::Ignore),
            empty_ns: 0x4000_0000,
            network_lock: Some(NetworkLock::Skip),
            lsm_mount_context: Some("ctx".into()),
            ..Options::default()
        });
        let want = [(1, "5"), (2, "42"), (3, "1"), (5, "1"), (12, "1"), (50, "1"), (9, "4"), (10, "dump.log"), (17, "6")]
            .into_iter()
            .chain([(34, "0"), (38, "1073741824"), (44, "/sys/fs/cgroup/c"), (63, "ctx"), (64, "3")]);
        assert_eq!(seen, want.map(|(n, v)| (n, v.to_owned())).collect::<Vec<_>>());
    }

    #[test]
    fn an_answer_is_read() {
        let mut w = Writer::default();
        w.number(1, 6);
        w.number(2, 1);
        w.message(5, |m| {
            m.bytes(1, b"post-restore");
            m.int(2, 77);
        });
        let answer = Answer::parse(&w.into_bytes()).unwrap();
        assert_eq!((answer.kind, answer.success, answer.pid), (Some(Kind::Notify), true, 77));
        assert_eq!(answer.script, "post-restore");

        let mut w = Writer::default();
        w.number(1, 10);
        w.number(2, 1);
        w.message(10, |m| {
            m.int(1, 4);
            m.int(2, 1);
            m.int(4, 1);
        });
        assert_eq!(Answer::parse(&w.into_bytes()).unwrap().version, 40_101);
        assert_eq!(Answer::parse(&[0x08]), None);

        let mut w = Writer::default();
        w.message(10, |m| {
            m.int(1, i32::MAX);
            m.int(4, i32::MAX);
        });
        assert_eq!(Answer::parse(&w.into_bytes()).unwrap().version, i32::MAX, "a number of no version does not wrap");
    }
}
