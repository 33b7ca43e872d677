package main

import (
	"database/sql"
	"fmt"
	"net/url"

	"github.com/lib/pq"
	"github.com/spf13/cobra"
)

func (p *program) embedCommand() *cobra.Command {
	var origins []string
	command := &cobra.Command{
		Use:   "embed VIEW",
		Short: "Make the rows of a materialized view public, as a widget for other sites",
		Long: "Make the rows of a materialized view public, as a widget for other sites.\n\n" +
			"Everyone who has the address can read them; the origins only say on which sites browsers show them.",
		Example: "  orchestrator matview embed big_orders --origin https://example.com",
	}
	command.Flags().StringSliceVar(&origins, "origin", nil,
		"site that may show it, such as https://example.com, https://*.example.com, or * for any; may be repeated")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var relation string
		err := pool.QueryRowContext(command.Context(), `
			select format('%I.%I', nspname, relname)
			  from tinydevcrm.allow_embedding($1::text::regclass, $2) as embedded
			  join pg_catalog.pg_class
			    on pg_class.oid = embedded.relation
			  join pg_catalog.pg_namespace
			    on pg_namespace.oid = relnamespace`, args[0], pq.Array(origins),
		).Scan(&relation)
		if err != nil {
			return fmt.Errorf("embed %q: %w", args[0], err)
		}
		fmt.Fprintf(p.stdout, "%s is public: /embed/%s of the page\n", args[0], url.PathEscape(relation))
		return nil
	})
	return command
}
