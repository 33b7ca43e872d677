package main

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// A replayed is a row of tinydevcrm.replay_rule().
type replayed struct {
	startedAt, why       string
	eventID              int64
	isKnown              bool
	rows, added, removed *int64
}

func (r *replayed) fields() []any {
	return []any{&r.startedAt, &r.eventID, &r.isKnown, &r.why, &r.rows, &r.added, &r.removed}
}

// replayCommand keeps each setting of the view whose flag is not given.
func (p *program) replayCommand() *cobra.Command {
	var rule string
	var since, interval time.Duration
	var after int
	command := &cobra.Command{
		Use:     "replay VIEW",
		Short:   "Show at which of its past refreshes a view would have notified by a rule",
		Example: "  orchestrator matview replay big_orders --rule rows_added --since 720h",
	}
	flags := command.Flags()
	flags.StringVar(&rule, "rule", "", "the rule (default: that of the view); orchestrator matview rules lists them")
	flags.DurationVar(&since, "since", 7*24*time.Hour, "how far to look back")
	flags.DurationVar(&interval, "notify-interval", 0, "as in matview create (default: that of the view)")
	flags.IntVar(&after, "notify-after", 1, "as in matview create; if it is not given, that of the view")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		found, err := db.Collect(command.Context(), pool, "replay the rule", (*replayed).fields, `
			select to_char(started_at, 'YYYY-MM-DD HH24:MI:SSOF'), event_id, is_known, why, row_count, added_count, removed_count
			  from tinydevcrm.replay_rule(
			           $1::text::regclass, nullif($2, ''), now() - make_interval(secs => $3),
			           case when $4 then $5::integer end, case when $6 then make_interval(secs => $7) end)`,
			args[0], rule, since.Seconds(), flags.Changed("notify-after"), after,
			flags.Changed("notify-interval"), interval.Seconds())
		if err != nil {
			return err
		}
		known := 0
		table := p.newList("", "REFRESH", "EVENT", "ROWS", "ADDED", "REMOVED", "WHY")
		for _, r := range found {
			if r.isKnown {
				known++
			}
			table.row(r.startedAt, r.eventID, orDash(r.rows), orDash(r.added), orDash(r.removed), r.why)
		}
		if err := table.Flush(); err != nil {
			return fmt.Errorf("print the replay: %w", err)
		}
		_, err = fmt.Fprintf(p.stdout, "%s would have notified %d times in %s; of %d other refreshes that is not known\n",
			args[0], known, since, len(found)-known)
		return err
	})
	return command
}
