//! `mounts[].options` as typed values: attributes of the mount, flags of the filesystem, propagation, data. Pure; which
//! options go together is `check`'s.
//!
//! The words are those of config.md, Linux mount options, with runc's and crun's own. Of contradicting ones the last wins,
//! as in mount(8). What no list knows is data for the filesystem.

use super::LinuxIdMapping;
use crate::error::{Error, Result};
use libc::{
    MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME,
};
use oci_spec::runtime::LinuxIdMappingBuilder;

/// What the options of one mount ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// `MOUNT_ATTR_*` to set on the mount itself.
    pub attr_set: u64,
    /// `MOUNT_ATTR_*` to clear on it: what was asked for in so many words (`rw`, `suid` ...), so that a flag inherited from
    /// the source of a bind mount is kept only if nobody objects. Holds the whole access time field when a mode is set,
    /// as mount_setattr(2) wants.
    pub attr_clr: u64,
    /// As `attr_set`, for the mount and everything below it.
    pub rec_set: u64,
    /// As `attr_clr`, for the mount and everything below it.
    pub rec_clr: u64,
    /// Flags of the filesystem by the names that `fsconfig(FSCONFIG_SET_FLAG)` has for them: `sync`, `async`, `dirsync`,
    /// `lazytime`, `nolazytime`, `mand`, `nomand`. Without meaning for a bind mount, as in mount(2).
    pub sb_flags: Vec<&'static str>,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`, in the order given; true for the recursive form.
    pub propagation: Vec<(u64, bool)>,
    /// Data for the filesystem, `key` or `key=value` each.
    pub data: Vec<String>,
    /// `bind` or `rbind`.
    pub bind: bool,
    /// `rbind`.
    pub rbind: bool,
    /// `remount`.
    pub remount: bool,
    /// `tmpcopyup`: fill the tmpfs with what it hides.
    pub tmpcopyup: bool,
    /// `copy-symlink` (crun): a source that is a symbolic link is made anew instead of followed.
    pub copy_symlink: bool,
    /// `src-nofollow` (crun): the source itself is bound when it is a symbolic link.
    pub src_nofollow: bool,
    /// `dest-nofollow` (crun): the destination itself is the mount point when it is a symbolic link.
    pub dest_nofollow: bool,
    /// `idmap`, `ridmap` and crun's `idmap=uids=...;gids=...`.
    pub idmap: Idmap,
}

/// How an options list wants ids mapped on a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Idmap {
    /// No such option. Mappings of the mount entry apply all the same, not recursively.
    #[default]
    None,
    /// `idmap` or `ridmap`: by the mappings of the mount entry, or else by the container's user namespace.
    Container {
        /// `ridmap`: everything below the mount too.
        recursive: bool,
    },
    /// By the mappings in the option itself (crun).
    Mapped {
        /// `uids=`.
        uids: Vec<IdRange>,
        /// `gids=`.
        gids: Vec<IdRange>,
        /// Written as `ridmap=`.
        recursive: bool,
    },
}

/// What one word does.
#[derive(Clone, Copy)]
enum Word {
    /// Nothing to do. `defaults` is what is so anyway; `norelatime` only takes back a default that cannot be taken back;
    /// `silent` and `loud` are about kernel messages; fsconfig(2) has no `iversion`, filesystems that count changes do so
    /// by themselves or take data of their own.
    Nothing,
    Set(u64),
    Clear(u64),
    /// An access time mode.
    Atime(u64),
    /// The end of an access time mode: the kernel's default unless another mode was chosen.
    NotAtime(u64),
    RecSet(u64),
    RecClear(u64),
    RecAtime(u64),
    RecNotAtime(u64),
    /// A filesystem flag, and the one that it takes the place of.
    Flag(&'static str, &'static str),
    Propagation(u64, bool),
    Bind,
    Rbind,
    Remount,
    TmpCopyUp,
    CopySymlink,
    SrcNofollow,
    DestNofollow,
    Idmap,
    Ridmap,
}

use Word::*;

