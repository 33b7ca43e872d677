package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// errNoDatabase has the hint that says what to type.
var errNoDatabase = &db.UserError{
	Status:  http.StatusServiceUnavailable,
	Message: "no database is given: DATABASE_URL is not set",
	Hint:    `export DATABASE_URL="$(scripts/db url)"`,
}

func (p *program) openDatabase(ctx context.Context) (*sql.DB, error) {
	if p.databaseURL == "" {
		return nil, errNoDatabase
	}
	return db.Open(ctx, p.databaseURL, db.MaxConns)
}

// withDatabase opens a pool, and calls work with it.
func (p *program) withDatabase(ctx context.Context, work func(*sql.DB) error) error {
	pool, err := p.openDatabase(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	return work(pool)
}

// query gives a command an open pool.
func (p *program) query(work func(*sql.DB, *cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		return p.withDatabase(command.Context(), func(pool *sql.DB) error {
			return work(pool, command, args)
		})
	}
}

// report runs a query that gives one value, and prints it.
func (p *program) report(pool *sql.DB, command *cobra.Command, format, query string, args ...any) error {
	var value string
	if err := pool.QueryRowContext(command.Context(), query, args...).Scan(&value); err != nil {
		return fmt.Errorf("%s: %w", command.CommandPath(), err)
	}
	fmt.Fprintf(p.stdout, format, value)
	return nil
}
