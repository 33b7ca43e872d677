package deliver_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// What is due behind a post of its view that has ended is posted at once, while a post of another view still runs.
func TestNothingWaitsForAPostOfAnotherView(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const within = 2 * time.Second // we look each five seconds
	t.Run("an event during a post", func(t *testing.T) {
		t.Parallel()
		pool := openWithWebhook(t, "quick", "slow")
		dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview(name) from unnest('{quick,slow}'::text[]) as name")
		arrived, isRecorded := make(chan struct{}, 10), make(chan struct{})
		startWebhooks(t, pool, func(ctx context.Context, _ webhook.Endpoint, message webhook.Message) error {
			arrived <- struct{}{}
			if strings.Contains(string(message.Body), `.slow"`) {
				<-ctx.Done()
				return ctx.Err()
			}
			<-isRecorded
			return nil
		}, nil)
		<-arrived
		<-arrived
		dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('quick')")
		close(isRecorded)
		began := time.Now()
		defer func() { t.Logf("after %s", time.Since(began)) }()
		dbtest.Eventually(t, within, "the next one of the quick view is posted", func() bool { return pending(t, pool) == 1 })
	})
	t.Run("the rest of a long run", func(t *testing.T) {
		t.Parallel()
		pool := openWithWebhook(t, "many", "slow", "third")
		dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('many') from generate_series(1, 30)")
		dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('slow')")
		wake := make(chan int64, 1)
		arrived, third := make(chan struct{}, 100), make(chan struct{}, 1)
		var isThird atomic.Bool
		startWebhooks(t, pool, func(ctx context.Context, _ webhook.Endpoint, message webhook.Message) error {
			switch body := string(message.Body); {
			case strings.Contains(body, `.slow"`):
				arrived <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			case strings.Contains(body, `.third"`):
				if isThird.CompareAndSwap(false, true) {
					close(third)
				}
			default:
				arrived <- struct{}{}
				<-third
			}
			return nil
		}, wake)
		<-arrived
		<-arrived
		dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('third')")
		wake <- 0
		<-third
		began := time.Now()
		defer func() { t.Logf("after %s", time.Since(began)) }()
		dbtest.Eventually(t, within, "the rest is posted", func() bool { return pending(t, pool) == 1 })
	})
}
