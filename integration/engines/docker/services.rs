//! Networks, and a swarm.

use super::case;
use crate::case::Case;

pub fn cases() -> Vec<Case> {
    vec![
        case("bridge", "a container of the bridge has an address, and leaves no network namespace", |here| {
            here.sh("docker run --rm box ip address show eth0").ok().prints("inet 172.")
        }),
        case("network_host", "--network host, and that of another container", |here| {
            here.sh("docker run -d --name $NAME --network host box
                [ $(readlink /proc/$(docker inspect -f '{{.State.Pid}}' $NAME)/ns/net) = $(readlink /proc/self/ns/net) ]
                docker rm -f $NAME
                docker run -d --name $NAME box
                a=$(docker exec $NAME cat /sys/class/net/eth0/address)
                b=$(docker run --rm --network container:$NAME box cat /sys/class/net/eth0/address)
                [ $a = $b ]
                docker rm -f $NAME")
                .ok()
        }),
        case("publish", "-p: a published port is answered by the container", |here| {
            here.sh("docker run -d --name $NAME -p 8071:80 box httpd -f -h /www
                eventually curl -sf http://127.0.0.1:8071/
                curl -s http://127.0.0.1:8071/
                docker rm -f $NAME")
                .ok()
                .prints("served by a container")
        }),
        case("network", "a network of one's own, where names are found", |here| {
            here.sh("docker network create $NAME
                docker run -d --name $NAME-a --network $NAME box httpd -f -h /www
                docker run --rm --network $NAME box sh -c \"until wget -qO- http://$NAME-a/; do sleep 0.1; done\"
                docker rm -f $NAME-a; docker network rm $NAME")
                .ok()
                .prints("served by a container")
        }),
        case("swarm", "a swarm of one: a service of two tasks comes up and goes", |here| {
            here.sh("docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1 >/dev/null
                trap 'docker swarm leave --force' EXIT
                docker service create -d --name $NAME --replicas 2 --no-resolve-image --network host box sleep 1000
                eventually eval '[ $(docker ps -q --filter name=$NAME | wc -l) = 2 ]'
                docker service ls
                docker service rm $NAME
                eventually eval '[ $(docker ps -q --filter name=$NAME | wc -l) = 0 ]'")
                .ok()
                .prints("2/2")
        })
        .long(),
    ]
}
