//! The system that the engines run in: a Debian tree as a throw-away machine, or the virtual machine.
//!
//! The throw-away machine is all namespaces but the user's, a cgroup of its own (see `stage`), and an overlay on the tree
//! whose upper layer is in memory. Nothing of the host can be seen in it: `/proc`, `/sys` and `/dev` are new as well. It ends
//! with its first process. The virtual machine has the same tree on its disk, and is used as it is.

use crate::here::patience;
use crate::stage::{self, vm};
use crate::{daemons, image};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the runtime under test is installed in the system, and this program beside it.
pub const BIN: &str = "/opt/onggi/bin";

/// Link beside it that leads to the runtime under test.
pub const TARGET: &str = "runtime";

/// The mount that holds the pieces of the root before it is one.
const BUILD: &str = "/run";

/// Character devices of `/dev`: name, major, minor.
const DEVICES: [(&str, u64, u64); 9] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("console", 5, 1),
    ("fuse", 10, 229),
    ("net/tun", 10, 200),
];

/// Returns in the process that is to run the cases, in the system.
pub fn enter() {
    if vm() {
        install(Path::new("/"));
    } else {
        // Built if need be while there is a network; asked for again inside.
        if std::env::var_os(stage::ROLE).is_none() {
            tree();
        }
        stage::enter(make);
    }
    daemons::prepare();
    image::write();
}

/// Directory of the system.
fn tree() -> PathBuf {
    if let Some(tree) = std::env::var_os("ONGGI_TREE") {
        return tree.into();
    }
    let image = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/integration/vm/image"));
    let image = { image }.arg("full").stderr(Stdio::inherit()).output().expect("run vm/image");
    assert!(image.status.success(), "vm/image fails");
    Path::new(String::from_utf8_lossy(&image.stdout).trim()).join("tree")
}

/// `RUNTIME`, else the one that was built along with the tests.
fn runtime() -> String {
    std::env::var("RUNTIME").unwrap_or_else(|_| env!("CARGO_BIN_EXE_onggi").into())
}

/// Name of the runtime under test.
pub fn runtime_name() -> String {
    let runtime = runtime();
    runtime.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Path of the runtime under test in the system.
pub fn runtime_path() -> String {
    format!("{BIN}/{}", runtime_name())
}

/// Path of the runtime under test, behind `strip` where limits cannot be had.
pub fn runtime_path_without_limits() -> String {
    if has_controllers() { runtime_path() } else { format!("{BIN}/strip") }
}

/// `cgroupfs` or `systemd`: who makes the cgroups of containers.
pub fn driver() -> String {
    std::env::var("ONGGI_CGROUPS").unwrap_or_else(|_| "cgroupfs".into())
}

pub fn quick() -> bool {
    std::env::var_os("ONGGI_ENGINES").is_some_and(|value| value == "quick")
}

pub fn has_controllers() -> bool {
    let have = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    ["cpu", "memory", "pids", "io"].iter().all(|wanted| have.split_whitespace().any(|name| name == *wanted))
}

/// Whether systemd makes the cgroups.
pub fn has_systemd_driver() -> bool {
    driver() == "systemd" && Path::new("/run/systemd/system").exists()
}

pub fn has_apparmor() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|enabled| enabled.starts_with('Y'))
        && Path::new("/usr/sbin/apparmor_parser").exists()
}

pub fn has_checkpoint() -> bool {
    let help = Command::new(runtime_path()).args(["checkpoint", "--help"]).output();
    let criu = Command::new("criu").arg("--version").output();
    [help, criu].into_iter().all(|ran| ran.is_ok_and(|ran| ran.status.success()))
}

pub fn has_resources() -> bool {
    caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE).unwrap_or(false)
}

/// What programs find in their environment: nothing of cargo's, or of the user's.
pub fn environment() -> Vec<(&'static str, String)> {
    let mut environment = vec![
        ("PATH", format!("{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")),
        ("HOME", "/root".into()),
        ("TERM", "xterm".into()),
        ("LANG", "C.UTF-8".into()),
        ("RUNTIME", runtime_path()),
        ("CGROUPS", driver()),
        ("IMAGE", image::NAME.into()),
        ("TRIES", patience(400).to_string()),
    ];
    if vm() {
        // CRIU does without hardware breakpoints, of which the emulator loses some.
        environment.push(("CRIU_FAULT", "130".into()));
    }
    environment
}

