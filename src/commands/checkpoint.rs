//! `checkpoint`: CRIU saves the container's processes; then the container is gone, unless it is to go on.

use super::delete;
use super::start::kept_bundle;
use super::status::{self, Status};
use crate::cgroup::Cgroup;
use crate::cli::{CheckpointArgs, CriuArgs, Global};
use crate::config::Bundle;
use crate::criu::Session;
use crate::criu::message::{Answer, CgroupMode, Features, Kind, Options};
use crate::criu::mountinfo::{self, Mount};
use crate::criu::streams;
use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::plan::{self, Plan, Request, outside};
use crate::store::{Record, Store, unknown};
use crate::sys::{fs, inroot};
use std::ffi::CString;
use std::fs::DirBuilder;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An annotation that names CRIU's configuration file; empty for none.
const CONFIGURATION: &str = "org.criu.config";
/// Where that file is looked for otherwise. The second is runc's.
const CONFIGURATIONS: [&str; 2] = ["/etc/criu/onggi.conf", "/etc/criu/runc.conf"];

/// `checkpoint`.
pub fn checkpoint(global: &Global, args: &CheckpointArgs) -> Result<u8> {
    let entry = Store::open(global.root.as_deref())?.ok_or_else(unknown)?.entry(&args.id)?;
    let record = entry.state()?.ok_or_else(unknown)?;
    let (status, _init) = status::of(&entry, &record)?;
    if matches!(status, Status::Created | Status::Stopped) {
        return Err(Error::exact(format!("Container cannot be checkpointed in {status} state")));
    }
    let status_fd = args.status_fd.map(|n| {
        let step = || format!("--status-fd {n}");
        fs::take_inherited(n).step("fcntl", step)
    });
    let mut ready = status_fd.transpose()?;
    fs::cloexec_from(3).step("close_range", || "close inherited descriptors at exec".into())?;
    if entry.notify()?.is_some() {
        return Err(
            Error::new("checkpoint", "the container has the socket of a systemd unit").hint("make it without NOTIFY_SOCKET")
        );
    }
    let bundle = kept_bundle(&entry, &record)?;
    let plan = compile(&bundle, &record)?;

    let dirs = Directories::open(&args.criu, true, "dump.log")?;
    let mut options = dirs.options(&args.criu, &bundle, "dump.log");
    options.pid = Some(record.pid);
    let path = |path: &std::path::Path| {
        CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::new("name a path to CRIU", "it has a NUL byte"))
    };
    options.root = Some(path(&record.rootfs)?);
    options.leave_running = args.leave_running;
    options.tcp_skip_in_flight = args.tcp_skip_in_flight;
    options.link_remap = args.link_remap;
    options.page_server.clone_from(&args.page_server);
    options.freeze_cgroup = record.cgroup.as_deref().map(path).transpose()?;
    if let Some(parent) = &args.parent_path {
        options.parent_img = Some(check_parent(&dirs.images_path, parent)?);
        options.track_mem = true;
    }
    let mut session = Session::start(&[], false)?;
    if args.criu.network_lock.is_some() {
        session.at_least(31_700, "--network-lock")?;
    }
    session.require(Features { mem_track: args.pre_dump, lazy_pages: args.criu.lazy_pages })?;
    let mut kind = Kind::PreDump;
    if !args.pre_dump {
        kind = Kind::Dump;
        let mounts = mountinfo::of(record.pid)?;
        name_mounts(&mut options, &plan, record.pid, &mounts)?;
        name_namespaces(&mut options, &plan, record.pid)?;
        options.external.extend(streams::external(&record.streams));
        streams::save(&record.streams, &dirs.images_path)?;
    }
    entry.name_criu(session.pid())?;
    let saved = session.work(kind, &options, &dirs.log, &mut |answer: &Answer, _| match (answer.script.as_str(), ready.take()) {
        ("status-ready", Some(fd)) => fs::write_all(fd.as_fd(), &[0]).step("write", || "say that the pages are ready".into()),
        (_, fd) => {
            ready = fd;
            Ok(())
        }
    });
    entry.release_criu()?;
    if let Err(e) = saved {
        // CRIU thaws what it froze, unless it was killed.
        thaw(&record, status)?;
        return Err(e);
    }
    if !args.leave_running && !args.pre_dump {
        delete::remove(entry, true)?;
    }
    Ok(0)
}

/// The plan of a container as it was made.
fn compile(bundle: &Bundle, record: &Record) -> Result<Plan> {
    let request = Request {
        id: &record.id,
        bundle: &bundle.dir,
        wait: false,
        no_pivot: false,
        no_new_keyring: true,
        preserve: 0,
        // It is not made again: nothing of it is looked at.
        driver: crate::cgroup::Driver::Disabled,
        environment: Vec::new(),
        notify: None,
    };
    plan::compile(&bundle.spec, &request, &Host::probe(&bundle.spec)?)
}

fn thaw(record: &Record, before: Status) -> Result<()> {
    let Some(path) = record.cgroup.as_ref().filter(|_| before != Status::Paused) else { return Ok(()) };
    match Cgroup::open(path)? {
        Some(cgroup) if cgroup.frozen()? => cgroup.thaw(),
        _ => Ok(()),
    }
}

