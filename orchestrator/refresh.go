package main

import (
	"database/sql"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

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
		fmt.Fprintf(p.stdout, "%s belongs to another role, whose job refreshes it within a minute\n", args[0])
	default:
		fmt.Fprintf(p.stdout, "%s: %s, another refresh is under way\n", args[0], outcome)
	}
	return nil
}

// failedRefresh ends a command with exit code 1: the refresh was its work, or a part of it.
func failedRefresh(which, matview, message, code string) error {
	return &db.UserError{
		Status:  http.StatusUnprocessableEntity,
		Message: fmt.Sprintf("%s of %s failed: %s (SQLSTATE %s)", which, matview, message, code),
		Hint:    "Its rows are those of the last refresh that succeeded.",
	}
}
