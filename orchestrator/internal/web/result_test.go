package web_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// sectionOf cuts the section of a step out of a page.
func sectionOf(t *testing.T, page, step string) string {
	t.Helper()
	_, rest, isThere := strings.Cut(page, `<section id="`+step+`"`)
	section, _, isWhole := strings.Cut(rest, "</section>")
	if !isThere || !isWhole {
		t.Fatalf("the page has no section %s: %s", step, page)
	}
	return section
}

func TestFirstRefreshThatFails(t *testing.T) {
	f := newFixture(t)
	f.exec("create table divisors as select 1 as n")
	f.exec("select tinydevcrm.create_matview('v', 'select 1 / n as n from divisors')")
	f.exec("update divisors set n = 0")

	page := f.follow(post("/matviews/schedule", "relation", "v", "schedule", "1 hour"))
	if want := "The schedule is set, and its first refresh failed: division by zero"; !strings.Contains(problemOf(t, page.body), want) {
		t.Errorf("the page does not say %q: %s", want, page.body)
	}
	if strings.Contains(page.body, `class="done"`) || !strings.Contains(page.body, `<b class="bad">failing</b>`) {
		t.Errorf("the page reports success although the refresh failed: %s", page.body)
	}
	if count := f.number("select count(*) from tinydevcrm.matview_status where relation = 'v'::regclass and schedule = '1 hour'"); count != 1 {
		t.Error("the schedule is not set")
	}
	got := decode[map[string]any](t, f.send(post("/matviews/schedule", "relation", "v", "schedule", "1 hour")), 200)
	if got["outcome"] != "failed" || got["error_message"] != "division by zero" {
		t.Errorf("a program gets %v", got)
	}
}

func TestWatchKeepsWhatIsNotSent(t *testing.T) {
	f := newFixture(t)
	f.exec("select tinydevcrm.create_matview('v', 'select 1 as n, now() as at', 'changed', ignored_columns => '{at}', notify_interval => '1 hour')")
	f.exec("select tinydevcrm.refresh_matview('v')")
	rule := func() string {
		return f.text(`select concat_ws(' ', notify_when, ignored_columns, notify_interval, has_baseline)
		                 from tinydevcrm.matviews where relation = 'v'::regclass`)
	}
	for _, step := range []struct {
		request request
		want    string
	}{
		{post("/matviews/watch", "relation", "v", "notify_when", "changed"), "changed {at} 01:00:00 t"},
		{post("/matviews/watch", "relation", "v", "notify_interval", "2 hours"), "changed {at} 02:00:00 t"},
		{post("/matviews/watch", "relation", "v"), "changed {at} 02:00:00 t"},
		{post("/matviews/watch", "relation", "v", "notify_interval", ""), "changed {at} 00:00:00 t"},
	} {
		if got := f.send(step.request); got.status != 200 {
			t.Fatalf("%s: %d %s", step.request.body, got.status, got.body)
		}
		if got := rule(); got != step.want {
			t.Errorf("%s: the rule is %s, want %s", step.request.body, got, step.want)
		}
	}
	f.send(post("/matviews/watch", "relation", "v", "ignored_columns", ""))
	if got := rule(); !strings.HasPrefix(got, "changed {} ") {
		t.Errorf("what is sent empty is not cleared: %s", got)
	}
}

func TestDoneIsSaidToItsUser(t *testing.T) {
	f := newFixture(t)
	config := f.config()
	config.Login = func(context.Context, string, string, string) (*sql.DB, func(), error) { return f.pool, func() {}, nil }
	f.server.Config.Handler = web.Handler(config)
	f.exec("select tinydevcrm.create_matview('v', 'select 1 as n')")
	as := func(user string, request request) request {
		return withHeader(request.fromBrowser(), "Authorization", map[string]string{
			"ann": "Basic YW5uOng=", "eve": "Basic ZXZlOng=",
		}[user])
	}

	path := pathOf(f.send(as("ann", post("/matviews/pause", "relation", "v"))))
	kept := map[string]string{}
	for name, value := range f.cookies {
		kept[name] = value
	}
	if page := f.send(as("eve", get(path))); page.status != 200 || strings.Contains(page.body, "The view is paused") {
		t.Errorf("eve is shown what ann did: %d", page.status)
	}
	f.cookies = kept
	if page := f.send(as("ann", get(path))); !strings.Contains(page.body, "The view is paused") {
		t.Errorf("ann is not shown what she did: %s", page.body)
	}
}

