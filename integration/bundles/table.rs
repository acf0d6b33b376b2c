//! The captured configurations, and how each ends. Data.

use super::Captured;

macro_rules! captured {
    ($name:literal, $status:literal) => {
        Captured::new($name, include_str!(concat!("../../tests/data/bundles/", $name, ".json")), $status)
    };
}

/// One for every file of `tests/data/bundles`.
pub fn all() -> Vec<Captured> {
    vec![
        captured!("containerd-01-sh-c-echo-hi-exit-7", 7).prints("hi\n"),
        captured!("containerd-02-ip-o-link", 0).contains(": lo:"),
        captured!("containerd-04-sh-c-echo-id-u-id-g", 0).prints("1000:1000\n"),
        captured!("containerd-05-touch-x", 1),
        captured!("containerd-07-sh-c-tail-c-100m-dev-zero-ex", 137).ended_by_its_memory_limit(),
        captured!("containerd-08-sleep-1000", 137).endless(),
        captured!("containerd-10-sh-c-echo-hi-exit-7", 7).prints("hi\n"),
        captured!("containerd-11-ip-o-link", 0).contains(": lo:"),
        captured!("containerd-13-sh-c-echo-id-u-id-g", 0).prints("1000:1000\n"),
        captured!("containerd-14-touch-x", 1),
        captured!("containerd-16-true", 0),
        captured!("docker-01-sh-c-echo-hi-exit-7", 7).prints("hi\n"),
        captured!("docker-03-sh-c-touch-t-x-touch-x-2-dev", 0)
            .prints("Seccomp:\t2\n")
            .except_crun("1.8 fails to make mount points in this read-only root"),
        captured!("docker-04-sbin-docker-init-ps", 0).contains("ps"),
        captured!("docker-06-sh-c-echo-1-v-f", 0),
        captured!("docker-07-cat-v-f", 0).prints("1\n"),
        captured!("docker-09-nonexistent", 1),
        captured!("docker-10-httpd-f-h-etc", 137).endless(),
        captured!("docker-12-sh-c-cat-sys-fs-cgroup-cpu-m", 0).without_controller("cpu", 1),
        captured!("docker-13-sh-c-tail-c-100m-dev-zero-ex", 137).ended_by_its_memory_limit(),
        captured!("docker-15-sh-c-i-0-while-do-i-i-1-echo", 137).endless(),
        captured!("docker-16-buildkit-bin-sh-c-echo-built-x-test-i", 0),
        captured!("docker-18-bin-sh-c-echo-built-x-test-i", 0),
        captured!("docker-19-wget-qo-http-a-passwd", 1),
        captured!("docker-21-sh-c-echo-hi-exit-7", 7).prints("hi\n"),
        captured!("docker-22-echo-hi", 0).prints("hi\n"),
        captured!("docker-24-sbin-docker-init-ps", 0).contains("ps"),
        captured!("docker-25-mount-t-tmpfs-x-tmp", 0),
        captured!("docker-27-cat-v-f", 0).prints("1\n"),
        captured!("docker-28-sh-c-ulimit-hn-200-cat-proc", 0).prints("5\n"),
        captured!("docker-30-httpd-f-h-etc", 137).endless(),
        captured!("docker-31-sh-c-echo-up-exit-1", 1).prints("up\n"),
        captured!("docker-33-buildkit-bin-sh-c-echo-built-x-test-i", 0),
        captured!("docker-34-cat-x", 0).prints("x\n"),
        captured!("docker-36-true", 0),
        captured!("podman-01-sh-c-echo-hi-exit-7", 7).prints("hi\n"),
        captured!("podman-03-echo-hi", 0).prints("hi\n"),
        captured!("podman-04-echo-hi", 0).prints("hi\n"),
        captured!("podman-06-mount-t-tmpfs-x-tmp", 0),
        captured!("podman-07-cat-proc-self-uid-map", 0).contains("200000"),
        captured!("podman-09-httpd-f-h-etc", 137).endless(),
        captured!("podman-10-true", 0),
        captured!("podman-12-sh-c-tail-c-100m-dev-zero-ex", 137).ended_by_its_memory_limit(),
        captured!("podman-13-sleep-1000", 137).endless(),
        captured!("podman-15-wget-qo-http-127-0-0-1-passw", 0).prints("served\n"),
        captured!("podman-16-buildah-bin-sh-c-echo-built-x-test-i", 0),
        captured!("podman-18-buildah-bin-id", 0).contains("uid=0(root)"),
        captured!("podman-19-true", 0),
        captured!("podman-21-echo-hi", 0).prints("hi\n"),
        captured!("podman-22-echo-hi", 0).prints("hi\n"),
        captured!("podman-24-mount-t-tmpfs-x-tmp", 0),
        captured!("podman-25-cat-proc-self-uid-map", 0).contains("200000"),
        captured!("podman-27-httpd-f-h-etc", 137).endless(),
        captured!("podman-28-catatonit-p", 137).endless(),
        captured!("podman-30-buildah-bin-sh-c-echo-built-x-test-i", 0),
        captured!("podman-31-cat-x", 0).prints("x\n"),
        captured!("podman-33-true", 0),
    ]
}
