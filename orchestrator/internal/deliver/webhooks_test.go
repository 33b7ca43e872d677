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

// Many webhooks of one owner to endpoints that hang hold up no other owner's.
func TestHangingWebhooksHoldUpTheirOwnerAlone(t *testing.T) {
	const hanging, within = 600, 20 * time.Second
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('hangs ' || i, 'http://hangs.example/', 'v') from generate_series(1, $1) as i", hanging)
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('answers', 'http://answers.example/', 'v')")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	dbtest.Exec(t, pool, "update tinydevcrm.subscriptions set owner = 'pg_monitor' where name = 'answers'")
	dbtest.Exec(t, pool, "update tinydevcrm.webhooks set owner = 'pg_monitor' where url = 'http://answers.example/'")

	answered := make(chan struct{}, 1)
	post := func(ctx context.Context, post deliver.Post) error {
		if post.URL == "http://answers.example/" {
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
