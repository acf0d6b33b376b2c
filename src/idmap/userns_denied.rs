//! Why a user namespace cannot be made, or is of no use: settings of the host that are read after a failure, each with its
//! remedy.

use nix::errno::Errno;
use std::fs;

/// What one can see of the causes.
struct Signs<'a> {
    /// A file below /proc/sys, trimmed; empty where it is not there.
    sysctl: &'a dyn Fn(&str) -> String,
    /// A seccomp filter is in force on the runtime (`Seccomp:` of /proc/self/status).
    filtered: bool,
    /// No mount is the root directory: the runtime is in a chroot.
    chroot: bool,
    /// Our own ids are not mapped in our user namespace: they show as the overflow id.
    unmapped: bool,
}

const APPARMOR: &str = "kernel/apparmor_restrict_unprivileged_userns";
const APPARMOR_HINT: &str = "AppArmor takes user namespaces from programs without a profile that allows them (kernel.apparmor_restrict_unprivileged_userns is 1): as root, load a profile with \"userns,\" for this binary, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";

/// In the names of their limits.
const KINDS: [&str; 8] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"];

/// Asked after a clone(2) with CLONE_NEWUSER has failed.
pub fn why(errno: Errno) -> Option<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let sysctl = |name: &str| read(&format!("/proc/sys/{name}")).trim().to_owned();
    let filtered = read("/proc/self/status").lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]));
    let mounts = read("/proc/self/mountinfo");
    let chroot = !mounts.is_empty() && !mounts.lines().any(|line| line.split(' ').nth(4) == Some("/"));
    let overflow = |name: &str, id: u32| sysctl(name).parse() == Ok(id);
    let unmapped = overflow("kernel/overflowuid", nix::unistd::geteuid().as_raw())
        || overflow("kernel/overflowgid", nix::unistd::getegid().as_raw());
    of(errno, &Signs { sysctl: &sysctl, filtered, chroot, unmapped })
}

/// Which kind of namespace the host makes none of (namespaces(7), `/proc/sys/user`), asked after a clone(2) with `ENOSPC`.
pub fn why_no_namespace() -> Option<String> {
    forbidden(&|name| fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default().trim().to_owned())
}

fn forbidden(sysctl: &dyn Fn(&str) -> String) -> Option<String> {
    let kind = KINDS.iter().find(|kind| sysctl(&format!("user/max_{kind}_namespaces")) == "0")?;
    let name = format!("user.max_{kind}_namespaces");
    Some(format!("the host forbids them: {name} is 0; as root, sysctl -w {name}=15000"))
}

/// Asked when a process in a new user namespace is refused what its capabilities there should let it do: AppArmor lets the
/// namespace be made and takes the capabilities.
pub fn why_it_is_powerless() -> Option<&'static str> {
    fs::read_to_string(format!("/proc/sys/{APPARMOR}")).is_ok_and(|text| text.trim() == "1").then_some(APPARMOR_HINT)
}

fn of(errno: Errno, signs: &Signs<'_>) -> Option<String> {
    let is = |name: &str, value: &str| (signs.sysctl)(name) == value;
    let hint = match errno {
        Errno::ENOSPC if forbidden(signs.sysctl).is_some() => forbidden(signs.sysctl)?,
        Errno::ENOSPC | Errno::EUSERS => format!(
            "user.max_user_namespaces ({}) is reached here or further out, or the limit of 32 user namespaces inside each other",
            (signs.sysctl)("user/max_user_namespaces")
        ),
        Errno::EPERM if is("kernel/unprivileged_userns_clone", "0") => {
            "the host forbids them to ordinary users: kernel.unprivileged_userns_clone is 0; as root, sysctl -w kernel.unprivileged_userns_clone=1".into()
        }
        Errno::EPERM | Errno::EACCES if is(APPARMOR, "1") => APPARMOR_HINT.into(),
        Errno::EPERM if signs.chroot => "the kernel makes none in a chroot: change the root with pivot_root or a container".into(),
        Errno::EPERM if signs.unmapped => "our own ids are not mapped in the user namespace that we are in: map them there".into(),
        Errno::EPERM | Errno::ENOSYS if signs.filtered => {
            "a seccomp filter is in force, as in a container: start that one without (docker, podman: --security-opt seccomp=unconfined) or with a profile that allows clone3 with CLONE_NEWUSER".into()
        }
        Errno::EPERM => "are our own ids mapped, and is this not a chroot? (user_namespaces(7))".into(),
        Errno::EINVAL => "the kernel was built without CONFIG_USER_NS".into(),
        _ => return None,
    };
    Some(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(errno: Errno, known: &[(&str, &str)], filtered: bool, chroot: bool) -> String {
        let sysctl = |name: &str| known.iter().find(|(n, _)| *n == name).map_or(String::new(), |(_, value)| (*value).into());
        of(errno, &Signs { sysctl: &sysctl, filtered, chroot, unmapped: false }).unwrap_or_default()
    }

    #[test]
    fn each_cause_has_its_remedy() {
        let debian = [("kernel/unprivileged_userns_clone", "0")];
        let ubuntu = [("kernel/unprivileged_userns_clone", "1"), (APPARMOR, "1")];
        for (errno, known, filtered, chroot, want) in [
            (Errno::EPERM, &debian[..], true, true, "sysctl -w kernel.unprivileged_userns_clone=1"),
            (Errno::EPERM, &ubuntu, false, false, "profile with \"userns,\""),
            (Errno::EACCES, &ubuntu, false, false, "profile with \"userns,\""),
            (Errno::EPERM, &[], true, true, "pivot_root"),
            (Errno::EPERM, &[], true, false, "seccomp=unconfined"),
            (Errno::ENOSYS, &[], true, false, "seccomp=unconfined"),
            (Errno::ENOSPC, &[("user/max_user_namespaces", "0")], false, false, "sysctl -w user.max_user_namespaces="),
            (Errno::ENOSPC, &[("user/max_net_namespaces", "0")], false, false, "user.max_net_namespaces is 0"),
            (Errno::ENOSPC, &[("user/max_user_namespaces", "7")], false, false, "(7) is reached"),
            (Errno::EINVAL, &[], false, false, "CONFIG_USER_NS"),
        ] {
            let hint = hint(errno, known, filtered, chroot);
            assert!(hint.contains(want), "{errno}: {hint}");
        }
        assert_eq!(hint(Errno::EAGAIN, &[], true, true), "");
        assert_eq!(hint(Errno::ENOSYS, &[], false, false), "");
    }
}
