//go:build faults

package faults

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// setByAStranger changes a setting of the role, and makes the program reconnect.
func setByAStranger(t *testing.T, pool *sql.DB, setting string) {
	t.Helper()
	dbtest.Exec(t, pool, "alter role postgres set "+setting)
	dbtest.Exec(t, pool, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", appName)
}

// drip sends a file whose second half comes only after a while.
func drip(t *testing.T, p *program, pool *sql.DB, pause time.Duration) answer {
	t.Helper()
	file := newFeed(uploadRows)
	seen := make(chan answer, 1)
	go func() { seen <- p.upload("big", file) }()
	inCopy(t, pool)
	start := time.Now()
	dbtest.Eventually(t, dbtest.Deadline, "the pause is over", func() bool { return time.Since(start) > pause })
	close(file.proceed)
	return <-seen
}

func TestStatementTimeoutOfAStranger(t *testing.T) {
	server, pool := newServer(t)
	newSlowView(t, pool)
	p := startUp(t, binary, server.URL)
	setByAStranger(t, pool, "statement_timeout = '1s'")
	upload := drip(t, p, pool, 2*time.Second)
	upload.says(t, 504, "57014", "statement timeout", "statement_timeout")
	left := leftovers(t, pool, "big")

	dbtest.Exec(t, pool, "update knobs set seconds = 5")
	byHand := p.post("/matviews/refresh", "relation=slow")
	byHand.says(t, 504, "57014", "statement_timeout")
	// pg_cron's session has the timeout too: the refresh is cancelled, and the event says why.
	dbtest.Exec(t, pool, "select tinydevcrm._assign_schedule('slow', '1 minute', null, null)")
	scheduled := "select concat_ws(' ', outcome, error_code, error_message) from tinydevcrm.matview_refresh_events where schedule_id is not null"
	dbtest.Eventually(t, 100*time.Second, "a scheduled refresh has been cut off", func() bool {
		return len(dbtest.Column[string](t, pool, scheduled)) > 0
	})
	event := dbtest.Column[string](t, pool, scheduled)[0]
	if !strings.HasPrefix(event, "failed 57014") {
		t.Errorf("the scheduled refresh: %s", event)
	}
	logged := allLogged(t, pool, p)
	dbtest.Exec(t, pool, "alter role postgres reset statement_timeout")
	dbtest.Exec(t, pool, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", appName)
	again := drip(t, p, pool, 2*time.Second)
	again.says(t, 201)
	report(t, "statement_timeout of 1 s set by a stranger", fmt.Sprintf("upload: %s; refresh: %s; scheduled refresh: %s", upload, byHand, event),
		"%s; deliveries went on: %s; reset, the same upload: %d, %d rows", left, logged, again.status, count(t, pool, "big"))
}

func TestIdleTimeoutOfAStranger(t *testing.T) {
	server, pool := newServer(t)
	p := startUp(t, binary, server.URL)
	setByAStranger(t, pool, "idle_in_transaction_session_timeout = '1s'")
	// A COPY that waits for the client is not idle. Between two statements of an import the session is idle.
	inCopy := drip(t, p, pool, 2*time.Second)
	inCopy.says(t, 201)
	file := &feed{rows: 10, stopAt: 5, proceed: make(chan struct{})}
	seen := make(chan answer, 1)
	go func() { seen <- p.upload("small", file) }()
	dbtest.Eventually(t, dbtest.Deadline, "the server has ended the idle session", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from pg_stat_activity where application_name = $1 and state = 'idle in transaction'", appName) == 1
	})
	dbtest.Eventually(t, dbtest.Deadline, "the server has ended the idle session", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from pg_stat_activity where application_name = $1 and state = 'idle in transaction'", appName) == 0
	})
	close(file.proceed)
	sees := <-seen
	sees.says(t, 503, "lost", "idle_in_transaction_session_timeout")
	left := leftovers(t, pool, "small")
	again := p.upload("small", wholeFeed(10))
	again.says(t, 201)
	report(t, "idle_in_transaction_session_timeout of 1 s set by a stranger", fmt.Sprintf("upload that pauses in its COPY: %d; one that pauses before: %s", inCopy.status, sees),
		"%s; the same upload without a pause: %d; deliveries went on in %s: %s", left, again.status, seconds(recovered(t, p, pool)), allLogged(t, pool, p))
}

func TestLockTimeoutOfAStranger(t *testing.T) {
	server, pool := newServer(t)
	p := startUp(t, binary, server.URL)
	p.upload("big", wholeFeed(10)).says(t, 201)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('counted', 'select count(*) from big', 'always')")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('counted')")
	setByAStranger(t, pool, "lock_timeout = '500ms'")
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("lock table big in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	upload := p.uploadTo("big", "?mode=append", wholeFeed(10))
	upload.says(t, 503, "55P03", "Try again")
	refreshed := p.post("/matviews/refresh", "relation=counted")
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	again := p.uploadTo("big", "?mode=append", wholeFeed(10))
	again.says(t, 201)
	if rows := count(t, pool, "big"); rows != 20 {
		t.Errorf("%d rows, want 20", rows)
	}
	event := dbtest.Column[string](t, pool, "select concat_ws(' ', outcome, error_code, error_message) from tinydevcrm.matview_refresh_events order by id desc limit 1")
	report(t, "lock_timeout of 0.5 s set by a stranger", fmt.Sprintf("upload: %s; refresh: %d, event %v", upload, refreshed.status, event),
		"the lock gone, the same upload: %d, %d rows; page and events in %s; %s", again.status, count(t, pool, "big"), seconds(recovered(t, p, pool)), allLogged(t, pool, p))
}
