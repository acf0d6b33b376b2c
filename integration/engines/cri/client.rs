//! Calls of containerd's CRI service, and pods and containers made by them.
//!
//! gRPC is a POST over HTTP/2, which curl can do; what goes with it is one message with five bytes before it. The numbers of
//! fields are those of `k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`.

use super::message::Message;
use crate::daemons::HANDLER;
use crate::here::{Here, patience};
use crate::{image, system};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// `ContainerState.CONTAINER_RUNNING`.
pub const RUNNING: u64 = 1;
/// `ContainerState.CONTAINER_EXITED`.
pub const EXITED: u64 = 2;

/// `NamespaceMode.NODE`: the host's.
pub const NODE: i64 = 2;

/// Calls a method of the runtime service. The error is what the service says.
pub fn call(method: &str, request: &Message) -> Result<Message, String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let [sent, headers, answer] = ["request", "headers", "answer"].map(|name| PathBuf::from(format!("/tmp/cri-{number}-{name}")));
    let length = u32::try_from(request.0.len()).expect("a short message");
    fs::write(&sent, [&[0], length.to_be_bytes().as_slice(), &request.0].concat()).expect("write the request");
    let ran = Command::new("curl")
        .args(["-sS", "--http2-prior-knowledge", "--unix-socket", "/run/containerd/containerd.sock", "-m", "300"])
        .args(["-H", "Content-Type: application/grpc", "-H", "TE: trailers", "-H", "Expect:"])
        .arg("--data-binary")
        .arg(format!("@{}", sent.display()))
        .arg("-D")
        .arg(&headers)
        .arg("-o")
        .arg(&answer)
        .arg(format!("http://localhost/runtime.v1.RuntimeService/{method}"))
        .env_clear()
        .envs(system::environment())
        .output()
        .expect("run curl");
    assert!(ran.status.success(), "{method}: {}", String::from_utf8_lossy(&ran.stderr));
    let head = fs::read_to_string(&headers).expect("read the headers");
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let result = match header("grpc-status:") {
        Some("0") => Ok(Message(fs::read(&answer).expect("read the answer").split_off(5))),
        _ => Err(header("grpc-message:").unwrap_or(&head).replace("%22", "\"")),
    };
    for file in [sent, headers, answer] {
        let _ = fs::remove_file(file);
    }
    result
}

#[track_caller]
fn must(method: &str, request: &Message) -> Message {
    call(method, request).unwrap_or_else(|error| panic!("{method}: {error}"))
}

/// A pod sandbox; stopped and removed when it goes out of scope.
pub struct Pod {
    pub id: String,
    config: Message,
    logs: PathBuf,
}

impl Pod {
    /// A pod with this `LinuxPodSandboxConfig`, by the runtime under test.
    pub fn run(here: &Here, linux: Message) -> Pod {
        let metadata = Message::new().text(1, &here.name).text(2, &here.name).text(3, "default");
        // A kubelet always names the cgroup of the pod; with systemd containerd has no default that would do.
        let parent = if system::driver() == "systemd" { "engines-cri.slice" } else { "/engines-cri" };
        let linux = if linux.get_text(1).is_empty() { linux.text(1, parent) } else { linux };
        let logs = here.dir.clone();
        // As kubelets do: a pod on the host's network has the host's name.
        let on_host = linux.get_message(2).get_message(1).get_number(1) == NODE.cast_unsigned();
        let hostname = if on_host { "" } else { "pod" };
        let config = Message::new().message(1, metadata).text(2, hostname).text(3, &logs.display().to_string()).message(8, linux);
        let answer = must("RunPodSandbox", &Message::new().message(1, config.clone()).text(2, HANDLER));
        Pod { id: answer.get_text(1), config, logs }
    }

    /// Makes and starts a container. `edit` adds to its `ContainerConfig`.
    pub fn container(&self, name: &str, command: &[&str], edit: impl FnOnce(Message) -> Message) -> Container {
        let container = self.create(name, command, edit).unwrap_or_else(|error| panic!("CreateContainer: {error}"));
        must("StartContainer", &Message::new().text(1, &container.id));
        container
    }

    /// Makes a container.
    pub fn create(&self, name: &str, command: &[&str], edit: impl FnOnce(Message) -> Message) -> Result<Container, String> {
        let config = Message::new()
            .message(1, Message::new().text(1, name))
            .message(2, Message::new().text(1, image::NAME))
            .texts(3, command)
            .text(11, name);
        let request = Message::new().text(1, &self.id).message(2, edit(config)).message(3, self.config.clone());
        let id = call("CreateContainer", &request)?.get_text(1);
        Ok(Container { id, log: self.logs.join(name) })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let request = Message::new().text(1, &self.id);
        let ended = call("StopPodSandbox", &request).and_then(|_| call("RemovePodSandbox", &request));
        if !std::thread::panicking() {
            ended.expect("stop and remove the pod");
        }
    }
}

pub struct Container {
    pub id: String,
    log: PathBuf,
}

/// What `ExecSync` answers.
pub struct Executed {
    pub stdout: String,
    pub stderr: String,
    pub status: u64,
}

impl Container {
    fn named(&self) -> Message {
        Message::new().text(1, &self.id)
    }

    pub fn start(&self) -> Result<Message, String> {
        call("StartContainer", &self.named())
    }

    /// Runs a script of busybox's shell in it.
    pub fn sh(&self, script: &str) -> Executed {
        let answer = must("ExecSync", &self.named().texts(2, &["sh", "-c", script]));
        Executed { stdout: answer.get_text(1), stderr: answer.get_text(2), status: answer.get_number(3) }
    }

    /// Its state and its exit code.
    pub fn status(&self) -> (u64, u64) {
        let status = must("ContainerStatus", &self.named()).get_message(1);
        (status.get_number(3), status.get_number(7))
    }

    /// Waits until it has ended; its exit code, and the reason that is given.
    pub fn wait(&self) -> (u64, String) {
        let status = self.status_once("end", |status| status.get_number(3) == EXITED);
        (status.get_number(7), status.get_text(10))
    }

    /// Waits until this reason is given, which may be before it ends.
    pub fn wait_for(&self, reason: &str) {
        self.status_once(reason, |status| status.get_text(10) == reason);
    }

    fn status_once(&self, what: &str, is_so: impl Fn(&Message) -> bool) -> Message {
        let until = Instant::now() + Duration::from_secs(patience(60).into());
        loop {
            let status = must("ContainerStatus", &self.named()).get_message(1);
            if is_so(&status) {
                return status;
            }
            assert!(Instant::now() < until, "container {} does not: {what}", self.id);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// `seconds` until it is killed.
    pub fn stop(&self, seconds: i64) {
        must("StopContainer", &self.named().number(2, seconds));
    }

    pub fn remove(self) {
        must("RemoveContainer", &self.named());
    }

    /// `LinuxContainerResources`.
    pub fn update(&self, resources: Message) {
        must("UpdateContainerResources", &self.named().message(2, resources));
    }

    /// `ContainerStats`.
    pub fn stats(&self) -> Message {
        must("ContainerStats", &self.named()).get_message(1)
    }

    /// What it has written, with the time and stream before each line, as kubelets read it.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("read the log")
    }
}
