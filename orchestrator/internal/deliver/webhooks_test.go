package deliver_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
)

func TestWebhooksEndInTime(t *testing.T) {
	const others, within = 100000, 6 * time.Second
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w', 'http://localhost/')")

	arrived := make(chan struct{}, 1)
	hang := func(ctx context.Context, _ deliver.Post) error {
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
	// Much else hangs on ctx, so that Run sees its end well before all that does is told.
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
