//! Containers come, are spoken to, and go.

use super::case;
use crate::case::{Case, Need};

pub fn cases() -> Vec<Case> {
    [exit_codes(), streams(), control()].into_iter().flatten().collect()
}

fn exit_codes() -> Vec<Case> {
    vec![
        case(
            "run",
            "a program runs, prints, and its exit code comes back",
            "is hello podman run $BOX echo hello
            fails 7 '^$' podman run $BOX sh -c 'exit 7'",
        ),
        case(
            "code_of_signal",
            "the exit code after a signal is 128 and its number",
            "fails 137 '^$' podman run --pid host $BOX sh -c 'kill -9 $$'
            podman run -d --name $NAME $OFF $IMAGE sleep 100
            podman kill -s KILL $NAME
            is 137 podman wait $NAME
            podman rm $NAME",
        ),
        case(
            "code_125",
            "what Podman itself refuses",
            "fails 125 'unknown flag' podman run --no-such-flag $IMAGE true
            fails 125 'no such file' podman run -v /nosuch:/data $BOX true",
        ),
        case(
            "code_126",
            "found and not executable: a file without the right, and a directory",
            "fails 126 '/etc/not-executable.*[Pp]ermission denied' podman run $BOX /etc/not-executable
            fails 126 '/etc.*([Ii]s a directory|[Pp]ermission denied)' podman run $BOX /etc",
        ),
        case(
            "code_127",
            "not found, by name and by path",
            "fails 127 'executable file .?nosuch.? not found in|\"nosuch\": executable file not found in \\$PATH' podman run $BOX nosuch
            fails 127 '/nosuch.*[Nn]o such file or directory' podman run $BOX /nosuch",
        ),
        case(
            "error_is_one_line",
            "what the runtime has to say arrives as one line with its reason, not as JSON",
            "got podman run $BOX nosuch
            [ $(wc -l <<<\"$out\") = 1 ] && [[ $out = Error:* && $out != *'{'* ]] || broken \"$out\"",
        ),
    ]
}

fn streams() -> Vec<Case> {
    vec![
        case(
            "terminal",
            "-it: a terminal of the size of the caller's",
            "like '^/dev/pts/0' terminal \"podman run -t $BOX tty\"
            like '33 99' terminal \"podman run -it $BOX sh -c '$SIZED'\"
            fails 5 '' terminal \"podman run -it $BOX sh -c 'exit 5'\"",
        ),
        case(
            "resize",
            "the terminal follows when the caller's changes its size",
            "like '44 55' terminal \"(while sleep 1; do stty rows 44 cols 54 </dev/tty; sleep 1; stty cols 55 </dev/tty; done) &
                podman run -it $BOX sh -c 'for cols in 54 55; do until stty size | grep 44.\\$cols; do sleep 0.1; done; done'\"",
        ),
        case(
            "attach",
            "attach gives the streams of a running container, start -ai those of a new one",
            "podman run -di --name $NAME $OFF $IMAGE cat
            is again bash -c \"echo again | podman attach $NAME\"
            podman rm -ft0 $NAME
            podman create -i --name $NAME $OFF $IMAGE cat
            is yes bash -c \"echo yes | podman start -ai $NAME\"
            podman rm $NAME",
        ),
        case(
            "stdin",
            "-i: standard input from a pipe, to its end, three megabytes whole",
            "is foo bash -c \"echo foo | podman run -i $BOX cat\"
            is 3000000 bash -c \"head -c 3000000 /dev/zero | podman run -i $BOX wc -c\"",
        ),
        case(
            "logs",
            "what a detached container writes, both streams, is in its log",
            "podman run -d --name $NAME $OFF $IMAGE sh -c 'echo one; echo two >&2; sleep 100'
            eventually said $NAME two
            is one bash -c \"podman logs $NAME 2>/dev/null\"
            is two bash -c \"podman logs $NAME 2>&1 >/dev/null\"
            podman rm -ft0 $NAME",
        ),
        case(
            "preserve_fds",
            "--preserve-fds hands descriptors on, and nothing else is open",
            "echo kept >$DIR/file
            is kept bash -c \"exec 3<$DIR/file; podman run --preserve-fds 1 $BOX sh -c 'cat <&3'\"
            is '0 1 2 3' podman run $BOX sh -c 'echo $(ls /proc/self/fd)'",
        ),
        case(
            "listen_fds",
            "a descriptor passed by LISTEN_FDS reaches the program, which is told so",
            "echo sent >$DIR/file
            is '1 1 sent' bash -c \"exec 3<$DIR/file; export LISTEN_FDS=1 LISTEN_PID=\\$\\$; exec podman run $BOX sh -c 'echo \\$LISTEN_FDS \\$LISTEN_PID \\$(cat <&3)'\"",
        ),
    ]
}

fn control() -> Vec<Case> {
    vec![
        case(
            "kill",
            "a signal by name reaches the program; a stopped container has none to send it to",
            "podman run -d --name $NAME $OFF $IMAGE sh -c 'trap \"echo got hup\" HUP; echo up; while :; do sleep 0.1; done'
            eventually said $NAME up
            podman kill -s HUP $NAME
            eventually said $NAME 'got hup'
            podman kill $NAME
            is 137 podman wait $NAME
            fails 125 'can only kill running' podman kill $NAME
            podman rm $NAME",
        ),
        case(
            "stop",
            "the stop signal first, SIGKILL after the time that was given",
            "up='echo up; while :; do sleep 0.1; done'
            podman run -d --name $NAME $OFF $IMAGE sh -c \"trap 'exit 43' TERM; $up\"
            eventually said $NAME up
            podman stop -t 10 $NAME
            is 43 podman wait $NAME
            podman rm $NAME
            podman run -d --name $NAME --stop-signal USR1 $OFF $IMAGE sh -c \"trap 'exit 44' USR1; $up\"
            eventually said $NAME up
            podman stop -t 10 $NAME
            is 44 podman wait $NAME
            podman rm $NAME
            podman run -d --name $NAME $OFF $IMAGE sleep 100
            like 'failed to stop' podman stop -t 1 $NAME
            is 137 podman wait $NAME
            podman rm $NAME",
        ),
        case(
            "pause",
            "a paused container stands still, takes no exec, goes on, and can be removed while paused",
            "podman run -d --name $NAME $OFF $IMAGE sh -c 'while :; do echo tick; sleep 0.02; done'
            eventually said $NAME tick
            podman pause $NAME
            is paused podman inspect -f '{{.State.Status}}' $NAME
            lines() { podman logs $NAME | wc -l; }
            eventually still lines
            before=$(lines)
            fails 255 'state improper' podman exec $NAME true
            podman unpause $NAME
            is running podman inspect -f '{{.State.Status}}' $NAME
            eventually eval '[ $before -lt $(lines) ]'
            podman pause $NAME
            podman rm -ft0 $NAME",
        ),
        case(
            "restart",
            "restart gives the same container a new process",
            "podman run -d --name $NAME $OFF $IMAGE sh -c 'echo up; sleep 100'
            podman restart -t 0 $NAME
            eventually eval \"[ \\$(podman logs $NAME | grep -c up) = 2 ]\"
            podman rm -ft0 $NAME",
        ),
        case(
            "restart_policy",
            "a container that fails is started again as often as its policy says",
            "podman run -d --name $NAME --restart on-failure:2 $OFF $IMAGE sh -c 'echo up; exit 3'
            eventually eval \"[ \\$(podman logs $NAME | grep -c up) = 3 ]\"
            eventually eval \"podman inspect -f '{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}' $NAME | grep '2 exited 3'\"
            podman rm -ft0 $NAME",
        ),
        case(
            "top",
            "top shows the container's processes, by Podman's own columns and by ps in the container",
            "podman run -d --name $NAME $OFF $IMAGE sleep 4731
            like '^root .*sleep 4731' podman top $NAME
            like '^1 +sleep 4731' podman top $NAME pid args
            like 'sleep 4731' podman top $NAME -o pid,args
            podman rm -ft0 $NAME",
        ),
        case(
            "stats",
            "stats reads the cgroup",
            "podman run -d --name $NAME $OFF $IMAGE
            like \"^$NAME \" podman stats --no-stream --format '{{.Name}} {{.PIDS}}' $NAME
            podman rm -ft0 $NAME",
        ),
        case(
            "init_then_start",
            "podman init leaves a created container, which can be started or removed",
            "podman create --name $NAME $OFF $IMAGE echo late
            podman init $NAME
            is initialized podman inspect -f '{{.State.Status}}' $NAME
            is late podman start -a $NAME
            podman rm $NAME
            podman create --name $NAME $OFF $IMAGE sleep 1
            podman init $NAME
            podman rm -f $NAME",
        ),
        case(
            "healthcheck",
            "a health check runs by exec and its result is told",
            "podman run -d --name $NAME --health-cmd 'test -e /tmp/well' --health-interval disable $OFF $IMAGE
            fails 1 unhealthy podman healthcheck run $NAME
            podman exec $NAME touch /tmp/well
            is '' podman healthcheck run $NAME
            podman rm -ft0 $NAME",
        ),
        case(
            "timeout",
            "--timeout: conmon kills the container's process group and nothing else",
            "fails 255 '' podman run --timeout 1 $BOX sleep 100",
        ),
        case(
            "conmon_killed",
            "conmon dies: the container can still be removed, with its processes (Podman may take two goes)",
            "podman run -d --name $NAME $OFF $IMAGE sleep 4732
            kill -9 $(podman inspect -f '{{.State.ConmonPid}}' $NAME)
            podman rm -ft0 $NAME || podman rm -ft0 $NAME
            eventually eval '! pgrep -f \"sleep 473[2]\"'",
        ),
        case(
            "build",
            "RUN as root and as a user, WORKDIR, ARG; a command that fails ends the build with its status",
            "printf 'FROM %s\\nARG W=unset\\nRUN echo $W >/b && id -u >>/b\\nWORKDIR /deep/er\\nUSER 1000\\nRUN id -u >/tmp/u && pwd >>/tmp/u\\nCMD cat /b /tmp/u\\n' $IMAGE >$DIR/Dockerfile
            like '^COMMIT' podman build --network none --build-arg W=built -t $NAME $DIR
            is $'built\\n0\\n1000\\n/deep/er' podman run --rm $OFF localhost/$NAME
            podman rmi -f localhost/$NAME
            printf 'FROM %s\\nRUN exit 9\\n' $IMAGE >$DIR/Dockerfile
            fails 9 'exit status 9' podman build --network none --no-cache $DIR",
        ),
        case(
            "many_at_once",
            "eight containers started at the same time",
            "is 8 bash -c \"for i in 1 2 3 4 5 6 7 8; do podman run $BOX echo up & done | grep -c up\"",
        ),
        case(
            "checkpoint",
            "a counting program goes on counting after checkpoint and restore",
            "podman run -d --name $NAME $OFF $IMAGE sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done'
            eventually said $NAME 5
            podman container checkpoint $NAME
            last=$(podman logs $NAME | tail -n 1)
            podman container restore $NAME
            eventually eval \"[ \\$(podman logs $NAME | tail -n 1) -gt $((last + 3)) ]\"
            is '' bash -c \"podman logs $NAME | awk '\\$1 != NR'\"
            podman rm -ft0 $NAME",
        )
        .needs(Need::Checkpoint)
        .except("crun", "its library for criu is not in the system"),
        case(
            "checkpoint_export",
            "a checkpoint exported to a file is restored as another container",
            "podman run -d --name $NAME $OFF $IMAGE sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done'
            eventually said $NAME 5
            podman container checkpoint -e $DIR/archive $NAME
            last=$(podman logs $NAME | tail -n 1)
            podman container restore -i $DIR/archive -n $NAME-2
            further() { [ \"$(podman logs $NAME-2 | tail -n 1)\" -gt $((last + 3)) ]; }
            eventually further
            # What was written before goes along, or not: where systemd is, the log is its journal.
            is '' bash -c \"podman logs $NAME-2 | awk 'NR > 1 && \\$1 != last + 1; { last = \\$1 }'\"
            podman rm -ft0 $NAME $NAME-2",
        )
        .needs(Need::Checkpoint)
        .except("crun", "its library for criu is not in the system"),
    ]
}
