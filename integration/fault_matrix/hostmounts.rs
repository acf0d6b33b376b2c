//! F-17: whatever a container mounts, holds or shares, no command changes the host's mounts, not even for a moment.

use super::{OURS, sleeper};
use crate::bundle::{Bundle, Output};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use crate::stage::this_program_as;

pub fn cases() -> Vec<Case> {
    vec![
        case!(f_17_host_mounts_never_change).ours("others mount on the host's tree and take it away again"),
        case!(f_17_what_a_container_holds_does_not_keep_it).ours(OURS),
        case!(f_17_a_mount_that_comes_and_goes_is_seen),
    ]
}

/// A command of the runtime below the watcher.
fn watched(bundle: &Bundle, words: &[&str]) -> Output {
    let command = bundle.command(words);
    let mut watch = this_program_as("mountwatch");
    watch.arg(command.get_program()).args(command.get_args()).current_dir(bundle.dir());
    bundle.finish(watch)
}

fn f_17_host_mounts_never_change() {
    for propagation in ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", ""] {
        let source = sleeper();
        let path = source.dir().display().to_string();
        let mut bundle = Bundle::new()
            .sh("mount -t tmpfs tmpfs /tmp; cd /tmp; exec sleep 1000")
            .capabilities(&["CAP_SYS_ADMIN"])
            .mount("/shared", "bind", &path, &["rbind", "rshared"])
            .mount("/slave", "bind", &path, &["rbind", "rslave"])
            .mount("/copied", "tmpfs", "tmpfs", &["tmpcopyup"]);
        if !propagation.is_empty() {
            bundle = bundle.set("/linux/rootfsPropagation", propagation);
        }
        bundle.write();
        let before = Snapshot::of(&bundle);
        let id = bundle.id.as_str();
        for words in [
            vec!["create", id],
            vec!["start", id],
            vec!["exec", id, "true"],
            vec!["pause", id],
            vec!["resume", id],
            vec!["kill", id, "KILL"],
            vec!["delete", "--force", id],
            vec!["run", "--detach", id],
            vec!["delete", "--force", id],
        ] {
            let output = watched(&bundle, &words);
            assert_eq!(output.status, 0, "{propagation}: {words:?}: {output:?}");
            assert_eq!(output.stdout.lines().last(), Some("mounts same"), "{propagation}: {words:?}: {output:?}");
        }
        before.assert_unchanged();
    }
}

/// Its working directory, an open file and a mount of its own are in what is removed.
fn f_17_what_a_container_holds_does_not_keep_it() {
    let bundle = Bundle::new()
        .sh("mkdir -p /w/below; mount -t tmpfs tmpfs /w/below; exec 5>/w/file; cd /w/below; exec 6>held; sleep 1000 & wait")
        .capabilities(&["CAP_SYS_ADMIN"]);
    let before = Snapshot::of(&bundle);
    let container = bundle.detach();
    crate::bundle::eventually("it holds a file", || {
        std::fs::metadata(format!("/proc/{}/root/w/below/held", container.pid)).is_ok()
    });
    let start = std::time::Instant::now();
    container.ok("delete", &["--force"]);
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
    before.assert_unchanged();
    std::fs::remove_dir_all(bundle.rootfs().join("w")).expect("remove what it held");
}

fn f_17_a_mount_that_comes_and_goes_is_seen() {
    let bundle = Bundle::new();
    let watch = |script: &str| {
        let mut watch = this_program_as("mountwatch");
        watch.args(["sh", "-c", script]).current_dir(bundle.dir());
        bundle.finish(watch).stdout
    };
    assert_eq!(watch("mount -t tmpfs tmpfs rootfs/tmp; umount rootfs/tmp"), "mounts changed\n");
    assert_eq!(watch("unshare -m --propagation slave mount -t tmpfs tmpfs rootfs/tmp"), "mounts same\n");
}
