//! What the command line says, in types. It is not how it is said: that is in [`super::definition`].

use crate::log::{Format, Level};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What was said before the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// `--root`: directory of container state; `None` for the default of the store.
    pub root: Option<PathBuf>,
    /// `--log`: file for messages; `None` for stderr.
    pub log: Option<PathBuf>,
    /// `--log-format`.
    pub log_format: Format,
    /// `--log-level`, or `debug` by `--debug`.
    pub log_level: Level,
    /// `--cgroup-manager`, or `systemd` by `--systemd-cgroup`. Counts on `create`, `run` and `restore` only: afterwards
    /// what was stored counts, because callers leave the flag out (contract of the shim's `delete --force`).
    pub cgroup_manager: CgroupManager,
    /// `--rootless`.
    pub rootless: Rootless,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupManager {
    /// This program, in the cgroup2 file system.
    #[default]
    Cgroupfs,
    /// systemd.
    Systemd,
    /// Nobody: the container stays in the caller's cgroup (Podman's `--cgroups=disabled`).
    Disabled,
}

/// Whether missing cgroup rights are tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rootless {
    /// When the caller is not root of the initial user namespace.
    #[default]
    Auto,
    /// Always.
    True,
    /// Never.
    False,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `create`.
    Create(CreateArgs),
    /// `run`.
    Run(RunArgs),
    /// `start`.
    Start {
        /// The container.
        id: String,
    },
    /// `state`.
    State {
        /// The container.
        id: String,
    },
    /// `kill`.
    Kill(KillArgs),
    /// `delete`.
    Delete(DeleteArgs),
    /// `list`.
    List {
        /// `--format`.
        format: ListFormat,
        /// `--quiet`.
        quiet: bool,
    },
    /// `spec`.
    Spec {
        /// `--bundle`; `None` for the current directory.
        bundle: Option<PathBuf>,
        /// `--rootless`.
        rootless: bool,
    },
    /// `plan`.
    Plan {
        /// `--bundle`; `None` for the current directory.
        bundle: Option<PathBuf>,
        /// `--format`: JSON, not text.
        json: bool,
    },
    /// `exec`.
    Exec(ExecArgs),
    /// `ps`.
    Ps {
        /// The container.
        id: String,
        /// `--format`: JSON, not a table.
        json: bool,
        /// Arguments for ps(1).
        arguments: Vec<OsString>,
    },
    /// `pause`.
    Pause {
        /// The container.
        id: String,
    },
    /// `resume`.
    Resume {
        /// The container.
        id: String,
    },
    /// `events`.
    Events {
        /// The container.
        id: String,
        /// `--interval`.
        interval: Duration,
        /// `--stats`: once, and no events.
        stats: bool,
    },
    /// `update`.
    Update(UpdateArgs),
    /// `features`.
    Features,
    /// `--version`.
    Version,
    /// `--help` in its forms: the text.
    Help(String),
    /// A command of [`super::definition::NOT_YET`].
    NotYet(&'static str),
}

/// `create`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreateArgs {
    /// `--bundle`; `None` for the current directory.
    pub bundle: Option<PathBuf>,
    /// `--console-socket`.
    pub console_socket: Option<PathBuf>,
    /// `--pidfd-socket`.
    pub pidfd_socket: Option<PathBuf>,
    /// `--pid-file`, relative to the caller's directory.
    pub pid_file: Option<PathBuf>,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// `--preserve-fds`: descriptors to keep above those of `LISTEN_FDS`.
    pub preserve_fds: u32,
    /// The container.
    pub id: String,
}

/// `run`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunArgs {
    /// What it shares with `create`.
    pub create: CreateArgs,
    /// `--detach`.
    pub detach: bool,
    /// `--keep`.
    pub keep: bool,
    /// `--no-subreaper`.
    pub no_subreaper: bool,
}

/// `kill`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillArgs {
    /// The container, or the expression when `regex`.
    pub id: String,
    /// As given: a number or a name; `SIGTERM` by default.
    pub signal: String,
    /// `--all`.
    pub all: bool,
    /// `--regex`.
    pub regex: bool,
}

/// `delete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteArgs {
    /// The container, or the expression when `regex`.
    pub id: String,
    /// `--force`.
    pub force: bool,
    /// `--regex`.
    pub regex: bool,
}

/// `exec`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecArgs {
    /// The container.
    pub id: String,
    /// `--process`: a file with the process object, `-` for stdin. Without it the process is the container's own with
    /// the changes below.
    pub process: Option<PathBuf>,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `--cwd`.
    pub cwd: Option<String>,
    /// `--env`.
    pub env: Vec<String>,
    /// `--tty`.
    pub tty: bool,
    /// `--user`.
    pub user: Option<(u32, Option<u32>)>,
    /// `--additional-gids`.
    pub additional_gids: Vec<u32>,
    /// `--process-label`.
    pub process_label: Option<String>,
    /// `--apparmor`.
    pub apparmor: Option<String>,
    /// `--no-new-privs`.
    pub no_new_privs: bool,
    /// `--cap`.
    pub caps: Vec<String>,
    /// `--detach`.
    pub detach: bool,
    /// `--pid-file`, relative to the caller's directory.
    pub pid_file: Option<PathBuf>,
    /// `--console-socket`.
    pub console_socket: Option<PathBuf>,
    /// `--pidfd-socket`.
    pub pidfd_socket: Option<PathBuf>,
    /// `--preserve-fds`.
    pub preserve_fds: u32,
    /// `--cgroup`: below the container's.
    pub cgroup: Option<String>,
    /// `--ignore-paused`.
    pub ignore_paused: bool,
}

/// `update`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpdateArgs {
    /// The container.
    pub id: String,
    /// `--resources`: a file, `-` for stdin.
    pub resources: Option<PathBuf>,
    /// The other flags, as the `resources` object that they stand for.
    pub flags: serde_json::Value,
    /// `--l3-cache-schema` and `--mem-bw-schema`: members of `linux.intelRdt` and their values.
    pub rdt: Vec<(&'static str, String)>,
}

/// `list --format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListFormat {
    /// Columns for people.
    #[default]
    Table,
    /// An array of states.
    Json,
}
