//go:build soak

package soak

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

const (
	// usualMinutes is the length of a run unless TINYDEVCRM_SOAK_MINUTES is set. They simulate an hour.
	usualMinutes = 20
	sampleEvery  = 10 * time.Second
	// maxConnections is the limit that README.md promises for a program without users, metrics included.
	maxConnections = 15
)

// A pace is how fast the hour passes.
type pace struct {
	total time.Duration
	// settled is the time after which everything must be flat: ten minutes, or half of a run shorter than
	// twenty.
	settled time.Duration
	// naps is the pause of Postgres's autovacuum, which is a minute in a real hour.
	naps time.Duration
	// retention is how long events, job runs and imports are kept. Pending deliveries are kept half as long
	// again.
	retention time.Duration
}

func newPace(t *testing.T) pace {
	t.Helper()
	minutes := float64(usualMinutes)
	if value := os.Getenv("TINYDEVCRM_SOAK_MINUTES"); value != "" {
		var err error
		if minutes, err = strconv.ParseFloat(value, 64); err != nil || minutes < 4 {
			t.Fatalf("TINYDEVCRM_SOAK_MINUTES is %q; give a number of minutes, 4 or more", value)
		}
	}
	total := time.Duration(minutes * float64(time.Minute))
	settled := min(10*time.Minute, total/2)
	return pace{
		total:     total,
		settled:   settled,
		naps:      max(time.Second, min(time.Minute, total/60)),
		retention: settled * 2 / 5,
	}
}

