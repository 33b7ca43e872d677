//go:build faults

package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A minute with a probe each second stands for ten minutes and more, in which the pauses grow to two minutes.
func TestABacklogOfTwentyThousandIsDelivered(t *testing.T) {
	checkOutage(t, 200, 100, time.Minute, 5*time.Millisecond, 0.9)
}

// Two programs share the work and are killed over and over, and some events are refused at first: each view's events
// are accepted in order, and none is lost.
func TestOrderHoldsWhenProgramsAreKilled(t *testing.T) {
	const views, each, kills = 20, 100, 10
	pool, server := newServer(t)
	createViews(t, pool, views)
	o, url := newOrderly(t, 5*time.Millisecond)
	o.refuses = func(id int64, attempt int) bool { return id%400 == 0 && attempt == 1 }
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w', $1)", dbtest.ByName(url))
	first, second := startService(t, server.URL), startService(t, server.URL)
	for range kills {
		fillBacklog(t, pool, each/kills)
		time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
		victim := []*service{first, second}[rand.IntN(2)]
		dbtest.Eventually(t, dbtest.Deadline, "the program runs", victim.kill)
	}
	// What a killed program had received is received again after a minute.
	dbtest.Eventually(t, 4*time.Minute, "all is delivered", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.deliveries join tinydevcrm.webhooks using (subscription_id) where acknowledged_at is null") == 0
	})
	repeats := o.checkOrder(t, views*each)
	t.Logf("fault: one of two programs is killed %d times: %d events in order per view, %d accepted once more", kills, views*each, repeats)
}
