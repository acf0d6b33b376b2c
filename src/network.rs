//! Network devices of the host that a container is given (`linux.netDevices`, config-linux.md, "Network Devices").
//!
//! A device is moved with its permanent addresses of global scope, which the kernel drops on the way, and brought up. No
//! routes: those come back with the addresses, or are the business of whoever configures the network. `lo` is
//! [`loopback_up`](crate::sys::netlink::loopback_up), in the container's init.

use crate::config::NetDevice;
use crate::error::{Context, Error, Result};
use crate::sys::netlink::{Refusal, Request, Socket, attributes, u32_at};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_PERMANENT: u32 = 0x80;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const NLM_F_CREATE_EXCL: u16 = 0x600;
const IFF_UP: u32 = 1;
/// Room for a device's name with its zero byte.
const IFNAMSIZ: usize = 16;

/// Moves the devices from the caller's network namespace to `netns`. Needs CAP_NET_ADMIN over both namespaces and
/// CAP_SYS_ADMIN over the target's user namespace. On failure the devices moved so far stay: they go with the namespace.
pub fn move_devices(devices: &BTreeMap<String, NetDevice>, netns: BorrowedFd) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    for (name, device) in devices {
        check_name(name).and_then(|()| check_name(new_name(name, device))).map_err(|e| e.at(pointer(name)))?;
    }
    let mut here = Socket::open().step("socket", || "open a netlink socket".into())?;
    let mut there =
        Socket::open_in(netns).step("setns", || "open a netlink socket in the container's network namespace".into())?;
    devices.iter().try_for_each(|(name, device)| {
        move_device(&mut here, &mut there, name, new_name(name, device), netns).map_err(|e| e.at(pointer(name)))
    })
}

fn new_name<'a>(name: &'a str, device: &'a NetDevice) -> &'a str {
    if device.name.is_empty() { name } else { &device.name }
}

fn pointer(name: &str) -> String {
    format!("/linux/netDevices/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The kernel's rules, and no `%`: with one it makes up a name of its own.
fn check_name(name: &str) -> Result<()> {
    let odd = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() >= IFNAMSIZ || name == "." || name == ".." || name.contains(odd) {
        return Err(Error::new("check the name of a network device", format!("{name:?} is not a valid name"))
            .hint("at most 15 bytes without white space and / : %"));
    }
    Ok(())
}

fn move_device(here: &mut Socket, there: &mut Socket, name: &str, new_name: &str, netns: BorrowedFd) -> Result<()> {
    let index = index_of(here, name).map_err(|r| said(format!("find the network device {name}"), r))?;
    // The kernel moves first and renames then: a name that is taken would leave the device there under its old one.
    match index_of(there, new_name) {
        Err(refusal) if refusal.errno == Errno::ENODEV => {}
        other => {
            let taken = other.err().unwrap_or_else(|| Errno::EEXIST.into());
            return Err(said(format!("move {name} to the container as {new_name}"), taken));
        }
    }
    // Asked for first: the kernel drops IPv6 addresses when the device goes down.
    let addresses = addresses_of(here, index).map_err(|r| said(format!("list the addresses of {name}"), r))?;
    set_flags(here, index, 0).map_err(|r| said(format!("set {name} down"), r))?;
    if let Err(refusal) = hand_over(here, index, new_name, netns) {
        // Left as it was found, as far as that can be done.
        let mut back = set_flags(here, index, IFF_UP);
        for address in &addresses {
            back = back.and_then(|()| add_address(here, index, address));
        }
        let error = said(format!("move {name} to the container as {new_name}"), refusal);
        return Err(if back.is_ok() {
            error
        } else {
            error.hint("the device is left down, without addresses, or in the container under its old name")
        });
    }
    let index = index_of(there, new_name).map_err(|r| said(format!("find {new_name} in the container"), r))?;
    for address in &addresses {
        add_address(there, index, address).map_err(|r| said(format!("give {new_name} its address {address} back"), r))?;
    }
    set_flags(there, index, IFF_UP).map_err(|r| said(format!("set {new_name} up"), r))
}

fn said(step: String, refusal: Refusal) -> Error {
    let error = Error::sys(step, "sendto", refusal.errno.into());
    match (refusal.words.is_empty(), refusal.errno) {
        (false, _) => error.hint(refusal.words),
        (true, Errno::EPERM) => error.hint("CAP_NET_ADMIN is needed; netDevices do not work rootless"),
        (true, Errno::EINVAL) => error.hint("some devices cannot leave their network namespace"),
        _ => error,
    }
}

/// An `ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn with_zero(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn index_of(socket: &mut Socket, name: &str) -> std::result::Result<u32, Refusal> {
    let mut index = None;
    let request = Request::new(RTM_GETLINK, 0, &link_header(0, 0, 0)).attr(IFLA_IFNAME, &with_zero(name))?;
    socket.ask(request, |link| index = u32_at(link, 4))?;
    index.ok_or_else(|| Errno::ENODEV.into())
}

fn set_flags(socket: &mut Socket, index: u32, flags: u32) -> std::result::Result<(), Refusal> {
    socket.ask(Request::new(RTM_NEWLINK, 0, &link_header(index, flags, IFF_UP)), |_| ())
}

fn hand_over(socket: &mut Socket, index: u32, new_name: &str, netns: BorrowedFd) -> std::result::Result<(), Refusal> {
    let request = Request::new(RTM_NEWLINK, 0, &link_header(index, 0, 0))
        .attr(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes())?
        .attr(IFLA_IFNAME, &with_zero(new_name))?;
    socket.ask(request, |_| ())
}

/// An address worth keeping.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    /// Those of `IFA_F_*` that are the administrator's wish rather than the kernel's finding.
    flags: u32,
    /// IFA_LOCAL, IFA_ADDRESS and IFA_BROADCAST as they were.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.attributes.iter().find(|(kind, _)| *kind == IFA_LOCAL).or(self.attributes.first());
        let bytes = bytes.map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
        match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
            (Ok(v4), _) => write!(f, "{}/{}", std::net::Ipv4Addr::from(v4), self.prefix),
            (_, Ok(v6)) => write!(f, "{}/{}", std::net::Ipv6Addr::from(v6), self.prefix),
            _ => write!(f, "{bytes:?}/{}", self.prefix),
        }
    }
}

