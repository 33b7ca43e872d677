package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/clock"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
)

func (p *program) clockFlag(command *cobra.Command) {
	command.Flags().BoolVar(&p.hasClock, "clock", false,
		"run the schedules by the orchestrator itself, in a database without pg_cron; of several orchestrators one does")
}

func (p *program) cronURLFlag(command *cobra.Command) {
	command.Flags().StringVar(&p.cronURL, "cron-url", "",
		"with --clock: the database of the same server in which pg_cron is, which then runs the schedules")
}

// clockLoops run the schedules, or have the pg_cron of another database do so.
func (p *program) clockLoops(ctx context.Context, pool *sql.DB, runs int, diagnostics *slog.Logger) (loops, error) {
	if !p.hasClock {
		return nil, nil
	}
	if p.cronURL != "" {
		cron, err := p.openCron(ctx)
		if err != nil {
			return nil, err
		}
		return loops{func(ctx context.Context) error {
			defer cron.Close()
			return clock.NewElsewhere(pool, cron, diagnostics).Run(ctx)
		}}, nil
	}
	return loops{clock.New(pool, p.direct(), runs, diagnostics).Run}, nil
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
		return nil
	}
	if err := p.checkCronURL(ctx); err != nil {
		return err
	}
	return p.withPool(ctx, p.direct(), migrate.MaxConns, func(own *sql.DB) error {
		hasOwn, err := migrate.HasOwnSessions(ctx, own)
		if err == nil && !hasOwn {
			return &db.UserError{
				Status:  http.StatusServiceUnavailable,
				Message: "the clock needs a session of its own, and a pooler in transaction mode gives it to others too",
				Hint:    "Set LISTEN_URL to the URL of Postgres itself.",
			}
		}
		return err
	})
}

func (p *program) checkCronURL(ctx context.Context) error {
	if p.cronURL == "" {
		return nil
	}
	cron, err := p.openCron(ctx)
	if err != nil {
		return err
	}
	defer cron.Close()
	return clock.CheckElsewhere(ctx, cron)
}

func (p *program) openCron(ctx context.Context) (*sql.DB, error) {
	cron, err := db.Access{URL: p.cronURL, Password: p.password}.OpenImpatient(ctx, 1)
	if err != nil {
		return nil, fmt.Errorf("open the database of pg_cron: %w", err)
	}
	return cron, nil
}
