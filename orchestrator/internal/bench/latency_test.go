//go:build bench

package bench

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/lib/pq"
	"golang.org/x/sync/errgroup"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/listen"
)

// measureLatency measures the time from a commit to the log line. It alternates with the time from the commit
// of a transaction that writes a row and notifies to the notification in a listener of the same driver.
func measureLatency(t *testing.T, pool *sql.DB, databaseURL string) {
	logged := make(lines, 1)
	stop := logEvents(t, databaseURL, logged)
	defer stop()
	listener := pq.NewListener(databaseURL, time.Second, time.Second, nil)
	defer listener.Close()
	if err := listener.Listen("bare"); err != nil {
		t.Fatal(err)
	}

	const rounds = 1000
	ours, bare := make([]time.Duration, rounds), make([]time.Duration, rounds)
	for i := range rounds {
		ours[i] = afterCommit(t, pool, logged, insertEvents)
		bare[i] = afterCommit(t, pool, listener.Notify,
			"with written as (insert into plain values ($1) returning n) select pg_notify('bare', n::text) from written")
	}
	slices.Sort(ours)
	slices.Sort(bare)
	for _, percentile := range []int{50, 99} {
		one, other := ours[rounds*percentile/100], bare[rounds*percentile/100]
		fmt.Printf("  p%d from commit to log line  %8.2f ms, %5.2f times a bare LISTEN/NOTIFY\n", percentile,
			one.Seconds()*1000, one.Seconds()/other.Seconds())
	}
}

// lines is a writer that signals each written line.
type lines chan struct{}

func (l lines) Write(line []byte) (int, error) {
	l <- struct{}{}
	return len(line), nil
}

// logEvents does what orchestrator subscription receive does, until stop.
func logEvents(t *testing.T, databaseURL string, logged lines) (stop func()) {
	pool, err := db.Open(t.Context(), databaseURL, 1)
	if err != nil {
		t.Fatal(err)
	}
	worker := deliver.NewWorker(pool, "bench log", deliver.ToLog(slog.New(slog.NewJSONHandler(logged, nil))), slog.Default())
	if err := worker.Subscribe(t.Context()); err != nil {
		t.Fatal(err)
	}
	hub := listen.NewHub(db.Access{URL: databaseURL}, slog.New(slog.DiscardHandler))
	wake, cancel := hub.SubscribePromptly()
	ctx, end := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error { return hub.Run(ctx) })
	group.Go(func() error { return worker.Run(ctx, wake) })
	// The hub signals that it listens.
	time.Sleep(time.Second)
	return func() {
		end()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		cancel()
		dbtest.Exec(t, pool, "select tinydevcrm.drop_subscription('bench log')")
		pool.Close()
	}
}

// afterCommit is the time from before the commit until something arrives.
func afterCommit[T any](t *testing.T, pool *sql.DB, comes <-chan T, statement string) time.Duration {
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(statement, 1); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	<-comes
	return time.Since(began)
}
