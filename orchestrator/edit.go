package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"github.com/lib/pq"
	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

func (p *program) editCommand() *cobra.Command {
	var file string
	command := &cobra.Command{
		Use:   "edit VIEW",
		Short: "Give a materialized view another query, in $VISUAL or $EDITOR or from a file",
		Long: "Give a materialized view another query, in $VISUAL or $EDITOR or from a file.\n\n" +
			"Schedule, rule, subscriptions, grants and indexes stay. Views built on it are built again.\n" +
			"A query that is left as it is, or that has an error, changes nothing.",
		Example: "  orchestrator matview edit big_orders\n" +
			"  orchestrator matview edit big_orders --query-file big_orders.sql",
	}
	command.Flags().StringVar(&file, "query-file", "", "file with the query; - for standard input")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if file == "" {
			return p.editByHand(command.Context(), pool, args[0])
		}
		opened, _, err := p.openFile(file)
		if err != nil {
			return err
		}
		opened = interruptible(command.Context(), opened)
		defer opened.Close()
		query, err := io.ReadAll(opened)
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		return p.alterQuery(command.Context(), pool, args[0], string(query))
	})
	return command
}

func (p *program) alterQuery(ctx context.Context, pool *sql.DB, name, query string) error {
	var relation string
	var rebuilt, warnings []string
	err := pool.QueryRowContext(ctx, `
		select matview::text, rebuilt, warnings
		  from tinydevcrm.alter_matview_query($1::text::regclass, $2)`, name, query,
	).Scan(&relation, pq.Array(&rebuilt), pq.Array(&warnings))
	if err != nil {
		return fmt.Errorf("alter the query of %q: %w", name, err)
	}
	fmt.Fprintf(p.stdout, "%s has its new query\n", relation)
	if len(rebuilt) > 0 {
		fmt.Fprintf(p.stdout, "  built again: %s\n", printable(strings.Join(rebuilt, ", ")))
	}
	for _, warning := range warnings {
		fmt.Fprintf(p.stdout, "  warning: %s\n", printable(warning))
	}
	return nil
}

