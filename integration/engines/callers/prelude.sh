# Functions for the scripts that call the runtime as its callers do.

# box DIRECTORY [FILTER]: a bundle with busybox, its configuration what `spec` writes, without a terminal, changed by the
# filter of jq.
box() {
    mkdir -p "$1/rootfs/bin"
    cp /usr/bin/busybox "$1/rootfs/bin/"
    local name
    for name in sh echo cat sleep id stty tty usleep true false kill ps head wc touch grep; do ln -sf busybox "$1/rootfs/bin/$name"; done
    rm -f "$1/config.json"
    (cd "$1" && "$RUNTIME" spec)
    change "$1" '.process.terminal = false | .root.readonly = false | .process.cwd = "/" | .process.args = ["sleep", "1000"]'
    # Nothing that lowers or raises what this host does not let be.
    change "$1" 'del(.process.rlimits, .linux.resources)'
    change "$1" "${2-.}"
}

change() {
    jq "$2" "$1/config.json" >"$1/config.new"
    mv "$1/config.new" "$1/config.json"
}

# process ARG...: a process.json of the bundle's process with other arguments.
process() { jq '.process | .args = $ARGS.positional' "$DIR/b/config.json" --args -- "$@"; }

# The global options of CRI-O's own calls.
R=$DIR/root
cri() { "$RUNTIME" --root "$R" "$@"; }

# monitor FLAG...: conmon as CRI-O calls it. What it tells of the process is in $DIR/told, its exit code in $DIR/exits.
monitor() {
    mkdir -p "$DIR/exits" "$DIR/sockets" "$DIR/persist"
    rm -f "$DIR/told"
    local driver=()
    [ "$CGROUPS" = cgroupfs ] || driver=(-s)
    _OCI_SYNCPIPE=3 conmon "${driver[@]}" -b "$DIR/b" -c "$NAME" -u "$NAME" -n "$NAME" -r "$RUNTIME" --exit-dir "$DIR/exits" \
        --persist-dir "$DIR/persist" --socket-dir-path "$DIR/sockets" -l "$DIR/log" -p "$DIR/pid" -P "$DIR/conmon" \
        --log-level info --runtime-arg "--root=$R" "$@" </dev/null 3>"$DIR/told"
    # It goes into the background before it knows.
    eventually eval "grep -q pid $DIR/told"
}

# execute FLAG... FILE: conmon for an ExecSync of the process in the file. Its result is in $DIR/told, output in $DIR/exec-log.
execute() {
    local file=${*: -1}
    : >"$DIR/exec-pid"
    _OCI_SYNCPIPE=3 conmon -c "$NAME" -n "$NAME" -r "$RUNTIME" -p "$DIR/exec-pid" -e -l "$DIR/exec-log" --socket-dir-path "$DIR/sockets" \
        --log-level info --sync --exec-process-spec "$file" --runtime-arg "--root=$R" "${@:1:$#-1}" </dev/null 3>"$DIR/told"
}

is_now() { [ "$(cri state "$NAME" | jq -r .status)" = "$1" ]; }

# ended PID STATUS: a process of the script has ended so.
ended() {
    local code=0
    wait "$1" || code=$?
    [ "$code" = "$2" ] || broken "a process has ended with $code, not $2"
}
