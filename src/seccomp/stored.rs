//! A compiled filter as bytes, kept with a container so that `exec` need not compile its profile anew. Of this machine and this
//! container: nothing that travels.

use super::{Filter, MAX_INSTRUCTIONS, raw};
use crate::sys::seccomp::FLAG_NEW_LISTENER;

/// What the bytes begin with; the digit is the form.
const MAGIC: [u8; 8] = *b"onggiBP1";
/// Magic, flags (4), whether SPEC_ALLOW is wanted if known (4).
const HEAD: usize = 16;

/// The filter's program and flags. `None` for one with a listener: who gets that is not in it.
pub fn bytes(filter: &Filter) -> Option<Vec<u8>> {
    if filter.notify.is_some() {
        return None;
    }
    let mut out = Vec::with_capacity(HEAD + filter.program.len() * raw::INSTRUCTION);
    out.extend(MAGIC);
    out.extend(filter.flags.to_ne_bytes());
    out.extend(u32::from(filter.spec_allow_optional).to_ne_bytes());
    for insn in &filter.program {
        out.extend(insn.code.to_ne_bytes());
        out.extend([insn.jt, insn.jf]);
        out.extend(insn.k.to_ne_bytes());
    }
    Some(out)
}

/// The filter again. `None` for bytes that are not of this form: then the profile is to be compiled.
pub fn filter(bytes: &[u8]) -> Option<Filter> {
    let (head, program) = bytes.split_at_checked(HEAD)?;
    let (magic, numbers) = head.split_first_chunk::<8>()?;
    let (flags, optional) = numbers.split_first_chunk::<4>()?;
    let optional = u32::from_ne_bytes(optional.try_into().ok()?);
    if *magic != MAGIC || optional > 1 || program.is_empty() || program.len() % raw::INSTRUCTION != 0 {
        return None;
    }
    if program.len() / raw::INSTRUCTION > MAX_INSTRUCTIONS {
        return None;
    }
    let flags = u32::from_ne_bytes(*flags);
    if flags & FLAG_NEW_LISTENER != 0 {
        return None;
    }
    Some(Filter {
        program: program.chunks_exact(raw::INSTRUCTION).map(raw::instruction).collect(),
        flags,
        spec_allow_optional: optional == 1,
        notify: None,
        unknown: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(json: &str) -> Filter {
        super::super::compile(&serde_json::from_str(json).unwrap()).unwrap().unwrap()
    }

    #[test]
    fn comes_back_as_it_was() {
        let flagged = compiled(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[
                {"names":["read","write"],"action":"SCMP_ACT_ALLOW"}]}"#,
        );
        assert_eq!(filter(&bytes(&flagged).unwrap()), Some(flagged));
    }

    #[test]
    fn one_with_a_listener_is_not_kept() {
        let listening = compiled(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/a","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}"#,
        );
        assert_eq!(bytes(&listening), None);
        assert_eq!(filter(&bytes(&Filter { notify: None, ..listening }).unwrap()), None);
    }

    #[test]
    fn what_is_not_of_this_form_is_nothing() {
        let good = bytes(&compiled(r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[]}"#)).unwrap();
        for n in 0..good.len() {
            // A whole number of instructions cannot be told from a shorter program; the store's checksum can.
            assert!(n > HEAD && (n - HEAD).is_multiple_of(8) || filter(&good[..n]).is_none(), "cut at {n}");
        }
        let mut other = good.clone();
        other[7] = b'2';
        assert!(filter(&other).is_none());
        let long = [&good[..HEAD], &vec![0; 8 * (MAX_INSTRUCTIONS + 1)]].concat();
        assert!(filter(&long).is_none());
    }
}
