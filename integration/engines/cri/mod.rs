//! containerd's CRI plugin, spoken to as a kubelet does.

mod client;
mod message;

use crate::case::{Case, Need};
use crate::daemons;
use crate::here::Here;
use client::{Container, EXITED, NODE, Pod, RUNNING, call};
use message::Message;

fn case(name: &'static str, covers: &'static str, run: fn(&Here)) -> Case {
    Case::new("cri", name, covers, move |here| {
        daemons::containerd();
        run(here);
    })
}

pub fn cases() -> Vec<Case> {
    vec![
        case("pod", "a pod with one container: its life, exit code, log; nothing left", life),
        case("exec_sync", "commands in a running container: both streams, exit code, fifty in a row", exec_sync),
        case("exec_sync_timeout", "a command that takes too long is killed, and only that", exec_sync_timeout),
        case("target_pid", "a container that joins the PID namespace of another, as debug containers do", target_pid),
        case("seccomp_localhost", "a seccomp profile from the node", seccomp_localhost),
        case("stop", "stopped in time by SIGTERM, and by SIGKILL after it", stop),
        case("missing_program", "a container that cannot start says so in runc's words", missing_program)
            .except("crun", "words it otherwise"),
        case("restart", "a container ends and the next attempt takes its place in the pod", restart),
        case(
            "shared_pod",
            "two containers of a pod share network, IPC and host name; with one PID namespace the processes too",
            shared_pod,
        ),
        case("host_namespaces", "host network, PID and IPC: all processes end with the container", host_namespaces),
        case("network", "a pod has an address by CNI, and a port of one container is reached from the other", network),
        case("user_namespace", "hostUsers false: ids are mapped for the pod and its containers", user_namespace),
        case(
            "security_context",
            "user, groups, capabilities, no_new_privs, read-only root, seccomp default, masked paths",
            security_context,
        ),
        case("privileged", "a privileged container in a privileged pod", privileged),
        case("mounts", "bind mounts, read-only and shared both ways", mounts),
        case("sysctls", "sysctls of the pod", sysctls),
        case("handler", "the handler that a RuntimeClass names decides which runtime is used", handler),
        case("stats", "CPU time and memory of a running container", stats),
        case("limits", "requests and limits are in the cgroup's files, below the pod's parent", limits).needs(Need::Controllers),
        case("update", "a resize in place changes what it names and nothing else", update).needs(Need::Controllers),
        case("oom", "a container killed for its memory is known as OOMKilled", oom).needs(Need::Controllers),
        case("apparmor", "the runtime's default profile is in force", apparmor).needs(Need::AppArmor),
    ]
}

/// `sleep infinity` and nothing else.
fn sleeper(pod: &Pod) -> Container {
    pod.container("sleeper", &["sleep", "infinity"], plain)
}

fn plain(config: Message) -> Message {
    config
}

/// With the case's directory at `/case`, by which the container can be told something.
fn with_case(config: Message, here: &Here) -> Message {
    config.message(7, Message::new().text(1, "/case").text(2, &here.dir.display().to_string()))
}

/// `LinuxPodSandboxConfig` with these `NamespaceOption`s.
fn with_namespaces(options: Message) -> Message {
    Message::new().message(2, Message::new().message(1, options))
}

/// `LinuxContainerConfig` with this `LinuxContainerSecurityContext`.
fn secured(config: Message, context: Message) -> Message {
    config.message(15, Message::new().message(2, context))
}

/// `LinuxContainerConfig` with these `LinuxContainerResources`.
fn limited(config: Message, resources: Message) -> Message {
    config.message(15, Message::new().message(1, resources))
}

fn life(here: &Here) {
    let pod = Pod::run(here, Message::new());
    let script = "echo hello; echo trouble >&2; until [ -e /case/go ]; do sleep 0.1; done; exit 7";
    let container = pod.create("one", &["sh", "-c", script], |config| with_case(config, here)).expect("make a container");
    assert_eq!(container.status().0, 0, "created");
    container.start().expect("start it");
    assert_eq!(container.status().0, RUNNING);
    here.sh("touch $DIR/go").ok();
    assert_eq!(container.wait(), (7, "Error".into()));
    let log = container.log();
    assert!(log.contains(" stdout F hello\n") && log.contains(" stderr F trouble\n"), "{log}");
    container.remove();
    let id = pod.id.clone();
    drop(pod);
    here.sh(&format!("! ls /run/containerd/runc/k8s.io | grep {id}; ! find /sys/fs/cgroup -name '*{id}*' | grep .")).ok();
}

