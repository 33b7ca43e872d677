package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// A matviewStatus is a row of the view tinydevcrm.matview_status, as far as a table has room.
type matviewStatus struct {
	Matview         string  `json:"matview"`
	Status          string  `json:"status"`
	NotifyWhen      string  `json:"notify_when"`
	Schedule        *string `json:"schedule"`
	LastRefreshedAt *string `json:"last_refreshed_at"`
	Outcome         *string `json:"outcome"`
	RowCount        *int64  `json:"row_count"`
	Duration        *string `json:"duration"`
	ErrorCode       *string `json:"error_code"`
	ErrorMessage    *string `json:"error_message"`
}

func (p *program) statusCommand() *cobra.Command {
	var asJSON, quiet bool
	command := &cobra.Command{
		Use:   "status",
		Short: "Show the materialized views; exit code 1 when one is failing",
		Args:  cobra.NoArgs,
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	command.Flags().BoolVar(&quiet, "quiet", false,
		"print nothing; exit code 0 says that the database answers and has the schema")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, _ []string) error {
		matviews, err := matviewStatuses(command.Context(), pool)
		switch {
		case err != nil:
			return err
		case quiet:
			return nil
		case asJSON:
			encoder := json.NewEncoder(p.stdout)
			encoder.SetIndent("", "  ")
			err = encoder.Encode(matviews)
		default:
			err = printStatuses(p.stdout, matviews)
		}
		if err != nil {
			return fmt.Errorf("print the status: %w", err)
		}
		for _, m := range matviews {
			if m.Status == "failing" {
				return errSilent
			}
		}
		return nil
	})
	return command
}

func matviewStatuses(ctx context.Context, pool *sql.DB) ([]matviewStatus, error) {
	rows, err := pool.QueryContext(ctx, `
		select relation::text, status, notify_when, schedule,
		       to_char(last_refreshed_at, 'YYYY-MM-DD HH24:MI:SSOF'), outcome, row_count,
		       duration::text, error_code, error_message
		  from tinydevcrm.matview_status
		 order by relation::text`)
	if err != nil {
		return nil, fmt.Errorf("read the status: %w", err)
	}
	defer rows.Close()

	matviews := []matviewStatus{}
	for rows.Next() {
		var m matviewStatus
		if err := rows.Scan(&m.Matview, &m.Status, &m.NotifyWhen, &m.Schedule, &m.LastRefreshedAt,
			&m.Outcome, &m.RowCount, &m.Duration, &m.ErrorCode, &m.ErrorMessage); err != nil {
			return nil, fmt.Errorf("read the status: %w", err)
		}
		matviews = append(matviews, m)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the status: %w", err)
	}
	return matviews, nil
}

func printStatuses(w io.Writer, matviews []matviewStatus) error {
	if len(matviews) == 0 {
		_, err := fmt.Fprintln(w, "no materialized view is watched; orchestrator matview create makes one")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MATVIEW\tSTATUS\tSCHEDULE\tNOTIFY WHEN\tLAST REFRESH\tROWS\tERROR")
	for _, m := range matviews {
		failure := "-"
		if m.ErrorMessage != nil {
			failure = *m.ErrorCode + " " + *m.ErrorMessage
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Matview, m.Status, orDash(m.Schedule),
			m.NotifyWhen, orDash(m.LastRefreshedAt), orDash(m.RowCount), failure)
	}
	return table.Flush()
}

func orDash[T any](value *T) string {
	if value == nil {
		return "-"
	}
	return fmt.Sprint(*value)
}
