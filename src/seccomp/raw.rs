//! A filter that somebody else compiled: base64 of an array of struct sock_filter (annotation `run.oci.seccomp_bpf_data`).

use super::{Filter, MAX_INSTRUCTIONS, words};
use crate::config::Seccomp;
use crate::error::{Error, Result};
use seccompiler::sock_filter;

/// Bytes of struct sock_filter: code (2), jt, jf, k (4), in the machine's byte order.
pub(super) const INSTRUCTION: usize = 8;

/// Reads the filter; flags are those of the profile, if there is one.
///
/// # Errors
/// Not base64, not whole instructions, none, or more than the kernel takes.
pub fn filter(data: &str, profile: Option<&Seccomp>) -> Result<Filter> {
    let bad = |cause: &str| Error::new("read the seccomp filter", cause);
    let bytes = decode(data).ok_or_else(|| bad("not base64"))?;
    if bytes.is_empty() || bytes.len() % INSTRUCTION != 0 {
        return Err(bad("not a whole number of instructions of 8 bytes"));
    }
    if bytes.len() / INSTRUCTION > MAX_INSTRUCTIONS {
        return Err(bad("longer than the 4096 instructions that the kernel takes"));
    }
    let program = bytes.chunks_exact(INSTRUCTION).map(instruction).collect();
    let flags = profile.map(words::flags).transpose().map_err(|e| e.under("/linux/seccomp"))?.unwrap_or(0);
    let spec_allow_optional = profile.is_none_or(|p| p.flags.is_none());
    Ok(Filter { program, flags, spec_allow_optional, notify: None, unknown: Vec::new() })
}

/// One instruction; of a wrong length, an empty one.
pub(super) fn instruction(bytes: &[u8]) -> sock_filter {
    let [c0, c1, jt, jf, k0, k1, k2, k3] = <[u8; INSTRUCTION]>::try_from(bytes).unwrap_or_default();
    sock_filter { code: u16::from_ne_bytes([c0, c1]), jt, jf, k: u32::from_ne_bytes([k0, k1, k2, k3]) }
}

/// RFC 4648, padded or not; white space is skipped.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0u32);
    for byte in text.trim_end_matches(['=', '\n', ' ']).bytes().filter(|b| !b.is_ascii_whitespace()) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    // One character alone holds no byte.
    (count < 6).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_rfc_4648_has_it() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9v\nYmFy", "foobar"), ("Zm8", "fo")] {
            assert_eq!(decode(text).unwrap(), bytes.as_bytes(), "{text}");
        }
        assert_eq!(decode("Z"), None);
        assert_eq!(decode("Z*=="), None);
    }

    #[test]
    fn one_instruction() {
        // BPF_RET|BPF_K, SECCOMP_RET_ALLOW, little-endian.
        let filter = filter("BgAAAAAA/38=", None).unwrap();
        assert_eq!(filter.program.len(), 1);
        assert_eq!((filter.program[0].code, filter.program[0].k), (6, 0x7fff_0000));
    }

    #[test]
    fn noise_is_refused() {
        for data in ["", "AAAA", "%%%"] {
            assert!(super::filter(data, None).is_err(), "{data}");
        }
    }
}
