package main

import (
	"database/sql"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/trial"
)

func (p *program) testSubscriptionCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "test SUBSCRIPTION",
		Short: "Send a message that is marked as a test, and print the answer",
		Long: "Send a message that is marked as a test, and print the answer; exit code 1 when it is refused.\n\n" +
			"The orchestrator that runs sends it, as it sends events, but at once: also while the subscription is\n" +
			"paused or its endpoint is down. It is no event, and its outcome does not count.",
		Example: "  orchestrator subscription test sales",
	}
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		outcome, err := trial.Ask(command.Context(), pool, args[0])
		if err != nil {
			return err
		}
		fmt.Fprintln(p.stdout, outcome)
		if outcome.Answer != "" {
			fmt.Fprintf(p.stdout, "  answer: %s\n", strings.ReplaceAll(strings.TrimSpace(outcome.Answer), "\n", "\n          "))
		}
		if outcome.Error != "" {
			return errSilent
		}
		return nil
	})
	return command
}

func (p *program) previewMessageCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "preview SUBSCRIPTION",
		Short: "Print the message of a subscription for its last event, or for an example",
		Long: "Print the message of a subscription for its last event, or for an example.\n\n" +
			"--title and --message preview other templates than its own.",
		Example: "  orchestrator subscription preview sales --title '{{row_count}} orders are late'",
	}
	title, text := p.templateFlags(command)
	p.publicURLFlag(command)
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if err := p.checkPublicURL(); err != nil {
			return err
		}
		var notification []byte
		if err := pool.QueryRowContext(command.Context(), "select tinydevcrm.preview_message($1, $2, $3)",
			args[0], title(), text()).Scan(&notification); err != nil {
			return fmt.Errorf("preview the message of %q: %w", args[0], err)
		}
		m, err := message.Parse(notification, p.linkTo(p.listenAddr))
		if err != nil {
			return err
		}
		return p.printMessage(m)
	})
	return command
}

// printMessage prints a message as a receiver would show it. The values in it may be anything.
func (p *program) printMessage(m message.Message) error {
	lines := []string{m.Title, ""}
	lines = append(lines, strings.Split(m.Text, "\n")...)
	for _, line := range lines {
		fmt.Fprintln(p.stdout, printable(line))
	}
	if !m.HasTemplate && len(m.Columns) > 0 {
		fmt.Fprintln(p.stdout)
		table := p.newTable()
		table.row(anyOf(m.Columns)...)
		for _, row := range m.Rows {
			table.row(anyOf(row)...)
		}
		if err := table.Flush(); err != nil {
			return fmt.Errorf("print a message: %w", err)
		}
		if m.MoreRows > 0 {
			fmt.Fprintf(p.stdout, "and %d more\n", m.MoreRows)
		}
	}
	if m.Note != "" {
		fmt.Fprintf(p.stdout, "\n%s\n", printable(m.Note))
	}
	_, err := fmt.Fprintf(p.stdout, "\n%s\n", m.Link)
	return err
}

func anyOf(texts []string) []any {
	values := make([]any, len(texts))
	for i, text := range texts {
		values[i] = text
	}
	return values
}

func (p *program) alterSubscriptionCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "alter SUBSCRIPTION",
		Short: "Set the templates of a subscription's messages: title and text",
		Long: "Set the templates of a subscription's messages, in Mustache.\n\n" +
			"orchestrator subscription preview shows what comes of them.",
		Example: "  orchestrator subscription alter sales --title '{{row_count}} orders are late' \\\n" +
			"    --message '{{#rows}}{{number}} of {{customer}}, due {{due}}\n  {{/rows}}{{link}}'",
	}
	title, text := p.templateFlags(command)
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if title() == nil && text() == nil {
			return badUsage("Give --title, --message or --default.", "nothing to change")
		}
		if _, err := pool.ExecContext(command.Context(), "select tinydevcrm.alter_subscription($1, $2, $3)",
			args[0], title(), text()); err != nil {
			return fmt.Errorf("alter the subscription %q: %w", args[0], err)
		}
		fmt.Fprintf(p.stdout, "subscription %q has its new templates\n", args[0])
		return nil
	})
	return command
}

// templateFlags returns the values of the templates; nil for one that stays as it is, and empty for the default.
func (p *program) templateFlags(command *cobra.Command) (title, text func() any) {
	titleFlag := command.Flags().String("title", "", "template of the title")
	textFlag := command.Flags().String("message", "", "template of the text")
	isDefault := command.Flags().Bool("default", false, "the default title or text, where no template is given")
	given := func(template *string) func() any {
		return func() any {
			if *template == "" && !*isDefault {
				return nil
			}
			return *template
		}
	}
	return given(titleFlag), given(textFlag)
}