fn exec_sync(here: &Here) {
    let pod = Pod::run(here, Message::new());
    let container = sleeper(&pod);
    let ran = container.sh("echo out; echo err >&2; exit 5");
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str(), ran.status), ("out\n", "err\n", 5));
    for number in 0..50 {
        assert_eq!(container.sh(&format!("echo {number}")).stdout, format!("{number}\n"));
    }
    let missing = call("ExecSync", &Message::new().text(1, &container.id).texts(2, &["nosuch"]));
    let error = missing.err().expect("an error");
    assert!(error.contains("not found in $PATH"), "{error}");
}

fn exec_sync_timeout(here: &Here) {
    let pod = Pod::run(here, Message::new());
    let container = sleeper(&pod);
    let request = Message::new().text(1, &container.id).texts(2, &["sleep", "4737"]).number(3, 1);
    let error = call("ExecSync", &request).err().expect("an error");
    assert!(error.contains("timeout"), "{error}");
    here.sh("eventually eval '! pgrep -f \"sleep 473[7]\"'").ok();
    assert_eq!(container.sh("echo up").stdout, "up\n");
}

fn target_pid(here: &Here) {
    let pod = Pod::run(here, Message::new());
    // NamespaceMode: 1 is the container's own, 3 that of the one named.
    let own = |config| secured(config, Message::new().message(3, Message::new().number(2, 1)));
    let target = pod.container("target", &["sleep", "4739"], own);
    let joins = |config| secured(config, Message::new().message(3, Message::new().number(2, 3).text(4, &target.id)));
    let debug = pod.container("debug", &["sleep", "infinity"], joins);
    assert!(debug.sh("ps").stdout.contains("    1 root     sleep 4739"), "{}", debug.sh("ps").stdout);
    debug.stop(0);
    assert_eq!(target.status().0, RUNNING);
}

fn seccomp_localhost(here: &Here) {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    let path = here.dir.join("profile.json");
    std::fs::write(&path, profile).expect("write a profile");
    let pod = Pod::run(here, Message::new());
    let localhost = Message::new().number(1, 2).text(2, &path.display().to_string());
    let container =
        pod.container("filtered", &["sleep", "infinity"], |config| secured(config, Message::new().message(15, localhost)));
    assert!(container.sh("mkdir /made").stderr.contains("No space left on device"));
}

fn stop(here: &Here) {
    let pod = Pod::run(here, Message::new());
    let script = "trap 'exit 3' TERM; while :; do sleep 0.05; done";
    let polite = pod.container("polite", &["sh", "-c", script], plain);
    let deaf = pod.container("deaf", &["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"], plain);
    polite.stop(30);
    deaf.stop(1);
    assert_eq!((polite.status(), deaf.status()), ((EXITED, 3), (EXITED, 137)));
}

fn missing_program(here: &Here) {
    let pod = Pod::run(here, Message::new());
    let container = pod.create("missing", &["nosuch"], plain).expect("make a container");
    let error = container.start().err().expect("an error");
    assert!(error.contains("exec: \"nosuch\": executable file not found in $PATH"), "{error}");
    assert_eq!(container.wait().0, 128);
}

fn restart(here: &Here) {
    let pod = Pod::run(here, Message::new());
    let first = pod.container("first", &["sh", "-c", "exit 1"], plain);
    assert_eq!(first.wait().0, 1);
    let second = pod.container("second", &["sleep", "infinity"], plain);
    first.remove();
    assert_eq!(second.sh("echo up").stdout, "up\n");
}

fn shared_pod(here: &Here) {
    // NamespaceOption.pid is POD: one for all.
    let pod = Pod::run(here, with_namespaces(Message::new().number(2, 0)));
    let shares = |config| secured(config, Message::new().message(3, Message::new().number(2, 0)));
    let a = pod.container("a", &["sleep", "4731"], shares);
    let b = pod.container("b", &["sleep", "infinity"], shares);
    let look = "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts /proc/self/ns/pid; hostname";
    assert_eq!(a.sh(look).stdout, b.sh(look).stdout);
    assert!(b.sh("ps").stdout.contains("sleep 4731"));
    a.stop(0);
    assert!(!b.sh("ps").stdout.contains("sleep 4731"));
}

