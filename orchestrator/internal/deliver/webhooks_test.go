package deliver_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

func TestWebhooksEndInTime(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const others, within = 100000, 15 * time.Second
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w', 'http://localhost/')")

	arrived := make(chan struct{}, 1)
	hang := func(ctx context.Context, _ webhook.Endpoint, _ webhook.Message) error {
		arrived <- struct{}{}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(dbtest.Deadline):
			return nil
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// Many other contexts are derived from ctx, so that Run sees its end well before all of them do.
	for range others {
		_, end := context.WithCancel(ctx)
		defer end()
	}
	ended := make(chan error, 1)
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	go func() { ended <- deliver.NewWebhooks(pool, hang, slog.New(slog.DiscardHandler)).Run(ctx, nil) }()
	select {
	case <-arrived:
	case <-time.After(dbtest.Deadline):
		t.Fatal("nothing is posted")
	}

	start := time.Now()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("webhooks: %v", err)
	}
	if took := time.Since(start); took > within {
		t.Errorf("it took %s to end, want %s at most", took, within)
	}
}

// Many webhooks of one owner to endpoints that hang do not delay those of other owners.
func TestHangingWebhooksHoldUpTheirOwnerAlone(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const hanging, within = 600, dbtest.Deadline
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('hangs ' || i, 'http://hangs.example/', 'v') from generate_series(1, $1) as i", hanging)
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('answers', 'http://answers.example/', 'v')")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	dbtest.Exec(t, pool, "update tinydevcrm.subscriptions set owner = 'pg_monitor' where name = 'answers'")
	dbtest.Exec(t, pool, "update tinydevcrm.webhooks set owner = 'pg_monitor' where url = 'http://answers.example/'")

	answered := make(chan struct{}, 1)
	post := func(ctx context.Context, to webhook.Endpoint, _ webhook.Message) error {
		if to.URL == "http://answers.example/" {
			answered <- struct{}{}
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- deliver.NewWebhooks(pool, post, slog.New(slog.DiscardHandler)).Run(ctx, nil) }()
	select {
	case <-answered:
	case <-time.After(within):
		t.Errorf("nothing is posted within %s", within)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("webhooks: %v", err)
	}
}

// Large messages of one owner use no more than a share of the memory at once.
func TestLargeMessagesTakeTurns(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const endpoints, size, most = 100, 3 << 19, 100 << 20
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w' || i, 'http://localhost/', 'v') from generate_series(1, $1) as i", endpoints)
	writeLargeEvent(t, pool, size, "")

	var held, greatest, came atomic.Int64
	post := func(ctx context.Context, _ webhook.Endpoint, message webhook.Message) error {
		now := held.Add(int64(len(message.Body)))
		defer held.Add(-int64(len(message.Body)))
		came.Add(1)
		for before := greatest.Load(); now > before && !greatest.CompareAndSwap(before, now); before = greatest.Load() {
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
			return nil
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- deliver.NewWebhooks(pool, post, slog.New(slog.DiscardHandler)).Run(ctx, nil) }()
	dbtest.Eventually(t, 4*dbtest.Deadline, "all are posted", func() bool { return came.Load() == endpoints })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("webhooks: %v", err)
	}
	if got := greatest.Load(); got > most {
		t.Errorf("%d bytes of messages were held at once, want %d at most", got, most)
	}
}
