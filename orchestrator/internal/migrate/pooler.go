package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// errShared keeps a pooler from holding golang-migrate's lock, which belongs to a session, for good.
var errShared = &db.UserError{
	Status:  http.StatusServiceUnavailable,
	Message: "migrations need a session of their own, and a pooler in transaction mode gives it to others too",
	Hint:    "Set LISTEN_URL to the URL of Postgres itself.",
}

// sharedTries are enough that a pooler which spreads statements over its sessions uses one of them twice.
const sharedTries = 5

// checkOwnSession returns errShared when another connection is given the same session as conn, or conn another one.
func checkOwnSession(ctx context.Context, conn *sql.Conn, pool *sql.DB) error {
	first := 0
	for range sharedTries {
		var own, other int
		if err := conn.QueryRowContext(ctx, "select pg_backend_pid()").Scan(&own); err != nil {
			return fmt.Errorf("look at the session: %w", err)
		}
		if err := pool.QueryRowContext(ctx, "select pg_backend_pid()").Scan(&other); err != nil {
			return fmt.Errorf("look at another session: %w", err)
		}
		if first == 0 {
			first = own
		}
		if own == other || own != first {
			return errShared
		}
	}
	return nil
}

// HasOwnSessions reports whether connections of a pool each keep a session, as they do not through a pooler in transaction
// mode.
func HasOwnSessions(ctx context.Context, pool *sql.DB) (bool, error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return false, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	err = checkOwnSession(ctx, conn, pool)
	if errors.Is(err, errShared) {
		return false, nil
	}
	return err == nil, err
}
