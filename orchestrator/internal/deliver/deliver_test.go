package deliver_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// recorder counts how often each event is handled.
type recorder struct {
	mu     sync.Mutex
	counts map[int64]int
}

func (r *recorder) handle(_ context.Context, event deliver.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = make(map[int64]int)
	}
	r.counts[event.ID]++
}

func (r *recorder) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.counts)
}

// start runs a Worker until the test ends.
func start(t *testing.T, pool *sql.DB, subscription string, handle func(context.Context, deliver.Event), wake <-chan int64) {
	t.Helper()
	worker := deliver.NewWorker(pool, subscription, handle, slog.New(slog.DiscardHandler))
	if err := worker.Subscribe(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx, wake) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
}

// Writers commit out of the order of their ids, because their transactions stay open for random times, and
// several workers share each subscription. No event is skipped, and none is handled twice.
func TestEveryEventReachesEverySubscription(t *testing.T) {
	const writers, perTransaction, workers = 8, 25, 4
	each := 12_500
	if testing.Short() {
		each = 1_250
		t.Logf("not run: %s with more than %d events", t.Name(), writers*each)
	}
	pool, databaseURL := dbtest.Schema(t)
	for writer := range writers {
		dbtest.Exec(t, pool, "select tinydevcrm.create_matview($1, 'select 1 as one')", string(rune('a'+writer)))
	}
	own, err := db.Open(t.Context(), databaseURL, 3*workers)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()

	wake := make(chan int64)
	recorders := map[string]*recorder{"one": {}, "two": {}, "three": {}}
	for name, recorder := range recorders {
		for range workers {
			start(t, own, name, recorder.handle, wake)
		}
	}

	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			for range each / perTransaction {
				if err := writeEvents(t.Context(), pool, string(rune('a'+writer)), perTransaction); err != nil {
					t.Error(err)
					return
				}
				select {
				case wake <- 1:
				default:
				}
			}
		})
	}
	group.Wait()

	for name, recorder := range recorders {
		dbtest.Eventually(t, 2*time.Minute, "all events reach "+name, func() bool {
			select {
			case wake <- 1:
			default:
			}
			return recorder.len() == writers*each
		})
		for id, count := range recorder.counts {
			if count != 1 {
				t.Errorf("%s got event %d %d times", name, id, count)
			}
		}
	}
	dbtest.Eventually(t, dbtest.Deadline, "all is acknowledged", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.deliveries where acknowledged_at is null") == 0
	})
}

// writeEvents writes notified events of one materialized view, as its refreshes would, in a transaction that
// stays open for a while.
func writeEvents(ctx context.Context, pool *sql.DB, matview string, count int) error {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, part := range []int{count / 2, count - count/2} {
		if _, err := tx.Exec(`
			insert into tinydevcrm.matview_refresh_events
			       (owner, matview_id, matview, outcome, is_notified, method, row_count, started_at, duration)
			select owner, id, current_schema() || '.' || relation, 'refreshed', true, 'plain', 1, clock_timestamp(), '0 s'
			  from tinydevcrm.matviews, generate_series(1, $2)
			 where relation = $1::text::regclass`, matview, part); err != nil {
			return err
		}
		if _, err := tx.Exec("select pg_sleep($1)", rand.Float64()/50); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func TestWhatHappenedMeanwhileIsFound(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('s')")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v') from generate_series(1, 250)")

	var recorder recorder
	start(t, pool, "s", recorder.handle, nil)
	dbtest.Eventually(t, dbtest.Deadline, "more than a batch is found without a wake-up", func() bool {
		return recorder.len() == 250
	})
}

func TestSubscriptionIsMadeAgain(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one')")
	var recorder recorder
	wake := make(chan int64, 1)
	start(t, pool, "s", recorder.handle, wake)
	dbtest.Exec(t, pool, "select tinydevcrm.drop_subscription('s')")
	wake <- 1
	dbtest.Eventually(t, dbtest.Deadline, "the subscription is back", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.subscriptions where name = 's'") == 1
	})
}

func TestLogLine(t *testing.T) {
	var out strings.Builder
	handle := deliver.ToLog(slog.New(slog.NewJSONHandler(&out, nil)))
	handle(t.Context(), deliver.Event{
		ID:         7,
		Matview:    "public.v",
		ScheduleID: sql.Null[int64]{V: 3, Valid: true},
		Outcome:    "refreshed",
		RowCount:   sql.Null[int64]{V: 1, Valid: true},
		AddedCount: sql.Null[int64]{V: 4, Valid: true}, RemovedCount: sql.Null[int64]{V: 3, Valid: true},
		UpdatedCount: sql.Null[int64]{V: 2, Valid: true},
		Rows:         json.RawMessage(`[{"n":5}]`),
		StartedAt:    time.Unix(0, 0).UTC(),
		Duration:     2500 * time.Microsecond,
	})
	for _, want := range []string{
		`"event_id":7`, `"matview":"public.v"`, `"outcome":"refreshed"`, `"row_count":1`,
		`"duration_ms":2.5`, `"rows":[{"n":5}]`, `"schedule_id":3`,
		`"added_count":4`, `"removed_count":3`, `"updated_count":2`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not in %s", want, out.String())
		}
	}
}

// writeLargeEvent writes an event as a malicious user can, with this many bytes of rows and a message.
func writeLargeEvent(t *testing.T, pool *sql.DB, bytes int, message string) {
	t.Helper()
	id := dbtest.Value[int64](t, pool, `
		insert into tinydevcrm.matview_refresh_events
		       (owner, matview_id, matview, outcome, is_notified, method, row_count, rows, is_cut, error_code, error_message, started_at, duration)
		select owner, id, 'v', case when $2 = '' then 'refreshed' else 'failed' end, true, case when $2 = '' then 'plain' end,
		       case when $2 = '' then 1 end,
		       case when $2 = '' then jsonb_build_array(jsonb_build_object('one', repeat('x', $1))) end, false,
		       case when $2 <> '' then 'P0001' end, nullif($2, ''), clock_timestamp(), '0 s'
		  from tinydevcrm.matviews
		 where relation = 'v'::regclass
		returning id`, bytes, message)
	// The log outlives the view.
	t.Cleanup(func() {
		if _, err := pool.Exec("delete from tinydevcrm.matview_refresh_events where id = $1", id); err != nil {
			t.Errorf("tidy up: %v", err)
		}
	})
}

// What a user makes large is cut before it is kept in memory and logged.
func TestLargeEventsAreCut(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one')")
	events, wake := make(chan deliver.Event, 10), make(chan int64, 1)
	start(t, pool, "s", func(_ context.Context, event deliver.Event) { events <- event }, wake)
	writeLargeEvent(t, pool, 100, "")
	writeLargeEvent(t, pool, 200_000, "")
	writeLargeEvent(t, pool, 0, strings.Repeat("x", 9000))
	wake <- 1

	small, large, failed := <-events, <-events, <-events
	if small.IsCut || len(small.Rows) < 100 {
		t.Errorf("of a small event: cut %t, rows %.200s", small.IsCut, small.Rows)
	}
	if !large.IsCut || large.Rows != nil {
		t.Errorf("of a large one: cut %t, %d bytes of rows", large.IsCut, len(large.Rows))
	}
	if got := len(failed.ErrorMessage.V); got != 8192 {
		t.Errorf("a message of %d bytes", got)
	}
}
