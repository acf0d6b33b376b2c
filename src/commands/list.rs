//! `list`: one line a container. One that cannot be read is a line too, never the end of the list.

use super::state::Document;
use super::status;
use crate::cli::{Global, ListFormat};
use crate::error::Result;
use crate::store::{Record, Store};
use crate::sys::fs;
use std::collections::BTreeMap;

/// `list`.
pub fn list(global: &Global, format: ListFormat, quiet: bool) -> Result<u8> {
    let Some(store) = Store::open(global.root.as_deref())? else {
        return super::print(&render(&[], format, quiet));
    };
    let mut rows = Vec::new();
    let mut owners = BTreeMap::new();
    for id in store.ids()? {
        let row = match store.state_of(&id) {
            Ok(Some(record)) => {
                let owner = owners.entry(record.owner).or_insert_with(|| owner(record.owner)).clone();
                // One whose status cannot be told is shown without: the others are to be seen all the same.
                let state = status::look(|| store.open_start_of(&id), &record, fs::read_closed).ok();
                Row { id, owner, state, record: Some(record) }
            }
            other => {
                // Gone since it was listed, or never a container's: not there.
                let Ok(entry) = store.look(&id) else { continue };
                // Damaged, or being made.
                let record = if other.is_ok() { entry.creating() } else { None };
                let state = record.as_ref().map(|_| status::Status::Creating);
                Row { id, owner: record.as_ref().map(|r| owner(r.owner)).unwrap_or_default(), state, record }
            }
        };
        rows.push(row);
    }
    let text = render(&rows, format, quiet);
    // The process ends, and the kernel takes everything back in one go.
    std::mem::forget((rows, store));
    super::print(&text)
}

struct Row {
    id: String,
    owner: String,
    state: Option<status::Status>,
    record: Option<Record>,
}

fn render(rows: &[Row], format: ListFormat, quiet: bool) -> String {
    if quiet {
        return rows.iter().map(|r| format!("{}\n", r.id)).collect();
    }
    match format {
        ListFormat::Json => {
            let documents: Vec<_> =
                rows.iter().filter_map(|r| Some(Document::new(r.record.as_ref()?, r.state?, r.owner.clone()))).collect();
            // Go's encoding of an empty list, which is what runc prints and engines have met.
            let none = documents.is_empty();
            let mut text = if none { "null".into() } else { serde_json::to_string(&documents).unwrap_or_default() };
            text.push('\n');
            text
        }
        ListFormat::Table => table(rows),
    }
}

/// Columns as Go's tabwriter makes them for runc: 12 wide at least, 3 between.
fn table(rows: &[Row]) -> String {
    let mut lines = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from)];
    for row in rows {
        let record = row.record.as_ref();
        let pid = match (row.state, record) {
            (Some(status::Status::Stopped) | None, _) | (_, None) => 0,
            (_, Some(r)) => r.pid,
        };
        lines.push([
            row.id.clone(),
            pid.to_string(),
            row.state.map_or_else(|| "unreadable".to_string(), |s| s.to_string()),
            record.map(|r| r.bundle.display().to_string()).unwrap_or_default(),
            record.map(|r| r.created.clone()).unwrap_or_default(),
            row.owner.clone(),
        ]);
    }
    let mut widths = [0usize; 6];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count() + 3).max(12);
        }
    }
    let mut text = String::new();
    for line in &lines {
        let (last, head) = line.split_last().map_or((None, &[][..]), |(l, h)| (Some(l), h));
        for (cell, width) in head.iter().zip(widths) {
            text.push_str(&format!("{cell:<width$}"));
        }
        text.push_str(last.map_or("", String::as_str));
        text.push('\n');
    }
    text
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
        let rows = [Row { id: "bad".into(), owner: String::new(), state: None, record: None }];
        assert!(render(&rows, ListFormat::Table, false).contains("unreadable"));
        assert_eq!(render(&rows, ListFormat::Json, false), "null\n");
        assert_eq!(render(&rows, ListFormat::Table, true), "bad\n");
        assert!(render(&[], ListFormat::Table, false).starts_with("ID          PID         STATUS"));
    }
}
