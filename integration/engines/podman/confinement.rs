//! What a container may do and see.

use super::case;
use crate::case::{Case, Need};

pub fn cases() -> Vec<Case> {
    [rights(), sight(), system()].into_iter().flatten().collect()
}

fn rights() -> Vec<Case> {
    vec![
        case(
            "capabilities",
            "--cap-add, --cap-drop, none for an ordinary user unless it is named",
            "of='awk /^CapEff/{print$2} /proc/self/status'
            is 0000000000000000 podman run --cap-drop ALL $BOX $of
            is 0000000000002000 podman run --cap-drop ALL --cap-add NET_RAW $BOX $of
            is 0000000000002000 podman run --cap-drop ALL --cap-add NET_RAW -u 1000 $BOX $of
            is 0000000000000000 podman run -u 1000 $BOX $of",
        ),
        case(
            "privileged",
            "--privileged: all capabilities, mounting, every device, a writable cgroup",
            "is ok podman run --privileged $BOX sh -c 'mount -t tmpfs t /tmp && echo ok'
            is $(capabilities) podman run --privileged $BOX awk '/^CapEff/ { print $2 }' /proc/self/status
            like fuse podman run --privileged $BOX ls /dev
            like ' cgroup2 rw' podman run --privileged $BOX grep cgroup2 /proc/mounts",
        ),
        case(
            "seccomp",
            "the default profile, none, and one from a file",
            "is $'Seccomp:\\t2' podman run $BOX grep Seccomp: /proc/self/status
            is $'Seccomp:\\t0' podman run --security-opt seccomp=unconfined $BOX grep Seccomp: /proc/self/status
            echo '{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"mkdir\", \"mkdirat\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 28}]}' >$DIR/profile
            fails 1 'No space' podman run --security-opt seccomp=$DIR/profile $BOX mkdir /made",
        ),
        case(
            "no_new_privileges",
            "--security-opt no-new-privileges",
            "is $'NoNewPrivs:\\t1' podman run --security-opt no-new-privileges $BOX grep NoNewPrivs /proc/self/status
            is $'NoNewPrivs:\\t0' podman run $BOX grep NoNewPrivs /proc/self/status",
        ),
        case(
            "apparmor",
            "the default profile is in force in run and exec, and another can be named",
            "podman run -d --name $NAME $OFF $IMAGE
            like 'containers-default.* \\(enforce\\)' podman exec $NAME cat /proc/self/attr/current
            like 'containers-default.* \\(enforce\\)' podman exec $NAME cat /proc/1/attr/current
            podman rm -ft0 $NAME
            is unconfined podman run --security-opt apparmor=unconfined $BOX cat /proc/self/attr/current",
        )
        .needs(Need::AppArmor),
        case(
            "label_disabled",
            "--security-opt label=disable and a relabelled volume, where there is no SELinux",
            "mkdir $DIR/box
            is hi podman run --security-opt label=disable -v $DIR/box:/data:Z $BOX echo hi",
        ),
        case(
            "ulimit",
            "--ulimit",
            "is '500 600' podman run --ulimit nofile=500:600 $BOX sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)'",
        ),
        case(
            "groups",
            "--group-add by number, by name of the image, and keep-groups",
            "like 'groups=.*2000' podman run --group-add 2000 $BOX id
            like 'groups=.*2000' podman run --group-add extra $BOX id
            is 4711 setpriv --groups 4711 podman run --group-add keep-groups $BOX sh -c 'id -G | tr \" \" \"\\n\" | grep 4711'",
        )
        .except("runc", "Podman asks for it by an annotation that crun came up with"),
    ]
}

