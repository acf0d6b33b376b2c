//! NOTIFY_SOCKET: the directory with the runtime's socket, shown to the container, and the variable that names it there.

use super::{Action, Mount, Open, Slot, Source, Step, Tree, What, c_string};
use crate::config::{Spec, clean};
use crate::error::Result;
use crate::sys::mount::{Attrs, attr};
use std::path::Path;

/// Where the container has it: runc's place.
pub const TARGET: &str = "/run/notify";
/// What the program is told.
pub const VARIABLE: &str = "NOTIFY_SOCKET=/run/notify/notify.sock";

/// Whether the place is free. An engine that mounts something there (Podman: its monitor's socket) does this work itself.
pub fn is_free(spec: &Spec) -> bool {
    !spec.mounts.iter().any(|m| clean(&m.destination().to_string_lossy()) == TARGET)
}

/// Binds `directory`, in which the socket is made only at the start.
pub fn mount(directory: &Path, opens: &mut Vec<Open>, steps: &mut Vec<Step>) -> Result<()> {
    let slot = Slot(opens.len());
    let set = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let tree = Tree {
        nofollow: true,
        attrs: Attrs { set, ..Attrs::default() },
        propagation: vec![(libc::MS_PRIVATE, true)],
        ..Tree::default()
    };
    opens.push(Open { field: String::new(), path: c_string(&directory.to_string_lossy(), "")?, what: What::Tree(tree) });
    let mount = Mount {
        source: Source::Tree(slot),
        target: c_string(TARGET, "")?,
        strict: false,
        may_cover_proc: false,
        nofollow: false,
        kept: None,
        label: None,
    };
    steps.push(Step { field: String::new(), action: Action::Mount(mount) });
    Ok(())
}
