package main

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/lib/pq"
	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

func (p *program) matviewCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "matview COMMAND",
		Short: "Create, schedule, show, edit, refresh, list and drop materialized views",
	}

	restore := p.nameAction("restore VIEW", "Make a dropped materialized view again, with its rule, schedule and subscriptions",
		"  orchestrator matview restore big_orders", "%[1]s is made again\n", "select tinydevcrm.restore_matview($1)::text")
	restore.Annotations = map[string]string{namesOf: droppedView}
	refresh := &cobra.Command{
		Use:     "refresh VIEW",
		Short:   "Refresh a materialized view now",
		Example: "  orchestrator matview refresh big_orders",
	}
	refresh.RunE = p.query(p.refresh)

	list := p.listCommand("matview", "List the materialized views, those that need attention first",
		"select * from tinydevcrm.matview_status order by is_troubled desc, relation::text",
		func(pool *sql.DB, command *cobra.Command, _ []string) error {
			matviews, err := matviewStatuses(command.Context(), pool)
			if err != nil {
				return err
			}
			return p.printStatuses(matviews)
		})

	command.AddCommand(p.createCommand(), p.watchCommand(),
		p.scheduleCommand(),
		p.viewAction("unschedule", "Stop the scheduled refreshes of a materialized view",
			"%[2]s is no longer refreshed on a schedule\n", "unschedule_matview"),
		p.viewAction("pause", "Pause a materialized view: its schedule does not refresh it",
			"%[2]s is paused: no schedule refreshes it until orchestrator matview resume\n", "pause_matview"),
		p.viewAction("resume", "End the pause of a materialized view", "%[2]s is no longer paused\n", "resume_matview"),
		p.rulesCommand("List the rules for when a refresh notifies", "  orchestrator matview rules",
			"select name, description from tinydevcrm.notify_rules order by rank"),
		p.showCommand(), p.editCommand(), p.replayCommand(), restore, p.droppedCommand(),
		p.viewAction("drop", "Drop a materialized view with its schedule; its subscriptions are notified and stay",
			"%[2]s is dropped; orchestrator matview restore %[2]s makes it again\n", "drop_matview"),
		p.viewAction("accept", "Accept the tables that a view reads, although another one has an old name of theirs",
			"the tables that %[2]s reads are accepted\n", "accept_tables"),
		refresh, list, p.embedCommand(),
		p.viewAction("unembed", "Make the rows of a materialized view private again", "%[2]s is public no longer\n", "forbid_embedding"),
		p.muteCommand("mute VIEW", "Mute a materialized view: its refreshes go on, and none notifies",
			"  orchestrator matview mute big_orders --for 8h",
			"select tinydevcrm.mute_matview($1::text::regclass, now() + make_interval(secs => $2))"),
		p.viewAction("unmute", "End the mute of a materialized view", "%[2]s is no longer muted\n", "unmute_matview"))
	return command
}

// viewAction is a command that calls one function with a materialized view. done has its name as %[2]s.
func (p *program) viewAction(verb, short, done, function string) *cobra.Command {
	return p.nameAction(verb+" VIEW", short, "  orchestrator matview "+verb+" big_orders", done,
		"select tinydevcrm."+function+"($1::text::regclass)")
}

func (p *program) createCommand() *cobra.Command {
	var notifyWhen string
	var key, ignored []string
	var interval, deadline time.Duration
	var after int
	command := &cobra.Command{
		Use:     "create NAME QUERY",
		Short:   "Create a materialized view of one query",
		Example: `  orchestrator matview create big_orders 'select * from orders where total > 1000'`,
	}
	flags := command.Flags()
	flags.StringVar(&notifyWhen, "notify-when", "",
		"rule for when a refresh notifies (default: one that fits the view); orchestrator matview rules lists them")
	flags.StringSliceVar(&ignored, "ignore", nil,
		"columns that the rules changed, rows_added and rows_removed ignore")
	flags.DurationVar(&interval, "notify-interval", 0, "shortest time between two notifications, such as 10m")
	flags.IntVar(&after, "notify-after", 1, "in how many refreshes in a row the rule must hold, or the refresh fail, before it notifies")
	flags.DurationVar(&deadline, "notify-deadline", 0, "notify when the tables that it reads have not changed for so long, such as 26h")
	flags.StringSliceVar(&key, "key", nil,
		"columns that identify a row: with them, the view can be read during a refresh")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var relation string
		var suggested *string
		err := pool.QueryRowContext(command.Context(), `
			select created.relation::text, suggested.notify_when || ', because ' || suggested.reason
			  from tinydevcrm.create_matview(
			           name => $1, query => $2, notify_when => nullif($3, ''), key => $4, ignored_columns => $5,
			           notify_interval => make_interval(secs => $6), notify_after => $7,
			           notify_deadline => make_interval(secs => $8)) as created (relation)
			  left join lateral tinydevcrm._suggest_rule(created.relation) as suggested
			    on $3 = ''`,
			args[0], args[1], notifyWhen, pq.Array(key), pq.Array(ignored), interval.Seconds(), after, deadline.Seconds(),
		).Scan(&relation, &suggested)
		if err != nil {
			return fmt.Errorf("create materialized view %q: %w", args[0], err)
		}
		if suggested != nil {
			fmt.Fprintf(p.stdout, "%s has the rule %s\n", relation, *suggested)
		}
		fmt.Fprintf(p.stdout, "%s is created; next: orchestrator matview schedule %s '5 seconds'\n", relation, relation)
		return nil
	})
	return command
}

