//! The flags of `checkpoint` and `restore` in the types that the commands take.

use super::argv::Matches;
use super::{CheckpointArgs, CreateArgs, CriuArgs, RestoreArgs, path};
use crate::criu::message::{CgroupMode, NetworkLock};
use crate::error::{Error, Result};
use crate::sys::clone::flags;
use std::path::PathBuf;

/// `checkpoint`.
pub(super) fn checkpoint(m: &Matches, id: String) -> Result<CheckpointArgs> {
    let status_fd = match text(m, "status-fd") {
        // runc's own default.
        None => None,
        Some(word) if word == "-1" => None,
        Some(word) => {
            Some(word.parse().ok().filter(|n| *n >= 0).ok_or_else(|| bad("status-fd", &word, "is not a descriptor's number"))?)
        }
    };
    let page_server = text(m, "page-server").map(|word| {
        let parts = word.rsplit_once(':').and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)));
        let parts = parts.filter(|(host, port)| !host.is_empty() && *port != 0);
        parts.map(|(host, port)| (host.to_owned(), port)).ok_or_else(|| bad("page-server", &word, "is not ADDRESS:PORT"))
    });
    Ok(CheckpointArgs {
        id,
        criu: shared(m)?,
        parent_path: path_of(m, "parent-path"),
        leave_running: m.get_flag("leave-running"),
        pre_dump: m.get_flag("pre-dump"),
        tcp_skip_in_flight: m.get_flag("tcp-skip-in-flight"),
        link_remap: m.get_flag("link-remap"),
        status_fd,
        page_server: page_server.transpose()?,
    })
}

/// `restore`.
pub(super) fn restore(m: &Matches, create: CreateArgs) -> Result<RestoreArgs> {
    Ok(RestoreArgs {
        create,
        criu: shared(m)?,
        detach: m.get_flag("detach"),
        keep: m.get_flag("keep"),
        no_subreaper: m.get_flag("no-subreaper"),
        tcp_close: m.get_flag("tcp-close"),
        lsm_profile: text(m, "lsm-profile"),
        lsm_mount_context: text(m, "lsm-mount-context"),
    })
}

fn shared(m: &Matches) -> Result<CriuArgs> {
    let modes =
        [("soft", CgroupMode::Soft), ("full", CgroupMode::Full), ("strict", CgroupMode::Strict), ("ignore", CgroupMode::Ignore)];
    let locks = [("iptables", NetworkLock::Iptables), ("nftables", NetworkLock::Nftables), ("skip", NetworkLock::Skip)];
    let mut empty_ns = 0;
    for word in m.get_many("empty-ns") {
        // CRIU can leave out no other.
        if word != "network" {
            return Err(Error::exact(format!("namespace {:?} is not supported", word.to_string_lossy())));
        }
        empty_ns |= flags::NEWNET;
    }
    Ok(CriuArgs {
        image_path: path_of(m, "image-path"),
        work_path: path_of(m, "work-path"),
        tcp_established: m.get_flag("tcp-established"),
        ext_unix_sk: m.get_flag("ext-unix-sk"),
        shell_job: m.get_flag("shell-job"),
        lazy_pages: m.get_flag("lazy-pages"),
        file_locks: m.get_flag("file-locks"),
        cgroup_mode: one_of(m, "manage-cgroups-mode", &modes)?,
        empty_ns,
        auto_dedup: m.get_flag("auto-dedup"),
        network_lock: one_of(m, "network-lock", &locks)?,
    })
}

fn text(m: &Matches, flag: &str) -> Option<String> {
    m.get_one(flag).map(|word| word.to_string_lossy().into_owned()).filter(|word| !word.is_empty())
}

fn path_of(m: &Matches, flag: &str) -> Option<PathBuf> {
    m.get_one(flag).cloned().and_then(path)
}

fn one_of<T: Copy>(m: &Matches, flag: &str, words: &[(&str, T)]) -> Result<Option<T>> {
    let Some(given) = text(m, flag) else { return Ok(None) };
    match words.iter().find(|(word, _)| given == *word) {
        Some((_, meaning)) => Ok(Some(*meaning)),
        None => {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Err(bad(flag, &given, &format!("is none of {}", all.join(", "))))
        }
    }
}

fn bad(flag: &str, word: &str, why: &str) -> Error {
    Error::new(format!("--{flag}"), format!("{word:?} {why}"))
}

#[cfg(test)]
mod tests {
    use crate::cli::{Command, Line};
    use crate::criu::message::{CgroupMode, NetworkLock};

    fn command(line: &str) -> Result<Command, String> {
        let words: Vec<_> = std::iter::once("onggi").chain(line.split_whitespace()).map(Into::into).collect();
        Line::read(&words).and_then(|line| line.command()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_checkpoint_with_everything() {
        let line = "checkpoint --image-path I --work-path W --parent-path ../p --leave-running --leave-running --page-server \
                    [::1]:7 --status-fd 5 --manage-cgroups-mode ignore --empty-ns network --network-lock=skip c";
        let Ok(Command::Checkpoint(args)) = command(line) else { panic!("{:?}", command(line)) };
        assert!(args.leave_running && !args.pre_dump);
        assert_eq!(args.parent_path, Some("../p".into()));
        assert_eq!((args.page_server, args.status_fd), (Some(("::1".into(), 7)), Some(5)));
        assert_eq!(args.criu.cgroup_mode, Some(CgroupMode::Ignore));
        assert_eq!((args.criu.empty_ns, args.criu.network_lock), (0x4000_0000, Some(NetworkLock::Skip)));
    }

    #[test]
    fn a_restore_as_containerd_and_conmon_write_it() {
        for line in [
            "restore --image-path I --work-path W --parent-path P --detach --pid-file F --no-pivot -no-subreaper --bundle B c",
            "restore --bundle B --pid-file F --no-new-keyring --detach --image-path I --work-path B --lsm-profile=selinux:L c",
        ] {
            let Ok(Command::Restore(args)) = command(line) else { panic!("{:?}", command(line)) };
            assert!(args.detach && args.create.bundle == Some("B".into()), "{line}");
        }
    }

    #[test]
    fn wrong_words_are_named() {
        for (line, words) in [
            ("checkpoint --manage-cgroups-mode x c", "--manage-cgroups-mode: \"x\" is none of soft, full, strict, ignore"),
            ("checkpoint --empty-ns ipc c", "namespace \"ipc\" is not supported"),
            ("checkpoint --page-server host c", "--page-server: \"host\" is not ADDRESS:PORT"),
            ("checkpoint --status-fd x c", "--status-fd: \"x\" is not a descriptor's number"),
            ("restore --lsm-mount-context", "flag needs an argument: --lsm-mount-context"),
        ] {
            assert!(command(line).unwrap_err().contains(words), "{:?}", command(line));
        }
    }
}