/// Makes the root and enters it.
fn make() -> nix::Result<()> {
    let none = None::<&str>;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let tree = tree();
    mount(Some("proc"), "/proc", Some("proc"), quiet, none)?;
    let binaries = Binaries::find(&tree);
    mount(Some("tmpfs"), BUILD, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=6g"))?;
    let part = |name: &str| Path::new(BUILD).join(name);
    let root = part("root");
    for name in ["upper", "work", "root", "lib", "home"] {
        fs::create_dir(part(name)).expect("make a directory");
    }
    let layers = format!("lowerdir={},upperdir={},workdir={}", tree.display(), part("upper").display(), part("work").display());
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))?;
    // overlayfs does not take itself as an upper layer.
    let copied = Command::new("cp").arg("-a").arg(tree.join("var/lib/.")).arg(part("lib")).status();
    assert!(copied.expect("run cp").success(), "copy /var/lib");
    mount(Some(&part("lib")), &root.join("var/lib"), none, MsFlags::MS_BIND, none)?;
    mount(Some(&part("home")), &root.join("home"), none, MsFlags::MS_BIND, none)?;
    mount(Some("proc"), &root.join("proc"), Some("proc"), quiet, none)?;
    mount(Some("sysfs"), &root.join("sys"), Some("sysfs"), quiet, none)?;
    mount(Some("cgroup2"), &root.join("sys/fs/cgroup"), Some("cgroup2"), quiet, none)?;
    let temporary = |place: &str, mode: &str| {
        mount(Some("tmpfs"), &root.join(place), Some("tmpfs"), MsFlags::MS_NOSUID, Some(format!("mode={mode}").as_str()))
    };
    temporary("run", "755")?;
    temporary("tmp", "1777")?;
    temporary("dev", "755")?;
    make_devices(&root.join("dev"))?;
    binaries.install(&root);
    nix::unistd::sethostname("engines")?;
    std::env::set_current_dir(&root).expect("enter the root");
    nix::unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/").expect("enter the root");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none)
}

fn make_devices(dev: &Path) -> nix::Result<()> {
    let none = None::<&str>;
    let old = umask(Mode::empty());
    for directory in ["pts", "shm", "mqueue", "net"] {
        fs::create_dir(dev.join(directory)).expect("make a directory");
    }
    for (name, major, minor) in DEVICES {
        mknod(&dev.join(name), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor))?;
    }
    umask(old);
    let options = Some("newinstance,ptmxmode=0666,mode=620,gid=5");
    mount(Some("devpts"), &dev.join("pts"), Some("devpts"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, options)?;
    mount(Some("shm"), &dev.join("shm"), Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=1777"))?;
    mount(Some("mqueue"), &dev.join("mqueue"), Some("mqueue"), MsFlags::MS_NOSUID, none)?;
    for (name, target) in
        [("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        symlink(target, dev.join(name)).expect("make a link");
    }
    Ok(())
}

/// The programs that come from outside, read while they can be seen.
struct Binaries {
    runtime: Vec<u8>,
    tests: Vec<u8>,
}

impl Binaries {
    /// A runtime without a slash is one of the system whose tree this is.
    fn find(tree: &Path) -> Binaries {
        let runtime = runtime();
        let path = if runtime.contains('/') {
            PathBuf::from(runtime)
        } else {
            let places = ["usr/sbin", "usr/bin"].map(|place| tree.join(place).join(&runtime));
            places.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("no {runtime} in {}", tree.display()))
        };
        let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
        Binaries { runtime: read(&path), tests: read(Path::new("/proc/self/exe")) }
    }

    /// Puts them below `root`, also by the name that engines look for when they were told nothing, and takes away every
    /// other runtime, so that none can pick one by itself.
    fn install(&self, root: &Path) {
        for other in ["usr/sbin/runc", "usr/bin/runc", "usr/bin/crun", "usr/sbin/crun"] {
            let _ = fs::remove_file(root.join(other));
        }
        let bin = root.join(BIN.trim_start_matches('/'));
        fs::create_dir_all(&bin).expect("make a directory");
        for link in [TARGET, "runc"].into_iter().filter(|link| *link != runtime_name()) {
            let _ = symlink(runtime_name(), bin.join(link));
        }
        for (name, program) in [(runtime_name().as_str(), &self.runtime), ("strip", &self.tests)] {
            let path = bin.join(name);
            fs::write(&path, program).expect("install a program");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
        }
    }
}

/// In a machine that has the tree as its root.
fn install(root: &Path) {
    Binaries::find(root).install(root);
}
