//! The words of the command line brought into one form, before they are given their meaning.
//!
//! Callers of runc rely on things that a strict parser refuses (Go's flag package, urfave/cli): one dash before a long
//! name (`-no-subreaper`), repeated flags (the last wins), `--switch=false`, flags after the container id, and after
//! `exec ID` or `ps ID` nothing that is ours. Lines with something wrong are clap's, to say what.

use super::definition::{Flag, GLOBAL, Operands, Verb};
use crate::error::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A flag with its argument; switches that were taken back by `=false` are not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Name without dashes.
    pub long: &'static str,
    /// The argument; `None` for a switch.
    pub value: Option<OsString>,
}

/// The line in its parts.
#[derive(Debug)]
pub struct Words {
    /// Flags before the command, in order.
    pub global: Vec<Given>,
    /// `--help` or `-h` stands before the command.
    pub help: bool,
    /// `--version` or `-v` stands before the command.
    pub version: bool,
    /// The word that names the command.
    pub verb: Option<OsString>,
    /// What follows it.
    pub rest: Vec<OsString>,
}

/// Takes the flags before the command apart from the command. `argv` is without the program's name.
pub fn split(argv: &[OsString]) -> Result<Words> {
    let mut words = Words { global: Vec::new(), help: false, version: false, verb: None, rest: Vec::new() };
    let mut at = 0;
    while let Some(word) = argv.get(at) {
        at += 1;
        if !is_flag(word) {
            words.verb = Some(word.clone());
            words.rest = argv.get(at..).unwrap_or_default().to_vec();
            break;
        }
        match word.as_bytes() {
            b"--" => continue,
            b"-h" | b"-help" | b"--help" | b"-?" => words.help = true,
            b"-v" | b"-V" | b"-version" | b"--version" => words.version = true,
            _ => match known(word, || GLOBAL.iter()) {
                Some((flag, value)) => take(flag, value, argv, &mut at, &mut words.global)?,
                None => return Err(Error::new("usage", format!("unknown flag {}", word.display()))),
            },
        }
    }
    Ok(words)
}

/// The words of a command, taken apart: what the commands are made from.
#[derive(Debug, Default)]
pub struct Matches {
    /// Its flags. One that does not repeat is here once.
    given: Vec<Given>,
    /// Words that look like flags and are none of its own, or ask for help.
    unknown: Vec<OsString>,
    operands: Vec<OsString>,
}

/// Takes the words after the command apart.
pub fn parse(verb: &Verb, rest: &[OsString]) -> Result<Matches> {
    let mut given: Vec<Given> = Vec::new();
    let mut unknown = Vec::new();
    let mut operands: Vec<OsString> = Vec::new();
    let mut at = 0;
    while let Some(word) = rest.get(at) {
        at += 1;
        if word == "--" {
            operands.extend_from_slice(rest.get(at..).unwrap_or_default());
            break;
        }
        if !is_flag(word) {
            operands.push(word.clone());
            if matches!(verb.operands, Operands::IdAndRest(_)) {
                operands.extend_from_slice(rest.get(at..).unwrap_or_default());
                break;
            }
            continue;
        }
        match known(word, || verb.flags()) {
            Some((flag, value)) => take(flag, value, rest, &mut at, &mut given)?,
            None if word == "-help" || word == "-?" => unknown.push("--help".into()),
            None => unknown.push(word.clone()),
        }
    }
    // The last wins; clap would refuse the second.
    let repeats = |long: &str| verb.flags().any(|f| f.long == long && f.repeats);
    let mut last = Vec::with_capacity(given.len());
    while let Some(flag) = given.pop() {
        if repeats(flag.long) || last.iter().all(|later: &Given| later.long != flag.long) {
            last.push(flag);
        }
    }
    last.reverse();
    Ok(Matches { given: last, unknown, operands })
}

impl Matches {
    /// Whether clap would find nothing wrong with them, and nothing to explain. Most lines are so, and are spared its work.
    pub fn fit(&self, verb: &Verb) -> bool {
        let count = match verb.operands {
            Operands::None => 0..=0,
            Operands::Id => 1..=1,
            Operands::IdAndSignal => 1..=2,
            Operands::IdAndRest(_) => 1..=usize::MAX,
        };
        self.unknown.is_empty() && count.contains(&self.operands.len())
    }

    /// The words as clap reads them without surprise: `--flag`, `--flag=value`, `--`, operands.
    pub fn words(&self) -> Vec<OsString> {
        let mut out = Vec::with_capacity(self.given.len() + self.unknown.len() + self.operands.len() + 1);
        for flag in &self.given {
            let mut word = OsString::from(format!("--{}", flag.long));
            if let Some(value) = &flag.value {
                word.push("=");
                word.push(value);
            }
            out.push(word);
        }
        out.extend_from_slice(&self.unknown);
        if !self.operands.is_empty() {
            out.push("--".into());
            out.extend_from_slice(&self.operands);
        }
        out
    }

    /// Whether the switch is there.
    pub fn get_flag(&self, long: &str) -> bool {
        self.given.iter().any(|g| g.long == long)
    }

    /// The flag's argument.
    pub fn get_one(&self, long: &str) -> Option<&OsString> {
        self.get_many(long).last()
    }

    /// The arguments of a flag that repeats.
    pub fn get_many(&self, long: &str) -> impl Iterator<Item = &OsString> {
        self.given.iter().filter(move |g| g.long == long).filter_map(|g| g.value.as_ref())
    }

    /// The words that are no flags: the container's id first, where the command takes one.
    pub fn operands(&self) -> &[OsString] {
        &self.operands
    }
}

