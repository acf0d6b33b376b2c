//! A log of `strace -f`, read: who called what, with which arguments, and what came back.

/// A system call that has been entered; what it gave is there once it has returned.
#[derive(Debug, Clone)]
pub struct Call {
    pub pid: i32,
    pub name: String,
    /// Words between the commas of the outermost level, as strace prints them.
    pub args: Vec<String>,
    /// `None` where the process ended in it.
    pub result: Option<i64>,
    /// The line, for a finding.
    pub text: String,
}

/// What a line tells.
#[derive(Debug)]
pub enum Event {
    /// A call begins that makes a process: what that starts with is what the caller has now.
    Cloning(i32),
    Done(Call),
}

/// All that the log tells, calls in the order in which they returned.
pub fn parse(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut open: Vec<(i32, String)> = Vec::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let Ok(pid) = pid.parse::<i32>() else { continue };
        let rest = rest.trim_start();
        let whole = if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            if makes_processes(name_of(begun)) {
                events.push(Event::Cloning(pid));
            }
            open.push((pid, begun.trim_end().to_owned()));
            continue;
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some(at) = open.iter().rposition(|(other, _)| *other == pid) else { continue };
            let (_, begun) = open.remove(at);
            let Some((_, end)) = resumed.split_once(" resumed>") else { continue };
            begun + end
        } else {
            if makes_processes(name_of(rest)) {
                events.push(Event::Cloning(pid));
            }
            rest.to_owned()
        };
        events.extend(call(pid, &whole).map(Event::Done));
    }
    events
}

fn name_of(text: &str) -> &str {
    text.split('(').next().unwrap_or_default()
}

fn makes_processes(name: &str) -> bool {
    ["clone", "clone3", "fork", "vfork"].contains(&name)
}

/// `name(arg, arg) = result`; signals and exits are none.
fn call(pid: i32, text: &str) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None;
    }
    let (args, end) = split(rest);
    let result = end.trim_start().strip_prefix('=')?.trim_start();
    let number = result.split([' ', '<']).next().unwrap_or_default();
    let result = match number.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => number.parse().ok(),
    };
    Some(Call { pid, name: name.to_owned(), args, result, text: format!("{pid} {text}") })
}

/// The arguments, and what follows the closing bracket.
fn split(text: &str) -> (Vec<String>, &str) {
    let (mut args, mut word) = (Vec::new(), String::new());
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, letter) in text.char_indices() {
        if quoted {
            quoted = escaped || letter != '"';
            escaped = letter == '\\' && !escaped;
        } else {
            match letter {
                '"' => quoted = true,
                '(' | '[' | '{' => depth += 1,
                ')' if depth == 0 => {
                    if !word.is_empty() || !args.is_empty() {
                        args.push(word.trim().to_owned());
                    }
                    return (args, &text[at + 1..]);
                }
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => {
                    args.push(std::mem::take(&mut word).trim().to_owned());
                    continue;
                }
                _ => {}
            }
        }
        word.push(letter);
    }
    (args, "")
}

impl Call {
    pub fn arg(&self, n: usize) -> &str {
        self.args.get(n).map_or("", String::as_str)
    }

    /// A number among the arguments, a descriptor say; `None` for `AT_FDCWD` and what is no number.
    pub fn number(&self, n: usize) -> Option<i32> {
        self.arg(n).parse().ok()
    }

    /// A quoted argument without its quotes.
    pub fn path(&self, n: usize) -> Option<&str> {
        self.arg(n).strip_prefix('"')?.strip_suffix('"')
    }

    /// Numbers in brackets at the end of it: `[3, 4]`.
    pub fn pair(&self, n: usize) -> Option<(i32, i32)> {
        let (first, second) = self.arg(n).strip_prefix('[')?.strip_suffix(']')?.split_once(", ")?;
        Some((first.parse().ok()?, second.parse().ok()?))
    }

    /// Whether a flag is among those of the call, all arguments taken together.
    pub fn has(&self, flag: &str) -> bool {
        self.args.iter().any(|arg| words(arg).any(|word| word == flag))
    }

    pub fn ok(&self) -> bool {
        self.result.is_some_and(|result| result >= 0)
    }

    /// The descriptor that it gave.
    pub fn made(&self) -> Option<i32> {
        self.result.and_then(|result| i32::try_from(result).ok()).filter(|fd| *fd >= 0)
    }
}

fn words(arg: &str) -> impl Iterator<Item = &str> {
    let quoted = arg.starts_with('"');
    arg.split(move |letter: char| quoted || !(letter.is_ascii_alphanumeric() || letter == '_'))
}
