package main

import (
	"database/sql"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
)

func (p *program) migrateCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "migrate COMMAND",
		Short: "Apply or revert migrations, as the stock migrate program does",
	}

	up := &cobra.Command{
		Use:     "up [STEPS]",
		Short:   "Apply all migrations that are missing, or the next few",
		Example: "  orchestrator migrate up",
	}
	p.clockFlag(up)
	var upSteps int
	up.PreRunE = func(_ *cobra.Command, args []string) (err error) {
		upSteps, err = positive(args, "STEPS")
		return err
	}
	up.RunE = p.migration(func(m *migrate.Migrator) error { return m.Up(upSteps) })

	var all bool
	down := &cobra.Command{
		Use:     "down {STEPS | --all}",
		Short:   "Revert the last few migrations, or all; your own tables and views stay",
		Example: "  orchestrator migrate down 1",
	}
	down.Flags().BoolVar(&all, "all", false, "revert all of them, which drops the registry and all events")
	var downSteps int
	down.PreRunE = func(_ *cobra.Command, args []string) (err error) {
		downSteps, err = positive(args, "STEPS")
		if err == nil && all == (downSteps > 0) {
			err = badUsage("orchestrator migrate down 1, or orchestrator migrate down --all", "say how many migrations to revert")
		}
		return err
	}
	down.RunE = p.migration(func(m *migrate.Migrator) error { return m.Down(downSteps) })

	version := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of the schema",
		Example: "  orchestrator migrate version",
	}
	version.RunE = p.migration(func(*migrate.Migrator) error { return nil })

	command.AddCommand(up, down, version, p.forceCommand())
	return command
}

func (p *program) forceCommand() *cobra.Command {
	force := &cobra.Command{
		Use:   "force VERSION",
		Short: "Set the version of the schema, and apply nothing",
		Long: "Set the version of the schema, and apply nothing: for use after you have repaired a failed migration by\n" +
			"hand.",
		Example: "  orchestrator migrate force 42",
	}
	var forced int
	force.PreRunE = func(_ *cobra.Command, args []string) (err error) {
		if forced, err = strconv.Atoi(args[0]); err != nil || forced < 0 {
			return badUsage("A version is a number; 0 is before the first migration.", "%q is not a version", args[0])
		}
		return nil
	}
	force.RunE = p.migration(func(m *migrate.Migrator) error { return m.Force(forced) })
	return force
}

// migration runs work and prints the resulting version.
func (p *program) migration(work func(*migrate.Migrator) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, _ []string) error {
		if err := p.withDatabase(command.Context(), func(pool *sql.DB) error {
			return p.checkDirect(command.Context(), pool)
		}); err != nil {
			return err
		}
		return p.withPool(command.Context(), p.direct(), db.MaxConns, func(pool *sql.DB) error {
			migrator, err := migrate.Open(command.Context(), pool, p.migrateSettings()...)
			if err != nil {
				return err
			}
			defer migrator.Close()
			if err := work(migrator); err != nil {
				return err
			}
			version, isDirty, err := migrator.Version()
			if err != nil {
				return fmt.Errorf("read the schema's version: %w", err)
			}
			note := ""
			if isDirty {
				note = " (dirty: a migration failed halfway)"
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
		return 0, badUsage("", "%s is a positive number, not %q", what, args[0])
	}
	return number, nil
}
