package web_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// serverTimeout stands for the program's minute.
const serverTimeout = 300 * time.Millisecond

// withTimeouts serves the page with a server whose timeouts are shorter than the work.
func (f *fixture) withTimeouts() {
	f.t.Helper()
	f.server = httptest.NewUnstartedServer(web.HandlerWithHeartbeat(f.config(), heartbeat))
	f.server.Config.ReadTimeout = serverTimeout
	f.server.Config.WriteTimeout = serverTimeout
	f.server.Start()
	f.t.Cleanup(f.server.Close)
}

func TestLongWorkOutlastsTheServersTimeouts(t *testing.T) {
	f := newFixture(t)
	f.withTimeouts()

	created := f.send(post("/matviews", "name", "slow", "query", "select 1 as n from pg_sleep(1)"))
	if created.status != http.StatusCreated {
		t.Errorf("a long query: status %d: %s", created.status, created.body)
	}

	// The file arrives in pieces over a longer time, and choosing its types takes longer still.
	whole := form("POST", "/upload-file", field{name: "file", file: "slow.csv", value: "n\n" + strings.Repeat("1\n", 1000)})
	f.exec(`create table slow_import (n integer)`)
	f.exec(`create function wait() returns trigger language plpgsql as
	        $$begin perform pg_sleep(1); return null; end$$`)
	f.exec(`create trigger wait after insert on slow_import for each statement execute function wait()`)
	request, err := http.NewRequestWithContext(t.Context(), "POST",
		f.server.URL+"/upload-file?table=slow_import&mode=append", trickle(t, whole.body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", whole.contentType)
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusCreated {
		t.Errorf("a slow upload: status %d: %s", answer.StatusCode, body)
	}
	if count := f.number("select count(*) from slow_import"); count != 1000 {
		t.Errorf("the table has %d rows, want 1000", count)
	}

	stream := openStream(t, f.server.URL, "")
	for until := time.Now().Add(4 * serverTimeout); time.Now().Before(until); {
		if _, isOpen := <-stream.lines; !isOpen {
			t.Fatal("the stream ended with the server's timeout")
		}
	}
}

// trickle sends a body in five pieces, over more time than the server's timeout.
func trickle(t *testing.T, body string) io.Reader {
	reader, writer := io.Pipe()
	go func() {
		ticker := time.NewTicker(serverTimeout / 2)
		defer ticker.Stop()
		for _, piece := range pieces(body, 5) {
			select {
			case <-t.Context().Done():
			case <-ticker.C:
			}
			if _, err := io.WriteString(writer, piece); err != nil {
				return
			}
		}
		writer.Close()
	}()
	return reader
}

func pieces(text string, count int) []string {
	var all []string
	size := len(text)/count + 1
	for ; len(text) > size; text = text[size:] {
		all = append(all, text[:size])
	}
	return append(all, text)
}

// A long upload is stopped in the middle of the COPY. That must leave nothing behind and delay nothing.
func TestLongUploadsThatBreakOff(t *testing.T) {
	f := newFixture(t)
	const relations = "select count(*) from pg_class where relnamespace = $1::text::regnamespace"
	long := field{name: "file", file: "long.csv", value: "n\n" + strings.Repeat("1234567\n", maxUpload/16)}

	t.Run("by a field that comes after it", func(t *testing.T) {
		got := f.send(form("POST", "/upload-file", long, field{name: "table", value: "late"}))
		if got.status != 400 || !strings.Contains(got.body, "comes after the file") {
			t.Errorf("status %d: %s", got.status, got.body)
		}
	})

	t.Run("by a client that goes", func(t *testing.T) {
		whole := form("POST", "/upload-file", long)
		conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /upload-file HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n",
			whole.contentType, len(whole.body))
		if _, err := io.Copy(conn, bytes.NewReader([]byte(whole.body[:len(whole.body)-100]))); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		// Close waits for the running requests.
		f.server.Close()
	})

	if left := f.number(relations, f.schema); left != 0 {
		t.Errorf("%d relations are left", left)
	}
	if busy := f.pool.Stats().InUse; busy != 0 {
		t.Errorf("%d connections are still in use", busy)
	}
}

// Any number of buttons and uploads that hold their connections leave one to the page. Surplus ones get an
// answer that says so.
func TestBusyPageAnswers(t *testing.T) {
	f := newFixture(t)
	const requests = 2 * db.MaxConns
	// The page's own pool is what is to be used up.
	pool, err := db.Open(t.Context(), dbtest.WithSearchPath(t, dbtest.URL(t), f.schema), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	dbtest.CreateGates(t, pool)
	open := dbtest.CloseGate(t, pool, 1)
	statuses := make(chan int, 2*requests)
	for i := range requests {
		reader, writer := io.Pipe()
		t.Cleanup(func() { writer.CloseWithError(context.Canceled) })
		upload := form("POST", fmt.Sprint("/upload-file?table=stalled_", i),
			field{name: "file", file: "t.csv", value: "a\n" + strings.Repeat("1\n", 150<<10)})
		go io.WriteString(writer, upload.body[:len(upload.body)-100])
		go func() {
			request, err := http.NewRequestWithContext(t.Context(), "POST", f.server.URL+upload.path, reader)
			if err != nil {
				return
			}
			request.Header.Set("Content-Type", upload.contentType)
			if answer, err := http.DefaultTransport.RoundTrip(request); err == nil {
				answer.Body.Close()
				statuses <- answer.StatusCode
			}
		}()
		go func() {
			view := post("/matviews", "name", fmt.Sprint("slow_", i), "query", "select pass_gate(1)")
			statuses <- f.send(view).status
		}()
	}

	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if got := f.send(get("/matviews")); got.status != http.StatusOK {
			t.Fatalf("the page answers %d: %s", got.status, got.body)
		}
	}
	// One client has as many stalled uploads as it may have, and all buttons are in use.
	const held, most = db.MaxConns/2 - 1, db.MaxConns/2 - 1
	counts := make(map[int]int)
	count := func(answers int) map[int]int {
		t.Helper()
		for range answers {
			select {
			case status := <-statuses:
				counts[status]++
			case <-time.After(deadline):
				t.Fatalf("of %d more answers, some do not come: %v", answers, counts)
			}
		}
		return counts
	}
	const refused = 2*requests - held - most
	if got := count(refused); got[http.StatusServiceUnavailable] != refused {
		t.Errorf("those without a turn got %v", got)
	}
	open()
	if got := count(most); got[http.StatusCreated] != most {
		t.Errorf("the requests got %v", got)
	}
}

// The program closes the channel when it stops listening.
func TestStreamEndsWithItsSource(t *testing.T) {
	f := newFixture(t)
	ids := make(chan int64)
	config := f.config()
	config.Events = func() (<-chan int64, func()) { return ids, func() {} }
	server := httptest.NewServer(web.Handler(config))
	defer server.Close()

	stream := openStream(t, server.URL, "")
	<-stream.lines
	close(ids)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for {
		select {
		case _, isOpen := <-stream.lines:
			if !isOpen {
				return
			}
		case <-ctx.Done():
			t.Fatal("the stream goes on")
		}
	}
}
