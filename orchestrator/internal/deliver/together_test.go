package deliver_test

import (
	"context"
	"database/sql"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// startWebhooks runs Webhooks until the test ends.
func startWebhooks(t *testing.T, pool *sql.DB, post deliver.PostFunc, wake <-chan int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- deliver.NewWebhooks(pool, post, slog.New(slog.DiscardHandler)).Run(ctx, wake) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("webhooks: %v", err)
		}
	})
}

// openWithWebhook opens a database of its own with these views, whose events a webhook gets.
func openWithWebhook(t *testing.T, views ...string) *sql.DB {
	t.Helper()
	pool := dbtest.NewMigrated(t).Open()
	t.Cleanup(func() { pool.Close() })
	for _, view := range views {
		dbtest.Exec(t, pool, "select tinydevcrm.create_matview($1, 'select 1 as one', 'always')", view)
	}
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w', 'http://localhost/')")
	return pool
}

func pending(t *testing.T, pool *sql.DB) int {
	return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.deliveries where acknowledged_at is null")
}

// countCalls counts the calls of a function by a sequence, public.calls, which counts what is rolled back too.
func countCalls(t *testing.T, pool *sql.DB, function string) func() int {
	t.Helper()
	dbtest.Exec(t, pool, "create sequence public.calls minvalue 0")
	dbtest.Exec(t, pool, "select nextval('public.calls')")
	whole := dbtest.Value[string](t, pool, "select pg_get_functiondef(('tinydevcrm.' || $1)::regproc)", function)
	dbtest.Exec(t, pool, strings.Replace(whole, "\nbegin\n", "\nbegin\n    perform nextval('public.calls');\n", 1))
	return func() int { return dbtest.Value[int](t, pool, "select last_value from public.calls") }
}

// Endpoints that have something to do at the same time share the statements.
func TestEndpointsReceiveAndRecordTogether(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const endpoints, events, most = 50, 20, 100
	for _, function := range []string{"_receive_posts_of", "_accept_posts"} {
		t.Run(function, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.NewMigrated(t).Open()
			defer pool.Close()
			dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
			dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w' || i, 'http://localhost/', 'v') from generate_series(1, $1) as i", endpoints)
			dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v') from generate_series(1, $1)", events)
			calls := countCalls(t, pool, function)
			var posts atomic.Int64
			startWebhooks(t, pool, func(context.Context, webhook.Endpoint, webhook.Message) error {
				posts.Add(1)
				return nil
			}, nil)
			dbtest.Eventually(t, dbtest.Deadline, "all is recorded", func() bool { return pending(t, pool) == 0 })
			if got := posts.Load(); got != endpoints*events {
				t.Errorf("%d posts, want %d", got, endpoints*events)
			}
			if got := calls(); got > most {
				t.Errorf("%d calls for %d posts, want %d at most", got, endpoints*events, most)
			}
		})
	}
}

// What follows a run that is recorded while the endpoint receives is posted at once, not when we look for it again.
func TestNothingWaitsBehindARunThatEndsMeanwhile(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const within = 3 * time.Second // we look each five seconds
	pool := openWithWebhook(t, "one", "many")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('one')")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('many') from generate_series(1, 9)")
	// It answers what was due when it began.
	whole := dbtest.Value[string](t, pool, "select pg_get_functiondef('tinydevcrm._receive_posts_of'::regproc)")
	dbtest.Exec(t, pool, strings.Replace(whole, "    end loop;\nend\n", "    end loop;\n    perform pg_sleep(0.3);\nend\n", 1))
	startWebhooks(t, pool, func(_ context.Context, _ webhook.Endpoint, message webhook.Message) error {
		if strings.Contains(string(message.Body), `.many"`) {
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	}, nil)
	dbtest.Eventually(t, within, "all is posted", func() bool { return pending(t, pool) == 0 })
}

// A delivery that its owner has locked is recorded later, and all others at once.
func TestALockedDeliveryHoldsUpItselfAlone(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const endpoints, within = 50, 5 * time.Second
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w' || i, 'http://localhost/', 'v') from generate_series(1, $1) as i", endpoints)
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")

	arrived, isLocked := make(chan struct{}, endpoints), make(chan struct{})
	var posts atomic.Int64
	startWebhooks(t, pool, func(context.Context, webhook.Endpoint, webhook.Message) error {
		posts.Add(1)
		arrived <- struct{}{}
		<-isLocked
		return nil
	}, nil)
	for range endpoints {
		<-arrived
	}
	tx, err := pool.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("select from tinydevcrm.deliveries where id = (select min(id) from tinydevcrm.deliveries) for update"); err != nil {
		t.Fatal(err)
	}
	close(isLocked)
	dbtest.Eventually(t, within, "all others are recorded", func() bool { return pending(t, pool) == 1 })
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, dbtest.Deadline, "it is recorded too", func() bool { return pending(t, pool) == 0 })
	if got := posts.Load(); got != endpoints {
		t.Errorf("%d posts, want %d", got, endpoints)
	}
}