/// A lone `-` is an operand or an argument (stdin).
fn is_flag(word: &OsStr) -> bool {
    matches!(word.as_bytes(), [b'-', _, ..])
}

/// The flag that a word names, with the part after `=`. Long names take one dash or two, short ones one.
fn known<I>(word: &OsStr, flags: impl Fn() -> I) -> Option<(&'static Flag, Option<OsString>)>
where
    I: Iterator<Item = &'static Flag>,
{
    let bytes = word.as_bytes();
    let body = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"))?;
    let mut parts = body.splitn(2, |&b| b == b'=');
    let name = parts.next().unwrap_or_default();
    let value = parts.next().map(|value| OsString::from_vec(value.to_vec()));
    let name = std::str::from_utf8(name).ok()?;
    let long = flags().find(|f| f.long == name);
    let two_dashes = bytes.starts_with(b"--");
    long.or_else(|| flags().find(|f| !two_dashes && f.short.is_some_and(|c| name.len() == 1 && name.starts_with(c))))
        .map(|f| (f, value))
}

/// Takes one flag with its argument from the line.
fn take(flag: &'static Flag, value: Option<OsString>, words: &[OsString], at: &mut usize, given: &mut Vec<Given>) -> Result<()> {
    if flag.value.is_some() {
        let value = match value {
            Some(value) => value,
            None => {
                // Podman probes for `flag needs an argument` or `requires an argument` in `restore --lsm-mount-context`.
                let next = words.get(*at).ok_or_else(|| Error::exact(format!("flag needs an argument: --{}", flag.long)))?;
                *at += 1;
                next.clone()
            }
        };
        given.push(Given { long: flag.long, value: Some(value) });
        return Ok(());
    }
    // Go's strconv.ParseBool.
    match value.as_deref().map(OsStr::as_bytes) {
        None | Some(b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True") => given.push(Given { long: flag.long, value: None }),
        Some(b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False") => given.retain(|g| g.long != flag.long),
        Some(other) => {
            return Err(Error::new(
                format!("--{}", flag.long),
                format!("{:?} is neither true nor false", OsStr::from_bytes(other)),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::definition::{VERBS, verb};
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect()
    }

    fn normal(name: &str, line: &str) -> String {
        let out = parse(verb(name).unwrap(), &words(line)).unwrap().words();
        out.iter().map(|w| w.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn forms_that_callers_use() {
        for (name, line, want) in [
            ("restore", "-no-subreaper --bundle B id", "--no-subreaper --bundle=B -- id"),
            ("delete", "id -f", "--force -- id"),
            ("kill", "id -a 9", "--all -- id 9"),
            ("run", "--detach=true --keep=false id", "--detach -- id"),
            ("run", "--keep --keep=false id", "-- id"),
            ("create", "-b A --bundle B id", "--bundle=B -- id"),
            ("checkpoint", "--leave-running id --leave-running", "--leave-running -- id"),
            ("update", "--resources - id", "--resources=- -- id"),
            ("exec", "-e A=1 --env=B=2 id ls -e -- -d", "--env=A=1 --env=B=2 -- id ls -e -- -d"),
            ("ps", "-f json id -f", "--format=json -- id -f"),
            ("kill", "-- id 9", "-- id 9"),
            ("list", "--nope", "--nope"),
        ] {
            assert_eq!(normal(name, line), want, "{name} {line}");
        }
    }

    #[test]
    fn a_flag_at_the_end_says_what_it_lacks() {
        let error = parse(verb("restore").unwrap(), &words("--lsm-mount-context")).unwrap_err();
        assert_eq!(error.to_string(), "flag needs an argument: --lsm-mount-context");
    }

    #[test]
    fn flags_before_the_command_end_at_the_command() {
        let w = split(&words("--root=A -root B -s --debug=0 create --root C")).unwrap();
        assert_eq!(w.verb.as_deref(), Some(OsStr::new("create")));
        assert_eq!(w.rest, words("--root C"));
        let last = w.global.iter().rfind(|g| g.long == "root").unwrap();
        assert_eq!(last.value.as_deref(), Some(OsStr::new("B")));
        assert!(w.global.iter().any(|g| g.long == "systemd-cgroup") && !w.global.iter().any(|g| g.long == "debug"));
    }

    #[test]
    fn a_switch_is_true_or_false() {
        assert!(parse(verb("run").unwrap(), &words("--keep=maybe id")).is_err());
    }

    /// What is made without clap is what clap would have taken.
    #[test]
    fn what_fits_is_what_clap_takes() {
        for verb in VERBS {
            for line in
                ["", "id", "id x", "id x y", "-h", "id --help", "id --nope", "-d id", "--bundle B id", "--format= id", "-f id x"]
            {
                let Ok(found) = parse(verb, &words(line)) else { continue };
                let taken = verb.command().no_binary_name(true).try_get_matches_from(found.words());
                assert_eq!(found.fit(verb), taken.is_ok(), "{} {line}", verb.name);
            }
        }
    }

    #[test]
    fn of_flags_the_last_counts_or_all() {
        let found = parse(verb("exec").unwrap(), &words("-e A --cwd X -t -e B --cwd=Y id ls -t")).unwrap();
        assert_eq!(found.get_many("env").collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(found.get_one("cwd").map(OsString::as_os_str), Some(OsStr::new("Y")));
        assert!(found.get_flag("tty") && !found.get_flag("detach"));
        assert_eq!(found.operands(), ["id", "ls", "-t"]);
    }
}
