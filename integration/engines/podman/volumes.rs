//! Volumes, binds, other roots.

use super::case;
use crate::case::Case;

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "binds",
            "a directory and a file: read-only, mount flags, propagation, places that have to be made",
            "mkdir -p $DIR/box/sub; echo text >$DIR/box/file
            fails 1 Read-only podman run -v $DIR/box:/mnt:ro $BOX touch /mnt/made
            like 'nosuid.*nodev.*noexec' podman run -v $DIR/box:/mnt:ro,rshared,nosuid,nodev,noexec $BOX grep ' /mnt ' /proc/mounts
            is text podman run -v $DIR/box/file:/etc/passwd:ro -u 0 $BOX cat /etc/passwd
            is text podman run --mount type=bind,src=$DIR/box,dst=/mnt,ro $BOX cat /mnt/file
            is '' podman run -v $DIR/box/sub:/mnt/a/b/c:z $BOX ls /mnt/a/b/c
            is 1000:1000 podman run -v $DIR/box/sub:/mnt:U -u 1000:1000 $BOX stat -c %u:%g /mnt",
        ),
        case(
            "propagation",
            "a mount made on the host appears in a slave bind; one made in the container appears outside if the bind is shared",
            "mkdir -p $DIR/box/sub
            podman run -d --name $NAME --privileged -v $DIR/box:/mnt:rshared $OFF $IMAGE
            mount -t tmpfs from-host $DIR/box/sub
            like from-host podman exec $NAME cat /proc/mounts
            umount $DIR/box/sub
            podman exec $NAME mount -t tmpfs from-inside /mnt/sub
            like from-inside cat /proc/mounts
            umount $DIR/box/sub
            podman rm -ft0 $NAME",
        ),
        case(
            "named_volume",
            "a named volume keeps what was written",
            "is made podman run -v $NAME:/data $BOX sh -c 'touch /data/made; ls /data'
            is made podman run -v $NAME:/data:ro $BOX ls /data
            podman volume rm $NAME",
        ),
        case(
            "image_volume",
            "an image as a volume",
            "is /img/bin/busybox podman run --mount type=image,src=$IMAGE,dst=/img $BOX ls /img/bin/busybox",
        ),
        case(
            "idmapped_volume",
            "option idmap: files are the container's, and what it makes is root's on the host",
            "mkdir $DIR/box; touch $DIR/box/file
            ids='--uidmap 0:100000:1000 --gidmap 0:100000:1000'
            is 0:0 podman run $ids -v $DIR/box:/mnt:idmap $BOX stat -c %u:%g /mnt/file
            is 65534 podman run $ids -v $DIR/box:/mnt $BOX stat -c %u /mnt/file
            podman run $ids -v $DIR/box:/mnt:idmap $BOX touch /mnt/made
            is 0:0 stat -c %u:%g $DIR/box/made
            is 0 podman run $ids -v \"$DIR/box:/mnt:idmap=uids=0-100000-10;gids=0-100000-10\" $BOX stat -c %u /mnt/file",
        )
        .except("runc", "1.1 has no idmapped mounts by option"),
        case(
            "tmpfs",
            "--tmpfs has what was there before, and the options that it was given",
            "like '^root:' podman run --tmpfs /etc $BOX cat /etc/passwd
            like 'noexec.*size=1024k' podman run --tmpfs /small:size=1m,noexec $BOX grep ' /small ' /proc/mounts
            is 1777 podman run --tmpfs /tmp $BOX stat -c %a /tmp
            fails 1 'No such file' podman run --mount type=tmpfs,dst=/etc,notmpcopyup $BOX ls /etc/group",
        ),
        case(
            "rootfs",
            "--rootfs runs a directory: as it is, read-only, as an overlay",
            "mkdir -p $DIR/root/bin; cp /usr/bin/busybox $DIR/root/bin/sh
            is hi podman run --rm $OFF --rootfs $DIR/root /bin/sh -c 'echo hi'
            is hi podman run --rm $OFF --read-only --read-only-tmpfs=false --rootfs $DIR/root /bin/sh -c 'echo hi'
            is hi podman run --rm $OFF --rootfs $DIR/root:O /bin/sh -c 'echo hi'",
        ),
        case(
            "rootfs_idmap",
            "--rootfs DIR:idmap shows its files as the container's",
            "mkdir -p $DIR/root/{bin,etc,proc,sys,dev,run,tmp}; cp /usr/bin/busybox $DIR/root/bin/
            ln -s /proc/mounts $DIR/root/etc/mtab; touch $DIR/root/etc/{hosts,hostname,resolv.conf} $DIR/root/run/.containerenv
            is 0 podman run --rm $OFF --uidmap 0:100000:1000 --gidmap 0:100000:1000 --rootfs $DIR/root:idmap /bin/busybox stat -c %u /bin/busybox",
        ),
    ]
}
