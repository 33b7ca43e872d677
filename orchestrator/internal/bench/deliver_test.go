//go:build bench

package bench

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"
	"golang.org/x/sync/errgroup"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/listen"
)

const insertEvents = `
	insert into tinydevcrm.matview_refresh_events
	       (owner, matview_id, matview, outcome, is_notified, method, row_count, started_at, duration)
	select owner, id, current_schema() || '.' || relation, 'refreshed', true, 'plain', 1, clock_timestamp(), '0 s'
	  from tinydevcrm.matviews, generate_series(1, $1)
	 where relation = 'v'::regclass`

// insertManyEvents spreads events over all views, because the events of one view are with one worker at a time.
const insertManyEvents = `
	insert into tinydevcrm.matview_refresh_events
	       (owner, matview_id, matview, outcome, is_notified, method, row_count, started_at, duration)
	select owner, id, current_schema() || '.' || relation, 'refreshed', true, 'plain', 1, clock_timestamp(), '0 s'
	  from generate_series(1, $1 / (select count(*) from tinydevcrm.matviews)),
	       tinydevcrm.matviews`

// TestDeliver is scripts/bench deliver [BEHIND]: the time from commit to log line, compared with a bare
// LISTEN/NOTIFY, and deliveries a second, with an empty table and with BEHIND acknowledged deliveries in it;
// also for a queue of pgmq, where that is installed.
func TestDeliver(t *testing.T) {
	most := sizeOf(t, 1_000_000)
	t.Setenv("TINYDEVCRM_TEST_URL", newBench(t).url)
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v' || i, 'select 1 as one') from generate_series(2, 50) as i")
	dbtest.Exec(t, pool, "create table plain (n integer)")
	workers, err := db.Open(t.Context(), databaseURL, 8)
	if err != nil {
		t.Fatal(err)
	}
	defer workers.Close()

	// Many events of one view in one transaction: the trigger that updates the registry for each would take minutes.
	dbtest.Exec(t, pool, "alter table tinydevcrm.matview_refresh_events disable trigger _500_remember")
	for _, behind := range []int{0, most} {
		dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('bench')")
		dbtest.Exec(t, pool, insertEvents, behind)
		dbtest.Exec(t, pool, "update tinydevcrm.deliveries set state = 'acknowledged'")
		vacuum(t, pool)
		fmt.Printf("with %d acknowledged deliveries behind\n", behind)
		measureRate(t, pool, workers, "receive and acknowledge", func() {
			dbtest.Exec(t, pool, insertManyEvents, rateEvents)
		}, "select delivery_id from tinydevcrm.receive_events('bench', 100)", "select tinydevcrm.acknowledge_events($1)")
		dbtest.Exec(t, pool, "select tinydevcrm.drop_subscription('bench')")
		measureLatency(t, pool, databaseURL)
	}
	measureQueue(t, pool, workers)
}

func vacuum(t *testing.T, pool *sql.DB) {
	for _, table := range []string{"deliveries", "matview_refresh_events", "subscriptions"} {
		dbtest.Exec(t, pool, "vacuum analyze tinydevcrm."+table)
	}
	dbtest.Exec(t, pool, "checkpoint")
}

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

// rateEvents is how many events are handled in each run of measureRate.
const rateEvents = 20_000

// measureRate measures how long workers take that receive and acknowledge batches until none is left.
func measureRate(t *testing.T, pool, workers *sql.DB, what string, fill func(), read, end string) {
	for _, count := range []int{1, 8} {
		fill()
		began := time.Now()
		var group sync.WaitGroup
		for range count {
			group.Go(func() {
				for {
					ids, err := handleBatch(t.Context(), workers, read, end)
					if err != nil {
						t.Error(err)
					}
					if ids == 0 {
						return
					}
				}
			})
		}
		group.Wait()
		fmt.Printf("  %-26s %8.0f a second with %d workers\n", what, rateEvents/time.Since(began).Seconds(), count)
	}
}

func handleBatch(ctx context.Context, pool *sql.DB, read, end string) (int, error) {
	var ids []int64
	if err := pool.QueryRowContext(ctx, "select array("+read+")").Scan(pq.Array(&ids)); err != nil || len(ids) == 0 {
		return 0, err
	}
	_, err := pool.ExecContext(ctx, end, pq.Array(ids))
	return len(ids), err
}

// measureQueue is measureRate for pgmq, where it is installed: https://github.com/pgmq/pgmq.
func measureQueue(t *testing.T, pool, workers *sql.DB) {
	var isThere bool
	if err := pool.QueryRow("select exists (select from pg_available_extensions where name = 'pgmq')").Scan(&isThere); err != nil {
		t.Fatal(err)
	}
	if !isThere {
		fmt.Println("pgmq is not installed: not compared with it")
		return
	}
	dbtest.Exec(t, pool, "create extension if not exists pgmq")
	dbtest.Exec(t, pool, "select pgmq.create('bench')")
	fmt.Println("pgmq")
	measureRate(t, pool, workers, "read and archive", func() {
		dbtest.Exec(t, pool, "select pgmq.send('bench', '{}') from generate_series(1, $1)", rateEvents)
	}, "select msg_id from pgmq.read('bench', 30, 100)", "select pgmq.archive('bench', $1::bigint[])")
	dbtest.Exec(t, pool, "drop extension pgmq")
}
