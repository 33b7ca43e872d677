package main

import (
	"database/sql"
	"fmt"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
)

func (p *program) migrateCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "migrate",
		Short: "Change the schema's version; the stock migrate program does the same",
		Args:  cobra.NoArgs,
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}

	up := &cobra.Command{
		Use:   "up [STEPS]",
		Short: "Apply all migrations that are missing, or the next few",
		Args:  cobra.MaximumNArgs(1),
	}
	up.RunE = p.migration(func(m *migrate.Migrator, args []string) error {
		steps, err := positive(args, "the number of migrations")
		if err != nil {
			return err
		}
		return m.Up(steps)
	})

	var all bool
	down := &cobra.Command{
		Use:   "down {STEPS | --all}",
		Short: "Take the last few migrations back, or all; your own tables and views stay",
		Args:  cobra.MaximumNArgs(1),
	}
	down.Flags().BoolVar(&all, "all", false, "take all of them back: the registry and all events go")
	down.RunE = p.migration(func(m *migrate.Migrator, args []string) error {
		steps, err := positive(args, "the number of migrations")
		if err != nil {
			return err
		}
		if all == (steps > 0) {
			return &db.UserError{
				Status:  http.StatusBadRequest,
				Message: "say how many migrations to take back",
				Hint:    "orchestrator migrate down 1, or orchestrator migrate down --all",
			}
		}
		return m.Down(steps)
	})

	version := &cobra.Command{
		Use:   "version",
		Short: "Print the version of the schema",
		Args:  cobra.NoArgs,
	}
	version.RunE = p.migration(func(*migrate.Migrator, []string) error { return nil })

	force := &cobra.Command{
		Use:   "force VERSION",
		Short: "Set the version without applying anything, after mending a broken migration by hand",
		Args:  cobra.ExactArgs(1),
	}
	force.RunE = p.migration(func(m *migrate.Migrator, args []string) error {
		version, err := strconv.Atoi(args[0])
		if err != nil || version < 0 {
			return &db.UserError{
				Status:  http.StatusBadRequest,
				Message: fmt.Sprintf("%q is not a version", args[0]),
				Hint:    "A version is a number; 0 is before the first migration.",
			}
		}
		return m.Force(version)
	})

	command.AddCommand(up, down, version, force)
	return command
}

// migration runs work and says which version that leaves.
func (p *program) migration(work func(*migrate.Migrator, []string) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		return p.withDatabase(command.Context(), func(pool *sql.DB) error {
			migrator, err := migrate.Open(command.Context(), pool)
			if err != nil {
				return err
			}
			defer migrator.Close()
			if err := work(migrator, args); err != nil {
				return err
			}
			version, isDirty, err := migrator.Version()
			if err != nil {
				return fmt.Errorf("read the schema's version: %w", err)
			}
			note := ""
			if isDirty {
				note = " (dirty: a migration broke off)"
			}
			fmt.Fprintf(p.stdout, "version %d of %d%s\n", version, migrator.Latest(), note)
			return nil
		})
	}
}

// positive reads an optional count; 0 when there is none.
func positive(args []string, what string) (int, error) {
	if len(args) == 0 {
		return 0, nil
	}
	number, err := strconv.Atoi(args[0])
	if err != nil || number < 1 {
		return 0, &db.UserError{
			Status:  http.StatusBadRequest,
			Message: fmt.Sprintf("%s is a positive number, not %q", what, args[0]),
		}
	}
	return number, nil
}
