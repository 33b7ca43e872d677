package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/lib/pq"
	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// A matviewStatus is a row of the view tinydevcrm.matview_status, with the columns that a terminal has room
// for.
type matviewStatus struct {
	Matview         string  `json:"matview"`
	Status          string  `json:"status"`
	NotifyWhen      string  `json:"notify_when"`
	MutedUntil      *string `json:"muted_until"`
	Schedule        *string `json:"schedule"`
	NextDueAt       *string `json:"next_due_at"`
	LateReason      *string `json:"late_reason"`
	LateSince       *string `json:"late_since"`
	LastRefreshedAt *string `json:"last_refreshed_at"`
	// LastCheckedAt is when its schedule last came to it, LastChangedAt when its tables last changed.
	LastCheckedAt   *string `json:"last_checked_at"`
	LastChangedAt   *string `json:"last_changed_at"`
	IsTracked       bool    `json:"is_tracked"`
	UntrackedReason *string `json:"untracked_reason"`
	NotifyDeadline  *string `json:"notify_deadline"`
	Outcome         *string `json:"outcome"`
	SuppressedBy    *string `json:"suppressed_by"`
	Method          *string `json:"method"`
	PlainReason     *string `json:"plain_reason"`
	RowCount        *int64  `json:"row_count"`
	Duration        *string `json:"duration"`
	ErrorCode       *string `json:"error_code"`
	ErrorMessage    *string `json:"error_message"`
	FailingSince    *string `json:"failing_since"`
	// Reads are the tables and views that it reads.
	Reads []string `json:"reads"`
	// RenamedRead says which of them was renamed while another one has its old name.
	RenamedRead *string `json:"renamed_read"`
	IsTroubled  bool    `json:"is_troubled"`
	// IsManaged is whether files define it.
	IsManaged bool `json:"is_managed"`
}

func (p *program) statusCommand() *cobra.Command {
	var asJSON, quiet bool
	command := &cobra.Command{
		Use:   "status",
		Short: "Show the materialized views and whatever needs attention",
		Long: "Show the materialized views, those that need attention first, and the subscriptions, sources and settings of\n" +
			"the server that need it. The exit code is 1 when anything does.",
		Example: "  orchestrator status\n" +
			"  orchestrator status --json",
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	command.Flags().BoolVar(&quiet, "quiet", false,
		"print nothing; exit code 0 means that the database answers and has the schema")
	command.PreRunE = func(*cobra.Command, []string) error {
		if asJSON && quiet {
			return badUsage("Give one of them.", "--json and --quiet exclude each other")
		}
		return nil
	}
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, _ []string) error {
		matviews, err := matviewStatuses(command.Context(), pool)
		switch {
		case err != nil:
			return err
		case quiet:
			return nil
		case asJSON:
			err = p.printJSON(matviews, "  ")
		default:
			err = p.printStatuses(matviews)
		}
		if err != nil {
			return fmt.Errorf("print the status: %w", err)
		}
		hasTroubles, err := p.printTroubles(command.Context(), pool)
		if err != nil {
			return err
		}
		isTroubled := func(m matviewStatus) bool { return m.IsTroubled }
		if hasTroubles || slices.ContainsFunc(matviews, isTroubled) {
			return errSilent
		}
		return nil
	})
	return command
}

// printTroubles prints what needs attention beside the views, and reports whether anything does.
func (p *program) printTroubles(ctx context.Context, pool *sql.DB) (bool, error) {
	findings, err := checkInstallation(ctx, pool)
	if err != nil {
		return false, err
	}
	painter := p.painterOf(p.stderr)
	for _, finding := range findings {
		fmt.Fprintf(p.stderr, "%s: %s (%s)\n  Hint: %s\n", painter.paint(red, "not ok"), finding.what, printable(finding.detail), finding.hint)
	}
	troubles, err := subscriptionTroubles(ctx, pool)
	if err != nil {
		return false, err
	}
	others, err := sourceTroubles(ctx, pool)
	if err != nil {
		return false, err
	}
	troubles = append(troubles, others...)
	for _, trouble := range troubles {
		fmt.Fprintln(p.stderr, painter.paint(red, printable(trouble)))
	}
	return len(findings)+len(troubles) > 0, nil
}

func (m *matviewStatus) fields() []any {
	return []any{&m.Matview, &m.Status, &m.NotifyWhen, &m.MutedUntil, &m.Schedule, &m.NextDueAt, &m.LateReason, &m.LateSince,
		&m.LastRefreshedAt, &m.LastCheckedAt, &m.LastChangedAt, &m.IsTracked, &m.UntrackedReason, &m.NotifyDeadline, &m.Outcome, &m.SuppressedBy, &m.Method, &m.PlainReason, &m.RowCount, &m.Duration, &m.ErrorCode,
		&m.ErrorMessage, &m.FailingSince, pq.Array(&m.Reads), &m.RenamedRead, &m.IsTroubled, &m.IsManaged}
}

