package web_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

const (
	maxUpload = 1 << 20
	deadline  = 30 * time.Second
	heartbeat = 200 * time.Millisecond
)

// A fixture is the page over a schema of its own in a real database.
type fixture struct {
	t      *testing.T
	schema string
	pool   *sql.DB
	events *broadcaster
	log    *dbtest.Output
	server *httptest.Server
	// isAway makes the server break off each request, as one that is not there.
	isAway atomic.Bool
	// cookies are those of the browser that sends the requests.
	cookies map[string]string
}

func TestMain(m *testing.M) {
	code := dbtest.Main(m)
	endChromium()
	os.Exit(code)
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixtureIn(t, fmt.Sprintf("web_test_%d", time.Now().UnixNano()))
}

func newFixtureIn(t *testing.T, schema string) *fixture {
	t.Helper()
	databaseURL := dbtest.URL(t)
	f := &fixture{t: t, schema: schema, log: &dbtest.Output{}, cookies: map[string]string{}}
	separator := "?"
	if strings.Contains(databaseURL, "?") {
		separator = "&"
	}
	pool, err := db.Open(t.Context(), databaseURL+separator+"search_path="+f.schema, db.MaxConns)
	if err != nil {
		t.Fatalf("open the test database: %v", err)
	}
	f.pool = pool
	t.Cleanup(f.removeAll)
	f.exec("create schema " + f.schema)

	f.events = newBroadcaster(t, databaseURL)
	handler := f.handler()
	f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.isAway.Load() {
			panic(http.ErrAbortHandler)
		}
		handler.ServeHTTP(w, r)
	}))
	// Streams end with their clients; Close waits for them.
	t.Cleanup(f.server.Close)
	return f
}

func (f *fixture) handler() http.Handler { return web.HandlerWithHeartbeat(f.config(), heartbeat) }

func (f *fixture) config() web.Config {
	return web.Config{
		Pool:        f.pool,
		MaxUpload:   maxUpload,
		Logger:      slog.New(slog.NewJSONHandler(f.log, nil)),
		Events:      f.events.subscribe,
		Upload:      upload.Limits{}.Load,
		Preview:     upload.Limits{}.Preview,
		CheckSource: f.checkSource,
	}
}

// removeAll restores the database to what the test found.
func (f *fixture) removeAll() {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	for _, statement := range []string{
		`delete from tinydevcrm.subscriptions`,
		`delete from tinydevcrm.sources`,
		`delete from tinydevcrm.matview_refresh_events where source_id is not null`,
		`select tinydevcrm.drop_matview(relation)
		   from tinydevcrm.matviews
		   join pg_class on pg_class.oid = relation
		  where relnamespace = to_regnamespace('` + f.schema + `')`,
		`delete from tinydevcrm.matview_refresh_events where matview like '` + f.schema + `.%'`,
		`delete from tinydevcrm.imports where schema_name = '` + f.schema + `'`,
		`drop schema if exists ` + f.schema + ` cascade`,
	} {
		if _, err := f.pool.ExecContext(ctx, statement); err != nil {
			f.t.Errorf("clean up: %v", err)
		}
	}
	f.pool.Close()
}

func (f *fixture) exec(query string, arguments ...any) {
	f.t.Helper()
	if _, err := f.pool.ExecContext(f.t.Context(), query, arguments...); err != nil {
		f.t.Fatalf("%s: %v", query, err)
	}
}

func (f *fixture) number(query string, arguments ...any) int64 {
	f.t.Helper()
	var number int64
	if err := f.pool.QueryRowContext(f.t.Context(), query, arguments...).Scan(&number); err != nil {
		f.t.Fatalf("%s: %v", query, err)
	}
	return number
}

func (f *fixture) text(query string, arguments ...any) string {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), deadline)
	defer cancel()
	var text string
	if err := f.pool.QueryRowContext(ctx, query, arguments...).Scan(&text); err != nil {
		f.t.Fatalf("%s: %v", query, err)
	}
	return text
}

// importSample loads the sample through the route, as a program does.
func (f *fixture) importSample() {
	f.t.Helper()
	sample, err := os.ReadFile("../../../scripts/sample.csv")
	if err != nil {
		f.t.Fatal(err)
	}
	f.importFile("sample.csv", string(sample))
}

func (f *fixture) importFile(name, contents string) {
	f.t.Helper()
	got := f.send(form("POST", "/upload-file", field{name: "file", file: name, value: contents}))
	if got.status != http.StatusCreated {
		f.t.Fatalf("import of %s: %d %s", name, got.status, got.body)
	}
}

