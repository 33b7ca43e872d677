package webhook_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

const (
	deadline = 10 * time.Second
	// short is the timeout of a Client that is expected to run into it.
	short   = 200 * time.Millisecond
	private = "the address is private; --allow-webhooks-to lets it through"
)

var message = webhook.Message{ID: "msg_1", Body: []byte(`{"outcome":"refreshed"}`)}

// TestMain names a proxy that does not exist. net/http reads the environment once, so a single test
// could not set it.
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

// hang is a handler that answers nothing until the Client has gone.
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

// raw is a handler that writes text as its whole answer and does end to the connection.
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

// A delivery is what a server got.
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

// verify checks a delivery as an endpoint does that knows one secret.
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

func TestAcceptedMessageIsSigned(t *testing.T) {
	one, two := secret("the first of two long secrets"), secret("the second of two long secrets")
	for _, test := range []struct {
		name    string
		status  int
		secrets []string
	}{
		{"200", 200, []string{one}},
		{"204", 204, []string{one}},
		{"a secret that is being changed", 202, []string{one, two}},
	} {
		t.Run(test.name, func(t *testing.T) {
			handler, deliveries := record(test.status)
			server := serve(t, handler)
			endpoint := webhook.Endpoint{URL: server.URL + "/hook?token=t", Secrets: test.secrets}
			if err := newClient(t).Send(t.Context(), endpoint, message); err != nil {
				t.Fatal(err)
			}
			got := receive(t, deliveries)
			for _, secret := range test.secrets {
				verify(t, got, secret)
			}
			for name, want := range map[string]string{
				"webhook-id":      message.ID,
				"content-type":    "application/json",
				"user-agent":      "TinyDevCRM",
				"idempotency-key": "",
			} {
				if value := got.header.Get(name); value != want {
					t.Errorf("%s is %q, want %q", name, value, want)
				}
			}
			if got.method != http.MethodPost {
				t.Errorf("method %s, want POST", got.method)
			}
		})
	}
}

func TestMessageKeepsItsID(t *testing.T) {
	handler, deliveries := record(http.StatusOK)
	server := serve(t, handler)
	client := newClient(t)
	for range 2 {
		if err := client.Send(t.Context(), to(server.URL), message); err != nil {
			t.Fatal(err)
		}
		got := receive(t, deliveries)
		verify(t, got, secret("the first of two long secrets"))
		if id := got.header.Get("webhook-id"); id != message.ID {
			t.Errorf("webhook-id %q, want %q", id, message.ID)
		}
	}
}

