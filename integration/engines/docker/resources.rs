//! Limits, and what is counted.

use super::case;
use crate::case::{Case, Need};

pub fn cases() -> Vec<Case> {
    vec![
        case("ulimit", "--ulimit", |here| here.sh("docker run --rm --network none --ulimit nofile=500:600 box sh -c 'ulimit -n; ulimit -Hn'").ok().prints_just("500\n600")),
        case("sysctl", "--sysctl of the network namespace", |here| {
            here.sh("docker run --rm --network none --sysctl net.core.somaxconn=1000 box cat /proc/sys/net/core/somaxconn").ok().prints_just("1000")
        }),
        case("oom_score", "--oom-score-adj", |here| {
            here.sh("docker run --rm --network none --oom-score-adj 500 box cat /proc/self/oom_score_adj").ok().prints_just("500")
        }),
        case("oom_score_lowered", "an OOM score below the caller's, and limits above", |here| {
            here.sh("docker run --rm --network none --oom-score-adj -500 --ulimit nofile=1100000 box sh -c 'cat /proc/self/oom_score_adj; ulimit -n'")
                .ok()
                .prints_just("-500\n1100000")
        })
        .needs(Need::Resources),
        case("limits", "memory, swap, pids, cpus, cpuset are in the cgroup's files", |here| {
            here.sh("docker run --rm --network none -m 64m --memory-swap 96m --memory-reservation 32m --pids-limit 20 --cpus 0.5 --cpuset-cpus 0 box \
                sh -c 'cd /sys/fs/cgroup; cat memory.max memory.swap.max memory.low pids.max cpu.max cpuset.cpus'")
                .ok()
                .prints_just("67108864\n33554432\n33554432\n20\n50000 100000\n0")
        })
        .needs(Need::Controllers),
        case("limits_io", "a limit on reading from a disk is in io.max", |here| {
            // By the API: the command line of Docker 26.1 forgets its --device-read-bps (docker/cli issue 5321).
            here.sh("cat >$DIR/container <<END
{\"Image\": \"box\", \"Cmd\": [\"cat\", \"/sys/fs/cgroup/io.max\"], \"HostConfig\": {\"NetworkMode\": \"none\",
    \"BlkioDeviceReadBps\": [{\"Path\": \"/dev/$(lsblk -ndo NAME | head -1)\", \"Rate\": 1048576}]}}
END
                curl -sS --fail-with-body --unix-socket /run/docker.sock -H 'Content-Type: application/json' \
                    -d @$DIR/container http://docker/containers/create?name=$NAME
                docker start -a $NAME
                docker rm $NAME")
                .ok()
                .prints("rbps=1048576")
        })
        .needs(Need::Controllers),
        case("update", "docker update of a running container changes what it names and nothing else", |here| {
            here.sh("docker run -d --name $NAME --network none -m 64m --memory-swap 64m --pids-limit 20 box
                docker update --memory 96m --memory-swap 96m $NAME
                docker exec $NAME sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max'
                docker update --pids-limit 30 --cpus 0.5 $NAME
                docker exec $NAME sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max cpu.max'
                docker rm -f $NAME")
                .ok()
                .prints("100663296\n20\n")
                .prints("100663296\n30\n50000 100000\n")
        })
        .needs(Need::Controllers),
        case("oom", "a container that wants more memory than it may have is killed, and known to have been", |here| {
            // What happened is read from the cgroup, which goes with the first process: it lives until Docker knows.
            here.sh("docker run -d --name $NAME --network none -m 20m --memory-swap 20m box sh -c 'dd if=/dev/zero of=/dev/null bs=200M; code=$?; until [ -e /known ]; do sleep 0.1; done; exit $code'
                eventually eval 'docker inspect -f \"{{.State.OOMKilled}}\" $NAME | grep true'
                touch /proc/$(docker inspect -f '{{.State.Pid}}' $NAME)/root/known
                docker wait $NAME
                docker inspect -f 'oom {{.State.OOMKilled}}' $NAME
                docker rm $NAME")
                .ok()
                .prints("137\noom true")
        })
        .needs(Need::Controllers),
        case("scope", "systemd knows the container as a scope with its limits; a daemon-reload changes nothing", |here| {
            here.sh("id=$(docker run -d --name $NAME --network none -m 64m --memory-swap 64m --pids-limit 20 --device /dev/fuse box)
                systemctl show -p MemoryMax,TasksMax,ActiveState docker-$id.scope
                for i in 1 2 3; do systemctl daemon-reload; done
                docker exec $NAME sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max; exec 3<>/dev/fuse && echo opened; mknod /kvm c 10 232; cat /kvm' || true
                docker rm -f $NAME
                systemctl is-active docker-$id.scope || true")
                .ok()
                .prints("ActiveState=active")
                .prints("MemoryMax=67108864")
                .prints("TasksMax=20")
                .prints("67108864\n20\nopened\n")
                .says("Operation not permitted")
                .prints("\ninactive")
        })
        .needs(Need::SystemdDriver),
        case("pids_limit", "a program that forks past its limit fails to", |here| {
            here.sh("docker run --rm --network none --pids-limit 5 box sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 100 & done'")
                .exits(2)
                .says("can't fork")
        })
        .needs(Need::Controllers),
    ]
}