const WORDS: &[(&str, Word)] = &[
    ("async", Flag("async", "sync")),
    ("atime", NotAtime(MOUNT_ATTR_NOATIME)),
    ("bind", Bind),
    ("copy-symlink", CopySymlink),
    ("defaults", Nothing),
    ("dest-nofollow", DestNofollow),
    ("dev", Clear(MOUNT_ATTR_NODEV)),
    ("diratime", Clear(MOUNT_ATTR_NODIRATIME)),
    ("dirsync", Flag("dirsync", "")),
    ("exec", Clear(MOUNT_ATTR_NOEXEC)),
    ("idmap", Idmap),
    ("iversion", Nothing),
    ("lazytime", Flag("lazytime", "nolazytime")),
    ("loud", Nothing),
    ("mand", Flag("mand", "nomand")),
    ("noatime", Atime(MOUNT_ATTR_NOATIME)),
    ("nodev", Set(MOUNT_ATTR_NODEV)),
    ("nodiratime", Set(MOUNT_ATTR_NODIRATIME)),
    ("noexec", Set(MOUNT_ATTR_NOEXEC)),
    ("noiversion", Nothing),
    ("nolazytime", Flag("nolazytime", "lazytime")),
    ("nomand", Flag("nomand", "mand")),
    ("norelatime", Nothing),
    ("nostrictatime", NotAtime(MOUNT_ATTR_STRICTATIME)),
    ("nosuid", Set(MOUNT_ATTR_NOSUID)),
    ("nosymfollow", Set(MOUNT_ATTR_NOSYMFOLLOW)),
    ("private", Propagation(libc::MS_PRIVATE, false)),
    ("ratime", RecNotAtime(MOUNT_ATTR_NOATIME)),
    ("rbind", Rbind),
    ("rdev", RecClear(MOUNT_ATTR_NODEV)),
    ("rdiratime", RecClear(MOUNT_ATTR_NODIRATIME)),
    ("relatime", Atime(MOUNT_ATTR_RELATIME)),
    ("remount", Remount),
    ("rexec", RecClear(MOUNT_ATTR_NOEXEC)),
    ("ridmap", Ridmap),
    ("rnoatime", RecAtime(MOUNT_ATTR_NOATIME)),
    ("rnodev", RecSet(MOUNT_ATTR_NODEV)),
    ("rnodiratime", RecSet(MOUNT_ATTR_NODIRATIME)),
    ("rnoexec", RecSet(MOUNT_ATTR_NOEXEC)),
    ("rnorelatime", Nothing),
    ("rnostrictatime", RecNotAtime(MOUNT_ATTR_STRICTATIME)),
    ("rnosuid", RecSet(MOUNT_ATTR_NOSUID)),
    ("rnosymfollow", RecSet(MOUNT_ATTR_NOSYMFOLLOW)),
    ("ro", Set(MOUNT_ATTR_RDONLY)),
    ("rprivate", Propagation(libc::MS_PRIVATE, true)),
    ("rrelatime", RecAtime(MOUNT_ATTR_RELATIME)),
    ("rro", RecSet(MOUNT_ATTR_RDONLY)),
    ("rrw", RecClear(MOUNT_ATTR_RDONLY)),
    ("rshared", Propagation(libc::MS_SHARED, true)),
    ("rslave", Propagation(libc::MS_SLAVE, true)),
    ("rstrictatime", RecAtime(MOUNT_ATTR_STRICTATIME)),
    ("rsuid", RecClear(MOUNT_ATTR_NOSUID)),
    ("rsymfollow", RecClear(MOUNT_ATTR_NOSYMFOLLOW)),
    ("runbindable", Propagation(libc::MS_UNBINDABLE, true)),
    ("rw", Clear(MOUNT_ATTR_RDONLY)),
    ("shared", Propagation(libc::MS_SHARED, false)),
    ("silent", Nothing),
    ("slave", Propagation(libc::MS_SLAVE, false)),
    ("src-nofollow", SrcNofollow),
    ("strictatime", Atime(MOUNT_ATTR_STRICTATIME)),
    ("suid", Clear(MOUNT_ATTR_NOSUID)),
    ("symfollow", Clear(MOUNT_ATTR_NOSYMFOLLOW)),
    ("sync", Flag("sync", "async")),
    ("tmpcopyup", TmpCopyUp),
    ("unbindable", Propagation(libc::MS_UNBINDABLE, false)),
];

