package main

import (
	"context"
	"database/sql"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/idle"
)

// loops are what holds connections to the database or asks it again and again. Each ends with its context, and may be run
// again.
type loops []func(context.Context) error

// run runs them until ctx ends or one of them fails.
func (l loops) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, loop := range l {
		group.Go(func() error { return loop(ctx) })
	}
	return group.Wait()
}

func (p *program) idleFlag(command *cobra.Command) {
	command.Flags().DurationVar(&p.idleAfter, "idle-after", 0,
		"when nobody has asked for so long and nothing is due, such as 5m, close all connections, so that a server that sleeps when idle can; "+
			"a request, a file of the inbox and what is due wake it, and what others change in the database is noticed only then (default: never)")
}

func (p *program) checkIdle() error {
	switch {
	case p.idleAfter < 0 || p.idleAfter > 0 && p.idleAfter < time.Second:
		return badUsage("Write a time such as 5m.", "--idle-after is too short")
	case p.idleAfter > 0 && p.cronURL != "":
		return badUsage("Leave one of them out.", "--idle-after has no effect with --cron-url, because pg_cron keeps the server awake")
	}
	return nil
}

func (p *program) sleeper(page *sql.DB, own pools, diagnostics *slog.Logger) *idle.Sleeper {
	return idle.New(p.idleAfter, logSubscription, append([]*sql.DB{own.operations, page}, own.all()...), diagnostics)
}
