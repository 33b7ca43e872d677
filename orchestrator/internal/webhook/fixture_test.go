package webhook_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

const (
	deadline = 10 * time.Second
	// short is the timeout of a Client that is expected to time out.
	short   = 500 * time.Millisecond
	private = "the address is private; --allow-webhooks-to allows it"
)

var message = webhook.Message{ID: "msg_1", Body: []byte(`{"outcome":"refreshed"}`)}

// TestMain names a proxy that does not exist. net/http reads the environment once, so a single test could not
// set it.
func TestMain(m *testing.M) {
	os.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	os.Exit(m.Run())
}

func secret(text string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(text))
}

func to(url string) webhook.Endpoint {
	return webhook.Endpoint{URL: url, Secrets: []string{secret("the first of two long secrets")}}
}

// newClient returns a Client that reaches the servers of a test.
func newClient(t *testing.T) *webhook.Client {
	t.Helper()
	client := webhook.NewClient(loopback())
	t.Cleanup(client.Close)
	return client
}

// newClientWithin is newClient with other timeouts.
func newClientWithin(t *testing.T, attempt, connect time.Duration) *webhook.Client {
	t.Helper()
	client := webhook.NewClientWithin(loopback(), attempt, connect)
	t.Cleanup(client.Close)
	return client
}

func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// hang is a handler that answers nothing until the Client has left.
func hang(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// answer is a handler with a fixed answer; header is a list of names and values.
func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// raw is a handler that writes text as its whole answer and then calls end with the connection.
func raw(text string, end func(*net.TCPConn)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		io.WriteString(conn, text)
		end(conn.(*net.TCPConn))
	}
}

// pack is text as gzip has it.
func pack(text string) string {
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	io.WriteString(writer, text)
	writer.Close()
	return packed.String()
}

func closeConn(conn *net.TCPConn) { conn.Close() }

func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

// waitForPeer keeps the connection until the other side closes it.
func waitForPeer(conn *net.TCPConn) {
	conn.SetReadDeadline(time.Now().Add(deadline))
	io.Copy(io.Discard, conn)
	conn.Close()
}

// A delivery is what a server received.
type delivery struct {
	header http.Header
	method string
	body   []byte
}

// record is a handler that accepts a delivery and hands it on.
func record(status int) (http.HandlerFunc, <-chan delivery) {
	deliveries := make(chan delivery, 10)
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		deliveries <- delivery{header: r.Header, method: r.Method, body: body}
		w.WriteHeader(status)
	}, deliveries
}

func receive(t *testing.T, deliveries <-chan delivery) delivery {
	t.Helper()
	select {
	case got := <-deliveries:
		return got
	default:
		t.Fatal("nothing was delivered")
	}
	return delivery{}
}

// verify checks a delivery like an endpoint with one secret.
func verify(t *testing.T, got delivery, secret string) {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(got.body, got.header); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got.body, message.Body) {
		t.Errorf("body %q, want %q", got.body, message.Body)
	}
}

func refusal(t *testing.T, err error) *webhook.Refusal {
	t.Helper()
	var refusal *webhook.Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("got %v, want a Refusal", err)
	}
	return refusal
}

func expectReason(t *testing.T, err error, want string) {
	t.Helper()
	if got := refusal(t, err).Reason; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
}
