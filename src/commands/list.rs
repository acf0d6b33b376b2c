//! `list`: one line a container. One that cannot be read is a line too, never the end of the list.

use super::state::Document;
use super::status::{self, Status};
use crate::cli::{Global, ListFormat};
use crate::error::Result;
use crate::store::{Seen, Store};
use crate::sys::fs::Reader;
use crate::sys::helper::Helper;
use crate::sys::process;
use std::collections::BTreeMap;
use std::fmt::Write;

/// `list`.
pub fn list(global: &Global, format: ListFormat, quiet: bool) -> Result<u8> {
    let mut list = match (quiet, format) {
        (true, _) => List::Ids(String::new()),
        (false, ListFormat::Json) => List::Json(Vec::new()),
        (false, ListFormat::Table) => List::Table(Table::new()),
    };
    if let Some(store) = Store::open(global.root.as_deref())? {
        let ids = store.ids()?;
        match list {
            // Nothing else is shown.
            List::Ids(_) => ids.iter().for_each(|id| list.add(id, "", None, None)),
            _ => list.look_at_all(&store, &ids),
        }
    }
    let text = list.text();
    // The process ends, and the kernel takes everything back in one go.
    std::mem::forget(list);
    super::print(&text)
}

/// Containers that a process is worth: to look at one takes some 20 microseconds, to make a process as long as for ten.
const EACH: usize = 64;
/// More would wait for each other in the kernel.
const MOST: usize = 8;

fn look_at(list: &mut List, store: &Store, ids: &[String]) {
    let (mut states, mut looks) = (Reader::new(), Reader::new());
    let mut owners = BTreeMap::new();
    for id in ids {
        match store.seen(id, &mut states) {
            Ok(Some(seen)) => {
                // One whose status cannot be told is shown without: the others are to be seen all the same.
                let status = status::look_at(store, id, &seen, &mut looks).ok();
                list.add(id, owners.entry(seen.owner).or_insert_with(|| owner(seen.owner)), status, Some(&seen));
            }
            other => {
                // Gone since it was listed, or never a container's: not there.
                let Ok(entry) = store.look(id) else { continue };
                // Damaged, or being made.
                match if other.is_ok() { entry.creating() } else { None } {
                    Some(record) => list.add(id, &owner(record.owner), Some(Status::Creating), Some(&Seen::of(&record))),
                    None => list.add(id, "", None, None),
                }
            }
        }
    }
}

/// What will be printed.
enum List {
    Ids(String),
    /// The elements of an array.
    Json(Vec<u8>),
    Table(Table),
}

impl List {
    /// Adds all of them, in order. Where they are many, on all processors.
    fn look_at_all(&mut self, store: &Store, ids: &[String]) {
        let processes = if ids.len() < 2 * EACH { 1 } else { process::cpus().min(ids.len() / EACH).clamp(1, MOST) };
        let mut shares = ids.chunks(ids.len().div_ceil(processes).max(1));
        let first = shares.next().unwrap_or_default();
        let others: Vec<_> = shares
            .map(|share| {
                let work = || {
                    let mut part = self.empty();
                    look_at(&mut part, store, share);
                    part.into_bytes()
                };
                (share, Helper::begin(work))
            })
            .collect();
        look_at(self, store, first);
        for (share, helper) in others {
            match helper.ok().and_then(Helper::result) {
                Some(part) => self.append(&part),
                // None can be had (RLIMIT_NPROC, `pids.max`), or it was killed.
                None => look_at(self, store, share),
            }
        }
    }

    /// One of the same kind without rows.
    fn empty(&self) -> Self {
        match self {
            Self::Ids(_) => Self::Ids(String::new()),
            Self::Json(_) => Self::Json(Vec::new()),
            Self::Table(_) => Self::Table(Table { cells: String::new(), ends: Vec::new() }),
        }
    }

