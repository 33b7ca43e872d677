// Package clock runs the jobs of a database without pg_cron. SQL says which ones are due. Of several orchestrators one is
// the clock; another takes over when its session ends.
package clock

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
)

const (
	// MaxConns is the size that the pool must have: one connection is the clock, one records runs.
	MaxConns = 2
	// lookAfter is the longest time between two looks: of the clock for new jobs, of the others for a clock.
	lookAfter = time.Second
	// startWithin bounds logging in as the owner of a job.
	startWithin = 10 * time.Second
	// endWithin is how long running jobs may take once the program ends. The server goes on with those that take longer,
	// and the next clock finds them.
	endWithin      = 4 * time.Second
	reconnectAfter = 5 * time.Second
)

// A Clock runs jobs while no other Clock does.
type Clock struct {
	pool     *sql.DB
	access   db.Access
	mostRuns int
	logger   *slog.Logger

	mu      sync.Mutex
	running map[int64]bool
	// ended receives a value when a job ends.
	ended chan struct{}
	runs  sync.WaitGroup
}

// New returns a Clock of the database to which access leads and pool is connected. At most mostRuns jobs run at once, each
// on a connection of its own.
func New(pool *sql.DB, access db.Access, mostRuns int, logger *slog.Logger) *Clock {
	return &Clock{
		pool: pool, access: access, mostRuns: mostRuns, logger: logger,
		running: make(map[int64]bool), ended: make(chan struct{}, 1),
	}
}

// Run runs jobs until ctx ends.
func (c *Clock) Run(ctx context.Context) error {
	pauses := retry.NewPauses(reconnectAfter)
	for {
		err := c.lead(ctx, pauses.Reset)
		if ctx.Err() != nil {
			c.endRuns()
			return nil
		}
		c.logger.Warn("the clock lost its connection; trying again", "error", err)
		if !pauses.Wait(ctx) {
			return nil
		}
	}
}

// endRuns waits a while for the jobs that run.
func (c *Clock) endRuns() {
	done := make(chan struct{})
	go func() { c.runs.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(endWithin):
	}
}

// lead becomes the clock when no other is it, and then starts what is due, until ctx or its session ends.
func (c *Clock) lead(ctx context.Context, begun func()) error {
	conn, err := c.pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer discard(conn)
	wasClock := false
	for {
		var isClock bool
		if err := conn.QueryRowContext(ctx, "select tinydevcrm._keep_clock()").Scan(&isClock); err != nil {
			return fmt.Errorf("be the clock: %w", err)
		}
		begun()
		wait := lookAfter
		if isClock {
			if wait, err = c.startDue(ctx, conn); err != nil {
				return err
			}
		}
		if isClock != wasClock {
			c.logger.Info("which orchestrator is the clock has changed", "is_this", isClock)
		}
		wasClock = isClock
		if !retry.Wait(ctx, c.ended, wait) {
			return nil
		}
	}
}

// discard ends the session of a clock, so that another takes over at once.
func discard(conn *sql.Conn) {
	conn.Raw(func(any) error { return driver.ErrBadConn })
	conn.Close()
}

// A run is one of a job.
type run struct {
	jobID, id     int64
	role, command string
	dueAt         string
}

// startDue starts the jobs that are due, and returns when to look again.
func (c *Clock) startDue(ctx context.Context, conn *sql.Conn) (time.Duration, error) {
	running := c.runningJobs()
	runs, err := db.Collect(ctx, conn, "take the jobs that are due",
		func(r *run) []any { return []any{&r.jobID, &r.id, &r.role, &r.command, &r.dueAt} },
		"select job_id, run_id, role_name, command, due_at::text from tinydevcrm._take_due_jobs($1, $2)", pq.Array(running), c.mostRuns-len(running))
	if err != nil {
		return 0, err
	}
	for _, r := range runs {
		c.mark(r.jobID, true)
		c.runs.Go(func() { c.run(context.WithoutCancel(ctx), r) })
	}
	var seconds sql.Null[float64]
	if err := conn.QueryRowContext(ctx, "select tinydevcrm._find_next_run($1)", pq.Array(c.runningJobs())).Scan(&seconds); err != nil {
		return 0, fmt.Errorf("find when a job is due: %w", err)
	}
	if !seconds.Valid || len(running)+len(runs) >= c.mostRuns {
		return lookAfter, nil
	}
	return min(time.Duration(max(seconds.V, 0)*float64(time.Second)), lookAfter), nil
}

func (c *Clock) runningJobs() []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := []int64{}
	for id := range c.running {
		ids = append(ids, id)
	}
	return ids
}

func (c *Clock) mark(jobID int64, isRunning bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if isRunning {
		c.running[jobID] = true
		return
	}
	delete(c.running, jobID)
	select {
	case c.ended <- struct{}{}:
	default:
	}
}

// run runs a job in a session that logs in as its owner, as pg_cron does: as another role without a password.
func (c *Clock) run(ctx context.Context, r run) {
	defer c.mark(r.jobID, false)
	var message *string
	if err := c.call(ctx, r); err != nil {
		text := db.Explain(err).Message
		message = &text
		c.logger.Warn("a job failed", "job", r.command, "role", r.role, "error", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if _, err := c.pool.ExecContext(ctx, "select tinydevcrm._end_run($1, $2)", r.id, message); err != nil {
		c.logger.Warn("cannot record the run of a job", "job", r.command, "role", r.role, "error", err)
	}
}

func (c *Clock) call(ctx context.Context, r run) error {
	connecting, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	session, err := c.access.OpenAs(connecting, r.role)
	if err != nil {
		return fmt.Errorf("log in as %s: %w", r.role, err)
	}
	defer session.Close()
	// A run that another clock has left is for the time at which it was due.
	if _, err := session.ExecContext(ctx, "select set_config('tinydevcrm_own.due_at', $1, false)", r.dueAt); err != nil {
		return fmt.Errorf("begin a run: %w", err)
	}
	if _, err := session.ExecContext(ctx, r.command); err != nil {
		return fmt.Errorf("run %s: %w", r.command, err)
	}
	return nil
}
