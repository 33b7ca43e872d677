package web_test

import (
	"archive/zip"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/source"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// newRunner returns a runner of sources that reaches servers of tests.
func (f *fixture) newRunner() *source.Runner {
	network := source.NewNetwork([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")})
	f.t.Cleanup(network.Transport.CloseIdleConnections)
	return source.NewRunner(f.pool, network, upload.Limits{MaxBytes: maxUpload}, f.config().Logger)
}

func (f *fixture) checkSource(ctx context.Context, pool *sql.DB, address string, headers map[string]string, name string, options url.Values) (string, upload.Plan, error) {
	return f.newRunner().Preview(ctx, pool, address, headers, name, options)
}

// fetchSources fetches what is due until the test ends.
func (f *fixture) fetchSources() {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	wake, stop := f.events.subscribe()
	go func() { ended <- f.newRunner().Run(ctx, wake) }()
	f.t.Cleanup(func() {
		cancel()
		stop()
		if err := <-ended; err != nil {
			f.t.Error(err)
		}
	})
}

// An export is a server whose file and status a test changes. It wants the password s3cret.
type export struct {
	*httptest.Server
	file   atomic.Pointer[string]
	status atomic.Int64
}

func newExport(t *testing.T, file string) *export {
	t.Helper()
	e := &export{}
	e.set(http.StatusOK, file)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "s3cret" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		w.WriteHeader(int(e.status.Load()))
		io.WriteString(w, *e.file.Load())
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *export) set(status int, file string) {
	e.file.Store(&file)
	e.status.Store(int64(status))
}

// at is the address of its file.
func (e *export) at() string { return dbtest.ByName(e.URL) + "/export.csv?token=t0ken" }

const exportedOrders = "id,customer\n1,Ann\n2,<b>Bob</b>\n3,Cid\n"

// useSources makes a source of each state: imported, failing with advice, waiting for its next attempt, paused, and one
// that has nothing yet.
func (f *fixture) useSources() {
	f.t.Helper()
	f.exec("select tinydevcrm.create_subscription('of sources')")
	for _, made := range []struct{ name, rest, run string }{
		{"nightly orders", `, 'Orders', 'upsert', '{id}', '{"delimiter": ";", "null": ["NA", "-"], "type": {"id": "text"}, "sheet": "May"}', 'daily at 6:00',
			'{"X-Key": "s3cret"}', 0.5, false, '26 hours'`, `status = 'imported', row_count = 1800, byte_count = 123456, filename = 'export.csv'`},
		{"broken", "", `status = 'failed', error_code = 'TD013', error_message = '404 Not Found: no such export'`},
		{"ragged", "", `status = 'failed', error_code = 'TD005', error_message = e'line 3 has 1 field instead of 2\n  line 3: 1 field instead of 2: Smith, Miller and Daughters of Springfield\n  Hint: --ragged pad fills it up.'`},
		{"waiting", "", `status = 'waiting', hidden_for = '3 minutes', error_code = 'TD013', error_message = '503 Service Unavailable'`},
		{"a source of " + strings.Repeat("long ", 9), ", schedule => 'hourly'", `status = 'unchanged'`},
		{"new", "", `status = 'due'`},
	} {
		f.exec("select tinydevcrm.create_source($1, 'https://example.com/export.csv?token=t0ken'"+made.rest+")", made.name)
		f.exec("update tinydevcrm.source_runs set attempts = 1, "+made.run+
			" where source_id = (select id from tinydevcrm.sources where name = $1 and schema_name = current_schema())", made.name)
	}
	f.exec("select tinydevcrm.pause_source('a source of ' || repeat('long ', 9))")
}

func TestSourcesScreen(t *testing.T) {
	f := newFixture(t)
	f.fetchSources()
	e := newExport(t, exportedOrders)
	b := newBrowser(t)
	b.do("open the list", chromedp.Navigate(f.server.URL+"/sources"))
	b.expect("#sources .empty", "No sources yet. A source is a URL")
	b.takeScreenshots("sources-empty")
	b.press("#sources .button")
	b.expect("h1", "New source")
	b.fill("#source-name", "orders")
	b.fill("#source-url", e.at())
	b.fill("#source-schedule", "daily at 6:00")
	b.waitFor("the schedule is said in words", `document.getElementById('source-when').textContent.startsWith('every day at 06:00')`)

	// A check says why the file does not come, and what to do; then what is in it. What was typed stays.
	b.click(`[formaction="/sources/check"]`)
	b.expect("#new .problem", "401 Unauthorized")
	b.expect("#new .problem", "Check the headers, or user and password")
	b.click("#new details summary")
	b.fill("#source-user", "ann")
	b.fill("#source-password", "s3cret")
	b.click(`[formaction="/sources/check"]`)
	b.expect("#found .done", "These types fit the whole file.")
	b.expect("#found tbody tr:nth-child(2)", "<b>Bob</b>")
	b.checkLooks("a checked source")
	b.takeScreenshots("source-new")
	if n := f.number("select count(*) from tinydevcrm.sources"); n != 0 {
		t.Errorf("the check has made %d sources", n)
	}
	if got := b.value("#source-password"); got != "s3cret" {
		t.Errorf("the password is %q after a check", got)
	}
	b.press("#new .buttons button")
	b.expect("h1", "orders")
	b.expect(".done", "is added, and fetched now")
	b.expect("#runs tbody td.good", "imported")
	b.waitFor("the state follows", `document.querySelector('#state-now dd:nth-of-type(7)')?.textContent.startsWith('3 rows')`)
	b.takeScreenshots("source")

	// Its table and its import name it.
	b.press("#state dd a[href^='/tables/']")
	b.expect("#table dd", "source orders, daily at 6:00")
	b.press("#imports tbody th a")
	b.expect("#import", "Fetched by")
	b.press("#import a[href='/sources/orders']")
	b.checkErrors()

	// What fails says why and what to do, here and where all failures are.
	b = newBrowser(t)
	b.do("open the source", chromedp.Navigate(f.server.URL+"/sources/orders"))
	e.set(http.StatusNotFound, "gone")
	b.press(`[formaction="/sources/run"]`)
	b.expect("#runs tbody tr:first-child td.bad", "404 Not Found")
	b.expect("#runs .advice", "Check the URL: the server has no such file.")
	b.waitFor("the state follows", `document.querySelector('#state-now dd').textContent.startsWith('failing')`)
	b.takeScreenshots("source-failing")
	b.do("open the home", chromedp.Navigate(f.server.URL+"/"))
	b.expect("#troubled", "source orders")
	b.expect("#glance", "1 source in trouble")
	b.expect("#latest .failed", "404 Not Found")
	b.press("#latest .failed .matview")
	b.expect("h1", "orders")

	b.do("open the options", chromedp.Evaluate[chromedp.Void](`document.querySelectorAll('#settings details').forEach(details => { details.open = true })`))
	b.fill("#source-refuse_if_fewer", "0.5")
	b.choose("#source-new_columns", "add")
	b.press("#settings button")
	b.expect(".done", "is changed")
	b.expect("#state-now", "a file with fewer rows than 0.5")
	b.expect("#state-now", "add them to the table")
	b.press(`[formaction="/sources/pause"]`)
	b.expect("#state-now", "daily at 6:00 (every day at 06:00), paused")
	b.press(`[formaction="/sources/resume"]`)
	e.set(http.StatusOK, "id,customer\n1,Ann\n")
	b.press(`[formaction="/sources/run"]`)
	b.expect("#runs tbody tr:first-child td.bad", "the file has 1 row, and the last one had 3 rows")
	b.click("#drop [type=checkbox]")
	b.press("#drop button")
	b.expect(".done", "The table stays.")
	if n := f.number("select count(*) from orders"); n != 3 {
		t.Errorf("the table has %d rows", n)
	}
	b.checkErrors()
}

// A check says what to choose in the words of the form.
func TestCheckOfAZipNamesTheFields(t *testing.T) {
	f := newFixture(t)
	f.fetchSources()
	var packed strings.Builder
	archive := zip.NewWriter(&packed)
	for _, name := range []string{"a.csv", "b.csv"} {
		file, err := archive.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(file, "id\n1")
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	e := newExport(t, packed.String())
	b := newBrowser(t)
	b.do("open the form", chromedp.Navigate(f.server.URL+"/sources/new"))
	b.fill("#source-name", "zipped")
	b.fill("#source-url", e.at())
	b.click("#new details summary")
	b.fill("#source-user", "ann")
	b.fill("#source-password", "s3cret")
	b.click(`[formaction="/sources/check"]`)
	b.expect("#new .problem", "Choose one (“File in a zip: NAME”)")
	b.checkErrors()
}

// Sources in each state can be used by everyone.
func TestAccessibilityOfSources(t *testing.T) {
	f := newFixture(t)
	f.useSources()
	for _, name := range []string{"", "nightly orders", "ragged", "waiting", "a source of " + strings.Repeat("long ", 9)} {
		b := newBrowser(t)
		path := "/sources/" + url.PathEscape(name)
		b.checkEveryLook(path, f.server.URL+strings.TrimSuffix(path, "/"))
		b.checkFits(path)
		if name == "" {
			b.expect("#sources-list [data-label='Last run']:has(.why)", "waits for the next attempt")
		}
		if name == "" || name == "ragged" {
			b.takeScreenshots("sources-" + name)
		}
		b.checkErrors()
	}
}

func TestSourcesScreenWithoutJavaScript(t *testing.T) {
	f := newFixture(t)
	f.useSources()
	e := newExport(t, exportedOrders)
	b := newBrowser(t)
	b.do("switch JavaScript off", call(emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.do("open the list", chromedp.Navigate(f.server.URL+"/sources"))
	b.expect("#sources tbody tr:first-child", "404 Not Found: no such export")
	b.press("#sources .button")
	b.do("a name in use", chromedp.SetValue(chromedp.CSS("#source-name"), "broken"))
	b.do("a URL", chromedp.SetValue(chromedp.CSS("#source-url"), e.at()))
	b.press("#new .buttons button")
	b.expect("#new .problem", "is there already")
	b.do("another name", chromedp.SetValue(chromedp.CSS("#source-name"), "fine"))
	b.do("open the log-in", chromedp.Click(chromedp.CSS("details summary")))
	b.do("a user", chromedp.SetValue(chromedp.CSS("#source-user"), "ann"))
	b.do("a password", chromedp.SetValue(chromedp.CSS("#source-password"), "s3cret"))
	b.press(`[formaction="/sources/check"]`)
	b.expect("#found", "These types fit the whole file.")
	b.expect("details .bad", "Type headers and password again.")
	if got := b.value("#source-password"); got != "" {
		t.Errorf("the page shows the password %q again", got)
	}
	b.press("#new .buttons button")
	b.expect("h1", "fine")
	b.expect("#runs tbody td", "due")
	b.checkErrors()
}

func TestSourceRoutes(t *testing.T) {
	f := newFixture(t)
	f.useSources()
	f.exec(`create table "Orders" (id text)`)
	name := "of / and ? 100%"
	f.exec(`select tinydevcrm.create_source($1, 'https://example.com/a')`, name)
	for _, test := range []struct {
		path, accept, says string
		status             int
	}{
		{"/sources", "", `"name":"nightly orders"`, http.StatusOK},
		{"/sources?search=ORDERS", "text/html", "/sources/nightly%20orders", http.StatusOK},
		{"/sources?search=none", "text/html", "No source of yours has “none”", http.StatusOK},
		{"/sources?sort=-name", "text/html", "404 Not Found: no such export", http.StatusOK},
		{"/sources/nightly%20orders", "", `"header_names" : ["X-Key"]`, http.StatusOK},
		{"/sources/nightly%20orders", "", `"filename":"export.csv"`, http.StatusOK},
		{"/sources/nightly%20orders", "text/html", "X-Key", http.StatusOK},
		{"/sources/nightly%20orders", "text/html", "<dt>Delimiter</dt><dd>;</dd>", http.StatusOK},
		{"/sources/nightly%20orders", "text/html", "<dt>Texts that mean NULL</dt><dd>NA; -</dd>", http.StatusOK},
		{"/sources/%22nightly%20orders%22", "text/html", "<h1>nightly orders</h1>", http.StatusOK},
		{"/sources/of%20%2F%20and%20%3F%20100%25", "text/html", "<h1>" + name + "</h1>", http.StatusOK},
		{"/sources/broken?before=nonsense", "text/html", "Check the URL: the server has no such file.", http.StatusOK},
		{"/sources/broken?before=1", "text/html", "No older runs.", http.StatusOK},
		{"/sources/ragged", "text/html", "“Lines with too few or too many fields: fill up, or add columns” fills it up.", http.StatusOK},
		{"/sources/waiting", "text/html", "waits for the next attempt", http.StatusOK},
		{"/sources/none", "text/html", "there is no source none of yours", http.StatusNotFound},
		{"/sources/none", "", "TD001", http.StatusNotFound},
		{"/sources/new?table=orders", "text/html", `value="orders"`, http.StatusOK},
		{"/?search=nightly", "text/html", "/sources/nightly%20orders", http.StatusOK},
		{"/tables/" + f.schema + ".Orders", "text/html", `source <a href="/sources/nightly%20orders">nightly orders</a>, daily at 6:00`, http.StatusOK},
	} {
		request := get(test.path)
		if test.accept != "" {
			request = withHeader(request, "Accept", test.accept)
		}
		got := f.send(request)
		if got.status != test.status || !strings.Contains(got.body, test.says) {
			t.Errorf("%s: status %d, lacks %q: %.3000s", test.path, got.status, test.says, got.body)
		}
		for _, secret := range []string{"s3cret", "t0ken", "YW5u"} {
			if strings.Contains(got.body, secret) {
				t.Errorf("%s shows the secret %s", test.path, secret)
			}
		}
	}

	for _, test := range []struct {
		request    request
		status     int
		says, want string
	}{
		{post("/sources", "source", "made", "url", "https://example.com/a", "table", "Orders", "mode", "append", "schedule", "hourly", "user", "ann", "password", "s3cret",
			"headers", "X-Key: one", "delimiter", ";", "null", "NA,-", "type", "zip=text; amount=numeric(10,2)", "quote", "", "refuse_if_fewer", "0.5", "accepts_empty", "true", "notify_deadline", "26 hours"),
			http.StatusCreated, `"source":"made"`,
			`Orders append hourly Basic YW5uOnMzY3JldA== one {"null": "NA,-", "type": {"zip": "text", "amount": "numeric(10,2)"}, "delimiter": ";"} 0.5 t 26:00:00 f`},
		// What is not sent stays, also an option that no form has.
		{post("/sources/alter", "source", "made", "schedule", "", "delimiter", "", "quote", "none"), http.StatusOK, `"source":"made"`,
			`Orders append  Basic YW5uOnMzY3JldA== one {"null": "NA,-", "type": {"zip": "text", "amount": "numeric(10,2)"}, "quote": "none"} 0.5 t 26:00:00 f`},
		{post("/sources/alter", "source", "made", "mode", "upsert", "key", "id, year", "refuse_if_fewer", "", "notify_deadline", "", "accepts_empty", "false", "no_headers", "true", "type", "", "null", ""),
			http.StatusOK, `"source":"made"`, `Orders upsert    {"quote": "none"} 0 f 00:00:00 f`},
		{post("/sources/alter", "source", "made", "mode", "upsert", "key", ""), http.StatusOK, `"source":"made"`, `Orders upsert    {"quote": "none"} 0 f 00:00:00 f`},
		{post("/sources/alter", "source", "made", "refuse_if_fewer", "50"), 422, "a share from 0 to 1", `Orders upsert    {"quote": "none"} 0 f 00:00:00 f`},
		{post("/sources/alter", "source", "made", "ragged", "perhaps"), 422, "ragged cannot be", `Orders upsert    {"quote": "none"} 0 f 00:00:00 f`},
		{post("/sources/alter", "source", "none"), 404, "TD001", `Orders upsert    {"quote": "none"} 0 f 00:00:00 f`},
		{post("/sources/pause", "source", "made"), http.StatusOK, `{"source":"made"}`, `Orders upsert    {"quote": "none"} 0 f 00:00:00 t`},
		{post("/sources/resume", "source", "made"), http.StatusOK, `{"source":"made"}`, `Orders upsert    {"quote": "none"} 0 f 00:00:00 f`},
		{post("/sources/run", "source", "made", "force", "true"), http.StatusOK, `{"source":"made"}`, `Orders upsert    {"quote": "none"} 0 f 00:00:00 f`},
	} {
		got := f.send(test.request)
		is := f.text(`
			select concat_ws(' ', table_name, mode, coalesce(schedule, ''), coalesce(headers ->> 'Authorization', ''), coalesce(headers ->> 'X-Key', ''),
			                 options, refuse_if_fewer, accepts_empty, notify_deadline, is_paused)
			  from tinydevcrm.sources where name = 'made'`)
		if got.status != test.status || !strings.Contains(strings.ReplaceAll(got.body, `": "`, `":"`), test.says) || is != test.want {
			t.Errorf("%s %s: %d %s; it is\n%s, want\n%s", test.request.path, test.request.body, got.status, got.body, is, test.want)
		}
	}
	if got := f.text("select key::text from tinydevcrm.sources where name = 'made'"); got != "{id,year}" {
		t.Errorf("the key is %s", got)
	}
	if got := f.send(post("/sources/drop", "source", "made")); got.status != http.StatusOK || f.number("select count(*) from tinydevcrm.sources where name = 'made'") != 0 {
		t.Errorf("a drop: %d %s", got.status, got.body)
	}

	f.send(get("/sources/new").fromBrowser())
	page := f.follow(post("/sources", "source", "kept", "url", "http://10.0.0.1/", "headers", "X-Key: s3cret", "password", "s3cret", "delimiter", ";")).body
	if !strings.Contains(page, "10.0.0.1 is private") || !strings.Contains(page, `value="kept"`) || !strings.Contains(page, `name="delimiter" value=";"`) || strings.Contains(page, "s3cret") {
		t.Errorf("a refused source: %s", page)
	}
}

// A check reaches no address that a run would not, and says so.
func TestCheckOfASourceIsGuarded(t *testing.T) {
	f := newFixture(t)
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a\n1\n") }))
	t.Cleanup(inside.Close)
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://10.0.0.1/latest", http.StatusFound)
	}))
	t.Cleanup(outside.Close)
	for address, want := range map[string]string{
		"http://10.0.0.1/a.csv":                   "10.0.0.1 is private",
		inside.URL:                                "127.0.0.1 is private",
		"file:///etc/passwd":                      "a pattern for files has no folder",
		dbtest.ByName(outside.URL):                "the address is private",
		"https://user:word@example.com/":          "cannot be fetched",
		strings.Repeat("https://example.com/", 3): "TD0",
	} {
		got := f.send(post("/sources/check", "source", "x", "url", address))
		if got.status != 422 || !strings.Contains(got.body, want) {
			t.Errorf("%s: %d %s, want %q", address, got.status, got.body, want)
		}
	}
	// It goes by the table that is there, as a run does.
	f.exec("create table kept (a integer, gone text)")
	if got := f.send(post("/sources/check", "source", "kept", "url", dbtest.ByName(inside.URL))); !strings.Contains(got.body, "gone") {
		t.Errorf("a column that is missing: %d %s", got.status, got.body)
	}
	got := f.send(post("/sources/check", "source", "x", "url", dbtest.ByName(inside.URL)))
	type found struct {
		File string
		Plan upload.Plan
	}
	if checked := decode[found](t, got, 200); checked.File != "x" || len(checked.Plan.Columns) != 1 {
		t.Errorf("a check: %s", got.body)
	}
}

// A notification of a source leads to its page, also when its name needs quotes.
func TestEventsLeadToTheirSource(t *testing.T) {
	f := newFixture(t)
	f.useSources()
	for _, name := range []string{"broken", "nightly orders"} {
		f.exec("select tinydevcrm.run_source($1)", name)
		f.exec(`update tinydevcrm.source_runs set status = 'failed', error_code = 'TD013', error_message = e'no answer\n  Hint: Ask.'
			where finished_at is null and source_id = (select id from tinydevcrm.sources where name = $1)`, name)
		event := f.number("select max(id) from tinydevcrm.matview_refresh_events where source_id = (select id from tinydevcrm.sources where name = $1)", name)
		path := f.text("select described.path from tinydevcrm.matview_refresh_events as events cross join lateral tinydevcrm._describe_event(events) as described where id = $1", event)
		if got := f.send(get(path).fromBrowser()); got.status != 200 || !strings.Contains(got.body, "<h1>"+name+"</h1>") {
			t.Errorf("%s: the notification leads to %s: %d", name, path, got.status)
		}
		page := f.send(get(fmt.Sprint("/events/", event)).fromBrowser()).body
		_, rest, _ := strings.Cut(page, `<dt>Source</dt><dd><a href="`)
		link, _, _ := strings.Cut(rest, `"`)
		if got := f.send(get(link).fromBrowser()); link == "" || got.status != 200 || !strings.Contains(got.body, "<h1>"+name+"</h1>") {
			t.Errorf("%s: its event leads to %q: %d", name, link, got.status)
		}
		of := f.text("select matview from tinydevcrm.matview_refresh_events where id = $1", event)
		if got := f.send(get("/events?of=" + url.QueryEscape(of)).fromBrowser()).body; !strings.Contains(got, fmt.Sprintf(`data-id="%d"`, event)) {
			t.Errorf("the list of its events lacks %d", event)
		}
	}
	// The last one has begun a streak of failures, so it has an event of its own.
	b := newBrowser(t)
	event := f.number("select max(id) from tinydevcrm.matview_refresh_events")
	for _, path := range []string{"/events", fmt.Sprint("/events/", event)} {
		b.do("open "+path, chromedp.Navigate(f.server.URL+path))
		if got := read(b, "read the message", chromedp.Evaluate[string](`document.querySelector('.error').innerText`)); got != "no answer\nHint: Ask." {
			t.Errorf("%s: the message is %q", path, got)
		}
	}
}
