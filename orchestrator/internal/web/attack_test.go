package web_test

import (
	"context"
	"database/sql"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// While a user uploads, which is the only turn of a user, the pages of tables and views come at once.
func TestPagesWaitForNoTurn(t *testing.T) {
	f := newFixture(t)
	f.exec("create table plain (n integer)")
	f.exec("select tinydevcrm.create_matview('counted', 'select count(*) from plain')")
	config := f.config()
	config.Login = func(context.Context, string, string, string) (*sql.DB, func(), error) { return f.pool, func() {}, nil }
	began := make(chan bool)
	config.Upload = func(ctx context.Context, _ *sql.DB, _ io.Reader, _ string, _ url.Values) (upload.Import, error) {
		close(began)
		<-ctx.Done()
		return upload.Import{}, ctx.Err()
	}
	server := httptest.NewServer(web.Handler(config))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := form("POST", "/upload-file", field{name: "file", file: "t.csv", value: "n\n1\n"})
	go func() {
		request, err := http.NewRequestWithContext(ctx, "POST", server.URL+sent.path, strings.NewReader(sent.body))
		if err != nil {
			return
		}
		request.SetBasicAuth("ann", "any")
		request.Header.Set("Content-Type", sent.contentType)
		if answer, err := http.DefaultClient.Do(request); err == nil {
			answer.Body.Close()
		}
	}()
	<-began

	// Less than the time for which a transfer waits for its turn.
	soon, stop := context.WithTimeout(t.Context(), 8*time.Second)
	defer stop()
	for path, says := range map[string]string{
		"/tables/" + f.schema + ".plain": "No rows.", "/views/" + f.schema + ".counted": "1 row", "/tables/none": "there is no table none",
	} {
		request, err := http.NewRequestWithContext(soon, "GET", server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth("ann", "any")
		request.Header.Set("Accept", "text/html")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || !strings.Contains(string(body), says) {
			t.Errorf("%s: %d, %v: %s", path, answer.StatusCode, err, body)
		}
	}
}

// A table that is being replaced is locked. The list and the rest of its page come without its size and rows.
func TestLockedTableIsListed(t *testing.T) {
	f := newFixture(t)
	f.exec("create table plain (n integer)")
	f.exec("create table replaced (n integer)")
	tx, err := f.pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "lock table replaced in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path   string
		status int
		says   []string
	}{
		{"/tables?search=" + f.schema, http.StatusOK, []string{"plain", "0 bytes", "replaced", "locked"}},
		{"/tables/" + f.schema + ".replaced", http.StatusUnprocessableEntity, []string{"another session has locked", "Drop all its rows"}},
	} {
		got := f.send(get(test.path).fromBrowser())
		for _, want := range test.says {
			if !strings.Contains(got.body, want) {
				t.Errorf("%s: %d without %q: %s", test.path, got.status, want, got.body)
			}
		}
	}
}

// What the page of a view shows and offers is about that view, whatever its URL says.
func TestPageIsAboutItsView(t *testing.T) {
	f := newFixture(t)
	f.exec("select tinydevcrm.create_matview('quiet', 'select 1 as n', 'always')")
	f.exec("select tinydevcrm.create_matview('busy', 'select 1 as n', 'always')")
	f.exec("select tinydevcrm.refresh_matview('busy')")
	page := f.send(get("/views/" + f.schema + ".quiet?replay=1&notify_when=always&relation=busy").fromBrowser())
	if !strings.Contains(page.body, "would have notified 0 times") {
		t.Errorf("the replay is that of another view: %s", page.body)
	}
	link := regexp.MustCompile(`/subscriptions/new[^"]*`).FindString(page.body)
	if got := f.send(get(link).fromBrowser()); !strings.Contains(got.body, `name="new_matview" value="`+f.schema+`.quiet"`) {
		t.Errorf("%s does not subscribe to the view: %s", link, got.body)
	}
}
