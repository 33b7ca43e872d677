# shellcheck shell=bash
# The program on a private server with the settings of the images: sourced by the pieces of docker/test that need no
# engine, not run. They set $work, a folder, and $DATABASE_URL.

export TINYDEVCRM_DB=image TINYDEVCRM_DB_FAST=1
orchestrator=''

# serve starts the program and sets $page.
serve() {
    local log=$work/log
    go build -o "$work/orchestrator" ./orchestrator
    "$work/orchestrator" up --listen-addr 127.0.0.1:0 >/dev/null 2>"$log" &
    orchestrator=$!
    until_true 60 "the orchestrator is ready" grep -q '"ready"' "$log"
    page=$(sed -nE 's/.*"page":"([^"]*)\/".*/\1/p' "$log")
    export page
}

end_serving() {
    kill "$orchestrator"
    wait "$orchestrator" || die "the orchestrator ended with an error"
    orchestrator=''
}

# kill_serving is for the clean_up of a piece that fails.
kill_serving() { [[ -z $orchestrator ]] || { kill "$orchestrator" && wait "$orchestrator"; } 2>/dev/null || true; }

# query STATEMENTS [URL]: prints the result.
query() { "${PG_BINDIR:+$PG_BINDIR/}psql" "${2:-$DATABASE_URL}" -XAtqc "$1"; }

# settings_in FILE: prints each setting and its value.
settings_in() { sed -nE "s/^([a-z_.]+) = '?([^'#]*[^'# ])'?.*/\1 \2/p" "$1"; }