func matviewStatuses(ctx context.Context, pool *sql.DB) ([]matviewStatus, error) {
	return db.Collect(ctx, pool, "read the status", (*matviewStatus).fields, `
		select relation::text, status, notify_when, to_char(muted_until, 'YYYY-MM-DD HH24:MI:SSOF'), schedule,
		       to_char(next_due_at, 'YYYY-MM-DD HH24:MI:SSOF'), late_reason,
		       to_char(late_since, 'YYYY-MM-DD HH24:MI:SSOF'),
		       to_char(last_refreshed_at, 'YYYY-MM-DD HH24:MI:SSOF'), to_char(last_checked_at, 'YYYY-MM-DD HH24:MI:SSOF'),
		       to_char(last_changed_at, 'YYYY-MM-DD HH24:MI:SSOF'), is_tracked, untracked_reason, notify_deadline::text, outcome, suppressed_by, method, plain_reason,
		       row_count, duration::text, error_code, error_message,
		       to_char(failing_since, 'YYYY-MM-DD HH24:MI:SSOF'), reads::text[], renamed_read, is_troubled, is_managed
		  from tinydevcrm.matview_status
		 order by is_troubled desc, relation::text`)
}

// subscriptionTroubles returns the subscriptions that need attention, such as those whose deliveries fail.
func subscriptionTroubles(ctx context.Context, pool *sql.DB) ([]string, error) {
	return db.Collect(ctx, pool, "read the status of subscriptions", func(trouble *string) []any { return []any{trouble} }, `
		select format('subscription %s is %s: %s pending, %s parked%s', subscription, status, pending_count, parked_count,
		              ' (' || coalesce(pause_reason, last_error, dropped_matview) || ')')
		  from tinydevcrm.subscription_status
		 where is_troubled
		 order by subscription`)
}

// A finding is something that is wrong with the set-up of the server.
type finding struct{ what, detail, hint string }

func (f *finding) fields() []any { return []any{&f.what, &f.detail, &f.hint} }

// checkInstallation gives what is not as it should be. What the server's rights do not reach for stays as it is: the
// doctor lists that.
func checkInstallation(ctx context.Context, pool *sql.DB) ([]finding, error) {
	return db.Collect(ctx, pool, "check the installation", (*finding).fields,
		"select finding, detail, hint from tinydevcrm._list_findings() where not is_ok and weight <> 'limit'")
}

func (p *program) printStatuses(matviews []matviewStatus) error {
	table := p.newList("no materialized view is watched; orchestrator matview create makes one",
		"MATVIEW", "STATUS", "SCHEDULE", "NOTIFY WHEN", "LAST CHANGE", "LAST REFRESH", "CHECKED", "NEXT", "ROWS", "TRACKED",
		"MANAGED", "WHAT IS WRONG")
	for _, m := range matviews {
		wrong := "-"
		switch {
		case m.ErrorMessage != nil && m.FailingSince != nil:
			wrong = fmt.Sprintf("%s %s (since %s)", *m.ErrorCode, *m.ErrorMessage, *m.FailingSince)
		case m.LateReason != nil:
			wrong = fmt.Sprintf("late since %s: %s", orDash(m.LateSince), *m.LateReason)
		case m.Status == "silent":
			wrong = fmt.Sprintf("its tables have not changed for %s, since %s", orDash(m.NotifyDeadline), orDash(m.LastChangedAt))
		case m.RenamedRead != nil:
			wrong = *m.RenamedRead
		}
		tracked := "yes"
		if !m.IsTracked {
			tracked = "no: " + orDash(m.UntrackedReason)
		}
		managedBy := "-"
		if m.IsManaged {
			managedBy = "by files"
		}
		notifyWhen := m.NotifyWhen
		if m.MutedUntil != nil {
			notifyWhen += ", muted until " + *m.MutedUntil
		}
		table.row(m.Matview, alarming(m.Status, m.IsTroubled), orDash(m.Schedule),
			notifyWhen, orDash(m.LastChangedAt), orDash(m.LastRefreshedAt), orDash(m.LastCheckedAt), orDash(m.NextDueAt),
			orDash(m.RowCount), tracked, managedBy, wrong)
	}
	return table.Flush()
}

func orDash[T any](value *T) string {
	if value == nil {
		return "-"
	}
	return fmt.Sprint(*value)
}
