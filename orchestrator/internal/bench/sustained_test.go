//go:build bench

package bench

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// sustainedBatch is how many events one statement of TestSustained adds.
const sustainedBatch = 5000

// TestSustained is scripts/bench sustained [EVENTS]: adds events for as long as it takes while two workers receive and
// acknowledge their deliveries and retention removes old ones, and says ten times how large the tables are. 18,000,000
// are an hour of 5,000 a second.
func TestSustained(t *testing.T) {
	count := sizeOf(t, 1_000_000)
	t.Setenv("TINYDEVCRM_TEST_URL", newBench(t).url)
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v' || i, 'select 1 as one') from generate_series(1, 50) as i")
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('bench')")
	dbtest.Exec(t, pool, "alter table tinydevcrm.matview_refresh_events disable trigger _500_remember")
	// Of each of the 50 views.
	dbtest.Exec(t, pool, "update tinydevcrm.settings set event_limit = 2000")
	workers, err := db.Open(t.Context(), databaseURL, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer workers.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for range cap(ended) {
		go func() { ended <- keepEmpty(ctx, workers) }()
	}

	fmt.Println("     events  a second  waiting   queue, dead rows, its index   log, dead rows, its indexes")
	began := time.Now()
	for added := 0; added < count; {
		part := time.Now()
		before := added
		for ; added < before+max(count/10, sustainedBatch); added += sustainedBatch {
			dbtest.Exec(t, pool, insertManyEvents, sustainedBatch)
			// No faster than they are taken, or the queue would grow.
			for isBehind(t, pool) {
				time.Sleep(10 * time.Millisecond)
			}
		}
		dbtest.Exec(t, pool, "call tinydevcrm.remove_expired()")
		fmt.Printf("  %9d  %8.0f  %s\n", added, float64(added-before)/time.Since(part).Seconds(), dbtest.Value[string](t, pool, sizes))
	}
	fmt.Printf("  %d events in %.0f s\n", count, time.Since(began).Seconds())
	stop()
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// sizes are the rows that wait, and the megabytes and dead rows of the queue and the log.
const sizes = `
	select format('%7s  %6s MB %9s %6s MB  %6s MB %9s %6s MB',
	           (select count(*) from tinydevcrm.pending_deliveries),
	           round(pg_relation_size(queue.relid) / 1048576.0, 1), queue.n_dead_tup, round(pg_indexes_size(queue.relid) / 1048576.0, 1),
	           round(pg_relation_size(log.relid) / 1048576.0, 1), log.n_dead_tup, round(pg_indexes_size(log.relid) / 1048576.0, 1))
	  from pg_stat_user_tables as queue, pg_stat_user_tables as log
	 where queue.relid = 'tinydevcrm.pending_deliveries'::regclass
	   and log.relid = 'tinydevcrm.deliveries'::regclass`

func isBehind(t *testing.T, pool *sql.DB) bool {
	return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.pending_deliveries") > 2*sustainedBatch
}

// keepEmpty receives and acknowledges until ctx ends.
func keepEmpty(ctx context.Context, pool *sql.DB) error {
	for ctx.Err() == nil {
		handled, err := handleBatch(ctx, pool, ours)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case handled == 0:
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}