fn sight() -> Vec<Case> {
    vec![
        case(
            "mask",
            "--security-opt mask= and unmask=",
            "is '' podman run --security-opt mask=/etc $BOX ls -A /etc
            is '' podman run --security-opt mask=/etc/passwd $BOX cat /etc/passwd
            is 0 podman run $BOX sh -c 'cat /proc/timer_list | wc -l'
            like '^[1-9]' podman run --security-opt unmask=all $BOX sh -c 'cat /proc/timer_list | wc -l'
            fails 1 Read-only podman run $BOX sh -c 'echo 1 >/proc/sys/kernel/domainname'",
        ),
        case(
            "read_only",
            "--read-only, with tmpfs where programs expect to write, and without",
            "fails 1 Read-only podman run --read-only $BOX touch /made
            is ok podman run --read-only $BOX sh -c 'touch /tmp/x /run/x /dev/shm/x && echo ok'
            fails 1 Read-only podman run --read-only --read-only-tmpfs=false $BOX touch /dev/made
            is ok podman run --read-only --read-only-tmpfs=false $BOX sh -c 'echo >/dev/null && echo ok'",
        ),
        case(
            "host_namespaces",
            "--network, --ipc, --uts, --cgroupns host",
            "for kind in network/net ipc uts; do
                is \"$(readlink /proc/self/ns/${kind#*/})\" podman run --rm --${kind%/*} host $IMAGE readlink /proc/self/ns/${kind#*/}
            done
            like '/.*libpod' podman run --cgroupns host $BOX cat /proc/self/cgroup
            is '0::/' podman run $BOX grep ^0:: /proc/self/cgroup",
        ),
        case(
            "pid_host",
            "--pid host: the host's processes are seen, and removal ends all of the container's",
            "podman run -d --name $NAME --pid host $OFF $IMAGE sh -c 'sleep 4734 & sleep 4734'
            eventually eval '[ $(pgrep -fc \"^sleep 473[4]\") = 2 ]'
            like 'conmon' podman exec $NAME ps
            podman rm -ft0 $NAME
            eventually eval '! pgrep -f \"^sleep 473[4]\"'",
        ),
        case(
            "init",
            "--init: catatonit is the first process",
            "like 'catatonit|podman-init' podman run --init $BOX cat /proc/1/cmdline
            fails 9 '^$' podman run --init $BOX sh -c 'exit 9'",
        ),
    ]
}

fn system() -> Vec<Case> {
    vec![
        case(
            "sysctl",
            "--sysctl of network, message queues, shared memory",
            "is '1000 11 4097' podman run --sysctl net.core.somaxconn=1000 --sysctl fs.mqueue.msg_max=11 --sysctl kernel.shmmni=4097 $BOX sh -c 'cd /proc/sys; echo $(cat net/core/somaxconn fs/mqueue/msg_max kernel/shmmni)'",
        ),
        case(
            "device",
            "--device under its name and another, with fewer rights; others can be made but not opened",
            "like '^c.*10, 229.* /dev/fuse' podman run --device /dev/fuse $BOX ls -l /dev/fuse
            like '^c.*10, 229.* /dev/other' podman run --device /dev/fuse:/dev/other:r $BOX ls -l /dev/other
            fails 1 'not permitted' podman run --device /dev/fuse:/dev/other:r $BOX sh -c 'echo >/dev/other'
            fails 1 'not permitted' podman run --cap-add MKNOD $BOX sh -c 'mknod /tmp/fuse c 10 229 && cat /tmp/fuse'
            is opened podman run --cap-add MKNOD --device-cgroup-rule 'c 10:229 rw' $BOX sh -c 'mknod /tmp/fuse c 10 229 && exec 3<>/tmp/fuse && echo opened'",
        ),
        case(
            "small_options",
            "umask, OOM score, host name, pid file, size of /dev/shm, working directory, environment",
            "is 0077 podman run --umask 0077 $BOX sh -c umask
            is 500 podman run --oom-score-adj 500 $BOX cat /proc/self/oom_score_adj
            is name podman run --hostname name $BOX hostname
            is hi podman run --pidfile $DIR/pid $BOX echo hi
            like 'size=1024k' podman run --shm-size 1m $BOX grep ' /dev/shm ' /proc/mounts
            is '/var x' podman run -w /var -e A=x $BOX sh -c 'echo $PWD $A'",
        ),
        case("personality", "--personality", "is i686 podman run --personality LINUX32 $BOX uname -m")
            .except("runc", "1.1 does not have it"),
        case(
            "hooks",
            "hooks of a directory run at their stages with the state on standard input; one that fails ends the run",
            "mkdir $DIR/hooks
            printf '#!/bin/sh\\nread state || [ \"$state\" ]; echo \"$1 ${state#*status}\" >>%s/log\\n' $DIR >$DIR/hook; chmod +x $DIR/hook
            for stage in prestart createRuntime poststart poststop; do
                echo '{\"version\": \"1.0.0\", \"hook\": {\"path\": \"'$DIR'/hook\", \"args\": [\"hook\", \"'$stage'\"]}, \"when\": {\"always\": true}, \"stages\": [\"'$stage'\"]}' >$DIR/hooks/$stage.json
            done
            is hi podman --hooks-dir $DIR/hooks run $BOX echo hi
            for stage in prestart/creat createRuntime/creat poststart/ poststop/stopped; do like \"^${stage%/*} .*${stage#*/}\" cat $DIR/log; done
            printf '#!/bin/sh\\necho no good >&2; exit 3\\n' >$DIR/hook
            fails 126 '.' podman --hooks-dir $DIR/hooks run $BOX echo hi",
        ),
    ]
}
