package deliver_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// differences are the rows of the queue that are not those of a pending delivery, and the reverse.
const differences = `
	select coalesce(string_agg(concat_ws(' ', 'queue:', queue.*::text, 'delivery:', waiting.*::text), '; '), '')
	  from tinydevcrm.pending_deliveries as queue
	  full join (
	    select subscription_id, matview_id, event_id, row_number, id, owner
	      from tinydevcrm.deliveries
	     where state = 'pending'
	  ) as waiting
	    on (waiting.subscription_id, waiting.matview_id, waiting.event_id, waiting.row_number, waiting.id, waiting.owner)
	     = (queue.subscription_id, queue.matview_id, queue.event_id, queue.row_number, queue.delivery_id, queue.owner)
	 where queue.delivery_id is null or waiting.id is null`

// contradictions are the deliveries whose columns contradict each other.
const contradictions = `
	select coalesce(string_agg(delivery::text, '; '), '')
	  from tinydevcrm.deliveries as delivery
	 where (acknowledged_at is not null) <> (state = 'acknowledged')
	    or (parked_at is not null) <> (state = 'parked')
	    or (visible_at = 'infinity') <> coalesce(leader_event_id <> event_id, false)
	    or has_failed <> (last_error is not null and state <> 'acknowledged')
	    or is_leading <> (coalesce(leader_event_id = event_id, false) and state = 'pending')`

// forgotten are the deliveries that wait for one that does not carry them.
const forgotten = `
	select coalesce(string_agg(carried::text || ' with leader ' || coalesce(leader::text, 'none'), '; '), '')
	  from tinydevcrm.deliveries as carried
	  left join tinydevcrm.deliveries as leader
	    on (leader.event_id, leader.subscription_id) = (carried.leader_event_id, carried.subscription_id)
	 where carried.state = 'pending'
	   and carried.leader_event_id is not null
	   and leader.is_leading is not true`

// some is a condition that holds for about one in five deliveries.
const some = "random() < 0.2"

// anything sets whatever a user may write.
const anything = `
	       state = (array['pending', 'acknowledged', 'parked'])[1 + floor(random() * 3)],
	       attempts = floor(random() * 13),
	       visible_at = clock_timestamp() + random() * interval '100 ms',
	       acknowledged_at = case when random() < 0.5 then clock_timestamp() end,
	       parked_at = case when random() < 0.5 then clock_timestamp() end,
	       is_in_flight = random() < 0.5,
	       last_error = case when random() < 0.5 then 'away' end`

