# shellcheck shell=bash
# The main job by curl, at the URL in $page: sourced by the pieces of docker/test, not run.

events() { curl -sf "$page/events?of=public.digit"; }
newest_event() { events | grep -oE '"id": *[0-9]+' | head -n 1 | tr -dc 0-9; }

# has_events COUNT: succeeds if at least COUNT refreshes are recorded.
has_events() { (($(events | grep -o '"outcome": *"refreshed"' | wc -l) >= $1)); }
has_newer() { (($(newest_event) > $1)); }

main_job() {
    local query='select * from sample where "AColumnOfNumbers" = floor(extract(second from clock_timestamp()))::integer % 10'
    curl -sSf -o /dev/null -F file=@scripts/sample.csv "$page/upload-file"
    curl -sSf -o /dev/null --data-urlencode name=digit -d notify_when=not_empty --data-urlencode "query=$query" "$page/matviews"
    curl -sSf -o /dev/null -d relation=digit -d schedule='1 second' "$page/matviews/schedule"
    # The first round of a schedule below a minute may begin with the next full one.
    until_true 90 "the schedule's refreshes" has_events 5
    # Not grep -q: it would close the pipe before curl has written everything.
    curl -sSf -H 'Accept: text/html' "$page/" | grep digit >/dev/null || die "the page does not show the view"
    say "The main job is done: upload, view, schedule, event $(newest_event)"
}

# spread_sample QUERY…: distributes the main job's table across both workers, and checks that its view is still
# refreshed. QUERY is a command that runs a query.
spread_sample() {
    local before
    [[ $("$@" "select count(*) from pg_dist_node where isactive and groupid > 0") == 2 ]] || die "the coordinator lacks a worker"
    # By default ten rows become a reference table.
    "$@" "select tinydevcrm.distribute_table('sample', 'AColumnOfNumbers', as_reference => false)" >/dev/null
    [[ $("$@" "select count(distinct nodename) from citus_shards where table_name = 'sample'::regclass") == 2 ]] ||
        die "the table is not on both workers"
    before=$(newest_event)
    until_true 90 "refreshes of a view over both workers" has_newer $((before + 2))
}
