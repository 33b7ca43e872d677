package main

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// tenants is a server with the users ann and eve, who have a view each. eve's events have expired.
func tenants(t *testing.T) (super, ann, eve *sql.DB) {
	t.Helper()
	server := dbtest.NewMigrated(t)
	super = open(t, server.URL, "postgres")
	dbtest.Exec(t, super, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'eve']) as name")
	ann, eve = open(t, server.URL, "ann"), open(t, server.URL, "eve")
	for _, user := range []*sql.DB{ann, eve} {
		dbtest.Exec(t, user, "select tinydevcrm.create_matview('v', 'select 1 as n', 'always')")
		dbtest.Exec(t, user, "select tinydevcrm.create_subscription('mine')")
		dbtest.Exec(t, user, "select tinydevcrm.schedule_matview('v', '0 0 1 1 *')")
		dbtest.Exec(t, user, "select tinydevcrm.acknowledge_events(array_agg(delivery_id)) from tinydevcrm.receive_events('mine')")
	}
	return super, ann, eve
}

// No user can lock a table of ours, or of pg_cron, in a mode that blocks others.
func TestNobodyLocksOurTables(t *testing.T) {
	t.Parallel()
	super, _, eve := tenants(t)
	dbtest.Exec(t, super, "grant usage on schema cron to eve")
	tables := dbtest.Column[string](t, super, `
		select oid::regclass::text from pg_class
		 where relkind = 'r' and relnamespace in ('tinydevcrm'::regnamespace, 'cron'::regnamespace)`)
	if len(tables) < 15 {
		t.Fatalf("only %v", tables)
	}
	for _, table := range tables {
		for _, mode := range []string{"row exclusive", "share", "exclusive", "access exclusive"} {
			if _, err := inVain(eve, fmt.Sprintf("lock table %s in %s mode nowait", table, mode)); err == nil {
				t.Errorf("eve locks %s in %s mode", table, mode)
			}
		}
	}
}

// When a user locks something of their own and leaves it locked, the work for the others continues.
func TestNobodyWaitsForATenantsLocks(t *testing.T) {
	t.Parallel()
	super, ann, eve := tenants(t)
	dbtest.Exec(t, super, "update tinydevcrm.settings set event_limit = 1")
	dbtest.Exec(t, super, "update tinydevcrm.matview_refresh_events set started_at = now() - interval '1 year'")
	// As "reassign owned" would do. Upkeep then follows.
	dbtest.Exec(t, eve, "select tinydevcrm.create_matview('given', 'select 1 as n')")
	dbtest.Exec(t, super, "update pg_class set relowner = 'ann'::regrole where oid = 'eve.given'::regclass")

	holding, err := eve.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer holding.Rollback()
	for _, statement := range []string{
		"select tinydevcrm.schedule_matview('v', '5 seconds')",
		"select from tinydevcrm._locks for update",
		"select from tinydevcrm.matviews for update",
		"select from tinydevcrm.subscriptions for update",
		"select from tinydevcrm.deliveries for update",
		"select tinydevcrm.replay_events('mine', '-infinity')",
		"select pg_advisory_lock(key) from generate_series(-1000, 1000) as key",
	} {
		if _, err := holding.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, work := range []struct {
		pool      *sql.DB
		statement string
	}{
		{super, "call tinydevcrm.settle_jobs()"},
		{super, "call tinydevcrm.remove_expired()"},
		{ann, "select tinydevcrm.refresh_matview('v')"},
		{ann, "select tinydevcrm.schedule_matview('v', '7 seconds')"},
		{ann, "select tinydevcrm.allow_embedding('v', '{*}')"},
		{ann, "select tinydevcrm.forbid_embedding('v')"},
		{ann, "select tinydevcrm.drop_matview('v')"},
	} {
		if _, err := work.pool.ExecContext(ctx, work.statement); err != nil {
			t.Errorf("%s: %v", work.statement, err)
		}
	}
	left := dbtest.Column[string](t, super, "select distinct owner::text from tinydevcrm.matview_refresh_events where started_at < now() - interval '1 month'")
	if len(left) != 1 || left[0] != "eve" {
		t.Errorf("expired events are left of %v, want of eve alone, who holds them", left)
	}
}

// A user whose transactions stay open stops neither upkeep nor anything that upkeep does for the others.
func TestUpkeepGoesOnWithoutALockedJob(t *testing.T) {
	t.Parallel()
	super, _, eve := tenants(t)
	stopJobs(t, super)
	const request = "insert into tinydevcrm.refresh_requests (matview_id) select id from tinydevcrm.matviews where relation = $1::text::regclass"

	// A request without its job, as upkeep finds it, and the job in a transaction that does not end.
	dbtest.Exec(t, eve, "select tinydevcrm.create_matview('w', 'select 1 as n')")
	dbtest.Exec(t, super, "alter table tinydevcrm.refresh_requests disable trigger _500_create_job")
	dbtest.Exec(t, super, request, "eve.v")
	dbtest.Exec(t, super, "alter table tinydevcrm.refresh_requests enable trigger _500_create_job")
	holding, err := eve.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer holding.Rollback()
	if _, err := holding.Exec(request, "eve.w"); err != nil {
		t.Fatal(err)
	}

	// What upkeep has to do for ann: give her schedule its job again.
	dbtest.Exec(t, super, "select cron.unschedule(job_id) from tinydevcrm.schedules where owner = 'ann'::regrole")
	dbtest.Exec(t, super, "call tinydevcrm.settle_jobs()")
	if jobs := dbtest.Value[int](t, super, "select count(*) from cron.job where username = 'ann'"); jobs != 1 {
		t.Errorf("ann has %d jobs, want that of her schedule", jobs)
	}
	if err := holding.Commit(); err != nil {
		t.Fatal(err)
	}

	// A request that has found the job keeps it until its transaction ends.
	dbtest.Exec(t, super, "delete from tinydevcrm.refresh_requests")
	if holding, err = eve.Begin(); err != nil {
		t.Fatal(err)
	}
	if _, err := holding.Exec(request, "eve.v"); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, super, "call tinydevcrm.settle_jobs()")
	if err := holding.Commit(); err != nil {
		t.Fatal(err)
	}
	if jobs := dbtest.Value[int](t, super, "select count(*) from cron.job where username = 'eve' and command = 'call tinydevcrm.refresh_requested()'"); jobs != 1 {
		t.Errorf("eve has %d jobs for her request", jobs)
	}
}