fn host_namespaces(here: &Here) {
    let node = || Message::new().number(1, NODE).number(2, NODE).number(3, NODE);
    let pod = Pod::run(here, with_namespaces(node()));
    let container = pod
        .container("host", &["sh", "-c", "sleep 4733 & sleep 4733"], |config| secured(config, Message::new().message(3, node())));
    assert!(container.sh("ps").stdout.contains("containerd"));
    let networks = container.sh("readlink /proc/self/ns/net").stdout;
    here.sh("readlink /proc/self/ns/net").prints(&networks);
    container.stop(0);
    here.sh("eventually eval '! pgrep -f \"sleep 473[3]\"'").ok();
}

fn network(here: &Here) {
    let pod = Pod::run(here, Message::new());
    let _server = pod.container("server", &["httpd", "-f", "-h", "/www"], plain);
    let client = sleeper(&pod);
    let page = client.sh("until wget -qO- http://127.0.0.1/; do sleep 0.1; done; ip address show eth0").stdout;
    assert!(page.contains("served by a container") && page.contains("inet 10.77."), "{page}");
}

fn user_namespace(here: &Here) {
    let map = || Message::new().number(1, 500_000).number(2, 0).number(3, 65536);
    let options = || Message::new().message(5, Message::new().number(1, 0).message(2, map()).message(3, map()));
    let pod = Pod::run(here, with_namespaces(options()));
    let container = pod.container("mapped", &["sleep", "4735"], |config| secured(config, Message::new().message(3, options())));
    let seen = container.sh("cat /proc/self/uid_map; stat -c %u /etc/passwd; touch /made && stat -c %u /made").stdout;
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "500000", "65536", "0", "0"]);
    here.sh("stat -c %u /proc/$(pgrep -f 'sleep 473[5]')").ok().prints_just("500000");
}

fn security_context(here: &Here) {
    let pod = Pod::run(here, Message::new());
    let capabilities = Message::new().text(1, "NET_ADMIN").text(2, "ALL");
    let number = |number| Message::new().number(1, number);
    let context = Message::new()
        .message(1, capabilities)
        .message(5, number(1000))
        .number(7, 1)
        .number(8, 2345)
        .number(11, 1)
        .message(12, number(1000))
        .texts(13, &["/proc/keys", "/data"])
        .texts(14, &["/proc/sys"])
        // RuntimeDefault is 0, and so an empty message.
        .message(15, Message::new());
    let container = pod.container("secured", &["sleep", "infinity"], |config| secured(config, context));
    let status = container.sh("id; grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; touch /tmp/made; wc -c /proc/keys");
    for wanted in
        ["uid=1000(user) gid=1000(user)", "2345", "CapBnd:\t0000000000001000", "NoNewPrivs:\t1", "Seccomp:\t2", "0 /proc/keys"]
    {
        assert!(status.stdout.contains(wanted), "no {wanted} in {}", status.stdout);
    }
    assert!(status.stderr.contains("Read-only file system"), "{}", status.stderr);
}

fn privileged(here: &Here) {
    let pod = Pod::run(here, Message::new().message(2, Message::new().number(6, 1)));
    let container = pod.container("privileged", &["sleep", "infinity"], |config| secured(config, Message::new().number(2, 1)));
    let ran = container.sh("mount -t tmpfs tmpfs /tmp && ls /dev/fuse");
    assert_eq!(ran.stdout, "/dev/fuse\n", "{}", ran.stderr);
}

fn mounts(here: &Here) {
    here.sh("mkdir -p $DIR/box/a; echo outside >$DIR/box/file").ok();
    let source = here.dir.join("box").display().to_string();
    let pod = Pod::run(here, Message::new().message(2, Message::new().number(6, 1)));
    let mount = |place: &str| Message::new().text(1, place).text(2, &source);
    let container = pod.container("mounts", &["sleep", "infinity"], |config| {
        // MountPropagation: 1 from the host, 2 both ways.
        let config = config.message(7, mount("/ro").number(3, 1)).message(7, mount("/both").number(5, 2));
        secured(config, Message::new().number(2, 1))
    });
    let ran = container.sh("cat /ro/file; mount -t tmpfs tmpfs /both/a; touch /ro/made");
    assert!(ran.stdout == "outside\n" && ran.stderr.contains("Read-only file system"), "{} {}", ran.stdout, ran.stderr);
    here.sh("umount $DIR/box/a").ok();
}

