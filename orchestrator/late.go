package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"
)

const (
	// noteLateEvery is the time between two looks for views that are late.
	noteLateEvery = time.Minute
	// noteLateWithin bounds one look.
	noteLateWithin = 25 * time.Second
)

// noteLate writes the events of views that are late or silent, until ctx ends. Upkeep does the same, but not while
// pg_cron is away, which is what makes views late.
func noteLate(ctx context.Context, pool *sql.DB, diagnostics *slog.Logger) error {
	tick := time.NewTicker(noteLateEvery)
	defer tick.Stop()
	isFailing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := noteLateOnce(ctx, pool)
		if err != nil && !isFailing && ctx.Err() == nil {
			diagnostics.Warn("looking for views that are late failed; trying again each minute", "error", err)
		}
		isFailing = err != nil
	}
}

// noteLateOnce does nothing when our role may not do it, as that of a lone user.
func noteLateOnce(ctx context.Context, pool *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, noteLateWithin)
	defer cancel()
	var may bool
	err := pool.QueryRowContext(ctx, "select has_function_privilege('tinydevcrm._note_late(interval)', 'execute')").Scan(&may)
	if err == nil && may {
		_, err = pool.ExecContext(ctx, "select tinydevcrm._note_late(), tinydevcrm._note_silent(), tinydevcrm._note_silent_sources()")
	}
	if err != nil {
		return fmt.Errorf("note what is late: %w", err)
	}
	return nil
}