// changes are all ways to change what is pending: functions, and statements that a user may write.
var changes = []string{
	`insert into tinydevcrm.matview_refresh_events
	        (owner, matview_id, matview, outcome, is_notified, method, row_count, error_code, error_message, started_at, duration)
	 select owner, id, current_schema() || '.' || relation, outcome, true, 'plain', case when outcome <> 'failed' then 1 end,
	        case outcome when 'failed' then '22012' end, case outcome when 'failed' then 'away' end, clock_timestamp(), '0 s'
	   from tinydevcrm.matviews, unnest(array['refreshed', 'failed', 'recovered']) as outcome
	  where random() < 0.5`,
	"select tinydevcrm.acknowledge_events(array_agg(delivery_id)) from tinydevcrm.receive_events('worker', 3, '0 s')",
	"select tinydevcrm.acknowledge_events(array_agg(id)) from tinydevcrm.deliveries where " + some,
	"select tinydevcrm.reject_event(id) from tinydevcrm.deliveries where state = 'pending' order by random() limit 1",
	"select tinydevcrm.redeliver_event(id) from tinydevcrm.deliveries order by random() limit 1",
	"select tinydevcrm._requeue_deliveries(array_agg(id)) from tinydevcrm.deliveries where " + some,
	"select tinydevcrm.redeliver_parked(name) from tinydevcrm.subscriptions",
	"select tinydevcrm.replay_events(name, '-infinity') from tinydevcrm.subscriptions where " + some,
	"select tinydevcrm._make_waiting_due(id) from tinydevcrm.subscriptions",
	"select tinydevcrm._receive_posts(id, 10, '0 s') from tinydevcrm.subscriptions",
	"select tinydevcrm._release_posts(array_agg(id)) from tinydevcrm.deliveries where " + some,
	`select tinydevcrm._accept_posts(array_agg(subscription_id), array_agg(id)) from tinydevcrm.deliveries
	  where state = 'pending' and visible_at < 'infinity' and ` + some,
	`select tinydevcrm._refuse_post(subscription_id, id, 500, 'away', is_final => random() < 0.5) from tinydevcrm.deliveries
	  where state = 'pending' order by random() limit 1`,
	"select tinydevcrm._remove_events(array(select id from tinydevcrm.matview_refresh_events where random() < 0.05))",
	"select tinydevcrm.drop_subscription('worker'); select tinydevcrm.create_subscription('worker')",
	"update tinydevcrm.deliveries set state = (array['pending', 'acknowledged', 'parked'])[1 + floor(random() * 3)] where " + some,
	"update tinydevcrm.deliveries set state = case state when 'pending' then 'acknowledged' else 'pending' end",
	"update tinydevcrm.deliveries set state = state, visible_at = clock_timestamp(), attempts = floor(random() * 13) where " + some,
	"update tinydevcrm.deliveries set state = 'acknowledged', is_redelivered = true where " + some,
	"update tinydevcrm.deliveries set is_gathered = true where id = (select id from tinydevcrm.deliveries order by random() limit 1)",
	"update tinydevcrm.deliveries set is_gathered = random() < 0.5, " + anything + " where " + some,
	"update tinydevcrm.deliveries set is_redelivered = random() < 0.5, " + anything + " where " + some,
	"update tinydevcrm.deliveries set is_redelivered = true, is_gathered = true where " + some,
	"update tinydevcrm.deliveries set is_redelivered = true where leader_event_id is not null",
	"update tinydevcrm.deliveries set is_redelivered = true, " + anything + " where leader_event_id is not null",
	`insert into tinydevcrm.deliveries (subscription_id, event_id)
	 select subscriptions.id, events.id from tinydevcrm.subscriptions, tinydevcrm.matview_refresh_events as events where ` + some + `
	     on conflict (event_id, subscription_id, row_number) do update set state = 'parked'`,
}

