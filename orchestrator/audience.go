package main

import (
	"database/sql"
	"fmt"

	"github.com/lib/pq"
	"github.com/spf13/cobra"
)

// An audience is which events a subscription gets, whether each row is a message of its own, and who gets it.
type audience struct {
	notifyWhen string
	eachRow    bool
	toColumn   string
	domains    []string
}

// addAudience adds the options of an audience to a command that creates a subscription or changes one.
func addAudience(command *cobra.Command) *audience {
	a := &audience{}
	command.Flags().StringVar(&a.notifyWhen, "notify-when", "",
		"only events for which one of these rules holds, such as rows_added or failed,late; see orchestrator subscription rules")
	command.Flags().BoolVar(&a.eachRow, "each-row", false, "each row is a message of its own")
	return a
}

func (a *audience) addRecipients(command *cobra.Command) {
	command.Flags().StringVar(&a.toColumn, "to-column", "", "each row goes to the address in this column")
	command.Flags().StringSliceVar(&a.domains, "allow-domain", nil, "domain of addresses to which rows may go; repeatable")
}

func (p *program) audienceCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "audience SUBSCRIPTION",
		Short: "Set which events a subscription gets, and in which parts",
		Long: "Sets which events of its view a subscription gets, and in which parts, from the next event on. Without\n" +
			"options it gets what the view notifies of.",
		Example: "  orchestrator subscription audience sales --notify-when rows_added \\\n" +
			"    --to-column owner_email --allow-domain example.com",
	}
	audience := addAudience(command)
	audience.addRecipients(command)
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if _, err := pool.ExecContext(command.Context(),
			"select tinydevcrm.set_audience($1, nullif($2, ''), $3, nullif($4, ''), $5)",
			args[0], audience.notifyWhen, audience.eachRow, audience.toColumn, pq.Array(audience.domains)); err != nil {
			return fmt.Errorf("%s: %w", command.CommandPath(), err)
		}
		fmt.Fprintf(p.stdout, "subscription %q has a new audience\n", args[0])
		return nil
	})
	return command
}
