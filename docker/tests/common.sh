# shellcheck shell=bash
# Shared by the pieces of docker/test: sourced, not run. Each piece defines clean_up, which stops what it started.

say() { echo "==> $*"; }

# not_checked WHAT: prints what this machine cannot test, and ends the piece.
not_checked() {
    echo "not checked: $*"
    exit 0
}

die() {
    printf '%s\n' "$0: $1" "${@:2}" >&2
    exit 1
}

# until_true SECONDS WHAT COMMAND…: waits until the command succeeds.
until_true() {
    local end=$((SECONDS + $1)) what=$2
    until "${@:3}" >/dev/null 2>&1; do
        ((SECONDS < end)) || die "$what: not within $1 seconds"
        sleep 0.2
    done
}

trap clean_up EXIT
