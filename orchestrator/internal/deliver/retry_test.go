package deliver_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// These replace functions that the loops call. A sequence also counts calls that are rolled back.
const (
	deliveriesFail = `
		create or replace function tinydevcrm._receive_deliveries(subscription_id bigint, batch_size integer, visibility_timeout interval, run_length integer default null, places tid[] default null)
		    returns table (delivery_id bigint, attempt integer, event tinydevcrm.matview_refresh_events, superseded_by bigint, row_number integer, recipient text) language plpgsql as
		$$ begin perform nextval('public.attempts'); raise exception 'no' using errcode = '%s'; end $$`
	webhooksFail = `
		create or replace function tinydevcrm._list_due_webhooks()
		    returns table (subscription_id bigint, name text, owner oid, has_refused boolean) language plpgsql as
		$$ begin perform nextval('public.attempts'); raise exception 'no'; end $$`
	postsFail = `
		create or replace function tinydevcrm._receive_posts(subscription_id bigint, batch_size integer, visibility_timeout interval, run_length integer default null, shares_bodies boolean default false)
		    returns table (delivery_id bigint, matview_id bigint, message_id text, body json, url text, secrets text[], early interval, format text, headers jsonb, event_id bigint) language plpgsql as
		$$ begin perform nextval('public.attempts'); %s end $$`
)

// What fails, or has nothing to receive after all, is retried after growing pauses, however many wake-ups
// arrive meanwhile. Once it works again, the waiting events are delivered.
func TestFailuresAreTriedAgainAfterPauses(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	// The pauses are half a second, 1, 2 and 4, each at least half as long: an attempt at 3.75 s is the fifth.
	const watched, most = 4 * time.Second, 6
	for _, test := range []struct {
		name, function, broken string
		subscribe              string
		run                    func(*sql.DB, func()) func(context.Context, <-chan int64) error
	}{
		{"the log cannot receive", "_receive_deliveries", fmt.Sprintf(deliveriesFail, "P0001"),
			"select tinydevcrm.create_subscription('s')", runWorker},
		{"the log's subscription is not there", "_receive_deliveries", fmt.Sprintf(deliveriesFail, "TD001"),
			"select tinydevcrm.create_subscription('s')", runWorker},
		{"due webhooks cannot be looked for", "_list_due_webhooks", webhooksFail,
			"select tinydevcrm.create_webhook('s', 'http://localhost/')", runWebhooks},
		{"a webhook cannot be received", "_receive_posts", fmt.Sprintf(postsFail, "raise exception 'no';"),
			"select tinydevcrm.create_webhook('s', 'http://localhost/')", runWebhooks},
		{"a webhook has nothing to receive after all", "_receive_posts", fmt.Sprintf(postsFail, "return;"),
			"select tinydevcrm.create_webhook('s', 'http://localhost/')", runWebhooks},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.NewMigrated(t).Open()
			defer pool.Close()
			dbtest.Exec(t, pool, "create sequence public.attempts")
			dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
			whole := dbtest.Value[string](t, pool, "select pg_get_functiondef(('tinydevcrm.' || $1)::regproc)", test.function)
			dbtest.Exec(t, pool, test.broken)
			dbtest.Exec(t, pool, test.subscribe)
			dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")

			delivered := make(chan struct{}, 10)
			wake := make(chan int64, 1)
			ctx, cancel := context.WithCancel(t.Context())
			var group sync.WaitGroup
			group.Go(func() {
				if err := test.run(pool, func() { delivered <- struct{}{} })(ctx, wake); err != nil {
					t.Error(err)
				}
			})
			group.Go(func() {
				for ctx.Err() == nil {
					select {
					case wake <- 1:
						time.Sleep(time.Millisecond)
					case <-ctx.Done():
					}
				}
			})
			time.Sleep(watched)
			attempts := dbtest.Value[int](t, pool, "select last_value from public.attempts")
			if attempts < 2 || attempts > most {
				t.Errorf("%d attempts in %s, want 2 to %d", attempts, watched, most)
			}

			dbtest.Exec(t, pool, whole)
			select {
			case <-delivered:
			case <-time.After(dbtest.Deadline):
				t.Error("it does not go on")
			}
			cancel()
			group.Wait()
		})
	}
}

func runWorker(pool *sql.DB, delivered func()) func(context.Context, <-chan int64) error {
	handle := func(context.Context, deliver.Event) { delivered() }
	return deliver.NewWorker(pool, "s", handle, slog.New(slog.DiscardHandler)).Run
}

func runWebhooks(pool *sql.DB, delivered func()) func(context.Context, <-chan int64) error {
	post := func(context.Context, webhook.Endpoint, webhook.Message) error {
		delivered()
		return nil
	}
	return deliver.NewWebhooks(pool, post, slog.New(slog.DiscardHandler)).Run
}
