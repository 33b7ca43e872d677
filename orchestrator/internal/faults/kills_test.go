//go:build faults

package faults

import (
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// uploadRows rows are about 20 MB.
const uploadRows = 200_000

func TestOrchestratorKilledInAnUpload(t *testing.T) {
	server, pool := newServer(t)
	p := startUp(t, binary, server.URL)
	file := newFeed(uploadRows)
	seen := make(chan answer, 1)
	go func() { seen <- p.upload("big", file) }()
	inCopy(t, pool)
	p.kill()
	close(file.proceed)
	sees := <-seen
	sees.says(t, 0, "no answer")
	left := leftovers(t, pool, "big")

	id := refresh(t, pool)
	start := time.Now()
	p = startUp(t, binary, server.URL)
	again := p.upload("big", wholeFeed(uploadRows))
	again.says(t, 201)
	dbtest.Eventually(t, dbtest.Deadline, "the event of meanwhile is logged", func() bool { return p.logged()[id] == 1 })
	report(t, "orchestrator killed in an upload over HTTP", sees, "%s; the same upload to a new one: %d, %d rows; the event of meanwhile logged; up and done in %s",
		left, again.status, count(t, pool, "big"), seconds(time.Since(start)))
}

func TestUploadCommandKilled(t *testing.T) {
	server, pool := newServer(t)
	file := newFeed(uploadRows)
	sees := run(t, server.URL, file, func(process *os.Process) {
		go func() {
			inCopy(t, pool)
			process.Kill()
			close(file.proceed)
		}()
	}, "upload", "-", "--table", "big")
	if sees.status != -1 {
		t.Errorf("it ended with %s, want a signal", sees)
	}
	left := leftovers(t, pool, "big")
	again := run(t, server.URL, wholeFeed(uploadRows), nil, "upload", "-", "--table", "big")
	again.says(t, 0, "200000 rows")
	report(t, "upload command killed", sees, "%s; the same again: exit %d, %d rows in %s", left, again.status, count(t, pool, "big"), seconds(again.took))
}

// Three ways in which the server may go away during an upload.
func TestServerGoesAwayInAnUpload(t *testing.T) {
	server, pool := newServer(t)
	p := startUp(t, binary, server.URL)
	bindir := dbtest.Value[string](t, pool, "select setting from pg_config where name = 'BINDIR'")
	for _, test := range []struct {
		name string
		stop func(backend int)
	}{
		{"postmaster killed", func(int) { server.Kill() }},
		{"server stopped at once", func(int) {
			asOwner(t, server, exec.Command(filepath.Join(bindir, "pg_ctl"), "-D", server.Folder(), "-m", "immediate", "stop"))
		}},
		{"backend killed", func(backend int) { syscall.Kill(backend, syscall.SIGKILL) }},
	} {
		file := newFeed(uploadRows)
		seen := make(chan answer, 1)
		go func() { seen <- p.upload("big", file) }()
		test.stop(inCopy(t, pool))
		close(file.proceed)
		sees := <-seen
		sees.says(t, 503)
		start := time.Now()
		server.Start()
		answers(t, pool)
		left := leftovers(t, pool, "big")
		took := recovered(t, p, pool)
		again := p.upload("big", wholeFeed(uploadRows))
		again.says(t, 201)
		report(t, test.name+" in an upload", sees, "%s; %s; page and events back %s after the server (%s with its start); the same upload: %d, %d rows; %s",
			left, orphans(t, server, pool), seconds(took), seconds(time.Since(start)), again.status, count(t, pool, "big"), allLogged(t, pool, p))
		dbtest.Exec(t, pool, "drop table big")
		dbtest.Exec(t, pool, "delete from tinydevcrm.imports")
	}
}

func TestServerKilledInARefresh(t *testing.T) {
	server, pool := newServer(t)
	newSlowView(t, pool)
	p := startUp(t, binary, server.URL)
	dbtest.Exec(t, pool, "update knobs set seconds = 300, number = 2")
	before := count(t, pool, "tinydevcrm.matview_refresh_events")
	seen := make(chan answer, 1)
	go func() { seen <- p.post("/matviews/refresh", "relation=slow") }()
	inRefresh(t, pool)
	server.Kill()
	sees := <-seen
	sees.says(t, 503)

	server.Start()
	answers(t, pool)
	kept, events := dbtest.Value[int](t, pool, "select number from slow"), count(t, pool, "tinydevcrm.matview_refresh_events")
	if kept != 1 || events != before {
		t.Errorf("the view has %d and there are %d events, want 1 and %d", kept, events, before)
	}
	dbtest.Exec(t, pool, "update knobs set seconds = 0")
	took := recovered(t, p, pool)
	again := p.post("/matviews/refresh", "relation=slow")
	if number := dbtest.Value[int](t, pool, "select number from slow"); number != 2 || again.status >= 400 {
		t.Errorf("the refresh after it: %s, the view has %d", again, number)
	}
	report(t, "postmaster killed in a refresh", sees, "rows of the refresh before kept, no event of half a one; %s; page and events back in %s; the same again: %d; %s",
		orphans(t, server, pool), seconds(took), again.status, allLogged(t, pool, p))
}

// newSlowView creates a view that takes as long as the table knobs says, and that has its first row.
func newSlowView(t *testing.T, pool *sql.DB) {
	t.Helper()
	dbtest.Exec(t, pool, "create table knobs as select 0::double precision as seconds, 1 as number")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('slow', 'select number, pg_sleep(seconds)::text as slept from knobs', 'always')")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('slow')")
}
