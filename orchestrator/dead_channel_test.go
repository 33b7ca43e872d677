package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A crowded receiver notes which of the numbered rows it has got, and the longest pause between two of them.
type crowded struct {
	mu      sync.Mutex
	numbers map[string]int
	last    time.Time
	pause   time.Duration
}

var numbered = regexp.MustCompile(`number[-_\\]+(\d{4})`)

func (c *crowded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	found := numbered.FindSubmatch(body)
	if found == nil {
		http.Error(w, "no row", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last.IsZero() {
		c.pause = max(c.pause, time.Since(c.last))
	}
	c.last = time.Now()
	c.numbers[string(found[1])]++
	io.WriteString(w, `{"ok":true}`)
}

func (c *crowded) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.numbers)
}

// One of eight channels hangs: the others get 1,000 events in little memory, and none waits for as long as the dead one takes to be
// given up (15 s). When it answers again, it gets them too.
func TestADeadChannelDelaysNoOther(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const views, events, longestPause, mostMemory = 20, 1000, 10 * time.Second, 64 << 20
	pool, server := newServer(t)
	createViews(t, pool, views)

	paths := map[string]string{
		"slack": "/services", "discord": "/webhooks", "teams": "/workflows", "google_chat": "/messages", "ntfy": "/topic",
		"telegram": "/bot1/sendMessage?chat_id=1", "pagerduty": "/enqueue?routing_key=" + strings.Repeat("R", 32), "standard": "/in",
	}
	const dead = "google_chat"
	answers := make(chan struct{})
	receivers := make(map[string]*crowded)
	for format, path := range paths {
		receiver := &crowded{numbers: make(map[string]int)}
		receivers[format] = receiver
		endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if format == dead {
				select {
				case <-answers:
				case <-r.Context().Done():
					return
				}
			}
			receiver.ServeHTTP(w, r)
		}))
		t.Cleanup(endpoint.Close)
		dbtest.Exec(t, pool, "select tinydevcrm.create_webhook($1, $2, format => $1)", format, dbtest.ByName(endpoint.URL)+path)
	}
	t.Cleanup(sync.OnceFunc(func() {
		select {
		case <-answers:
		default:
			close(answers)
		}
	}))
	dbtest.Exec(t, pool, "update tinydevcrm.subscriptions set title = '{{row.code}}'")
	background(t, server.URL, upWithWebhooks...)

	memory := watchMemory(t)
	dbtest.Exec(t, pool, `
		insert into tinydevcrm.matview_refresh_events
		           (owner, matview_id, matview, outcome, is_notified, row_count, method, columns, rows, started_at, duration)
		select matviews.owner, matviews.id, matviews.relation::text, 'refreshed', true, 1, 'plain', '{code}',
		       jsonb_build_array(jsonb_build_object('code', 'number-' || to_char(n, 'FM0000'))), clock_timestamp(), '0'
		  from generate_series(1, $1::integer) as n
		  join tinydevcrm.matviews
		    on matviews.relation = ('v' || n % $2 + 1)::regclass`, events, views)
	start := time.Now()
	for format, receiver := range receivers {
		if format != dead {
			dbtest.Eventually(t, 4*dbtest.Deadline, format+" gets all", func() bool { return receiver.count() == events })
		}
	}
	t.Logf("seven channels have got %d events after %s", events, time.Since(start).Round(time.Millisecond))
	for format, receiver := range receivers {
		if receiver.pause > longestPause {
			t.Errorf("%s waited %s", format, receiver.pause)
		}
	}
	if got := receivers[dead].count(); got != 0 {
		t.Fatalf("the dead channel has got %d events: the others were not tried", got)
	}

	close(answers)
	dbtest.Exec(t, pool, "select tinydevcrm.retry_subscription($1)", dead)
	dbtest.Eventually(t, dbtest.Deadline, "the dead one gets all", func() bool { return receivers[dead].count() == events })
	dbtest.Eventually(t, dbtest.Deadline, "all is acknowledged", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.deliveries where acknowledged_at is null") == 0
	})
	if most := memory(); most > mostMemory {
		t.Errorf("the heap grew by %d MB", most>>20)
	} else {
		t.Logf("the heap grew by %d MB", most>>20)
	}
}

// watchMemory returns a function that ends the watch and says by how much the heap in use has grown at most.
func watchMemory(t *testing.T) (most func() int64) {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	before, done, samples := stats.HeapAlloc, make(chan struct{}), make(chan int64, 1)
	go func() {
		var grown []int64
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			runtime.ReadMemStats(&stats)
			grown = append(grown, int64(stats.HeapAlloc)-int64(before))
			select {
			case <-tick.C:
			case <-done:
				samples <- slices.Max(grown)
				return
			}
		}
	}()
	most = sync.OnceValue(func() int64 { close(done); return <-samples })
	t.Cleanup(func() { most() })
	return most
}
