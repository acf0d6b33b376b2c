//! The command line: from words to a typed [`Command`], with every flag once, in [`definition`].
//!
//! It decides nothing that needs the host or a bundle. A flag whose work is not there yet is accepted only where
//! ignoring it is harmless, else refused by name.

mod argv;
mod command;
mod control;
mod criu;
pub mod definition;

pub use command::*;

use crate::error::{Error, Result};
use crate::log::{Format, Level};
use argv::Matches;
use clap::error::ErrorKind;
use definition::{Verb, program, verb};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The line with its global part understood: known before the command is, so that a wrong command can be logged.
#[derive(Debug)]
pub struct Line {
    /// The flags before the command.
    pub global: Global,
    /// Name of the program for help: `runc` when called so, else `onggi`.
    pub program: &'static str,
    words: argv::Words,
}

impl Line {
    /// Reads the global flags. `args` begins with the name that the program was called by.
    pub fn read(args: &[OsString]) -> Result<Self> {
        let words = argv::split(args.get(1..).unwrap_or_default())?;
        Ok(Self { global: global(&words.global)?, program: program_name(args.first()), words })
    }

    /// Exit status of a failure: callers tell the runtime's own failure in `exec` by 255.
    pub fn failure(&self) -> u8 {
        if self.enters() { 255 } else { 1 }
    }

    /// Whether the command may bring a process into a container that is there.
    pub fn enters(&self) -> bool {
        self.words.verb.as_deref() == Some(OsStr::new("exec"))
    }

    /// What is to be done.
    pub fn command(&self) -> Result<Command> {
        let words = &self.words;
        if words.version {
            return Ok(Command::Version);
        }
        let Some(name) = words.verb.as_ref().filter(|_| !words.help) else {
            return Ok(Command::Help(program(self.program).render_long_help().to_string()));
        };
        if name == "help" || name == "h" {
            return help(self.program, words.rest.first());
        }
        let verb = find(name)?;
        match matches(self.program, verb, &words.rest)? {
            Ok(m) => typed(verb, &m),
            Err(help) => Ok(Command::Help(help)),
        }
    }

    /// Checks the words of the command against the table, also those of a command whose work is not there yet.
    pub fn check(&self) -> Result<()> {
        let Some(name) = &self.words.verb else { return Ok(()) };
        matches(self.program, find(name)?, &self.words.rest).map(|_| ())
    }
}

/// `runc` where the binary is installed under that name: nerdctl and go-runc look for it in `--version`.
fn program_name(argv0: Option<&OsString>) -> &'static str {
    let base = argv0.map(|a| a.to_string_lossy());
    if base.is_some_and(|b| b.rsplit('/').next() == Some("runc")) { "runc" } else { "onggi" }
}

fn find(name: &OsStr) -> Result<&'static Verb> {
    name.to_str().and_then(verb).ok_or_else(|| {
        // The second half in runc's words.
        let cause = format!("unknown command {name:?}: No help topic for '{}'", name.display());
        Error::new("usage", cause).hint("see onggi --help")
    })
}

fn help(program_name: &'static str, of: Option<&OsString>) -> Result<Command> {
    let Some(name) = of else {
        return Ok(Command::Help(program(program_name).render_long_help().to_string()));
    };
    let verb = find(name)?;
    Ok(Command::Help(verb.command().bin_name(format!("{program_name} {}", verb.name)).render_long_help().to_string()))
}

/// The words of a command, or the help that was asked for. Where they do not fit the command, clap says why.
fn matches(program: &str, verb: &Verb, rest: &[OsString]) -> Result<std::result::Result<Matches, String>> {
    let found = argv::parse(verb, rest).map_err(|e| e.context(verb.name))?;
    if found.fit(verb) {
        return Ok(Ok(found));
    }
    let command = verb.command().no_binary_name(true).bin_name(format!("{program} {}", verb.name));
    match command.try_get_matches_from(found.words()) {
        Ok(_) => Ok(Ok(found)),
        Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp) => Ok(Err(e.to_string())),
        Err(e) => Err(Error::new(verb.name, one_line(&e.to_string())).hint(format!("see {program} {} --help", verb.name))),
    }
}

/// clap's message up to the first empty line: the rest is usage, which `--help` has in full.
fn one_line(text: &str) -> String {
    let message = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = message.trim_start_matches("error: ").split_whitespace().collect();
    words.join(" ")
}

