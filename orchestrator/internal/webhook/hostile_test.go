package webhook_test

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// Whatever a server with HTTP/2 does to a post, the post ends as a refusal in time, and the next one to that server works.
func TestHostileHTTP2(t *testing.T) {
	const within = 2 * time.Second
	for name, handle := range map[string]http.HandlerFunc{
		"resets the stream": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"answers 103 for ever": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.WriteHeader(http.StatusEarlyHints)
			}
		},
		"sends very long headers": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", strings.Repeat("x", 4<<20)) },
		"sends very many headers": func(w http.ResponseWriter, _ *http.Request) { w.Header()["X-Many"] = make([]string, 100_000) },
		"hangs":                   func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"ends the connection (500)": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			w.WriteHeader(500)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := serveHTTP2Within(t, within, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/good" {
					return
				}
				handle(w, r)
			})
			for range 2 {
				began := time.Now()
				var refusal *webhook.Refusal
				if err := client.Send(t.Context(), of(1, server.URL+"/bad"), message); !errors.As(err, &refusal) {
					t.Errorf("got %v, want a refusal", err)
				}
				if took := time.Since(began); took > 5*within {
					t.Errorf("it took %s", took)
				}
				if err := client.Send(t.Context(), of(1, server.URL+"/good"), message); err != nil {
					t.Errorf("the next post: %v", err)
				}
			}
			if open := client.Open(); open > 2 {
				t.Errorf("%d connections are open", open)
			}
		})
	}
}

// serveHTTP2Within is serveHTTP2 with a Client of other timeouts.
func serveHTTP2Within(t *testing.T, within time.Duration, handler http.HandlerFunc) (*httptest.Server, *webhook.Client) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server, newClientWithin(t, within, within).WithRoots(roots)
}
