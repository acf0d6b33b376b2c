//! Containers come, are spoken to, and go.

use super::case;
use crate::case::{Case, Need};

pub fn cases() -> Vec<Case> {
    [exit_codes(), streams(), signals(), exec(), upkeep()].into_iter().flatten().collect()
}

fn exit_codes() -> Vec<Case> {
    vec![
        case("run", "a program runs, prints, and its exit code comes back", |here| {
            here.sh("docker run --rm --network none box sh -c 'echo hello; exit 7'").exits(7).prints_just("hello")
        }),
        case("code_125", "what Docker itself refuses: a bind mount without a source", |here| {
            here.sh("docker run --rm --mount type=bind,src=/nosuch,dst=/data box true").exits(125).says("does not exist")
        }),
        case("code_126", "found and not executable: a file without the right, and a directory", |here| {
            here.sh("docker run --rm --network none box /etc").exits(126).says("is a directory");
            here.sh("docker run --rm --network none box /etc/not-executable").exits(126).says("permission denied")
        }),
        case("code_127", "not found, by name and by path", |here| {
            here.sh("docker run --rm --network none box /nosuch").exits(127).says("no such file or directory");
            here.sh("docker run --rm --network none box nosuch")
                .exits(127)
                .says("unable to start container process: ")
                .says("exec: \"nosuch\": executable file not found in $PATH")
        }),
        case("file_on_directory", "a file mounted on a directory gets Docker's hint", |here| {
            here.sh("docker run --rm --network none -v /etc/hostname:/etc box true")
                .exits(125)
                .says("Are you trying to mount a directory onto a file")
        }),
        case("code_of_signal", "the exit code after a signal is 128 and its number", |here| {
            here.sh("docker run -d --name $NAME --network none box sleep 1000
                docker kill -s KILL $NAME
                docker wait $NAME
                docker rm $NAME")
                .ok()
                .prints("137")
        }),
    ]
}

fn streams() -> Vec<Case> {
    vec![
        case("terminal", "-it: a terminal of the size of the caller's", |here| {
            here.sh("terminal \"docker run --rm -it --network none box sh -c 'tty; $SIZED'\"").ok().prints("/dev/pts/0\n33 99\n")
        }),
        case("resize", "the terminal follows when the caller's changes its size", |here| {
            // Again and again, since nobody knows when the container is there; stty sets rows and columns one by one.
            here.sh("export INSIDE='trap \"stty size | grep 44.55 && exit\" WINCH; while :; do sleep 0.1; done'
                terminal '(while sleep 1; do stty rows 44 cols 54 </dev/tty; stty cols 55 </dev/tty; done) &
                    docker run --rm -it --network none box sh -c \"$INSIDE\"'")
                .ok()
                .prints("44 55\n")
        })
        .long(),
        case("stdin", "-i: standard input from a pipe, to its end", |here| {
            here.sh("echo hello | docker run --rm -i --network none box cat").ok().prints_just("hello")
        }),
        case("output_whole", "two mebibytes on standard output, whole", |here| {
            here.sh("docker run --rm --network none box head -c 2097152 /dev/zero | wc -c").ok().prints_just("2097152")
        }),
        case("attach", "created, then started with all streams attached", |here| {
            here.sh("docker create -i --name $NAME --network none box cat; echo hello | docker start -ai $NAME; docker rm $NAME")
                .ok()
                .prints("\nhello\n")
        }),
        case("logs", "what a detached container writes, both streams, is in its log", |here| {
            here.sh("docker run -d --name $NAME --network none box sh -c 'echo out; echo err >&2; sleep 1000'
                eventually eval 'docker logs $NAME | grep out'
                docker logs $NAME
                docker rm -f $NAME")
                .ok()
                .prints("\nout\n")
                .says("err\n")
        }),
        case("streams_of_user", "/dev/stdout can be opened by a user who is not root", |here| {
            here.sh("docker run --rm --network none -u 1000 box sh -c 'echo mine >/dev/stdout'").ok().prints_just("mine")
        }),
    ]
}

fn signals() -> Vec<Case> {
    vec![
        case("kill", "a signal by name reaches the program; a stopped container has none to send it to", |here| {
            here.sh("docker run -d --name $NAME --network none box sh -c 'trap \"echo hup; exit 3\" HUP; echo up; while :; do sleep 0.05; done'
                eventually eval 'docker logs $NAME | grep up'
                docker kill -s HUP $NAME
                docker wait $NAME
                docker logs $NAME")
                .ok()
                .prints("\n3\nup\nhup\n");
            here.sh("docker kill $NAME").exits(1).says("is not running");
            here.sh("docker rm $NAME").ok()
        }),
        case("stop", "SIGTERM first, SIGKILL after the time that was given", |here| {
            here.sh("docker run -d --name $NAME --network none box sh -c 'trap \"exit 3\" TERM; echo up; while :; do sleep 0.05; done'
                eventually eval 'docker logs $NAME | grep up'
                docker stop $NAME; docker inspect -f 'code {{.State.ExitCode}}' $NAME; docker rm $NAME
                docker run -d --name $NAME --network none box sleep 1000
                docker stop -t 1 $NAME; docker inspect -f 'code {{.State.ExitCode}}' $NAME; docker rm $NAME")
                .ok()
                .prints("code 3")
                .prints("code 137")
        }),
        case("killed_from_outside", "the first process dies by another's hand", |here| {
            here.sh("docker run -d --name $NAME --network none box sleep 1000
                kill -9 $(docker inspect -f '{{.State.Pid}}' $NAME)
                docker wait $NAME
                docker rm $NAME")
                .ok()
                .prints("137")
        }),
        case("shim_killed", "the shim dies: the container's processes do not outlive it", |here| {
            here.sh("docker run -d --name $NAME --network none box sleep 1000
                pid=$(docker inspect -f '{{.State.Pid}}' $NAME)
                kill -9 $(awk '{ print $4 }' /proc/$pid/stat)
                eventually eval \"! [ -e /proc/$pid ]\"
                eventually eval 'docker inspect -f \"{{.State.Status}}\" $NAME | grep exited'
                docker rm -f $NAME")
                .ok()
        }),
        case("live_restore", "a daemon with live-restore is killed and comes back: the container has run on", |here| {
            here.sh("mkdir -p $DIR/data $DIR/exec; export DOCKER_HOST=unix://$DIR/socket
                daemon() {
                    setsid unshare --net dockerd -H $DOCKER_HOST --live-restore --data-root $DIR/data --exec-root $DIR/exec --pidfile $DIR/pid --bridge none --iptables=false --ip6tables=false --containerd /run/containerd/containerd.sock --containerd-namespace live --containerd-plugins-namespace live-plugins >>$DIR/log 2>&1 &
                    eventually docker version
                }
                trap 'kill $(cat $DIR/pid)' EXIT
                daemon
                docker load -qi /var/lib/engines/image.tar
                docker run -d --name $NAME --network none box
                pid=$(docker inspect -f '{{.State.Pid}}' $NAME)
                kill -9 $(cat $DIR/pid); eventually eval '! docker version'; rm -f $DIR/pid
                [ -e /proc/$pid ]
                daemon
                docker exec $NAME echo still there
                [ $(docker inspect -f '{{.State.Pid}}' $NAME) = $pid ]
                docker rm -f $NAME")
                .ok()
                .prints("still there")
        }),
        case("checkpoint", "docker checkpoint create stops the container and writes an image", |here| {
            here.sh("docker run -d --name $NAME --network none --security-opt seccomp=unconfined box
                docker checkpoint create $NAME one
                docker checkpoint ls $NAME
                eventually eval 'docker inspect -f \"{{.State.Status}}\" $NAME | grep exited'
                docker rm -f $NAME")
                .ok()
                .prints("one")
        })
        .needs(Need::Checkpoint)
        .except("crun", "its library for criu is not in the system"),
        case("pause", "a paused container stands still, is shown so, takes no exec, goes on", |here| {
            here.sh("docker run -d --name $NAME --network none box sh -c 'while :; do echo tick; sleep 0.02; done'
                docker pause $NAME
                docker inspect -f '{{.State.Status}}' $NAME
                lines() { docker logs $NAME | wc -l; }
                eventually still lines
                ! docker exec $NAME true
                docker unpause $NAME
                docker exec $NAME echo resumed
                docker rm -f $NAME")
                .ok()
                .prints("paused")
                .prints("resumed")
        }),
        case("init", "--init: Docker's own first process reaps", |here| {
            here.sh("docker run --rm --init --network none box ps").ok().prints("/sbin/docker-init")
        }),
    ]
}

fn exec() -> Vec<Case> {
    vec![
        case("exec", "output, exit code, user, directory, environment", |here| {
            here.sh("docker run -d --name $NAME --network none box
                status docker exec $NAME sh -c 'echo one; exit 9'
                docker exec -u 1000 -w /var -e A=b $NAME sh -c 'echo $(id -u) $(pwd) $A'
                echo two | docker exec -i $NAME cat")
                .ok()
                .prints("one\n9\n1000 /var b\ntwo\n");
            here.sh("docker exec $NAME nosuch").exits(126).prints("executable file not found in $PATH");
            here.sh("docker exec $NAME /etc/not-executable").exits(126).prints("permission denied");
            here.sh("docker rm -f $NAME").ok()
        }),
        case("exec_terminal", "exec -it: a terminal, of the caller's size", |here| {
            here.sh("docker run -d --name $NAME --network none box
                terminal \"docker exec -it $NAME sh -c 'tty; $SIZED'\"
                docker rm -f $NAME")
                .ok()
                .prints("/dev/pts/0\n33 99\n")
        }),
        case("exec_detached", "exec -d and --privileged", |here| {
            here.sh("docker run -d --name $NAME --network none box
                docker exec -d $NAME sh -c 'echo done >/tmp/mark'
                eventually docker exec $NAME cat /tmp/mark
                docker exec --privileged $NAME grep CapEff /proc/self/status
                docker exec $NAME grep CapEff /proc/self/status
                docker rm -f $NAME")
                .ok()
                .prints("CapEff:\t00000000a80425fb")
        }),
        case("healthcheck", "a check by exec makes it healthy, one that fails unhealthy", |here| {
            here.sh("docker run -d --name $NAME --network none --health-cmd 'test ! -e /sick' --health-interval 300ms --health-retries 1 box
                eventually eval 'docker inspect -f \"{{.State.Health.Status}}\" $NAME | grep -x healthy'
                docker exec $NAME touch /sick
                eventually eval 'docker inspect -f \"{{.State.Health.Status}}\" $NAME | grep -x unhealthy'
                docker rm -f $NAME")
                .ok()
        }),
    ]
}

fn upkeep() -> Vec<Case> {
    vec![
        case("restart", "docker restart, and the restart policy on-failure", |here| {
            here.sh("docker run -d --name $NAME --network none box sh -c 'echo up; sleep 1000'
                up() { [ \"$(docker logs $NAME | grep -c up)\" = $1 ]; }
                eventually up 1
                docker restart -t 0 $NAME
                eventually up 2
                docker rm -f $NAME
                docker run -d --name $NAME --restart on-failure:2 --network none box sh -c 'echo again; exit 1'
                eventually eval '[ $(docker logs $NAME | grep -c again) = 3 ]'
                docker inspect -f 'restarts {{.RestartCount}}' $NAME
                docker rm -f $NAME")
                .ok()
                .prints("restarts 2")
        }),
        case("top", "docker top, inspect and ps know the processes", |here| {
            here.sh("docker run -d --name $NAME --network none box sleep 4721
                docker top $NAME
                docker ps --filter name=$NAME --format '{{.Status}}'
                docker rm -f $NAME")
                .ok()
                .prints("sleep 4721")
                .prints("Up ")
        }),
        case("stats", "docker stats reads the cgroup", |here| {
            here.sh("docker run -d --name $NAME --network none box; docker stats --no-stream --format '{{.Name}} {{.PIDs}}' $NAME; docker rm -f $NAME")
                .ok()
                .prints(&here.name)
        }),
        case("events", "create, start, die, destroy are told in order", |here| {
            here.sh("from=$(date +%s.%N)
                docker run --rm --name $NAME --network none box true
                docker events --since $from --until $(date +%s.%N) --filter container=$NAME --format '{{.Action}}' | grep -vE 'attach|resize' | tr '\\n' ' '")
                .ok()
                .prints("create start die destroy")
        }),
        case("copy", "docker cp in and out, of a running container", |here| {
            here.sh("docker run -d --name $NAME --network none box
                echo content >$DIR/file
                docker cp $DIR/file $NAME:/data/
                docker exec $NAME cat /data/file
                docker cp $NAME:/data/file $DIR/back; cmp $DIR/file $DIR/back
                docker diff $NAME
                docker rm -f $NAME")
                .ok()
                .prints("content")
                .prints("A /data/file")
        }),
        case("rename_commit", "a container renamed, committed to an image, and run from it", |here| {
            here.sh("docker run --name $NAME --network none box touch /made
                docker rename $NAME $NAME-2
                docker commit $NAME-2 $NAME-image
                docker rm $NAME-2
                docker run --rm --network none $NAME-image ls /made
                docker rmi $NAME-image")
                .ok()
                .prints("/made")
        }),
        case("runtimes", "a runtime with arguments of its own; the daemon has asked for features", |here| {
            here.sh("docker run --rm --network none --runtime with-arguments box echo wrapped
                docker info --format '{{json .Runtimes.tested}}' | jq -r '.status | .[]' | jq .ociVersionMin")
                .ok()
                .prints("wrapped\n\"1.0.0\"")
        }),
        case("many_at_once", "eight containers started at the same time", |here| {
            here.sh("for i in 1 2 3 4 5 6 7 8; do docker run --rm --network none box echo up >$DIR/$i & done; wait
                cat $DIR/[1-8] | grep -c up")
                .ok()
                .prints_just("8")
        }),
    ]
}
