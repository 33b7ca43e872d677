//go:build faults

package faults

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

func TestConnectionLimitReached(t *testing.T) {
	server, pool := newServer(t)
	server.Set("max_connections", "24")
	server.Restart()
	answers(t, pool)
	p := startUp(t, binary, server.URL)
	refresh(t, pool)

	// The test keeps one connection, the program loses its own, and all others are taken.
	keeper, err := pool.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer keeper.Close()
	pool.SetMaxIdleConns(0)
	free := takeAll(t, server.URL, keeper)
	sees := p.get("/")
	sees.says(t, 503, "too many")
	routes := p.get("/matviews")
	routes.says(t, 503, "53300", "max_connections")
	upload := p.upload("small", wholeFeed(10))
	upload.says(t, 503, "53300")
	command := run(t, server.URL, wholeFeed(10), nil, "upload", "-", "--table", "small")
	command.says(t, 1, "too many clients")
	start := run(t, server.URL, nil, nil, "up", "--listen-addr", "localhost:0")
	start.says(t, 1, "too many clients")
	// Events that are committed meanwhile must arrive.
	var id int64
	if err := keeper.QueryRowContext(t.Context(), "select id from tinydevcrm.refresh_matview('v')").Scan(&id); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, dbtest.Deadline, "it cannot receive events, and says so once", func() bool {
		return strings.Count(p.stderr.String(), "cannot receive events") == 1
	})
	free()
	began := time.Now()
	dbtest.Eventually(t, time.Minute, "the event of meanwhile is logged", func() bool { return p.logged()[id] == 1 })
	took := recovered(t, p, pool)
	dbtest.Eventually(t, time.Minute, "it listens again", func() bool { return strings.Contains(p.stderr.String(), "listening again") })
	report(t, "connection limit reached", fmt.Sprintf("page: %d; routes: %s; upload: %d; upload command: exit %s; up: exit %s", sees.status, routes, upload.status, command, start),
		"%s; freed: page and events back in %s, listening again in %s; %s",
		leftovers(t, pool, "small"), seconds(took), seconds(time.Since(began)), allLogged(t, pool, p))
}

// takeAll ends the program's connections and takes all that there are.
func takeAll(t *testing.T, databaseURL string, keeper *sql.Conn) (free func()) {
	t.Helper()
	var pools []*sql.DB
	free = func() {
		for _, pool := range pools {
			pool.Close()
		}
		pools = nil
	}
	t.Cleanup(func() { free() })
	dbtest.Eventually(t, dbtest.Deadline, "all connections are taken", func() bool {
		for {
			pool, err := db.Open(context.Background(), databaseURL, 1)
			if err != nil {
				break
			}
			pools = append(pools, pool)
		}
		if _, err := keeper.ExecContext(t.Context(),
			"select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", appName); err != nil {
			t.Fatal(err)
		}
		var own, others int
		if err := keeper.QueryRowContext(t.Context(), `
			select count(*) filter (where application_name = $1), count(*) filter (where application_name <> $1)
			  from pg_stat_activity where backend_type = 'client backend'`, appName).Scan(&own, &others); err != nil {
			t.Fatal(err)
		}
		return own == 0 && others >= 24
	})
	return free
}