func TestViewThatIsGone(t *testing.T) {
	f := newFixture(t)
	f.send(get("/views").fromBrowser()) // from now on, the browser keeps cookies
	for _, path := range []string{"schedule", "unschedule", "pause", "resume", "refresh", "watch", "alter", "drop", "embed", "unembed"} {
		for _, name := range []string{"v", "no_such_schema.v"} {
			sent := post("/matviews/"+path, "relation", name, "schedule", "1 hour", "origins", "*", "query", "select 1 as n")
			got := f.send(sent)
			if want := name + " is no longer there"; got.status != 404 || !strings.Contains(got.body, want) {
				t.Errorf("%s of %s: %d, want %q: %s", path, name, got.status, want, got.body)
			}
			page := f.follow(sent)
			if said := problemOf(t, page.body); page.status != 404 || !strings.Contains(said, name+" is no longer there") {
				t.Errorf("%s of %s in a browser: %d %s", path, name, page.status, said)
			}
		}
	}
	// A query for a missing table is another case.
	got := f.follow(post("/matviews", "name", "w", "query", "select * from nowhere"))
	if said := problemOf(t, got.body); !strings.Contains(said, "nowhere&#34; does not exist") || strings.Contains(said, "no longer there") {
		t.Errorf("a query of a missing table: %s", said)
	}
}

func TestSuggestionsAndTablesAtHand(t *testing.T) {
	f := newFixture(t)
	names := make([]string, 181)
	for i := range names {
		names[i] = fmt.Sprintf("c%d", i)
	}
	f.importFile("wide.csv", strings.Join(names, ",")+"\n"+strings.Repeat("1,", 180)+"1\n")
	f.exec("select tinydevcrm.create_matview('wide_now', 'select 1 as n')")
	f.exec("create view wide_now_2 as select 1 as n")
	// More than the list shows, so that the list lacks the first one.
	f.exec("select tinydevcrm.create_matview('newer_' || i, 'select 1 as n') from generate_series(1, 25) as i")

	page := f.send(get("/views/new").fromBrowser()).body
	if !strings.Contains(page, `value="wide_now_3"`) || !strings.Contains(page, "select *\n  from wide") {
		t.Errorf("the suggested name is not free: %s", page)
	}
}

// A link is the connection to the database, which a test can cut.
type link struct {
	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

func (l *link) Dial(network, address string) (net.Conn, error) {
	return l.DialTimeout(network, address, deadline)
}

func (l *link) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isCut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
	}
	conn, err := net.DialTimeout(network, address, timeout)
	l.conns = append(l.conns, conn)
	return conn, err
}

func (l *link) cut(isCut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = isCut
	for _, conn := range l.conns {
		conn.Close()
	}
	l.conns = nil
}

// overLink makes the page reach its database by a link.
func (f *fixture) overLink() *link {
	f.t.Helper()
	separator := map[bool]string{true: "&", false: "?"}[strings.Contains(dbtest.URL(f.t), "?")]
	connector, err := pq.NewConnector(dbtest.URL(f.t) + separator + "search_path=" + f.schema)
	if err != nil {
		f.t.Fatal(err)
	}
	way := &link{}
	connector.Dialer(way)
	config := f.config()
	config.Pool = sql.OpenDB(connector)
	config.Pool.SetMaxOpenConns(db.MaxConns)
	f.t.Cleanup(func() { config.Pool.Close() })
	f.server.Config.Handler = web.HandlerWithHeartbeat(config, heartbeat)
	return way
}
