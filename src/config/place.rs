//! The field that a place in a JSON document belongs to. `serde_json` tells a parse error's line and column; the names
//! that lead there stand in the document.
//!
//! Not a parser: what it meets up to that place was read by one without complaint. To parse a second time with the path
//! kept would need every type's deserializer twice in the program, a tenth of it.

/// Nesting that is followed: that to which `serde_json` reads known members. Deeper is something that nobody knows.
const DEEPEST: usize = 128;

/// An object or an array that is open.
enum Level {
    Object {
        key: String,
        in_member: bool,
    },
    Array {
        index: usize,
    },
    /// Below [`DEEPEST`].
    Unnamed,
}

/// The JSON pointer of the field to blame for an error at `line` (from 1) and `column` (in bytes, what was read of the
/// line). `of_value` is false where the document itself is broken: then a key without a value is at fault, else its object.
pub(super) fn pointer(json: &[u8], line: usize, column: usize, of_value: bool) -> String {
    let end = json.split_inclusive(|&b| b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum::<usize>() + column;
    let mut levels: Vec<Level> = Vec::new();
    let mut wants_key = false;
    let mut at = 0;
    while let Some(&byte) = json.get(at).filter(|_| at < end) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                wants_key = byte == b'{';
                levels.push(match levels.len() {
                    DEEPEST.. => Level::Unnamed,
                    _ if wants_key => Level::Object { key: String::new(), in_member: false },
                    _ => Level::Array { index: 0 },
                });
            }
            b'}' | b']' => {
                levels.pop();
                wants_key = false;
            }
            b',' => match levels.last_mut() {
                Some(Level::Array { index }) => *index += 1,
                Some(Level::Object { in_member, .. }) => (*in_member, wants_key) = (false, true),
                Some(Level::Unnamed) | None => {}
            },
            b'"' => {
                let start = at - 1;
                at = end_of_string(json, at);
                if let (true, Some(Level::Object { key, in_member })) = (wants_key, levels.last_mut()) {
                    *key = serde_json::from_slice(json.get(start..at).unwrap_or_default()).unwrap_or_default();
                    *in_member = !of_value;
                    wants_key = false;
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            // A colon, or part of a number or of a word.
            _ => {
                if let Some(Level::Object { in_member, .. }) = levels.last_mut() {
                    *in_member = !wants_key;
                }
            }
        }
    }
    levels.iter().fold(String::new(), |path, level| match level {
        Level::Object { key, in_member: true } => member(&path, key),
        Level::Array { index } => format!("{path}/{index}"),
        Level::Object { .. } | Level::Unnamed => path,
    })
}

/// Where the string ends whose opening quote is before `at`.
fn end_of_string(json: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = json.get(at) {
        at += if byte == b'\\' { 2 } else { 1 };
        if byte == b'"' {
            break;
        }
    }
    at.min(json.len())
}

/// `parent/key`, the key escaped as RFC 6901 says.
pub(super) fn member(parent: &str, key: &str) -> String {
    format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Spec;
    use crate::config::shape::Object;
    use serde_json::Value;

    /// What a parser that keeps the path says.
    fn traced(json: &[u8]) -> Option<String> {
        use serde_path_to_error::Segment;
        let mut reader = serde_json::Deserializer::from_slice(json);
        let error = serde_path_to_error::deserialize::<_, Object<Spec>>(&mut reader).err()?;
        Some(error.path().iter().fold(String::new(), |path, segment| match segment {
            Segment::Seq { index } => format!("{path}/{index}"),
            Segment::Map { key } | Segment::Enum { variant: key } => member(&path, key),
            Segment::Unknown => path,
        }))
    }

    fn compare(json: &[u8]) -> bool {
        let Err(error) = serde_json::from_slice::<Object<Spec>>(json) else { return false };
        let found = pointer(json, error.line(), error.column(), error.is_data());
        assert_eq!(Some(found), traced(json), "{error}: {}", String::from_utf8_lossy(json));
        true
    }

    /// Calls `each` with every value of the document in turn.
    fn visit(value: &mut Value, each: &mut dyn FnMut(&mut Value)) {
        each(value);
        match value {
            Value::Array(list) => list.iter_mut().for_each(|v| visit(v, each)),
            Value::Object(map) => map.values_mut().for_each(|v| visit(v, each)),
            _ => {}
        }
    }

    #[test]
    fn the_field_is_the_one_that_a_parser_with_a_path_names() {
        let (mut count, mut wrong) = (0, 0);
        let wrongs = [r#""x""#, "7", "-1", "1.5", "true", "[]", "{}", "[7]", r#"{"x":7}"#, r#"[{"x":[]}]"#];
        for plan in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plans")).unwrap() {
            let Ok(text) = std::fs::read(plan.unwrap().path().join("config.json")) else { continue };
            let base: Value = serde_json::from_slice(&text).unwrap();
            let mut values = 0;
            visit(&mut base.clone(), &mut |_| values += 1);
            for nth in 0..values {
                let replacement: Value = serde_json::from_str(wrongs[(count + nth) % wrongs.len()]).unwrap();
                let (mut changed, mut seen) = (base.clone(), 0);
                visit(&mut changed, &mut |v| {
                    if seen == nth {
                        *v = replacement.clone();
                    }
                    seen += 1;
                });
                wrong += usize::from(compare(changed.to_string().as_bytes()));
                wrong += usize::from(compare(serde_json::to_string_pretty(&changed).unwrap().as_bytes()));
            }
            count += values;
        }
        assert!(wrong > 1000, "{wrong} of {count}");
    }

    #[test]
    fn a_member_given_twice_is_its_object_s_fault() {
        for json in [r#"{"process":{"cwd":"a" , "cwd" : "b"}}"#, r#"{"process":{"user":{"uid":1,"uid":2}},"x":[]}"#] {
            assert!(compare(json.as_bytes()));
        }
    }

    #[test]
    fn names_are_escaped_and_what_is_too_deep_has_none() {
        let json = br#"{"linux":{"sysctl":{"a\"/b~c":1}}}"#;
        assert!(compare(json));
        assert_eq!(pointer(json, 1, json.len() - 3, true), r#"/linux/sysctl/a"~1b~0c"#);
        let deep = format!("{{\"a\":{}", "[".repeat(1_000_000));
        assert_eq!(pointer(deep.as_bytes(), 1, deep.len(), false), format!("/a{}", "/0".repeat(127)));
        assert_eq!(pointer(b"", 1, 0, false), "");
        assert_eq!(pointer(b"\\\"", 3, 9, false), "");
    }
}
