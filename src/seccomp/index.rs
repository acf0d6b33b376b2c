//! Name -> row of the table of numbers. A hash table that the compiler makes: an engine's profile has four hundred names.

use super::syscalls::SYSCALLS;

/// A power of two, four times the rows: most names are found at the first look.
const SLOTS: usize = 2048;
const EMPTY: u16 = u16::MAX;

static INDEX: [u16; SLOTS] = index();

/// FNV-1a, its upper bits folded onto the lower.
const fn slot(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut i = 0;
    while i < name.len() {
        hash = (hash ^ name[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    (hash ^ (hash >> 15)) as usize % SLOTS
}

const fn index() -> [u16; SLOTS] {
    let mut slots = [EMPTY; SLOTS];
    let (mut i, mut row) = (0, 0);
    while i < SYSCALLS.len() {
        let mut at = slot(SYSCALLS[i].0.as_bytes());
        while slots[at] != EMPTY {
            at = (at + 1) % SLOTS;
        }
        slots[at] = row;
        row += 1;
        i += 1;
    }
    slots
}

/// The row of `name`.
pub(super) fn row(name: &str) -> Option<usize> {
    let mut at = slot(name.as_bytes());
    loop {
        let row = usize::from(INDEX[at]);
        if SYSCALLS.get(row)?.0 == name {
            return Some(row);
        }
        at = (at + 1) % SLOTS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_row_and_others_none() {
        for (i, (name, ..)) in SYSCALLS.iter().enumerate() {
            assert_eq!(row(name), Some(i));
        }
        assert_eq!((row(""), row("no_such_call"), row("Read")), (None, None, None));
    }
}
