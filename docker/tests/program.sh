# shellcheck shell=bash
# The built program on a private server of this machine, and the settings that the images have too; read by the pieces
# of docker/test that need no engine, not run. They make $work, a folder, and $DATABASE_URL.

export TINYDEVCRM_DB=image TINYDEVCRM_DB_FAST=1
orchestrator=''

# serve sets $page.
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
    wait "$orchestrator" || die "the orchestrator did not end well"
    orchestrator=''
}

# kill_serving is for a piece that fails.
kill_serving() { [[ -z $orchestrator ]] || { kill "$orchestrator" && wait "$orchestrator"; } 2>/dev/null || true; }

# query STATEMENTS [URL]
query() { "${PG_BINDIR:+$PG_BINDIR/}psql" "${2:-$DATABASE_URL}" -XAtqc "$1"; }

# settings_in FILE prints each with its value.
settings_in() { sed -nE "s/^([a-z_.]+) = '?([^'#]*[^'# ])'?.*/\1 \2/p" "$1"; }