// editByHand opens the present query in an editor. When the new one has an error, its file stays.
func (p *program) editByHand(ctx context.Context, pool *sql.DB, name string) error {
	if _, isTerminal := terminal(p.stdin); !isTerminal {
		return badUsage("Give --query-file FILE, or --query-file - for standard input.",
			"standard input is not a terminal, so no editor can open")
	}
	var query string
	err := pool.QueryRowContext(ctx, `
		select tinydevcrm._show_query(relation)
		  from tinydevcrm._find_own_matview($1::text::regclass)`, name).Scan(&query)
	if err != nil {
		return fmt.Errorf("read the query of %q: %w", name, err)
	}
	path, edited, err := p.editText(query)
	if err != nil {
		return err
	}
	if edited == query || edited == "" {
		os.Remove(path)
		fmt.Fprintf(p.stdout, "%s is as it was\n", name)
		return nil
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	if err := p.alterQuery(ctx, pool, name, edited); err != nil {
		fmt.Fprintf(p.stderr, "nothing is changed; what you wrote is in %s\n", path)
		return err
	}
	os.Remove(path)
	return nil
}

// editText lets the user edit a text in a file, and returns the path of the file, which stays.
func (p *program) editText(text string) (path, edited string, err error) {
	file, err := os.CreateTemp("", "query-*.sql")
	if err != nil {
		return "", "", fmt.Errorf("make a file for the query: %w", err)
	}
	defer file.Close()
	if _, err := fmt.Fprintln(file, text); err != nil {
		return "", "", fmt.Errorf("write the query to %s: %w", file.Name(), err)
	}
	// Ctrl-C is for the editor, which reads the terminal until it ends.
	signal.Ignore(os.Interrupt)
	defer signal.Reset(os.Interrupt)
	// The shell splits a setting such as "code --wait", as git does.
	editing := exec.Command("sh", "-c", p.editor+` "$@"`, p.editor, file.Name())
	editing.Stdin, editing.Stdout, editing.Stderr = p.stdin, p.stdout, p.stderr
	if err := editing.Run(); err != nil {
		return "", "", &db.UserError{
			Status:  http.StatusBadRequest,
			Message: fmt.Sprintf("the editor %s failed: %v", p.editor, err),
			Hint:    fmt.Sprintf("Set $VISUAL or $EDITOR. What you wrote is in %s.", file.Name()),
		}
	}
	written, err := os.ReadFile(file.Name())
	if err != nil {
		return "", "", fmt.Errorf("read what the editor has written: %w", err)
	}
	return file.Name(), strings.TrimSpace(string(written)), nil
}

// managed is said of a view that files define.
const managed = "by files: the next orchestrator apply undoes an edit"

// A matviewSettings is the answer of tinydevcrm.describe_matview().
type matviewSettings struct {
	Relation        string   `json:"relation"`
	Query           string   `json:"query"`
	Reads           []string `json:"reads"`
	IsTracked       bool     `json:"is_tracked"`
	UntrackedReason *string  `json:"untracked_reason"`
	NotifyWhen      string   `json:"notify_when"`
	IgnoredColumns  []string `json:"ignored_columns"`
	NotifyInterval  *string  `json:"notify_interval"`
	NotifyAfter     int      `json:"notify_after"`
	NotifyDeadline  *string  `json:"notify_deadline"`
	MutedUntil      *string  `json:"muted_until"`
	Key             []string `json:"key"`
	Schedule        *string  `json:"schedule"`
	NextDueAt       *string  `json:"next_due_at"`
	Status          string   `json:"status"`
	IsManaged       bool     `json:"is_managed"`
	Subscriptions   []string `json:"subscriptions"`
}

func (p *program) showCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "show VIEW",
		Short:   "Show a materialized view: query, what it reads, rule, schedule, subscriptions",
		Example: "  orchestrator matview show big_orders",
	}
	asJSON := command.Flags().Bool("json", false, "print JSON")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var answer []byte
		err := pool.QueryRowContext(command.Context(),
			"select tinydevcrm.describe_matview($1::text::regclass)", args[0]).Scan(&answer)
		if err != nil {
			return fmt.Errorf("show %q: %w", args[0], err)
		}
		var shown matviewSettings
		if err := json.Unmarshal(answer, &shown); err != nil {
			return fmt.Errorf("read the answer of the database: %w", err)
		}
		if *asJSON {
			return p.printJSON(shown, "  ")
		}
		return shown.print(p.newTable())
	})
	return command
}

func (m *matviewSettings) print(table *listing) error {
	tracked := "yes"
	if !m.IsTracked {
		tracked = "no: " + orDash(m.UntrackedReason)
	}
	list := func(names []string) *string {
		if len(names) == 0 {
			return nil
		}
		joined := strings.Join(names, ", ")
		return &joined
	}
	table.row("view", m.Relation)
	table.row("status", m.Status)
	table.row("reads", orDash(list(m.Reads)))
	table.row("tracked", tracked)
	table.row("notify when", m.NotifyWhen)
	table.row("ignored columns", orDash(list(m.IgnoredColumns)))
	table.row("notify interval", orDash(m.NotifyInterval))
	table.row("notify after", m.NotifyAfter)
	table.row("notify deadline", orDash(m.NotifyDeadline))
	table.row("muted until", orDash(m.MutedUntil))
	table.row("key", orDash(list(m.Key)))
	table.row("schedule", orDash(m.Schedule))
	table.row("next refresh", orDash(m.NextDueAt))
	table.row("subscriptions", orDash(list(m.Subscriptions)))
	if m.IsManaged {
		table.row("managed", managed)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(table.to)
	for line := range strings.Lines(m.Query) {
		if _, err := fmt.Fprintln(table.to, printable(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}
