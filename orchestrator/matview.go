package main

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/lib/pq"
	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

func (p *program) matviewCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "matview COMMAND",
		Short: "Create, refresh, list and drop materialized views",
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

	command.AddCommand(p.createCommand(), p.watchCommand(), drop, refresh, list, p.embedCommand(), p.unembedCommand())
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
	flags.StringVar(&notifyWhen, "notify-when", "not_empty",
		"which refreshes notify: not_empty, empty, became_not_empty, changed, rows_added, always, never")
	flags.StringSliceVar(&ignored, "ignore", nil,
		"columns that the rules changed and rows_added ignore")
	flags.DurationVar(&interval, "notify-interval", 0, "shortest time between two notifications, such as 10m")
	flags.StringSliceVar(&key, "key", nil,
		"columns that identify a row: with them, the view can be read during a refresh")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var relation string
		err := pool.QueryRowContext(command.Context(), `
			select tinydevcrm.create_matview(
			           name => $1, query => $2, notify_when => $3, key => $4, ignored_columns => $5,
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

func (p *program) embedCommand() *cobra.Command {
	var origins []string
	command := &cobra.Command{
		Use:   "embed NAME",
		Short: "Make the rows of a materialized view public, as a widget for other sites",
		Long: "Make the rows of a materialized view public, as a widget for other sites.\n\n" +
			"Everyone who has the address can read them. The origins only limit the sites on which browsers show them.",
		Example: "  orchestrator matview embed digit --origin https://example.com",
	}
	command.Flags().StringSliceVar(&origins, "origin", nil,
		"site that may show the widget, such as https://example.com, https://*.example.com, or * for any; may be repeated")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var relation string
		err := pool.QueryRowContext(command.Context(), `
			select format('%I.%I', nspname, relname)
			  from tinydevcrm.allow_embedding($1::text::regclass, $2) as embedded
			  join pg_catalog.pg_class
			    on pg_class.oid = embedded.relation
			  join pg_catalog.pg_namespace
			    on pg_namespace.oid = relnamespace`, args[0], pq.Array(origins),
		).Scan(&relation)
		if err != nil {
			return fmt.Errorf("embed %q: %w", args[0], err)
		}
		fmt.Fprintf(p.stdout, "%s is public: /embed/%s of the page\n", args[0], url.PathEscape(relation))
		return nil
	})
	return command
}

func (p *program) unembedCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "unembed NAME",
		Short: "Make the rows of a materialized view private again",
	}
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if _, err := pool.ExecContext(command.Context(),
			"select tinydevcrm.forbid_embedding($1::text::regclass)", args[0]); err != nil {
			return fmt.Errorf("unembed %q: %w", args[0], err)
		}
		fmt.Fprintf(p.stdout, "%s is no longer public\n", args[0])
		return nil
	})
	return command
}

// query runs work with an open pool.
func (p *program) query(work func(*sql.DB, *cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		return p.withDatabase(command.Context(), func(pool *sql.DB) error {
			return work(pool, command, args)
		})
	}
}

func (p *program) refresh(pool *sql.DB, command *cobra.Command, args []string) error {
	var (
		outcome       string
		rowCount      sql.Null[int64]
		code, message sql.Null[string]
		seconds       float64
	)
	err := pool.QueryRowContext(command.Context(), `
		select case
		           when events.outcome is not null then events.outcome
		           when pg_class.oid is null then 'dropped'
		           else 'requested'
		       end,
		       events.row_count,
		       events.error_code,
		       events.error_message,
		       coalesce(extract(epoch from events.duration), 0)::double precision
		  from tinydevcrm.refresh_matview($1::text::regclass) as events
		  left join pg_catalog.pg_class
		    on pg_class.oid = $1::text::regclass
		   and not tinydevcrm._is_session_of(pg_class.relowner)`, args[0],
	).Scan(&outcome, &rowCount, &code, &message, &seconds)
	if err != nil {
		return fmt.Errorf("refresh %q: %w", args[0], err)
	}
	if code.Valid {
		return failedRefresh("the refresh", args[0], message.V, code.V)
	}
	switch {
	case rowCount.Valid:
		fmt.Fprintf(p.stdout, "%s: %s, %s in %s\n", args[0], outcome,
			words.Count(rowCount.V, "row"), words.Duration(time.Duration(seconds*float64(time.Second))))
	case outcome == "requested":
		fmt.Fprintf(p.stdout, "%s belongs to another role, whose job will refresh it within a minute\n", args[0])
	default:
		fmt.Fprintf(p.stdout, "%s: %s, another refresh is under way\n", args[0], outcome)
	}
	return nil
}

// failedRefresh is the error, with exit code 1, of a command whose refresh failed.
func failedRefresh(which, matview, message, code string) error {
	return &db.UserError{
		Status:  http.StatusUnprocessableEntity,
		Message: fmt.Sprintf("%s of %s failed: %s (SQLSTATE %s)", which, matview, message, code),
		Hint:    "Its rows are those of the last refresh that succeeded.",
	}
}

func (p *program) scheduleCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "schedule NAME SCHEDULE",
		Short: "Refresh a materialized view now, and then on a schedule",
		Long: "Refresh a materialized view now, and then on a schedule.\n\n" +
			"When the first refresh fails, the schedule is still set, and the exit code is 1.",
		Example: "  orchestrator schedule matview '5 seconds'\n" +
			"  orchestrator schedule matview '0 7 * * *'",
	}
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var schedule, code, message string
		err := pool.QueryRowContext(command.Context(), `
			select schedule, coalesce(error_code, ''), coalesce(error_message, '')
			  from tinydevcrm.schedule_matview($1::text::regclass, $2)`, args[0], args[1],
		).Scan(&schedule, &code, &message)
		if err != nil {
			return fmt.Errorf("schedule %q: %w", args[0], err)
		}
		fmt.Fprintf(p.stdout, "%s is refreshed on schedule %q\n", args[0], schedule)
		if code != "" {
			return failedRefresh("the schedule is set, and the first refresh", args[0], message, code)
		}
		return nil
	})
	return command
}

func (p *program) unscheduleCommand() *cobra.Command {
	return p.relationCommand("unschedule", "Stop the scheduled refreshes of a materialized view",
		"%s is no longer refreshed on a schedule\n")
}

func (p *program) pauseCommand() *cobra.Command {
	return p.relationCommand("pause", "Pause the scheduled refreshes of a materialized view",
		"%s is paused until orchestrator resume\n")
}

func (p *program) resumeCommand() *cobra.Command {
	return p.relationCommand("resume", "End the pause of a materialized view",
		"%s is no longer paused\n")
}

// relationCommand is a command that calls the function of its name for one materialized view.
func (p *program) relationCommand(verb, short, done string) *cobra.Command {
	command := &cobra.Command{Use: verb + " NAME", Short: short}
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if _, err := pool.ExecContext(command.Context(),
			"select tinydevcrm."+verb+"_matview($1::text::regclass)", args[0]); err != nil {
			return fmt.Errorf("%s %q: %w", verb, args[0], err)
		}
		fmt.Fprintf(p.stdout, done, args[0])
		return nil
	})
	return command
}