func TestAnswers(t *testing.T) {
	date := func(in time.Duration) string { return time.Now().Add(in).UTC().Format(http.TimeFormat) }
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		want    webhook.Refusal
	}{
		{"500 with a body", answer(500, "boom"),
			webhook.Refusal{Reason: "500 Internal Server Error: boom"}},
		{"404 without a body", answer(404, ""), webhook.Refusal{Reason: "404 Not Found"}},
		{"a status without a name", answer(599, "boom"), webhook.Refusal{Reason: "599: boom"}},
		{"a body of several lines and odd bytes", answer(500, "\n a\x00b \xff\r\n\tc\u202e\x1b[1m"),
			webhook.Refusal{Reason: "500 Internal Server Error: a b \uFFFD c [1m"}},
		{"a long body", answer(500, strings.Repeat("é", 3000)),
			webhook.Refusal{Reason: "500 Internal Server Error: " + strings.Repeat("é", 100) + "…"}},
		{"a long body is cut between characters", answer(500, "a"+strings.Repeat("é", 3000)),
			webhook.Refusal{Reason: "500 Internal Server Error: a" + strings.Repeat("é", 99) + "…"}},
		{"a body that breaks off",
			raw("HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nboom", closeConn),
			webhook.Refusal{Reason: "500 Internal Server Error: boom"}},
		{"429 with seconds", answer(429, "", "Retry-After", "120"),
			webhook.Refusal{Reason: "429 Too Many Requests", RetryAfter: 2 * time.Minute}},
		{"500 with seconds", answer(500, "", "Retry-After", "120"),
			webhook.Refusal{Reason: "500 Internal Server Error", RetryAfter: 2 * time.Minute}},
		{"seconds below zero", answer(429, "", "Retry-After", "-5"),
			webhook.Refusal{Reason: "429 Too Many Requests"}},
		{"too many seconds", answer(429, "", "Retry-After", "86401"),
			webhook.Refusal{Reason: "429 Too Many Requests", RetryAfter: 24 * time.Hour}},
		{"more seconds than a number holds", answer(429, "", "Retry-After", "99999999999999999999"),
			webhook.Refusal{Reason: "429 Too Many Requests", RetryAfter: 24 * time.Hour}},
		{"503 with a date", answer(503, "", "Retry-After", date(time.Hour)),
			webhook.Refusal{Reason: "503 Service Unavailable", RetryAfter: time.Hour}},
		{"a date in the past", answer(503, "", "Retry-After", date(-time.Hour)),
			webhook.Refusal{Reason: "503 Service Unavailable"}},
		{"a date that is far away", answer(503, "", "Retry-After", date(1000*time.Hour)),
			webhook.Refusal{Reason: "503 Service Unavailable", RetryAfter: 24 * time.Hour}},
		{"neither seconds nor a date", answer(503, "", "Retry-After", "soon"),
			webhook.Refusal{Reason: "503 Service Unavailable"}},
		{"410", answer(410, ""), webhook.Refusal{Reason: "410 Gone", IsGone: true}},
		{"302", answer(302, "", "Location", "/elsewhere"), webhook.Refusal{Reason: "302 Found"}},
		{"304", answer(304, ""), webhook.Refusal{Reason: "304 Not Modified"}},
		{"307 to nowhere", answer(307, ""),
			webhook.Refusal{Reason: "307 Temporary Redirect: without a usable Location"}},
		{"308 to another scheme", answer(308, "", "Location", "ftp://127.0.0.1/?token=t"),
			webhook.Refusal{Reason: "308 Permanent Redirect: the URL is neither http nor https"}},
		{"307 with a password", answer(307, "", "Location", "http://u:p@127.0.0.1/"),
			webhook.Refusal{Reason: "307 Temporary Redirect: the URL has a user name or a password"}},
		{"307 to itself", answer(307, "", "Location", "/"), webhook.Refusal{Reason: "more than 3 redirects"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := serve(t, test.handler)
			got := refusal(t, newClient(t).Send(t.Context(), to(server.URL), message))
			// A date has whole seconds, and some time has passed since it was written.
			late := test.want.RetryAfter - got.RetryAfter
			if strings.Contains(test.name, "date") && late >= 0 && late <= 5*time.Second {
				got.RetryAfter = test.want.RetryAfter
			}
			if *got != test.want {
				t.Errorf("got %+v, want %+v", *got, test.want)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	listener.Close()

	tls := httptest.NewUnstartedServer(answer(200, ""))
	tls.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	tls.StartTLS()
	t.Cleanup(tls.Close)
	at := func(handler http.HandlerFunc) string { return serve(t, handler).URL + "/?token=t" }

	for _, test := range []struct {
		name, url, want string
	}{
		{"no answer", at(hang), "no answer within 200ms"},
		{"a reset", at(raw("", reset)), "connection reset by peer"},
		{"a close", at(raw("", closeConn)), "the connection was closed without an answer"},
		{"a close amid the header", at(raw("HTTP/1.1 200 OK\r\nA: b\r\n", closeConn)),
			"the connection was closed without an answer"},
		{"a header that is too long", at(raw("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 20<<10)+"\r\n\r\n", waitForPeer)),
			"net/http: server response headers exceeded 16384 bytes; aborted"},
		{"another protocol", at(raw("220 mail\n", closeConn)), `malformed HTTP status code "mail"`},
		{"a closed port", "http://" + closed + "/?token=t", "connection refused"},
		{"a port that does not exist", "http://127.0.0.1:99999/?token=t", "address 99999: invalid port"},
		// Two dots are refused before anybody is asked.
		{"a host that does not exist", "http://a..b/?token=t", "the host name cannot be resolved: no such host"},
		{"a certificate of nobody", tls.URL + "/?token=t",
			"x509: certificate signed by unknown authority"},
		{"https from a server without", strings.Replace(at(answer(200, "")), "http:", "https:", 1),
			"tls: first record does not look like a TLS handshake"},
	} {
		t.Run(test.name, func(t *testing.T) {
			timeout := deadline
			if test.name == "no answer" {
				timeout = short
			}
			err := newClientWithin(t, timeout, deadline).Send(t.Context(), to(test.url), message)
			expectReason(t, err, test.want)
		})
	}
}

func TestHandshakeIsBounded(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	err = newClientWithin(t, deadline, short).Send(t.Context(), to("https://"+listener.Addr().String()), message)
	expectReason(t, err, "no connection within 200ms")
}

// An answer is its status: what happens to the body afterwards does not take it back.
func TestBodyDoesNotChangeTheAnswer(t *testing.T) {
	endless := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			for {
				if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<10)); err != nil {
					return
				}
			}
		}
	}
	slow := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, "wait")
			w.(http.Flusher).Flush()
			hang(w, r)
		}
	}
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		timeout time.Duration
		want    string
	}{
		{"an endless body of a 200", endless(200), time.Minute, ""},
		{"an endless body of a 500", endless(500), time.Minute,
			"500 Internal Server Error: " + strings.Repeat("x", 200) + "…"},
		{"a body of a 200 that stops", slow(200), short, ""},
		{"a body of a 500 that stops", slow(500), short, "500 Internal Server Error: wait"},
		{"a 101 on a connection that stays open",
			raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", waitForPeer),
			short, "101 Switching Protocols"},
		{"a body of a 200 that breaks off", raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", reset), time.Minute, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := serve(t, test.handler)
			start := time.Now()
			err := newClientWithin(t, test.timeout, deadline).Send(t.Context(), to(server.URL), message)
			if took := time.Since(start); took > deadline {
				t.Errorf("took %v", took)
			}
			if test.want != "" {
				expectReason(t, err, test.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRedirectsThatKeepTheMethod(t *testing.T) {
	for _, status := range []int{307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			handler, deliveries := record(http.StatusOK)
			last := serve(t, handler)
			middle := serve(t, answer(status, "", "Location", last.URL))
			first := serve(t, answer(status, "", "Location", middle.URL))
			if err := newClient(t).Send(t.Context(), to(first.URL+"/?token=t"), message); err != nil {
				t.Fatal(err)
			}
			got := receive(t, deliveries)
			verify(t, got, secret("the first of two long secrets"))
			if got.method != http.MethodPost {
				t.Errorf("method %s, want POST", got.method)
			}
			if referer := got.header.Get("Referer"); referer != "" {
				t.Errorf("the last server is told of %s", referer)
			}
		})
	}
	t.Run("to a private address", func(t *testing.T) {
		server := serve(t, answer(307, "", "Location", "http://10.0.0.1/"))
		expectReason(t, newClient(t).Send(t.Context(), to(server.URL), message), private)
	})
	t.Run("three, and then one more", func(t *testing.T) {
		handler, deliveries := record(http.StatusOK)
		url := serve(t, handler).URL
		for range 3 {
			url = serve(t, answer(307, "", "Location", url)).URL
		}
		if err := newClient(t).Send(t.Context(), to(url), message); err != nil {
			t.Fatal(err)
		}
		receive(t, deliveries)
		url = serve(t, answer(307, "", "Location", url)).URL
		expectReason(t, newClient(t).Send(t.Context(), to(url), message), "more than 3 redirects")
	})
	t.Run("https to http", func(t *testing.T) {
		handler, deliveries := record(http.StatusOK)
		plain := serve(t, handler)
		secure := httptest.NewTLSServer(answer(307, "", "Location", plain.URL))
		defer secure.Close()
		roots := x509.NewCertPool()
		roots.AddCert(secure.Certificate())
		err := newClient(t).WithRoots(roots).Send(t.Context(), to(secure.URL), message)
		expectReason(t, err, "307 Temporary Redirect: it leaves https")
		if len(deliveries) != 0 {
			t.Error("the message went over http")
		}
	})
}

func TestPrivateAddressesAreRefused(t *testing.T) {
	// What is behind the port accepts, so that a case fails when its address is let through.
	server := serve(t, answer(200, ""))
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client := webhook.NewClient(nil)
	for _, host := range []string{
		"localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "169.254.169.254",
		"10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1",
		"255.255.255.255", "[fd00::1]", "[fe80::1]", "[fe80::1%25lo]", "[ff02::1]", "[64:ff9b::7f00:1]",
		"[64:ff9b:1::7f00:1]", "[2001:db8::1]", "[2002:7f00:1::]", "[2001::1]",
	} {
		t.Run(host, func(t *testing.T) {
			endpoint := to("http://" + host + ":" + port)
			expectReason(t, client.Send(t.Context(), endpoint, message), private)
		})
	}
	t.Run("an allowed prefix allows no other", func(t *testing.T) {
		expectReason(t, newClient(t).Send(t.Context(), to("http://10.0.0.1"), message), private)
	})
	t.Run("an allowed prefix of IPv6", func(t *testing.T) {
		listener, err := net.Listen("tcp6", "[::1]:0")
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(answer(200, ""))
		server.Listener.Close()
		server.Listener = listener
		server.Start()
		defer server.Close()
		client := webhook.NewClient([]netip.Prefix{netip.MustParsePrefix("::1/128")})
		defer client.Close()
		if err := client.Send(t.Context(), to(server.URL), message); err != nil {
			t.Error(err)
		}
	})
}

func TestBadEndpoints(t *testing.T) {
	handler, deliveries := record(http.StatusOK)
	server := serve(t, handler)
	good := secret("the first of two long secrets")
	const noSecret = "the secret is not whsec_ and base64"
	for _, test := range []struct {
		name, url string
		secrets   []string
		want      string
	}{
		{"user and password", "http://u:p@127.0.0.1/", []string{good}, "the URL has a user name or a password"},
		{"user", "http://u@127.0.0.1/", []string{good}, "the URL has a user name or a password"},
		{"ftp", "ftp://127.0.0.1/", []string{good}, "the URL is neither http nor https"},
		{"no scheme", "127.0.0.1/hook", []string{good}, "the URL is neither http nor https"},
		{"nothing", "", []string{good}, "the URL is neither http nor https"},
		{"no host", "http:///hook", []string{good}, "the URL has no host"},
		{"only a port", "http://:80/", []string{good}, "the URL has no host"},
		{"no slashes", "http:127.0.0.1", []string{good}, "the URL has no host"},
		{"garbage", "http://[::1/\x7f%zz", []string{good}, "the URL cannot be parsed"},
		{"no secret", server.URL, nil, "the endpoint has no secret"},
		{"a secret without prefix", server.URL, []string{strings.TrimPrefix(good, "whsec_")}, noSecret},
		{"a secret that is not base64", server.URL, []string{"whsec_hush!"}, noSecret},
		{"an empty secret", server.URL, []string{"whsec_"}, noSecret},
		{"a bad secret beside a good one", server.URL, []string{good, "hush"}, noSecret},
	} {
		t.Run(test.name, func(t *testing.T) {
			endpoint := webhook.Endpoint{URL: test.url, Secrets: test.secrets}
			expectReason(t, newClient(t).Send(t.Context(), endpoint, message), test.want)
		})
	}
	if len(deliveries) != 0 {
		t.Error("something was sent")
	}
}

func TestEndOfTheContextIsNotARefusal(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(context.Context) (context.Context, context.CancelFunc)
		want error
	}{
		{"cancelled", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			return ctx, cancel
		}, context.Canceled},
		{"out of time", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, short)
		}, context.DeadlineExceeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := test.end(t.Context())
			defer cancel()
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if test.want == context.Canceled {
					cancel()
				}
				hang(w, r)
			})
			err := newClient(t).Send(ctx, to(server.URL), message)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			var refusal *webhook.Refusal
			if errors.As(err, &refusal) {
				t.Errorf("%v is a Refusal", err)
			}
		})
	}
}

