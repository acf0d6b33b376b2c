//! `linux.intelRdt` -> what is to be made of it. Pure.

use super::{FIELD, schemata};
use crate::config::LinuxIntelRdt;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// A group for control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// The root of the file system.
    Default,
    /// Named after the container: made with it, removed with it.
    Own(String),
    /// Named by `closID`, with limits: made if it is not there, else it must have them.
    Shared(String),
    /// Named by `closID` alone: must be there.
    Given(String),
}

impl Group {
    /// Its place below the mount.
    pub fn name(&self) -> &str {
        match self {
            Self::Default => "",
            Self::Own(name) | Self::Shared(name) | Self::Given(name) => name,
        }
    }
}

/// A line for the file `schemata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// JSON pointer.
    pub field: String,
    /// `L3:0=ff;1=ff`, without the line's end.
    pub text: String,
    /// In a group that is there already it is compared, not written.
    pub compared: bool,
}

/// The part of a plan that is of RDT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Where resctrl is mounted.
    pub root: PathBuf,
    /// The group that the container's processes are in.
    pub group: Group,
    /// Its limits, in order.
    pub lines: Vec<Line>,
    /// The name of the monitoring group below it.
    pub monitor: Option<String>,
}

impl Setup {
    /// Plans it (config-linux.md, IntelRdt).
    ///
    /// # Errors
    /// resctrl is not mounted.
    pub fn plan(asked: &LinuxIntelRdt, id: &str, mount: Option<&Path>) -> Result<Self> {
        let Some(root) = mount else {
            return Err(Error::new("use Intel RDT", "no resctrl file system is mounted")
                .at(FIELD)
                .hint("mount -t resctrl resctrl /sys/fs/resctrl; the processor must have RDT"));
        };
        let mut lines = Vec::new();
        for (member, text) in [("l3CacheSchema", asked.l3_cache_schema()), ("memBwSchema", asked.mem_bw_schema())] {
            lines.extend(schema(member, text.as_deref().unwrap_or_default()));
        }
        for (n, text) in asked.schemata().iter().flatten().enumerate() {
            lines.push(Line { field: format!("{FIELD}/schemata/{n}"), text: text.trim().to_owned(), compared: false });
        }
        let group = match asked.clos_id().as_deref().unwrap_or_default() {
            "" => Group::Own(id.to_owned()),
            "/" => Group::Default,
            name if lines.is_empty() => Group::Given(name.to_owned()),
            name => Group::Shared(name.to_owned()),
        };
        let monitor = asked.enable_monitoring().unwrap_or_default().then(|| id.to_owned());
        Ok(Self { root: root.to_owned(), group, lines, monitor })
    }

    /// Its path.
    pub fn directory(&self) -> PathBuf {
        if self.group == Group::Default { self.root.clone() } else { self.root.join(self.group.name()) }
    }

    /// Compares the limits of a group that is there already with the asked ones.
    pub(super) fn compare(&self, there: &str, group: &Path) -> Result<()> {
        for line in self.lines.iter().filter(|line| line.compared) {
            if !schemata::holds(there, &line.text) {
                let cause = format!("it has {:?}", there.split_whitespace().collect::<Vec<_>>().join(" "));
                return Err(Error::new(format!("find {:?} in {}/schemata", line.text, group.display()), cause)
                    .at(line.field.clone())
                    .hint("a group that exists keeps its limits: ask for the same, or for another closID"));
            }
        }
        Ok(())
    }
}

/// The lines of `l3CacheSchema` or `memBwSchema`.
pub fn schema(member: &str, text: &str) -> Vec<Line> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| Line { field: format!("{FIELD}/{member}"), text: line.to_owned(), compared: true }).collect()
}
