//! The GVariant text format, in which annotations give the values of unit properties (`org.systemd.property.NAME`). Pure.
//!
//! Read are: booleans, strings, numbers, arrays and tuples, with a type before a value (`uint64 5`, `@as []`). Numbers
//! without one are `int32`, or `double` with a point. Not read are dictionaries, maybes, variants and byte strings, which
//! no property of a scope takes in a useful way.

use super::wire::{DEEPEST, Value, single};

/// Words before a value that say its type, and the signature of it.
const KEYWORDS: [(&str, &str); 12] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

/// Reads one value.
///
/// # Errors
/// What is wrong, in words.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { rest: text };
    let value = parser.value(None, 0)?;
    parser.space();
    if parser.rest.is_empty() { Ok(value) } else { Err(format!("{:?} follows the value", parser.rest)) }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: char) -> bool {
        self.space();
        let after = self.rest.strip_prefix(token);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c))).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A value, of the type that stood before it if one did.
    fn value(&mut self, kind: Option<&str>, depth: usize) -> Result<Value, String> {
        if depth > DEEPEST / 2 {
            return Err("it nests too deep".into());
        }
        self.space();
        match self.rest.chars().next() {
            None => Err("the value is missing".into()),
            Some('@') => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
                let (signature, rest) = self.rest.split_at(end);
                if !single(signature).is_ok_and(|(_, after)| after.is_empty()) {
                    return Err(format!("{signature:?} is no type"));
                }
                self.rest = rest;
                self.value(Some(signature), depth + 1)
            }
            Some(quote @ ('\'' | '"')) => {
                let text = self.quoted(quote)?;
                match kind {
                    None | Some("s") => Ok(Value::Text(text)),
                    Some("o") => Ok(Value::Path(text)),
                    Some("g") => Ok(Value::Signature(text)),
                    Some(other) => Err(format!("a string is not of type {other}")),
                }
            }
            Some('[') => self.array(kind, depth),
            Some('(') => self.tuple(kind, depth),
            Some(_) => {
                let word = self.word();
                match KEYWORDS.iter().find(|(name, _)| *name == word) {
                    Some((_, signature)) => self.value(Some(signature), depth + 1),
                    None => plain(word, kind),
                }
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            let c = match c {
                c if c == quote => {
                    self.rest = self.rest.get(at + c.len_utf8()..).unwrap_or_default();
                    return Ok(text);
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some('a') => '\u{7}',
                    Some('b') => '\u{8}',
                    Some('f') => '\u{c}',
                    Some('v') => '\u{b}',
                    Some(c @ ('u' | 'U')) => {
                        let digits: String = chars.by_ref().take(if c == 'u' { 4 } else { 8 }).map(|(_, c)| c).collect();
                        let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                        code.ok_or_else(|| format!("\\{c}{digits} is no character"))?
                    }
                    Some(c) => c,
                    None => break,
                },
                c => c,
            };
            text.push(c);
        }
        Err("a string has no end".into())
    }

    fn array(&mut self, kind: Option<&str>, depth: usize) -> Result<Value, String> {
        let element = match kind {
            None => None,
            Some(kind) => Some(kind.strip_prefix('a').ok_or_else(|| format!("an array is not of type {kind}"))?),
        };
        let values = self.list('[', ']', |parser, _| parser.value(element, depth + 1))?;
        let signature = match (element, values.first()) {
            (Some(element), _) => element.to_owned(),
            (None, Some(first)) => first.signature(),
            (None, None) => return Err("an empty array needs a type, as in @as []".into()),
        };
        match values.iter().find(|v| v.signature() != signature) {
            Some(other) => Err(format!("an array holds values of the types {signature} and {}", other.signature())),
            None => Ok(Value::Array(signature, values)),
        }
    }

    fn tuple(&mut self, kind: Option<&str>, depth: usize) -> Result<Value, String> {
        let mut kinds = Vec::new();
        if let Some(kind) = kind {
            let inner = kind.strip_prefix('(').and_then(|k| k.strip_suffix(')'));
            let mut rest = inner.ok_or_else(|| format!("a tuple is not of type {kind}"))?;
            while !rest.is_empty() {
                let (first, after) = single(rest).map_err(|e| e.to_string())?;
                kinds.push(first);
                rest = after;
            }
        }
        let members = self.list('(', ')', |parser, n| parser.value(kinds.get(n).copied(), depth + 1))?;
        if members.is_empty() || kind.is_some() && kinds.len() != members.len() {
            return Err("a tuple has not the members that it must have".into());
        }
        Ok(Value::Struct(members))
    }

    fn list(
        &mut self,
        open: char,
        close: char,
        mut one: impl FnMut(&mut Self, usize) -> Result<Value, String>,
    ) -> Result<Vec<Value>, String> {
        let mut values = Vec::new();
        self.eat(open);
        while !self.eat(close) {
            if !values.is_empty() && !self.eat(',') {
                return Err(format!("a comma or {close} is missing at {:?}", self.rest));
            }
            // A comma may stand before the end, as in a tuple of one.
            if !values.is_empty() && self.eat(close) {
                break;
            }
            values.push(one(self, values.len())?);
        }
        Ok(values)
    }
}

