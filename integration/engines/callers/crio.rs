//! CRI-O: conmon for what lives on, and calls of its own.

use super::ok;
use crate::case::{Case, Need};
use crate::here::Here;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};
use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::Duration;

fn case(name: &'static str, covers: &'static str, script: &'static str) -> Case {
    Case::new("crio", name, covers, move |here| ok(here, script))
}

pub fn cases() -> Vec<Case> {
    [monitored(), called()].into_iter().flatten().collect()
}

fn monitored() -> Vec<Case> {
    vec![
        case(
            "create",
            "conmon creates, tells the pid that the pid file has, and the container waits for start",
            "box $DIR/b '.process.args = [\"sh\", \"-c\", \"echo out; echo err >&2; exit 7\"]'
            monitor
            pid=$(jq .pid $DIR/told)
            is $pid cat $DIR/pid
            is_now created
            is '' cri start $NAME
            eventually test -e $DIR/exits/$NAME
            is 7 cat $DIR/exits/$NAME
            like 'stdout F out' cat $DIR/log
            like 'stderr F err' cat $DIR/log
            is_now stopped
            is '' cri delete --force $NAME",
        ),
        case(
            "create_fails",
            "what the runtime says on standard error is the message, the pid is -1, and nothing is left",
            "box $DIR/b '.process.args = [\"/nosuch\"]'
            monitor || true
            is -1 jq .pid $DIR/told
            like 'nosuch.*[Nn]o such file or directory' jq -r .message $DIR/told
            ! [ -s $DIR/pid ]
            is '' cri delete --force $NAME",
        ),
        case(
            "killed",
            "the exit code after a signal is 128 and its number",
            "box $DIR/b
            monitor
            cri start $NAME
            is '' cri kill $NAME KILL
            eventually test -e $DIR/exits/$NAME
            is 137 cat $DIR/exits/$NAME
            cri delete --force $NAME",
        ),
        case(
            "exec_sync",
            "ExecSync: a pid file that is there and empty, output by the log, the exit code by conmon",
            "box $DIR/b; monitor; cri start $NAME
            process sh -c 'echo out; echo err >&2; exit 9' >$DIR/process
            execute $DIR/process || true
            like '\"exit_code\": ?9' cat $DIR/told
            like 'stdout F out' cat $DIR/exec-log
            like 'stderr F err' cat $DIR/exec-log
            like '^[0-9]+$' cat $DIR/exec-pid
            cri delete --force $NAME",
        ),
        case(
            "exec_sync_fails",
            "ExecSync of a missing program: the reason is told, the container is as before",
            "box $DIR/b; monitor; cri start $NAME
            process /nosuch >$DIR/process
            execute $DIR/process || true
            like 'nosuch.*[Nn]o such file' cat $DIR/told
            is_now running
            cri delete --force $NAME",
        ),
        case(
            "exec_sync_timeout",
            "ExecSync with a time limit: conmon kills the process group of the program, and not more",
            "box $DIR/b; monitor; cri start $NAME
            process sh -c 'sleep 4743 & sleep 4743' >$DIR/process
            execute -T 1 $DIR/process || true
            eventually eval '! pgrep -f \"^sleep 474[3]\"'
            is_now running
            cri delete --force $NAME",
        ),
        Case::new(
            "crio",
            "terminal",
            "a terminal by conmon's console socket: input over its attach socket, and its size",
            terminal,
        ),
        case(
            "exec_sync_terminal",
            "ExecSync with a terminal",
            "box $DIR/b; monitor; cri start $NAME
            process sh -c 'tty; exit 4' | jq '.terminal = true' >$DIR/process
            execute -t $DIR/process || true
            like '\"exit_code\": ?4' cat $DIR/told
            like '/dev/pts/0' cat $DIR/exec-log
            cri delete --force $NAME",
        ),
    ]
}

/// What is sent to conmon's attach socket is typed; its control FIFO takes sizes as `1 ROWS COLUMNS`.
fn terminal(here: &Here) {
    let script = "tty; read line; echo typed $line; until stty size | grep \\\"44 55\\\"; do sleep 0.1; done; exit 6";
    ok(
        here,
        &format!(
            "box $DIR/b '.process.terminal = true | .process.args = [\"sh\", \"-c\", \"{script}\"]'\nmonitor -t -i\ncri start $NAME"
        ),
    );
    let path = here.dir.join("sockets").join(&here.name).join("attach");
    let attach = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("make a socket");
    // Its path may be longer than an address: the directory is short enough by another name.
    let link = std::env::temp_dir().join(&here.name);
    std::os::unix::fs::symlink(path.parent().expect("a directory"), &link).expect("make a link");
    connect(attach.as_raw_fd(), &UnixAddr::new(&link.join("attach")).expect("an address")).expect("attach");
    sleep(Duration::from_millis(300));
    send(attach.as_raw_fd(), b"word\n", MsgFlags::empty()).expect("type");
    ok(
        here,
        "eventually grep -q 'typed word' $DIR/log
        echo 1 44 55 >$DIR/b/ctl
        eventually test -e $DIR/exits/$NAME
        is 6 cat $DIR/exits/$NAME
        like /dev/pts/0 cat $DIR/log
        cri delete --force $NAME",
    );
}