// Views with new owners that a user keeps locked cost nobody else time.
func TestNobodyWaitsForUnsettledOwners(t *testing.T) {
	t.Parallel()
	super, ann, eve := tenants(t)
	stopJobs(t, super)
	dbtest.Exec(t, eve, `
		select tinydevcrm.schedule_matview(tinydevcrm.create_matview('given' || i, 'select 1 as n'), '0 0 1 1 *')
		  from generate_series(1, 5) as i`)
	dbtest.Exec(t, eve, "select tinydevcrm.create_matview('kept', 'select 1 as n')")
	dbtest.Exec(t, ann, "create table facts (n integer)")
	dbtest.Exec(t, eve, "grant usage on schema eve to ann")
	// As "reassign owned" would do.
	dbtest.Exec(t, super, "update pg_class set relowner = 'ann'::regrole where relname ~ '^given'")
	// A view that is just being put on the schedule of the given ones.
	holding, err := eve.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer holding.Rollback()
	if _, err := holding.Exec("select tinydevcrm.schedule_matview('kept', '0 0 1 1 *')"); err != nil {
		t.Fatal(err)
	}

	for _, work := range []struct {
		pool      *sql.DB
		statement string
	}{{ann, "alter table facts add m integer"}, {super, "call tinydevcrm.settle_jobs()"}} {
		started := time.Now()
		dbtest.Exec(t, work.pool, work.statement)
		if took := time.Since(started); took > 4*time.Second {
			t.Errorf("%s took %s", work.statement, took)
		}
	}
	if owners := dbtest.Column[string](t, super, "select distinct owner::text from tinydevcrm.matviews where relation::text ~ 'given'"); len(owners) != 1 || owners[0] != "eve" {
		t.Errorf("while they are locked they belong to %v", owners)
	}
	if err := holding.Commit(); err != nil {
		t.Fatal(err)
	}
	// A statement settles its own relations alone.
	dbtest.Exec(t, ann, "alter table facts drop m")
	dbtest.Exec(t, ann, "alter materialized view eve.given1 set (fillfactor = 90)")
	if settled := dbtest.Column[string](t, super, "select relation::text from tinydevcrm.matviews where relation::text ~ 'given' and owner = 'ann'::regrole"); len(settled) != 1 || settled[0] != "eve.given1" {
		t.Errorf("ann's statements have settled %v, want eve.given1", settled)
	}
	dbtest.Exec(t, super, "call tinydevcrm.settle_jobs()")
	if left := dbtest.Value[int](t, super, "select count(*) from tinydevcrm.matviews where relation::text ~ 'given' and owner = 'eve'::regrole"); left != 0 {
		t.Errorf("%d views are left to their former owner", left)
	}
}

