//! Every command and every flag, once: one table that the parser, `--help`, the man pages and the completions are made from.
//!
//! It is not the meaning of a flag: that is in `super`, where the table's words become types.

use clap::{Arg, ArgAction, Command, builder::OsStringValueParser};

/// A flag of a command or of the program.
#[derive(Debug)]
pub struct Flag {
    /// Name without the two dashes.
    pub long: &'static str,
    /// One letter, for `-x`.
    pub short: Option<char>,
    /// What help calls the argument; `None` for a switch.
    pub value: Option<&'static str>,
    /// Each occurrence adds a value. Other options keep the last one.
    pub repeats: bool,
    /// Accepted because callers send it, and not worth a line of help.
    pub hidden: bool,
    /// One line.
    pub help: &'static str,
}

const fn switch(long: &'static str, help: &'static str) -> Flag {
    Flag { long, short: None, value: None, repeats: false, hidden: false, help }
}

const fn option(long: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { long, short: None, value: Some(value), repeats: false, hidden: false, help }
}

impl Flag {
    const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    const fn repeats(mut self) -> Self {
        self.repeats = true;
        self
    }

    const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.long).long(self.long).help(self.help).hide(self.hidden);
        let arg = match self.short {
            Some(letter) => arg.short(letter),
            None => arg,
        };
        match self.value {
            None => arg.action(ArgAction::SetTrue),
            Some(name) => arg.value_name(name).value_parser(OsStringValueParser::new()).action(if self.repeats {
                ArgAction::Append
            } else {
                ArgAction::Set
            }),
        }
    }
}

/// What a command takes besides flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operands {
    /// Nothing.
    None,
    /// The container id.
    Id,
    /// The container id and perhaps a signal.
    IdAndSignal,
    /// The container id, then words that are not this program's: all that follows the id is left as it is.
    IdAndRest(&'static str),
}

/// A command.
#[derive(Debug)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// What `--help` and the man page add; may be empty.
    pub details: &'static str,
    /// What it takes besides flags.
    pub operands: Operands,
    /// Its flags, in groups that commands share.
    pub flags: &'static [&'static [Flag]],
}

/// Container id, as the parser names it.
pub const ID: &str = "container-id";
/// Signal, as the parser names it.
pub const SIGNAL: &str = "signal";
/// What follows the id, as the parser names it.
pub const REST: &str = "rest";

/// Flags that stand before the command.
pub const GLOBAL: &[Flag] = &[
    option("root", "DIR", "directory of container state [default: /run/onggi, or $XDG_RUNTIME_DIR/onggi without root]"),
    option("log", "FILE", "append messages to FILE; an error is still printed on stderr"),
    option("log-format", "FORMAT", "text or json [default: text]"),
    option("log-level", "LEVEL", "least level that is logged: error, warning, info or debug [default: error]"),
    switch("debug", "the same as --log-level debug"),
    switch("systemd-cgroup", "make cgroups through systemd (cgroupsPath is slice:prefix:name)").short('s'),
    option("cgroup-manager", "MANAGER", "cgroupfs, systemd, or disabled: no cgroup, no limits [default: cgroupfs]"),
    option("rootless", "MODE", "true, false or auto; without effect: what the caller may do is found out"),
    option("criu", "FILE", "ignored; accepted for callers of old versions of runc").hidden(),
];

const BUNDLE: Flag = option("bundle", "DIR", "directory that holds config.json [default: .]").short('b');
const CONFIG: Flag = option("config", "FILE", "read FILE in the place of config.json, relative to the bundle").short('f');
const CONSOLE_SOCKET: Flag =
    option("console-socket", "PATH", "unix socket that is sent the master end of the container's terminal");