fn called() -> Vec<Case> {
    vec![
        case(
            "state",
            "`state`: JSON alone, with what CRI-O decodes",
            "box $DIR/b; monitor; cri start $NAME
            cri state $NAME 2>&1 | jq -e '.ociVersion and .id == \"'$NAME'\" and .status == \"running\" and .bundle == \"'$DIR'/b\" and .pid == '$(cat $DIR/pid)' and (.created | fromdateiso8601? // (sub(\"\\\\.[0-9]+\"; \"\") | sub(\"[+-][0-9:]+$\"; \"Z\") | fromdateiso8601))'
            cri delete --force $NAME",
        ),
        case("state_unknown", "`state` of an unknown container, in runc's words", "fails 1 'does not exist' cri state nosuch")
            .except("crun", "words it otherwise"),
        case(
            "exec_stream",
            "Exec without a terminal: `exec --process F ID`, pipes as the three streams, the exit code",
            "box $DIR/b; monitor; cri start $NAME
            process sh -c 'cat; echo err >&2; exit 3' >$DIR/process
            code=0; echo in | cri exec --process $DIR/process $NAME >$DIR/out 2>$DIR/err || code=$?
            is '3 in err' echo $code $(cat $DIR/out $DIR/err)
            process sh -c 'kill -9 $$' >$DIR/process
            fails 137 '' cri exec --process $DIR/process $NAME
            cri delete --force $NAME",
        ),
        case(
            "exec_stream_terminal",
            "Exec with a terminal: the slave of CRI-O's pseudo-terminal as the streams; its size is copied, and followed",
            "box $DIR/b; monitor; cri start $NAME
            process sh -c \"tty; $SIZED; touch /sized; until stty size | grep 44.55; do sleep 0.1; done; exit 3\" | jq '.terminal = true' >$DIR/process
            got terminal \"(until [ -e $DIR/b/rootfs/sized ]; do sleep 0.1; done; stty rows 44 cols 55 </dev/tty) & $RUNTIME --root $R exec --process $DIR/process $NAME\"
            [[ $code = 3 && $out = *'33 99'* && $out = *'44 55'* ]] || broken \"$code $out\"
            cri delete --force $NAME",
        ),
        case(
            "update",
            "`update --resources - ID` with the JSON on standard input",
            "box $DIR/b; monitor; cri start $NAME
            is '' cri update --resources - $NAME <<<'{}'
            cri delete --force $NAME",
        ),
        case(
            "update_limits",
            "the same with limits; what is not named stays",
            "box $DIR/b '.linux.resources = {memory: {limit: 67108864}, pids: {limit: 40}}'
            monitor; cri start $NAME
            is '' cri update --resources - $NAME <<<'{\"memory\": {\"limit\": 134217728}, \"cpu\": {\"quota\": 50000, \"period\": 100000}}'
            group=/sys/fs/cgroup$(sed -n s/^0:://p /proc/$(cat $DIR/pid)/cgroup)
            is '134217728 50000 100000 40' echo $(cat $group/memory.max $group/cpu.max $group/pids.max)
            cri delete --force $NAME",
        )
        .needs(Need::Controllers),
        case(
            "pause_and_stop",
            "`pause`, `resume`, `kill ID 15`, then `kill ID KILL`; a stopped one is not there to be signalled",
            "box $DIR/b '.process.args = [\"sh\", \"-c\", \"trap : TERM; while :; do usleep 10000; done\"]'
            monitor; cri start $NAME
            is '' cri pause $NAME
            is_now paused
            is '' cri resume $NAME
            is_now running
            is '' cri kill $NAME 15
            is_now running
            is '' cri kill $NAME KILL
            eventually is_now stopped
            fails 1 'container not running' cri kill $NAME KILL
            is '' cri delete --force $NAME",
        )
        .except("crun", "words the last otherwise"),
        case(
            "signal_by_number",
            "`kill ID 37`: a stop signal as a number, SIGRTMIN+3",
            "box $DIR/b '.process.args = [\"sh\", \"-c\", \"trap \\\"exit 5\\\" 37; echo up; while :; do usleep 10000; done\"]'
            monitor; cri start $NAME
            eventually grep -q up $DIR/log
            is '' cri kill $NAME 37
            eventually test -e $DIR/exits/$NAME
            is 5 cat $DIR/exits/$NAME
            cri delete --force $NAME",
        ),
        case(
            "kill_all_of_stopped",
            "`kill -a ID 9` of a stopped container in the host's PID namespace ends what it left",
            "box $DIR/b 'del(.linux.namespaces[] | select(.type == \"pid\")) | .process.args = [\"sh\", \"-c\", \"sleep 4744 & sleep 4744 & usleep 300000\"]'
            monitor; cri start $NAME
            eventually test -e $DIR/exits/$NAME
            cri kill -a $NAME 9 || true
            eventually eval '! pgrep -f \"^sleep 474[4]\"'
            is '' cri delete --force $NAME",
        ),
        case(
            "delete_unknown",
            "`delete --force` of what is not there succeeds in silence",
            "is '' cri delete --force nosuch",
        ),
        case(
            "features",
            "`features` and `--version`, both streams read as one: JSON with the versions, and a version",
            "$RUNTIME features 2>&1 | jq -e '.ociVersionMin and .ociVersionMax and (.mountOptions | index(\"rro\"))'
            like . $RUNTIME --version",
        ),
        case(
            "idmap_feature",
            "`features` says that mounts can be idmapped",
            "$RUNTIME features 2>&1 | jq -e .linux.mountExtensions.idmap.enabled",
        )
        .except("runc", "1.1 cannot"),
    ]
}
