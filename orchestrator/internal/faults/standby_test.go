//go:build faults

package faults

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A standby is a copy that follows a server by Postgres's own replication.
type standby struct {
	t       *testing.T
	primary *dbtest.Server
	bindir  string
	folder  string
}

func newStandby(t *testing.T, primary *dbtest.Server, pool *sql.DB) *standby {
	t.Helper()
	s := &standby{
		t:       t,
		primary: primary,
		bindir:  dbtest.Value[string](t, pool, "select setting from pg_config where name = 'BINDIR'"),
		folder:  filepath.Join(filepath.Dir(primary.Folder()), "standby"),
	}
	primary.Append("pg_hba.conf", "local replication all trust")
	dbtest.Exec(t, pool, "select pg_reload_conf()")
	socket := dbtest.Value[string](t, pool, "select split_part(current_setting('unix_socket_directories'), ',', 1)")
	s.run("pg_basebackup", "-h", socket, "-U", "postgres", "-D", s.folder, "-R", "-X", "stream", "-c", "fast")
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(s.folder, "postmaster.pid")); err == nil {
			s.run("pg_ctl", "-D", s.folder, "-m", "immediate", "stop")
		}
	})
	return s
}

func (s *standby) run(program string, args ...string) {
	s.t.Helper()
	asOwner(s.t, s.primary, exec.Command(filepath.Join(s.bindir, program), args...))
}

// start starts it at the address of the primary, like an address that moves to another machine.
func (s *standby) start() {
	s.run("pg_ctl", "-D", s.folder, "-l", filepath.Join(s.folder, "log"), "-w", "start")
}

func (s *standby) promote() { s.run("pg_ctl", "-D", s.folder, "-w", "promote") }

// The primary dies, a standby takes its place, and is promoted some time later.
func TestStandby(t *testing.T) {
	primary, pool := newServer(t)
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('v', '1 minute')")
	p := startUp(t, binary, primary.URL)
	recovered(t, p, pool)
	copied := newStandby(t, primary, pool)
	before := allLogged(t, pool, p)
	primary.Stop()
	copied.start()
	answers(t, pool)

	page := p.get("/")
	page.says(t, 200)
	upload := p.upload("small", wholeFeed(10))
	upload.says(t, 503, "25006", "standby", "primary")
	command := run(t, primary.URL, wholeFeed(10), nil, "upload", "-", "--table", "small")
	command.says(t, 1, "read-only", "primary")
	view := p.post("/matviews/refresh", "relation=v")
	view.says(t, 503, "25006", "primary")
	start := run(t, primary.URL, nil, nil, "up", "--listen-addr", "localhost:0")
	start.says(t, 1, "primary")

	copied.promote()
	promoted := time.Now()
	took := recovered(t, p, pool)
	left := leftovers(t, pool, "small")
	dbtest.Eventually(t, time.Minute, "it listens", func() bool { return strings.Contains(p.stderr.String(), "listening again") })
	again := p.upload("small", wholeFeed(10))
	again.says(t, 201)
	scheduled := "select count(*) from tinydevcrm.matview_refresh_events where schedule_id is not null and started_at > $1"
	since := dbtest.Value[string](t, pool, "select now()::text")
	dbtest.Eventually(t, 2*time.Minute, "a schedule runs on the new primary", func() bool {
		return dbtest.Value[int](t, pool, scheduled, since) > 0
	})
	report(t, "standby", fmt.Sprintf("page: %d; upload: %s; upload command: exit %s; refresh: %d %s; up: exit %s", page.status, upload, command, view.status, view.text, start),
		"before: %s; %s; promoted: page and events in %s, upload: %d, the schedule ran after %s; %s",
		before, left, seconds(took), again.status, seconds(time.Since(promoted)), allLogged(t, pool, p))
}
