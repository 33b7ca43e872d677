package main

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
)

func (p *program) doctorCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Say what TinyDevCRM finds in a database and what will work there, and change nothing",
		Long: "Connects, applies the missing migrations, lists what check_installation() finds then, and takes everything\n" +
			"back. Run it as the role that will migrate. The exit code is 0 when tables, views, schedules and deliveries\n" +
			"will work, even if something less does not.",
		Example: "  orchestrator doctor --database-url postgres://owner@db.example.com/crm",
		RunE: p.query(func(pool *sql.DB, command *cobra.Command, _ []string) error {
			return p.examine(command.Context(), pool)
		}),
	}
	p.clockFlag(command)
	return command
}

func (p *program) examine(ctx context.Context, pool *sql.DB) error {
	if err := p.checkDirect(ctx, pool); err != nil {
		return err
	}
	var server, role, database string
	if err := pool.QueryRowContext(ctx, `
		select current_setting('server_version'), current_database(),
		       current_user || case when rolsuper then ', a superuser' else ', no superuser' end
		  from pg_roles
		 where rolname = current_user`).Scan(&server, &database, &role); err != nil {
		return fmt.Errorf("look at the server: %w", err)
	}
	fmt.Fprintln(p.stdout, readBuild())
	fmt.Fprintf(p.stdout, "PostgreSQL %s, database %s, as %s\n", server, database, role)

	var findings []diagnosis
	err := migrate.Rehearse(ctx, pool, func(tx *sql.Tx) (err error) {
		findings, err = db.Collect(ctx, tx, "check the installation", (*diagnosis).fields,
			"select finding, detail, hint, is_ok, weight = 'needed' from tinydevcrm._list_findings()")
		return err
	}, p.migrateSettings()...)
	if err != nil {
		return err
	}
	if !p.printDiagnoses(findings) {
		fmt.Fprintln(p.stdout, "\nTinyDevCRM will not work here: see what is marked with !!")
		return errSilent
	}
	fmt.Fprintln(p.stdout, "\nTinyDevCRM will work here; what is marked with ! is missing")
	return nil
}

type diagnosis struct {
	finding
	isOK, isNeeded bool
}

func (d *diagnosis) fields() []any { return append(d.finding.fields(), &d.isOK, &d.isNeeded) }

// printDiagnoses reports whether everything that is needed is there.
func (p *program) printDiagnoses(findings []diagnosis) (works bool) {
	works = true
	for _, d := range findings {
		mark, colour := "ok", green
		switch {
		case d.isOK:
		case d.isNeeded:
			mark, colour, works = "!!", red, false
		default:
			mark, colour = "! ", yellow
		}
		fmt.Fprintf(p.stdout, "%s  %s: %s\n", p.painterOf(p.stdout).paint(colour, mark), d.what, d.detail)
		if !d.isOK {
			fmt.Fprintf(p.stdout, "    %s\n", d.hint)
		}
	}
	return works
}