fn global(given: &[argv::Given]) -> Result<Global> {
    let mut global = Global {
        root: None,
        log: None,
        log_format: Format::Text,
        log_level: Level::Error,
        cgroup_manager: CgroupManager::Cgroupfs,
        rootless: Rootless::Auto,
    };
    for flag in given {
        let value = flag.value.clone().unwrap_or_default();
        match flag.long {
            "root" => global.root = path(value),
            "log" => global.log = path(value),
            "log-format" => {
                global.log_format =
                    choice(&value, "log-format", &[("text", Format::Text), ("json", Format::Json), ("", Format::Text)])?;
            }
            "log-level" => {
                let levels = [
                    ("error", Level::Error),
                    ("warning", Level::Warning),
                    ("warn", Level::Warning),
                    ("info", Level::Info),
                    ("debug", Level::Debug),
                ];
                global.log_level = choice(&value, "log-level", &levels)?;
            }
            "debug" => global.log_level = Level::Debug,
            "systemd-cgroup" => global.cgroup_manager = CgroupManager::Systemd,
            "cgroup-manager" => {
                let managers = [
                    ("cgroupfs", CgroupManager::Cgroupfs),
                    ("systemd", CgroupManager::Systemd),
                    ("disabled", CgroupManager::Disabled),
                ];
                global.cgroup_manager = choice(&value, "cgroup-manager", &managers)?;
            }
            "rootless" => {
                global.rootless = choice(
                    &value,
                    "rootless",
                    &[("auto", Rootless::Auto), ("true", Rootless::True), ("false", Rootless::False)],
                )?;
            }
            // `criu` is ignored, as runc does since 1.1.
            _ => {}
        }
    }
    Ok(global)
}

/// An empty argument counts as none, as in callers written in Go.
fn path(value: OsString) -> Option<PathBuf> {
    (!value.is_empty()).then(|| PathBuf::from(value))
}

fn choice<T: Copy>(value: &OsStr, flag: &str, words: &[(&str, T)]) -> Result<T> {
    match words.iter().find(|(word, _)| value == *word) {
        Some((_, meaning)) => Ok(*meaning),
        None => Err(Error::new(format!("invalid {flag}"), value.to_string_lossy())),
    }
}

/// The words in the types that commands take.
fn typed(verb: &'static Verb, m: &Matches) -> Result<Command> {
    let path_of = |flag: &str| m.get_one(flag).cloned().and_then(path);
    let lossy = |word: Option<&OsString>| word.map(|v| v.to_string_lossy().into_owned()).unwrap_or_default();
    let text = |name: &str| lossy(m.get_one(name));
    let named = || lossy(m.operands().first());
    let id = || container_id(&named());
    let made = || -> Result<CreateArgs> {
        Ok(CreateArgs {
            bundle: path_of("bundle"),
            config: path_of("config"),
            console_socket: path_of("console-socket"),
            pidfd_socket: path_of("pidfd-socket"),
            pid_file: path_of("pid-file"),
            no_pivot: m.get_flag("no-pivot"),
            no_new_keyring: m.get_flag("no-new-keyring"),
            preserve_fds: number(&text("preserve-fds"), "preserve-fds")?,
            id: id()?,
        })
    };
    Ok(match verb.name {
        "create" => Command::Create(made()?),
        "run" => Command::Run(RunArgs {
            create: made()?,
            detach: m.get_flag("detach"),
            keep: m.get_flag("keep"),
            no_subreaper: m.get_flag("no-subreaper"),
        }),
        "start" => Command::Start { id: id()? },
        "state" => Command::State { id: id()? },
        "kill" => {
            let regex = m.get_flag("regex");
            let signal = Some(lossy(m.operands().get(1))).filter(|s| !s.is_empty()).unwrap_or_else(|| "SIGTERM".into());
            Command::Kill(KillArgs { id: if regex { named() } else { id()? }, signal, all: m.get_flag("all"), regex })
        }
        "delete" => {
            let regex = m.get_flag("regex");
            Command::Delete(DeleteArgs { id: if regex { named() } else { id()? }, force: m.get_flag("force"), regex })
        }
        "list" => Command::List {
            format: format_of(
                &text("format"),
                &[("", ListFormat::Table), ("table", ListFormat::Table), ("json", ListFormat::Json)],
            )?,
            quiet: m.get_flag("quiet"),
        },
        "spec" => Command::Spec { bundle: path_of("bundle"), rootless: m.get_flag("rootless") },
        "plan" => Command::Plan {
            bundle: path_of("bundle"),
            json: format_of(&text("format"), &[("", false), ("text", false), ("json", true)])?,
        },
        "features" => Command::Features,
        "exec" => Command::Exec(control::exec(m, id()?)?),
        "ps" => Command::Ps { id: id()?, json: control::json(&text("format"))?, arguments: control::rest(m) },
        "pause" => Command::Pause { id: id()? },
        "resume" => Command::Resume { id: id()? },
        "events" => Command::Events { id: id()?, interval: control::interval(&text("interval"))?, stats: m.get_flag("stats") },
        "update" => Command::Update(control::update(m, id()?)?),
        "checkpoint" => Command::Checkpoint(criu::checkpoint(m, id()?)?),
        "restore" => Command::Restore(criu::restore(m, made()?)?),
        name => return Err(Error::new(name, "is in the table of commands and has no meaning")),
    })
}

