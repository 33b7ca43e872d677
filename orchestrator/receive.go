package main

import (
	"database/sql"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/listen"
)

func (p *program) receiveCommand() *cobra.Command {
	command := &cobra.Command{
		Use:         "receive SUBSCRIPTION",
		Annotations: map[string]string{untilStopped: "yes"},
		Short:       "Receive the events of a subscription, and print each on a line",
		Long: "Receive the events of a subscription, and print each on a line: of JSON, unless a terminal reads it. If there is\n" +
			"no subscription of this name, it is created, for all events.\n\n" +
			"Each printed event is acknowledged. Those that occur while the command is not running are printed when it\n" +
			"starts again. Several programs with one subscription share its events; with subscriptions of their own, each\n" +
			"gets all events. To look at events without receiving them: orchestrator events tail.",
		Example: "  orchestrator subscription receive worker",
	}
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		diagnostics := logger(p.stderr)
		worker := deliver.NewWorker(pool, args[0], deliver.ToLog(logger(p.stdout)), diagnostics)
		if err := worker.Subscribe(command.Context()); err != nil {
			return err
		}
		hub := listen.NewHub(p.direct(), diagnostics)
		wake, cancel := hub.SubscribePromptly()
		defer cancel()

		group, ctx := errgroup.WithContext(command.Context())
		group.Go(func() error { return hub.Run(ctx) })
		group.Go(func() error { return hub.Probe(ctx, pool) })
		group.Go(func() error { return worker.Run(ctx, wake) })
		return group.Wait()
	})
	return command
}
