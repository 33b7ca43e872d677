package main

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// numbersAsTextUsage is the help of an option of subscriptions.
const numbersAsTextUsage = "numbers in the rows of events are texts, for programs that would round them"

func (p *program) webhookCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "webhook COMMAND",
		Short: "Have events posted to a URL",
		Long: "A webhook is a subscription with a URL, to which orchestrator up posts each event, signed as\n" +
			"https://www.standardwebhooks.com/ says. orchestrator subscription lists, pauses and drops it.",
	}
	var matview string
	var attempts int
	var numbersAsText bool
	create := &cobra.Command{
		Use:     "create NAME URL",
		Short:   "Have events posted to a URL; prints the secret that signs them",
		Example: "  orchestrator webhook create alerts https://example.com/in --matview big_orders",
	}
	create.Flags().StringVar(&matview, "matview", "", "only events of this materialized view")
	create.Flags().IntVar(&attempts, "max-attempts", 12, "attempts before a delivery is parked")
	create.Flags().BoolVar(&numbersAsText, "numbers-as-text", false, numbersAsTextUsage)
	audience := addAudience(create)
	create.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		return p.report(pool, command, "%s\n",
			`select tinydevcrm.create_webhook($1, $2, nullif($3, '')::regclass, $4, $5,
			                                  notify_when => nullif($6, ''), each_row => $7)`,
			args[0], args[1], matview, attempts, numbersAsText, audience.notifyWhen, audience.eachRow)
	})

	alter := &cobra.Command{
		Use:   "alter NAME URL",
		Short: "Change the URL of a webhook; pending events go there, and the secret stays",
	}
	alter.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if _, err := pool.ExecContext(command.Context(), "select tinydevcrm.alter_webhook($1, $2)", args[0], args[1]); err != nil {
			return fmt.Errorf("%s: %w", command.CommandPath(), err)
		}
		fmt.Fprintf(p.stdout, "webhook %q has a new URL\n", args[0])
		return nil
	})

	var grace time.Duration
	rotate := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Give a webhook a new secret and print it; the old one signs too for a while",
	}
	rotate.Flags().DurationVar(&grace, "grace", 24*time.Hour, "how long the old secret signs too")
	rotate.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		return p.report(pool, command, "%s\n",
			"select tinydevcrm.rotate_webhook_secret($1, make_interval(secs => $2))", args[0], grace.Seconds())
	})
	command.AddCommand(create, alter, rotate)
	return command
}
