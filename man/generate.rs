//! Writes the man pages and the shell completions from the table of commands: `cargo run --example man -- DIR` makes
//! DIR/*.8 and DIR/completions. They are kept in the repository, so that an installation needs no build of this.

use clap::{Arg, ArgAction, Command};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use onggi::cli::definition::{VERBS, program};
use std::fs;
use std::io::Result;
use std::path::Path;

const NAME: &str = "onggi";

fn main() -> Result<()> {
    let dir = std::env::args_os().nth(1).unwrap_or_else(|| "man".into());
    write(Path::new(&dir))
}

/// Everything, under `dir`.
pub(crate) fn write(dir: &Path) -> Result<()> {
    let completions = dir.join("completions");
    fs::create_dir_all(&completions)?;
    page(dir, NAME, program(NAME))?;
    for verb in VERBS {
        let name = format!("{NAME}-{}", verb.name);
        // clap shows help for itself; a page names the flag too.
        let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).help("print help");
        page(dir, &name, verb.command().bin_name(format!("{NAME} {}", verb.name)).disable_help_flag(true).arg(help))?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut program(NAME), NAME, &completions)?;
    }
    Ok(())
}

/// One page. It has neither date nor version: it would change without a change.
fn page(dir: &Path, name: &str, command: Command) -> Result<()> {
    let man = Man::new(command.display_name(name.to_owned()))
        .title(name)
        .section("8")
        .source(NAME)
        .manual("System Administration")
        .date("");
    let mut text = Vec::new();
    man.render(&mut text)?;
    fs::write(dir.join(format!("{name}.8")), text)
}
