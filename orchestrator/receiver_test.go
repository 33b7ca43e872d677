package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// upWithWebhooks are the arguments that let webhooks reach the receivers of a test.
var upWithWebhooks = []string{"up", "--listen-addr", "localhost:0", "--allow-webhooks-to", "127.0.0.0/8"}

// A request is what a receiver got, and the status of its answer; 0 while there is none.
type request struct {
	id      string
	eventID int64
	header  http.Header
	body    []byte
	at      time.Time
	status  int
}

func (r request) isAccepted() bool { return r.status >= 200 && r.status <= 299 }

// A receiver is the endpoint of a webhook. It records what it gets.
type receiver struct {
	url    string
	answer answer

	mu       sync.Mutex
	requests []request
}

// An answer returns the status, or 0 after it has handled the connection itself. Attempts at an id are numbered
// from 0.
type answer func(w http.ResponseWriter, r *http.Request, attempt int) int

func always(status int) answer {
	return func(http.ResponseWriter, *http.Request, int) int { return status }
}

func newReceiver(t *testing.T, answer answer) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = dbtest.ByName(server.URL)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, got *http.Request) {
	body, err := io.ReadAll(got.Body)
	if err != nil {
		// The sender was killed.
		return
	}
	var message struct {
		Data struct {
			ID int64 `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &message); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	id := got.Header.Get("webhook-id")

	r.mu.Lock()
	place, attempt := len(r.requests), 0
	for _, earlier := range r.requests {
		if earlier.id == id {
			attempt++
		}
	}
	r.requests = append(r.requests, request{id, message.Data.ID, got.Header, body, time.Now(), 0})
	r.mu.Unlock()

	status := r.answer(w, got, attempt)
	if status == 0 {
		return
	}
	r.mu.Lock()
	r.requests[place].status = status
	r.mu.Unlock()
	w.WriteHeader(status)
}

func (r *receiver) all() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// accepted returns how often each event was accepted.
func (r *receiver) accepted() map[int64]int {
	counts := make(map[int64]int)
	for _, request := range r.all() {
		if request.isAccepted() {
			counts[request.eventID]++
		}
	}
	return counts
}

// checkIDs requires an event to have one id, an id one event, and a repetition the same body.
func (r *receiver) checkIDs(t *testing.T) {
	t.Helper()
	bodies := make(map[string][]byte)
	for _, request := range r.all() {
		if want := fmt.Sprintf("event_%d", request.eventID); request.id != want {
			t.Errorf("event %d comes as %q, want %q", request.eventID, request.id, want)
		}
		if first, isRepeated := bodies[request.id]; isRepeated && !bytes.Equal(first, request.body) {
			t.Errorf("%s comes with another body:\n%s\n%s", request.id, first, request.body)
		}
		bodies[request.id] = request.body
	}
}

func isSignedBy(t *testing.T, request request, secret string) bool {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return verifier.Verify(request.body, request.header) == nil
}

// newWebhook creates a webhook of a receiver for all events, and returns the secret.
func newWebhook(t *testing.T, pool *sql.DB, name string, answer answer) (*receiver, string) {
	t.Helper()
	r := newReceiver(t, answer)
	return r, dbtest.Value[string](t, pool, "select tinydevcrm.create_webhook($1, $2)", name, r.url)
}

// newServer is a migrated server with a materialized view v that always notifies.
func newServer(t *testing.T) (*sql.DB, *dbtest.Server) {
	t.Helper()
	server := dbtest.NewMigrated(t)
	pool, err := db.Open(t.Context(), server.URL, db.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
	return pool, server
}

// createViews creates the materialized views v1, v2 … that always notify.
func createViews(t *testing.T, pool *sql.DB, count int) {
	t.Helper()
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v' || i, 'select 1 as one', 'always') from generate_series(1, $1::integer) as i", count)
}

func refresh(t *testing.T, pool *sql.DB) int64 {
	t.Helper()
	return dbtest.Value[int64](t, pool, "select id from tinydevcrm.refresh_matview('v')")
}

// hang answers nothing until the sender gives up.
func hang(_ http.ResponseWriter, r *http.Request, _ int) int {
	<-r.Context().Done()
	return 0
}

func reset(w http.ResponseWriter, _ *http.Request, _ int) int {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	return 0
}

func failTwice(_ http.ResponseWriter, _ *http.Request, attempt int) int {
	if attempt < 2 {
		return http.StatusInternalServerError
	}
	return http.StatusOK
}

// withHeader answers a status with one line of header.
func withHeader(status int, name, value string) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ int) int {
		w.Header().Set(name, value)
		return status
	}
}
