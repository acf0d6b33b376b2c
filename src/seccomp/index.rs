//! Name -> row of the table of numbers, and the rows by number. Tables that the compiler makes: an engine's profile has four
//! hundred names, each on three architectures.

use super::syscalls::{COLUMNS, N, SYSCALLS};

/// How many names there are.
pub(super) const ROWS: usize = SYSCALLS.len();

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

/// The rows of each column by rising number; what the architecture lacks comes last.
static BY_NUMBER: [[u16; ROWS]; COLUMNS] = by_number();

const fn by_number() -> [[u16; ROWS]; COLUMNS] {
    let mut all = [[0; ROWS]; COLUMNS];
    let mut column = 0;
    while column < COLUMNS {
        all[column] = sorted(column);
        column += 1;
    }
    all
}

/// Shell's sort: the compiler runs no iterator.
const fn sorted(column: usize) -> [u16; ROWS] {
    let mut rows = [0; ROWS];
    let (mut i, mut row) = (0, 0);
    while i < ROWS {
        rows[i] = row;
        row += 1;
        i += 1;
    }
    let mut gap = ROWS / 2;
    while gap > 0 {
        let mut i = gap;
        while i < ROWS {
            let row = rows[i];
            let mut at = i;
            while at >= gap && SYSCALLS[rows[at - gap] as usize].2[column] > SYSCALLS[row as usize].2[column] {
                rows[at] = rows[at - gap];
                at -= gap;
            }
            rows[at] = row;
            i += 1;
        }
        gap /= 2;
    }
    rows
}

/// The rows that a column has a number for, by rising number. None for a column that is not there.
pub(super) fn rows(column: usize) -> impl Iterator<Item = usize> {
    let all = BY_NUMBER.get(column).map_or(&[][..], |rows| rows);
    let there = move |row: &usize| SYSCALLS.get(*row).and_then(|row| row.2.get(column)).is_some_and(|number| *number != N);
    all.iter().map(|row| usize::from(*row)).take_while(there)
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
    fn rows_come_by_number() {
        for column in 0..COLUMNS {
            let numbers: Vec<u16> = rows(column).map(|row| SYSCALLS[row].2[column]).collect();
            assert!(numbers.is_sorted(), "{column}");
            assert_eq!(numbers.len(), SYSCALLS.iter().filter(|row| row.2[column] != N).count(), "{column}");
        }
        assert_eq!(rows(COLUMNS).count(), 0);
    }

    #[test]
    fn every_name_has_its_row_and_others_none() {
        for (i, (name, ..)) in SYSCALLS.iter().enumerate() {
            assert_eq!(row(name), Some(i));
        }
        assert_eq!((row(""), row("no_such_call"), row("Read")), (None, None, None));
    }
}
