//! Buildah, as root.

use crate::case::Case;
use crate::daemons;
use crate::leaks;
use crate::podman::ok;

/// A case that is a script. `$box` is a container of the image, removed at the end, and `run` runs in it.
fn case(name: &'static str, covers: &'static str, script: &'static str) -> Case {
    Case::new("buildah", name, covers, move |here| {
        daemons::podman();
        ok(
            here,
            &format!(
                "box=$(buildah from --name $NAME $IMAGE); trap 'buildah rm $box >/dev/null' EXIT
                run=\"buildah run --runtime $RUNTIME --isolation oci --network none\"
                {script}"
            ),
        )
    })
}

pub fn cases() -> Vec<Case> {
    [run(), build(), leaks()].into_iter().flatten().collect()
}

fn run() -> Vec<Case> {
    vec![
        case(
            "run",
            "a program runs, prints, and its exit code comes back",
            "is hello $run $box echo hello
            fails 7 'exit status 7' $run $box sh -c 'exit 7'
            fails 1 'exited on killed' $run --pid host $box sh -c 'kill -9 $$'",
        ),
        case(
            "run_errors",
            "a program that is missing or cannot be run: the runtime's words reach the user",
            "fails 1 'nosuch.*(not found|[Nn]o such file)' $run $box nosuch
            fails 1 '[Pp]ermission denied|not executable' $run $box /etc/not-executable",
        ),
        case(
            "run_terminal",
            "-t: a terminal of the size of the caller's",
            "like '^/dev/pts/0' terminal \"$run -t $box tty\"
            like '33 99' terminal \"$run -t $box sh -c '$SIZED'\"
            fails 5 '' terminal \"$run -t $box sh -c 'exit 5'\"",
        ),
        case(
            "run_streams",
            "standard input to its end, both output streams apart and whole",
            "is hello bash -c \"echo hello | $run $box cat\"
            is 1048577 bash -c \"$run $box sh -c 'head -c 1048577 /dev/zero; head -c 1048576 /dev/zero >&2' 2>$DIR/error | wc -c\"
            is 1048576 stat -c %s $DIR/error",
        ),
        case(
            "run_user",
            "--user, its groups, --workingdir, --env, --hostname",
            "like 'uid=1000\\(user\\) gid=1000\\(user\\)' $run --user user $box id
            is '/var b' $run --workingdir /var --env A=b $box sh -c 'echo $PWD $A'
            is name $run --hostname name $box hostname",
        ),
        case(
            "run_mounts",
            "-v and --mount: bind, tmpfs, read-only",
            "mkdir $DIR/box; echo text >$DIR/box/file
            is text $run -v $DIR/box:/mnt:ro $box cat /mnt/file
            fails 1 Read-only $run -v $DIR/box:/mnt:ro $box touch /mnt/made
            is text $run --mount type=bind,src=$DIR/box,dst=/mnt $box cat /mnt/file
            like ' /mnt tmpfs ' $run --mount type=tmpfs,dst=/mnt $box grep ' /mnt ' /proc/mounts",
        ),
        case(
            "run_capabilities",
            "--cap-add, --cap-drop, and a device",
            "of='awk /^CapEff/{print$2} /proc/self/status'
            is 0000000000000000 $run --cap-drop all $box $of
            got $run --cap-add cap_sys_time $box $of
            (( 0x$out & 1 << 25 )) || broken \"$out\"
            is $'Seccomp:\\t2' $run $box grep Seccomp: /proc/self/status
            like '10, 229' $run --device /dev/fuse $box ls -l /dev/fuse",
        ),
        case(
            "run_namespaces",
            "new namespaces by default, the host's where asked, a network",
            "unlike \"$(readlink /proc/self/ns/pid | tr -d []:)\" bash -c \"$run $box readlink /proc/self/ns/pid | tr -d []:\"
            for kind in pid ipc uts; do is \"$(readlink /proc/self/ns/$kind)\" $run --$kind host $box readlink /proc/self/ns/$kind; done
            like 'eth0|lo' buildah run --runtime $RUNTIME --isolation oci $box ip address",
        ),
        case(
            "run_userns",
            "a container with id maps",
            "mapped=$(buildah from --name $NAME-2 --userns-uid-map 0:100000:65536 --userns-gid-map 0:100000:65536 $IMAGE)
            like '^ *0 +100000 +65536' $run $mapped cat /proc/self/uid_map
            is 0 $run $mapped sh -c 'touch /made; stat -c %u /made'
            buildah rm $mapped",
        ),
        case(
            "run_rootless_isolation",
            "--isolation rootless: no terminal's group, the host's cgroup",
            "is hello buildah run --runtime $RUNTIME --isolation rootless --network none $box echo hello",
        ),
        case(
            "run_interrupted",
            "an interrupt ends the program and leaves no process",
            "env --default-signal=INT $run $box sleep 4742 & buildah=$!
            eventually pgrep -f '^[a-z/]*sleep 474[2]'
            kill -INT $buildah
            ! wait $buildah
            eventually eval '! pgrep -f \"^[a-z/]*sleep 474[2]\"'",
        ),
        case(
            "runtime_by_environment",
            "BUILDAH_RUNTIME names the runtime",
            "is hello env BUILDAH_RUNTIME=$RUNTIME buildah run --isolation oci --network none $box echo hello
            fails 1 nowhere env BUILDAH_RUNTIME=/nowhere buildah run --isolation oci --network none $box echo hello",
        ),
    ]
}

