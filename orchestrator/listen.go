package main

import (
	"database/sql"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/listen"
)

func (p *program) listenCommand() *cobra.Command {
	var subscription string
	command := &cobra.Command{
		Use:         "listen",
		Annotations: map[string]string{untilStopped: "yes"},
		Short:       "Log events without serving the page, including those missed earlier",
		Long: "Writes a line for each event that is notified. Events that occur while it is not running are\n" +
			"logged when it starts again. Several programs with one subscription share its events; with\n" +
			"subscriptions of their own, each gets all events.",
	}
	command.Flags().StringVar(&subscription, "subscription", "listen", "subscription to receive events from")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, _ []string) error {
		diagnostics := logger(p.stderr)
		worker := deliver.NewWorker(pool, subscription, deliver.ToLog(logger(p.stdout)), diagnostics)
		if err := worker.Subscribe(command.Context()); err != nil {
			return err
		}
		hub := listen.NewHub(p.direct(), diagnostics)
		wake, cancel := hub.Subscribe()
		defer cancel()

		group, ctx := errgroup.WithContext(command.Context())
		group.Go(func() error { return hub.Run(ctx) })
		group.Go(func() error { return hub.Probe(ctx, pool) })
		group.Go(func() error { return worker.Run(ctx, wake) })
		return group.Wait()
	})
	return command
}
