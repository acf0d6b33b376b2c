# Functions for the scripts of the cases. RUNTIME, CGROUPS, IMAGE, TRIES, NAME and DIR are in the environment.

# task ID [FLAG...] -- PROGRAM [ARG...]: ctr run. Without the shares that it asks for by default, unless they are wanted: not
# every host has that controller on cgroup v2.
task() {
    local id=$1 flags=(--runc-binary "$RUNTIME")
    shift
    [ "$CGROUPS" = cgroupfs ] || flags+=(--runc-systemd-cgroup --cgroup "system.slice:ctr:$id")
    [ -n "${SHARES-}" ] || flags+=(--cpu-shares 0)
    while [ "$1" != -- ]; do
        flags+=("$1")
        shift
    done
    shift
    ctr run "${flags[@]}" "$IMAGE" "$id" "$@"
}

# eventually COMMAND...: until it succeeds, at most so long.
eventually() {
    local tries
    for tries in $(seq "$TRIES"); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    "$@"
}

# terminal COMMAND: in a terminal of 33 rows and 99 columns, whose input never ends.
terminal() {
    local input=$DIR/input
    [ -e "$input" ] || mkfifo "$input"
    SHELL=/bin/bash script -qec "stty rows 33 cols 99; $(declare -f task); $1" /dev/null <>"$input"
}

# Run in a terminal: it prints the caller's size, as soon as it has that. Engines copy it before the program starts, or after.
SIZED='until stty size 2>/dev/null | grep 33.99; do sleep 0.1; done'

# still COMMAND: what it prints stays the same for a moment.
still() {
    local before
    before=$($1)
    sleep 0.4
    [ "$before" = "$($1)" ]
}

# status COMMAND...: prints its exit status, whatever it is.
status() {
    local status=0
    "$@" || status=$?
    echo "$status"
}
