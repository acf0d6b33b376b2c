//! Lines of the file `schemata`: `RESOURCE:DOMAIN=VALUE;DOMAIN=VALUE`. Pure.

/// Whether `there`, the whole file, says what the line `asked` asks for. The kernel pads and names all domains, and writes
/// masks without leading zeroes.
pub fn holds(there: &str, asked: &str) -> bool {
    let Some((resource, domains)) = split(asked) else { return false };
    let Some((_, have)) = there.lines().filter_map(split).find(|(name, _)| *name == resource) else { return false };
    let value = |list: &str, domain: &str| pairs(list).find(|(id, _)| *id == domain).map(|(_, v)| normal(resource, v));
    pairs(domains).all(|(id, v)| value(have, id) == Some(normal(resource, v)))
}

fn split(line: &str) -> Option<(&str, &str)> {
    line.split_once(':').map(|(resource, domains)| (resource.trim(), domains.trim()))
}

fn pairs(domains: &str) -> impl Iterator<Item = (&str, &str)> {
    domains.split(';').filter_map(|pair| pair.split_once('=')).map(|(id, value)| (id.trim(), value.trim()))
}

/// Bandwidths are decimal (MB, SMBA), all others masks in hexadecimal.
fn normal(resource: &str, value: &str) -> Result<u64, String> {
    let radix = if resource.contains("MB") { 10 } else { 16 };
    let digits = if radix == 16 { value.trim_start_matches("0x") } else { value };
    u64::from_str_radix(digits, radix).map_err(|_| value.to_owned())
}

/// The line of a resource (`L3`, `MB`), as the file has it but for the padding.
pub fn line<'a>(text: &'a str, resource: &str) -> Option<&'a str> {
    text.lines().map(str::trim).find(|line| split(line).is_some_and(|(name, _)| name == resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "    L3:0=7f0;1=1f\n    MB:0= 20;1= 70\nL3CODE:0=ff\n";

    #[test]
    fn what_is_asked_for_is_there() {
        for asked in ["L3:0=7f0;1=1f", "L3:0=7F0", "L3:1=0x1f", "L3: 1=001f ; 0=7f0", "MB:0=20;1=70", "L3CODE:0=ff", "L3:"] {
            assert!(holds(FILE, asked), "{asked}");
        }
        for asked in ["L3:0=7f1", "L3:2=7f0", "MB:0=21", "L2:0=ff", "L3:0=", "L3:0=zz", "nonsense", ""] {
            assert!(!holds(FILE, asked), "{asked}");
        }
    }

    #[test]
    fn lines_by_their_resource() {
        assert_eq!(line(FILE, "L3"), Some("L3:0=7f0;1=1f"));
        assert_eq!(line(FILE, "MB"), Some("MB:0= 20;1= 70"));
        assert_eq!(line(FILE, "L2"), None);
    }
}