func TestConnectionIsUsedAgain(t *testing.T) {
	for _, status := range []int{200, 500} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			peers := make(chan string, 2)
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				peers <- r.RemoteAddr
				answer(status, "some words")(w, r)
			})
			client := newClient(t)
			for range 2 {
				if err := client.Send(t.Context(), to(server.URL), message); err != nil {
					expectReason(t, err, "500 Internal Server Error: some words")
				}
			}
			if first, second := <-peers, <-peers; first != second {
				t.Errorf("two connections, from %s and %s", first, second)
			}
		})
	}
}

// A connection that died while it was idle is the network's fault, not the endpoint's.
func TestDeadConnectionIsReplaced(t *testing.T) {
	var once sync.Once
	var first string
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { first = r.RemoteAddr })
		if r.RemoteAddr == first && r.Header.Get("webhook-id") != message.ID {
			raw("", closeConn)(w, r)
		}
	})
	client := newClient(t)
	if err := client.Send(t.Context(), to(server.URL), message); err != nil {
		t.Fatal(err)
	}
	if err := client.Send(t.Context(), to(server.URL), webhook.Message{ID: "msg_2"}); err != nil {
		t.Error(err)
	}
}

func TestSlowEndpointHoldsUpNobody(t *testing.T) {
	arrived := make(chan struct{})
	slow := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		hang(w, r)
	})
	quick := serve(t, answer(200, ""))
	client := newClient(t)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() {
		if err := client.Send(ctx, to(slow.URL), message); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v before it was cancelled", err)
		}
	})
	select {
	case <-arrived:
	case <-time.After(deadline):
		t.Fatal("nothing arrives")
	}
	if err := client.Send(t.Context(), to(quick.URL), message); err != nil {
		t.Error(err)
	}
}
