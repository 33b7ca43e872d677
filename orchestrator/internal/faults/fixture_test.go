//go:build faults

package faults

import (
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// newServer is a migrated server with a materialized view v that always notifies.
func newServer(t *testing.T) (*dbtest.Server, *sql.DB) {
	t.Helper()
	server := dbtest.NewServer(t)
	must(t, server.URL, "migrate", "up")
	pool, err := db.Open(t.Context(), server.URL, db.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('log')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
	return server, pool
}

// answers waits until the test's own pool can reach the server again.
func answers(t *testing.T, pool *sql.DB) {
	t.Helper()
	dbtest.Eventually(t, dbtest.Deadline, "the server answers", func() bool {
		// Each connection in the pool may be dead.
		for range db.MaxConns + 1 {
			if _, err := pool.ExecContext(t.Context(), "select 1"); err != nil {
				return false
			}
		}
		return true
	})
}

func refresh(t *testing.T, pool *sql.DB) int64 {
	t.Helper()
	return dbtest.Value[int64](t, pool, "select id from tinydevcrm.refresh_matview('v')")
}

// recovered waits until the page is complete again and a new event is in the log, and returns how long that
// took.
func recovered(t *testing.T, p *program, pool *sql.DB) time.Duration {
	t.Helper()
	start := time.Now()
	dbtest.Eventually(t, time.Minute, "the page is back", func() bool { return p.get("/").status == 200 })
	id := refresh(t, pool)
	dbtest.Eventually(t, time.Minute, "an event is logged again", func() bool { return p.logged()[id] > 0 })
	return time.Since(start)
}

// allLogged waits until each notified event is in the logs, and returns how many events there are and how many
// surplus lines.
func allLogged(t *testing.T, pool *sql.DB, programs ...*program) string {
	t.Helper()
	events := dbtest.Column[int64](t, pool, "select id from tinydevcrm.matview_refresh_events where is_notified")
	repeats := 0
	dbtest.Eventually(t, 90*time.Second, "all events are logged", func() bool {
		repeats = -len(events)
		for _, id := range events {
			lines := 0
			for _, p := range programs {
				lines += p.logged()[id]
			}
			if lines == 0 {
				return false
			}
			repeats += lines
		}
		return true
	})
	return fmt.Sprintf("%d of %d events logged, %d twice", len(events), len(events), repeats)
}

// leftovers requires that nothing is left of a table whose import failed: no relation, no import running or
// done, no temporary table, no type, no open transaction.
func leftovers(t *testing.T, pool *sql.DB, table string) string {
	t.Helper()
	const open = "select count(*) from pg_stat_activity where application_name = $1 and xact_start is not null"
	dbtest.Eventually(t, dbtest.Deadline, "the server has ended the transaction", func() bool {
		return dbtest.Value[int](t, pool, open, appName) == 0
	})
	const query = `
		select format('%s tables, %s types, %s staging tables, %s imports',
		           (select count(*) from pg_class where relname = $1),
		           (select count(*) from pg_type where typname = $1),
		           (select count(*) from pg_class where relname like '\_import\_%'),
		           (select count(*) from tinydevcrm.imports where table_name = $1))`
	left := dbtest.Value[string](t, pool, query, table)
	if left != "0 tables, 0 types, 0 staging tables, 0 imports" {
		t.Errorf("left: %s", left)
	}
	return "left " + left
}

// orphans counts files of the database that belong to no relation. Postgres itself leaves such files when a
// crash of the whole server ends a transaction that had created a relation.
func orphans(t *testing.T, server *dbtest.Server, pool *sql.DB) string {
	t.Helper()
	known := make(map[string]bool)
	for _, path := range dbtest.Column[string](t, pool, "select pg_relation_filepath(oid) from pg_class where pg_relation_filepath(oid) is not null") {
		known[filepath.Base(path)] = true
	}
	folder := dbtest.Value[string](t, pool, "select 'base/' || oid from pg_database where datname = current_database()")
	entries, err := os.ReadDir(filepath.Join(server.Folder(), folder))
	if err != nil {
		t.Fatal(err)
	}
	count, size := 0, int64(0)
	for _, entry := range entries {
		node, _, _ := strings.Cut(entry.Name(), ".")
		node, _, _ = strings.Cut(node, "_")
		if info, err := entry.Info(); err == nil && node != "" && strings.Trim(node, "0123456789") == "" && !known[node] {
			count++
			size += info.Size()
		}
	}
	return fmt.Sprintf("%d orphaned files of %d kB", count, size/1024)
}

// A feed is a CSV of two columns that stops halfway until it is resumed.
type feed struct {
	rows, stopAt int
	proceed      chan struct{}
	next         int
	rest         []byte
}

// newFeed makes a feed of that many rows, of about 110 bytes each, which stops halfway.
func newFeed(rows int) *feed {
	return &feed{rows: rows, stopAt: rows / 2, proceed: make(chan struct{})}
}

// wholeFeed makes a feed that does not stop.
func wholeFeed(rows int) *feed {
	f := newFeed(rows)
	close(f.proceed)
	return f
}

func (f *feed) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		switch {
		case f.next > f.rows:
			return 0, io.EOF
		case f.next == 0:
			f.rest = []byte("n,words\n")
		default:
			f.rest = fmt.Appendf(nil, "%d,%s\n", f.next, strings.Repeat("word ", 20))
		}
		f.next++
		if f.next == f.stopAt {
			<-f.proceed
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// inCopy waits until the program runs a COPY.
func inCopy(t *testing.T, pool *sql.DB) (pid int) {
	t.Helper()
	dbtest.Eventually(t, dbtest.Deadline, "a COPY is under way", func() bool {
		return pool.QueryRowContext(t.Context(), `
			select pid from pg_stat_activity where application_name = $1 and state = 'active' and query like 'copy %'`,
			appName).Scan(&pid) == nil
	})
	return pid
}

// inRefresh waits until a refresh runs.
func inRefresh(t *testing.T, pool *sql.DB) (pid int) {
	t.Helper()
	dbtest.Eventually(t, 90*time.Second, "a refresh is under way", func() bool {
		return pool.QueryRowContext(t.Context(), `
			select pid from pg_stat_activity
			 where wait_event = 'PgSleep' and query ~ 'refresh' and pid <> pg_backend_pid()`).Scan(&pid) == nil
	})
	return pid
}

func count(t *testing.T, pool *sql.DB, relation string) int {
	t.Helper()
	return dbtest.Value[int](t, pool, "select count(*) from "+relation)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
