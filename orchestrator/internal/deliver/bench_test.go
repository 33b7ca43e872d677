package deliver_test

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
	       (owner, matview_id, matview, outcome, is_told, method, row_count, started_at, duration)
	select owner, id, current_schema() || '.' || relation, 'refreshed', true, 'plain', 1, clock_timestamp(), '0 s'
	  from tinydevcrm.matviews, generate_series(1, $1)
	 where relation = 'v'::regclass`

// BenchmarkDeliver prints what scripts/bench deliver is for: figures of whole runs, with nothing behind
// and with a million acknowledged deliveries. It takes no account of b.N: run it with -benchtime 1x.
func BenchmarkDeliver(b *testing.B) {
	pool, databaseURL := dbtest.Schema(b)
	dbtest.Exec(b, pool, "select tinydevcrm.create_matview('v', 'select 1 as one')")
	dbtest.Exec(b, pool, "create table plain (n integer)")
	// A million events of one view in one transaction are nothing that happens.
	dbtest.Exec(b, pool, "alter table tinydevcrm.matview_refresh_events disable trigger _500_remember")
	defer dbtest.Exec(b, pool, "alter table tinydevcrm.matview_refresh_events enable trigger _500_remember")
	workers, err := db.Open(b.Context(), databaseURL, 8)
	if err != nil {
		b.Fatal(err)
	}
	defer workers.Close()

	for _, behind := range []int{0, 1_000_000} {
		dbtest.Exec(b, pool, "select tinydevcrm.create_subscription('bench')")
		dbtest.Exec(b, pool, insertEvents, behind)
		dbtest.Exec(b, pool, "update tinydevcrm.deliveries set acknowledged_at = now()")
		vacuum(b, pool)
		fmt.Printf("with %d acknowledged deliveries behind\n", behind)
		measureRate(b, pool, workers, "receive and acknowledge", func() {
			dbtest.Exec(b, pool, insertEvents, rateEvents)
		}, "select delivery_id from tinydevcrm.receive_events('bench', 100)", "select tinydevcrm.acknowledge_events($1)")
		dbtest.Exec(b, pool, "select tinydevcrm.drop_subscription('bench')")
		measureLatency(b, pool, databaseURL)
	}
	measureQueue(b, pool, workers)
}

func vacuum(b *testing.B, pool *sql.DB) {
	for _, table := range []string{"deliveries", "matview_refresh_events", "subscriptions"} {
		dbtest.Exec(b, pool, "vacuum analyze tinydevcrm."+table)
	}
	dbtest.Exec(b, pool, "checkpoint")
}

// measureLatency takes the time from a commit to the log line, in turn with that from the commit of a
// transaction that writes a row and notifies to the notification in a listener of the same driver.
func measureLatency(b *testing.B, pool *sql.DB, databaseURL string) {
	logged := make(lines, 1)
	stop := logEvents(b, databaseURL, logged)
	defer stop()
	listener := pq.NewListener(databaseURL, time.Second, time.Second, nil)
	defer listener.Close()
	if err := listener.Listen("bare"); err != nil {
		b.Fatal(err)
	}

	const rounds = 1000
	ours, bare := make([]time.Duration, rounds), make([]time.Duration, rounds)
	for i := range rounds {
		ours[i] = afterCommit(b, pool, logged, insertEvents)
		bare[i] = afterCommit(b, pool, listener.Notify,
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

// lines is a writer that says when a line has been written.
type lines chan struct{}

func (l lines) Write(line []byte) (int, error) {
	l <- struct{}{}
	return len(line), nil
}

// logEvents does what orchestrator listen does, until stop.
func logEvents(b *testing.B, databaseURL string, logged lines) (stop func()) {
	pool, err := db.Open(b.Context(), databaseURL, 1)
	if err != nil {
		b.Fatal(err)
	}
	worker := deliver.NewWorker(pool, "bench log", deliver.ToLog(slog.New(slog.NewJSONHandler(logged, nil))), slog.Default())
	if err := worker.Subscribe(b.Context()); err != nil {
		b.Fatal(err)
	}
	hub := listen.NewHub(databaseURL, slog.New(slog.DiscardHandler))
	wake, cancel := hub.Subscribe()
	ctx, end := context.WithCancel(b.Context())
	var group errgroup.Group
	group.Go(func() error { return hub.Run(ctx) })
	group.Go(func() error { return worker.Run(ctx, wake) })
	// The hub says so when it listens.
	time.Sleep(time.Second)
	return func() {
		end()
		if err := group.Wait(); err != nil {
			b.Error(err)
		}
		cancel()
		dbtest.Exec(b, pool, "select tinydevcrm.drop_subscription('bench log')")
		pool.Close()
	}
}

// afterCommit is the time from before the commit until something comes.
func afterCommit[T any](b *testing.B, pool *sql.DB, comes <-chan T, statement string) time.Duration {
	tx, err := pool.BeginTx(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(statement, 1); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
	<-comes
	return time.Since(began)
}

// rateEvents are handled in each run of measureRate.
const rateEvents = 20_000

// measureRate takes the time that workers need who read a batch and end it, until there is nothing left.
func measureRate(b *testing.B, pool, workers *sql.DB, what string, fill func(), read, end string) {
	for _, count := range []int{1, 8} {
		fill()
		began := time.Now()
		var group sync.WaitGroup
		for range count {
			group.Go(func() {
				for {
					ids, err := handleBatch(b.Context(), workers, read, end)
					if err != nil {
						b.Error(err)
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
func measureQueue(b *testing.B, pool, workers *sql.DB) {
	var isThere bool
	if err := pool.QueryRow("select exists (select from pg_available_extensions where name = 'pgmq')").Scan(&isThere); err != nil {
		b.Fatal(err)
	}
	if !isThere {
		fmt.Println("pgmq is not installed: not compared with it")
		return
	}
	dbtest.Exec(b, pool, "create extension if not exists pgmq")
	dbtest.Exec(b, pool, "select pgmq.create('bench')")
	fmt.Println("pgmq")
	measureRate(b, pool, workers, "read and archive", func() {
		dbtest.Exec(b, pool, "select pgmq.send('bench', '{}') from generate_series(1, $1)", rateEvents)
	}, "select msg_id from pgmq.read('bench', 30, 100)", "select pgmq.archive('bench', $1::bigint[])")
	dbtest.Exec(b, pool, "drop extension pgmq")
}