// One endpoint that cannot be received delays no other one that would receive by the same statement.
func TestAnEndpointThatFailsIsReceivedAlone(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const endpoints = 20
	pool := dbtest.NewMigrated(t).Open()
	defer pool.Close()
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w' || i, 'http://localhost/', 'v') from generate_series(1, $1) as i", endpoints)
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	whole := dbtest.Value[string](t, pool, "select pg_get_functiondef('tinydevcrm._receive_posts'::regproc)")
	dbtest.Exec(t, pool, strings.Replace(whole, "\nbegin\n", `
begin
    if exists (select from tinydevcrm.subscriptions where id = _receive_posts.subscription_id and name = 'w7') then
        raise exception 'not this one';
    end if;
`, 1))
	startWebhooks(t, pool, func(context.Context, webhook.Endpoint, webhook.Message) error { return nil }, nil)
	dbtest.Eventually(t, dbtest.Deadline, "all others are recorded", func() bool { return pending(t, pool) == 1 })
}

// While posts hang, or are locked, nothing turns over and over.
func TestNothingSpinsWhilePostsHang(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const endpoints, watched, most = 20, 3 * time.Second, 5
	pool := dbtest.NewMigrated(t).Open()
	defer pool.Close()
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v' || i, 'select 1 as one', 'always') from generate_series(1, 10) as i")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w' || i, 'http://localhost/') from generate_series(1, $1) as i", endpoints)
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v' || i) from generate_series(1, 10) as i")
	calls := countCalls(t, pool, "_receive_posts_of")
	var running atomic.Int64
	startWebhooks(t, pool, func(ctx context.Context, _ webhook.Endpoint, _ webhook.Message) error {
		running.Add(1)
		<-ctx.Done()
		return ctx.Err()
	}, nil)
	dbtest.Eventually(t, dbtest.Deadline, "all lanes are taken", func() bool { return running.Load() == 4*endpoints })
	before, cpu := calls(), cpuTime(t)
	time.Sleep(watched)
	if got := calls() - before; got > most {
		t.Errorf("%d statements in %s while all is held, want %d at most", got, watched, most)
	}
	if got := cpuTime(t) - cpu; got > watched/4 {
		t.Errorf("%s of CPU time in %s while all is held", got, watched)
	}
}

// Who waits for a slow statement of others does not compute meanwhile.
func TestNothingSpinsWhileTheDatabaseIsSlow(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const endpoints, slow = 20, 3 * time.Second
	pool := dbtest.NewMigrated(t).Open()
	defer pool.Close()
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w' || i, 'http://localhost/') from generate_series(1, $1) as i", endpoints)
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	whole := dbtest.Value[string](t, pool, "select pg_get_functiondef('tinydevcrm._receive_posts_of'::regproc)")
	dbtest.Exec(t, pool, strings.Replace(whole, "\nbegin\n", "\nbegin\n    perform pg_sleep(3);\n", 1))
	cpu, began := cpuTime(t), time.Now()
	startWebhooks(t, pool, func(context.Context, webhook.Endpoint, webhook.Message) error { return nil }, nil)
	time.Sleep(slow)
	if got, took := cpuTime(t)-cpu, time.Since(began); got > took/4 {
		t.Errorf("%s of CPU time in %s of waiting", got, took)
	}
}

// What is received ahead of posts is given back when the program ends, with its attempt: another one need not wait for
// the visibility timeout.
func TestWhatIsReceivedAheadIsGivenBack(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const views, events = 20, 5
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v' || i, 'select 1 as one', 'always') from generate_series(1, $1) as i", views)
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w', 'http://localhost/')")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v' || i) from generate_series(1, $1) as i, generate_series(1, $2)", views, events)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var posts atomic.Int64
	post := func(context.Context, webhook.Endpoint, webhook.Message) error {
		if posts.Add(1) == 10 {
			cancel()
		}
		time.Sleep(20 * time.Millisecond)
		return nil
	}
	if err := deliver.NewWebhooks(pool, post, slog.New(slog.DiscardHandler)).Run(ctx, nil); err != nil {
		t.Fatal(err)
	}
	left := dbtest.Value[int](t, pool, `
		select count(*) from tinydevcrm.deliveries
		 where state = 'pending' and attempts = 0 and not is_in_flight and visible_at <= clock_timestamp()`)
	if got := int(posts.Load()); left != views*events-got || pending(t, pool) != left {
		t.Errorf("of %d, %d are posted, %d pending, and only %d as before", views*events, got, pending(t, pool), left)
	}
}
