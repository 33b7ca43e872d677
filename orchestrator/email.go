package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/lib/pq"
	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/mail"
)

// readMailServer reads SMTP_URL, if there is one.
func (p *program) readMailServer() (err error) {
	if p.smtpURL != "" {
		p.mail, err = mail.Parse(p.smtpURL)
	}
	return err
}

// recordMailServer lets the status say why e-mails wait. A role that may not record it leaves what an administrator has
// set.
func (p *program) recordMailServer(ctx context.Context, pool *sql.DB) error {
	var name sql.Null[string]
	if p.mail != nil {
		name = sql.Null[string]{V: p.mail.String(), Valid: true}
	}
	if _, err := pool.ExecContext(ctx, `
		select tinydevcrm._note_mail_server($1)
		 where has_function_privilege('tinydevcrm._note_mail_server(text)', 'execute')`, name); err != nil {
		return fmt.Errorf("record the mail server: %w", err)
	}
	return nil
}

func (p *program) emailCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "email COMMAND",
		Short: "Send events by e-mail",
		Long: "An e-mail is a subscription with addresses, to which orchestrator up sends its events by SMTP_URL:\n\n" +
			"smtp://user:password@smtp.example.com:587?from=alerts@example.com\n\n" +
			"Each recipient gets a letter of their own, and can unsubscribe.\n" +
			"orchestrator subscription lists, pauses and drops it.",
		Annotations: map[string]string{restIn: "subscription"},
	}
	var matview, digest string
	create := &cobra.Command{
		Use:   "create NAME ADDRESS [ADDRESS…]",
		Short: "Send events to addresses",
		Example: "  orchestrator email create alerts a@example.com b@example.com --matview big_orders \\\n" +
			"    --digest 'daily at 8:00'",
	}
	create.Flags().StringVar(&matview, "matview", "", "only events of this materialized view")
	create.Flags().StringVar(&digest, "digest", "", digestUsage)
	audience := addAudience(create)
	audience.addRecipients(create)
	create.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if _, err := pool.ExecContext(command.Context(),
			`select tinydevcrm.create_email($1, $2, nullif($3, '')::regclass, nullif($4, ''), notify_when => nullif($5, ''),
			                                each_row => $6, to_column => nullif($7, ''), allowed_domains => $8)`,
			args[0], pq.Array(args[1:]), matview, digest, audience.notifyWhen, audience.eachRow, audience.toColumn,
			pq.Array(audience.domains)); err != nil {
			return fmt.Errorf("%s: %w", command.CommandPath(), err)
		}
		fmt.Fprintf(p.stdout, "e-mail %q goes to %s\n", args[0], strings.Join(args[1:], ", "))
		return nil
	})
	alter := &cobra.Command{
		Use:     "alter EMAIL ADDRESS [ADDRESS…]",
		Short:   "Change the addresses of an e-mail; pending events go there",
		Example: "  orchestrator email alter alerts c@example.com",
	}
	alter.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if _, err := pool.ExecContext(command.Context(), "select tinydevcrm.alter_email($1, $2)", args[0], pq.Array(args[1:])); err != nil {
			return fmt.Errorf("%s: %w", command.CommandPath(), err)
		}
		fmt.Fprintf(p.stdout, "e-mail %q goes to %s\n", args[0], strings.Join(args[1:], ", "))
		return nil
	})
	command.AddCommand(create, alter)
	return command
}

// digestUsage is the help of an option of webhooks and e-mails.
const digestUsage = "send all events as one message at these times, such as 'daily at 8:00'"

func (p *program) digestCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "digest SUBSCRIPTION [SCHEDULE]",
		Short: "Send all events as one message at certain times, or each at once",
		Long: "Send all events of a webhook or an e-mail as one message at the times of a schedule. Without a schedule\n" +
			"each event is sent at once.",
		Example: "  orchestrator subscription digest alerts 'weekdays at 8:00 Europe/Berlin'",
	}
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		var next sql.Null[string]
		if err := pool.QueryRowContext(command.Context(),
			"select to_char(tinydevcrm.set_digest($1, nullif($2, '')), 'YYYY-MM-DD HH24:MI:SSOF')",
			args[0], strings.Join(args[1:], " ")).Scan(&next); err != nil {
			return fmt.Errorf("%s: %w", command.CommandPath(), err)
		}
		if next.Valid {
			fmt.Fprintf(p.stdout, "the next message of %q is sent at %s\n", args[0], next.V)
		} else {
			fmt.Fprintf(p.stdout, "events of %q are sent at once\n", args[0])
		}
		return nil
	})
	return command
}
