package web_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// screenPaths are the pages of all screens, with a table sample and a view sample_now.
func (f *fixture) screenPaths() []string {
	return []string{"/", "/?search=sample", "/upload", "/imports", "/tables", "/tables/" + f.schema + ".sample", "/sources", "/sources/new", "/events", "/events/1"}
}

// While the database is away, each page says only that, and keeps the result of the last request.
func TestPagesWhileTheDatabaseIsAway(t *testing.T) {
	f := newFixture(t)
	way := f.overLink()
	f.send(get("/").fromBrowser())
	if got := f.send(post("/sample").fromBrowser()); got.status != 303 {
		t.Fatalf("the sample: %d %s", got.status, got.body)
	}

	way.cut(true)
	for _, path := range f.screenPaths() {
		got := f.send(get(path).fromBrowser())
		if got.status != 503 || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, `http-equiv="refresh"`) {
			t.Errorf("%s: status %d, headers %v", path, got.status, got.header)
		}
		_, main, _ := strings.Cut(got.body, "<main")
		if count := strings.Count(main, `class="problem"`); count != 1 || strings.Contains(main, "<section") || strings.Contains(main, "<form") {
			t.Errorf("%s: %d errors, want the one and nothing else: %s", path, count, main)
		}
	}
	refused := f.send(post("/tables/rename", "relation", f.schema+".sample", "name", "typed").fromBrowser())
	for range 2 {
		if got := f.send(get(pathOf(refused)).fromBrowser()); !strings.Contains(got.body, "your request has not been done") {
			t.Errorf("after a button: %d %s", got.status, got.body)
		}
	}

	way.cut(false)
	if got := f.send(get("/").fromBrowser()); got.status != 200 || !strings.Contains(got.body, "are created.") {
		t.Errorf("the result of before: %d %s", got.status, got.body)
	}
	if got := f.send(get(pathOf(refused)).fromBrowser()); !strings.Contains(got.body, `value="typed"`) {
		t.Errorf("the input is lost: %d %s", got.status, got.body)
	}
}

// The log-in needs the database too.
func TestLogInWhileTheDatabaseIsAway(t *testing.T) {
	f := newFixture(t)
	config := f.config()
	config.Login = func(context.Context, string, string, string) (*sql.DB, func(), error) {
		return nil, nil, fmt.Errorf("log in: %w", &net.OpError{Op: "dial", Err: errors.New("connection refused")})
	}
	answer := httptest.NewRecorder()
	request := httptest.NewRequest("GET", "http://localhost/", nil)
	request.SetBasicAuth("ann", "x")
	request.Header.Set("Accept", "text/html")
	web.Handler(config).ServeHTTP(answer, request)
	if body := answer.Body.String(); answer.Code != 503 || !strings.Contains(body, `id="away"`) || strings.Contains(body, "<section") {
		t.Errorf("a user gets %d: %s", answer.Code, body)
	}
}

func TestBrowserWhileTheDatabaseIsAway(t *testing.T) {
	f := newFixture(t)
	f.exec("select tinydevcrm.create_matview('v', 'select 1 as n')")
	way := f.overLink()
	b := newBrowser(t)
	b.do("open the page", chromedp.Navigate(f.server.URL+"/events"))
	b.expect("#feed-state.live", "Live")
	way.cut(true)
	f.server.CloseClientConnections()
	b.expect("#away", "The database has not answered since")
	b.expect("#feed-state", "Waiting for the database")
	b.do("open another page", chromedp.Navigate(f.server.URL+"/views"))
	b.expect("#away", "The database cannot be reached")
	way.cut(false)
	b.expect("#views", "v")
	b.do("back to the events", chromedp.Navigate(f.server.URL+"/events"))
	b.waitFor("it is over", `!document.getElementById('away') && document.getElementById('feed-state').textContent === 'Live'`)
}
