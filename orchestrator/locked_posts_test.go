package main

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// A user who locks their deliveries while the outcomes of their posts are recorded holds up no other owner's.
func TestLockedDeliveriesHoldUpTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	const hooks = 60
	super, ann, eve := tenants(t)
	dbtest.Exec(t, super, "create role runner login in role tinydevcrm_orchestrator")
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
	pool := open(t, urlOf(t, super), "runner")
	webhooks := deliver.NewWebhooks(pool, post, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	wake := make(chan int64, 1)
	ended := make(chan error, 1)
	go func() { ended <- webhooks.Run(ctx, wake) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

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
