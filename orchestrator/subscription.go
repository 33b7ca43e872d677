package main

import (
	"database/sql"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

func (p *program) subscriptionCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "subscription COMMAND",
		Short: "List subscriptions, pause them, deliver again",
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "List the subscriptions, each with what it waits for",
	}
	list.RunE = p.query(p.listSubscriptions)

	var since time.Duration
	replay := &cobra.Command{
		Use:   "replay NAME",
		Short: "Deliver all told events of the last hours again",
	}
	replay.Flags().DurationVar(&since, "since", time.Hour, "how far back, such as 90m or 24h")
	replay.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		return p.report(pool, command, "deliveries pending again: %s\n",
			"select tinydevcrm.replay_events($1, now() - make_interval(secs => $2))", args[0], since.Seconds())
	})

	command.AddCommand(list, replay,
		p.subscriptionAction("create NAME", "Subscribe to all events; orchestrator listen --subscription NAME takes them",
			"subscription %[2]q has number %[1]s\n", "select tinydevcrm.create_subscription($1)"),
		p.subscriptionAction("drop NAME", "End a subscription, with what is pending",
			"subscription %[2]q is gone\n", "select tinydevcrm.drop_subscription($1)"),
		p.subscriptionAction("pause NAME", "Receive nothing for now; what is told is kept",
			"subscription %[2]q is paused; orchestrator subscription resume ends that\n", "select tinydevcrm.pause_subscription($1)"),
		p.subscriptionAction("resume NAME", "End a pause, or the switching off of a webhook that was gone",
			"subscription %[2]q goes on\n", "select tinydevcrm.resume_subscription($1)"),
		p.subscriptionAction("redeliver NAME", "Deliver again what was parked after its last attempt",
			"deliveries of %[2]q pending again: %[1]s\n", "select tinydevcrm.redeliver_parked($1)"))
	return command
}

// subscriptionAction is a command that calls one function with the name of a subscription and says what
// came of it.
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

// A subscriptionRow is one of tinydevcrm.subscription_status, as the list shows it.
type subscriptionRow struct {
	name, matview, status, age, remark string
	pending, parked, expired           int64
}

func (r *subscriptionRow) fields() []any {
	return []any{&r.name, &r.matview, &r.status, &r.pending, &r.parked, &r.expired, &r.age, &r.remark}
}

func (p *program) listSubscriptions(pool *sql.DB, command *cobra.Command, _ []string) error {
	rows, err := db.Collect(command.Context(), pool, "list the subscriptions", (*subscriptionRow).fields, `
		select subscription, coalesce(matview::text, 'all'), status, pending_count, parked_count, expired_count,
		       coalesce(oldest_pending_age::text, '-'), coalesce(pause_reason, last_error, url, '-')
		  from tinydevcrm.subscription_status
		 order by subscription`)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SUBSCRIPTION\tMATVIEW\tSTATUS\tPENDING\tPARKED\tEXPIRED\tOLDEST\tURL OR WHY")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n",
			r.name, r.matview, r.status, r.pending, r.parked, r.expired, r.age, r.remark)
	}
	return table.Flush()
}
