// Package deliver receives the events of a subscription and delivers each at least once.
package deliver

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/lib/pq"
	"golang.org/x/time/rate"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
)

const (
	batchSize = 100
	// maxCarried bounds the rows of an event, in bytes. The message of a failure gets an eighth of it.
	maxCarried = 64 << 10
	// pollAfter bounds how long an event waits when its notification was lost.
	pollAfter         = 10 * time.Second
	acknowledgeWithin = 5 * time.Second
	// visibilityTimeout is when an event becomes visible to other workers after its worker has died.
	visibilityTimeout = 30 * time.Second
	// inVain and closeInVain bound wake-ups that find nothing: everyone who can log in can notify.
	inVain      = 50 * time.Millisecond
	closeInVain = 20
)

// An Event is an event that is notified: the row of tinydevcrm.matview_refresh_events.
type Event struct {
	ID           int64
	Matview      string
	ScheduleID   sql.Null[int64]
	Outcome      string
	PlainReason  sql.Null[string]
	RowCount     sql.Null[int64]
	AddedCount   sql.Null[int64]
	RemovedCount sql.Null[int64]
	UpdatedCount sql.Null[int64]
	Rows         json.RawMessage
	IsCut        bool
	ErrorCode    sql.Null[string]
	ErrorMessage sql.Null[string]
	// Reason is that of the outcomes late, silent, resumed and dropped.
	Reason sql.Null[string]
	// SupersededBy is the newer event of the view that was acknowledged before this one was delivered again.
	SupersededBy sql.Null[int64]
	StartedAt    time.Time
	Duration     time.Duration
}

// A Worker delivers the events of one subscription.
type Worker struct {
	pool         *sql.DB
	subscription string
	handle       func(context.Context, Event)
	logger       *slog.Logger

	// handled are deliveries that are handled but not yet acknowledged. When they are received again, they are
	// only acknowledged. A redelivered event has another delivery number.
	handled map[int64]struct{}

	pulse pulse
}

// IsAlive reports whether the Worker has polled the subscription recently.
func (w *Worker) IsAlive() bool { return w.pulse.isAlive() }

// NewWorker returns a Worker that calls handle for each event of the subscription, which it creates if there is
// none. An event is handled when handle returns.
func NewWorker(pool *sql.DB, subscription string, handle func(context.Context, Event), logger *slog.Logger) *Worker {
	return &Worker{
		pool:         pool,
		subscription: subscription,
		handle:       handle,
		logger:       logger,
		handled:      make(map[int64]struct{}),
	}
}

// Subscribe creates the subscription. From then on events are kept for it, even while the Worker does not run.
func (w *Worker) Subscribe(ctx context.Context) error {
	if _, err := w.pool.ExecContext(ctx,
		"select tinydevcrm.create_subscription($1)", w.subscription); err != nil {
		return fmt.Errorf("subscribe as %q: %w", w.subscription, err)
	}
	return nil
}

// Run drains the subscription on each wake-up, and on a timer, until ctx ends. It goes on after the database
// was away.
func (w *Worker) Run(ctx context.Context, wake <-chan int64) error {
	// A wake-up does not end a pause. Otherwise each event would cause an attempt while the database is away.
	pauses := retry.NewPauses(pollAfter)
	isAway := false
	vain := rate.NewLimiter(rate.Every(inVain), closeInVain)
	for {
		hasFound, err := w.drain(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			isAway = false
			pauses.Reset()
			// What comes meanwhile is found together.
			if !hasFound && vain.Wait(ctx) != nil {
				return nil
			}
			if !waitFor(ctx, wake, nil, pollAfter) {
				return nil
			}
			continue
		case db.Explain(err).Code == "TD001":
			// The subscription was dropped by hand, or the database was recreated: its numbers may now be
			// those of other deliveries.
			clear(w.handled)
			err = w.Subscribe(ctx)
		}
		w.pulse.stop()
		if err != nil && !isAway {
			w.logger.Warn("cannot receive events; trying again", "subscription", w.subscription, "error", err)
		}
		isAway = err != nil
		if !pauses.Wait(ctx) {
			return nil
		}
	}
}

// waitFor returns true at the first wake-up or after the pause, and false when ctx has ended. Several pending
// wake-ups count as one, because a drain takes all events.
func waitFor(ctx context.Context, wake, also <-chan int64, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-also:
	case <-wake:
		for len(wake) > 0 {
			<-wake
		}
	}
	return true
}

// drain handles all events that are pending, and reports whether there were any.
func (w *Worker) drain(ctx context.Context) (hasFound bool, err error) {
	for {
		ids, err := w.receive(ctx)
		if err != nil {
			return hasFound, err
		}
		w.pulse.beat()
		hasFound = hasFound || len(ids) > 0
		if err := w.acknowledge(ctx, ids); err != nil {
			return hasFound, err
		}
		if len(ids) < batchSize {
			return hasFound, nil
		}
	}
}

const receiveLines = `
	select delivery_id, event_id, matview, schedule_id, outcome, plain_reason, row_count, added_count, removed_count,
	       updated_count, rows, is_cut, error_code, error_message, reason, superseded_by, started_at,
	       extract(epoch from duration)::double precision
	  from tinydevcrm._receive_lines($1, $2, make_interval(secs => $3), $4)`

// receive handles a batch of events one by one, so that only one is in memory, and returns the numbers of their
// deliveries.
func (w *Worker) receive(ctx context.Context) ([]int64, error) {
	rows, err := w.pool.QueryContext(ctx, receiveLines, w.subscription, batchSize, visibilityTimeout.Seconds(), maxCarried)
	if err != nil {
		return nil, fmt.Errorf("receive events: %w", err)
	}
	defer rows.Close()

	var ids []int64
	for rows.Next() {
		var id int64
		var event Event
		var seconds float64
		var carried []byte
		if err := rows.Scan(&id, &event.ID, &event.Matview, &event.ScheduleID,
			&event.Outcome, &event.PlainReason, &event.RowCount, &event.AddedCount,
			&event.RemovedCount, &event.UpdatedCount, &carried, &event.IsCut, &event.ErrorCode, &event.ErrorMessage,
			&event.Reason, &event.SupersededBy, &event.StartedAt, &seconds); err != nil {
			return nil, fmt.Errorf("read an event: %w", err)
		}
		event.Rows = carried
		event.Duration = time.Duration(seconds * float64(time.Second))
		if _, done := w.handled[id]; !done {
			w.handle(ctx, event)
			w.handled[id] = struct{}{}
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("receive events: %w", err)
	}
	return ids, nil
}

func (w *Worker) acknowledge(ctx context.Context, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	// What has been handled is acknowledged even while the program ends.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), acknowledgeWithin)
	defer cancel()
	if _, err := w.pool.ExecContext(ctx, "select tinydevcrm.acknowledge_events($1)", pq.Array(ids)); err != nil {
		return fmt.Errorf("acknowledge events: %w", err)
	}
	for _, id := range ids {
		delete(w.handled, id)
	}
	return nil
}
