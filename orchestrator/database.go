package main

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// errNoDatabase has the hint that says what to type.
var errNoDatabase = &db.UserError{
	Status:  http.StatusServiceUnavailable,
	Message: "no database is given: DATABASE_URL is not set",
	Hint:    `export DATABASE_URL="$(scripts/db url)"`,
}

// access is that of the database.
func (p *program) access() db.Access { return db.Access{URL: p.databaseURL, Password: p.password} }

// direct is that of what needs a session of its own, which a pooler in transaction mode does not give.
func (p *program) direct() db.Access {
	return db.Access{URL: cmp.Or(p.listenURL, p.databaseURL), Password: p.password}
}

// checkDirect refuses a LISTEN_URL that leads to another database or role than DATABASE_URL.
func (p *program) checkDirect(ctx context.Context, pool *sql.DB) error {
	if p.listenURL == "" {
		return nil
	}
	const place = "select format('database %I as %I', current_database(), current_user)"
	var usual, own string
	err := pool.QueryRowContext(ctx, place).Scan(&usual)
	if err != nil {
		return fmt.Errorf("find out where DATABASE_URL leads: %w", err)
	}
	if err := p.withPool(ctx, p.direct(), 1, func(direct *sql.DB) error {
		return direct.QueryRowContext(ctx, place).Scan(&own)
	}); err != nil {
		problem := db.Explain(err)
		return &db.UserError{Status: problem.Status, Message: "LISTEN_URL: " + problem.Message, Detail: problem.Detail, Hint: problem.Hint}
	}
	if own != usual {
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Message: fmt.Sprintf("LISTEN_URL leads to %s, but DATABASE_URL to %s", own, usual),
			Hint:    "LISTEN_URL is the URL of Postgres itself, without the pooler, for the same database and role.",
		}
	}
	return nil
}

// accessFlags are for all commands.
func (p *program) accessFlags(flags *pflag.FlagSet) {
	flags.StringVar(&p.databaseURL, "database-url", p.databaseURL, "database URL, as libpq accepts it (default $DATABASE_URL)")
	flags.StringVar(&p.listenURL, "listen-url", p.listenURL,
		"URL of Postgres itself, where --database-url is that of a pooler: to listen, migrate, and keep the clock (default $LISTEN_URL)")
	flags.StringVar(&p.passwordCommand, "password-command", p.passwordCommand,
		"command that prints the password, for one that expires; it runs again for later connections (default $PASSWORD_COMMAND)")
	// The values come from the environment and may hold a password, which help must not print.
	for _, name := range []string{"database-url", "listen-url", "password-command"} {
		flags.Lookup(name).DefValue = ""
	}
}

// withDatabase opens a pool, and calls work with it.
func (p *program) withDatabase(ctx context.Context, work func(*sql.DB) error) error {
	return p.withPool(ctx, p.access(), db.MaxConns, work)
}

func (p *program) withPool(ctx context.Context, access db.Access, maxConns int, work func(*sql.DB) error) error {
	if p.databaseURL == "" {
		return errNoDatabase
	}
	pool, err := access.Open(ctx, maxConns)
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
