package main

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// numbersAsTextUsage is the help of an option of subscriptions.
const numbersAsTextUsage = "numbers in the rows of events are texts, for programs that would round them"

func (p *program) webhookCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "webhook COMMAND",
		Short: "Post events to a URL: of a program, a chat, a pager",
		Long: "A webhook is a subscription with a URL, to which orchestrator up posts each event in the format that its\n" +
			"receiver takes. orchestrator webhook formats lists them. orchestrator subscription lists, pauses and drops it.",
		Annotations: map[string]string{restIn: "subscription"},
	}
	command.AddCommand(p.createWebhookCommand(), p.alterWebhookCommand(), p.rotateWebhookCommand(), p.formatsCommand())
	return command
}

// A shape is how posts to a webhook look.
type shape struct {
	format  string
	headers []string
}

func (s *shape) addFlags(command *cobra.Command) {
	command.Flags().StringVar(&s.format, "format", "", "shape of the posts, as orchestrator webhook formats lists them (default: guessed from the URL)")
	command.Flags().StringArrayVar(&s.headers, "header", nil, "'Name: value' that each post has, such as 'Authorization: Bearer …'; @FILE reads lines of them")
}

// withHeaders is a command that needs the database and the lines of the headers, which are read before it connects.
func (s *shape) withHeaders(p *program, work func(*sql.DB, *cobra.Command, []string, string) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		lines := make([]string, len(s.headers))
		for i, header := range s.headers {
			lines[i] = header
			if file, isFile := strings.CutPrefix(header, "@"); isFile {
				text, err := os.ReadFile(file)
				if err != nil {
					return fmt.Errorf("read the headers: %w", err)
				}
				lines[i] = string(text)
			}
		}
		return p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
			return work(pool, command, args, strings.Join(lines, "\n"))
		})(command, args)
	}
}

func (p *program) createWebhookCommand() *cobra.Command {
	var matview string
	var attempts int
	var numbersAsText bool
	var digest string
	var shape shape
	create := &cobra.Command{
		Use:   "create NAME URL",
		Short: "Post events to a URL, and print the secret that signs them, if they are signed",
		Example: "  orchestrator webhook create alerts https://example.com/in --matview big_orders\n" +
			"  orchestrator webhook create sales https://hooks.slack.com/services/… --matview big_orders",
	}
	create.Flags().StringVar(&matview, "matview", "", "only events of this materialized view")
	create.Flags().IntVar(&attempts, "max-attempts", 12, "attempts before a delivery is parked")
	create.Flags().BoolVar(&numbersAsText, "numbers-as-text", false, numbersAsTextUsage)
	create.Flags().StringVar(&digest, "digest", "", digestUsage)
	shape.addFlags(create)
	audience := addAudience(create)
	create.RunE = shape.withHeaders(p, func(pool *sql.DB, command *cobra.Command, args []string, headers string) error {
		var secret sql.Null[string]
		if err := pool.QueryRowContext(command.Context(), `
			select tinydevcrm.create_webhook(
			           $1, $2, nullif($3, '')::regclass, $4, $5, format => nullif($6, ''), headers => tinydevcrm._parse_headers($7),
			           digest => nullif($8, ''), notify_when => nullif($9, ''), each_row => $10)`,
			args[0], args[1], matview, attempts, numbersAsText, shape.format, headers, digest,
			audience.notifyWhen, audience.eachRow).Scan(&secret); err != nil {
			return fmt.Errorf("%s: %w", command.CommandPath(), err)
		}
		if secret.Valid {
			fmt.Fprintln(p.stdout, secret.V)
		}
		return p.showShape(pool, command, args[0], shape.format == "")
	})
	return create
}