/// Every option that has a meaning here, for `features`: all others are handed to the filesystem.
pub const KNOWN: &[&str] = &{
    let mut names = [""; WORDS.len()];
    let mut n = 0;
    while n < names.len() {
        names[n] = WORDS[n].0;
        n += 1;
    }
    names
};

/// Reads the options of a mount.
///
/// # Errors
/// A NUL or an empty key; a malformed `idmap=`. The field is the option's index, `/3`.
pub fn parse(options: &[String]) -> Result<MountOptions> {
    let mut mount = MountOptions::default();
    for (n, option) in options.iter().enumerate() {
        match WORDS.binary_search_by_key(&option.as_str(), |(name, _)| name) {
            Ok(at) => mount.apply(WORDS[at].1),
            Err(_) => mount.other(option).map_err(|e| e.at(format!("/{n}")))?,
        }
    }
    Ok(mount)
}

impl MountOptions {
    fn apply(&mut self, word: Word) {
        match word {
            Nothing => {}
            Set(bits) => switch(&mut self.attr_set, &mut self.attr_clr, bits),
            Clear(bits) => switch(&mut self.attr_clr, &mut self.attr_set, bits),
            Atime(mode) => atime(&mut self.attr_set, &mut self.attr_clr, mode),
            NotAtime(mode) => not_atime(&mut self.attr_set, &mut self.attr_clr, mode),
            RecSet(bits) => switch(&mut self.rec_set, &mut self.rec_clr, bits),
            RecClear(bits) => switch(&mut self.rec_clr, &mut self.rec_set, bits),
            RecAtime(mode) => atime(&mut self.rec_set, &mut self.rec_clr, mode),
            RecNotAtime(mode) => not_atime(&mut self.rec_set, &mut self.rec_clr, mode),
            Flag(name, opposite) => {
                self.sb_flags.retain(|f| *f != name && *f != opposite);
                self.sb_flags.push(name);
            }
            Propagation(kind, recursive) => self.propagation.push((kind, recursive)),
            Bind => self.bind = true,
            Rbind => (self.bind, self.rbind) = (true, true),
            Remount => self.remount = true,
            TmpCopyUp => self.tmpcopyup = true,
            CopySymlink => self.copy_symlink = true,
            SrcNofollow => self.src_nofollow = true,
            DestNofollow => self.dest_nofollow = true,
            Word::Idmap => self.idmap = Idmap::Container { recursive: false },
            Ridmap => self.idmap = Idmap::Container { recursive: true },
        }
    }

    fn other(&mut self, option: &str) -> Result<()> {
        if option.contains('\0') {
            return Err(Error::new("invalid mount option", format!("{option:?} contains a NUL byte")));
        }
        if let Some(maps) = option.strip_prefix("idmap=") {
            self.idmap = mapped(maps, false)?;
        } else if let Some(maps) = option.strip_prefix("ridmap=") {
            self.idmap = mapped(maps, true)?;
        } else {
            for part in split_data(option) {
                if part.starts_with('=') {
                    return Err(Error::new("invalid mount option", format!("{part:?} has no name")));
                }
                if !part.is_empty() {
                    self.data.push(part.to_owned());
                }
            }
        }
        Ok(())
    }
}

/// Puts `bits` in one word and takes them out of its opposite: the last one said wins.
fn switch(on: &mut u64, off: &mut u64, bits: u64) {
    *on |= bits;
    *off &= !bits;
}

fn atime(set: &mut u64, clr: &mut u64, mode: u64) {
    *clr |= libc::MOUNT_ATTR__ATIME;
    *set = *set & !libc::MOUNT_ATTR__ATIME | mode;
}

fn not_atime(set: &mut u64, clr: &mut u64, mode: u64) {
    *clr |= libc::MOUNT_ATTR__ATIME;
    *set &= !mode;
}

