// Package fresh refreshes the views that are scheduled on change, as soon as a table that they read has changed. SQL
// says which ones these are, and when to look again.
package fresh

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
)

const (
	// MaxConns is the size that the pool must have. Its statements take as long as the refreshes do.
	MaxConns = 1
	// pollAfter bounds how long a change waits when its notification was lost.
	pollAfter = 5 * time.Second
	// retryAfter is the longest pause after a failure.
	retryAfter = 10 * time.Second
	// endWithin is how long a refresh may take once the program ends. One that is canceled is a failure.
	endWithin = 4 * time.Second
	// aliveWithin is longer than an idle loop goes without a look.
	aliveWithin = 3 * retryAfter
)

// A Runner refreshes the views of its own role, and wakes the jobs of other owners.
type Runner struct {
	pool   *sql.DB
	logger *slog.Logger
	// isBusy is whether a look is under way: it may refresh for hours.
	isBusy atomic.Bool
	last   atomic.Pointer[time.Time]
}

// NewRunner returns a Runner. Run starts it.
func NewRunner(pool *sql.DB, logger *slog.Logger) *Runner {
	return &Runner{pool: pool, logger: logger}
}

// IsAlive reports whether the Runner is refreshing, or has looked recently.
func (r *Runner) IsAlive() bool {
	last := r.last.Load()
	return r.isBusy.Load() || last != nil && time.Since(*last) < aliveWithin
}

// Run looks for changes at each wake-up, when the database says so, and on a timer, until ctx ends.
func (r *Runner) Run(ctx context.Context, wake <-chan struct{}) error {
	// A wake-up does not end a pause. Otherwise each change would cause an attempt while the database is away.
	pauses := retry.NewPauses(retryAfter)
	isFailing := false
	for {
		begun := time.Now()
		again, err := r.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			isFailing = false
			pauses.Reset()
			// Half of the time is for others, however many changes there are.
			if !retry.Wait(ctx, nil, time.Since(begun)) || !retry.Wait(ctx, wake, min(again, pollAfter)) {
				return nil
			}
			continue
		case !isFailing:
			r.logger.Warn("cannot refresh the views on change; trying again", "error", err)
		}
		isFailing = true
		r.last.Store(nil)
		if !pauses.Wait(ctx) {
			return nil
		}
	}
}

// look refreshes what is stale, and returns when to look again.
func (r *Runner) look(ctx context.Context) (time.Duration, error) {
	ctx, cancel := outlive(ctx, endWithin)
	defer cancel()
	conn, err := r.pool.Conn(ctx)
	if err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	r.isBusy.Store(true)
	defer r.isBusy.Store(false)

	var own, others sql.Null[float64]
	if err := conn.QueryRowContext(ctx, "call tinydevcrm.refresh_changed()").Scan(&own); err != nil {
		return 0, fmt.Errorf("refresh on change: %w", err)
	}
	// A role that serves itself alone may not wake the jobs of others.
	var may bool
	err = conn.QueryRowContext(ctx, "select has_function_privilege('tinydevcrm._wake_change_jobs(regrole)', 'execute')").Scan(&may)
	if err == nil && may {
		err = conn.QueryRowContext(ctx, "select tinydevcrm._wake_change_jobs(quote_ident(current_user)::regrole)").Scan(&others)
	}
	if err != nil {
		return 0, fmt.Errorf("wake the jobs on change: %w", err)
	}
	now := time.Now()
	r.last.Store(&now)
	return min(after(own), after(others)), nil
}

// outlive returns a context that ends a while after ctx.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(grace, cancel)
		context.AfterFunc(longer, func() { timer.Stop() })
	})
	return longer, func() {
		stop()
		cancel()
	}
}

func after(seconds sql.Null[float64]) time.Duration {
	if !seconds.Valid {
		return pollAfter
	}
	return time.Duration(min(max(seconds.V, 0), pollAfter.Seconds()) * float64(time.Second))
}
