# shellcheck shell=bash
# What each piece of docker/test begins with; read by them, not run. A piece defines clean_up, which ends what it began.

say() { echo "==> $*"; }

# not_checked WHAT: names what this machine cannot try, and ends the piece.
not_checked() {
    echo "not checked: $*"
    exit 0
}

die() {
    printf '%s\n' "$0: $1" "${@:2}" >&2
    exit 1
}

# until_true SECONDS WHAT COMMAND…: waits for it.
until_true() {
    local end=$((SECONDS + $1)) what=$2
    until "${@:3}" >/dev/null 2>&1; do
        ((SECONDS < end)) || die "$what: not within $1 seconds"
        sleep 0.2
    done
}

trap clean_up EXIT