// TestSoak simulates an hour of a busy installation in twenty minutes, or in TINYDEVCRM_SOAK_MINUTES. It
// requires its use of resources to be flat from the tenth minute on (in a run shorter than twenty, from its
// half): memory, file descriptors, goroutines, connections, tables and indexes, catalogs, files, and pg_cron's
// rows.
//
// What is faster than in reality, for the usual twenty minutes: autovacuum and checkpoints three times (20 s
// instead of a minute, a minute instead of five); retention runs each minute instead of ten; events are kept
// four minutes instead of thirty days, so that the log has its full length at minute five. Views are refreshed
// every one or two seconds, and page, uploads, schedules, subscriptions, webhooks and workers are used several
// times a second: see work_test.go.
//
// Two programs share the work. One is never killed, and its process is measured. The other is killed each
// minute. A backend is terminated every twenty seconds. Every 200 seconds a backend is killed, which makes
// Postgres restart, and every ten minutes the whole server is killed.
func TestSoak(t *testing.T) {
	speed := newPace(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("%s, settled at %s, seed %d", speed.total, speed.settled, seed)
	server := dbtest.NewServer(t)
	binary := build(t)
	pool := prepare(t, server, binary, speed)

	steady := startProgram(t, binary, server.URL, "steady", false)
	fragile := startProgram(t, binary, server.URL, "fragile", true)
	steady.waitReady(t)
	fragile.waitReady(t)

	work := newWorkload(t, pool, []string{steady.page, fragile.page}, seed)
	work.start(t)
	watch := newWatch(t, pool, steady)
	harm := &trouble{t: t, server: server, pool: pool, fragile: fragile, steady: steady, kinds: make(map[string]int),
		chance: rand.New(rand.NewPCG(seed, 2))}
	samples := soak(t, speed, watch, harm)
	work.end()

	t.Logf("done:\n%s", work.tally.table())
	t.Logf("broken: %v; the fragile program was started %d times", harm.kinds, fragile.started())
	for _, program := range []*program{steady, fragile} {
		t.Logf("complaints of the %s program: %v", program.name, program.complaints(t))
	}
	work.checkAllWasDone(t)
	checkVerdicts(t, speed, samples)
	checkNothingIsLeft(t, pool)
	fragile.end(t)
	steady.end(t)
}

// soak takes samples, and causes faults in between, until time is up.
func soak(t *testing.T, speed pace, watch *watch, harm *trouble) []sample {
	t.Helper()
	began := time.Now()
	ticks := time.NewTicker(sampleEvery)
	defer ticks.Stop()
	var samples []sample
	for count := 0; ; count++ {
		taken := watch.take(t.Context(), time.Since(began))
		samples = append(samples, taken)
		if of := taken.values["connections of the program"]; of > maxConnections {
			t.Errorf("after %s the program has %.0f connections, more than %d", taken.at, of, maxConnections)
		}
		if taken.at >= speed.total {
			return samples
		}
		harm.do(count)
		select {
		case <-ticks.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// prepare migrates the server and speeds up its upkeep.
func prepare(t *testing.T, server *dbtest.Server, binary string, speed pace) *sql.DB {
	t.Helper()
	run(t, server.URL, binary, "migrate", "up")
	pool, err := db.Open(t.Context(), server.URL+"&application_name=test", db.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })

	dbtest.Exec(t, pool, `
		update tinydevcrm.settings
		   set event_retention = make_interval(secs => $1),
		       job_run_retention = make_interval(secs => $1),
		       import_retention = make_interval(secs => $1),
		       delivery_retention = make_interval(secs => $1 * 1.5)`, speed.retention.Seconds())
	dbtest.Exec(t, pool, "select cron.schedule('tinydevcrm retention', '* * * * *', 'call tinydevcrm.remove_expired()')")
	for name, value := range map[string]string{
		"autovacuum_naptime": fmt.Sprintf("%.0fs", speed.naps.Seconds()),
		"checkpoint_timeout": fmt.Sprintf("%.0fs", max(30, 3*speed.naps.Seconds())),
		// The limits are so low that both are reached soon, and stay so.
		"shared_buffers": "32MB",
		"max_wal_size":   "128MB",
	} {
		dbtest.Exec(t, pool, fmt.Sprintf("alter system set %s = '%s'", name, value))
	}
	server.Stop()
	server.Start()
	dbtest.Eventually(t, dbtest.Deadline, "the server answers", func() bool { return pool.PingContext(t.Context()) == nil })
	return pool
}

// checkVerdicts prints what was measured and requires all of it to be flat.
func checkVerdicts(t *testing.T, speed pace, samples []sample) {
	t.Helper()
	verdicts := judge(samples, speed.settled, allowanceOf)
	var table strings.Builder
	if err := writeVerdicts(&table, speed.settled, verdicts); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d samples:\n%s", len(samples), table.String())
	seen := make(map[string]bool)
	for _, verdict := range verdicts {
		seen[verdict.name] = true
		if !verdict.isFlat {
			t.Errorf("%s is not flat: %.0f %s once settled, %.0f at the end",
				verdict.name, verdict.settled, verdict.unit, verdict.end)
		}
	}
	for _, name := range wantedMeasures() {
		if !seen[name] {
			t.Errorf("%s was never seen", name)
		}
	}
}

// checkNothingIsLeft requires that the log and the webhook that always answers have received everything, and
// that no trace of interrupted work is left.
func checkNothingIsLeft(t *testing.T, pool *sql.DB) {
	t.Helper()
	dbtest.Exec(t, pool, "select tinydevcrm.unschedule_matview(relation) from tinydevcrm.matviews where schedule_id is not null")
	// A killed program's claims end after a minute.
	dbtest.Eventually(t, 5*time.Minute, "what has happened is delivered", func() bool {
		waiting, err := waitingFor(t.Context(), pool, "log", steadyHook)
		return err == nil && waiting == 0
	})
	if lost := dbtest.Value[int64](t, pool, `
		select coalesce(sum(expired_count), 0)
		  from tinydevcrm.subscriptions
		 where name in ('log', $1)`, steadyHook); lost != 0 {
		t.Errorf("%d deliveries of the log or of a webhook that answers have expired", lost)
	}
	for what, query := range map[string]string{
		"temporary relations": "select count(*) from pg_class where relpersistence = 't'",
		"advisory locks":      "select count(*) from pg_locks where locktype = 'advisory'",
		"open transactions":   "select count(*) from pg_stat_activity where state like 'idle in transaction%'",
		"jobs of schedules":   "select count(*) from cron.job where command like 'call tinydevcrm.refresh_scheduled%'",
	} {
		dbtest.Eventually(t, 2*time.Minute, "no "+what+" are left", func() bool {
			var left int
			return pool.QueryRowContext(t.Context(), query).Scan(&left) == nil && left == 0
		})
	}
}

func waitingFor(ctx context.Context, pool *sql.DB, names ...string) (int, error) {
	total := 0
	for _, name := range names {
		var waiting int
		if err := pool.QueryRowContext(ctx, `
			select count(*)
			  from tinydevcrm.deliveries
			  join tinydevcrm.subscriptions on subscriptions.id = deliveries.subscription_id
			 where subscriptions.name = $1
			   and deliveries.acknowledged_at is null`, name).Scan(&waiting); err != nil {
			return 0, err
		}
		total += waiting
	}
	return total, nil
}
