package main

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

func TestUsersLogIn(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ann", "eve", "adele")

	for _, test := range []struct {
		name, user, password string
		status               int
	}{
		{"nobody", "", "", 401},
		{"a wrong password", "ann", "secret word 2", 401},
		{"another's password is no help", "postgres", secret, 401},
		{"a role that is not there", "mallory", secret, 401},
		{"the right one", "ann", secret, 200},
	} {
		if status, body := s.send(test.user, test.password, "GET", "/matviews", "", ""); status != test.status {
			t.Errorf("%s: status %d, want %d: %s", test.name, status, test.status, body)
		}
	}

	if status, body := s.upload("ann", "", "n\n1\n2\n"); status != 201 || !strings.Contains(body, `"ann"`) {
		t.Fatalf("ann uploads: %d %s", status, body)
	}
	if status, body := s.post("ann", "/matviews", "name", "v", "query", "select * from numbers", "notify_when", "not_empty"); status != 201 {
		t.Fatalf("ann makes a view: %d %s", status, body)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hers, others := s.follow(ctx, "ann"), s.follow(ctx, "eve")
	if status, body := s.post("ann", "/matviews/refresh", "relation", "v"); status != 200 {
		t.Fatalf("ann refreshes it: %d %s", status, body)
	}
	if name := <-hers; name != "ann.v" {
		t.Errorf("ann is notified of %s", name)
	}
	s.readRows()
	s.attack()
	s.keepApart()
	dbtest.Exec(t, s.super, "select tinydevcrm.drop_user('eve', 'ann')")
	select {
	case name, isOpen := <-others:
		if isOpen {
			t.Errorf("eve was notified of %s", name)
		}
	default:
	}
	if log := s.stderr.String(); strings.Contains(log, "secret") {
		t.Errorf("a password is in the log: %s", log)
	}
}

// readRows reads the rows of ann's view, and its widget, as each of the users.
func (s *site) readRows() {
	t := s.t
	t.Helper()
	dbtest.Exec(t, s.super, "grant tinydevcrm_admin to adele")
	check := func(user, path string, want int) {
		t.Helper()
		if status, body := s.get(user, path); status != want {
			t.Errorf("%q gets %s: %d, want %d: %s", user, path, status, want, body)
		}
	}
	check("ann", "/matviews/v", 200)
	check("ann", "/matviews/ann.v.csv", 200)
	check("", "/matviews/ann.v", 401)
	check("eve", "/matviews/ann.v", 404)
	check("eve", "/matviews/v", 404)
	// An administrator knows that the view exists, but may not read its rows.
	check("adele", "/matviews/ann.v", 403)

	check("", "/embed/ann.v", 404)
	if status, body := s.post("eve", "/matviews/embed", "relation", "ann.v", "origins", "*"); status != 403 && status != 404 {
		t.Errorf("eve makes it public: %d %s", status, body)
	}
	check("", "/embed/ann.v", 404)
	if status, body := s.post("ann", "/matviews/embed", "relation", "v", "origins", "https://example.com"); status != 200 {
		t.Fatalf("ann makes it public: %d %s", status, body)
	}
	check("", "/embed/ann.v", 200)
	check("eve", "/embed/ann.v", 200)
	check("eve", "/matviews/ann.v", 404)
	if status, body := s.post("eve", "/matviews/unembed", "relation", "ann.v"); status != 403 && status != 404 {
		t.Errorf("eve ends it: %d %s", status, body)
	}
	if status, body := s.post("ann", "/matviews/refresh", "relation", "v"); status != 200 {
		t.Fatalf("ann refreshes it: %d %s", status, body)
	}
	if _, body := s.get("", "/embed/ann.v"); !strings.Contains(body, "<td>2</td>") {
		t.Errorf("the widget: %s", body)
	}
	dbtest.Exec(t, s.super, "alter materialized view ann.v owner to eve")
	check("", "/embed/ann.v", 404)
	// Without event triggers upkeep follows, within a minute.
	dbtest.Exec(t, s.super, "call tinydevcrm.settle_jobs()")
	dbtest.Exec(t, s.super, "alter materialized view ann.v owner to ann")
	dbtest.Exec(t, s.super, "call tinydevcrm.settle_jobs()")
	check("", "/embed/ann.v", 404)
}

// attack tries to get at ann's things as eve, by HTTP.
func (s *site) attack() {
	t := s.t
	t.Helper()
	for _, path := range []string{"/matviews", "/events", "/", "/tables/ann.numbers", "/views/ann.v", "/views/ann.v/edit", "/matviews/ann.v", "/matviews/ann.v.csv"} {
		if status, body := s.get("eve", path); status != 200 && status != 404 || strings.Contains(body, "ann.v") && !strings.Contains(path, "ann") {
			t.Errorf("GET %s: %d %s", path, status, body)
		}
	}
	before := s.belongings("ann")
	for _, post := range [][]string{
		{"/matviews/refresh", "relation", "ann.v"},
		{"/matviews/schedule", "relation", "ann.v", "schedule", "5 seconds"},
		{"/matviews/unschedule", "relation", "ann.v"},
		{"/matviews/drop", "relation", "ann.v"},
		{"/matviews/embed", "relation", "ann.v", "origins", "*"},
		{"/matviews/unembed", "relation", "ann.v"},
		{"/matviews", "name", "x", "query", "select * from ann.numbers"},
		{"/matviews", "name", "x", "query", "select 1 as n; drop schema ann cascade"},
		{"/matviews", "name", "x", "query", "select set_config('role', 'postgres', false) as n"},
	} {
		if status, body := s.post("eve", post[0], post[1:]...); status < 400 || status >= 500 {
			t.Errorf("POST %v: %d %s", post, status, body)
		}
	}
	for _, query := range []string{"?table=numbers&schema=ann&mode=replace", "?table=numbers&schema=ann&mode=append", "?table=x&schema=ann"} {
		if status, body := s.upload("eve", query, "n\n9\n"); status < 400 || status >= 500 {
			t.Errorf("upload %s: %d %s", query, status, body)
		}
	}
	if status, body := s.upload("eve", "?table=own", "\"n\"\"); drop schema ann cascade; --\",b\n1,2\n"); status != 201 {
		t.Errorf("an odd header: %d %s", status, body)
	}
	s.unchanged("ann", before)
}

// keepApart creates one of each thing for ann, and tries by HTTP what others could do with it: eve, another
// user, and adele, an administrator.
func (s *site) keepApart() {
	t := s.t
	t.Helper()
	if status, body := s.upload("ann", "?table=confidential", "code\nclassified\n"); status != 201 {
		t.Fatalf("ann uploads: %d %s", status, body)
	}
	for _, post := range [][]string{
		{"/matviews", "name", "confidential_view", "query", "select * from confidential", "notify_when", "always"},
		{"/subscriptions", "new_subscription", "confidential words", "new_matview", "confidential_view"},
		// The webhook is of a view that is not refreshed meanwhile, so that nothing is posted or changes by
		// itself.
		{"/subscriptions", "new_subscription", "alerts", "new_matview", "v", "url", "https://confidential.example/in"},
		{"/matviews/refresh", "relation", "confidential_view"},
		{"/matviews/schedule", "relation", "confidential_view", "schedule", "0 0 1 1 *"},
	} {
		if status, body := s.post("ann", post[0], post[1:]...); status >= 300 {
			t.Fatalf("ann posts %v: %d %s", post, status, body)
		}
	}
	// Two users may use the same name.
	for _, path := range []string{"/subscriptions", "/subscriptions/pause", "/subscriptions/resume", "/subscriptions/redeliver"} {
		if status, body := s.post("eve", path, "new_subscription", "alerts", "subscription", "alerts"); status >= 300 {
			t.Fatalf("eve has alerts of hers: %d %s", status, body)
		}
	}
	before := s.belongings("ann")
	delivery := dbtest.Value[string](t, s.super, "select max(id)::text from tinydevcrm.deliveries where owner = 'ann'::regrole")

	for _, user := range []string{"eve", "adele"} {
		for _, post := range [][]string{
			{"/matviews/preview", "query", "select * from ann.confidential"},
			{"/matviews/preview", "query", "select * from ann.confidential_view"},
			{"/matviews/preview", "query", "select * from confidential"},
			{"/matviews/preview", "query", "select set_config('role', 'ann', true), * from ann.confidential"},
			{"/matviews/preview", "query", "select set_config('role', 'postgres', false)"},
			{"/matviews/preview", "query", "select set_config('session_authorization', 'ann', false)"},
			{"/matviews/preview", "query", "select secret from tinydevcrm.webhooks; drop schema ann cascade"},
			{"/matviews/preview", "query", "select pg_read_file('postgresql.conf')"},
			{"/matviews/preview", "query", "select query_to_xml('select * from ann.confidential', true, true, '')"},
			{"/matviews/watch", "relation", "ann.confidential_view", "notify_when", "never"},
			{"/matviews/pause", "relation", "ann.confidential_view"},
			{"/matviews/resume", "relation", "ann.confidential_view"},
			{"/matviews/embed", "relation", "ann.confidential_view", "origins", "*"},
			{"/matviews/unembed", "relation", "ann.confidential_view"},
			{"/matviews/refresh", "relation", "ann.confidential_view"},
			{"/matviews/schedule", "relation", "ann.confidential_view", "schedule", "5 seconds"},
			{"/matviews/unschedule", "relation", "ann.confidential_view"},
			{"/matviews/drop", "relation", "ann.confidential_view"},
			{"/subscriptions", "new_subscription", "spy", "new_matview", "ann.confidential_view"},
			{"/subscriptions", "new_subscription", "spy", "new_matview", "ann.confidential_view", "url", "https://evil.example/"},
			{"/subscriptions/pause", "subscription", "confidential words"},
			{"/subscriptions/resume", "subscription", "confidential words"},
			{"/subscriptions/redeliver", "subscription", "confidential words"},
			{"/subscriptions/drop", "subscription", "confidential words"},
			{"/deliveries/redeliver", "delivery", delivery},
		} {
			status, body := s.post(user, post[0], post[1:]...)
			if status < 400 || status >= 500 || strings.Contains(body, "classified") {
				t.Errorf("%s posts %v: %d %s", user, post, status, body)
			}
		}
		for _, path := range []string{
			"/matviews/ann.confidential_view", "/matviews/ann.confidential_view.json",
			"/matviews/ann.confidential_view.csv", "/matviews/ann.confidential_view.html", "/embed/ann.confidential_view",
		} {
			if status, body := s.get(user, path); status != 403 && status != 404 || strings.Contains(body, "classified") {
				t.Errorf("%s gets %s: %d %s", user, path, status, body)
			}
		}
	}
	if status, body := s.post("eve", "/subscriptions/drop", "subscription", "alerts"); status != 200 {
		t.Errorf("eve drops alerts of hers: %d %s", status, body)
	}
	s.unchanged("ann", before)

	// What eve sees contains no name of ann's, except those that she asks for.
	for _, path := range []string{
		"/", "/matviews", "/views", "/tables", "/upload", "/views/new", "/subscriptions", "/subscriptions/new", "/events", "/?search=a",
	} {
		status, body := s.sees("eve", path)
		if status != 200 || strings.Contains(body, "confidential") || strings.Contains(body, "classified") || strings.Contains(body, "ann.") {
			t.Errorf("eve gets %s: %d %s", path, status, body)
		}
	}
	for path, want := range map[string]int{
		"/tables/ann.confidential": 404, "/tables/ann.confidential/columns": 404, "/views/ann.confidential_view": 404,
		"/views/ann.confidential_view/edit": 404, "/subscriptions/confidential%20words": 404, "/subscriptions/alerts": 404,
		"/?search=confidential": 200, "/events?of=ann.confidential_view": 200, "/tables?search=confidential": 200,
		"/views?search=confidential": 200, "/subscriptions?search=confidential": 200,
	} {
		status, body := s.sees("eve", path)
		if status != want || strings.Contains(body, "classified") || strings.Contains(body, "https://confidential.example") ||
			strings.Contains(body, `<td class="first `) || strings.Contains(body, `<li class="refreshed"`) {
			t.Errorf("eve gets %s: %d, want %d: %s", path, status, want, body)
		}
	}
	for path, want := range map[string]string{
		"/tables/ann.confidential": "classified", "/subscriptions/alerts": "https://confidential.example/in", "/?search=view": "confidential_view",
	} {
		if status, body := s.sees("ann", path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("ann does not see what is hers: %s: %d %s", path, status, body)
		}
	}
}

func TestPasswordsCannotBeTriedFast(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ann")
	// The right password, with all the requests of a page at once, is not limited.
	var group sync.WaitGroup
	for range 30 {
		group.Go(func() {
			if status, body := s.get("ann", "/matviews"); status != 200 {
				t.Errorf("one of many: %d %s", status, body)
			}
		})
	}
	group.Wait()
	// After ten, one is allowed every six seconds.
	const perAttempt = 6 * time.Second
	start := time.Now()
	more := func() int { return int(time.Since(start) / perAttempt) }
	statuses := map[int]int{}
	for range 15 {
		status, _ := s.send("ann", "wrong password", "GET", "/matviews", "", "")
		statuses[status]++
	}
	if statuses[401] < 10 || statuses[401] > 10+more() || statuses[401]+statuses[429] != 15 {
		t.Errorf("15 wrong passwords: %v", statuses)
	}
	if status, body := s.get("ann", "/matviews"); status != 200 {
		t.Errorf("ann, who is in already: %d %s", status, body)
	}
	dbtest.Exec(t, s.super, "alter role ann password 'another word'")
	if status, body := s.send("ann", "another word", "GET", "/matviews", "", ""); status != 429 && more() == 0 {
		t.Errorf("the right one, untried: %d %s", status, body)
	}
}

// A role that is locked is logged out within seconds, together with its open pages.
func TestLockedRoleIsOut(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ann")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := s.follow(ctx, "ann")
	if status, body := s.get("ann", "/matviews"); status != 200 {
		t.Fatalf("ann is in: %d %s", status, body)
	}
	dbtest.Exec(t, s.super, "alter role ann nologin")
	select {
	case _, isOpen := <-events:
		if isOpen {
			t.Error("an event came that was not recorded")
		}
	case <-time.After(dbtest.Deadline):
		t.Error("the open page stays open")
	}
	dbtest.Eventually(t, dbtest.Deadline, "ann is out", func() bool {
		status, _ := s.get("ann", "/matviews")
		return status == 401
	})
}
