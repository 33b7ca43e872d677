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

// Writers that commit out of the order of their ids, because their transactions stay open for random
// times, and several workers for each subscription: none skips an event, and none gets one twice.
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

// writeEvents writes told events of one materialized view, as its refreshes would, in a transaction that
// stays open for a while in between.
func writeEvents(ctx context.Context, pool *sql.DB, matview string, count int) error {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, part := range []int{count / 2, count - count/2} {
		if _, err := tx.Exec(`
			insert into tinydevcrm.matview_refresh_events
			       (owner, matview_id, matview, outcome, is_told, method, row_count, started_at, duration)
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
		Rows:       json.RawMessage(`[{"n":5}]`),
		StartedAt:  time.Unix(0, 0).UTC(),
		Duration:   2500 * time.Microsecond,
	})
	for _, want := range []string{
		`"event_id":7`, `"matview":"public.v"`, `"outcome":"refreshed"`, `"row_count":1`,
		`"duration_ms":2.5`, `"rows":[{"n":5}]`, `"schedule_id":3`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not in %s", want, out.String())
		}
	}
}
