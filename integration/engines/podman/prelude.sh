# Functions for the scripts of Podman's and Buildah's cases, beside those of all engines.
OFF="--network none"
BOX="--rm --network none $IMAGE"

# Runs a command; what it wrote is then in $out, and its status in $code.
got() {
    code=0
    out=$("$@" 2>&1) || code=$?
    out=$(tr -d '\r\0' <<<"$out")
}

broken() {
    echo "$*" >&2
    exit 99
}

# is TEXT COMMAND...: it succeeds and writes just that.
is() {
    local want=$1
    shift
    got "$@"
    [[ $code = 0 && $out = "$want" ]] || broken "status $code, not just '$want' by: $* :: $out"
}

# like PATTERN COMMAND...: it succeeds, and a line that it writes matches.
like() {
    local want=$1
    shift
    got "$@"
    [ "$code" = 0 ] && grep -Eq -e "$want" <<<"$out" || broken "status $code, nothing like '$want' by: $* :: $out"
}

# unlike PATTERN COMMAND...: it succeeds, and no line matches.
unlike() {
    local want=$1
    shift
    got "$@"
    [ "$code" = 0 ] && ! grep -Eq -e "$want" <<<"$out" || broken "status $code, or something like '$want' by: $* :: $out"
}

# fails STATUS PATTERN COMMAND...
fails() {
    local status=$1 want=$2
    shift 2
    got "$@"
    [ "$code" = "$status" ] && grep -Eq -e "$want" <<<"$out" || broken "status $code, not $status, or nothing like '$want' by: $* :: $out"
}

# said CONTAINER TEXT: it has written that. Read to the end: podman that cannot write the rest fails, and the pipe with it.
said() { podman logs "$1" 2>&1 | grep -e "$2" >/dev/null; }

capabilities() { awk '/^CapBnd/ { print $2 }' /proc/self/status; }