/// Data may come as one option, `size=1k,mode=755`, since mount(2) takes it so; fsconfig(2) wants it apart. A comma in quotes
/// (SELinux contexts) or after a backslash (overlay) belongs to the value.
fn split_data(option: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in option.char_indices() {
        match c {
            ',' if !quoted && !escaped => {
                parts.push(&option[start..at]);
                start = at + 1;
            }
            '"' => quoted = !quoted,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(&option[start..]);
    parts
}

/// One range of crun's `idmap=`, `[@]INSIDE-OUTSIDE-SIZE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id on the filesystem.
    pub inside: u32,
    /// First id that it becomes.
    pub outside: u32,
    /// Number of ids, not 0.
    pub size: u32,
    /// Written with `@`: `outside` is an id of the container.
    pub relative: bool,
}

impl IdRange {
    /// The line of the id map, `outside` of a relative range moved as the container's mapping moves `inside`.
    ///
    /// # Errors
    /// A relative range that no single mapping of the container holds, or that moves out of the ids there are.
    pub fn mapping(&self, container: &[LinuxIdMapping]) -> Result<LinuxIdMapping> {
        let outside = if self.relative { self.moved(container)? } else { self.outside };
        let map = LinuxIdMappingBuilder::default().container_id(self.inside).host_id(outside).size(self.size).build();
        map.map_err(|e| Error::new("invalid idmap option", e.to_string()))
    }

    fn moved(&self, container: &[LinuxIdMapping]) -> Result<u32> {
        let (first, last) = (u64::from(self.inside), u64::from(self.inside) + u64::from(self.size));
        let around = container.iter().find(|m| {
            let start = u64::from(m.container_id());
            start <= first && last <= start + u64::from(m.size())
        });
        let bad =
            |cause: &str| Error::new("invalid idmap option", format!("@{}-{}-{}: {cause}", self.inside, self.outside, self.size));
        let m = around.ok_or_else(|| bad("no mapping of the container holds the range"))?;
        let outside = i64::from(self.outside) + i64::from(m.host_id()) - i64::from(m.container_id());
        u32::try_from(outside).map_err(|_| bad("moves out of the range of ids"))
    }
}

/// `uids=0-1-10#10-11-10;gids=0-100-10`, both needed.
fn mapped(text: &str, recursive: bool) -> Result<Idmap> {
    let bad = |cause: &str| {
        Error::new("invalid idmap option", format!("{cause}: {text:?}"))
            .hint("idmap=uids=INSIDE-OUTSIDE-SIZE;gids=INSIDE-OUTSIDE-SIZE")
    };
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    for part in text.split(';') {
        let (list, ranges) = match part.split_once('=') {
            Some(("uids", ranges)) => (&mut uids, ranges),
            Some(("gids", ranges)) => (&mut gids, ranges),
            _ => return Err(bad("neither uids= nor gids=")),
        };
        for range in ranges.split('#') {
            list.push(id_range(range).ok_or_else(|| bad("malformed range"))?);
        }
    }
    if uids.is_empty() || gids.is_empty() {
        return Err(bad("both uids= and gids= are needed"));
    }
    Ok(Idmap::Mapped { uids, gids, recursive })
}

fn id_range(text: &str) -> Option<IdRange> {
    let (relative, text) = text.strip_prefix('@').map_or((false, text), |rest| (true, rest));
    let mut numbers = text.split('-').map(|n| n.bytes().all(|b| b.is_ascii_digit()).then(|| n.parse::<u32>().ok()).flatten());
    let (inside, outside, size) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let fits = |first: u32| first.checked_add(size).is_some();
    (numbers.next().is_none() && size > 0 && fits(inside) && fits(outside)).then_some(IdRange { inside, outside, size, relative })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[&str]) -> Result<MountOptions> {
        parse(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    fn ok(list: &[&str]) -> MountOptions {
        options(list).unwrap()
    }

    #[test]
    fn the_table_is_sorted_and_told() {
        assert!(WORDS.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(KNOWN.len(), WORDS.len());
        for word in KNOWN {
            assert!(ok(&[word]).data.is_empty(), "{word}");
        }
    }

    #[test]
    fn every_option_that_the_spec_requires_is_known() {
        for word in "async atime bind defaults dev diratime dirsync exec iversion lazytime loud noatime nodev nodiratime noexec \
            noiversion nolazytime norelatime nostrictatime nosuid private rbind relatime remount rprivate rshared rslave \
            runbindable rw ro shared silent slave strictatime suid sync unbindable mand nomand nosymfollow symfollow idmap ridmap \
            ratime rdev rdiratime rexec rnoatime rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow rrelatime rro \
            rrw rstrictatime rsuid rsymfollow rnodev tmpcopyup"
            .split_whitespace()
        {
            assert!(KNOWN.contains(&word), "{word}");
        }
    }

    #[test]
    fn the_last_of_opposites_wins_and_what_was_asked_shows() {
        let m = ok(&["ro", "nosuid", "rw", "nodev"]);
        assert_eq!((m.attr_set, m.attr_clr), (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, MOUNT_ATTR_RDONLY));
        let m = ok(&["rw", "suid", "ro"]);
        assert_eq!((m.attr_set, m.attr_clr), (MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID));
        let m = ok(&["rro", "rsuid", "nosymfollow"]);
        assert_eq!((m.attr_set, m.rec_set, m.rec_clr), (MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID));
        assert_eq!(ok(&["sync", "lazytime", "async"]).sb_flags, ["lazytime", "async"]);
        assert_eq!(ok(&["defaults"]), MountOptions::default());
    }

    #[test]
    fn an_access_time_mode_replaces_the_field() {
        let field = libc::MOUNT_ATTR__ATIME;
        let m = ok(&["noatime", "strictatime"]);
        assert_eq!((m.attr_set, m.attr_clr), (MOUNT_ATTR_STRICTATIME, field));
        assert_eq!((ok(&["relatime"]).attr_set, ok(&["relatime"]).attr_clr), (0, field));
        assert_eq!((ok(&["noatime", "atime"]).attr_set, ok(&["atime"]).attr_clr), (0, field));
        assert_eq!(ok(&["strictatime", "atime"]).attr_set, MOUNT_ATTR_STRICTATIME);
        let m = ok(&["rnoatime", "nodiratime"]);
        assert_eq!((m.rec_set, m.rec_clr, m.attr_set), (MOUNT_ATTR_NOATIME, field, MOUNT_ATTR_NODIRATIME));
    }

    #[test]
    fn binds_propagation_and_data() {
        let m =
            ok(&["rbind", "rslave", "shared", "size=64k,mode=1777", "context=\"a:c1,c2\",uid=1", "lowerdir=/a\\,b", "x-y", ""]);
        assert!(m.bind && m.rbind && !m.remount);
        assert_eq!(m.propagation, [(libc::MS_SLAVE, true), (libc::MS_SHARED, false)]);
        assert_eq!(m.data, ["size=64k", "mode=1777", "context=\"a:c1,c2\"", "uid=1", "lowerdir=/a\\,b", "x-y"]);
        assert_eq!(options(&["ro", "a\0b"]).unwrap_err().field(), "/1");
        assert_eq!(options(&["=x"]).unwrap_err().field(), "/0");
    }

    #[test]
    fn id_maps() {
        assert_eq!(ok(&["idmap"]).idmap, Idmap::Container { recursive: false });
        assert_eq!(ok(&["ridmap"]).idmap, Idmap::Container { recursive: true });
        let Idmap::Mapped { uids, gids, recursive } = ok(&["idmap=uids=0-1-10#@10-11-5;gids=@0-100-10"]).idmap else { panic!() };
        assert!(!recursive);
        assert_eq!(uids[0], IdRange { inside: 0, outside: 1, size: 10, relative: false });
        assert_eq!(uids[1], IdRange { inside: 10, outside: 11, size: 5, relative: true });
        assert!(gids[0].relative);
        for bad in [
            "",
            "uids=0-0-1",
            "uids=0-0-1;gids=",
            "uids=0-0;gids=0-0-1",
            "uids=0-0-0;gids=0-0-1",
            "x=0-0-1;gids=0-0-1",
            "uids=0-0-1-2;gids=0-0-1",
            "uids=+0-0-1;gids=0-0-1",
            "uids=0-4294967295-2;gids=0-0-1",
            "uids=@@0-0-1;gids=0-0-1",
        ] {
            assert!(options(&[&format!("idmap={bad}")]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_relative_range_moves_with_the_container() {
        let map = LinuxIdMappingBuilder::default().container_id(1u32).host_id(2u32).size(1000u32).build().unwrap();
        let range = IdRange { inside: 1, outside: 3, size: 10, relative: true };
        assert_eq!(range.mapping(&[map]).unwrap().host_id(), 4);
        assert_eq!(IdRange { relative: false, ..range }.mapping(&[]).unwrap().host_id(), 3);
        assert!(range.mapping(&[]).is_err());
        assert!(IdRange { size: 1001, ..range }.mapping(&[map]).is_err());
    }
}
