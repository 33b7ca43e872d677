package ops_test

import (
	"database/sql"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/ops"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// start returns an Ops with a pool of the program's size, and the expected metrics of an empty database.
func start(t *testing.T) (*ops.Ops, *sql.DB) {
	t.Helper()
	pool, url := dbtest.Schema(t)
	own, err := db.Open(t.Context(), url, ops.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	o := ops.New(t.Context(), ops.Config{
		Pool:     own,
		Listener: func() ops.Listener { return ops.Listener{IsListening: true} },
		Loops:    map[string]func() bool{"log": func() bool { return true }},
		Changes:  func() bool { return true },
		IsAsleep: func() bool { return false },
		Pools:    map[string]*sql.DB{"operations": own},
		Logger:   slog.New(slog.DiscardHandler),
	})
	o.Start()
	return o, pool
}

// value is the value of one metric, named as "name label value label value".
func value(t *testing.T, o *ops.Ops, want string) float64 {
	t.Helper()
	families, err := o.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := []string{family.GetName()}
			for _, label := range metric.GetLabel() {
				name = append(name, label.GetName(), label.GetValue())
			}
			if strings.Join(name, " ") == want {
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s", want)
	return 0
}

func TestNamesAreAsPrometheusHasThem(t *testing.T) {
	o, pool := start(t)
	// A failing view, so that no metric is missing.
	dbtest.Exec(t, pool, "create table numbers as select 1 as n")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 / n as n from numbers')")
	dbtest.Exec(t, pool, "update numbers set n = 0")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	problems, err := testutil.GatherAndLint(o.Registry())
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	if up := value(t, o, "tinydevcrm_up"); up != 1 {
		t.Fatalf("tinydevcrm_up is %v", up)
	}
}

const refreshed = "tinydevcrm_refreshes_total outcome refreshed"

// Ids are assigned before the commit: a counter that reads only ids greater than the last would miss one.
func TestWhatCommitsLateIsCounted(t *testing.T) {
	o, pool := start(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('early', 'select 1 as one'), tinydevcrm.create_matview('late', 'select 1 as one')")
	before := value(t, o, refreshed)

	late, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Rollback()
	if _, err := late.ExecContext(t.Context(), "select tinydevcrm.refresh_matview('late')"); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('early')")
	if now := value(t, o, refreshed); now != before+1 {
		t.Errorf("%v refreshes before the late one, want 1", now-before)
	}
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if now := value(t, o, refreshed); now != before+2 {
			t.Errorf("%v refreshes with the late one, want 2", now-before)
		}
	}
}

func TestCountersDoNotGoDownWithRetention(t *testing.T) {
	o, pool := start(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one')")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	before := value(t, o, refreshed)

	dbtest.Exec(t, pool, "delete from tinydevcrm.matview_refresh_events")
	if now := value(t, o, refreshed); now != before {
		t.Errorf("%v after the log has been emptied, want %v", now, before)
	}
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	if now := value(t, o, refreshed); now != before+1 {
		t.Errorf("%v after one more, want %v", now, before+1)
	}
}

// A scrape counts at most one batch, and the next one continues.
func TestALongSilenceIsCaughtUpWith(t *testing.T) {
	o, pool := start(t)
	before := value(t, o, refreshed)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one')")
	dbtest.Exec(t, pool, `
		set local session_replication_role = replica;
		insert into tinydevcrm.matview_refresh_events
		       (owner, matview_id, matview, outcome, is_notified, suppressed_by, row_count, started_at, duration)
		select owner, id, relation::text, 'refreshed', false, 'rule', 1, now(), interval '0'
		  from tinydevcrm.matviews
		 cross join generate_series(1, 50000)
		 where relation = 'v'::regclass`)
	var steps []float64
	for range 4 {
		steps = append(steps, value(t, o, refreshed)-before)
	}
	if steps[0] != 20000 || steps[1] != 40000 || steps[2] < 50000 || steps[3] != steps[2] {
		t.Errorf("it counted in steps of %v", steps)
	}
}

func TestImportsAreCountedByMode(t *testing.T) {
	o, pool := start(t)
	modes, err := db.Collect(t.Context(), pool, "list the modes", func(mode *string) []any { return []any{mode} },
		"select name from tinydevcrm.import_modes")
	if err != nil || len(modes) == 0 {
		t.Fatalf("modes %v: %v", modes, err)
	}
	for _, mode := range modes {
		// It fails without a value, also for a mode in which nothing was imported.
		value(t, o, "tinydevcrm_imports_total mode "+mode)
	}
	before := value(t, o, "tinydevcrm_imports_total mode create")
	conn, err := pool.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, statement := range []string{
		"create temporary table staging (n text)",
		"insert into staging values ('1')",
		"select tinydevcrm.import_staging('staging', 'numbers')",
	} {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if now := value(t, o, "tinydevcrm_imports_total mode create"); now != before+1 {
		t.Errorf("%v imports, want 1", now-before)
	}
}

// What waits is shown by its kind of receiver. A paused subscription is no reason for an alert.
func TestDeliveriesThatWait(t *testing.T) {
	o, pool := start(t)
	pending := func() float64 { return value(t, o, "tinydevcrm_deliveries_pending kind worker") }
	before := pending()
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('waiting', 'v', 1)")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v') from generate_series(1, 3)")
	dbtest.Exec(t, pool, "update tinydevcrm.deliveries set created_at = created_at - interval '1 hour' where id = (select min(id) from tinydevcrm.deliveries)")
	if now := pending(); now != before+3 {
		t.Errorf("%v deliveries are pending, want 3", now-before)
	}
	if lag := value(t, o, "tinydevcrm_delivery_lag_seconds kind worker"); lag < 3600 || lag > 3700 {
		t.Errorf("the lag is %v seconds, want an hour", lag)
	}
	dbtest.Exec(t, pool, "select tinydevcrm.pause_subscription('waiting')")
	if lag := value(t, o, "tinydevcrm_delivery_lag_seconds kind worker"); lag != 0 {
		t.Errorf("paused, the lag is %v seconds", lag)
	}
	if paused := value(t, o, "tinydevcrm_subscriptions kind worker state paused"); paused != 1 {
		t.Errorf("%v subscriptions are paused, want 1", paused)
	}
	dbtest.Exec(t, pool, "select tinydevcrm._disable_webhook(id, 'gone') from tinydevcrm.subscriptions where name = 'waiting'")
	if off := value(t, o, "tinydevcrm_subscriptions kind worker state switched_off"); off != 1 {
		t.Errorf("%v subscriptions are switched off, want 1", off)
	}
	dbtest.Exec(t, pool, "select tinydevcrm.resume_subscription('waiting')")
	dbtest.Exec(t, pool, "select tinydevcrm.reject_event(delivery_id, 'no') from tinydevcrm.receive_events('waiting', 1)")
	if parked := value(t, o, "tinydevcrm_deliveries_parked kind worker"); parked != 1 {
		t.Errorf("%v deliveries are parked, want 1", parked)
	}
	if failing := value(t, o, "tinydevcrm_subscriptions kind worker state failing"); failing != 1 {
		t.Errorf("%v subscriptions are failing, want 1", failing)
	}
}

func TestLateSchedulesAndFailingViews(t *testing.T) {
	o, pool := start(t)
	dbtest.Exec(t, pool, "create table numbers as select 1 as n")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 / n as n from numbers')")
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('v', '0 0 1 1 *', catch_up => false)")
	failing := func() float64 { return value(t, o, "tinydevcrm_matviews state failing") }
	late := func() float64 { return value(t, o, "tinydevcrm_schedules state late") }
	failingBefore, lateBefore := failing(), late()

	dbtest.Exec(t, pool, "update numbers set n = 0")
	failures := value(t, o, "tinydevcrm_refreshes_total outcome failed")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	if now := failing(); now != failingBefore+1 {
		t.Errorf("%v views are failing, want 1", now-failingBefore)
	}
	if now := value(t, o, "tinydevcrm_refreshes_total outcome failed"); now != failures+1 {
		t.Errorf("%v refreshes failed, want 1", now-failures)
	}
	if since := value(t, o, "tinydevcrm_matview_failing_since_timestamp_seconds"); since <= 0 {
		t.Errorf("failing since %v", since)
	}
	dbtest.Exec(t, pool, "update numbers set n = 1")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	if now := failing(); now != failingBefore {
		t.Errorf("recovered, %v views are failing", now-failingBefore)
	}

	dbtest.Exec(t, pool, `
		update tinydevcrm.matviews
		   set last_refreshed_at = now() - interval '2 years', last_scheduled_at = null,
		       schedule_began_at = now() - interval '2 years'
		 where relation = 'v'::regclass`)
	if now := late(); now != lateBefore+1 {
		t.Errorf("%v schedules are late, want 1", now-lateBefore)
	}
}

func TestUpkeepIsDated(t *testing.T) {
	o, pool := start(t)
	// This is later than any run of the server's own pg_cron.
	ended := time.Now().Add(time.Hour).Truncate(time.Second)
	for _, status := range []string{"succeeded", "failed"} {
		dbtest.Exec(t, pool, `
			insert into cron.job_run_details (jobid, command, username, status, end_time)
			values (0, 'call tinydevcrm.settle_jobs()', 'nobody', $1, $2)`, status, ended)
		ended = ended.Add(time.Hour)
	}
	at := value(t, o, "tinydevcrm_upkeep_last_success_timestamp_seconds")
	dbtest.Exec(t, pool, "delete from cron.job_run_details where username = 'nobody'")
	if want := float64(ended.Add(-2 * time.Hour).Unix()); at != want {
		t.Errorf("upkeep succeeded at %v, want %v", at, want)
	}
}
