//go:build faults

package main

import (
	"database/sql"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// pg_cron, which has one time zone, refreshes a view at a time of another one. At a time of the job at which the schedule
// is not due, it refreshes nothing.
func TestScheduleInAnotherTimeZone(t *testing.T) {
	server := dbtest.NewServer(t)
	// Before version 1.5 pg_cron does not read it.
	server.Set("cron.timezone", "America/New_York")
	server.Restart()
	mustCommand(t, server.URL, "migrate", "up")
	pool := openPool(t, server.URL)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview(name, 'select clock_timestamp() as at', 'never') from unnest(array['due', 'earlier', 'later']) as name")
	// Near the end of a minute, pg_cron might read the jobs too late.
	due := time.Now().Truncate(time.Minute).Add(2 * time.Minute)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]time.Time{
		"due": due, "earlier": due.Add(-time.Hour), "later": due.Add(time.Hour),
	} {
		mustCommand(t, server.URL, "matview", "schedule", name, "daily at "+at.In(berlin).Format("15:04"), "--time-zone", "europe/berlin", "--catch-up=false")
	}
	// Those for "due" and for "later" or "earlier", by the season.
	const haveRun = `
		select count(distinct schedule_id) >= 2 and bool_and(status = 'succeeded') and 'public.due' in (
		           select matview from tinydevcrm.matview_refresh_events where schedule_id is not null)
		  from tinydevcrm.job_runs
		 where started_at >= $1`
	dbtest.Eventually(t, 4*time.Minute, "the jobs have run", func() bool {
		return dbtest.Value[sql.Null[bool]](t, pool, haveRun, due).V
	})
	if refreshed := dbtest.Value[string](t, pool, `
		select string_agg(matview, ', ') from tinydevcrm.matview_refresh_events where schedule_id is not null`); refreshed != "public.due" {
		t.Errorf("%q are refreshed, want public.due alone", refreshed)
	}
}
