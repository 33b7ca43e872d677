package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
)

// mostRuns is how many jobs the clock runs at once, each on a connection of its own.
const mostRuns = 8

func (p *program) clockFlag(command *cobra.Command) {
	command.Flags().BoolVar(&p.hasClock, "clock", false,
		"run the schedules by the orchestrator itself, in a database without pg_cron; of several orchestrators one does")
}

func (p *program) migrateSettings() []migrate.Setting {
	if p.hasClock {
		return []migrate.Setting{migrate.Clock}
	}
	return nil
}

// checkClock leaves the clock out of a database in which pg_cron runs the schedules.
func (p *program) checkClock(ctx context.Context, pool *sql.DB, diagnostics *slog.Logger) error {
	if !p.hasClock {
		return nil
	}
	if err := pool.QueryRowContext(ctx, "select tinydevcrm._has_clock()").Scan(&p.hasClock); err != nil {
		return fmt.Errorf("check the clock: %w", err)
	}
	if !p.hasClock {
		diagnostics.Info("pg_cron runs the schedules of this database; --clock has no effect")
	}
	return nil
}
