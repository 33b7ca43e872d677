package main

import (
	"database/sql"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// byJob is how long something may take that a pg_cron job of each minute does.
const byJob = 100 * time.Second

// lesser are the findings on a server where nobody but the provider is a superuser: migrations/README.md lists what
// they mean.
var lesser = []string{
	"administrators see the runs of all jobs",
	"drops, renames and changed definitions are followed at once",
	"sessions of users that block everyone are ended",
	"the sessions of all roles are visible",
	"the settings of the server are visible",
	"users cannot stop pg_cron",
}

// The main job, users, imports, schedules, changes and deliveries work for a role without a superuser's rights, and
// check_installation() names what does not.
func TestARentedServer(t *testing.T) {
	t.Parallel()
	server := dbtest.NewRented(t)
	pool := openPool(t, server.URL)
	if dbtest.Value[bool](t, pool, "select rolsuper from pg_roles where rolname = current_user") {
		t.Fatal("the role is a superuser")
	}
	diagnosed := mustCommand(t, server.URL, "doctor")
	for _, finding := range lesser {
		if !strings.Contains(diagnosed, "\n!   "+finding+": ") {
			t.Errorf("the doctor does not find that not all %s: %s", finding, diagnosed)
		}
	}
	if count := strings.Count(diagnosed, "\n!"); count != len(lesser) {
		t.Errorf("the doctor finds %d things, want %d: %s", count, len(lesser), diagnosed)
	}
	if dbtest.Value[bool](t, pool, "select exists (select from pg_namespace where nspname = 'tinydevcrm') or exists (select from pg_roles where rolname like 'tinydevcrm%')") {
		t.Error("the doctor leaves something behind")
	}
	mustCommand(t, server.URL, "migrate", "up")

	stdout, stderr := background(t, server.URL, upWithWebhooks...)
	page := &site{t: t, url: pageOf(t, stderr), super: openPool(t, dbtest.AsRole(server.URL, "postgres"))}
	received := newReceiver(t, always(http.StatusOK))
	if status, body := page.upload("", "?table=numbers", "n\n1\n2\n"); status != http.StatusCreated {
		t.Fatalf("upload: %d %s", status, body)
	}
	for _, args := range [][]string{
		{"matview", "create", "v", "select * from numbers", "--notify-when", "always"},
		{"matview", "schedule", "v", "5 seconds"},
		{"matview", "create", "w", "select count(*) as n from numbers", "--notify-when", "always"},
		{"matview", "schedule", "w", "on change"},
		{"webhook", "create", "hook", received.url, "--matview", "w"},
	} {
		mustCommand(t, server.URL, args...)
	}
	dbtest.Exec(t, pool, "insert into numbers values (3)")
	dbtest.Eventually(t, dbtest.Deadline, "a change is posted", func() bool { return len(received.all()) > 0 })

	r := &rented{t: t, server: server, installer: pool, super: page.super}
	r.haveUsers()
	r.runJobs("rented", "public.v")
	r.runJobs("ann", "ann.v")
	r.runJobs("ann", "ann.w")
	r.followDrops()
	r.dropUser()
	for _, event := range stdout.events(t) {
		if event.Outcome == "failed" {
			t.Errorf("a refresh fails: %+v", event)
		}
	}
	if got := dbtest.Column[string](t, pool, "select finding from tinydevcrm.check_installation() where not is_ok order by finding"); fmt.Sprint(got) != fmt.Sprint(lesser) {
		t.Errorf("check_installation() finds %q, want %q", got, lesser)
	}
}

type rented struct {
	t                *testing.T
	server           *dbtest.Server
	installer, super *sql.DB
}

// haveUsers makes two users; ann has a view by the clock and one on change.
func (r *rented) haveUsers() {
	r.t.Helper()
	dbtest.Exec(r.t, r.installer, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'bob']) as name")
	ann := open(r.t, r.server.URL, "ann")
	for _, statement := range []string{
		"create table numbers as select 1 as n",
		"select tinydevcrm.create_matview('v', 'select * from numbers', 'always')",
		"select tinydevcrm.schedule_matview('v', '5 seconds')",
		"select tinydevcrm.create_matview('w', 'select count(*) as n from numbers', 'always')",
		"select tinydevcrm.schedule_matview('w', 'on change')",
		"insert into numbers values (2)",
	} {
		dbtest.Exec(r.t, ann, statement)
	}
	// The installer asks for it, and ann's own job does it.
	before := r.refreshes("ann.v")
	dbtest.Exec(r.t, r.installer, "select tinydevcrm.refresh_matview('ann.v')")
	dbtest.Eventually(r.t, byJob, "ann's job refreshes on request", func() bool { return r.refreshes("ann.v") > before })
}