    /// For [`List::append`]: what the rows are made of, and in a table the ends of the cells before.
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Ids(text) => text.into_bytes(),
            Self::Json(text) => text,
            Self::Table(Table { cells, ends }) => {
                let numbers = std::iter::once(ends.len()).chain(ends);
                numbers.flat_map(usize::to_ne_bytes).chain(cells.into_bytes()).collect()
            }
        }
    }

    /// Adds the rows of another of the same kind.
    fn append(&mut self, other: &[u8]) {
        match self {
            Self::Ids(text) => text.push_str(&String::from_utf8_lossy(other)),
            Self::Json(text) => {
                let bracket = usize::from(!text.is_empty() && !other.is_empty());
                text.extend_from_slice(if bracket == 0 { b"" } else { b"," });
                text.extend_from_slice(other.get(bracket..).unwrap_or_default());
            }
            Self::Table(Table { cells, ends }) => {
                let mut numbers = other.chunks_exact(size_of::<usize>()).filter_map(|number| number.try_into().ok());
                let mut numbers = numbers.by_ref().map(usize::from_ne_bytes);
                let many = numbers.next().unwrap_or_default();
                let before = cells.len();
                ends.extend(numbers.take(many).map(|end| before + end));
                cells.push_str(&String::from_utf8_lossy(other.get((many + 1) * size_of::<usize>()..).unwrap_or_default()));
            }
        }
    }

    /// Adds a container; without `status` and what was `seen` as far as they cannot be told.
    fn add(&mut self, id: &str, owner: &str, status: Option<Status>, seen: Option<&Seen<'_>>) {
        match self {
            Self::Ids(text) => {
                text.push_str(id);
                text.push('\n');
            }
            Self::Json(text) => {
                let (Some(status), Some(seen)) = (status, seen) else { return };
                text.push(if text.is_empty() { b'[' } else { b',' });
                // Strings and numbers cannot fail to serialize, nor memory to be written.
                let _whole = serde_json::to_writer(text, &Document::of_one(seen, &seen.annotations(), status, owner));
            }
            Self::Table(table) => {
                let pid = seen.filter(|_| !matches!(status, Some(Status::Stopped) | None)).map_or(0, |seen| seen.pid);
                table.cell(id);
                table.number(pid);
                table.cell(status.map_or("unreadable", Status::word));
                table.cell(seen.map_or("", |seen| &seen.bundle));
                table.cell(seen.map_or("", |seen| &seen.created));
                table.cell(owner);
            }
        }
    }

    fn text(&mut self) -> String {
        match self {
            Self::Ids(text) => std::mem::take(text),
            // Go's encoding of an empty list, which is what runc prints and engines have met.
            Self::Json(text) if text.is_empty() => "null\n".into(),
            Self::Json(text) => {
                text.extend_from_slice(b"]\n");
                String::from_utf8(std::mem::take(text)).unwrap_or_default()
            }
            Self::Table(table) => table.text(),
        }
    }
}

const COLUMNS: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];

/// Cells, row by row, and where each ends. Columns are as Go's tabwriter makes them for runc: 12 wide at least, 3 between.
struct Table {
    cells: String,
    ends: Vec<usize>,
}

impl Table {
    fn new() -> Self {
        let mut table = Self { cells: String::new(), ends: Vec::new() };
        COLUMNS.iter().for_each(|name| table.cell(name));
        table
    }

    fn cell(&mut self, text: &str) {
        self.cells.push_str(text);
        self.ends.push(self.cells.len());
    }

    fn number(&mut self, number: i32) {
        // A string takes whatever is written to it.
        let _written = write!(self.cells, "{number}");
        self.ends.push(self.cells.len());
    }

    /// Each cell with its column.
    fn cells(&self) -> impl Iterator<Item = (usize, &str)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let columns = (0..COLUMNS.len()).cycle();
        columns.zip(starts.zip(&self.ends).map(|(start, &end)| self.cells.get(start..end).unwrap_or_default()))
    }

    fn text(&self) -> String {
        let mut widths = [12usize; COLUMNS.len()];
        let width = |cell: &str| if cell.is_ascii() { cell.len() } else { cell.chars().count() };
        for (column, cell) in self.cells() {
            if let Some(most) = widths.get_mut(column) {
                *most = (*most).max(width(cell) + 3);
            }
        }
        let mut text = String::with_capacity((self.ends.len() / COLUMNS.len()) * widths.iter().sum::<usize>());
        for (column, cell) in self.cells() {
            text.push_str(cell);
            if column == COLUMNS.len() - 1 {
                text.push('\n');
            } else {
                let empty = widths.get(column).map_or(0, |most| most.saturating_sub(width(cell)));
                pad(&mut text, empty);
            }
        }
        text
    }
}

fn pad(text: &mut String, mut spaces: usize) {
    const SPACES: &str = "                                ";
    while let Some(some) = SPACES.get(..spaces.min(SPACES.len())).filter(|some| !some.is_empty()) {
        text.push_str(some);
        spaces -= some.len();
    }
}

/// The owner's name in /etc/passwd, or `#UID`.
fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_string())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_container_is_a_row() {
        for (mut list, empty, full) in [
            (List::Table(Table::new()), "", "bad         0           unreadable   "),
            (List::Json(Vec::new()), "null\n", "null\n"),
            (List::Ids(String::new()), "", "bad\n"),
        ] {
            let mut text = list.text();
            if let List::Table(_) = list {
                assert_eq!(text, "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
                text.clear();
            }
            assert_eq!(text, empty);
            list.add("bad", "", None, None);
            assert!(list.text().lines().last().unwrap_or_default().starts_with(full.trim_end_matches('\n')));
        }
    }
}
