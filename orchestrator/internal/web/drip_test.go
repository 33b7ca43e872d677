package web_test

import (
	"bytes"
	"compress/gzip"
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

// An upload that sends almost nothing ends, however long it could go on, and leaves nothing behind.
func TestDrippingUploadEnds(t *testing.T) {
	const slow, within = 500 * time.Millisecond, 10 * time.Second
	f := newFixture(t)
	server := httptest.NewServer(web.HandlerWithSlow(f.config(), slow))
	t.Cleanup(server.Close)

	upload := form("POST", "/upload-file", field{name: "file", file: "drips.csv", value: "n\n" + strings.Repeat("1\n", 100_000)})
	reader, writer := io.Pipe()
	defer reader.Close()
	go func() {
		for i := range upload.body {
			if _, err := io.WriteString(writer, upload.body[i:i+1]); err != nil {
				return
			}
			time.Sleep(slow / 50)
		}
	}()
	request, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+upload.path, reader)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", upload.contentType)
	// As curl sends it: the answer may arrive before the end of the body.
	request.Header.Set("Expect", "100-continue")
	began := time.Now()
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	if took := time.Since(began); answer.StatusCode != http.StatusRequestTimeout || took > within ||
		!strings.Contains(string(body), "less than 1000 bytes a second") {
		t.Errorf("after %s: %d %s", took, answer.StatusCode, body)
	}
	if busy := f.pool.Stats().InUse; busy != 0 {
		t.Errorf("%d connections are still in use", busy)
	}
}

// Any number of stalled uploads of one client leave a turn to another client.
func TestUploadsLeaveOneToOthers(t *testing.T) {
	f := newFixture(t)
	for i := range 2 * db.MaxConns {
		upload := form("POST", fmt.Sprint("/upload-file?table=stalled_", i),
			field{name: "file", file: "t.csv", value: "a\n" + strings.Repeat("1\n", 150<<10)})
		sendRaw(t, f.server.Listener.Addr().String(), upload, len(upload.body)-100)
	}
	dbtest.Eventually(t, dbtest.Deadline, "some uploads are under way", func() bool { return f.pool.Stats().InUse >= db.MaxConns/2-1 })

	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	client := http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
	upload := form("POST", "/upload-file", field{name: "file", file: "other.csv", value: "n\n1\n"})
	answer, err := client.Post(f.server.URL+upload.path, upload.contentType, strings.NewReader(upload.body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusCreated {
		t.Errorf("another client's upload: %d %s", answer.StatusCode, body)
	}
}

// The server notices that a client has left even while it reads what the client sent, which unpacks to a
// thousand times as much.
func TestPackedUploadOfClientThatGoes(t *testing.T) {
	const within = 8 * time.Second
	f := newFixture(t)
	// A file of gzip may have many parts, which are the same here: packing a gigabyte would take a minute.
	var part bytes.Buffer
	w, _ := gzip.NewWriterLevel(&part, gzip.BestCompression)
	w.Write(bytes.Repeat([]byte("1\n"), 1<<22))
	w.Close()
	packed := strings.Repeat(part.String(), maxUpload*9/10/part.Len())
	upload := form("POST", "/upload-file", field{name: "file", file: "endless.csv.gz", value: packed})
	conn := sendRaw(t, f.server.Listener.Addr().String(), upload, len(upload.body)-100)
	dbtest.Eventually(t, dbtest.Deadline, "it is read", func() bool { return f.pool.Stats().InUse == 1 })
	conn.Close()
	began := time.Now()
	dbtest.Eventually(t, dbtest.Deadline, "the upload ends", func() bool { return f.pool.Stats().InUse == 0 })
	if took := time.Since(began); took > within {
		t.Errorf("it went on for %s", took)
	}
	if left := f.number("select count(*) from pg_class where relnamespace = $1::text::regnamespace", f.schema); left != 0 {
		t.Errorf("%d relations are left", left)
	}
}

// sendRaw sends the first bytes of a request's body on a connection of its own.
func sendRaw(t *testing.T, address string, request request, count int) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			request.path, request.contentType, len(request.body), request.body[:count])
	}()
	return conn
}
