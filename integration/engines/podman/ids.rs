//! User namespaces.

use super::case;
use crate::case::Case;

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "userns_auto",
            "--userns=auto takes ids from the pool; with a network, a terminal, a user, privileges",
            "like '^ *0 +1[0-9]{6} +[0-9]+$' podman run --userns=auto $BOX cat /proc/self/uid_map
            is hi podman run --rm --userns=auto $IMAGE echo hi
            like '^/dev/pts/0' terminal \"podman run -t --userns=auto $BOX tty\"
            is 1000 podman run --userns=auto -u 1000 $BOX id -u
            is ok podman run --userns=auto --privileged $BOX sh -c 'mount -t tmpfs t /tmp && echo ok'",
        ),
        case(
            "userns_exec",
            "exec, terminal, pause and top of a container with a user namespace",
            "podman run -d --name $NAME --userns=auto $OFF $IMAGE
            is 0 podman exec $NAME id -u
            is 1000 podman exec -u 1000 $NAME id -u
            like '^/dev/pts/0' terminal \"podman exec -t $NAME tty\"
            podman pause $NAME; podman unpause $NAME
            like sleep podman top $NAME
            podman rm -ft0 $NAME",
        ),
        case(
            "uidmap",
            "--uidmap: ids are those that were asked for, /proc and /sys are there, nothing of the host's root is",
            "like '^ *0 +100000 +1000$' podman run --uidmap 0:100000:1000 $BOX cat /proc/self/uid_map
            is 0:0 podman run --uidmap 0:100000:65536 $BOX sh -c 'touch /made; stat -c %u:%g /made'
            fails 1 'denied|not permitted|Read-only' podman run --uidmap 0:100000:1000 $BOX sh -c 'echo 1 >/proc/sys/kernel/panic'",
        ),
        case("userns_host", "--userns=host", "is hi podman run --userns=host $BOX echo hi"),
        case(
            "userns_join",
            "--userns=container:, with the other namespaces of that container and without",
            "podman run -d --name $NAME --uidmap 0:100000:1000 $OFF $IMAGE
            like '^ *0 +100000 +1000$' podman run --userns container:$NAME $BOX cat /proc/self/uid_map
            is 0 podman run --rm --userns container:$NAME --network container:$NAME --ipc container:$NAME --pid container:$NAME --uts container:$NAME $IMAGE id -u
            podman rm -ft0 $NAME",
        ),
    ]
}