const PIDFD_SOCKET: Flag = option("pidfd-socket", "PATH", "unix socket that is sent a pidfd of the container's first process");
const PID_FILE: Flag = option("pid-file", "FILE", "write the pid of the new process to FILE");
const NO_PIVOT: Flag = switch("no-pivot", "do not use pivot_root (for a root filesystem on a ramdisk)");
const PRESERVE_FDS: Flag = option("preserve-fds", "N", "pass N more file descriptors, from 3 + $LISTEN_FDS on [default: 0]");
const NO_SUBREAPER: Flag = switch("no-subreaper", "do not reap processes that the container leaves behind");
const DETACH: Flag = switch("detach", "leave once the process runs").short('d');

const MAKE: &[Flag] = &[
    BUNDLE,
    CONFIG,
    CONSOLE_SOCKET,
    PIDFD_SOCKET,
    PID_FILE,
    NO_PIVOT,
    switch("no-new-keyring", "keep the caller's session keyring"),
    PRESERVE_FDS,
];

const FORMAT_TABLE: Flag = option("format", "FORMAT", "table or json [default: table]").short('f');

const CRIU: &[Flag] = &[
    option("image-path", "DIR", "directory of the image files [default: ./checkpoint]"),
    option("work-path", "DIR", "directory of CRIU's log and other work files [default: that of the images]"),
    switch("tcp-established", "allow open TCP connections"),
    switch("ext-unix-sk", "allow unix sockets whose other end is outside"),
    switch("shell-job", "allow a terminal that is outside"),
    switch("lazy-pages", "leave memory to be fetched on demand, by criu lazy-pages"),
    switch("file-locks", "keep file locks"),
    option("manage-cgroups-mode", "MODE", "soft, full, strict or ignore [default: soft]"),
    option("empty-ns", "NAMESPACE", "leave out what the namespace holds: network").repeats(),
    switch("auto-dedup", "drop pages from an earlier image once they are saved or restored"),
    option("network-lock", "METHOD", "iptables, nftables or skip"),
];

const PARENT_PATH: Flag = option("parent-path", "DIR", "images of an earlier pre-dump, relative to the image directory");

const CREATE_DETAILS: &str = "Makes the container that DIR/config.json describes, up to the point before its program runs: namespaces, mounts, \
     cgroup and limits are in place, and the first process waits for `start`.\n\nThe container id is yours to choose: letters, digits and _ + . -, \
     at most 255, no - in front, unique under the state root.";