impl Address {
    /// Reads an `ifaddrmsg`; `None` unless it is of device `index`, of global scope and permanent: the rest belongs to the
    /// host's network (link-local, leased).
    fn parse(message: &[u8], index: u32) -> Option<Self> {
        let &[family, prefix, short_flags, scope, ..] = message else { return None };
        let all: Vec<_> = attributes(message.get(8..)?).collect();
        let flags = all.iter().find(|(kind, _)| *kind == IFA_FLAGS).and_then(|(_, value)| u32_at(value, 0));
        let flags = flags.unwrap_or(short_flags.into());
        if u32_at(message, 4)? != index || scope != libc::RT_SCOPE_UNIVERSE || flags & IFA_F_PERMANENT == 0 {
            return None;
        }
        let kept = all.into_iter().filter(|(kind, _)| [IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST].contains(kind));
        let attributes = kept.map(|(kind, value)| (kind, value.to_vec())).collect();
        Some(Self { family, prefix, flags: flags & (IFA_F_NODAD | IFA_F_NOPREFIXROUTE), attributes })
    }
}

fn addresses_of(socket: &mut Socket, index: u32) -> std::result::Result<Vec<Address>, Refusal> {
    // EINTR: the table changed under the listing. Three times in a row is somebody's fault.
    let mut tries = 0;
    loop {
        let mut addresses = Vec::new();
        match socket.ask(Request::dump(RTM_GETADDR, &[0; 8]), |message| addresses.extend(Address::parse(message, index))) {
            Err(refusal) if refusal.errno == Errno::EINTR && tries < 2 => tries += 1,
            other => return other.map(|()| addresses),
        }
    }
}

fn add_address(socket: &mut Socket, index: u32, address: &Address) -> std::result::Result<(), Refusal> {
    let mut header = [address.family, address.prefix, 0, libc::RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut request = Request::new(RTM_NEWADDR, NLM_F_CREATE_EXCL, &header).attr(IFA_FLAGS, &address.flags.to_ne_bytes())?;
    for (kind, value) in &address.attributes {
        request = request.attr(*kind, value)?;
    }
    match socket.ask(request, |_| ()) {
        Err(refusal) if refusal.errno == Errno::EEXIST => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_refuse_or_change() {
        for bad in ["", ".", "..", "sixteen-bytes-xx", "a b", "a/b", "a:b", "eth%d"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        check_name("fifteen-bytes-x").unwrap();
        assert_eq!(pointer("a/b~c"), "/linux/netDevices/a~1b~0c");
    }

    #[test]
    fn only_permanent_global_addresses_of_the_device_are_kept() {
        let message = |scope: u8, flags: u8| {
            let mut bytes = vec![2, 24, flags, scope, 5, 0, 0, 0];
            bytes.extend([8, 0, 2, 0, 10, 0, 0, 1]);
            bytes
        };
        let kept = Address::parse(&message(0, 0x80), 5).unwrap();
        assert_eq!(kept.to_string(), "10.0.0.1/24");
        assert_eq!(Address::parse(&message(253, 0x80), 5), None);
        assert_eq!(Address::parse(&message(0, 0), 5), None);
        assert_eq!(Address::parse(&message(0, 0x80), 6), None);
        assert_eq!(Address::parse(&[2, 24], 5), None);
    }
}
