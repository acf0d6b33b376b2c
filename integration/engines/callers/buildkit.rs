//! BuildKit: `run --keep` in the foreground, the runtime's default root, signals by way of the runtime.

use super::ok;
use crate::case::Case;

/// BuildKit's globals.
const GLOBAL: &str = "kit() { $RUNTIME --log $DIR/log.json --log-format json \"$@\"; }
    trap '$RUNTIME delete --force $NAME' EXIT";

const OTHER: &str = "BuildKit knows runc alone";

fn case(name: &'static str, covers: &'static str, script: &'static str) -> Case {
    Case::new("buildkit", name, covers, move |here| ok(here, &format!("{GLOBAL}\n{script}")))
}

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "run",
            "`run --bundle B --keep ID`: pipes as the streams, the program's exit code, and a stopped container to delete",
            "box $DIR/b '.process.args = [\"sh\", \"-c\", \"cat; echo err >&2; exit 7\"]'
            code=0; echo in | kit run --bundle $DIR/b --keep $NAME >$DIR/out 2>$DIR/err || code=$?
            is '7 in err' echo $code $(cat $DIR/out $DIR/err)
            is stopped eval \"$RUNTIME state $NAME | jq -r .status\"
            is '' kit delete $NAME
            fails 1 '' kit state $NAME",
        ),
        case(
            "cgroup_is_kept",
            "after `run --keep` the cgroup is there, where BuildKit looks for kills by lack of memory",
            "box $DIR/b '.linux.cgroupsPath = \"/buildkit/'$NAME'\" | .process.args = [\"true\"]'
            kit run --bundle $DIR/b --keep $NAME </dev/null
            like '^populated 0' cat /sys/fs/cgroup/buildkit/$NAME/cgroup.events
            is '' kit delete $NAME
            ! [ -e /sys/fs/cgroup/buildkit/$NAME ]",
        ),
        case(
            "run_no_pivot",
            "`run --no-pivot`",
            "box $DIR/b '.process.args = [\"echo\", \"hi\"]'
            is hi kit run --bundle $DIR/b --no-pivot --keep $NAME
            kit delete $NAME",
        ),
        case(
            "run_terminal",
            "a slave of BuildKit's pseudo-terminal as the streams: a terminal of its own, of that size, which follows",
            "box $DIR/b '.process.terminal = true | .process.args = [\"sh\", \"-c\", \"tty; '\"$SIZED\"'; touch /sized; until stty size | grep 44.55; do sleep 0.1; done; exit 6\"]'
            got terminal \"(until [ -e $DIR/b/rootfs/sized ]; do sleep 0.1; done; stty rows 44 cols 55 </dev/tty) & $RUNTIME --log $DIR/log.json --log-format json run --bundle $DIR/b --keep $NAME\"
            [[ $code = 6 && $out = *'33 99'* && $out = *'44 55'* ]] || broken \"$code $out\"
            kit delete $NAME",
        )
        .except("crun", OTHER),
        case(
            "exec",
            "`state` tells bundle and root; `exec --process F --pid-file P ID` in the foreground",
            "box $DIR/b
            kit run --bundle $DIR/b --keep $NAME </dev/null >$DIR/out 2>&1 & run=$!
            eventually eval \"$RUNTIME state $NAME | grep running\"
            $RUNTIME state $NAME | jq -e '.bundle == \"'$DIR'/b\" and .rootfs == \"'$DIR'/b/rootfs\" and .status == \"running\"'
            process sh -c 'echo out; exit 9' >$DIR/process
            fails 9 '^out$' kit exec --process $DIR/process --pid-file $DIR/pid $NAME
            process sleep 4745 >$DIR/process
            kit exec --process $DIR/process --pid-file $DIR/pid-2 $NAME </dev/null & exec=$!
            eventually eval '[[ $(cat $DIR/pid-2) =~ ^[0-9]+$ ]]'
            kill -9 $(cat $DIR/pid-2)
            ended $exec 137
            is '' kit kill $NAME 9
            ended $run 137
            is '' kit delete $NAME",
        )
        .except("crun", OTHER),
        case(
            "signals",
            "signals sent to the runtime's process reach the program, of run and of exec",
            "box $DIR/b '.process.args = [\"sh\", \"-c\", \"trap \\\"echo got usr1; exit 5\\\" USR1; echo up; while :; do usleep 10000; done\"]'
            log=\"--log $DIR/log.json --log-format json\"
            $RUNTIME $log run --bundle $DIR/b --keep $NAME </dev/null >$DIR/out 2>&1 & run=$!
            eventually grep -q up $DIR/out
            process sh -c 'trap \"exit 4\" TERM; echo up; while :; do usleep 10000; done' >$DIR/process
            $RUNTIME $log exec --process $DIR/process $NAME </dev/null >$DIR/exec-out 2>&1 & exec=$!
            eventually grep -q up $DIR/exec-out
            kill -TERM $exec
            ended $exec 4
            kill -USR1 $run
            ended $run 5
            like 'got usr1' cat $DIR/out
            kit delete $NAME",
        ),
        case(
            "error",
            "an error is a line of JSON in the log, which many calls share",
            "box $DIR/b '.process.args = [\"nosuch\"]'
            fails 1 nosuch kit run --bundle $DIR/b --keep $NAME
            jq -es 'map(select(.level == \"error\" and (.msg | contains(\"nosuch\")) and .time)) | length >= 1' $DIR/log.json
            kit delete --force $NAME",
        ),
        case(
            "many_at_once",
            "eight at the same time, one log file",
            "box $DIR/b '.process.args = [\"echo\", \"up\"]'
            for i in 1 2 3 4 5 6 7 8; do kit run --bundle $DIR/b --keep $NAME-$i </dev/null >$DIR/out-$i & done; wait
            is 8 bash -c \"cat $DIR/out-? | grep -c up\"
            for i in 1 2 3 4 5 6 7 8; do kit delete $NAME-$i; done",
        ),
    ]
}
