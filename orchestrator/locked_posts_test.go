package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// startWebhooks posts as the orchestrator until the test ends, and looks for more when it is woken.
func startWebhooks(t *testing.T, super *sql.DB, post deliver.PostFunc) (wake chan<- int64) {
	t.Helper()
	dbtest.Exec(t, super, "create role runner login in role tinydevcrm_orchestrator")
	webhooks := deliver.NewWebhooks(open(t, urlOf(t, super), "runner"), post, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	woken, ended := make(chan int64, 1), make(chan error, 1)
	go func() { ended <- webhooks.Run(ctx, woken) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return woken
}

// A user who locks their deliveries while the outcomes of their posts are recorded holds up no other owner's.
func TestLockedDeliveriesHoldUpTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	const hooks = 60
	super, ann, eve := tenants(t)
	dbtest.Exec(t, eve, "select tinydevcrm.drop_subscription('mine')")
	dbtest.Exec(t, eve, "select tinydevcrm.create_webhook('hook' || i, 'https://eve.example/') from generate_series(1, $1::integer) as i", hooks)
	dbtest.Exec(t, ann, "select tinydevcrm.create_webhook('hook', 'https://ann.example/')")

	var posted atomic.Int32
	isLocked := make(chan struct{})
	post := func(_ context.Context, to webhook.Endpoint, _ webhook.Message) error {
		if strings.Contains(to.URL, "eve") {
			posted.Add(1)
			<-isLocked
		}
		return nil
	}
	wake := startWebhooks(t, super, post)

	dbtest.Exec(t, eve, "select tinydevcrm.refresh_matview('v')")
	wake <- 1
	dbtest.Eventually(t, dbtest.Deadline, "eve's endpoints have the event", func() bool { return posted.Load() == hooks })
	holding := held(t, eve, "select from tinydevcrm.deliveries for update")
	close(isLocked)
	dbtest.Exec(t, ann, "select tinydevcrm.refresh_matview('v')")
	began := time.Now()
	wake <- 1
	isRecorded := func(who string) func() bool {
		return func() bool {
			return dbtest.Value[bool](t, super, `
				select count(*) > 0 and bool_and(deliveries.acknowledged_at is not null)
				  from tinydevcrm.deliveries
				  join tinydevcrm.webhooks using (subscription_id)
				 where deliveries.owner = $1::regrole`, who)
		}
	}
	dbtest.Eventually(t, dbtest.Deadline, "ann's post is recorded", isRecorded("ann"))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("ann's post took %s", took)
	}
	if isRecorded("eve")() {
		t.Error("eve's posts were recorded, although they were locked")
	}
	if err := holding.Rollback(); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, dbtest.Deadline, "eve's posts are recorded", isRecorded("eve"))
	if posts := posted.Load(); posts != hooks {
		t.Errorf("%d posts to eve, want %d", posts, hooks)
	}
}

// lockCarried has eve lock what her deliveries carry, one for each of some webhooks, and returns the carrying ones.
func lockCarried(t *testing.T, eve *sql.DB, hooks int) []int64 {
	t.Helper()
	dbtest.Exec(t, eve, "select tinydevcrm.create_webhook('hook' || i, 'https://eve.example/') from generate_series(1, $1::integer) as i", hooks)
	dbtest.Exec(t, eve, "select tinydevcrm.create_matview('w', 'select 1 as n', 'always')")
	dbtest.Exec(t, eve, "select tinydevcrm.refresh_matview('v')")
	dbtest.Exec(t, eve, "select tinydevcrm.refresh_matview('w')")
	dbtest.Exec(t, eve, "update tinydevcrm.deliveries set is_gathered = true where event_id = (select min(event_id) from tinydevcrm.pending_deliveries)")
	// The next attempt parks the one that carries another, and so the other too.
	dbtest.Exec(t, eve, "update tinydevcrm.deliveries set attempts = 100, visible_at = clock_timestamp() where leader_event_id = event_id")
	carrying := dbtest.Column[int64](t, eve, `
		select carrying.id from tinydevcrm.deliveries as carrying
		  join tinydevcrm.deliveries as carried on (carried.leader_event_id, carried.subscription_id) = (carrying.event_id, carrying.subscription_id)
		  join tinydevcrm.webhooks on webhooks.subscription_id = carrying.subscription_id
		 where carried.id <> carrying.id`)
	if len(carrying) != hooks {
		t.Fatalf("%d deliveries carry others, want %d", len(carrying), hooks)
	}
	held(t, eve, "select from tinydevcrm.deliveries where leader_event_id <> event_id for update")
	return carrying
}

// A user who locks what a delivery of theirs carries, so that to receive that one would wait, delays no other owner's.
func TestLockedCarriedDeliveriesHoldUpTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	const within = 10 * time.Second
	super, ann, eve := tenants(t)
	dbtest.Exec(t, ann, "select tinydevcrm.create_webhook('hook', 'https://ann.example/')")
	lockCarried(t, eve, 4)

	posted := make(chan struct{}, 1)
	wake := startWebhooks(t, super, func(_ context.Context, to webhook.Endpoint, _ webhook.Message) error {
		if strings.Contains(to.URL, "ann") {
			posted <- struct{}{}
		}
		return nil
	})
	dbtest.Eventually(t, dbtest.Deadline, "eve's are to be received", func() bool {
		return dbtest.Value[bool](t, super, "select exists (select from pg_stat_activity where usename = 'runner' and query ~ '_receive_posts_of')")
	})
	dbtest.Exec(t, ann, "select tinydevcrm.refresh_matview('v')")
	wake <- 1
	select {
	case <-posted:
	case <-time.After(within):
		t.Fatalf("nothing is posted to ann within %s", within)
	}
}

// Nor does the orchestrator wait to park such a delivery.
func TestNobodyWaitsToParkLockedDeliveries(t *testing.T) {
	t.Parallel()
	super, _, eve := tenants(t)
	carrying := lockCarried(t, eve, 1)
	dbtest.Exec(t, super, "create role runner login in role tinydevcrm_orchestrator")
	began := time.Now()
	_, err := open(t, urlOf(t, super), "runner").ExecContext(t.Context(), `
		set statement_timeout = '5s';
		select tinydevcrm._refuse_post(subscription_id, id, 550, 'no', is_final => true)
		  from tinydevcrm.deliveries where id = `+fmt.Sprint(carrying[0]))
	if code := db.Explain(err).Code; code != "55P03" || time.Since(began) > time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}
