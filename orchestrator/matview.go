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
		Short: "Create, show, edit, refresh, list and drop materialized views",
	}

	drop := &cobra.Command{
		Use:   "drop NAME",
		Short: "Drop a materialized view with its schedule",
	}
	drop.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if _, err := pool.ExecContext(command.Context(),
			"select tinydevcrm.drop_matview($1::text::regclass)", args[0]); err != nil {
			return fmt.Errorf("drop materialized view %q: %w", args[0], err)
		}
		fmt.Fprintf(p.stdout, "%s is gone\n", args[0])
		return nil
	})

	refresh := &cobra.Command{
		Use:   "refresh NAME",
		Short: "Refresh a materialized view now",
	}
	refresh.RunE = p.query(p.refresh)

	list := &cobra.Command{
		Use:   "list",
		Short: "List the materialized views, as status does",
	}
	list.RunE = p.query(func(pool *sql.DB, command *cobra.Command, _ []string) error {
		matviews, err := matviewStatuses(command.Context(), pool)
		if err != nil {
			return err
		}
		return printStatuses(p.stdout, matviews)
	})

	command.AddCommand(p.createCommand(), p.watchCommand(), p.rulesCommand(), p.showCommand(), p.editCommand(), drop, refresh, list, p.embedCommand(), p.unembedCommand())
	return command
}

func (p *program) createCommand() *cobra.Command {
	var notifyWhen string
	var key, ignored []string
	var interval time.Duration
	command := &cobra.Command{
		Use:     "create NAME QUERY",
		Short:   "Create a materialized view of one query",
		Example: `  orchestrator matview create big_orders 'select * from orders where total > 1000'`,
	}
	flags := command.Flags()
	flags.StringVar(&notifyWhen, "notify-when", "",
		"rule for when a refresh notifies, by default when it has rows; orchestrator matview rules lists them")
	flags.StringSliceVar(&ignored, "ignore", nil,
		"columns that the rules changed and rows_added ignore")
	flags.DurationVar(&interval, "notify-interval", 0, "shortest time between two notifications, such as 10m")
	flags.StringSliceVar(&key, "key", nil,
		"columns that identify a row: with them, the view can be read during a refresh")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var relation string
		err := pool.QueryRowContext(command.Context(), `
			select tinydevcrm.create_matview(
			           name => $1, query => $2, notify_when => nullif($3, ''), key => $4, ignored_columns => $5,
			           notify_interval => make_interval(secs => $6))::text`,
			args[0], args[1], notifyWhen, pq.Array(key), pq.Array(ignored), interval.Seconds(),
		).Scan(&relation)
		if err != nil {
			return fmt.Errorf("create materialized view %q: %w", args[0], err)
		}
		fmt.Fprintf(p.stdout, "%s is created; next: orchestrator schedule %s '5 seconds'\n", relation, relation)
		return nil
	})
	return command
}

// watchCommand keeps each setting whose flag is not given.
func (p *program) watchCommand() *cobra.Command {
	var notifyWhen string
	var ignored []string
	var interval time.Duration
	command := &cobra.Command{
		Use:   "watch NAME",
		Short: "Watch a materialized view made by hand, or change when one notifies",
	}
	flags := command.Flags()
	flags.StringVar(&notifyWhen, "notify-when", "", "as in matview create")
	flags.StringSliceVar(&ignored, "ignore", nil, "as in matview create; --ignore= ignores none")
	flags.DurationVar(&interval, "notify-interval", 0, "as in matview create")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var rule string
		err := pool.QueryRowContext(command.Context(), `
			select notify_when
			  from tinydevcrm.watch_matview(
			           $1::text::regclass, nullif($2, ''), case when $3 then $4::text[] end,
			           case when $5 then make_interval(secs => $6) end)`,
			args[0], notifyWhen, flags.Changed("ignore"), pq.Array(ignored),
			flags.Changed("notify-interval"), interval.Seconds(),
		).Scan(&rule)
		if err != nil {
			return fmt.Errorf("watch %q: %w", args[0], err)
		}
		fmt.Fprintf(p.stdout, "%s is watched with the rule %s\n", args[0], rule)
		return nil
	})
	return command
}

func (p *program) rulesCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "rules",
		Short: "List the rules for when a refresh notifies",
	}
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, _ []string) error {
		rules, err := db.Collect(command.Context(), pool, "list the rules",
			func(rule *[2]string) []any { return []any{&rule[0], &rule[1]} },
			"select name, description from tinydevcrm.notify_rules order by rank")
		if err != nil {
			return err
		}
		table := newTable(p.stdout)
		for _, rule := range rules {
			table.row(rule[0], rule[1])
		}
		return table.Flush()
	})
	return command
}
