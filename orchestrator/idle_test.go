package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// While nobody asks and nothing is due, the database has no connection of ours. A request, a retry, a file and a schedule
// wake the program, and health checks do not.
func TestUpLetsTheDatabaseSleep(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	pool, url := newClocked(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select clock_timestamp() as t', 'always')")
	dbtest.Exec(t, pool, "create table fed (n integer)")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('on_change', 'select count(*) from fed')")
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('on_change', 'on change')")
	later := withHeader(http.StatusTooManyRequests, "Retry-After", "40")
	received, _ := newWebhook(t, pool, "w", func(w http.ResponseWriter, r *http.Request, attempt int) int {
		if attempt == 0 {
			return later(w, r, attempt)
		}
		return http.StatusOK
	})
	inbox := t.TempDir()
	stdout, stderr := background(t, url+"&application_name=sleepy",
		append(upWithWebhooks, "--clock", "--idle-after", "2s", "--inbox", inbox)...)
	page := &site{t: t, url: pageOf(t, stderr), super: pool}
	connections := func() int {
		return dbtest.Value[int](t, pool, "select count(*) from pg_stat_activity where application_name = 'sleepy'")
	}
	naps := 0
	awaitSleep := func() {
		t.Helper()
		naps++
		dbtest.Eventually(t, 2*dbtest.Deadline, "it is asleep", func() bool {
			return strings.Count(stderr.String(), `"asleep, `) >= naps && connections() == 0
		})
		naps = strings.Count(stderr.String(), `"asleep, `)
	}

	awaitSleep()
	id := refresh(t, pool)
	dbtest.Exec(t, pool, "insert into fed values (1)")
	for range 20 {
		if status, body := page.get("", "/readyz"); status != http.StatusOK || !strings.Contains(body, `"is_asleep":true`) {
			t.Fatalf("/readyz: %d %s", status, body)
		}
		if status, body := page.get("", "/metrics"); status != http.StatusOK || !strings.Contains(body, "\ntinydevcrm_asleep 1\n") {
			t.Fatalf("/metrics: %d %s", status, body)
		}
		if count := connections(); count != 0 {
			t.Fatalf("health checks open %d connections", count)
		}
	}
	if len(stdout.events(t)) != 0 || len(received.all()) != 0 {
		t.Error("it has heard of an event while it was asleep")
	}

	if status, _ := page.get("", "/"); status != http.StatusOK || connections() == 0 {
		t.Errorf("a request: %d, %d connections", status, connections())
	}
	dbtest.Eventually(t, dbtest.Deadline, "what has happened meanwhile is in the log", func() bool { return hasEvent(stdout.events(t), id) })
	dbtest.Eventually(t, dbtest.Deadline, "what has changed meanwhile is refreshed", func() bool {
		return dbtest.Value[int](t, pool, "select count from on_change") == 1
	})
	awaitSleep()
	if accepted := received.accepted()[id]; accepted != 0 {
		t.Errorf("it is asleep after %d accepted posts: the retry has been awaited", accepted)
	}
	dbtest.Eventually(t, 2*dbtest.Deadline, "the retry is posted", func() bool { return received.accepted()[id] == 1 })

	awaitSleep()
	if err := os.WriteFile(filepath.Join(inbox, "dropped.csv"), []byte("n\n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, 2*dbtest.Deadline, "a file is imported", func() bool {
		return dbtest.Value[bool](t, pool, "select to_regclass('dropped') is not null")
	})

	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('v', '* * * * *')")
	awaitSleep()
	before := dbtest.Value[string](t, pool, "select clock_timestamp()::text")
	const runs = "from cron.job_run_details where command ~ 'refresh_scheduled' and start_time > $1"
	dbtest.Eventually(t, 90*time.Second, "the schedule runs", func() bool {
		return dbtest.Value[int](t, pool, "select count(end_time) "+runs, before) == 1
	})
	if late := dbtest.Value[float64](t, pool, "select max(extract(epoch from start_time - due_at)) "+runs, before); late > 0.5 {
		t.Errorf("it is %.3f s late", late)
	}
	scheduled := dbtest.Value[int64](t, pool, "select max(id) from tinydevcrm.matview_refresh_events where schedule_id is not null")
	dbtest.Eventually(t, dbtest.Deadline, "its event is in the log", func() bool { return hasEvent(stdout.events(t), scheduled) })
	if log := stderr.String(); strings.Contains(log, `"WARN"`) || strings.Contains(log, "listening again") {
		t.Errorf("the log says %s", log)
	}
}

func TestIdleFlagIsChecked(t *testing.T) {
	for _, args := range [][]string{{"--idle-after", "-1s"}, {"--idle-after", "1ms"}, {"--idle-after", "5m", "--clock", "--cron-url", "x"}} {
		if _, stderr, err := command(t, "postgres://localhost/none", "", append([]string{"up"}, args...)...); err == nil || !strings.Contains(stderr, "--idle-after") {
			t.Errorf("%q: %v %s", args, err, stderr)
		}
	}
}
