//! Further programs in a running container.

use super::case;
use crate::case::Case;

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "exec",
            "exec runs in the container: its namespaces, environment and directory, and its exit code comes back",
            "podman run -d --name $NAME $OFF -e A=1 -w /tmp $IMAGE
            is '1 /tmp' podman exec $NAME sh -c 'echo $A $PWD'
            is '2 3' podman exec -e A=2 -e Z=3 $NAME sh -c 'echo $A $Z'
            is /home podman exec -w /home $NAME pwd
            like '^ *1 .*sleep infinity' podman exec $NAME ps
            is '0 1 2 3' podman exec $NAME sh -c 'echo $(ls /proc/self/fd)'
            fails 7 '^$' podman exec $NAME sh -c 'exit 7'
            fails 137 '^$' podman exec $NAME sh -c 'kill -9 $$'
            podman rm -ft0 $NAME",
        ),
        case(
            "exec_errors",
            "not found is 127, not executable 126, a stopped container 255; none of it touches the container",
            "podman run -d --name $NAME $OFF $IMAGE
            fails 127 'not found in|[Nn]o such file' podman exec $NAME nosuch
            fails 127 '[Nn]o such file or directory' podman exec $NAME /nosuch
            fails 126 '[Pp]ermission denied' podman exec $NAME /etc/not-executable
            fails 127 nosuch podman exec -w /nosuch $NAME true
            got podman exec $NAME /etc
            [ $code -ge 126 ] || broken \"a directory ran: $out\"
            is up podman exec $NAME echo up
            podman kill $NAME
            fails 255 'state improper' podman exec $NAME true
            podman rm -ft0 $NAME",
        ),
        case(
            "exec_user",
            "-u takes user, group and supplementary groups from the image; --privileged gives all capabilities",
            "podman run -d --name $NAME $OFF $IMAGE
            is 'uid=1000(user) gid=1000(user) groups=2000(extra)' podman exec -u user $NAME id
            like 'uid=7 gid=8' podman exec -u 7:8 $NAME id
            is 0000000000000000 podman exec -u user $NAME awk '/^CapEff/ { print $2 }' /proc/self/status
            is $(capabilities) podman exec --privileged $NAME awk '/^CapEff/ { print $2 }' /proc/self/status
            podman rm -ft0 $NAME",
        ),
        case(
            "exec_terminal",
            "-it: a terminal of its own, of the caller's size",
            "podman run -d --name $NAME $OFF $IMAGE
            like '^/dev/pts/0' terminal \"podman exec -t $NAME tty\"
            like '33 99' terminal \"podman exec -it $NAME sh -c '$SIZED'\"
            fails 5 '' terminal \"podman exec -it $NAME sh -c 'exit 5'\"
            podman rm -ft0 $NAME",
        ),
        case(
            "exec_resize",
            "the terminal of exec follows when the caller's changes its size",
            "podman run -d --name $NAME $OFF $IMAGE
            like '44 55' terminal \"(while sleep 1; do stty rows 44 cols 54 </dev/tty; sleep 1; stty cols 55 </dev/tty; done) &
                podman exec -it $NAME sh -c 'for cols in 54 55; do until stty size | grep 44.\\$cols; do sleep 0.1; done; done'\"
            podman rm -ft0 $NAME",
        ),
        case(
            "exec_stdin",
            "standard input from a pipe to its end; without -i there is none",
            "podman run -d --name $NAME $OFF $IMAGE
            is hello bash -c \"echo hello | podman exec -i $NAME cat\"
            is '' podman exec $NAME cat
            podman rm -ft0 $NAME",
        ),
        case(
            "exec_preserve_fds",
            "exec --preserve-fds hands descriptors on",
            "podman run -d --name $NAME $OFF $IMAGE
            echo kept >$DIR/file
            is kept bash -c \"exec 3<$DIR/file; podman exec --preserve-fds 1 $NAME sh -c 'cat <&3'\"
            podman rm -ft0 $NAME",
        ),
        case(
            "exec_detached",
            "-d returns while the program works, and its end does not touch the container",
            "podman run -d --name $NAME $OFF $IMAGE
            like '^[0-9a-f]{64}$' podman exec -d $NAME sh -c 'echo done >/tmp/mark; sleep 4733'
            eventually podman exec $NAME cat /tmp/mark
            like 'sleep 4733' podman top $NAME
            pkill -f '^sleep 473[3]'
            is running podman inspect -f '{{.State.Status}}' $NAME
            podman rm -ft0 $NAME",
        ),
        case(
            "exec_whole",
            "ten megabytes through exec arrive whole",
            "podman run -d --name $NAME $OFF $IMAGE
            sum=$(head -c 10485760 /dev/zero | sha256sum)
            is \"$sum\" bash -c \"podman exec $NAME head -c 10485760 /dev/zero | sha256sum\"
            podman rm -ft0 $NAME",
        ),
        case(
            "exec_many_at_once",
            "twenty execs at once all answer",
            "podman run -d --name $NAME $OFF $IMAGE
            is 20 bash -c \"for i in \\$(seq 20); do podman exec $NAME echo up & done | grep -c up\"
            podman rm -ft0 $NAME",
        ),
        case(
            "exec_confined",
            "exec is under the container's seccomp profile, limits, no_new_privs, read-only paths",
            "echo '{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"mkdir\", \"mkdirat\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 28}]}' >$DIR/profile
            podman run -d --name $NAME --security-opt seccomp=$DIR/profile --security-opt no-new-privileges --ulimit nofile=500:600 $OFF $IMAGE
            fails 1 'No space' podman exec $NAME mkdir /made
            is '500 600' podman exec $NAME sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)'
            is $'NoNewPrivs:\\t1' podman exec $NAME grep NoNewPrivs /proc/self/status
            fails 1 'Read-only' podman exec $NAME sh -c 'echo x >/proc/sys/kernel/domainname'
            podman rm -ft0 $NAME",
        ),
    ]
}
