//! Where a systemd can be spoken to: the system's, or that of the user's session.
//!
//! Each systemd has a socket of its own, which systemctl uses: no bus stands between, so none must run, nobody else's
//! messages hold us up, and no signal must be subscribed to. Only root, or the session's user, may connect. A bus is the
//! second choice, for places where only that socket is handed in.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The system's own socket.
const PRIVATE: &str = "/run/systemd/private";
/// The system bus, unless the environment names another.
const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";
/// The socket of a session's systemd, and of its bus, below `XDG_RUNTIME_DIR`.
const SESSION: [&str; 2] = ["systemd/private", "bus"];

/// Which systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instance {
    /// The first process, for root.
    System,
    /// That of the caller's session.
    User,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::System { "system" } else { "user" })
    }
}

impl Instance {
    /// Whose systemd makes units for this caller. Root of a user namespace has the session's, unless the system's is its own
    /// too, as in a container that was booted with a systemd.
    pub fn of_caller() -> Self {
        let root = nix::unistd::geteuid().is_root();
        let nested = || crate::sys::namespaces::are_nested().unwrap_or(false);
        // Owned by root as this namespace sees it: the host's shows as nobody's.
        let ours = || std::fs::metadata(PRIVATE).is_ok_and(|m| m.uid() == 0);
        if root && (!nested() || ours()) { Self::System } else { Self::User }
    }

    /// The slice of units that name none.
    pub fn default_slice(self) -> &'static str {
        if self == Self::System { "system.slice" } else { "user.slice" }
    }

    /// Addresses to try, in order.
    ///
    /// # Errors
    /// Nothing in the environment leads to a session.
    pub fn addresses(self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Vec<String>> {
        let variable = |name: &str| variable(name).filter(|v| !v.is_empty());
        let text = |name: &str| variable(name).and_then(|v| v.into_string().ok());
        if self == Self::System {
            let bus = text("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|| SYSTEM_BUS.into());
            return Ok(vec![of_path(Path::new(PRIVATE)), bus]);
        }
        let below = |name: &str| variable("XDG_RUNTIME_DIR").map(|dir| of_path(&Path::new(&dir).join(name)));
        let all: Vec<String> =
            [below(SESSION[0]), text("DBUS_SESSION_BUS_ADDRESS"), below(SESSION[1])].into_iter().flatten().collect();
        if all.is_empty() {
            return Err(Error::new("find the user's systemd", "neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS is set")
                .hint(no_session()));
        }
        Ok(all)
    }
}

/// What helps when there is no session of the user's.
pub fn no_session() -> &'static str {
    "log in as the user (su and sudo give no session), or keep one with `loginctl enable-linger USER` and set XDG_RUNTIME_DIR=/run/user/UID; or use --cgroup-manager cgroupfs"
}

/// Whether a systemd itself listens there, not a bus.
pub fn is_direct(address: &str) -> bool {
    address.ends_with("systemd/private")
}

/// `unix:path=`, with all but the plain characters escaped (D-Bus Specification, "Server Addresses").
fn of_path(path: &Path) -> String {
    let escape = |&b: &u8| match b {
        b if b.is_ascii_alphanumeric() || b"-_/.*".contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02x}"),
    };
    format!("unix:path={}", path.as_os_str().as_bytes().iter().map(escape).collect::<String>())
}

/// Where a local address leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A socket in the file system.
    File(Vec<u8>),
    /// One of Linux's abstract names.
    Abstract(Vec<u8>),
}

/// The places of an address, which may list several.
///
/// # Errors
/// None of them is local.
pub fn places(address: &str) -> Result<Vec<Place>> {
    let mut all = Vec::new();
    for one in address.split(';') {
        let Some(pairs) = one.strip_prefix("unix:") else { continue };
        for (key, value) in pairs.split(',').filter_map(|pair| pair.split_once('=')) {
            match (key, unescape(value)) {
                ("path", Some(name)) => all.push(Place::File(name)),
                ("abstract", Some(name)) => all.push(Place::Abstract(name)),
                _ => {}
            }
        }
    }
    if all.is_empty() {
        return Err(Error::new(format!("connect to {address}"), "it is not the address of a local socket")
            .hint("an address looks like unix:path=/run/user/1000/bus"));
    }
    Ok(all)
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(instance: Instance, variables: &[(&str, &str)]) -> Result<Vec<String>> {
        instance.addresses(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).into()))
    }

    #[test]
    fn the_own_socket_comes_first() {
        assert_eq!(addresses(Instance::System, &[]).unwrap(), ["unix:path=/run/systemd/private", SYSTEM_BUS]);
        let bus = [("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/x"), ("XDG_RUNTIME_DIR", "/run/user/0")];
        assert_eq!(addresses(Instance::System, &bus).unwrap()[1], "unix:path=/x");
        let all = addresses(Instance::User, &[("XDG_RUNTIME_DIR", "/run/a b"), ("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=q")]);
        assert_eq!(all.unwrap(), ["unix:path=/run/a%20b/systemd/private", "unix:abstract=q", "unix:path=/run/a%20b/bus"]);
        let error = addresses(Instance::User, &[("XDG_RUNTIME_DIR", "")]).unwrap_err().to_string();
        assert!(error.contains("loginctl enable-linger"), "{error}");
    }

    #[test]
    fn addresses_are_read() {
        let file = |name: &str| Place::File(name.into());
        assert_eq!(places("unix:path=/run/user/1000/bus").unwrap(), [file("/run/user/1000/bus")]);
        assert_eq!(places("unix:path=/a%20b,guid=00").unwrap(), [file("/a b")]);
        assert_eq!(
            places("tcp:host=x;unix:abstract=/tmp/q;unix:path=/b").unwrap(),
            [Place::Abstract("/tmp/q".into()), file("/b")]
        );
        for bad in ["", "unix:", "tcp:host=x,port=1", "unix:path=", "unix:path=%4", "unix:path=%zz", "/run/bus"] {
            assert!(places(bad).is_err(), "{bad}");
        }
        assert!(is_direct(&of_path(Path::new("/run/user/1/systemd/private"))) && !is_direct(SYSTEM_BUS));
    }
}
