package main

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

func (p *program) subscriptionCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "subscription COMMAND",
		Short: "Create, list, receive, test, alter, pause, mute, retry and replay subscriptions",
	}
	list := p.listCommand("subscription", "List the subscriptions and their pending deliveries, those that need attention first",
		"select * from tinydevcrm.subscription_status order by is_troubled desc, subscription", p.listSubscriptions)

	command.AddCommand(list, p.replayEventsCommand(), p.testSubscriptionCommand(), p.previewMessageCommand(), p.alterSubscriptionCommand(), p.receiveCommand(),
		p.muteCommand("mute SUBSCRIPTION", "Mute a subscription; it never gets the events of that time",
			"  orchestrator subscription mute sales --for 2h",
			"select tinydevcrm.mute_subscription($1, now() + make_interval(secs => $2))"),
		p.nameAction("unmute SUBSCRIPTION", "End the mute of a subscription", "  orchestrator subscription unmute sales",
			"%[2]s is no longer muted\n", "select tinydevcrm.unmute_subscription($1)"),
		p.createSubscriptionCommand(), p.audienceCommand(),
		p.rulesCommand("List the rules that a subscription may have of its own", "  orchestrator subscription rules",
			"select name, description from tinydevcrm.subscription_rules() order by rank"),
		p.digestCommand(),
		p.nameAction("drop SUBSCRIPTION", "Drop a subscription and its pending deliveries",
			"  orchestrator subscription drop sales",
			"subscription %[2]q is dropped\n", "select tinydevcrm.drop_subscription($1)"),
		p.nameAction("pause SUBSCRIPTION", "Pause a subscription; its events are kept",
			"  orchestrator subscription pause sales",
			"subscription %[2]q is paused; orchestrator subscription resume ends the pause\n", "select tinydevcrm.pause_subscription($1)"),
		p.nameAction("resume SUBSCRIPTION", "Resume a paused subscription, or a webhook whose endpoint was gone",
			"  orchestrator subscription resume sales",
			"subscription %[2]q is resumed\n", "select tinydevcrm.resume_subscription($1)"),
		p.nameAction("retry SUBSCRIPTION", "Try again now what waits for a retry, and an endpoint that is down",
			"  orchestrator subscription retry sales",
			"deliveries of %[2]q that are tried again now: %[1]s\n", "select tinydevcrm.retry_subscription($1)"),
		p.nameAction("redeliver SUBSCRIPTION", "Deliver the parked (dead-lettered) deliveries again",
			"  orchestrator subscription redeliver sales",
			"deliveries of %[2]q pending again: %[1]s\n", "select tinydevcrm.redeliver_parked($1)"))
	return command
}

func (p *program) replayEventsCommand() *cobra.Command {
	var since time.Duration
	replay := &cobra.Command{
		Use:     "replay SUBSCRIPTION",
		Short:   "Deliver the notified events of the last hours again",
		Example: "  orchestrator subscription replay sales --since 24h",
	}
	replay.Flags().DurationVar(&since, "since", time.Hour, "age of the oldest event, such as 90m or 24h")
	replay.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		return p.report(pool, command, "deliveries pending again: %s\n",
			"select tinydevcrm.replay_events($1, now() - make_interval(secs => $2))", args[0], since.Seconds())
	})
	return replay
}

func (p *program) createSubscriptionCommand() *cobra.Command {
	var numbersAsText bool
	var matview string
	create := &cobra.Command{
		Use:     "create NAME",
		Short:   "Subscribe to events; orchestrator subscription receive prints them",
		Example: "  orchestrator subscription create new-orders --matview big_orders --notify-when rows_added",
	}
	create.Flags().StringVar(&matview, "matview", "", "only events of this materialized view")
	create.Flags().BoolVar(&numbersAsText, "numbers-as-text", false, numbersAsTextUsage)
	audience := addAudience(create)
	create.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var number int64
		if err := pool.QueryRowContext(command.Context(),
			`select tinydevcrm.create_subscription($1, nullif($2, '')::regclass, numbers_as_text => $3,
			                                       notify_when => nullif($4, ''), each_row => $5)`,
			args[0], matview, numbersAsText, audience.notifyWhen, audience.eachRow).Scan(&number); err != nil {
			return fmt.Errorf("%s: %w", command.CommandPath(), err)
		}
		fmt.Fprintf(p.stdout, "subscription %q has number %d\n", args[0], number)
		return nil
	})
	return create
}

// nameAction is a command that calls one function with a name. done has the result as %[1]s and the name as %[2]s.
func (p *program) nameAction(use, short, example, done, statement string) *cobra.Command {
	command := &cobra.Command{Use: use, Short: short, Example: example}
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
	name, matview, rules, status, age, next, remark string
	pending, parked, expired                        int64
	isTroubled                                      bool
}

func (r *subscriptionRow) fields() []any {
	return []any{&r.name, &r.matview, &r.rules, &r.status, &r.pending, &r.parked, &r.expired, &r.age, &r.next, &r.remark, &r.isTroubled}
}

func (p *program) listSubscriptions(pool *sql.DB, command *cobra.Command, _ []string) error {
	rows, err := db.Collect(command.Context(), pool, "list the subscriptions", (*subscriptionRow).fields, `
		select subscription, coalesce(matview::text, dropped_matview, 'all'), coalesce(notify_when, '-'), status, pending_count, parked_count, expired_count,
		       coalesce(oldest_pending_age::text, '-'),
		       case when next_attempt_at > now() then to_char(next_attempt_at, 'YYYY-MM-DD HH24:MI:SS') else '-' end,
		       coalesce(to_char(muted_until, '"muted until" YYYY-MM-DD HH24:MI:SSOF'), pause_reason, last_error, url, '-'), is_troubled
		  from tinydevcrm.subscription_status
		 order by is_troubled desc, subscription`)
	if err != nil {
		return err
	}
	table := p.newList("there is no subscription; orchestrator webhook create, email create or subscription create makes one",
		"SUBSCRIPTION", "MATVIEW", "RULES", "STATUS", "PENDING", "PARKED", "EXPIRED", "OLDEST", "NEXT ATTEMPT", "URL OR WHY")
	for _, r := range rows {
		table.row(r.name, r.matview, r.rules, alarming(r.status, r.isTroubled), r.pending, r.parked, r.expired, r.age, r.next, r.remark)
	}
	return table.Flush()
}
