//! What containers may see and do.

use super::case;
use crate::case::{Case, Need};

pub fn cases() -> Vec<Case> {
    [privileges(), namespaces(), mounts()].into_iter().flatten().collect()
}

fn privileges() -> Vec<Case> {
    vec![
        case("user", "-u by name, with its groups; --group-add", |here| {
            here.sh("docker run --rm --network none -u user --group-add 2345 box id")
                .ok()
                .prints("uid=1000(user) gid=1000(user)")
                .prints("2345")
        }),
        case("capabilities", "--cap-drop ALL, --cap-add", |here| {
            here.sh("for flag in --cap-drop=ALL --cap-add=SYS_ADMIN --init=false; do docker run --rm --network none $flag box grep CapEff /proc/self/status; done")
                .ok()
                .prints_just("CapEff:\t0000000000000000\nCapEff:\t00000000a82425fb\nCapEff:\t00000000a80425fb")
        }),
        case("seccomp", "Docker's profile is in force; unconfined is without", |here| {
            here.sh("docker run --rm --network none box sh -c 'grep Seccomp: /proc/self/status; unshare -U true; true'
                docker run --rm --network none --security-opt seccomp=unconfined box grep Seccomp: /proc/self/status")
                .ok()
                .prints("Seccomp:\t2\nSeccomp:\t0")
                .says("Operation not permitted")
        }),
        case("seccomp_profile", "a profile from a file", |here| {
            here.sh("echo '{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"mkdir\", \"mkdirat\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 28}]}' >$DIR/profile
                docker run --rm --network none --security-opt seccomp=$DIR/profile box mkdir /made")
                .exits(1)
                .says("No space left on device")
        }),
        case("no_new_privileges", "--security-opt no-new-privileges, and without", |here| {
            here.sh("docker run --rm --network none --security-opt no-new-privileges box grep NoNewPrivs /proc/self/status
                docker run --rm --network none box grep NoNewPrivs /proc/self/status")
                .ok()
                .prints_just("NoNewPrivs:\t1\nNoNewPrivs:\t0")
        }),
        case("privileged", "all capabilities and devices, mounting", |here| {
            here.sh("docker run --rm --privileged --network none box sh -c 'mount -t tmpfs tmpfs /tmp && ls /dev/fuse && grep Seccomp: /proc/self/status'")
                .ok()
                .prints("/dev/fuse\nSeccomp:\t0")
        }),
        case("masked", "what Docker masks and makes read-only", |here| {
            here.sh("docker run --rm --network none box sh -c 'wc -c </proc/keys; ls /sys/firmware | wc -l; echo x >/proc/sys/kernel/hostname'")
                .exits(1)
                .prints_just("0\n0")
                .says("Read-only file system")
        }),
        case("apparmor", "docker-default is in force; unconfined is without", |here| {
            here.sh("docker run --rm --network none box cat /proc/self/attr/current
                docker run --rm --network none --security-opt apparmor=unconfined box cat /proc/self/attr/current")
                .ok()
                .prints_just("docker-default (enforce)\nunconfined")
        })
        .needs(Need::AppArmor),
        case("device", "--device with rights; a node that is not allowed cannot be opened", |here| {
            here.sh(
                "docker run --rm --network none --device /dev/fuse:/dev/mine:rw box sh -c 'exec 3<>/dev/mine && echo opened'",
            )
            .ok()
            .prints("opened");
            here.sh("docker run --rm --network none box sh -c 'mknod /fuse c 10 229 && cat /fuse'")
                .exits(1)
                .says("Operation not permitted")
        }),
    ]
}

fn namespaces() -> Vec<Case> {
    vec![
        case("pid_host", "--pid=host sees the host's processes; --pid=container joins", |here| {
            here.sh("docker run --rm --network none --pid host box ps | grep '[d]ockerd'
                docker run -d --name $NAME --network none box sleep 4723
                docker run --rm --network none --pid container:$NAME box ps | grep '4723'
                docker rm -f $NAME")
                .ok()
        }),
        case("pid_host_killed", "--pid=host: all processes end with the first", |here| {
            here.sh("docker run -d --name $NAME --pid host --network none box sh -c 'sleep 4725 & sleep 4725'
                eventually eval '[ $(pgrep -fc \"sleep 472[5]\") -ge 2 ]'
                docker rm -f $NAME
                eventually eval '! pgrep -f \"sleep 472[5]\"'")
                .ok()
        }),
        case("ipc", "--ipc=host, shareable and joined, --shm-size", |here| {
            here.sh("docker run --rm --network none --ipc host box df /dev/shm
                docker run --rm --network none --shm-size 2m box df -k /dev/shm | grep -w 2048
                docker run -d --name $NAME --ipc shareable --network none box
                docker exec $NAME touch /dev/shm/mark
                docker run --rm --network none --ipc container:$NAME box ls /dev/shm
                docker rm -f $NAME")
                .ok()
                .prints("mark")
        }),
        case("uts", "--uts=host, --hostname, --domainname", |here| {
            here.sh("docker run --rm --network none --uts host box hostname
                docker run --rm --network none -h inside --domainname domain box sh -c 'hostname; cat /proc/sys/kernel/domainname'")
                .ok()
                .prints("\ninside\ndomain\n")
        }),
        case("cgroupns", "its own cgroup is the root of what it sees; with host it is not; --cgroup-parent", |here| {
            here.sh("docker run --rm --network none box grep ^0: /proc/self/cgroup
                docker run --rm --network none --cgroupns host box grep ^0: /proc/self/cgroup
                parent=/deep; [ $CGROUPS = cgroupfs ] || parent=deep.slice
                docker run --rm --network none --cgroupns host --cgroup-parent $parent box grep ^0: /proc/self/cgroup")
                .ok()
                .prints("0::/\n0::/")
                .prints("\n0::/deep")
        }),
        case(
            "user_namespace_remap",
            "a daemon with userns-remap: ids are mapped, files belong to the container's root",
            |here| {
                // A second daemon, since the mapping is the daemon's; in a network of its own, since it removes the bridge.
                here.sh("mkdir -p $DIR/data $DIR/exec
                grep -q dockremap /etc/passwd || { useradd -r dockremap; }
                chmod 755 $DIR; export DOCKER_HOST=unix://$DIR/socket
                jq '. + {\"userns-remap\": \"default\"}' /etc/docker/daemon.json >$DIR/daemon.json
                unshare --net dockerd --config-file $DIR/daemon.json -H $DOCKER_HOST --data-root $DIR/data --exec-root $DIR/exec --pidfile $DIR/pid --bridge none --iptables=false --ip6tables=false --containerd /run/containerd/containerd.sock --containerd-namespace remap --containerd-plugins-namespace remap-plugins >$DIR/log 2>&1 &
                daemon=$!
                trap 'kill $daemon; wait' EXIT
                eventually docker version
                docker load -qi /var/lib/engines/image.tar
                docker run --rm --network none box cat /proc/self/uid_map
                docker run --rm --network none -v $DIR/volume:/data box sh -c 'stat -c %u /etc/passwd'
                docker run -d --name $NAME --network none box
                docker exec $NAME sh -c 'touch /made && stat -c %u /made'
                docker run --rm --network none --userns host box cat /proc/self/uid_map
                docker rm -f $NAME || { tail -20 $DIR/log; false; }")
                .ok()
                .prints("     300000      65536\n0\n")
                .prints("\n         0          0 4294967295\n")
            },
        ),
    ]
}

fn mounts() -> Vec<Case> {
    vec![
        case("volumes", "a directory read-only, one file, a named volume that keeps its files", |here| {
            here.sh("docker run --rm --network none -v /etc/hostname:/data/name box cat /data/name
                docker run --rm --network none -v $NAME:/data box touch /data/made
                docker run --rm --network none -v $NAME:/data box ls /data
                docker volume rm $NAME
                docker run --rm --network none -v $DIR:/data:ro box touch /data/made")
                .exits(1)
                .prints("made")
                .says("Read-only file system")
        }),
        case("volume_filled", "a new volume gets what the image has at its place", |here| {
            here.sh("docker run --rm --network none -v $NAME:/www box cat /www/index.html; docker volume rm $NAME")
                .ok()
                .prints("served by a container")
        }),
        case("recursive_read_only", "a read-only bind mount is so for what is mounted below it", |here| {
            here.sh("mkdir -p $DIR/box/below; mount -t tmpfs below $DIR/box/below; trap 'umount $DIR/box/below' EXIT
                docker run --rm --network none --mount type=bind,src=$DIR/box,dst=/data,readonly,bind-recursive=readonly,bind-propagation=rprivate box touch /data/below/made")
                .exits(1)
                .says("Read-only file system")
        }),
        case(
            "propagation",
            "rshared: a mount made inside is seen outside; rslave: one made outside is seen inside; else neither",
            |here| {
                here.sh("mkdir -p $DIR/box/a; inside() { grep -c ' /data/a' /proc/$(docker inspect -f '{{.State.Pid}}' $NAME)/mountinfo || true; }
                docker run --rm --privileged --network none -v $DIR/box:/data:rshared box mount -t tmpfs a /data/a
                grep -c $DIR/box/a /proc/self/mountinfo; umount $DIR/box/a
                for how in rslave rprivate; do
                    docker run -d --name $NAME --privileged --network none -v $DIR/box:/data:$how box >/dev/null
                    mount -t tmpfs a $DIR/box/a; inside; umount $DIR/box/a
                    docker rm -f $NAME >/dev/null
                done")
                .ok()
                .prints_just("1\n1\n0")
            },
        ),
        case("tmpfs", "--tmpfs with options, and --mount type=tmpfs", |here| {
            here.sh("docker run --rm --network none --tmpfs /a:size=1m,uid=5 --mount type=tmpfs,dst=/b,tmpfs-mode=1700 box sh -c 'grep \" /a \" /proc/mounts; stat -c %u:%a /a /b'")
                .ok()
                .prints("noexec")
                .prints("size=1024k")
                .prints("5:")
                .prints("0:1700")
        }),
        case("read_only", "--read-only: the root cannot be written, a tmpfs can", |here| {
            here.sh("docker run --rm --network none --read-only --tmpfs /tmp box touch /tmp/made
                docker run --rm --network none --read-only box touch /made")
                .exits(1)
                .says("Read-only file system")
        }),
        case("workdir", "-w is made if it is missing; one that is a file fails", |here| {
            here.sh("docker run --rm --network none -w /new/dir box pwd").ok().prints_just("/new/dir");
            here.sh("docker run --rm --network none -w /etc/passwd box pwd").exits(125)
        }),
    ]
}
