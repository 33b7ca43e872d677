package web_test

import (
	"context"
	"database/sql"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// withUsers is the page where everyone who gives a name is a user, on a pool that is not the page's own.
func withUsers(t *testing.T) (f *fixture, address string) {
	t.Helper()
	f = newFixture(t)
	config := f.config()
	config.Login = func(context.Context, string, string, string) (*sql.DB, func(), error) {
		return f.pool, func() {}, nil
	}
	shared, err := db.Open(t.Context(), dbtest.URL(t), db.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shared.Close() })
	config.Pool = shared
	server := httptest.NewServer(web.HandlerWithHeartbeat(config, heartbeat))
	t.Cleanup(server.Close)
	return f, server.URL
}

// getAs sends a request as a user, and returns the answer without reading it.
func getAs(ctx context.Context, t *testing.T, user, url string) *http.Response {
	request, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Error(err)
		return nil
	}
	request.SetBasicAuth(user, "any")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// A user whose reads are slow takes two connections of the pool that all users share, and no more.
func TestAUsersReadsTakeTwoConnections(t *testing.T) {
	f, address := withUsers(t)
	tx, err := f.pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("lock table tinydevcrm.matview_refresh_events in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	statuses := make(chan int, 10)
	var group sync.WaitGroup
	for range cap(statuses) {
		group.Go(func() {
			if response := getAs(t.Context(), t, "postgres", address+"/events"); response != nil {
				statuses <- response.StatusCode
			}
		})
	}
	dbtest.Eventually(t, deadline, "two wait for the lock", func() bool {
		return f.number("select count(*) from pg_locks where not granted and relation = 'tinydevcrm.matview_refresh_events'::regclass") == 2
	})
	for range 8 {
		select {
		case status := <-statuses:
			if status != http.StatusServiceUnavailable {
				t.Errorf("a further read: %d", status)
			}
		case <-time.After(deadline):
			t.Fatal("a further read does not end")
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	for range 2 {
		if status := <-statuses; status != http.StatusOK {
			t.Errorf("one of the two: %d", status)
		}
	}
}

// A user has fifty event streams. Another user has theirs beside them.
func TestAUserHasFiftyStreams(t *testing.T) {
	_, address := withUsers(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 51 {
		want := http.StatusOK
		if i == 50 {
			want = http.StatusServiceUnavailable
		}
		if response := getAs(ctx, t, "postgres", address+"/events/stream"); response == nil || response.StatusCode != want {
			t.Fatalf("stream %d: %v, want %d", i+1, response, want)
		}
	}
	if response := getAs(ctx, t, "pg_monitor", address+"/events"); response == nil || response.StatusCode == http.StatusServiceUnavailable {
		t.Errorf("another user: %v", response)
	}
}
