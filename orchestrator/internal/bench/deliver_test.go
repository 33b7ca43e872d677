//go:build bench

package bench

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
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

// TestDeliver is scripts/bench deliver [BEHIND [RUNS]]: deliveries a second that are received and acknowledged, with
// none and with BEHIND acknowledged ones in the table; the time from commit to log line, compared with a bare
// LISTEN/NOTIFY; and how long an event of 10,000 subscriptions takes, what another user's event takes meanwhile, and
// 10,000 events of one. The rates are compared with those of a queue of pgmq where TINYDEVCRM_BENCH_PGMQ is the path of
// its SQL: pgmq.sql of https://github.com/pgmq/pgmq.
func TestDeliver(t *testing.T) {
	most := sizeOf(t, 1_000_000)
	b := newBench(t)
	t.Setenv("TINYDEVCRM_TEST_URL", b.url)
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
		fillLog(t, pool, behind)
		vacuum(t, pool)
		say("with %d acknowledged deliveries behind", behind)
		measureRates(t, b, pool, workers)
		dbtest.Exec(t, pool, "select tinydevcrm.drop_subscription('bench')")
		measureLatency(t, pool, databaseURL)
	}
	measureFanOut(t, pool, databaseURL)
}

// fillLog adds acknowledged deliveries of the subscription bench, by which the queue was not used, and without triggers: with
// them ten million would take half an hour.
func fillLog(t *testing.T, pool *sql.DB, count int) {
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for _, statement := range []struct {
		text string
		args []any
	}{
		{"set local session_replication_role = replica", nil},
		{insertEvents, []any{count}},
		{`
			insert into tinydevcrm.deliveries (owner, subscription_id, event_id, matview_id, attempts, state, acknowledged_at)
			select events.owner, subscriptions.id, events.id, events.matview_id, 1, 'acknowledged', events.started_at
			  from tinydevcrm.matview_refresh_events as events, tinydevcrm.subscriptions
			 where subscriptions.name = 'bench'
			 order by events.id desc
			 limit $1`, []any{count}},
	} {
		if _, err := tx.ExecContext(t.Context(), statement.text, statement.args...); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func vacuum(t *testing.T, pool *sql.DB) {
	for _, table := range []string{"deliveries", "pending_deliveries", "matview_refresh_events", "subscriptions"} {
		dbtest.Exec(t, pool, "vacuum analyze tinydevcrm."+table)
	}
	dbtest.Exec(t, pool, "checkpoint")
}

// A queue is what workers take from in measureRates.
type queue struct {
	name string
	// fill adds rateEvents.
	fill func()
	// read takes up to 100 and returns their numbers, which end takes.
	read, end string
}

// ours is the subscription bench.
var ours = queue{
	name: "receive and acknowledge",
	read: "select delivery_id from tinydevcrm.receive_events('bench', 100)",
	end:  "select tinydevcrm.acknowledge_events($1)",
}

// rateEvents is how many deliveries are handled in each run of measureRates.
const rateEvents = 20_000

// measureRates measures how long 1 and 8 workers take that receive and acknowledge batches until none is left, and the
// CPU time of the server. Ours and that of pgmq take turns.
func measureRates(t *testing.T, b *bench, pool, workers *sql.DB) {
	queues := []queue{ours}
	queues[0].fill = func() { dbtest.Exec(t, pool, insertManyEvents, rateEvents) }
	if installPGMQ(t, b) {
		defer b.query("drop schema pgmq cascade")
		queues = append(queues, queue{
			name: "pgmq: read and archive",
			fill: func() {
				dbtest.Exec(t, pool, "select pgmq.send('bench', '{}') from generate_series(1, $1)", rateEvents)
			},
			read: "select msg_id from pgmq.read('bench', 30, 100)",
			end:  "select pgmq.archive('bench', $1::bigint[])",
		})
	}
	counts := []int{1, 8}
	took, cpu := make(times), make(times)
	for range runsOf(t) + 1 {
		for _, count := range counts {
			for _, queue := range queues {
				queue.fill()
				way := fmt.Sprint(queue.name, count)
				before, began := cpuOf(t, b.url), time.Now()
				empty(t, workers, count, queue)
				took[way] = append(took[way], time.Since(began).Seconds())
				cpu[way] = append(cpu[way], cpuOf(t, b.url)-before)
			}
		}
	}
	for _, queue := range queues {
		for _, count := range counts {
			way := fmt.Sprint(queue.name, count)
			// The first run warms up.
			took[way], cpu[way] = took[way][1:], cpu[way][1:]
			fmt.Printf("  %-24s %d workers %8.0f a second, %6.1f µs of the server's CPU each, %5.2f times one worker\n",
				queue.name, count, rateEvents/median(took[way]), median(cpu[way])/rateEvents*1e6,
				took.ratio(fmt.Sprint(queue.name, 1), way))
		}
	}
	for _, count := range counts[:len(counts)*(len(queues)-1)] {
		ours, theirs := fmt.Sprint(queues[0].name, count), fmt.Sprint(queues[1].name, count)
		fmt.Printf("  with %d workers %.2f times the rate of pgmq\n", count, took.ratio(theirs, ours))
	}
}

// installPGMQ reports whether there is a pgmq to compare with. A database has one queue of it.
func installPGMQ(t *testing.T, b *bench) bool {
	t.Helper()
	path := os.Getenv("TINYDEVCRM_BENCH_PGMQ")
	if path == "" {
		fmt.Println("  not compared with pgmq: TINYDEVCRM_BENCH_PGMQ is not set")
		return false
	}
	b.run("psql", b.url, "-Xqo", "/dev/null", "-v", "ON_ERROR_STOP=1", "-f", path, "-c", "select pgmq.create('bench')")
	return true
}

// empty lets workers take from a queue until nothing is left.
func empty(t *testing.T, workers *sql.DB, count int, queue queue) {
	t.Helper()
	var group sync.WaitGroup
	for range count {
		group.Go(func() {
			for {
				handled, err := handleBatch(t.Context(), workers, queue)
				if err != nil {
					t.Error(err)
				}
				if handled == 0 {
					return
				}
			}
		})
	}
	group.Wait()
}

func handleBatch(ctx context.Context, pool *sql.DB, queue queue) (int, error) {
	var ids []int64
	if err := pool.QueryRowContext(ctx, "select array("+queue.read+")").Scan(pq.Array(&ids)); err != nil || len(ids) == 0 {
		return 0, err
	}
	_, err := pool.ExecContext(ctx, queue.end, pq.Array(ids))
	return len(ids), err
}
