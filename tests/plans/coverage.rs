//! Every kind of step, thing to open, and thing to mount occurs in some golden file.

use super::{captured, compile, executed, features};
use onggi::plan::{Action, Source, What};
use std::collections::BTreeSet;

/// Name of a step's kind. A new variant does not compile until it is named here, and fails until a case has it.
fn kind(action: &Action) -> &'static str {
    macro_rules! names {
        ($($name:ident),*) => {{
            const NAMES: &[&str] = &[$(stringify!($name)),*];
            let name = match action { $(Action::$name { .. } => stringify!($name)),* };
            (name, NAMES)
        }};
    }
    let (name, all) = names!(
        Signals,
        Undumpable,
        Join,
        Fork,
        Unshare,
        Pause,
        Identity,
        NewSession,
        Keyring,
        OpenProc,
        OpenAccount,
        ReadBack,
        OomScoreAdj,
        WriteProc,
        KeyLabel,
        ExecProfile,
        ExecLabel,
        Loopback,
        Propagation,
        PrivateParent,
        Opens,
        Root,
        Inside,
        Mount,
        Device,
        Symlink,
        Console,
        Hooks,
        NullStreams,
        Pivot,
        MoveRoot,
        Unexpose,
        RootPropagation,
        ReadonlyRoot,
        Mask,
        Readonly,
        Hostname,
        Domainname,
        Umask,
        Rlimit,
        Scheduler,
        Affinity,
        IoPriority,
        Personality,
        MemoryPolicy,
        MakeWorkingDirectory,
        WorkingDirectory,
        NoNewPrivileges,
        Home,
        StdioOwner,
        Bounding,
        Groups,
        User,
        Capabilities,
        Program,
        RuntimeLives,
        Seccomp,
        Release,
        Start,
        Exec
    );
    ALL.get_or_init(|| all);
    name
}

static ALL: std::sync::OnceLock<&[&str]> = std::sync::OnceLock::new();

#[test]
fn every_kind_of_step_is_in_some_case() {
    let mut seen = BTreeSet::new();
    for case in captured().iter().chain(&features()).chain(&executed()) {
        let Ok(plan) = compile(case) else { continue };
        for step in &plan.steps {
            seen.insert(kind(&step.action));
            match &step.action {
                Action::Mount(m) => seen.insert(match m.source {
                    Source::Tree(_) => "mount of a tree",
                    Source::Inside(_) => "mount of a tree of the container",
                    Source::Filesystem(_) => "mount of a file system",
                    Source::Remount(_) => "remount",
                }),
                Action::Pause(pause) => seen.insert(match pause {
                    onggi::plan::Pause::Mapped => "pause for the maps",
                    onggi::plan::Pause::Placed => "pause for systemd",
                    onggi::plan::Pause::Mounted => "pause for hooks",
                    onggi::plan::Pause::Filtered => "pause for the filter",
                    onggi::plan::Pause::Created => "pause for the commit",
                    onggi::plan::Pause::Cleared => "pause before the program",
                }),
                _ => false,
            };
        }
        for open in &plan.opens {
            seen.insert(match open.what {
                What::Namespace(_) => "open a namespace",
                What::Tree(_) => "open a tree",
                What::Inside(_) => "have a tree of the container cloned",
                What::Node(_) => "open a device node",
                What::Null => "open the null device",
                What::Append => "open a file to append to",
                What::Init => "take init",
            });
        }
        if !plan.namespaces.outer.is_empty() {
            seen.insert("enter around the clone");
        }
    }
    let other = [
        "mount of a tree",
        "mount of a tree of the container",
        "mount of a file system",
        "remount",
        "pause for the maps",
        "pause for systemd",
        "pause for hooks",
        "pause for the filter",
        "pause for the commit",
        "pause before the program",
        "open a namespace",
        "open a tree",
        "open a device node",
        "have a tree of the container cloned",
        "open the null device",
        "open a file to append to",
        "take init",
        "enter around the clone",
    ];
    let all = ALL.get().unwrap().iter().chain(&other);
    let missing: Vec<_> = all.filter(|name| !seen.contains(**name)).collect();
    assert!(missing.is_empty(), "in no golden file: {missing:?}");
}
