//! The shape of the source, read from it: floors, lengths, where `unsafe` may be, nothing unfinished, a page a command.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Longest file, in lines, unless it is a table.
const LONGEST: usize = 500;

/// Files that are one table of data.
const TABLES: [&str; 1] = ["seccomp/syscalls.rs"];

/// The floors of `src/lib.rs`, lowest first. A module uses lower floors, and of its own floor only what [`NEIGHBOURS`] has.
const FLOORS: [&[&str]; 7] = [
    &["error", "log", "sys"],
    &["config"],
    &["cgroup", "console", "criu", "hooks", "host", "idmap", "network", "notify", "rdt", "seal", "seccomp", "store"],
    &["plan"],
    &["sandbox"],
    &["commands"],
    &["cli", "main"],
];

/// Who may know whom on one floor.
const NEIGHBOURS: [(&str, &str); 4] = [
    // A description of the host has one of its cgroup hierarchy in it, and says where resctrl is mounted.
    ("host", "cgroup"),
    ("host", "rdt"),
    // The log writes errors with their parts.
    ("log", "error"),
    ("main", "cli"),
];

/// Steps up that are the shape of the thing: what the parser made of the arguments is what a command is given.
const UP: [(&str, &str); 1] = [("commands", "cli")];

/// Path below `src`, and text, of every file there.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let src = Path::new(ROOT).join("src");
    let mut files = Vec::new();
    walk(&src, &mut files);
    files.sort();
    let name = |path: &Path| path.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
    files.iter().filter(|p| p.extension().is_some_and(|e| e == "rs")).map(|p| (name(p), fs::read_to_string(p).unwrap())).collect()
}

/// What is compiled into the product: no unit tests at the foot, no comments.
fn product(text: &str) -> String {
    let end = text.find("\n#[cfg(test)]\nmod ").or(text.find("\n#[cfg(test)]\npub(super) mod ")).unwrap_or(text.len());
    let uncommented = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text[..end].lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

/// The module of `lib.rs` that a file belongs to.
fn module(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Modules named in `crate::x`, `crate::{x, y::z}`, and in `main.rs` `onggi::x`.
fn used(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate::", "onggi::"] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
            let Some(list) = rest.strip_prefix('{') else {
                found.insert(word(rest));
                continue;
            };
            let (mut depth, mut start) = (0, true);
            for (n, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if start && !c.is_whitespace() => {
                        found.insert(word(&list[n..]));
                        start = false;
                    }
                    _ => {}
                }
            }
        }
    }
    found
}

#[test]
fn imports_are_read() {
    let code = "use crate::{error::{A, B}, sys::x,\n  host}; crate::plan::y(); use crate::log;";
    assert_eq!(used(code).into_iter().collect::<Vec<_>>(), ["error", "host", "log", "plan", "sys"]);
}

#[test]
fn every_module_has_a_floor() {
    let modules: BTreeSet<_> = sources().iter().map(|(file, _)| module(file).to_owned()).filter(|m| m != "lib").collect();
    let floors: BTreeSet<_> = FLOORS.iter().flat_map(|floor| floor.iter().map(|m| (*m).to_owned())).collect();
    assert_eq!(modules, floors);
}

#[test]
fn a_file_uses_lower_floors_only() {
    let mut wrong = Vec::new();
    let mut needed = BTreeSet::new();
    for (file, text) in sources() {
        let Some(here) = floor(module(&file)) else { continue };
        for name in used(&product(&text)) {
            let Some(there) = floor(&name) else { continue };
            if there < here || name == module(&file) {
                continue;
            }
            let exception = NEIGHBOURS.iter().chain(&UP).find(|e| **e == (module(&file), name.as_str()));
            if !exception.is_some_and(|e| needed.insert(*e) || needed.contains(e)) {
                wrong.push(format!("{file} uses {name}"));
            }
        }
    }
    wrong.extend(NEIGHBOURS.iter().chain(&UP).filter(|e| !needed.contains(*e)).map(|e| format!("nobody needs {e:?}")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A plan is data: it must not be able to look at the machine.
#[test]
fn plans_and_configurations_do_no_input_or_output() {
    let forbidden = [
        "std::fs",
        "std::net",
        "std::process",
        "std::env::",
        "nix::unistd",
        "nix::mount",
        "nix::fcntl",
        "procfs::",
        "crate::sys::fs",
    ];
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let reader = file == "config/load.rs";
        if !matches!(module(&file), "plan" | "config") || reader {
            continue;
        }
        let code = product(&text);
        wrong.extend(forbidden.iter().filter(|name| code.contains(**name)).map(|name| format!("{file} uses {name}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(file, text)| !TABLES.contains(&file.as_str()) && text.lines().count() > LONGEST)
        .map(|(file, text)| format!("{file}: {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// The child reports a failed call by a name that the parent has a list of: one that is not in it would be left out.
#[test]
fn calls_of_the_child_have_names() {
    let sources = sources();
    let text = |file: &str| &sources.iter().find(|(name, _)| name == file).expect(file).1;
    let list = text("sandbox/words.rs").split_once("const CALLS").and_then(|(_, rest)| rest.split_once("];")).expect("a list").0;
    let mut said = 0;
    for (file, text) in sources.iter().filter(|(file, _)| file.starts_with("sandbox/")) {
        for call in product(text).split("call(\"").skip(1) {
            let name = call.split('"').next().unwrap_or_default();
            assert!(name.is_empty() || list.contains(&format!("\"{name}\"")), "{file}: {name}");
            said += 1;
        }
    }
    assert!(said > 50, "{said}");
}

#[test]
fn unsafe_is_in_sys_only() {
    let blocks = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "allow(unsafe_code)"];
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        // The one place that lets it be.
        let door = file == "lib.rs" || file == "main.rs";
        if module(&file) != "sys" && !door && blocks.iter().any(|b| text.contains(b)) {
            wrong.push(file);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn nothing_is_unfinished() {
    let marks = ["todo!(", "unimplemented!(", "TODO", "FIXME", "dbg!("];
    let panics = [".unwrap()", ".expect(", "panic!(", "unreachable!("];
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        wrong.extend(marks.iter().filter(|m| text.contains(**m)).map(|m| format!("{file}: {m}")));
        let (code, tests) = (product(&text), file.ends_with("tests.rs"));
        wrong.extend(panics.iter().filter(|m| !tests && code.contains(**m)).map(|m| format!("{file}: {m}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> = sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(file, _)| file).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn every_command_has_a_man_page() {
    let verbs = onggi::cli::definition::VERBS.iter();
    let missing: Vec<_> =
        verbs.map(|verb| format!("man/onggi-{}.8", verb.name)).filter(|page| !Path::new(ROOT).join(page).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}: make man");
}

/// The repository stands alone: nothing of the machine it was written on is named in it.
#[test]
fn no_path_of_a_workshop_is_named() {
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| text.contains("/work/") || text.contains("../shared"))
        .map(|(file, _)| file)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
