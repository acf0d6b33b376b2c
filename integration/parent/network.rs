//! Devices that are really moved, between network namespaces of the test's own.

use onggi::config::NetDevice;
use onggi::network::move_devices;
use onggi::sys::netlink::loopback_up;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

/// A process in a network namespace of its own.
struct There(Child);

impl There {
    fn new() -> Self {
        let mut child =
            Command::new("unshare").args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // `cat` answers from inside.
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b".").unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        Self(child)
    }

    fn netns(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap()
    }

    fn ip(&self, args: &str) -> String {
        let net = format!("--net=/proc/{}/ns/net", self.0.id());
        let output = Command::new("nsenter").args([&net, "ip"]).args(args.split(' ')).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for There {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Only this test's thread goes to a new network namespace.
fn alone(test: &str) -> bool {
    super::root(test) && nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_ok()
}

fn devices(list: &[(&str, &str)]) -> std::collections::BTreeMap<String, NetDevice> {
    list.iter().map(|(host, name)| ((*host).to_owned(), NetDevice { name: (*name).to_owned() })).collect()
}

#[test]
fn loopback_comes_up() {
    if !alone("loopback_comes_up") {
        return;
    }
    assert!(!ip("link show lo").contains("LOOPBACK,UP"));
    loopback_up().unwrap();
    assert!(ip("link show lo").contains("LOOPBACK,UP"));
    assert!(ip("addr show lo").contains("127.0.0.1/8"));
}

#[test]
fn a_device_moves_with_its_addresses() {
    if !alone("a_device_moves_with_its_addresses") {
        return;
    }
    ip("link add v0 type veth peer name v1");
    ip("addr add 10.9.8.7/24 brd 10.9.8.255 dev v0");
    ip("addr add 10.9.8.8 peer 10.1.1.1/32 dev v0");
    ip("addr add 169.254.1.1/16 scope link dev v0");
    ip("addr add 10.77.0.1/24 dev v0 valid_lft 1000 preferred_lft 1000");
    ip("addr add 2001:db8::1/64 dev v0 nodad");
    ip("link set v0 up");
    let there = There::new();
    move_devices(&devices(&[("v0", "eth0")]), there.netns().as_fd()).unwrap();
    assert!(!ip("link").contains("v0@"), "the device is still here");
    let seen = there.ip("addr show eth0");
    for wanted in ["inet 10.9.8.7/24 brd 10.9.8.255 scope global", "inet 10.9.8.8 peer 10.1.1.1/32", "inet6 2001:db8::1/64"] {
        assert!(seen.contains(wanted), "{wanted} is not in {seen}");
    }
    assert!(seen.contains(",UP"), "{seen}");
    assert!(!seen.contains("169.254") && !seen.contains("10.77"), "{seen}");
    // The caller is still where it was.
    assert!(ip("link").contains("v1@"));
}

#[test]
fn a_name_that_is_taken_leaves_the_device_as_it_was() {
    if !alone("a_name_that_is_taken_leaves_the_device_as_it_was") {
        return;
    }
    ip("link add v0 type veth peer name v1");
    ip("addr add 10.9.8.7/24 dev v0");
    ip("addr add 2001:db8::1/64 dev v0 nodad");
    ip("link set v0 up");
    let there = There::new();
    let error = move_devices(&devices(&[("v0", "lo")]), there.netns().as_fd()).unwrap_err();
    assert_eq!((error.field(), error.errno().unwrap().0), ("/linux/netDevices/v0", libc::EEXIST), "{error}");
    let seen = ip("addr show v0");
    assert!(seen.contains(",UP") && seen.contains("10.9.8.7/24") && seen.contains("2001:db8::1/64"), "{seen}");
}

#[test]
fn a_missing_device_is_named() {
    if !alone("a_missing_device_is_named") {
        return;
    }
    let error = move_devices(&devices(&[("nope", "")]), There::new().netns().as_fd()).unwrap_err();
    assert_eq!(error.to_string(), "/linux/netDevices/nope: find the network device nope: no such device");
}