/// The commands, in the order of help.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "run",
        about: "create and start a container, wait for it, delete it",
        details: "The exit status is that of the container's first process, or 128 + N when signal N ended it. Signals \
             sent to this command are passed on to the container.\n\nWith --detach the command leaves once the program runs.\n\n\
             With NOTIFY_SOCKET (a unit of systemd with Type=notify) the program finds a socket at /run/notify/notify.sock, and its \
             READY=1 is passed on. With --detach the command then leaves once the program is ready.",
        operands: Operands::Id,
        flags: &[MAKE, &[DETACH, switch("keep", "do not delete the container when it ends"), NO_SUBREAPER]],
    },
    Verb {
        name: "create",
        about: "create a container whose program waits for start",
        details: CREATE_DETAILS,
        operands: Operands::Id,
        // Both are sent by callers that have one list of flags for create and run: create always detaches and is no subreaper.
        flags: &[MAKE, &[DETACH.hidden(), NO_SUBREAPER.hidden()]],
    },
    Verb {
        name: "start",
        about: "run the program of a created container",
        details: "Returns once the program runs and the poststart hooks have ended. Fails, with the reason, when the program cannot be \
             executed: the container is stopped then. A hook that fails takes the container away.\n\nWith \
             NOTIFY_SOCKET, here and at create, returns once the program has said READY=1 at /run/notify/notify.sock, and systemd \
             has heard of it and of the main process.",
        operands: Operands::Id,
        flags: &[],
    },
    Verb {
        name: "state",
        about: "print the state of a container as JSON",
        details: "The object is that of the OCI runtime specification with rootfs, created and owner added. The status is one of \
             creating, created, running, paused and stopped. Commands other than state and list know a container once it is created.",
        operands: Operands::Id,
        flags: &[],
    },
    Verb {
        name: "kill",
        about: "send a signal to a container",
        details: "The signal is a number or a name with or without SIG, in any case; SIGTERM when it is left out.",
        operands: Operands::IdAndSignal,
        flags: &[&[
            switch("all", "signal every process of the container").short('a'),
            switch("regex", "the id is a regular expression; signal all that match").short('r').hidden(),
        ]],
    },
    Verb {
        name: "delete",
        about: "remove a stopped container and all that was made for it",
        details: "With --force a running container is killed first, what an interrupted command left behind is removed, and an \
             unknown id is no error.",
        operands: Operands::Id,
        flags: &[&[
            switch("force", "kill the container first").short('f'),
            switch("regex", "the id is a regular expression; delete all that match").short('r').hidden(),
        ]],
    },
    Verb {
        name: "list",
        about: "list the containers under the state root",
        details: "A container whose state cannot be read is shown as unreadable; it is left out of JSON.",
        operands: Operands::None,
        flags: &[&[FORMAT_TABLE, switch("quiet", "ids only").short('q')]],
    },
    Verb {
        name: "spec",
        about: "write a config.json to start from",
        details: "The file runs `sh` on a terminal in the directory rootfs beside it. An existing config.json is never overwritten.",
        operands: Operands::None,
        flags: &[&[BUNDLE, switch("rootless", "for a user without root: a user namespace with the caller's ids")]],
    },
    Verb {
        name: "plan",
        about: "print what a bundle means on this host, step by step, and change nothing",
        details: "Each line is a step of the runtime (parent) or of the container's first process (child), with the field of \
             config.json that asks for it as a JSON pointer. Steps without one are what every container gets. Needs no root.",
        operands: Operands::None,
        flags: &[&[BUNDLE, option("format", "FORMAT", "text or json [default: text]").short('f')]],
    },
    Verb {
        name: "features",
        about: "print what this program supports as JSON",
        details: "The object is the features structure of the OCI runtime specification. It does not depend on the host, but for the seccomp flags that the kernel supports.",
        operands: Operands::None,
        flags: &[],
    },
    Verb {
        name: "exec",
        about: "run another process in a container",
        details: "The process is the container's own with the changes that the flags ask for, or what FILE says (a process \
             object as in config.json; - for stdin). The exit status is the process's, or 128 + N when signal N ended it, and \
             255 when it could not be run. Signals sent to this command are passed on to the process.\n\nWith --detach the \
             command leaves once the program runs.",
        operands: Operands::IdAndRest("command"),
        flags: &[&[
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            option("cwd", "DIR", "working directory in the container"),
            option("env", "NAME=VALUE", "add an environment variable").short('e').repeats(),
            switch("tty", "allocate a terminal").short('t'),
            option("user", "UID[:GID]", "numeric user and group").short('u'),
            option("additional-gids", "GID", "add a supplementary group").short('g').repeats(),
            option("process", "FILE", "take the process object from FILE, - for stdin").short('p'),
            DETACH,
            PID_FILE,
            option("process-label", "LABEL", "SELinux label of the process"),
            option("apparmor", "PROFILE", "AppArmor profile of the process"),
            switch("no-new-privs", "set no_new_privs"),
            option("cap", "CAP", "add a capability to the bounding, effective and permitted sets").short('c').repeats(),
            PRESERVE_FDS,
            option("cgroup", "PATH", "sub-cgroup of the container's to run in, which must exist").repeats(),
            switch("ignore-paused", "allow a paused container"),
        ]],
    },
    Verb {
        name: "ps",
        about: "list the processes of a container",
        details: "The table is that of ps(1), which is given the options that follow the id (-ef when there are none), with \
             the lines of other processes left out. In JSON it is an array of process ids, as the host counts them.",
        operands: Operands::IdAndRest("ps-options"),
        flags: &[&[FORMAT_TABLE]],
    },
    Verb {
        name: "events",
        about: "print statistics and events of a container",
        details: "One JSON object a line: statistics every --interval (a number with a unit: 500ms, 5s, 1m30s), and an event \
             each time that the out-of-memory killer killed in the container. Ends with the container.",
        operands: Operands::Id,
        flags: &[&[
            option("interval", "DURATION", "time between two statistics [default: 5s]"),
            switch("stats", "print statistics once and leave"),
        ]],
    },
    Verb {
        name: "update",
        about: "change the limits of a container",
        details: "Only what is given changes; the result is kept with the container's configuration. BYTES may have a unit: \
             512M, 1.5GiB. -1 takes a limit away.",
        operands: Operands::Id,
        flags: &[&[
            option("resources", "FILE", "a resources object, - for stdin").short('r'),
            option("blkio-weight", "N", "io weight, 10 to 1000"),
            option("cpu-period", "USEC", "period of the cpu limit"),
            option("cpu-quota", "USEC", "cpu time in a period"),
            option("cpu-burst", "USEC", "cpu time that may be saved up"),
            option("cpu-share", "N", "relative cpu weight"),
            option("cpu-rt-period", "USEC", "real-time period (cgroup v1)"),
            option("cpu-rt-runtime", "USEC", "real-time runtime (cgroup v1)"),
            option("cpu-idle", "0|1", "run only when nothing else wants the cpu"),
            option("cpuset-cpus", "LIST", "cpus to use"),
            option("cpuset-mems", "LIST", "memory nodes to use"),
            option("kernel-memory", "BYTES", "obsolete").hidden(),
            option("kernel-memory-tcp", "BYTES", "obsolete").hidden(),
            option("memory", "BYTES", "memory limit"),
            option("memory-reservation", "BYTES", "memory that is protected"),
            option("memory-swap", "BYTES", "memory and swap together, -1 for no limit"),
            option("pids-limit", "N", "number of processes"),
            option("l3-cache-schema", "SCHEMA", "Intel RDT L3 cache schema"),
            option("mem-bw-schema", "SCHEMA", "Intel RDT memory bandwidth schema"),
        ]],
    },
    Verb {
        name: "pause",
        about: "stop all processes of a container",
        details: "They keep their memory and use no CPU until `resume`.",
        operands: Operands::Id,
        flags: &[],
    },
    Verb {
        name: "resume",
        about: "let a paused container go on",
        details: "All its processes run on from where they were stopped.",
        operands: Operands::Id,
        flags: &[],
    },
    Verb {
        name: "checkpoint",
        about: "save a running container with CRIU",
        details: "The images, and the log dump.log, are for `restore`. The container ends, and is deleted with its state, unless \
             --leave-running or --pre-dump says that it goes on. CRIU must be installed; the first of /etc/criu/onggi.conf and \
             /etc/criu/runc.conf, or what the annotation org.criu.config names, may change what is asked of it.",
        operands: Operands::Id,
        flags: &[
            CRIU,
            &[
                PARENT_PATH,
                switch("leave-running", "go on after the checkpoint"),
                switch("tcp-skip-in-flight", "skip TCP connections that are being made"),
                switch("link-remap", "allow files that are open under a removed name"),
                option("status-fd", "FD", "write a NUL to FD once the pages can be fetched (with --lazy-pages), and close it"),
                option("page-server", "ADDRESS:PORT", "send the pages to a page server"),
                switch("pre-dump", "save the memory only, and go on"),
            ],
        ],
    },
    Verb {
        name: "restore",
        about: "restore a container from a checkpoint",
        details: "The bundle must be as it was for the container that was saved: its mounts, devices and namespaces of others are \
             taken from there, and so are limits and hooks (prestart, createRuntime, poststart). Without --detach the command \
             waits for the container as `run` does. CRIU's log is restore.log.",
        operands: Operands::Id,
        flags: &[
            MAKE,
            CRIU,
            &[
                // containerd's library sends it here too.
                PARENT_PATH.hidden(),
                DETACH,
                NO_SUBREAPER,
                switch("keep", "do not delete the container when it ends"),
                switch("tcp-close", "close TCP connections"),
                option("lsm-profile", "TYPE:NAME", "security label of the restored processes"),
                option("lsm-mount-context", "CONTEXT", "SELinux context of mounts"),
            ],
        ],
    },
];

