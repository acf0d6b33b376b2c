//! Pods: containers that share namespaces with an infra container.

use super::case;
use crate::case::Case;

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "pod",
            "containers of a pod share what it says they do; the pod is paused, stopped, started, removed as one",
            "podman pod create --name $NAME --share net,ipc,uts,pid $OFF
            podman run -d --pod $NAME --name $NAME-1 $IMAGE sleep 4735
            podman run -d --pod $NAME --name $NAME-2 $IMAGE sleep 4736
            like 'sleep 4736' podman exec $NAME-1 ps
            for kind in net ipc uts pid; do
                is $(podman exec $NAME-1 readlink /proc/self/ns/$kind) podman exec $NAME-2 readlink /proc/self/ns/$kind
            done
            like sleep podman pod top $NAME
            podman pod pause $NAME; podman pod unpause $NAME
            podman pod stop -t0 $NAME; podman pod start $NAME
            like 'sleep 4735' podman exec $NAME-2 ps
            podman pod rm -ft0 $NAME",
        ),
        case(
            "pod_member_removed",
            "a container of a pod with one PID namespace goes with all that it started, others stay",
            "podman pod create --name $NAME --share net,pid $OFF
            podman run -d --pod $NAME --name $NAME-1 $IMAGE sh -c 'sleep 4737 & sleep 4737 & sleep 4737'
            podman run -d --pod $NAME --name $NAME-2 $IMAGE
            podman rm -ft0 $NAME-1
            unlike 'sleep 473[7]' podman exec $NAME-2 ps
            podman pod rm -ft0 $NAME",
        ),
        case(
            "pod_userns",
            "a pod with a user namespace of its own",
            "podman pod create --name $NAME --userns auto --share net,ipc,uts $OFF
            like '^ *0 +1[0-9]{6}' podman run --rm --pod $NAME $IMAGE cat /proc/self/uid_map
            podman run -d --pod $NAME --name $NAME-1 $IMAGE
            is 0 podman exec $NAME-1 id -u
            podman pod rm -ft0 $NAME",
        ),
        case(
            "play_kube",
            "a pod from a Kubernetes file: read-only root, a user, a volume, no capabilities; and gone again",
            "cat >$DIR/pod.yaml <<END
apiVersion: v1
kind: Pod
metadata: {name: kube}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
  - name: one
    image: $IMAGE
    imagePullPolicy: Never
    command: [sh, -c, 'echo from kube; sleep 100']
    volumeMounts: [{name: v, mountPath: /v}]
    securityContext: {readOnlyRootFilesystem: true, runAsUser: 1000, capabilities: {drop: [ALL]}}
  volumes: [{name: v, emptyDir: {}}]
END
            podman kube play $DIR/pod.yaml
            eventually said kube-one 'from kube'
            like 'uid=1000' podman exec kube-one id
            fails 1 Read-only podman exec kube-one touch /home/made
            podman kube down $DIR/pod.yaml",
        ),
    ]
}