fn build() -> Vec<Case> {
    vec![
        case(
            "commit",
            "what was run in a container is in the image that is made of it",
            "$run $box sh -c 'echo made >/file'
            buildah commit $box $NAME-image
            other=$(buildah from --name $NAME-3 localhost/$NAME-image)
            is made $run $other cat /file
            buildah rm $other; buildah rmi $NAME-image",
        ),
        case(
            "build",
            "a Dockerfile: RUN as root and as a user, in a directory, in exec form, with an argument",
            "printf 'FROM %s\\nARG W=unset\\nRUN echo $W >/b\\nWORKDIR /deep/er\\nUSER 1000\\nRUN [\"sh\", \"-c\", \"id -u >/tmp/u; pwd >>/tmp/u\"]\\n' $IMAGE >$DIR/Dockerfile
            buildah build --runtime $RUNTIME --isolation oci --network none --build-arg W=built -t $NAME-image $DIR
            other=$(buildah from --name $NAME-3 localhost/$NAME-image)
            is $'built\\n1000\\n/deep/er' $run $other cat /b /tmp/u
            buildah rm $other; buildah rmi $NAME-image",
        ),
        case(
            "build_mounts",
            "RUN --mount: bind, cache, tmpfs, secret",
            "echo context >$DIR/file; echo hidden >$DIR/secret
            printf 'FROM %s\\nRUN --mount=type=bind,target=/c cat /c/file >/a\\nRUN --mount=type=cache,target=/k echo kept >/k/file\\nRUN --mount=type=cache,target=/k cat /k/file >>/a\\nRUN --mount=type=tmpfs,target=/t touch /t/x\\nRUN --mount=type=secret,id=s cat /run/secrets/s >>/a\\nRUN ! test -e /t/x && ! test -e /run/secrets/s\\n' $IMAGE >$DIR/Dockerfile
            buildah build --runtime $RUNTIME --isolation oci --network none --secret id=s,src=$DIR/secret -t $NAME-image $DIR
            other=$(buildah from --name $NAME-3 localhost/$NAME-image)
            is $'context\\nkept\\nhidden' $run $other cat /a
            buildah rm $other; buildah rmi $NAME-image",
        ),
        case(
            "build_fails",
            "a command that fails ends the build with its status",
            "printf 'FROM %s\\nRUN exit 9\\n' $IMAGE >$DIR/Dockerfile
            fails 9 'exit status 9' buildah build --runtime $RUNTIME --isolation oci --network none --no-cache $DIR",
        ),
    ]
}

fn leaks() -> Vec<Case> {
    let leaks = |name, covers, times: u32| {
        Case::new("buildah", name, covers, move |here| {
            daemons::podman();
            here.sh("buildah from --name $NAME $IMAGE").ok();
            leaks::check(here, times, "buildah run --runtime $RUNTIME --isolation oci $NAME true");
            here.sh("buildah rm $NAME").ok();
        })
        .alone()
    };
    vec![
        leaks("leaves_nothing", "ten buildah run leave no cgroup, mount, state, network namespace, BPF program, process", 10),
        leaks("leaves_nothing_200", "the same after two hundred", 200).long(),
    ]
}