// The queue is what is pending, in the eyes of every transaction, whatever several sessions do at once.
func TestTheQueueIsWhatIsPending(t *testing.T) {
	lasts := 8 * time.Second
	if testing.Short() {
		lasts = 4 * time.Second
		t.Logf("not run: %s for longer than %s", t.Name(), lasts)
	}
	server := dbtest.NewMigrated(t)
	// Most of the time would pass until deadlocks are found.
	super, err := db.Open(t.Context(), dbtest.AsRole(server.URL, "postgres"), db.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close()
	dbtest.Exec(t, super, "alter database tinydevcrm set deadlock_timeout = '10ms'")
	pool := server.Open()
	defer pool.Close()
	dbtest.Exec(t, pool, "update tinydevcrm.settings set failure_grouping = '100 ms'")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v' || i, 'select 1 as one') from generate_series(1, 3) as i")
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('worker')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('hook', 'https://example.com/')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('digest', 'https://example.com/', digest => 'hourly')")

	made := &tally{done: make(map[string]int), clashed: make(map[string]int)}
	const committed = sql.LevelReadCommitted
	makeChanges(t, pool, made, lasts/2, []sql.IsolationLevel{committed}, differences, contradictions, forgotten)
	// An older snapshot does not show who joins a group meanwhile.
	levels := []sql.IsolationLevel{committed, committed, sql.LevelRepeatableRead, sql.LevelSerializable}
	makeChanges(t, pool, made, lasts/2, levels, differences, contradictions)
	for _, statement := range changes {
		if made.done[statement] == 0 {
			t.Errorf("never done: %s (%d clashes)", statement, made.clashed[statement])
		}
	}
}

// A tally is how often each change was made, and how often it clashed with another session.
type tally struct {
	mu            sync.Mutex
	done, clashed map[string]int
}

// makeChanges lets four sessions make changes, while none of the queries may return anything.
func makeChanges(t *testing.T, pool *sql.DB, made *tally, lasts time.Duration, levels []sql.IsolationLevel, queries ...string) {
	const sessions = 4
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	var group sync.WaitGroup
	for range sessions {
		group.Go(func() {
			for ctx.Err() == nil {
				for statement, err := range changeAtRandom(ctx, pool, levels) {
					made.mu.Lock()
					var refusal *pq.Error
					switch {
					case err == nil:
						made.done[statement]++
					// Serialization failures, deadlocks, and what another session has removed.
					case errors.As(err, &refusal) && slices.Contains([]string{"40001", "40P01", "55P03", "TD001", "TD002", "23503", "23505"}, string(refusal.Code)):
						made.clashed[statement]++
					case ctx.Err() == nil:
						t.Errorf("%s: %v", statement, err)
					}
					made.mu.Unlock()
				}
			}
		})
	}
	for ctx.Err() == nil && !t.Failed() {
		for _, query := range queries {
			if found := dbtest.Value[string](t, pool, query); found != "" {
				t.Errorf("meanwhile: %.2000s", found)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	group.Wait()
}

// changeAtRandom makes a few changes in a transaction, some of which are undone. It yields each with its error.
func changeAtRandom(ctx context.Context, pool *sql.DB, levels []sql.IsolationLevel) func(func(string, error) bool) {
	return func(yield func(string, error) bool) {
		tx, err := pool.BeginTx(ctx, &sql.TxOptions{Isolation: levels[rand.IntN(len(levels))]})
		if err != nil {
			yield("begin", err)
			return
		}
		defer tx.Rollback()
		for range 1 + rand.IntN(3) {
			statement := changes[rand.IntN(len(changes))]
			_, err := tx.ExecContext(ctx, "savepoint one; "+statement)
			if !yield(statement, err) || err != nil {
				return
			}
			if rand.IntN(5) == 0 {
				if _, err := tx.ExecContext(ctx, "rollback to savepoint one"); err != nil {
					yield("rollback to savepoint", err)
					return
				}
			}
		}
		if rand.IntN(5) > 0 {
			if err := tx.Commit(); err != nil {
				yield("commit", err)
			}
		}
	}
}

// A held is what a worker has received and not answered.
type held struct {
	mu sync.Mutex
	// by is the worker that has a view, last the last event of each view that is acknowledged, order all of them in order.
	by    map[string]int
	last  map[string]int64
	order map[string][]int64
}

// Each view is with one worker at a time, and its events come in order, whatever workers reject, give back, lock or undo.
func TestEachViewIsReceivedInOrder(t *testing.T) {
	const views, workers, writers = 12, 6, 3
	each := 120
	if testing.Short() {
		each = 40
		t.Logf("not run: %s with more than %d events a view", t.Name(), each)
	}
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v' || i, 'select 1 as one') from generate_series(0, $1 - 1) as i", views)
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('s', max_attempts => 100)")
	h := &held{by: make(map[string]int), last: make(map[string]int64), order: make(map[string][]int64)}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// Half of the events wait, so that batches have several of a view.
	for view := range views {
		if err := writeEvents(ctx, pool, fmt.Sprintf("v%d", view), each/2); err != nil {
			t.Fatal(err)
		}
	}
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			for range each / 4 {
				// One writer for each view, so its events commit in the order of their ids.
				for view := writer; view < views; view += writers {
					if err := writeEvents(ctx, pool, fmt.Sprintf("v%d", view), 2); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	var working sync.WaitGroup
	for worker := range workers {
		working.Go(func() {
			for ctx.Err() == nil {
				if err := h.work(ctx, pool, worker+1); err != nil && ctx.Err() == nil {
					t.Error(err)
					cancel()
				}
			}
		})
	}
	// Somebody who looks at single deliveries and locks them for a moment.
	working.Go(func() {
		for ctx.Err() == nil {
			_, _ = pool.ExecContext(ctx, `
				begin;
				select from tinydevcrm.deliveries
				 where id in (select delivery_id from tinydevcrm.pending_deliveries where random() < 0.2 limit 50) for update skip locked;
				select pg_sleep(0.01);
				rollback`)
			_, _ = pool.ExecContext(ctx, "select tinydevcrm._make_waiting_due(id) from tinydevcrm.subscriptions")
		}
	})
	group.Wait()
	dbtest.Eventually(t, 2*time.Minute, "all is received", func() bool {
		return t.Failed() || dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.pending_deliveries") == 0
	})
	cancel()
	working.Wait()
	for view, ids := range h.order {
		if len(ids) != each || !slices.IsSorted(ids) {
			t.Errorf("%s: %d events, want %d in order: %v", view, len(ids), each, ids)
		}
	}
	if len(h.order) != views {
		t.Errorf("events of %d views: %v", len(h.order), slices.Collect(maps.Keys(h.order)))
	}
}

type delivery struct {
	id, event int64
	view      string
}

// work receives a batch once and answers it: it acknowledges some of each view, rejects the next one, and gives back the rest.
func (h *held) work(ctx context.Context, pool *sql.DB, worker int) error {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	rows, err := tx.QueryContext(ctx, `
		select delivery_id, (event).id, (event).matview
		  from tinydevcrm.receive_events('s', $1, '1 minute')`, 1+rand.IntN(20))
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	var batch []delivery
	for rows.Next() {
		var d delivery
		if err := rows.Scan(&d.id, &d.event, &d.view); err != nil {
			return err
		}
		batch = append(batch, d)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	if rand.IntN(10) == 0 {
		return tx.Rollback()
	}
	h.mu.Lock()
	previous := make(map[string]int64)
	for _, d := range batch {
		if by := h.by[d.view]; by != 0 {
			err = errors.Join(err, fmt.Errorf("event %d of %s is received while worker %d has the view", d.event, d.view, by))
		}
		if d.event <= max(h.last[d.view], previous[d.view]) {
			err = errors.Join(err, fmt.Errorf("event %d of %s is received after %d", d.event, d.view, max(h.last[d.view], previous[d.view])))
		}
		previous[d.view] = d.event
	}
	for _, d := range batch {
		h.by[d.view] = worker
	}
	h.mu.Unlock()
	if err := errors.Join(err, tx.Commit()); err != nil {
		return err
	}

	runs := make(map[string][]delivery)
	for _, d := range batch {
		runs[d.view] = append(runs[d.view], d)
	}
	for view, run := range runs {
		if err := h.answer(ctx, pool, view, run, rand.IntN(len(run)+1)); err != nil {
			return err
		}
	}
	return nil
}

// answer acknowledges the first count deliveries of a view and gives back the rest, of which it may reject the first.
func (h *held) answer(ctx context.Context, pool *sql.DB, view string, run []delivery, count int) error {
	var accepted, rest []int64
	h.mu.Lock()
	for i, d := range run {
		if i >= count {
			rest = append(rest, d.id)
			continue
		}
		accepted = append(accepted, d.id)
		h.order[view] = append(h.order[view], d.event)
		h.last[view] = d.event
	}
	// Another worker may have the view as soon as this is committed.
	delete(h.by, view)
	h.mu.Unlock()

	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	_, err = tx.ExecContext(ctx, "select tinydevcrm.acknowledge_events($1)", pq.Array(accepted))
	if err == nil {
		_, err = tx.ExecContext(ctx, "update tinydevcrm.deliveries set visible_at = clock_timestamp(), is_in_flight = false where id = any ($1)", pq.Array(rest))
	}
	if err == nil && len(rest) > 0 && rand.IntN(2) == 0 {
		_, err = tx.ExecContext(ctx, "select tinydevcrm.reject_event($1, 'no')", rest[0])
	}
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return tx.Commit()
}
