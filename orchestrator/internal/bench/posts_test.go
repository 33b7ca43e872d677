//go:build bench

package bench

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

const (
	postEndpoints = 200
	postViews     = 10
	// bareWorkers are those of the bare client. A second one has as many as there were posts at once.
	bareWorkers = 32
)

// TestPosts is scripts/bench posts [POSTS [RUNS]]: 10,000 posts to 200 endpoints that answer at once, after 20 ms and
// after 100 ms, compared with a bare Go client of 32 workers that sends the same bodies, and with one of as many workers
// as we had posts at once.
func TestPosts(t *testing.T) {
	count := sizeOf(t, 10_000)
	t.Setenv("TINYDEVCRM_TEST_URL", newBench(t).url)
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v' || i, 'select 1 as one') from generate_series(1, $1) as i", postViews)
	dbtest.Exec(t, pool, "select tinydevcrm._allow_webhook_networks('{127.0.0.0/8}')")
	for _, pause := range []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond} {
		r := newReceiver(t, pause)
		dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('hook ' || i, $1 || i) from generate_series(1, $2::integer) as i",
			r.URL+"/", postEndpoints)
		fmt.Printf("%d posts to %d endpoints that answer after %v\n", count, postEndpoints, pause)
		for range runsOf(t) {
			measurePosts(t, pool, databaseURL, r, count)
		}
		dbtest.Exec(t, pool, "select tinydevcrm.drop_subscription('hook ' || i) from generate_series(1, $1::integer) as i", postEndpoints)
	}
}

// measurePosts compares one backlog with the bare clients.
func measurePosts(t *testing.T, pool *sql.DB, databaseURL string, r *receiver, count int) {
	dbtest.Exec(t, pool, insertManyEvents, count/postEndpoints)
	vacuum(t, pool)
	before := transactions(t, pool)
	ours, memory := r.drain(t, databaseURL, count)
	dbtest.Eventually(t, dbtest.Deadline, "all is acknowledged", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.deliveries where acknowledged_at is null") == 0
	})
	// A session reports its transactions a second after its last one, or when it ends.
	used, atOnce, connections := transactions(t, pool)-before, int(r.most.Load()), r.opened.Load()
	fmt.Printf("  %6.0f posts/s, %d at once, %d connections, %d transactions, %d MB of memory at most\n",
		float64(count)/ours.Seconds(), atOnce, connections, used, memory>>20)
	for _, workers := range []int{bareWorkers, atOnce} {
		bare := r.bare(t, workers, count)
		fmt.Printf("  %6.0f by a bare client of %3d workers: %5.2f times\n",
			float64(count)/bare.Seconds(), workers, bare.Seconds()/ours.Seconds())
	}
}

func transactions(t *testing.T, pool *sql.DB) int {
	return dbtest.Value[int](t, pool, "select xact_commit from pg_stat_database where datname = current_database()")
}

// A receiver is the endpoints, and counts what they get.
type receiver struct {
	*httptest.Server
	pause                            time.Duration
	got, running, most, opened, want atomic.Int64
	all                              chan struct{}
	body                             []byte
	keep                             sync.Once
}

func newReceiver(t *testing.T, pause time.Duration) *receiver {
	r := &receiver{pause: pause, all: make(chan struct{}, 1)}
	r.Server = httptest.NewUnstartedServer(r)
	r.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			r.opened.Add(1)
		}
	}
	r.Start()
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	now := r.running.Add(1)
	defer r.running.Add(-1)
	for most := r.most.Load(); now > most && !r.most.CompareAndSwap(most, now); most = r.most.Load() {
	}
	body, _ := io.ReadAll(request.Body)
	r.keep.Do(func() { r.body = body })
	time.Sleep(r.pause)
	w.WriteHeader(http.StatusNoContent)
	if r.got.Add(1) == r.want.Load() {
		r.all <- struct{}{}
	}
}

func (r *receiver) expect(count int) {
	r.got.Store(0)
	r.most.Store(0)
	r.opened.Store(0)
	r.want.Store(int64(count))
}

// drain posts a backlog as the orchestrator does, and returns how long it took and how much memory the program had.
func (r *receiver) drain(t *testing.T, databaseURL string, count int) (took time.Duration, memory uint64) {
	own, err := db.Open(t.Context(), databaseURL, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	client := webhook.NewClient([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	r.expect(count)
	runtime.GC()
	ctx, cancel := context.WithCancel(t.Context())
	var group errgroup.Group
	began := time.Now()
	group.Go(func() error {
		return deliver.NewWebhooks(own, client.Send, slog.New(slog.DiscardHandler)).Run(ctx, make(chan int64))
	})
	for tick := time.NewTicker(50 * time.Millisecond); took == 0; {
		select {
		case <-r.all:
			took = time.Since(began)
		case <-tick.C:
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			memory = max(memory, stats.HeapInuse+stats.StackInuse)
		}
	}
	time.Sleep(200 * time.Millisecond)
	cancel()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	return took, memory
}

// bare sends the same bodies by a bare client.
func (r *receiver) bare(t *testing.T, workers, count int) time.Duration {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}}
	defer client.CloseIdleConnections()
	r.expect(count)
	var next atomic.Int64
	var group errgroup.Group
	began := time.Now()
	for range workers {
		group.Go(func() error {
			for i := next.Add(1); i <= int64(count); i = next.Add(1) {
				answer, err := client.Post(fmt.Sprintf("%s/%d", r.URL, 1+i%postEndpoints), "application/json", bytes.NewReader(r.body))
				if err != nil {
					return err
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	<-r.all
	return time.Since(began)
}