// A request of a test. A browser's request asks for a page.
type request struct {
	method, path string
	contentType  string
	body         string
	header       map[string]string
	isBrowser    bool
}

type response struct {
	status int
	header http.Header
	body   string
}

// A field of a multipart form. The one named file is a file.
type field struct{ name, file, value string }

func form(method, path string, fields ...field) request {
	var body bytes.Buffer
	writer := multipart.NewWriter(&body)
	for _, field := range fields {
		disposition := fmt.Sprintf(`form-data; name="%s"`, field.name)
		if field.name == "file" {
			disposition += fmt.Sprintf(`; filename="%s"`, field.file)
		}
		part, err := writer.CreatePart(map[string][]string{"Content-Disposition": {disposition}})
		if err == nil {
			_, err = io.WriteString(part, field.value)
		}
		if err != nil {
			panic(err)
		}
	}
	writer.Close()
	return request{method: method, path: path, contentType: writer.FormDataContentType(), body: body.String()}
}

func post(path string, pairs ...string) request {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return request{
		method: "POST", path: path, contentType: "application/x-www-form-urlencoded", body: values.Encode(),
	}
}

func get(path string) request { return request{method: "GET", path: path} }

func (r request) fromBrowser() request {
	r.isBrowser = true
	return r
}

// send does not follow redirects, because tests check them.
func (f *fixture) send(request request) response {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), deadline)
	defer cancel()
	sent, err := http.NewRequestWithContext(ctx, request.method, f.server.URL+request.path,
		strings.NewReader(request.body))
	if err != nil {
		f.t.Fatal(err)
	}
	if request.contentType != "" {
		sent.Header.Set("Content-Type", request.contentType)
	}
	if request.isBrowser {
		sent.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
		for name, value := range f.cookies {
			sent.AddCookie(&http.Cookie{Name: name, Value: value})
		}
	}
	for name, value := range request.header {
		if name == "Host" {
			sent.Host = value
		}
		sent.Header.Set(name, value)
	}

	answer, err := f.server.Client().Transport.RoundTrip(sent)
	if err != nil {
		f.t.Fatalf("%s %s: %v", request.method, request.path, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		f.t.Fatalf("%s %s: %v", request.method, request.path, err)
	}
	for _, cookie := range answer.Cookies() {
		switch {
		case request.isBrowser && cookie.MaxAge < 0:
			delete(f.cookies, cookie.Name)
		case request.isBrowser:
			f.cookies[cookie.Name] = cookie.Value
		}
	}
	return response{status: answer.StatusCode, header: answer.Header, body: string(body)}
}

// follow sends what a browser does, and requests the page that the answer redirects to.
func (f *fixture) follow(request request) response {
	f.t.Helper()
	got := f.send(request.fromBrowser())
	if got.status != http.StatusSeeOther {
		f.t.Fatalf("%s %s: status %d, want a redirect: %s", request.method, request.path, got.status, got.body)
	}
	return f.send(get(pathOf(got)).fromBrowser())
}

// pathOf is the path of the page that an answer redirects to.
func pathOf(got response) string {
	path, _, _ := strings.Cut(got.header.Get("Location"), "#")
	return path
}

// A broadcaster passes on the notified ids, as the program's listener does.
type broadcaster struct {
	mu          sync.Mutex
	subscribers map[chan int64]bool
}

func newBroadcaster(t *testing.T, databaseURL string) *broadcaster {
	t.Helper()
	b := &broadcaster{subscribers: map[chan int64]bool{}}
	listener := pq.NewListener(databaseURL, 10*time.Millisecond, time.Second, nil)
	if err := listener.Listen("matview_refresh_channel"); err != nil {
		t.Fatalf("listen: %v", err)
	}

	var ended sync.WaitGroup
	ended.Go(func() {
		for notification := range listener.Notify {
			if notification == nil {
				b.send(0)
				continue
			}
			id, err := strconv.ParseInt(notification.Extra, 10, 64)
			if err != nil {
				t.Errorf("notification %q is not an id", notification.Extra)
				continue
			}
			b.send(id)
		}
	})
	t.Cleanup(func() {
		listener.Close()
		ended.Wait()
	})
	return b
}

func (b *broadcaster) subscribe() (<-chan int64, func()) {
	ids := make(chan int64, 1000)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subscribers[ids] = true
	return ids, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subscribers, ids)
	}
}

func (b *broadcaster) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.subscribers)
}

func (b *broadcaster) send(id int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ids := range b.subscribers {
		ids <- id
	}
}