/// The directories of one piece of CRIU's work.
pub(super) struct Directories {
    /// That of the images, absolute.
    pub images_path: PathBuf,
    /// That of the work files, absolute.
    work_path: PathBuf,
    /// CRIU's log.
    pub log: PathBuf,
    images: OwnedFd,
    work: OwnedFd,
}

impl Directories {
    /// Opens the directories; those of a checkpoint (`make`) and that of the work files are made if need be.
    pub(super) fn open(args: &CriuArgs, make: bool, log: &str) -> Result<Self> {
        let images_path = args.image_path.as_deref().unwrap_or(Path::new("checkpoint"));
        let work_path = args.work_path.as_deref().unwrap_or(images_path);
        for (path, make) in [(images_path, make), (work_path, make || args.work_path.is_some())] {
            if make {
                let step = || format!("make the directory {}", path.display());
                DirBuilder::new().recursive(true).mode(0o700).create(path).step("mkdir", step)?;
            }
        }
        let absolute = |path: &Path| path.canonicalize().step("openat", || format!("open the directory {}", path.display()));
        let (images_path, work_path) = (absolute(images_path)?, absolute(work_path)?);
        let (images, work) = (directory(&images_path)?, directory(&work_path)?);
        Ok(Self { images_path, log: work_path.join(log), work_path, images, work })
    }

    /// Opens them once more, in another mount namespace: CRIU mounts things in the one of the work files.
    pub(super) fn again(&mut self) -> Result<()> {
        (self.images, self.work) = (directory(&self.images_path)?, directory(&self.work_path)?);
        Ok(())
    }

    /// What follows from the flags that both commands have, and from the configuration.
    pub(super) fn options(&self, args: &CriuArgs, bundle: &Bundle, log: &'static str) -> Options {
        let configuration = match bundle.spec.annotations.get(CONFIGURATION) {
            Some(path) => Some(path.clone()).filter(|path| !path.is_empty()),
            None => CONFIGURATIONS.into_iter().find(|path| Path::new(path).exists()).map(str::to_owned),
        };
        Options {
            images_dir: self.images.as_raw_fd(),
            work_dir: Some(self.work.as_raw_fd()),
            log_file: log,
            ext_unix_sk: args.ext_unix_sk,
            tcp_established: args.tcp_established,
            shell_job: args.shell_job,
            file_locks: args.file_locks,
            auto_dedup: args.auto_dedup,
            lazy_pages: args.lazy_pages,
            empty_ns: args.empty_ns,
            cgroup_mode: Some(args.cgroup_mode.unwrap_or(CgroupMode::Soft)),
            network_lock: args.network_lock,
            config_file: configuration,
            ..Options::default()
        }
    }
}

fn directory(path: &Path) -> Result<OwnedFd> {
    let dir = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path);
    dir.map(OwnedFd::from).step("openat", || format!("open the directory {}", path.display()))
}

/// The parent's path as CRIU wants it: relative to the images, where it makes a link of it.
fn check_parent(images: &Path, parent: &Path) -> Result<String> {
    if parent.is_absolute() {
        return Err(Error::new("--parent-path", "must be relative to the directory of the images"));
    }
    let path = images.join(parent);
    let step = || format!("--parent-path: look at {}", path.display());
    if !path.metadata().step("stat", step)?.is_dir() {
        return Err(Error::new(step(), "not a directory"));
    }
    Ok(parent.to_string_lossy().into_owned())
}

/// Names the mounts that show something of the host, where they are now.
fn name_mounts(options: &mut Options, plan: &Plan, pid: i32, mounts: &[Mount]) -> Result<()> {
    let path = format!("/proc/{pid}/root");
    let root = crate::store::init::proc_file(pid, "root")
        .and_then(|c| fs::open(fs::cwd(), &c, libc::O_PATH | libc::O_DIRECTORY, 0).step("openat", || format!("open {path}")))?;
    for out in outside::mounts(plan) {
        // Whatever is not there any more needs no name.
        let Ok(target) = inroot::open(root.as_fd(), out.target, libc::O_PATH, 0) else { continue };
        let id = mountinfo::id_of(target.as_raw_fd())?;
        let Some(mount) = mounts.iter().find(|m| Some(m.id) == id) else { continue };
        let link = format!("/proc/self/fd/{}", target.as_raw_fd());
        let here = std::fs::read_link(&link).step("readlink", || format!("read {link}"))?;
        // A file on a mount is not the mount; a directory is masked by a tmpfs of its own, which CRIU saves.
        if mount.point != here || out.mask && mount.root == Path::new("/") {
            continue;
        }
        let point = CString::new(mount.point.as_os_str().as_bytes()).unwrap_or_default();
        if !options.ext_mnt.iter().any(|(known, _)| *known == point) {
            options.ext_mnt.push((point, out.key.to_owned()));
        }
    }
    Ok(())
}

/// Names the namespaces that are left alone.
fn name_namespaces(options: &mut Options, plan: &Plan, pid: i32) -> Result<()> {
    for joined in outside::namespaces(plan) {
        let Some((kind, key)) = joined.left_alone() else { continue };
        let path = format!("/proc/{pid}/ns/{kind}");
        let inode = std::fs::metadata(&path).step("stat", || format!("look at {path}"))?.ino();
        options.external.push(format!("{kind}[{inode}]:{key}"));
    }
    Ok(())
}