/// A number or a boolean.
fn plain(word: &str, kind: Option<&str>) -> Result<Value, String> {
    let bad = || format!("{word:?} is no value{}", kind.map(|k| format!(" of type {k}")).unwrap_or_default());
    let default = match word {
        "true" | "false" => "b",
        _ if word.contains('.') && !word.contains("..") => "d",
        _ => "i",
    };
    let integer = || -> Option<i128> {
        let (negative, digits) = match word.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, word.strip_prefix('+').unwrap_or(word)),
        };
        let (radix, digits) = match digits.get(..2) {
            Some("0x" | "0X") => (16, digits.get(2..)?),
            _ if digits.len() > 1 && digits.starts_with('0') => (8, digits.get(1..)?),
            _ => (10, digits),
        };
        // Only digits: from_str_radix takes a sign of its own.
        let value = digits.chars().all(|c| c.is_digit(radix)).then(|| i128::from_str_radix(digits, radix).ok())??;
        Some(if negative { -value } else { value })
    };
    let value = match kind.unwrap_or(default) {
        "b" => match word {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        },
        "d" => word.parse().ok().map(Value::F64),
        "y" => integer().and_then(|n| n.try_into().ok()).map(Value::Byte),
        "n" => integer().and_then(|n| n.try_into().ok()).map(Value::I16),
        "q" => integer().and_then(|n| n.try_into().ok()).map(Value::U16),
        "i" => integer().and_then(|n| n.try_into().ok()).map(Value::I32),
        "u" => integer().and_then(|n| n.try_into().ok()).map(Value::U32),
        "x" => integer().and_then(|n| n.try_into().ok()).map(Value::I64),
        "t" => integer().and_then(|n| n.try_into().ok()).map(Value::U64),
        _ => None,
    };
    value.ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (text, want) in [
            ("true", Value::Bool(true)),
            ("boolean false", Value::Bool(false)),
            ("'inactive-or-failed'", Value::text("inactive-or-failed")),
            ("\"it's\"", Value::text("it's")),
            (r"'it\'s \u00e9\n'", Value::text("it's é\n")),
            ("5", Value::I32(5)),
            ("-5", Value::I32(-5)),
            ("0x10", Value::I32(16)),
            ("010", Value::I32(8)),
            ("uint64 123456789", Value::U64(123_456_789)),
            ("uint64 18446744073709551615", Value::U64(u64::MAX)),
            ("@t 7", Value::U64(7)),
            ("byte 0xff", Value::Byte(255)),
            ("int64 -1", Value::I64(-1)),
            ("double 2", Value::F64(2.0)),
            ("2.5", Value::F64(2.5)),
            ("objectpath '/a'", Value::Path("/a".into())),
            ("['a', 'b']", Value::texts(&["a", "b"])),
            ("[ 'a' , ]", Value::texts(&["a"])),
            ("@as []", Value::texts(&[])),
            ("[byte 1, 2]", Value::Byte(0)),
            ("@ay [1, 2]", Value::bytes(&[1, 2])),
            ("('a', uint32 3)", Value::Struct(vec![Value::text("a"), Value::U32(3)])),
            (
                "@a(st) [('/dev/sda', 5)]",
                Value::Array("(st)".into(), vec![Value::Struct(vec![Value::text("/dev/sda"), Value::U64(5)])]),
            ),
            ("  uint32   1  ", Value::U32(1)),
        ] {
            match want {
                // Of two types.
                Value::Byte(0) => assert!(parse(text).is_err(), "{text}"),
                want => assert_eq!(parse(text), Ok(want), "{text}"),
            }
        }
    }

    #[test]
    fn what_is_no_value_says_so() {
        for text in [
            "",
            " ",
            "uint64",
            "uint64 -1",
            "byte 256",
            "'a",
            "'a' 'b'",
            "[",
            "[]",
            "[1, 'a']",
            "(",
            "()",
            "[1 2]",
            "infinity",
            "@zz 1",
            "@",
            "@as ['a', 1]",
            "uint64 'a'",
            "@(ss) ('a',)",
            "{'a': 1}",
            "<1>",
            "nothing",
            "--1",
            "0x",
            "+-1",
            "5s",
            "é",
            "string 5",
            "@a{sv} []",
        ] {
            // The last one is a type; only nothing can be given for it.
            assert_eq!(parse(text).is_err(), text != "@a{sv} []", "{text}: {:?}", parse(text));
        }
        assert!(parse(&"[".repeat(100_000)).unwrap_err().contains("too deep"));
        assert!(parse(&"@s ".repeat(100_000)).unwrap_err().contains("too deep"));
    }
}
