package listen_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/listen"
)

// Others may use the channel too, and programs probe it. What is no id wakes nobody.
func TestForeignPayloadsAreIgnored(t *testing.T) {
	pool, url := dbtest.Schema(t)
	hub, _ := start(t, url)
	ids, cancel := hub.Subscribe()
	defer cancel()
	for _, payload := range []string{"probe:7", "changed", "hello", "", "-7", "7x", "9223372036854775808"} {
		dbtest.Exec(t, pool, "select pg_notify('matview_refresh_channel', $1)", payload)
	}
	dbtest.Exec(t, pool, "select pg_notify('matview_refresh_channel', '8')")
	if id := receive(t, ids); id != 8 {
		t.Errorf("got %d, want only 8", id)
	}
}

// A Hub whose notifications arrive finds that out and says nothing.
func TestProbeArrives(t *testing.T) {
	pool, url := dbtest.Schema(t)
	var log dbtest.Output
	hub := listen.NewHub(db.Access{URL: url}, slog.New(slog.NewTextHandler(&log, nil)))
	run(t, hub.Run)
	run(t, func(ctx context.Context) error { return hub.Probe(ctx, pool) })
	dbtest.Exec(t, pool, "delete from tinydevcrm.listeners")
	dbtest.Eventually(t, dbtest.Deadline, "the result is recorded", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.listeners where not is_deaf") == 1
	})
	if hub.State().IsDeaf || strings.Contains(log.String(), "arrive") {
		t.Errorf("it takes itself for deaf: %s", log.String())
	}
}

// While notifications do not arrive, subscribers are woken all the same; once they do, one line says so.
func TestDeafHub(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	pool, url := dbtest.Schema(t)
	server := dbtest.NewServer(t)
	// It sends its probes to another database than the one it listens on.
	other, err := db.Open(t.Context(), server.URL, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var log dbtest.Output
	hub := listen.NewHub(db.Access{URL: url}, slog.New(slog.NewTextHandler(&log, nil)))
	ids, cancel := hub.Subscribe()
	defer cancel()
	run(t, hub.Run)
	if id := receive(t, ids); id != listen.Missed {
		t.Fatalf("the first word is %d", id)
	}
	stop := run(t, func(ctx context.Context) error { return hub.Probe(ctx, other) })
	for i := range 2 {
		if id := receive(t, ids); id != listen.Missed {
			t.Errorf("wake-up %d is %d, want %d", i, id, listen.Missed)
		}
	}
	if !hub.State().IsDeaf {
		t.Error("it does not know that it is deaf")
	}
	stop()
	run(t, func(ctx context.Context) error { return hub.Probe(ctx, pool) })
	dbtest.Eventually(t, dbtest.Deadline, "it hears again", func() bool { return !hub.State().IsDeaf })
	for _, line := range []string{"notifications do not arrive", "notifications arrive again"} {
		dbtest.Eventually(t, dbtest.Deadline, line, func() bool { return strings.Contains(log.String(), line) })
		if count := strings.Count(log.String(), line); count != 1 {
			t.Errorf("%q is logged %d times, want once", line, count)
		}
	}
}

// run runs a loop until the test ends or the returned function is called.
func run(t *testing.T, loop func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- loop(ctx) }()
	hasStopped := false
	stop = func() {
		if hasStopped {
			return
		}
		hasStopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(fmt.Errorf("the loop: %w", err))
		}
	}
	t.Cleanup(stop)
	return stop
}