// watchCommand keeps each setting whose flag is not given.
func (p *program) watchCommand() *cobra.Command {
	var notifyWhen string
	var ignored []string
	var interval, deadline time.Duration
	var after int
	command := &cobra.Command{
		Use:   "watch VIEW",
		Short: "Watch a materialized view made by hand, or change when one notifies",
		Long: "Watch a materialized view made by hand, or change when one notifies.\n\n" +
			"What is not given stays as it is.",
		Example:     "  orchestrator matview watch big_orders --notify-when changed --notify-interval 10m",
		Annotations: map[string]string{namesOf: anyView},
	}
	flags := command.Flags()
	flags.StringVar(&notifyWhen, "notify-when", "", "as in matview create")
	flags.StringSliceVar(&ignored, "ignore", nil, "as in matview create; --ignore= ignores none")
	flags.DurationVar(&interval, "notify-interval", 0, "as in matview create")
	flags.IntVar(&after, "notify-after", 1, "as in matview create")
	flags.DurationVar(&deadline, "notify-deadline", 0, "as in matview create; 0 for none")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var rule string
		err := pool.QueryRowContext(command.Context(), `
			select notify_when
			  from tinydevcrm.watch_matview(
			           $1::text::regclass, nullif($2, ''), case when $3 then $4::text[] end,
			           case when $5 then make_interval(secs => $6) end, case when $7 then $8::integer end,
			           case when $9 then make_interval(secs => $10) end)`,
			args[0], notifyWhen, flags.Changed("ignore"), pq.Array(ignored),
			flags.Changed("notify-interval"), interval.Seconds(),
			flags.Changed("notify-after"), after, flags.Changed("notify-deadline"), deadline.Seconds(),
		).Scan(&rule)
		if err != nil {
			return fmt.Errorf("watch %q: %w", args[0], err)
		}
		fmt.Fprintf(p.stdout, "%s is watched with the rule %s\n", args[0], rule)
		return nil
	})
	return command
}

func (p *program) droppedCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "dropped",
		Short:   "List the dropped materialized views that can be restored",
		Example: "  orchestrator matview dropped",
	}
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, _ []string) error {
		dropped, err := db.Collect(command.Context(), pool, "list the dropped views",
			func(row *[4]string) []any { return []any{&row[0], &row[1], &row[2], &row[3]} }, `
			select format('%I.%I', schema_name, name), to_char(dropped_at, 'YYYY-MM-DD HH24:MI:SSOF'), dropped_by,
			       regexp_replace(query, '\s+', ' ', 'g')
			  from tinydevcrm.dropped_matviews
			 order by dropped_at desc`)
		if err != nil {
			return err
		}
		table := p.newList("there is no dropped view to restore", "MATVIEW", "DROPPED", "BY", "QUERY")
		for _, row := range dropped {
			table.row(row[0], row[1], row[2], row[3])
		}
		return table.Flush()
	})
	return command
}

func (p *program) rulesCommand(short, example, query string) *cobra.Command {
	command := &cobra.Command{
		Use:     "rules",
		Short:   short,
		Example: example,
	}
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, _ []string) error {
		rules, err := db.Collect(command.Context(), pool, "list the rules",
			func(rule *[2]string) []any { return []any{&rule[0], &rule[1]} },
			query)
		if err != nil {
			return err
		}
		table := p.newTable()
		for _, rule := range rules {
			table.row(rule[0], rule[1])
		}
		return table.Flush()
	})
	return command
}