// A refresh does not fail because the queue of notifications is full: it no longer notifies when it is half full.
func TestAFullQueueOfNotificationsFailsNoRefresh(t *testing.T) {
	t.Parallel()
	server := dbtest.NewMigrated(t)
	super := server.Open()
	listener := pq.NewListener(server.URL, time.Second, time.Second, nil)
	defer listener.Close()
	if err := listener.Listen("matview_refresh_channel"); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, super, "select tinydevcrm.create_matview('v', 'select 1 as n', 'always')")

	// Filling half of the 8 GB takes minutes, so the function that measures them is replaced.
	for _, usage := range []string{"0.5", "0.49"} {
		dbtest.Exec(t, super, fmt.Sprintf(`
			create or replace function pg_catalog.pg_notification_queue_usage() returns double precision
			language sql volatile as 'select %s::double precision'`, usage))
		// In a new session, whose plans know the new function.
		dbtest.Exec(t, server.Open(), "select tinydevcrm.refresh_matview('v')")
	}
	events := dbtest.Column[int64](t, super, "select id from tinydevcrm.matview_refresh_events where is_notified order by id")
	if len(events) != 2 {
		t.Fatalf("%d events notify", len(events))
	}
	select {
	case notification := <-listener.Notify:
		if want := fmt.Sprint(events[1]); notification.Extra != want {
			t.Errorf("the first notification is of event %s, want %s", notification.Extra, want)
		}
	case <-time.After(20 * time.Second):
		t.Error("no notification arrives")
	}
}

// What a role with more rights requests is done by the owner's own job.
func TestTheOwnersJobRefreshesOnRequest(t *testing.T) {
	t.Parallel()
	super, ann, _ := tenants(t)
	dbtest.Exec(t, ann, "create materialized view who as select session_user::text as session_user_is, current_user::text as n with no data")
	dbtest.Exec(t, ann, "select tinydevcrm.watch_matview('who', 'always')")
	dbtest.Exec(t, super, "select tinydevcrm.refresh_matview('ann.who')")
	dbtest.Eventually(t, 3*time.Minute, "the job refreshes it", func() bool {
		return len(dbtest.Column[string](t, super, "select rows::text from tinydevcrm.matview_refresh_events where matview = 'ann.who'")) == 1
	})
	if rows := dbtest.Value[string](t, super, "select rows::text from tinydevcrm.matview_refresh_events where matview = 'ann.who'"); rows != `[{"n": "ann", "session_user_is": "ann"}]` {
		t.Errorf("it ran as %s", rows)
	}
	if asked := dbtest.Value[int](t, super, "select count(*) from tinydevcrm.refresh_requests"); asked != 0 {
		t.Errorf("%d requests are left", asked)
	}
}

// Three users with twelve schedules of seconds use three connections where pg_cron has no seconds, and each
// schedule runs when it is due.
func TestManySchedulesAreServed(t *testing.T) {
	t.Parallel()
	super, ann, eve := tenants(t)
	if dbtest.Value[bool](t, super, "select tinydevcrm._cron_has_seconds()") {
		t.Log("pg_cron has seconds: each schedule has a job of its own")
	}
	for _, user := range []*sql.DB{ann, eve} {
		dbtest.Exec(t, user, `
			select tinydevcrm.schedule_matview(tinydevcrm.create_matview('s' || i, 'select 1 as n where now() is not null', 'never'), i || ' seconds')
			  from generate_series(1, 12) as i`)
	}
	dbtest.Eventually(t, 3*time.Minute, "each has its rounds", func() bool {
		return dbtest.Value[int](t, super, `
			select count(*) from (
			    select matview from tinydevcrm.matview_refresh_events where schedule_id is not null
			     group by matview having count(*) >= 3) as served`) == 24
	})
	if late := dbtest.Column[string](t, super, "select concat_ws(' ', relation, late_reason) from tinydevcrm.matview_status where late_reason is not null"); len(late) > 0 {
		t.Errorf("late: %v", late)
	}
}
