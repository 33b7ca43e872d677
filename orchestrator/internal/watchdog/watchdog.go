// Package watchdog ends the sessions of users that block everyone. SQL says which ones these are.
package watchdog

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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

// look is one of the statements that the watchdog runs each second. It ends or cancels something in sessions, and
// returns whose they are.
type look struct {
	query, statement string // statement executes the prepared query.
	done             string // done is what the log says for each session.
}

// Run looks each second until ctx ends. It keeps one connection with a prepared statement: while somebody blocks
// the server's catalogs, no new connection can be opened and no new statement be prepared. Through a pooler in
// transaction mode there is neither, and the watchdog looks only while nobody blocks the catalogs.
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
	// The second reads tables of ours, which somebody may block until the first has ended them.
	looks := []look{
		{query: "select pid, role_name, reason from tinydevcrm._end_blocking_sessions()", done: "ended a session that blocked others"},
		{query: "select pid, role_name, reason from tinydevcrm._cancel_overdue_refreshes()", done: "canceled a refresh"},
	}
	for i := range looks {
		// lib/pq numbers its statements, so another client of a pooler may have one of the same name.
		name := "tinydevcrm_watchdog_" + strings.ToLower(rand.Text())
		if _, err := conn.ExecContext(ctx, "prepare "+name+" as "+looks[i].query); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
		looks[i].statement = "execute " + name
	}

	tick := time.NewTicker(lookAfter)
	defer tick.Stop()
	isFailing := false
	for {
		err := runAll(ctx, conn, looks, logger)
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

// isLost reports whether an error is anything but the server's refusal of one statement. A server that has become a
// standby is left, too.
func isLost(err error) bool {
	var refusal *pq.Error
	return !errors.As(err, &refusal) || refusal.Code.Class() == "08" ||
		refusal.Code == "57P01" || refusal.Code == "25006"
}

// isUnknown reports whether the session does not have our prepared statement: a pooler has given us another one.
func isUnknown(err error) bool {
	var refusal *pq.Error
	return errors.As(err, &refusal) && refusal.Code == "26000"
}

// runAll runs each look, up to the first that fails.
func runAll(ctx context.Context, conn *sql.Conn, looks []look, logger *slog.Logger) error {
	for i := range looks {
		err := looks[i].run(ctx, conn, logger)
		if isUnknown(err) {
			looks[i].statement = looks[i].query
			err = looks[i].run(ctx, conn, logger)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// run runs the statement, and logs for whose sessions it has done something.
func (l look) run(ctx context.Context, conn *sql.Conn, logger *slog.Logger) error {
	rows, err := conn.QueryContext(ctx, l.statement)
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
		logger.Warn(l.done, "pid", pid, "role", role, "reason", reason)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("watch sessions: %w", err)
	}
	return nil
}
