package main

import (
	"database/sql"
	"fmt"

	"github.com/spf13/cobra"
)

func (p *program) scheduleCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "schedule VIEW SCHEDULE",
		Short: "Refresh a materialized view now and from now on by a schedule",
		Long: "Refresh a materialized view now and from now on by a schedule.\n\n" +
			"A schedule is in words, such as hourly, daily at 7:00, weekdays at 9:00, monday and thursday at 18:30 or\n" +
			"last day of the month at 7:00; a period, such as 5 seconds or 10 minutes; or the five fields of cron. The\n" +
			"name of a time zone may follow. Without one it is in pg_cron's, which is GMT unless cron.timezone is set.\n" +
			"Or it is on change: as soon as a table that the view reads has changed.\n\n" +
			"When the first refresh fails, the exit code is 1, and the schedule is set all the same.",
		Example: "  orchestrator matview schedule big_orders '5 seconds'\n" +
			"  orchestrator matview schedule big_orders 'daily at 7:00' --time-zone Europe/Berlin\n" +
			"  orchestrator matview schedule big_orders '0 7 * * 1-5'\n" +
			"  orchestrator matview schedule big_orders 'on change'",
	}
	timeZone := command.Flags().String("time-zone", "", "the time zone of the schedule, such as Europe/Berlin")
	catchUp := command.Flags().Bool("catch-up", false,
		"make up, once, for times that pass while the database is down (default: when due at most once an hour)")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var schedule, code, message string
		err := pool.QueryRowContext(command.Context(), `
			select concat_ws(' ', schedule, time_zone), coalesce(error_code, ''), coalesce(error_message, '')
			  from tinydevcrm.schedule_matview($1::text::regclass, $2, nullif($3, ''), $4)`, args[0], args[1], *timeZone,
			sql.NullBool{Bool: *catchUp, Valid: command.Flags().Changed("catch-up")},
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
