package main

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// muteCommand mutes a view or a subscription. The statement gets its name and a number of seconds.
func (p *program) muteCommand(use, short, example, statement string) *cobra.Command {
	var lasts time.Duration
	command := &cobra.Command{Use: use, Short: short, Example: example}
	command.Flags().DurationVar(&lasts, "for", time.Hour, "how long, such as 90m or 24h")
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if _, err := pool.ExecContext(command.Context(), statement, args[0], lasts.Seconds()); err != nil {
			return fmt.Errorf("mute %q: %w", args[0], err)
		}
		fmt.Fprintf(p.stdout, "%s is muted for %s\n", args[0], lasts)
		return nil
	})
	return command
}
