package main

import (
	"database/sql"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// TestUpgradeFromTheLastRelease: a database of the newest release, with something of everything in it, gets the
// migrations since. No row is lost or altered, and everything goes on. While nothing is released, the last migration
// stands for a release.
func TestUpgradeFromTheLastRelease(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	mustCommand(t, server.URL, "migrate", "up", strconv.Itoa(lastReleased(t)))
	pool := openPool(t, server.URL)
	t.Logf("from version %d", dbtest.Value[int](t, pool, "select version from schema_migrations"))

	r, _ := newWebhook(t, pool, "w", always(http.StatusOK))
	taken := fillAsReleased(t, server, pool)
	stopJobs(t, pool)
	before := rowsByTable(t, pool)
	if len(before) < 15 {
		t.Fatalf("only %d tables have rows: %v", len(before), slices.Sorted(maps.Keys(before)))
	}

	mustCommand(t, server.URL, "migrate", "up")
	for table, rows := range before {
		lost := dbtest.Column[string](t, pool, fmt.Sprintf(`
			select old.row::text
			  from unnest($1::text[]) as old (row)
			 where not exists (select from %s as new where to_jsonb(new) @> old.row::jsonb)`, table), pq.Array(rows))
		for _, row := range lost {
			t.Errorf("%s: lost or altered: %s", table, row)
		}
	}

	dbtest.Exec(t, pool, "update cron.job set active = true")
	stdout, stderr := background(t, server.URL, upWithWebhooks...)
	goesOn(t, pool, r, taken)
	dbtest.Eventually(t, 90*time.Second, "the schedule goes on", func() bool {
		return slices.ContainsFunc(stdout.events(t), func(e eventLine) bool {
			return e.Matview == "ann.hers" && e.ScheduleID != 0 && !slices.Contains(taken, e.EventID)
		})
	})
	if strings.Contains(stderr.String(), `"WARN"`) {
		t.Errorf("it complains: %s", stderr)
	}
	mustCommand(t, server.URL, "status")
}

// lastReleased is the number of migrations that the newest release has; of all while nothing is released.
func lastReleased(t *testing.T) int {
	t.Helper()
	list, err := os.ReadFile("../migrations/released.txt")
	if err != nil {
		t.Fatal(err)
	}
	if count := strings.Count(string(list), ".up.sql "); count > 0 {
		return count
	}
	files, err := os.ReadDir("../migrations")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, file := range files {
		if strings.HasSuffix(file.Name(), ".up.sql") {
			count++
		}
	}
	return count
}

// fillAsReleased makes views, schedules, subscriptions and events by functions that the release has. It returns the ids
// of the events that are recorded.
func fillAsReleased(t *testing.T, server *dbtest.Server, pool *sql.DB) []int64 {
	t.Helper()
	dbtest.Exec(t, pool, "select tinydevcrm.create_user('ann', 'secret word')")
	dbtest.Exec(t, pool, "update tinydevcrm.settings set event_limit = 12345")
	dbtest.Exec(t, pool, "create table orders as select n from generate_series(1, 3) as n")
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription($1)", logSubscription)
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('worker')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_source('files', 'file:orders*.csv', 'imported')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select n from orders', 'rows_added')")
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('v', 'on change')")
	ann := open(t, server.URL, "ann")
	dbtest.Exec(t, ann, "select tinydevcrm.create_matview('hers', 'select 1 as one', 'always')")
	dbtest.Exec(t, ann, "select tinydevcrm.schedule_matview('hers', '5 seconds')")
	ann.Close()
	// Two events of v: the baseline, and one with a row that is new. The worker acknowledges the first.
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	dbtest.Exec(t, pool, "insert into orders values (4)")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	dbtest.Exec(t, pool, `
		select tinydevcrm.acknowledge_events(array_agg(delivery_id))
		  from tinydevcrm.receive_events('worker', 1)`)
	return dbtest.Column[int64](t, pool, "select id from tinydevcrm.matview_refresh_events")
}

// goesOn: what was pending is delivered once, the baselines are still there, and a view on change is refreshed.
func goesOn(t *testing.T, pool *sql.DB, r *receiver, taken []int64) {
	t.Helper()
	pending := dbtest.Column[int64](t, pool, "select id from tinydevcrm.matview_refresh_events where is_notified and id = any($1)", pq.Array(taken))
	if len(pending) == 0 {
		t.Fatal("no event was pending")
	}
	dbtest.Eventually(t, dbtest.Deadline, "the pending deliveries are made", func() bool {
		accepted := r.accepted()
		return !slices.ContainsFunc(pending, func(id int64) bool { return accepted[id] == 0 })
	})
	dbtest.Exec(t, pool, "insert into orders values (5)")
	dbtest.Eventually(t, 90*time.Second, "a refresh on change notifies of the one row that is new", func() bool {
		return dbtest.Value[int](t, pool, `
			select count(*)
			  from tinydevcrm.matview_refresh_events
			 where matview = 'public.v' and is_notified and added_count = 1 and row_count = 5`) == 1
	})
	for id, count := range r.accepted() {
		if count != 1 {
			t.Errorf("event %d was accepted %d times", id, count)
		}
	}
}

// rowsByTable is every row of ours and of pg_cron's jobs, as JSON, by table.
func rowsByTable(t *testing.T, pool *sql.DB) map[string][]string {
	t.Helper()
	rows := make(map[string][]string)
	for _, table := range dbtest.Column[string](t, pool, `
		select oid::regclass::text
		  from pg_class
		 where relkind = 'r' and (relnamespace = 'tinydevcrm'::regnamespace or oid in ('cron.job'::regclass, 'orders'::regclass))`) {
		if found := dbtest.Column[string](t, pool, "select to_jsonb(t)::text from "+table+" as t"); len(found) > 0 {
			rows[table] = found
		}
	}
	return rows
}
