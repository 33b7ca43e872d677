package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

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
			webhook.Refusal{Status: 500, Reason: "500 Internal Server Error: boom"}},
		{"404 without a body", answer(404, ""), webhook.Refusal{Status: 404, Reason: "404 Not Found"}},
		{"a status without a name", answer(599, "boom"), webhook.Refusal{Status: 599, Reason: "599: boom"}},
		{"a body of several lines and odd bytes", answer(500, "\n a\x00b \xff\r\n\tc\u202e\x1b[1m"),
			webhook.Refusal{Status: 500, Reason: "500 Internal Server Error: a b \uFFFD c [1m"}},
		{"a long body", answer(500, strings.Repeat("é", 3000)),
			webhook.Refusal{Status: 500, Reason: "500 Internal Server Error: " + strings.Repeat("é", 100) + "…"}},
		{"a long body is cut between characters", answer(500, "a"+strings.Repeat("é", 3000)),
			webhook.Refusal{Status: 500, Reason: "500 Internal Server Error: a" + strings.Repeat("é", 99) + "…"}},
		{"a body that breaks off",
			raw("HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nboom", closeConn),
			webhook.Refusal{Status: 500, Reason: "500 Internal Server Error: boom"}},
		{"429 with seconds", answer(429, "", "Retry-After", "120"),
			webhook.Refusal{Status: 429, Reason: "429 Too Many Requests", RetryAfter: 2 * time.Minute}},
		{"500 with seconds", answer(500, "", "Retry-After", "120"),
			webhook.Refusal{Status: 500, Reason: "500 Internal Server Error", RetryAfter: 2 * time.Minute}},
		{"seconds below zero", answer(429, "", "Retry-After", "-5"),
			webhook.Refusal{Status: 429, Reason: "429 Too Many Requests"}},
		{"more than a day of seconds", answer(429, "", "Retry-After", "86401"),
			webhook.Refusal{Status: 429, Reason: "429 Too Many Requests", RetryAfter: 24*time.Hour + time.Second}},
		{"more seconds than a number holds", answer(429, "", "Retry-After", "99999999999999999999"),
			webhook.Refusal{Status: 429, Reason: "429 Too Many Requests", RetryAfter: math.MaxInt64 / time.Second * time.Second}},
		{"503 with a date", answer(503, "", "Retry-After", date(time.Hour)),
			webhook.Refusal{Status: 503, Reason: "503 Service Unavailable", RetryAfter: time.Hour}},
		{"a date in the past", answer(503, "", "Retry-After", date(-time.Hour)),
			webhook.Refusal{Status: 503, Reason: "503 Service Unavailable"}},
		{"a date that is far away", answer(503, "", "Retry-After", date(1000*time.Hour)),
			webhook.Refusal{Status: 503, Reason: "503 Service Unavailable", RetryAfter: 1000 * time.Hour}},
		{"neither seconds nor a date", answer(503, "", "Retry-After", "soon"),
			webhook.Refusal{Status: 503, Reason: "503 Service Unavailable"}},
		{"410", answer(410, ""), webhook.Refusal{Status: 410, Reason: "410 Gone"}},
		{"301", answer(301, "", "Location", "https://u:p@example.com/new?token=t#f"),
			webhook.Refusal{Status: 301, Reason: "301 Moved Permanently to https://example.com/new"}},
		{"302 with a body", answer(302, "moved", "Location", "https://example.com"),
			webhook.Refusal{Status: 302, Reason: "302 Found to https://example.com: moved"}},
		{"303 to nowhere", answer(303, ""), webhook.Refusal{Status: 303, Reason: "303 See Other"}},
		{"a packed body", answer(500, pack("boom"), "Content-Encoding", "gzip"),
			webhook.Refusal{Status: 500, Reason: "500 Internal Server Error: boom"}},
		{"a packed body that is cut", answer(500, pack("boom")[:16], "Content-Encoding", "gzip"),
			webhook.Refusal{Status: 500, Reason: "500 Internal Server Error: boom"}},
		{"a small body that unpacks to a large one", answer(500, pack(strings.Repeat("a", 1<<20)), "Content-Encoding", "gzip"),
			webhook.Refusal{Status: 500, Reason: "500 Internal Server Error: " + strings.Repeat("a", 200) + "…"}},
		{"a body that only claims to be packed", answer(500, "boom", "Content-Encoding", "gzip"),
			webhook.Refusal{Status: 500, Reason: "500 Internal Server Error: boom"}},
		{"304", answer(304, ""), webhook.Refusal{Status: 304, Reason: "304 Not Modified"}},
		{"307 to nowhere", answer(307, ""),
			webhook.Refusal{Reason: "307 Temporary Redirect: no usable Location"}},
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
			got.Body = ""
			if *got != test.want {
				t.Errorf("got %+v, want %+v", *got, test.want)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	tls := httptest.NewUnstartedServer(answer(200, ""))
	tls.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	tls.StartTLS()
	t.Cleanup(tls.Close)
	at := func(handler http.HandlerFunc) string { return serve(t, handler).URL + "/?token=t" }

	for _, test := range []struct {
		name, url, want string
	}{
		{"no answer", at(hang), "no answer within 500ms"},
		{"a reset", at(raw("", reset)), "connection reset by peer"},
		{"a close", at(raw("", closeConn)), "the connection was closed without an answer"},
		{"a close amid the header", at(raw("HTTP/1.1 200 OK\r\nA: b\r\n", closeConn)),
			"the connection was closed without an answer"},
		{"a header that is too long", at(raw("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 20<<10)+"\r\n\r\n", waitForPeer)),
			"net/http: server response headers exceeded 16384 bytes; aborted"},
		{"another protocol", at(raw("220 mail\n", closeConn)), `malformed HTTP status code "mail"`},
		{"a closed port", "http://127.0.0.1:1/?token=t", "connection refused"},
		{"a port that does not exist", "http://127.0.0.1:99999/?token=t", "address 99999: invalid port"},
		// Two dots are refused before a name server is asked.
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
	expectReason(t, err, "no connection within 500ms")
}

// An answer is its status: what happens to the body afterwards does not change it.
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

// A connection that died while it was idle is a fault of the network, not of the endpoint.
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

// The owner's headers go to the endpoint, to its own redirects, and to nobody else.
func TestHeadersAreForTheEndpointAlone(t *testing.T) {
	record, deliveries := record(http.StatusOK)
	other := serve(t, record)
	var own *httptest.Server
	own = serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/here":
			w.Header().Set("Location", own.URL+"/in")
			w.WriteHeader(http.StatusTemporaryRedirect)
		case "/away":
			w.Header().Set("Location", other.URL+"/in")
			w.WriteHeader(http.StatusTemporaryRedirect)
		default:
			record(w, r)
		}
	})
	for path, want := range map[string]string{"/in": "Bearer secret", "/here": "Bearer secret", "/away": ""} {
		endpoint := to(own.URL + path)
		endpoint.Headers = map[string]string{"Authorization": "Bearer secret", "User-Agent": "mine"}
		if err := newClient(t).Send(t.Context(), endpoint, message); err != nil {
			t.Fatal(err)
		}
		got := receive(t, deliveries)
		if got.header.Get("Authorization") != want || got.header.Get("Webhook-Signature") == "" {
			t.Errorf("%s: headers %v", path, got.header)
		}
	}
}

// A refusal that repeats the request, as some servers do, does not show what is secret in it.
func TestRefusalsHideSecrets(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "bad %s with %s and %s", r.URL, r.Header.Get("Authorization"), r.Header.Get("X-Key"))
	})
	endpoint := to(server.URL + "/bot1234:abcdefgh/send?token=t0ken-t0ken&verbose=1")
	endpoint.Headers = map[string]string{"Authorization": "Bearer very-secret", "X-Key": "0123456789"}
	expectReason(t, newClient(t).Send(t.Context(), endpoint, message), "400 Bad Request: bad /… with … and …")
}

// Without a secret a message is not signed.
func TestUnsigned(t *testing.T) {
	record, deliveries := record(http.StatusOK)
	if err := newClient(t).Send(t.Context(), webhook.Endpoint{URL: serve(t, record).URL}, message); err != nil {
		t.Fatal(err)
	}
	for name := range receive(t, deliveries).header {
		if strings.HasPrefix(name, "Webhook-") {
			t.Errorf("header %s", name)
		}
	}
}
