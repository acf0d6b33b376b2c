//! Networks, notifications, Podman as a service, units of systemd.

use super::{case, ok, rust};
use crate::case::{Case, Need};
use crate::here::{Here, SCRIPT, patience};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "publish",
            "-p: a port published through netavark is answered by the container, whose network goes with it",
            "podman run -d --name $NAME -p 18080:80 $IMAGE httpd -f -h /www
            eventually curl -sf http://127.0.0.1:18080/
            is 'served by a container' curl -s http://127.0.0.1:18080/
            like eth0 podman exec $NAME ip address
            podman rm -ft0 $NAME
            fails 7 '' curl -s http://127.0.0.1:18080/",
        ),
        rust("sdnotify_conmon", "--sdnotify=conmon: readiness and the main process are told", |here| {
            notified(here, &["READY=1", "MAINPID="], "podman run --sdnotify conmon $BOX true")
        }),
        rust("sdnotify_container", "--sdnotify=container: what the program sends arrives", |here| {
            let send = "/usr/bin/systemd-notify --no-block --ready --status=\"from the container\"";
            let libraries = "-v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro";
            // It lives until what it has sent is there.
            let wait = "until [ -e /case/told ]; do sleep 0.1; done";
            let run = format!("podman run --sdnotify container {libraries} -v $DIR:/case $BOX sh -c '{send}; {wait}'");
            notified(here, &["READY=1", "STATUS=from the container"], &run)
        }),
        case(
            "service",
            "podman's service: run, exec with a terminal, exit codes, pause, top, stop by podman --url",
            "podman system service -t 0 unix://$DIR/socket >$DIR/log 2>&1 & service=$!
            trap 'kill $service' EXIT
            eventually test -S $DIR/socket
            remote=\"podman --url unix://$DIR/socket\"
            is hi $remote run $BOX echo hi
            fails 127 'not found|[Nn]o such file' $remote run $BOX nosuch
            $remote run -d --name $NAME $OFF $IMAGE
            is 0 $remote exec $NAME id -u
            fails 3 '' $remote exec $NAME sh -c 'exit 3'
            $remote pause $NAME; $remote unpause $NAME
            like sleep $remote top $NAME
            like '33 99' terminal \"$remote exec -it $NAME sh -c '$SIZED'\"
            $remote stop -t 1 $NAME
            is 137 $remote wait $NAME
            $remote rm $NAME",
        ),
        case(
            "service_docker",
            "docker's command line on podman's service",
            "podman system service -t 0 unix://$DIR/socket >$DIR/log 2>&1 & service=$!
            trap 'kill $service' EXIT
            eventually test -S $DIR/socket
            remote=\"docker -H unix://$DIR/socket\"
            is hi $remote run --pids-limit 100 $BOX echo hi
            $remote run -d --pids-limit 100 --name $NAME $OFF $IMAGE
            is 0 $remote exec $NAME id -u
            fails 3 '' $remote exec $NAME sh -c 'exit 3'
            $remote rm -f $NAME",
        )
        .needs(Need::Controllers),
        case(
            "quadlet",
            "a container as a unit of systemd: started, its processes in the unit, restarted, stopped",
            "mkdir -p /run/containers/systemd
            printf '[Container]\\nImage=%s\\nContainerName=%s\\nExec=sleep 4738\\nNetwork=none\\nPull=never\\nNotify=conmon\\nPodmanArgs=--stop-timeout=1\\n[Service]\\nTimeoutStopSec=60\\n' $IMAGE $NAME >/run/containers/systemd/$NAME.container
            trap 'systemctl stop $NAME; rm /run/containers/systemd/$NAME.container; systemctl daemon-reload' EXIT
            systemctl daemon-reload
            systemctl start $NAME || { journalctl -n 30 -u $NAME >&2; exit 1; }
            is active systemctl is-active $NAME
            like 'sleep 4738' podman top $NAME
            is 0 podman exec $NAME id -u
            systemctl restart $NAME
            is active systemctl is-active $NAME
            like \"$NAME.service\" cat /proc/$(podman inspect -f '{{.State.Pid}}' $NAME)/cgroup
            systemctl stop $NAME
            eventually eval '! pgrep -f \"sleep 473[8]\"'",
        )
        .needs(Need::SystemdDriver),
        case(
            "generate_systemd",
            "units written by podman generate systemd --new",
            "podman create --name $NAME $OFF $IMAGE sleep 4739
            (cd /run/systemd/system && podman generate systemd --new --files --name $NAME)
            podman rm $NAME
            trap 'systemctl stop container-$NAME; rm /run/systemd/system/container-$NAME.service; systemctl daemon-reload' EXIT
            systemctl daemon-reload
            systemctl start container-$NAME || { journalctl -n 30 -u container-$NAME >&2; exit 1; }
            like 'sleep 4739' podman top $NAME
            systemctl stop container-$NAME
            eventually eval '! pgrep -f \"sleep 473[9]\"'",
        )
        .needs(Need::SystemdDriver),
    ]
}

/// The script, told of a socket for it, has all of this sent there, in whatever order. When it is there, so is `$DIR/told`.
fn notified(here: &Here, wanted: &'static [&str], script: &str) {
    let path = here.dir.join("notify");
    let socket = UnixDatagram::bind(&path).expect("bind a socket");
    let limit = Duration::from_secs(patience(SCRIPT).into());
    socket.set_read_timeout(Some(limit)).expect("set a time limit");
    let mark = here.dir.join("told");
    let reader = std::thread::spawn(move || {
        let mut told = String::new();
        let mut datagram = [0; 4096];
        while !wanted.iter().all(|wanted| told.contains(wanted)) {
            let length = socket.recv(&mut datagram).unwrap_or_else(|error| panic!("{error} after {told:?}"));
            told.push_str(&String::from_utf8_lossy(datagram.get(..length).unwrap_or_default()));
        }
        std::fs::write(mark, told).expect("write a file");
    });
    ok(here, &format!("export NOTIFY_SOCKET={}\n{script}\neventually test -e $DIR/told", path.display()));
    reader.join().expect("read the socket");
}
