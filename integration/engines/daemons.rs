//! containerd and dockerd: configured, started when the first case asks, gone with the system.

use crate::here::patience;
use crate::image;
use crate::stage::shell_status;
use crate::system::{self, BIN};
use serde_json::json;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where daemons write what they have to say.
pub const LOGS: &str = "/var/log/engines";

/// CRI's handler, as a RuntimeClass names it, that leads to the runtime under test. The default one leads nowhere.
pub const HANDLER: &str = "tested";

/// Writes the configuration of every engine.
pub fn prepare() {
    for directory in [LOGS, "/var/lib/engines", "/etc/containerd", "/etc/docker", "/etc/containers", "/etc/cni/net.d"] {
        fs::create_dir_all(directory).expect("make a directory");
    }
    let write = |path: &str, content: &str| fs::write(path, content).unwrap_or_else(|error| panic!("write {path}: {error}"));
    write("/etc/resolv.conf", "nameserver 127.0.0.1\n");
    write("/etc/containerd/config.toml", &containerd_config());
    write("/etc/cni/net.d/10-bridge.conflist", CNI);
    write("/etc/docker/daemon.json", &docker_config());
    let subordinate = "root:100000:65536\ncontainers:1000000:1000000\ndockremap:300000:65536\n";
    write("/etc/subuid", subordinate);
    write("/etc/subgid", subordinate);
    write("/etc/containers/policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    write("/etc/containers/containers.conf", &podman_config());
}

const CNI: &str = r#"{"cniVersion": "1.0.0", "name": "engines", "plugins": [
    {"type": "bridge", "bridge": "cni-engines", "isGateway": true, "ipMasq": false,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]}
"#;

fn containerd_config() -> String {
    let systemd = system::driver() == "systemd";
    let restrict = !system::has_resources();
    let runtime = system::runtime_path_without_limits();
    let image = image::NAME;
    format!(
        r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = {restrict}
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "nowhere"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nowhere]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nowhere.options]
BinaryName = "{BIN}/nowhere"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{HANDLER}]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{HANDLER}.options]
BinaryName = "{runtime}"
SystemdCgroup = {systemd}
"#
    )
}

fn docker_config() -> String {
    let driver = format!("native.cgroupdriver={}", system::driver());
    let runtimes = json!({
        HANDLER: {"path": system::runtime_path()},
        // Docker writes a script around it for these.
        "with-arguments": {"path": system::runtime_path(), "runtimeArgs": ["--debug"]},
    });
    json!({
        "runtimes": runtimes, "default-runtime": HANDLER, "exec-opts": [driver], "storage-driver": "overlay2",
        // For checkpoints.
        "experimental": true})
    .to_string()
}

/// What Podman and Buildah are told. Where limits cannot be had they must not ask for any by themselves.
fn podman_config() -> String {
    let driver = system::driver();
    let name = system::runtime_name();
    let path = system::runtime_path();
    let mut containers = String::new();
    if !system::has_controllers() {
        containers += "pids_limit = 0\n";
    }
    if !system::has_resources() {
        containers += "default_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n";
    }
    format!(
        "[containers]\n{containers}[engine]\ncgroup_manager = \"{driver}\"\nevents_logger = \"file\"\nruntime = \"{name}\"\n\
         runtime_supports_json = [\"{name}\"]\nruntime_supports_nocgroup = [\"crun\", \"onggi\"]\n[engine.runtimes]\n{name} = [\"{path}\"]\n"
    )
}

/// Starts containerd, once, and gives it the image.
pub fn containerd() {
    static STARTED: LazyLock<()> = LazyLock::new(|| {
        start("containerd", &[], "ctr version");
        sh(&format!("ctr image import {} && ctr -n k8s.io image import {}", image::FILE, image::FILE));
    });
    *STARTED;
}

/// Starts dockerd on that containerd, once, and gives it the image.
pub fn docker() {
    static STARTED: LazyLock<()> = LazyLock::new(|| {
        containerd();
        start("dockerd", &["--containerd", "/run/containerd/containerd.sock"], "docker version");
        sh(&format!("docker load -i {}", image::FILE));
    });
    *STARTED;
}

/// Gives Podman and Buildah the image, once.
pub fn podman() {
    static LOADED: LazyLock<()> = LazyLock::new(|| sh(&format!("podman load -i {}", image::FILE)));
    *LOADED;
}

/// Starts a daemon and waits until the command succeeds.
fn start(program: &str, arguments: &[&str], asked: &str) {
    let log = Path::new(LOGS).join(program);
    if Path::new("/run/systemd/system").exists() {
        start_unit(program, arguments, &log);
    } else {
        start_child(program, arguments, &log);
    }
    let until = Instant::now() + Duration::from_secs(patience(70).into());
    while !command("sh").args(["-c", asked]).output().expect("run sh").status.success() {
        let log = || fs::read_to_string(&log).unwrap_or_default();
        assert!(Instant::now() < until, "{program} does not come up:\n{}", log());
        sleep(Duration::from_millis(50));
    }
}

/// A unit as Debian has it: with the controllers in its cgroup, which dockerd looks at to see what it can limit.
fn start_unit(program: &str, arguments: &[&str], log: &Path) {
    let mut run = command("systemd-run");
    run.args(["--quiet", "--collect", "-p", "Delegate=yes", "-p", "KillMode=process", "-p", "TasksMax=infinity"]);
    run.args(["-p", "LimitNOFILE=infinity", "-p", "LimitNPROC=infinity", "--unit", &format!("engines-{program}")]);
    for stream in ["StandardOutput", "StandardError"] {
        run.args(["-p", &format!("{stream}=append:{}", log.display())]);
    }
    run.args(environment().iter().map(|(name, value)| format!("--setenv={name}={value}")));
    let status = run.arg("--").arg(program).args(arguments).status().expect("start systemd-run");
    assert!(status.success(), "systemd-run {program}");
}

fn start_child(program: &str, arguments: &[&str], log: &Path) {
    let log = File::create(log).expect("make a log");
    let mut daemon = command(program);
    daemon.args(arguments).stdout(log.try_clone().expect("clone a descriptor")).stderr(log);
    let mut daemon = daemon.spawn().unwrap_or_else(|error| panic!("start {program}: {error}"));
    // It goes with the system; should it end before, it is not to stay as a zombie.
    std::thread::spawn(move || daemon.wait());
}

/// What daemons find in their environment.
fn environment() -> Vec<(&'static str, String)> {
    let mut environment = system::environment();
    // BuildKit does not ask for Docker's default runtime.
    environment.push(("DOCKER_BUILDKIT_RUNC_COMMAND", system::runtime_path()));
    environment
}

fn sh(script: &str) {
    let ran = command("sh").args(["-c", script]).output().expect("run sh");
    assert!(ran.status.success(), "{script}: {} {}", shell_status(&ran.status), String::from_utf8_lossy(&ran.stderr));
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(environment()).current_dir("/");
    command
}
