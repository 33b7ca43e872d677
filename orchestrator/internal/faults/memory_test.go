//go:build faults

package faults

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A value of more than a gigabyte is too large for Postgres, however much memory there is.
func TestQueryOfAGigabyte(t *testing.T) {
	server, pool := newServer(t)
	p := startUp(t, binary, server.URL)
	var seen []string
	for _, query := range []string{
		"select lpad('x', 2000000000) as wide",
		"select string_agg(repeat('x', 100000000), '') as wide from generate_series(1, 12)",
	} {
		preview := p.post("/matviews/preview", url.Values{"query": {query}}.Encode())
		preview.says(t, 422, "54000")
		made := p.post("/matviews", url.Values{"name": {"wide"}, "query": {query}, "notify_when": {"always"}}.Encode())
		seen = append(seen, fmt.Sprintf("preview: %s; view: %s", preview, made))
	}
	dbtest.Exec(t, pool, "select 1")
	report(t, "query beyond a gigabyte", strings.Join(seen, "; "), "server and program go on: page and events in %s; %s",
		seconds(recovered(t, p, pool)), allLogged(t, pool, p))
}

// The machine gives a backend no more memory: here each may have 700 MB.
func TestQueryBeyondTheMemory(t *testing.T) {
	server, pool := newServer(t)
	pid, err := os.ReadFile(filepath.Join(server.Folder(), "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(pid), "\n")
	asOwner(t, server, exec.Command("prlimit", "--pid", first, "--as=700000000"))
	pool.SetMaxIdleConns(0)
	p := startUp(t, binary, server.URL)
	dbtest.Exec(t, pool, "create table knobs as select 1 as number")
	dbtest.Exec(t, pool, `select tinydevcrm.create_matview('eager',
		'select cardinality(array_agg(n)) as n from generate_series(1, (select number from knobs)) as n', 'always')`)
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('eager')")
	dbtest.Exec(t, pool, "update knobs set number = 100000000")
	preview := p.post("/matviews/preview", "query=select+array_agg(n)+from+generate_series(1,100000000)+as+n")
	preview.says(t, 503, "53200", "out of memory")
	refreshed := p.post("/matviews/refresh", "relation=eager")
	event := dbtest.Column[string](t, pool, "select concat_ws(' ', outcome, error_code, error_message) from tinydevcrm.matview_refresh_events order by id desc limit 1")[0]
	if !strings.HasPrefix(event, "failed 53200") {
		t.Errorf("the refresh: %s", event)
	}
	kept := count(t, pool, "eager")
	if kept != 1 {
		t.Errorf("the view has %d rows, want the one of before", kept)
	}
	report(t, "query beyond the memory", fmt.Sprintf("preview: %s; refresh: %d, event: %s", preview, refreshed.status, event),
		"%d row of before kept; page and events in %s; %s", kept, seconds(recovered(t, p, pool)), allLogged(t, pool, p))
}

// The kernel kills the backend that refreshes for pg_cron, as it does when the machine has no memory left.
func TestBackendKilledInAScheduledRefresh(t *testing.T) {
	server, pool := newServer(t)
	newSlowView(t, pool)
	p := startUp(t, binary, server.URL)
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('slow', '1 minute')")
	dbtest.Exec(t, pool, "update knobs set seconds = 300, number = 2")
	const rounds = "select count(*) from tinydevcrm.matview_refresh_events where schedule_id is not null"
	before := dbtest.Value[int](t, pool, rounds)
	pid := inRefresh(t, pool)
	keeper, err := pool.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer keeper.Close()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	dbtest.Eventually(t, dbtest.Deadline, "the server has noticed", func() bool {
		_, err := keeper.ExecContext(t.Context(), "select 1")
		return err != nil
	})
	answers(t, pool)
	dbtest.Exec(t, pool, "update knobs set seconds = 0")
	kept := dbtest.Value[int](t, pool, "select number from slow")
	if after := dbtest.Value[int](t, pool, rounds); after != before || kept != 1 {
		t.Errorf("%d rounds are recorded, want %d; the view has %d, want 1", after, before, kept)
	}
	took := recovered(t, p, pool)
	dbtest.Eventually(t, 3*time.Minute, "the schedule goes on", func() bool { return dbtest.Value[int](t, pool, rounds) > before })
	next := time.Since(killed)
	runs := strings.Join(dbtest.Column[string](t, pool, "select concat_ws(' ', status, return_message) from cron.job_run_details order by runid"), ", ")
	status := run(t, server.URL, nil, nil, "status")
	report(t, "backend killed by the kernel in a scheduled refresh", fmt.Sprintf("pg_cron's record: %s; status: exit %d", runs, status.status),
		"the rows of before kept, %s; page and events in %s; the next round refreshed after %s; %s",
		orphans(t, server, pool), seconds(took), seconds(next), allLogged(t, pool, p))
}
