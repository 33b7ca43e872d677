//go:build bench

package bench

import (
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// manySubscriptions is how many subscriptions get an event, and how many events one subscription gets.
const manySubscriptions = 10_000

// measureFanOut measures 10,000 events of one subscription, the transaction of an event of 10,000 subscriptions, and what
// another user's event takes, alone and meanwhile.
func measureFanOut(t *testing.T, pool *sql.DB, databaseURL string) {
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('one')")
	manyEvents := make([]time.Duration, runsOf(t))
	for i := range manyEvents {
		manyEvents[i] = insertOne(t, pool, insertEvents, manySubscriptions)
	}
	fmt.Printf("  %d events of one subscription: %.0f a second\n", manySubscriptions, manySubscriptions/middle(manyEvents).Seconds())

	// Of a user who sees no event of ours: a superuser sees all.
	dbtest.Exec(t, pool, "create role bench_other login in role tinydevcrm_user")
	dbtest.Exec(t, pool, "create schema bench_other authorization bench_other")
	other, err := db.Open(t.Context(), dbtest.WithSearchPath(t, dbtest.AsRole(databaseURL, "bench_other"), "bench_other"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	dbtest.Exec(t, other, "select tinydevcrm.create_matview('v', 'select 1 as one')")
	dbtest.Exec(t, other, "select tinydevcrm.create_subscription('s' || i) from generate_series(1, $1) as i", manySubscriptions)

	var alone, meanwhile []time.Duration
	many := make([]time.Duration, runsOf(t))
	for i := range many {
		ended := make(chan time.Duration, 1)
		for range 100 {
			alone = append(alone, insertOne(t, pool, insertEvents, 1))
		}
		go func() { ended <- insertOne(t, other, refreshEvent) }()
		for many[i] == 0 {
			meanwhile = append(meanwhile, insertOne(t, pool, insertEvents, 1))
			select {
			case many[i] = <-ended:
			default:
			}
		}
	}
	fmt.Printf("  one event of %d subscriptions: %.2f s; another user's event takes %.1f ms, meanwhile %.1f ms (at most %.1f ms)\n",
		manySubscriptions, middle(many).Seconds(), milliseconds(middle(alone)), milliseconds(middle(meanwhile)),
		milliseconds(slices.Max(meanwhile)))
}

// refreshEvent is an event as a user's refresh writes it.
const refreshEvent = `
	insert into tinydevcrm.matview_refresh_events (matview_id, outcome, is_notified, method, row_count, duration)
	select id, 'refreshed', true, 'plain', 1, '0 s'
	  from tinydevcrm.matviews
	 where relation = 'v'::regclass`

func insertOne(t *testing.T, pool *sql.DB, statement string, args ...any) time.Duration {
	began := time.Now()
	dbtest.Exec(t, pool, statement, args...)
	return time.Since(began)
}

func middle(values []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
