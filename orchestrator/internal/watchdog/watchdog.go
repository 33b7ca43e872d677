// Package watchdog ends the sessions of users that block everyone, and cancels refreshes that take too long. SQL
// says which ones these are.
package watchdog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
)

const (
	// MaxConns is the size that the pool must have.
	MaxConns = 1
	// lookAfter is the time between two looks.
	lookAfter      = time.Second
	reconnectAfter = 5 * time.Second
)

// errNotOurs means that our role may not end sessions, as that of a lone user.
var errNotOurs = errors.New("may not end sessions")

// Run looks each second until ctx ends. It keeps one connection with a prepared statement: while somebody blocks
// the server's catalogs, no new connection can be opened and no new statement be prepared.
func Run(ctx context.Context, pool *sql.DB, logger *slog.Logger) error {
	pauses := retry.NewPauses(reconnectAfter)
	for {
		err := watch(ctx, pool, logger, pauses.Reset)
		if ctx.Err() != nil || errors.Is(err, errNotOurs) {
			return nil
		}
		logger.Warn("the watchdog lost its connection; trying again", "error", err)
		if !pauses.Wait(ctx) {
			return nil
		}
	}
}

// watch looks until ctx ends or the connection is lost.
func watch(ctx context.Context, pool *sql.DB, logger *slog.Logger, begun func()) error {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	var may bool
	err = conn.QueryRowContext(ctx,
		"select has_function_privilege('tinydevcrm._end_blocking_sessions(double precision)', 'execute')").Scan(&may)
	if err == nil && !may {
		err = errNotOurs
	}
	if err != nil {
		return fmt.Errorf("check the right to end sessions: %w", err)
	}
	ending, err := conn.PrepareContext(ctx, "select pid, role_name, reason from tinydevcrm._end_blocking_sessions()")
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	defer ending.Close()
	canceling, err := conn.PrepareContext(ctx, "select pid, role_name, reason from tinydevcrm._cancel_overdue_refreshes()")
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	defer canceling.Close()

	tick := time.NewTicker(lookAfter)
	defer tick.Stop()
	isFailing := false
	for {
		// The second reads tables of ours, which somebody may block until the first has ended them.
		err := report(ctx, ending, logger, "ended a session that blocked others")
		if err == nil {
			err = report(ctx, canceling, logger, "canceled a refresh")
		}
		switch {
		case err == nil:
			begun()
		case isLost(err):
			return err
		case !isFailing:
			logger.Warn("cannot look for sessions that block others; trying again", "error", err)
		}
		isFailing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// isLost reports whether an error is anything but the server's refusal of one statement.
func isLost(err error) bool {
	var refusal *pq.Error
	return !errors.As(err, &refusal) || refusal.Code.Class() == "08" || refusal.Code == "57P01"
}

// report runs a statement that ends or cancels something in sessions, and logs whose they were.
func report(ctx context.Context, acting *sql.Stmt, logger *slog.Logger, done string) error {
	rows, err := acting.QueryContext(ctx)
	if err != nil {
		return fmt.Errorf("watch sessions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var pid int
		var role, reason string
		if err := rows.Scan(&pid, &role, &reason); err != nil {
			return fmt.Errorf("watch sessions: %w", err)
		}
		logger.Warn(done, "pid", pid, "role", role, "reason", reason)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("watch sessions: %w", err)
	}
	return nil
}
