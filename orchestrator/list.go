package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

// printJSON prints what --json asks for. Queries and messages keep their <, > and &.
func (p *program) printJSON(value any, indent string) error {
	encoder := json.NewEncoder(p.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	return encoder.Encode(value)
}

// listCommand is a list for people, and with --json the rows of a query for programs.
func (p *program) listCommand(group, short, query string, list func(*sql.DB, *cobra.Command, []string) error) *cobra.Command {
	command := &cobra.Command{
		Use:     "list",
		Short:   short,
		Example: "  orchestrator " + group + " list\n  orchestrator " + group + " list --json",
	}
	asJSON := command.Flags().Bool("json", false, "print JSON, with all that is known of each")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if !*asJSON {
			return list(pool, command, args)
		}
		var rows []byte
		if err := pool.QueryRowContext(command.Context(),
			"select coalesce(json_agg(listed), '[]') from ("+query+") as listed").Scan(&rows); err != nil {
			return fmt.Errorf("%s: %w", command.CommandPath(), err)
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, rows, "", "  "); err != nil {
			return fmt.Errorf("read the answer of the database: %w", err)
		}
		_, err := fmt.Fprintln(p.stdout, indented.String())
		return err
	})
	return command
}