fn sysctls(here: &Here) {
    let pod = Pod::run(here, Message::new().entry(3, "net.ipv4.ip_forward", "1").entry(3, "kernel.shm_rmid_forced", "1"));
    let read = sleeper(&pod).sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced").stdout;
    assert_eq!(read, "1\n1\n");
}

fn handler(here: &Here) {
    let metadata = Message::new().text(1, &here.name).text(2, &here.name).text(3, "default");
    // The default handler's runtime does not exist: every other case shows that ours is taken because it is named.
    let error = call("RunPodSandbox", &Message::new().message(1, Message::new().message(1, metadata.clone()))).err();
    assert!(error.as_ref().is_some_and(|error| error.contains("nowhere")), "{error:?}");
    let unknown = call("RunPodSandbox", &Message::new().message(1, Message::new().message(1, metadata)).text(2, "unknown")).err();
    assert!(unknown.as_ref().is_some_and(|error| error.contains("unknown")), "{unknown:?}");
}

fn stats(here: &Here) {
    let pod = Pod::run(here, Message::new());
    let container = sleeper(&pod);
    let stats = container.stats();
    assert_eq!(stats.get_message(1).get_text(1), container.id);
    assert!(!stats.get_message(2).0.is_empty(), "no CPU usage");
}

fn limits(here: &Here) {
    let pod = Pod::run(here, Message::new());
    let resources = Message::new().number(1, 100_000).number(2, 50_000).number(3, 512).number(4, 50_003_968).number(5, 900);
    let container =
        pod.container("limited", &["sleep", "infinity"], |config| limited(config, resources.entry(9, "memory.high", "40001536")));
    let read = container.sh("cd /sys/fs/cgroup; cat memory.max memory.high cpu.max; cat /proc/self/oom_score_adj").stdout;
    assert_eq!(read, "50003968\n40001536\n50000 100000\n900\n");
    let place = here.sh(&format!("find /sys/fs/cgroup -name '*{}*' -type d", container.id)).ok();
    assert!(place.stdout.contains("engines-cri") || place.stdout.contains("engines.slice/engines-cri.slice"), "{place}");
}

fn update(here: &Here) {
    let pod = Pod::run(here, Message::new());
    let container = pod.container("resized", &["sleep", "infinity"], |config| {
        limited(config, Message::new().number(1, 100_000).number(2, 50_000).number(4, 50_003_968))
    });
    container.update(Message::new().number(4, 60_002_304));
    let read = || container.sh("cd /sys/fs/cgroup; cat memory.max cpu.max").stdout;
    assert_eq!(read(), "60002304\n50000 100000\n");
    container.update(Message::new().number(1, 100_000).number(2, 20_000));
    assert_eq!(read(), "60002304\n20000 100000\n");
}

fn oom(here: &Here) {
    let pod = Pod::run(here, Message::new());
    // What happened is read from the cgroup, which goes with the first process: it lives until containerd knows.
    let script = "dd if=/dev/zero of=/dev/null bs=200M; code=$?; until [ -e /case/go ]; do sleep 0.1; done; exit $code";
    let command = ["sh", "-c", script];
    // Swap is not allowed either, where there is any.
    let resources = Message::new().number(4, 20_000_768).number(10, 20_000_768);
    let container = pod.container("hungry", &command, |config| limited(with_case(config, here), resources));
    container.wait_for("OOMKilled");
    here.sh("touch $DIR/go").ok();
    assert_eq!(container.wait(), (137, "OOMKilled".into()));
}

fn apparmor(here: &Here) {
    let pod = Pod::run(here, Message::new());
    let container =
        pod.container("confined", &["sleep", "infinity"], |config| secured(config, Message::new().message(16, Message::new())));
    assert_eq!(container.sh("cat /proc/self/attr/current").stdout, "cri-containerd.apparmor.d (enforce)\n");
}
