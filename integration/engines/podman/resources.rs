//! Cgroups and limits.

use super::{case, ok, rust};
use crate::case::{Case, Need};
use crate::system;

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "cgroups_disabled",
            "--cgroups=disabled leaves the container in the cgroup that its caller is in",
            "is \"$(grep ^0:: /proc/self/cgroup)\" podman run --cgroupns host --cgroups disabled $BOX grep ^0:: /proc/self/cgroup",
        )
        .except("runc", "has no option for it"),
        case("cgroups_split", "--cgroups=split and no-conmon", "is hi podman run --cgroups split $BOX echo hi
            is hi podman run --cgroups no-conmon $BOX echo hi"),
        rust("cgroup_parent", "--cgroup-parent, in the driver's own form", |here| {
            let parent = if system::driver() == "systemd" { "engines.slice" } else { "/engines" };
            ok(here, &format!("like '{parent}/libpod-' podman run --cgroupns host --cgroup-parent {parent} $BOX cat /proc/self/cgroup"))
        }),
        case(
            "limits",
            "memory, processors, processes, weights, I/O: each is in its file",
            "podman run -d --name $NAME --memory 64m --memory-swap 64m --memory-reservation 32m --cpus 0.5 --cpuset-cpus 0 --cpu-shares 2048 --pids-limit 50 --blkio-weight 200 $OFF $IMAGE
            is '67108864 33554432 0 50000 100000 0 50' podman exec $NAME sh -c 'cd /sys/fs/cgroup; echo $(cat memory.max memory.low memory.swap.max cpu.max cpuset.cpus pids.max)'
            podman rm -ft0 $NAME",
        )
        .needs(Need::Controllers),
        case(
            "update",
            "podman update changes what is given, and leaves the rest",
            "podman run -d --name $NAME --memory 64m --pids-limit 50 $OFF $IMAGE
            podman update --memory 128m --cpus 0.25 $NAME
            is '134217728 25000 100000 50' podman exec $NAME sh -c 'cd /sys/fs/cgroup; echo $(cat memory.max cpu.max pids.max)'
            podman update --pids-limit 60 $NAME
            is '134217728 60' podman exec $NAME sh -c 'cd /sys/fs/cgroup; echo $(cat memory.max pids.max)'
            podman rm -ft0 $NAME",
        )
        .needs(Need::Controllers),
        case(
            "out_of_memory",
            "a container that takes more than its memory is killed, and Podman says by what",
            "podman run --name $NAME --memory 16m --memory-swap 16m $OFF $IMAGE sh -c 'tail -c 100m /dev/zero' || true
            is 'true 137' podman inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' $NAME
            podman rm $NAME",
        )
        .needs(Need::Controllers),
        case(
            "processes_limited",
            "--pids-limit: one process more than allowed cannot be made",
            "fails 2 'Resource temporarily unavailable' podman run --pids-limit 3 $BOX sh -c 'for i in 1 2 3 4 5; do sleep 100 & done'",
        )
        .needs(Need::Controllers),
    ]
}
