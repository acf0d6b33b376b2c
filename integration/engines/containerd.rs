//! containerd by `ctr`.

use crate::case::{Case, Need};
use crate::daemons;
use crate::here::{Here, Ran};
use crate::leaks;

fn case(name: &'static str, covers: &'static str, run: fn(&Here) -> Ran) -> Case {
    Case::new("containerd", name, covers, move |here| {
        daemons::containerd();
        run(here)
    })
}

/// Why crun does not run what holds runc's words.
const WORDS: &str = "words it otherwise";
const NO_CRIU: &str = "its library for criu is not in the system";

pub fn cases() -> Vec<Case> {
    [life(), process(), confinement(), resources(), leaks()].into_iter().flatten().collect()
}

fn life() -> Vec<Case> {
    vec![
        case("run", "a program runs, prints, and its exit code comes back", |here| {
            here.sh("task $NAME --rm -- sh -c 'echo hello; exit 7'").exits(7).prints_just("hello")
        }),
        case("missing_program", "a name that is not in PATH, in runc's words", |here| {
            here.sh("task $NAME --rm -- nosuch").exits(1).says("exec: \"nosuch\": executable file not found in $PATH")
        })
        .except("crun", WORDS),
        case("missing_path", "a path that is not there", |here| {
            here.sh("task $NAME --rm -- /nosuch").exits(1).says("/nosuch").says("no such file or directory")
        })
        .except("crun", WORDS),
        case("not_executable", "a file without the right to execute, and a directory", |here| {
            here.sh("task $NAME-2 --rm -- /etc").exits(1).says("is a directory");
            here.sh("task $NAME --rm -- /etc/not-executable").exits(1).says("permission denied")
        })
        .except("crun", WORDS),
        case("life", "detached: running, killed, stopped, its exit code at deletion, nothing left of its state", |here| {
            here.sh("task $NAME -d -- sleep 1000
                ctr task ls | grep \"^$NAME .*RUNNING\"
                ctr task kill -s KILL $NAME
                eventually eval 'ctr task ls | grep \"^$NAME .*STOPPED\"'
                ctr task rm $NAME
                ctr container rm $NAME
                ls -A /run/containerd/runc/default")
                .ok()
                .prints("RUNNING")
                .says("exit code 137")
                .does_not_print(&format!("\n{}\n", here.name))
        }),
        case(
            "signals",
            "signals by name and number reach the program; one that it does not catch is ignored by a first process",
            |here| {
                here.sh("task $NAME -d --log-uri file://$DIR/log -- sh -c 'trap \"echo usr1\" USR1; trap \"echo term; exit 3\" TERM; echo up; while :; do sleep 0.05; done'
                eventually grep up $DIR/log
                ctr task kill -s USR2 $NAME
                ctr task kill -s USR1 $NAME
                eventually grep usr1 $DIR/log
                ctr task kill -s 15 $NAME
                eventually eval 'ctr task ls | grep \"^$NAME .*STOPPED\"'
                cat $DIR/log
                ctr task rm $NAME")
                .ok()
                .prints("usr1\nterm\n")
                .says("exit code 3")
            },
        ),
        case(
            "kill_stopped",
            "a signal for a stopped or deleted task is refused in the words that containerd matches on",
            |here| {
                here.sh("task $NAME -d -- true
                eventually eval 'ctr task ls | grep \"^$NAME .*STOPPED\"'
                ctr task kill -s 9 $NAME")
                    .exits(1)
                    .says("process already finished");
                here.sh("ctr task rm $NAME; ctr task kill -s 9 $NAME").exits(1).says("not found")
            },
        ),
        case("delete_running", "a running task is not deleted, unless by force", |here| {
            here.sh("task $NAME -d -- sleep 1000; ctr task rm $NAME").exits(1).says("must be stopped before deletion");
            here.sh("ctr task rm -f $NAME; ctr container rm $NAME; ctr task ls").ok().does_not_print(&here.name)
        }),
        case("kill_all", "in the host's pid namespace all processes end with the first", |here| {
            here.sh("task $NAME -d --with-ns pid:/proc/1/ns/pid -- sh -c 'sleep 4711 & sleep 4711'
                eventually eval '[ $(pgrep -fc \"sleep 471[1]\") -ge 2 ]'
                ctr task kill -s KILL $NAME
                eventually eval '! pgrep -f \"sleep 471[1]\"'
                eventually ctr task rm $NAME
                ctr container rm $NAME")
                .ok()
        }),
        case("shim_killed", "the shim dies: containerd has the runtime clear everything away", |here| {
            here.sh("task $NAME -d -- sleep 4713
                kill -9 $(pgrep -f \"containerd-shim.*-id $NAME \")
                eventually eval '! pgrep -f \"sleep 471[3]\"'
                eventually eval '! [ -e /run/containerd/runc/default/$NAME ]'
                ctr task rm -f $NAME || true
                ctr container rm $NAME")
                .ok()
        }),
        case("daemon_restart", "containerd goes and comes back: the task has run on, and can be used", |here| {
            here.sh("task $NAME -d -- sleep 1000
                kill $(pidof containerd); eventually eval '! pidof containerd'
                setsid containerd >>/var/log/engines/containerd 2>&1 &
                eventually ctr version
                ctr task ls | grep \"^$NAME \"
                ctr task exec --exec-id a $NAME echo still there
                ctr task rm -f $NAME; ctr container rm $NAME")
                .ok()
                .prints("RUNNING\nstill there")
        })
        .alone(),
        case("pause", "a paused task stands still, takes no exec, and goes on", |here| {
            here.sh("task $NAME -d --log-uri file://$DIR/log -- sh -c 'while :; do echo tick; sleep 0.02; done'
                eventually grep tick $DIR/log
                ctr task pause $NAME
                ctr task ls | grep \"^$NAME .*PAUSED\"
                size() { stat -c %s $DIR/log; }
                eventually still size
                before=$(size)
                ! ctr task exec --exec-id e $NAME true
                ctr task resume $NAME
                eventually eval '[ $before != $(size) ]'
                ctr task exec --exec-id f $NAME echo resumed
                ctr task rm -f $NAME")
                .ok()
                .prints("resumed")
        }),
        case("checkpoint", "a checkpoint of a running task is written", |here| {
            here.sh("task $NAME -d -- sleep 1000
                ctr task checkpoint --exit --image-path $DIR/image $NAME
                ls $DIR/image
                eventually eval 'ctr task ls | grep \"^$NAME .*STOPPED\"'
                ctr task rm $NAME || true
                ctr container rm $NAME")
                .ok()
                .prints("core-1.img")
        })
        .needs(Need::Checkpoint)
        .except("crun", NO_CRIU),
        case("checkpoint_restore", "a counting program goes on counting in a container made of a checkpoint", |here| {
            // What it is known by is made once, at its start.
            here.sh("file() { ctr task exec --exec-id e$RANDOM $1 cat /dev/shm/$2; }
                beyond() { [ \"$(file $1 count)\" -gt $2 ]; }
                task $NAME -d --null-io -- sh -c 'cat /proc/sys/kernel/random/uuid >/dev/shm/start; i=0; while :; do i=$((i+1)); echo $i >/dev/shm/new; mv /dev/shm/new /dev/shm/count; sleep 0.05; done'
                eventually beyond $NAME 5
                started=$(file $NAME start) counted=$(file $NAME count)
                ctr container checkpoint --rw --image --task $NAME localhost/$NAME:1
                ctr task rm -f $NAME
                ctr container rm $NAME
                ctr container restore --rw --live $NAME-2 localhost/$NAME:1 </dev/null >$DIR/restored 2>&1 &
                eventually beyond $NAME-2 $counted
                [ $started = $(file $NAME-2 start) ]
                eventually beyond $NAME-2 $(($(file $NAME-2 count) + 5))
                ctr task rm -f $NAME-2
                wait
                ctr container rm $NAME-2
                ctr image rm localhost/$NAME:1")
                .ok()
        })
        .needs(Need::Checkpoint)
        .except("crun", NO_CRIU),
    ]
}

fn process() -> Vec<Case> {
    vec![
        case("terminal", "the program has a terminal of the size of the caller's", |here| {
            here.sh("terminal \"task $NAME --rm -t -- sh -c 'tty; $SIZED'\"").ok().prints("/dev/pts/0\n33 99\n")
        }),
        case("exec", "in a running task: output, exit code, user, directory", |here| {
            here.sh("task $NAME -d -- sleep 1000
                ctr task exec --exec-id a $NAME echo one
                status ctr task exec --exec-id b $NAME sh -c 'exit 9'
                ctr task exec --exec-id c --user 1000 $NAME id
                ctr task exec --exec-id d --cwd /var $NAME pwd")
                .ok()
                .prints("one\n9\nuid=1000(user) gid=1000(user)")
                .prints("/var");
            here.sh("ctr task rm -f $NAME").ok()
        }),
        case("exec_missing_program", "a name that is not in PATH, in a running task: runc's words", |here| {
            here.sh("task $NAME -d -- sleep 1000").ok();
            here.sh("ctr task exec --exec-id a $NAME nosuch")
                .exits(1)
                .says("exec: \"nosuch\": executable file not found in $PATH");
            here.sh("ctr task rm -f $NAME").ok()
        })
        .except("crun", WORDS),
        case("exec_terminal", "exec with a terminal", |here| {
            here.sh("task $NAME -d -- sleep 1000
                terminal \"ctr task exec -t --exec-id a $NAME sh -c 'tty; $SIZED'\"
                ctr task rm -f $NAME")
                .ok()
                .prints("/dev/pts/0\n33 99\n")
        }),
        case("exec_detached", "exec in the background, seen by ps, killed by its id", |here| {
            here.sh("task $NAME -d -- sleep 1000
                ctr task exec -d --exec-id a $NAME sleep 4715
                ctr task ps $NAME | grep -c '[0-9]'
                ctr task kill --exec-id a -s KILL $NAME
                eventually eval '! pgrep -f \"sleep 471[5]\"'
                ctr task ls | grep $NAME
                ctr task rm -f $NAME")
                .ok()
                .prints("2\n")
                .prints("RUNNING")
        }),
        case("stdin", "standard input from a pipe, to its end, into run and exec", |here| {
            // ctr misses an end of file that comes before the task is there, and so for ever.
            here.sh("{ echo hello; eventually grep hello $DIR/run; } | task $NAME --rm -- cat >$DIR/run
                task $NAME-2 -d -- sleep 1000
                { echo exec; eventually grep exec $DIR/exec; } | ctr task exec --exec-id a $NAME-2 cat >$DIR/exec
                ctr task rm -f $NAME-2 >&2
                cat $DIR/run $DIR/exec")
                .ok()
                .prints_just("hello\nexec")
        }),
        case("streams", "a mebibyte on each of the two output streams, apart and whole", |here| {
            here.sh("task $NAME --rm -- sh -c 'head -c 1048576 /dev/zero; head -c 1048577 /dev/zero >&2' >$DIR/a 2>$DIR/b
                stat -c %s $DIR/a $DIR/b")
                .ok()
                .prints("1048576\n1048577")
        }),
        case("environment", "environment, directory (made if missing), user, host name", |here| {
            here.sh("task $NAME --rm --env A=b --cwd /new/dir --user 1000:1000 --hostname inside -- sh -c 'echo $A $(pwd) $(id -u) $(hostname)'")
                .ok()
                .prints("b /new/dir 1000 inside")
        }),
        case("config_file", "a configuration that the caller wrote", |here| {
            here.sh("cd $DIR; $RUNTIME spec
                jq '.process.terminal = false | .process.args = [\"sh\", \"-c\", \"echo written by $(hostname)\"] | .hostname = \"hand\" | .root.path = \"'$DIR'/root\"' config.json >mine.json
                mkdir -p root/bin; cp /usr/bin/busybox root/bin/sh
                ctr run --rm --runc-binary $RUNTIME -c mine.json $NAME")
                .ok()
                .prints_just("written by hand")
        }),
        case("pid_file", "the pid file of ctr names the first process", |here| {
            here.sh("task $NAME -d --pid-file $DIR/pid -- sleep 4717
                eventually grep -z 4717 /proc/$(cat $DIR/pid)/cmdline
                tr '\\0' ' ' </proc/$(cat $DIR/pid)/cmdline
                ctr task rm -f $NAME")
                .ok()
                .prints("sleep 4717")
        }),
        case("rootfs", "a directory as the root, instead of an image", |here| {
            here.sh("mkdir -p $DIR/root/bin $DIR/root/proc; cp /usr/bin/busybox $DIR/root/bin/sh
                ctr run --rm --runc-binary $RUNTIME --cpu-shares 0 --cgroup \"$([ $CGROUPS = cgroupfs ] && echo /test/$NAME || echo)\" --rootfs $DIR/root $NAME /bin/sh -c 'echo from a directory'")
                .ok()
                .prints("from a directory")
        }),
        case("network", "the host's network, and one of its own by CNI", |here| {
            here.sh("task $NAME --rm --net-host -- ip address").ok().prints("127.0.0.1");
            here.sh("task $NAME --rm --cni -- ip address").ok().prints("10.77.")
        }),
    ]
}

fn confinement() -> Vec<Case> {
    vec![
        case("user_namespace", "ids are mapped, in run and in exec", |here| {
            here.sh("task $NAME -d --uidmap 0:100000:65536 --gidmap 0:100000:65536 -- sleep 1000
                ctr task exec --exec-id a $NAME sh -c 'cat /proc/self/uid_map; touch /made; stat -c %u /made'
                ctr task rm -f $NAME; ctr container rm $NAME")
                .ok()
                .prints("100000      65536\n0\n")
        }),
        case("read_only", "a root that cannot be written", |here| {
            here.sh("task $NAME --rm --read-only -- touch /made").exits(1).says("Read-only file system")
        }),
        case("mounts", "bind mounts: writable, read-only; a tmpfs with options", |here| {
            here.sh("mkdir $DIR/box
                task $NAME --rm --mount type=bind,src=$DIR/box,dst=/data,options=rbind:rw -- touch /data/made
                ls $DIR/box
                task $NAME --rm --mount type=tmpfs,src=tmpfs,dst=/small,options=size=1m:noexec -- grep /small /proc/mounts
                task $NAME --rm --mount type=bind,src=$DIR/box,dst=/data,options=rbind:ro -- touch /data/more")
                .exits(1)
                .prints("made")
                .prints("noexec,relatime,size=1024k")
                .says("Read-only file system")
        }),
        case("recursive_read_only", "option rro: what is mounted below is read-only too", |here| {
            here.sh("mkdir -p $DIR/box/below; mount -t tmpfs below $DIR/box/below
                trap 'umount $DIR/box/below' EXIT
                task $NAME --rm --mount type=bind,src=$DIR/box,dst=/data,options=rbind:rro -- touch /data/below/made")
                .exits(1)
                .says("Read-only file system")
        }),
        case("idmapped_mount", "a bind mount with mappings of its own, which containerd allows if `features` says so", |here| {
            here.sh("cd $DIR; mkdir box; touch box/file; chown 5:5 box/file; $RUNTIME spec
                map() { echo '[{\"containerID\": 0, \"hostID\": '$1', \"size\": 65536}]'; }
                jq --argjson map \"$(map 100000)\" '.process.terminal = false | .process.args = [\"stat\", \"-c\", \"%u\", \"/data/file\"]
                    | .linux.namespaces += [{type: \"user\"}] | .linux.uidMappings = $map | .linux.gidMappings = $map | .root.path = \"'$DIR'/root\"
                    | .mounts += [{destination: \"/data\", type: \"bind\", source: \"'$DIR'/box\", options: [\"rbind\"], uidMappings: $map, gidMappings: $map}]' config.json >mine.json
                mkdir -p root/bin; cp /usr/bin/busybox root/bin/stat; chown -R 100000:100000 root
                ctr run --rm --runc-binary $RUNTIME -c mine.json $NAME")
                .ok()
                .prints_just("5")
        })
        .except("runc", "1.1 has no mounts with mappings of their own"),
        case("capabilities", "the default set, one more, one less, none for an ordinary user", |here| {
            here.sh("for flag in --env=A=b --cap-add=CAP_SYS_ADMIN --cap-drop=CAP_CHOWN --user=1000; do
                    task $NAME --rm $flag -- grep CapEff /proc/self/status
                done")
                .ok()
                .prints(
                    "CapEff:\t00000000a80425fb\nCapEff:\t00000000a82425fb\nCapEff:\t00000000a80425fa\nCapEff:\t0000000000000000",
                )
        }),
        case("privileged", "all capabilities, writable /sys, mounting", |here| {
            here.sh("task $NAME --rm --privileged -- sh -c 'mount -t tmpfs tmpfs /tmp && echo mounted'").ok().prints("mounted")
        }),
        case("seccomp", "containerd's profile is in force: a call that it forbids fails, others work", |here| {
            here.sh("task $NAME --rm --seccomp -- sh -c 'grep Seccomp: /proc/self/status; unshare -U true; true'")
                .ok()
                .prints("Seccomp:\t2")
                .says("Operation not permitted")
        }),
        case("seccomp_profile", "a profile from a file", |here| {
            here.sh("echo '{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"mkdir\", \"mkdirat\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 28}]}' >$DIR/profile
                task $NAME --rm --seccomp --seccomp-profile $DIR/profile -- mkdir /made")
                .exits(1)
                .says("No space left on device")
        }),
        case("no_new_privs", "set unless new privileges are allowed", |here| {
            here.sh("task $NAME --rm -- grep NoNewPrivs /proc/self/status
                task $NAME --rm --allow-new-privs -- grep NoNewPrivs /proc/self/status")
                .ok()
                .prints("NoNewPrivs:\t1\nNoNewPrivs:\t0")
        }),
        case("device", "a device is there and can be opened; another cannot be made and opened", |here| {
            here.sh("task $NAME --rm --device /dev/fuse -- sh -c 'exec 3<>/dev/fuse && echo opened'").ok().prints("opened");
            here.sh("task $NAME --rm -- sh -c 'mknod /fuse c 10 229 && cat /fuse'").exits(1).says("Operation not permitted")
        }),
        case("propagation", "a shared root, and one without pivot_root, still run", |here| {
            here.sh("task $NAME --rm --rootfs-propagation shared -- echo shared; task $NAME --rm --privileged -- echo plain")
                .ok()
                .prints("shared\nplain")
        }),
        case("apparmor", "containerd's default profile is loaded and in force", |here| {
            here.sh("task $NAME --rm --apparmor-default-profile engines-default -- cat /proc/self/attr/current")
                .ok()
                .prints("engines-default (enforce)")
        })
        .needs(Need::AppArmor),
    ]
}

fn resources() -> Vec<Case> {
    vec![
        case("cgroup_path", "the cgroup is where it was asked for, and goes", |here| {
            here.sh("ctr run --rm --runc-binary $RUNTIME --cpu-shares 0 --cgroup /deep/$NAME $IMAGE $NAME true
                ctr run -d --runc-binary $RUNTIME --cpu-shares 0 --cgroup /deep/$NAME $IMAGE $NAME sleep 1000
                grep -c . /sys/fs/cgroup/deep/$NAME/cgroup.procs
                ctr task rm -f $NAME
                ! [ -e /sys/fs/cgroup/deep/$NAME ]")
                .ok()
                .prints("1")
        }),
        case("metrics", "numbers of a running task, and its processes", |here| {
            here.sh("task $NAME -d -- sleep 1000; ctr task metrics $NAME; ctr task ps $NAME; ctr task rm -f $NAME")
                .ok()
                .prints(&here.name)
        }),
        case("limits", "memory, cpus and shares are in the cgroup's files", |here| {
            here.sh("SHARES=1 task $NAME -d --memory-limit 50000000 --cpus 0.5 -- sleep 1000
                cd /sys/fs/cgroup$(cut -d: -f3 /proc/$(ctr task ls | awk -v n=$NAME '$1 == n { print $2 }')/cgroup)
                cat memory.max cpu.max cpu.weight
                ctr task rm -f $NAME")
                .ok()
                .prints("49999872\n50000 100000\n")
        })
        .needs(Need::Controllers),
        case("oom", "a program that wants more memory than it may have is killed", |here| {
            here.sh("status task $NAME --rm --memory-limit 20000000 -- sh -c 'dd if=/dev/zero of=/dev/null bs=200M'")
                .ok()
                .prints_just("137")
        })
        .needs(Need::Controllers),
    ]
}

fn leaks() -> Vec<Case> {
    let leaks = |name, covers, times: u32| {
        Case::new("containerd", name, covers, move |here| {
            daemons::containerd();
            leaks::check(here, times, "task $NAME --rm -- true");
        })
        .alone()
    };
    vec![
        leaks("leaves_nothing", "ten ctr run leave no cgroup, mount, state, network namespace, BPF program, process", 10),
        leaks("leaves_nothing_200", "the same after two hundred", 200).long(),
    ]
}
