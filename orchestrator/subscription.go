package main

import (
	"database/sql"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func (p *program) subscriptionCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "subscription COMMAND",
		Short: "List, pause and replay subscriptions",
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "List the subscriptions and their pending deliveries",
	}
	list.RunE = p.query(p.listSubscriptions)

	var since time.Duration
	replay := &cobra.Command{
		Use:   "replay NAME",
		Short: "Deliver the notified events of the last hours again",
	}
	replay.Flags().DurationVar(&since, "since", time.Hour, "age of the oldest event, such as 90m or 24h")
	replay.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		return p.report(pool, command, "deliveries pending again: %s\n",
			"select tinydevcrm.replay_events($1, now() - make_interval(secs => $2))", args[0], since.Seconds())
	})

	command.AddCommand(list, replay,
		p.subscriptionAction("create NAME", "Subscribe to all events; orchestrator listen --subscription NAME receives them",
			"subscription %[2]q has number %[1]s\n", "select tinydevcrm.create_subscription($1)"),
		p.subscriptionAction("drop NAME", "Drop a subscription and its pending deliveries",
			"subscription %[2]q is dropped\n", "select tinydevcrm.drop_subscription($1)"),
		p.subscriptionAction("pause NAME", "Pause a subscription; its events are kept",
			"subscription %[2]q is paused; orchestrator subscription resume ends the pause\n", "select tinydevcrm.pause_subscription($1)"),
		p.subscriptionAction("resume NAME", "Resume a paused subscription, or a webhook that was switched off because its endpoint was gone",
			"subscription %[2]q is no longer paused\n", "select tinydevcrm.resume_subscription($1)"),
		p.subscriptionAction("redeliver NAME", "Deliver the parked (dead-lettered) deliveries again",
			"deliveries of %[2]q pending again: %[1]s\n", "select tinydevcrm.redeliver_parked($1)"))
	return command
}

// subscriptionAction is a command that calls one function with the name of a subscription and prints the
// result.
func (p *program) subscriptionAction(use, short, done, statement string) *cobra.Command {
	command := &cobra.Command{Use: use, Short: short}
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var result sql.Null[string]
		if err := pool.QueryRowContext(command.Context(), statement, args[0]).Scan(&result); err != nil {
			return fmt.Errorf("%s: %w", command.CommandPath(), err)
		}
		fmt.Fprintf(p.stdout, done, result.V, args[0])
		return nil
	})
	return command
}

func (p *program) listSubscriptions(pool *sql.DB, command *cobra.Command, _ []string) error {
	rows, err := pool.QueryContext(command.Context(), `
		select subscription, coalesce(matview::text, 'all'), status, pending_count, parked_count, expired_count,
		       coalesce(oldest_pending_age::text, '-'), coalesce(pause_reason, last_error, url, '-')
		  from tinydevcrm.subscription_status
		 order by subscription`)
	if err != nil {
		return fmt.Errorf("list the subscriptions: %w", err)
	}
	defer rows.Close()
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SUBSCRIPTION\tMATVIEW\tSTATUS\tPENDING\tPARKED\tEXPIRED\tOLDEST\tURL OR WHY")
	for rows.Next() {
		var name, matview, status, age, remark string
		var pending, parked, expired int64
		if err := rows.Scan(&name, &matview, &status, &pending, &parked, &expired, &age, &remark); err != nil {
			return fmt.Errorf("list the subscriptions: %w", err)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", name, matview, status, pending, parked, expired, age, remark)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("list the subscriptions: %w", err)
	}
	return table.Flush()
}

func (p *program) webhookCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "webhook COMMAND",
		Short: "Post events to a URL",
		Long: "A webhook is a subscription with a URL, to which orchestrator up posts each event, signed as\n" +
			"https://www.standardwebhooks.com/ says. orchestrator subscription lists it,pauses and drops it.",
	}
	var matview string
	var attempts int
	create := &cobra.Command{
		Use:     "create NAME URL",
		Short:   "Post events to a URL; prints the secret that signs them",
		Example: "  orchestrator webhook create alerts https://example.com/in --matview big_orders",
	}
	create.Flags().StringVar(&matview, "matview", "", "only events of this materialized view")
	create.Flags().IntVar(&attempts, "max-attempts", 12, "attempts before a delivery is parked")
	create.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		return p.report(pool, command, "%s\n",
			"select tinydevcrm.create_webhook($1, $2, nullif($3, '')::regclass, $4)", args[0], args[1], matview, attempts)
	})

	var grace time.Duration
	rotate := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Give a webhook a new secret and print it; the old one also signs for a while",
	}
	rotate.Flags().DurationVar(&grace, "grace", 24*time.Hour, "how long the old secret also signs")
	rotate.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		return p.report(pool, command, "%s\n",
			"select tinydevcrm.rotate_webhook_secret($1, make_interval(secs => $2))", args[0], grace.Seconds())
	})
	command.AddCommand(create, rotate)
	return command
}

// report runs a query that returns one value, and prints it.
func (p *program) report(pool *sql.DB, command *cobra.Command, format, query string, args ...any) error {
	var value string
	if err := pool.QueryRowContext(command.Context(), query, args...).Scan(&value); err != nil {
		return fmt.Errorf("%s: %w", command.CommandPath(), err)
	}
	fmt.Fprintf(p.stdout, format, value)
	return nil
}