func (r *rented) refreshes(matview string) int {
	return dbtest.Value[int](r.t, r.installer, "select count(*) from tinydevcrm.matview_refresh_events where matview = $1", matview)
}

// runJobs waits until the schedule of a view has refreshed it, in a session of its owner.
func (r *rented) runJobs(owner, matview string) {
	r.t.Helper()
	dbtest.Eventually(r.t, byJob, "the schedule of "+matview+" runs", func() bool {
		return dbtest.Value[bool](r.t, r.installer, "select exists (select from tinydevcrm.matview_refresh_events where matview = $1 and schedule_id is not null and outcome = 'refreshed')", matview)
	})
	if owners := dbtest.Value[string](r.t, r.super, `
		select string_agg(distinct job.username::text, ',')
		  from cron.job
		  join tinydevcrm.schedules
		    on schedules.job_id = job.jobid
		  join tinydevcrm.matviews
		    on matviews.schedule_id = schedules.id
		 where matviews.relation = $1::text::regclass`, matview); owners != owner {
		r.t.Errorf("the job of %s runs as %s, want %s", matview, owners, owner)
	}
}

// followDrops drops a view by hand. No event trigger sees it.
func (r *rented) followDrops() {
	r.t.Helper()
	dbtest.Exec(r.t, open(r.t, r.server.URL, "ann"), "drop materialized view w")
	dbtest.Eventually(r.t, byJob, "upkeep finds that the view is gone", func() bool {
		return dbtest.Value[bool](r.t, r.installer, "select exists (select from tinydevcrm.matview_refresh_events where matview = 'ann.w' and outcome = 'dropped')")
	})
	// Upkeep is one transaction, so the job went with the registration.
	if jobs := dbtest.Value[int](r.t, r.super, "select count(*) from cron.job where username = 'ann' and command like '%refresh_changed%'"); jobs != 0 {
		r.t.Errorf("%d jobs are left of the view on change", jobs)
	}
}

// dropUser gives what ann has to bob, and leaves nothing of ann's.
func (r *rented) dropUser() {
	r.t.Helper()
	dbtest.Exec(r.t, r.installer, "select tinydevcrm.drop_user('ann', 'bob')")
	if got := dbtest.Value[string](r.t, r.super, "select string_agg(distinct username::text, ',' order by username::text) from cron.job"); got != "bob,rented" {
		r.t.Errorf("jobs belong to %s", got)
	}
	r.runJobs("bob", "ann.v")
}

// What is missing does not keep the migrations from being taken back, and nothing of ours stays.
func TestARentedServerIsLeftAsItWas(t *testing.T) {
	t.Parallel()
	server := dbtest.NewRented(t)
	super := openPool(t, dbtest.AsRole(server.URL, "postgres"))
	state := func() string {
		t.Helper()
		return dbtest.Value[string](t, super, `
			select concat_ws(
			           ' / ',
			           (select string_agg(rolname, ',' order by rolname) from pg_roles where rolname !~ '^pg_'),
			           (select string_agg(concat(nspname, nspacl), ',' order by nspname) from pg_namespace where nspname !~ '^(pg_(toast_)?temp|pg_toast)'),
			           (select string_agg(jobname, ',') from cron.job),
			           (select string_agg(evtname, ',') from pg_event_trigger))`)
	}
	before := state()
	mustCommand(t, server.URL, "migrate", "up")
	pool := openPool(t, server.URL)
	dbtest.Exec(t, pool, "create table numbers as select 1 as n")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select * from numbers')")
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('v', '1 minute')")
	mustCommand(t, server.URL, "migrate", "down", "--all")
	if after := state(); after != before {
		t.Errorf("it was %s, and is %s", before, after)
	}
}

// The doctor says that nothing works without pg_cron, and ends with an error, where a migration would fail.
func TestTheDoctorRefuses(t *testing.T) {
	t.Parallel()
	server := dbtest.NewRented(t)
	super := openPool(t, dbtest.AsRole(server.URL, "postgres"))
	dbtest.Exec(t, super, "alter role rented nocreaterole")
	_, stderr, err := command(t, server.URL, "", "doctor")
	if err == nil || !strings.Contains(stderr, "alter role rented createrole") {
		t.Errorf("without createrole the doctor says %v: %s", err, stderr)
	}
	dbtest.Exec(t, super, "alter role rented createrole")
	dbtest.Exec(t, super, "drop extension pg_cron")
	if _, stderr, err = command(t, server.URL, "", "doctor"); err == nil || !strings.Contains(stderr, "create extension pg_cron") {
		t.Errorf("without pg_cron the doctor says %v: %s", err, stderr)
	}
}
