package source_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/source"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// An origin is a server whose answer a test changes.
type origin struct {
	*httptest.Server
	answer atomic.Pointer[http.HandlerFunc]
	asked  atomic.Int32
}

func newOrigin(t *testing.T, answer http.HandlerFunc) *origin {
	t.Helper()
	o := &origin{}
	o.now(answer)
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.asked.Add(1)
		(*o.answer.Load())(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *origin) now(answer http.HandlerFunc) { o.answer.Store(&answer) }

func give(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// begin runs a Runner until end is called.
func begin(t *testing.T, pool *sql.DB, limits upload.Limits) (end func()) {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	network := source.NewNetwork([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	runner := source.NewRunnerWithin(pool, network, limits, logger, 2*time.Second, 20*time.Second)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	wake := make(chan int64)
	go func() { done <- runner.Run(ctx, wake) }()
	go func() {
		for ctx.Err() == nil {
			select {
			case wake <- 0:
			case <-ctx.Done():
			}
			timer := time.NewTimer(100 * time.Millisecond)
			<-timer.C
		}
	}()
	end = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
		network.Transport.CloseIdleConnections()
	}
	t.Cleanup(end)
	return end
}

func schema(t *testing.T) *sql.DB {
	t.Helper()
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "update tinydevcrm.settings set webhook_networks = '{127.0.0.0/8}'")
	t.Cleanup(func() {
		_, err := pool.ExecContext(context.Background(), "update tinydevcrm.sources set is_dropped = true where schema_name = current_schema()")
		if err == nil {
			_, err = pool.ExecContext(context.Background(), "update tinydevcrm.settings set webhook_networks = '{}'")
		}
		if err != nil {
			t.Error(err)
		}
	})
	return pool
}

// create creates a source whose name is that of the test's schema and a suffix.
func create(t *testing.T, pool *sql.DB, name, url, rest string) string {
	t.Helper()
	full := dbtest.Value[string](t, pool, "select current_schema() || $1::text", "_"+name)
	dbtest.Exec(t, pool, "select tinydevcrm.create_source($1, $2, $3"+rest+")", full, url, name)
	return full
}

// await waits until the last run of a source has that status, and returns its error.
func await(t *testing.T, pool *sql.DB, name, want string, runs int) string {
	t.Helper()
	var got, message string
	dbtest.Eventually(t, dbtest.Deadline, fmt.Sprintf("run %d of %s is %s", runs, name, want), func() bool {
		var count int
		if err := pool.QueryRowContext(t.Context(), `
			select count(*), coalesce((array_agg(status order by source_runs.id desc))[1], ''), coalesce((array_agg(error_message order by source_runs.id desc))[1], '')
			  from tinydevcrm.source_runs join tinydevcrm.sources on sources.id = source_id where name = $1`, name).Scan(&count, &got, &message); err != nil {
			t.Fatal(err)
		}
		return count == runs && got == want
	})
	return message
}

func again(t *testing.T, pool *sql.DB, name string) {
	t.Helper()
	dbtest.Exec(t, pool, "select tinydevcrm.run_source($1)", name)
}

func TestASourceIsFetchedIntoItsTable(t *testing.T) {
	pool := schema(t)
	var headers atomic.Pointer[http.Header]
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		headers.Store(&r.Header)
		w.Header().Set("ETag", `"one"`)
		if r.Header.Get("If-None-Match") == `"one"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		io.WriteString(w, "id;name\n1;Ann\n2;Eve\n")
	})
	begin(t, pool, upload.Limits{})
	name := create(t, pool, "orders", o.URL+"/export.csv?token=secret", `, headers => '{"Authorization": "Basic eHg="}', options => '{"type": {"id": "text"}}'`)
	await(t, pool, name, "imported", 1)
	if got := dbtest.Value[string](t, pool, "select string_agg(id || name, ',' order by id) from orders"); got != "1Ann,2Eve" {
		t.Errorf("the table has %s", got)
	}
	if got := headers.Load().Get("Authorization"); got != "Basic eHg=" {
		t.Errorf("the header is %q", got)
	}
	if got := dbtest.Value[string](t, pool, "select source from tinydevcrm.imports where relation = 'orders'::regclass"); got != "export.csv" {
		t.Errorf("the log names %s", got)
	}

	again(t, pool, name)
	await(t, pool, name, "unchanged", 2)
	if n := dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.imports where relation = 'orders'::regclass"); n != 1 {
		t.Errorf("%d imports, want none for 304", n)
	}

	// What the server has not changed is missing here.
	dbtest.Exec(t, pool, "drop table orders")
	again(t, pool, name)
	await(t, pool, name, "imported", 3)
	dbtest.Exec(t, pool, "select tinydevcrm.run_source($1, true)", name)
	await(t, pool, name, "imported", 4)
}

func TestAnAttemptThatFailsIsRepeated(t *testing.T) {
	pool := schema(t)
	o := newOrigin(t, status(http.StatusInternalServerError))
	begin(t, pool, upload.Limits{})
	name := create(t, pool, "orders", o.URL, "")
	if got := await(t, pool, name, "waiting", 1); got != "500 Internal Server Error" {
		t.Errorf("it waits because of %q", got)
	}
	if wait := dbtest.Value[float64](t, pool, `
		select extract(epoch from visible_at - clock_timestamp()) from tinydevcrm.source_runs
		  join tinydevcrm.sources on sources.id = source_id where name = $1`, name); wait < 5 || wait > 23 {
		t.Errorf("it waits for %.1f s", wait)
	}
	o.now(give("id\n1\n"))
	again(t, pool, name)
	await(t, pool, name, "imported", 1)
}

func TestWhatIsNoFileChangesNothing(t *testing.T) {
	pool := schema(t)
	rows := strings.Repeat("1,some text that fills the file\n", 1000)
	for _, test := range []struct {
		name, want, status string
		answer             http.HandlerFunc
	}{
		{"a redirect to a private address", "the address is private; --allow-webhooks-to allows it", "failed", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://10.0.0.1/export.csv", http.StatusFound)
		}},
		{"a redirect to a file", "302 Found: the URL is neither http nor https", "failed", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		}},
		{"redirects without an end", "more than 5 redirects", "failed", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/again", http.StatusFound)
		}},
		{"a file that is gone", "404 Not Found", "failed", status(http.StatusNotFound)},
		{"a log-in page", "the answer is a web page (text/html), not a file", "failed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, "<html>log in</html>")
		}},
		{"an image", "the file is not text: it has a byte of value 0", "failed", give("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")},
		{"an empty file", "", "failed", give("")},
		{"a header alone", "the file has no rows", "failed", give("n,text\n")},
		{"a body that stops", "the connection was closed before the end of the file", "waiting", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			io.WriteString(w, "n,text\n"+rows)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}},
		{"a body that stalls", "the server has sent nothing for 2s", "waiting", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "n,text\n"+rows)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}},
		{"a body of a byte now and then", "the server sends less than 1000 bytes a second", "waiting", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "n,text\n")
			for ticker := time.NewTicker(50 * time.Millisecond); r.Context().Err() == nil; <-ticker.C {
				io.WriteString(w, "1,a\n")
				w.(http.Flusher).Flush()
			}
		}},
		{"a body without an end", "the file is larger than orchestrator up --max-upload", "failed", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "n,text\n")
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, rows); err != nil {
					return
				}
			}
		}},
		{"a 304 that nobody has asked for", "304 Not Modified", "failed", status(http.StatusNotModified)},
		{"a redirect that cannot be parsed", "302 Found: the redirect has no URL that can be parsed", "failed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://example.com/%zz?token=secret")
			w.WriteHeader(http.StatusFound)
		}},
		{"a packed body that stops", "f.csv cannot be unpacked: unexpected EOF", "failed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Disposition", `attachment; filename="f.csv"`)
			w.Header().Set("Content-Encoding", "gzip")
			whole := pack(t, "n,text\n"+rows)
			w.Write(whole[:len(whole)-4])
		}},
		{"no answer", "no answer within 2s", "waiting", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := newOrigin(t, give("n,text\n7,kept\n"))
			end := begin(t, pool, upload.Limits{MaxBytes: 4 << 20})
			defer end()
			name := create(t, pool, fmt.Sprintf("t%d", len(test.name)), o.URL, "")
			await(t, pool, name, "imported", 1)
			o.now(test.answer)
			again(t, pool, name)
			if got := await(t, pool, name, test.status, 2); !strings.HasPrefix(got, test.want) || got == "" {
				t.Errorf("the error is %q, want %q", got, test.want)
			}
			if got := dbtest.Value[string](t, pool, fmt.Sprintf("select string_agg(n || text, ',') from t%d", len(test.name))); got != "7kept" {
				t.Errorf("the table has %s", got)
			}
			dbtest.Exec(t, pool, "select tinydevcrm.drop_source($1)", name)
		})
	}
}

func TestAPackedAnswerIsUnpacked(t *testing.T) {
	pool := schema(t)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			w.WriteHeader(http.StatusNotAcceptable)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(pack(t, "id\n1\n2\n"))
	})
	begin(t, pool, upload.Limits{})
	await(t, pool, create(t, pool, "packed", o.URL, ""), "imported", 1)
	if n := dbtest.Value[int](t, pool, "select sum(id) from packed"); n != 3 {
		t.Errorf("the sum is %d", n)
	}
}

// What servers write into headers may be anything. What was not given is not asked for.
func TestHeadersOfAnAnswer(t *testing.T) {
	pool := schema(t)
	var asked atomic.Pointer[http.Header]
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(&r.Header)
		w.Header().Set("Content-Disposition", `attachment; filename="%20"`)
		io.WriteString(w, "id\n1\n")
	})
	begin(t, pool, upload.Limits{})
	name := create(t, pool, "headers", o.URL, `, options => '{"reject_limit": 2000000, "null": null}'`)
	await(t, pool, name, "imported", 1)
	again(t, pool, name)
	await(t, pool, name, "imported", 2)
	for _, header := range []string{"If-None-Match", "If-Modified-Since"} {
		if got := (*asked.Load())[header]; got != nil {
			t.Errorf("%s is %q", header, got)
		}
	}
	o.now(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", "\"caf\xe9\"")
		w.Header().Set("Last-Modified", "\xe9")
		io.WriteString(w, "id\n1\n")
	})
	again(t, pool, name)
	await(t, pool, name, "imported", 3)
}

func pack(t *testing.T, text string) []byte {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	io.WriteString(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func TestTwoProgramsShareTheSources(t *testing.T) {
	pool := schema(t)
	o := newOrigin(t, give("id\n1\n"))
	begin(t, pool, upload.Limits{})
	begin(t, pool, upload.Limits{})
	const sources = 12
	var names []string
	for i := range sources {
		names = append(names, create(t, pool, fmt.Sprintf("shared%d", i), o.URL, ", mode => 'append'"))
	}
	for i, name := range names {
		await(t, pool, name, "imported", 1)
		if n := dbtest.Value[int](t, pool, fmt.Sprintf("select count(*) from shared%d", i)); n != 1 {
			t.Errorf("%s has %d rows", name, n)
		}
	}
	if asked := o.asked.Load(); asked != sources {
		t.Errorf("%d requests for %d sources", asked, sources)
	}
}

// A program that ends gives its run back; one that is killed loses it after a minute.
func TestARunOfAProgramThatEndsIsTakenAgain(t *testing.T) {
	pool := schema(t)
	begun := make(chan struct{}, 10)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "id\n"+strings.Repeat("1\n", 500_000))
		w.(http.Flusher).Flush()
		begun <- struct{}{}
		<-r.Context().Done()
	})
	end := begin(t, pool, upload.Limits{})
	name := create(t, pool, "orders", o.URL, "")
	<-begun
	end()
	if got := dbtest.Value[string](t, pool, `
		select status || ' ' || attempts || ' ' || (to_regclass('orders') is null) from tinydevcrm.source_runs
		  join tinydevcrm.sources on sources.id = source_id where name = $1`, name); got != "due 0 true" {
		t.Errorf("the run is %s", got)
	}
	o.now(give("id\n1\n"))
	end = begin(t, pool, upload.Limits{})
	await(t, pool, name, "imported", 1)
	end()

	// Another one has taken the run, as it may after a minute: what the first one imports then is undone.
	hold := make(chan struct{})
	o.now(func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		<-hold
		io.WriteString(w, "id\n7\n8\n")
	})
	end = begin(t, pool, upload.Limits{})
	again(t, pool, name)
	<-begun
	dbtest.Exec(t, pool, "update tinydevcrm.source_runs set hidden_for = '0', attempts = attempts + 1, status = 'fetching' where finished_at is null")
	close(hold)
	await(t, pool, name, "imported", 2)
	end()
	if got := dbtest.Value[string](t, pool, "select string_agg(id::text, ',' order by id) from orders"); got != "7,8" {
		t.Errorf("the table has %s", got)
	}
	if n := dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.imports where relation = 'orders'::regclass"); n != 2 {
		t.Errorf("%d imports, want two", n)
	}
}