/// runc's words for a format that it does not know.
fn format_of<T: Copy>(value: &str, words: &[(&str, T)]) -> Result<T> {
    words
        .iter()
        .find(|(word, _)| value == *word)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| Error::exact("invalid format option"))
}

fn number(value: &str, flag: &str) -> Result<u32> {
    if value.is_empty() {
        return Ok(0);
    }
    value.parse().map_err(|_| Error::new(format!("--{flag}"), format!("{value:?} is not a number from 0 on")))
}

/// Longest container id, in bytes: it names a directory.
const ID_MAX: usize = 255;

/// Checks a container id: `[A-Za-z0-9_+.-]`, neither `.` nor `..`, no `-` in front (it would read as a flag), at most
/// 255 bytes. The words are runc's.
pub fn container_id(id: &str) -> Result<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+.-".contains(&b);
    let sound =
        !id.is_empty() && id.len() <= ID_MAX && id.bytes().all(allowed) && id != "." && id != ".." && !id.starts_with('-');
    if sound { Ok(id.to_owned()) } else { Err(Error::exact("invalid container ID format")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Line> {
        let words: Vec<OsString> = std::iter::once("onggi").chain(line.split_whitespace()).map(OsString::from).collect();
        Line::read(&words)
    }

    fn command(line: &str) -> Result<Command> {
        read(line)?.command()
    }

    #[test]
    fn create_with_everything() {
        let want = CreateArgs {
            bundle: Some("B".into()),
            config: Some("C".into()),
            console_socket: Some("S".into()),
            pidfd_socket: Some("F".into()),
            pid_file: Some("P".into()),
            no_pivot: true,
            no_new_keyring: true,
            preserve_fds: 2,
            id: "a1".into(),
        };
        let line = "create -b B -f C --console-socket S --pidfd-socket=F --pid-file P --no-pivot --no-new-keyring --preserve-fds 2 --detach a1";
        assert_eq!(command(line).unwrap(), Command::Create(want));
    }

    #[test]
    fn kill_defaults_to_term() {
        let want = KillArgs { id: "a".into(), signal: "SIGTERM".into(), all: false, regex: false };
        assert_eq!(command("kill a").unwrap(), Command::Kill(want));
        assert!(matches!(command("kill -a a 9").unwrap(), Command::Kill(KillArgs { all: true, .. })));
    }

    #[test]
    fn ids() {
        for good in ["a", "A_b+c.d-e", "...", "0", &"x".repeat(255)] {
            assert!(container_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "-a", "é", &"x".repeat(256)] {
            assert_eq!(container_id(bad).unwrap_err().to_string(), "invalid container ID format", "{bad}");
        }
    }

    #[test]
    fn the_cgroup_manager_can_be_named_twice() {
        let manager = |line: &str| read(line).unwrap().global.cgroup_manager;
        assert_eq!(manager("--systemd-cgroup create a"), CgroupManager::Systemd);
        assert_eq!(manager("--cgroup-manager systemd run a"), CgroupManager::Systemd);
        assert_eq!(manager("--systemd-cgroup --systemd-cgroup delete --force a"), CgroupManager::Systemd);
        assert_eq!(manager("--systemd-cgroup=false create a"), CgroupManager::Cgroupfs);
        assert_eq!(manager("--cgroup-manager=disabled create a"), CgroupManager::Disabled);
        assert!(command("--cgroup-manager podman create a").is_err());
    }

    #[test]
    fn the_name_runc_is_kept() {
        assert_eq!(program_name(Some(&"/usr/bin/runc".into())), "runc");
        assert_eq!(program_name(Some(&"./onggi".into())), "onggi");
    }
}