func (p *program) alterWebhookCommand() *cobra.Command {
	var shape shape
	var noHeaders bool
	alter := &cobra.Command{
		Use:     "alter WEBHOOK [URL]",
		Short:   "Change the URL, format or headers of a webhook; its secret stays",
		Long:    "Change the URL, format or headers of a webhook. Pending events go to the new URL. The secret stays.",
		Example: "  orchestrator webhook alter alerts https://example.com/in",
	}
	shape.addFlags(alter)
	alter.Flags().BoolVar(&noHeaders, "no-headers", false, "remove the headers")
	alter.PreRunE = func(command *cobra.Command, args []string) error {
		if len(args) < 2 && shape.format == "" && shape.headers == nil && !noHeaders {
			return badUsage(seeHelp(command), "nothing to change")
		}
		if shape.headers != nil && noHeaders {
			return badUsage(seeHelp(command), "--header and --no-headers exclude each other")
		}
		return nil
	}
	alter.RunE = shape.withHeaders(p, func(pool *sql.DB, command *cobra.Command, args []string, headers string) error {
		url := sql.Null[string]{Valid: len(args) == 2}
		if url.Valid {
			url.V = args[1]
		}
		if _, err := pool.ExecContext(command.Context(),
			"select tinydevcrm.alter_webhook($1, $2, nullif($3, ''), case when $5 then '{}' else tinydevcrm._parse_headers($4) end)",
			args[0], url, shape.format, headers, noHeaders); err != nil {
			return fmt.Errorf("%s: %w", command.CommandPath(), err)
		}
		fmt.Fprintf(p.stdout, "webhook %q is changed\n", args[0])
		return p.showShape(pool, command, args[0], false)
	})
	return alter
}

// showShape says where and how a webhook posts; nothing of the default format.
func (p *program) showShape(pool *sql.DB, command *cobra.Command, name string, isGuessed bool) error {
	var url, format string
	if err := pool.QueryRowContext(command.Context(), `
		select url, format
		  from tinydevcrm.subscription_status
		 where subscription = $1
		   and owner = quote_ident(current_user)::regrole`, name).Scan(&url, &format); err != nil {
		return fmt.Errorf("%s: %w", command.CommandPath(), err)
	}
	if format == "standard" {
		return nil
	}
	how := ""
	if isGuessed {
		how = ", guessed from the URL; --format chooses another"
	}
	fmt.Fprintf(p.stdout, "posts to %s in format %s%s\n", printable(url), format, how)
	return nil
}

func (p *program) rotateWebhookCommand() *cobra.Command {
	var grace time.Duration
	rotate := &cobra.Command{
		Use:     "rotate WEBHOOK",
		Short:   "Give a webhook a new secret and print it; the old one signs too for a while",
		Example: "  orchestrator webhook rotate alerts --grace 1h",
	}
	rotate.Flags().DurationVar(&grace, "grace", 24*time.Hour, "how long the old secret signs too")
	rotate.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		return p.report(pool, command, "%s\n",
			"select tinydevcrm.rotate_webhook_secret($1, make_interval(secs => $2))", args[0], grace.Seconds())
	})
	return rotate
}

// A formatRow is one of tinydevcrm.webhook_formats.
type formatRow struct{ name, description, url string }

func (r *formatRow) fields() []any { return []any{&r.name, &r.description, &r.url} }

func (p *program) formatsCommand() *cobra.Command {
	formats := &cobra.Command{
		Use:     "formats",
		Short:   "List the formats, and what a URL of each looks like",
		Example: "  orchestrator webhook formats",
	}
	formats.RunE = p.query(func(pool *sql.DB, command *cobra.Command, _ []string) error {
		rows, err := db.Collect(command.Context(), pool, "list the formats", (*formatRow).fields,
			"select name, description, example_url from tinydevcrm.webhook_formats order by rank")
		if err != nil {
			return err
		}
		table := p.newList("", "FORMAT", "WHAT IT IS", "URL")
		for _, r := range rows {
			table.row(r.name, r.description, r.url)
		}
		return table.Flush()
	})
	return formats
}