/// The command of this name.
pub fn verb(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|v| v.name == name)
}

impl Verb {
    /// All its flags.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        self.flags.iter().copied().flatten()
    }

    /// The command as clap wants it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.name).about(self.about).args_override_self(true).args(self.flags().map(Flag::arg));
        if !self.details.is_empty() {
            command = command.long_about(wrap(&format!("{}.\n\n{}", upper_first(self.about), self.details)));
        }
        let id = || {
            Arg::new(ID).value_name("CONTAINER").required(true).value_parser(OsStringValueParser::new()).help("the container id")
        };
        match self.operands {
            Operands::None => command,
            Operands::Id => command.arg(id()),
            Operands::IdAndSignal => command.arg(id()).arg(
                Arg::new(SIGNAL)
                    .value_name("SIGNAL")
                    .value_parser(OsStringValueParser::new())
                    .help("number or name [default: SIGTERM]"),
            ),
            Operands::IdAndRest(what) => command.arg(id()).arg(
                Arg::new(REST)
                    .value_name(what)
                    .num_args(0..)
                    .value_parser(OsStringValueParser::new())
                    .help("left as it is, flags too"),
            ),
        }
    }
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Columns of help. clap would need two more crates to break lines.
const COLUMNS: usize = 90;

/// Breaks the lines of a text, but for those that are indented.
fn wrap(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for line in text.split('\n') {
        let mut column = 0;
        for word in line.split(if line.starts_with(' ') { '\n' } else { ' ' }) {
            if column > 0 && column + 1 + word.len() > COLUMNS {
                out.push('\n');
                column = 0;
            } else if column > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += word.len();
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}

/// The whole program as clap wants it, called `name`: for help, man pages and completions.
pub fn program(name: &'static str) -> Command {
    Command::new(name)
        .about("OCI container runtime: one static program that makes the container that a bundle describes")
        .long_about(wrap(
            "Onggi makes containers from OCI bundles: a directory with a config.json and a root filesystem. It reads the \
             configuration, makes the container, and leaves; an engine such as containerd, Docker or Podman does the rest, \
             or you do, by hand:\n\n    mkdir -p box/rootfs   # fill it with a root filesystem\n    onggi spec -b box\n    \
             onggi run -b box my-container\n\nA command that fails prints one line, field: step: cause (hint), where the field is a \
             JSON pointer into config.json, and ends with exit status 1.",
        ))
        .subcommand_required(false)
        .disable_version_flag(true)
        .arg(
            Arg::new("version")
                .long("version")
                .short('v')
                .action(ArgAction::SetTrue)
                .help("print name, commit and specification"),
        )
        .args(GLOBAL.iter().map(Flag::arg))
        .subcommands(VERBS.iter().map(Verb::command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_a_sound_program() {
        program("onggi").debug_assert();
        for verb in VERBS {
            verb.command().debug_assert();
        }
    }

    #[test]
    fn lines_are_broken_between_words() {
        let line = "word ".repeat(40);
        let text = wrap(&format!("{}\n\n    {}\nend", line.trim_end(), "x".repeat(100)));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0].len(), lines[3].len()), (6, 89, 0));
        assert_eq!((lines[4].len(), lines[5]), (104, "end"));
        assert_eq!(lines[..3].join(" "), line.trim_end());
    }
}
