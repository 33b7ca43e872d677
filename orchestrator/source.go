package main

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

func (p *program) sourceCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "source COMMAND",
		Short: "Fetch files from a URL again and again, and import them",
		Long: "A source is a URL that orchestrator up fetches by a schedule and imports into a table.\n" +
			"What fails changes nothing, and notifies.",
	}
	list := p.listCommand("source", "List the sources, and how their last runs went, those that fail first",
		"select * from tinydevcrm.source_status order by is_troubled desc, name", p.listSources)

	var isForced bool
	run := &cobra.Command{
		Use:     "run SOURCE",
		Short:   "Fetch a source now",
		Example: "  orchestrator source run orders --force",
	}
	run.Flags().BoolVar(&isForced, "force", false, "even if the server says that nothing is new")
	run.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		if _, err := pool.ExecContext(command.Context(), "select tinydevcrm.run_source($1, $2)", args[0], isForced); err != nil {
			return fmt.Errorf("%s: %w", command.CommandPath(), err)
		}
		fmt.Fprintf(p.stdout, "source %q is fetched now; orchestrator source show %[1]s says how that goes\n", args[0])
		return nil
	})

	command.AddCommand(p.createSourceCommand(), p.alterSourceCommand(), list, p.showSourceCommand(), run,
		p.nameAction("pause SOURCE", "Pause the schedule of a source", "  orchestrator source pause orders", "source %[2]q is paused\n", "select tinydevcrm.pause_source($1)"),
		p.nameAction("resume SOURCE", "Resume the schedule of a source", "  orchestrator source resume orders", "source %[2]q is resumed\n", "select tinydevcrm.resume_source($1)"),
		p.nameAction("drop SOURCE", "Drop a source with its runs; the table stays", "  orchestrator source drop orders", "source %[2]q is dropped\n", "select tinydevcrm.drop_source($1)"))
	return command
}

// A sourcePlan is what the flags of a source say. Secrets are read from a file when they begin with @.
type sourcePlan struct {
	shape         shape
	basic         string
	schedule      string
	fewer         float64
	deadline      time.Duration
	isEmptyNormal bool
	values        url.Values
}

func (s *sourcePlan) addFlags(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&s.schedule, "schedule", "", `when it is fetched, such as "every 10 minutes" or "daily at 6:00 Europe/Berlin" (default: on request)`)
	flags.StringArrayVar(&s.shape.headers, "http-header", nil, "'Name: value' of each request, such as 'Authorization: Bearer …'; @FILE reads lines of them")
	flags.Float64Var(&s.fewer, "refuse-if-fewer", 0, "refuse a file with fewer rows than this share of those of the last one, such as 0.5")
	flags.DurationVar(&s.deadline, "notify-deadline", 0, "notify when nothing new has come for so long, such as 26h")
}

// basicHeader is the header of HTTP Basic for user:password, or for what is in @FILE.
func basicHeader(user string) (string, error) {
	if user == "" {
		return "", nil
	}
	if file, isFile := strings.CutPrefix(user, "@"); isFile {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		user = strings.TrimRight(string(text), "\r\n")
	}
	return "\nAuthorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user)), nil
}

// addOptions adds the options of the imports, but those that are named.
func (s *sourcePlan) addOptions(command *cobra.Command, except ...string) {
	s.values = make(url.Values)
	for _, option := range upload.Options() {
		if slices.Contains(except, option.Name) {
			continue
		}
		usage := option.Usage
		switch option.Name {
		case "mode":
			usage = "replace (the default: new rows for the old), append (to the old), or upsert (by key)"
		case "table":
			usage = "name of the table (default: that of the source)"
		case "keep_table":
			usage = "whether mode replace keeps the columns and types of the table: yes (the default) or no"
		}
		addOption(command.Flags(), option.Name, usage, s.values)
	}
}

// least is the share of refuse_if_fewer, null if none was given.
func (s *sourcePlan) least(command *cobra.Command) sql.Null[float64] {
	return sql.Null[float64]{V: s.fewer, Valid: command.Flags().Changed("refuse-if-fewer")}
}

func (p *program) createSourceCommand() *cobra.Command {
	var plan sourcePlan
	create := &cobra.Command{
		Use:   "create NAME URL",
		Short: "Fetch and import a URL, now and by a schedule",
		Example: "  orchestrator source create orders https://example.com/export.csv --schedule 'daily at 6:00'\n" +
			"  orchestrator source create orders https://example.com/export.csv --mode upsert --key id \\\n" +
			"    --http-header @secret",
	}
	plan.addFlags(create)
	create.Flags().StringVar(&plan.basic, "basic-auth", "", "user:password for HTTP Basic; @FILE reads it from a file")
	create.Flags().BoolVar(&plan.isEmptyNormal, "accept-empty", false, "import a file without rows too, which is refused otherwise")
	plan.addOptions(create)
	create.RunE = func(command *cobra.Command, args []string) error {
		request, options, err := upload.StoreOptions(args[0], plan.values)
		if err != nil {
			return asFlag(err)
		}
		basic, err := basicHeader(plan.basic)
		if err != nil {
			return err
		}
		return plan.shape.withHeaders(p, func(pool *sql.DB, command *cobra.Command, args []string, headers string) error {
			if _, err := pool.ExecContext(command.Context(), `
				select tinydevcrm.create_source(
				           $1, $2, $3, coalesce(nullif($4, ''), 'replace'), nullif($5::text[], '{}'), $6, nullif($7, ''),
				           coalesce(tinydevcrm._parse_headers($8), '{}'), $9::numeric, $10, make_interval(secs => $11))`,
				args[0], args[1], request.Table, request.Mode, pq.Array(request.Key), options, plan.schedule,
				headers+basic, plan.least(command), plan.isEmptyNormal, plan.deadline.Seconds()); err != nil {
				return fmt.Errorf("%s: %w", command.CommandPath(), err)
			}
			fmt.Fprintf(p.stdout, "source %q is created; orchestrator up fetches it, and orchestrator source show %[1]s says how that goes\n", args[0])
			return nil
		})(command, args)
	}
	return create
}

func (p *program) alterSourceCommand() *cobra.Command {
	var plan sourcePlan
	var mode string
	var key []string
	alter := &cobra.Command{
		Use:     "alter SOURCE [URL]",
		Short:   "Change the URL, headers, schedule, mode, limits or options of a source",
		Long:    "Change the settings of a source, from its next run on. What is not given stays as it is.",
		Example: "  orchestrator source alter orders --schedule hourly --new-columns add",
	}
	plan.addFlags(alter)
	plan.addOptions(alter, "table", "mode", "key")
	var isOnRequest bool
	alter.Flags().BoolVar(&isOnRequest, "no-schedule", false, "end the schedule: it is fetched on request only")
	alter.MarkFlagsMutuallyExclusive("schedule", "no-schedule")
	alter.Flags().StringVar(&mode, "mode", "", "replace, append or upsert")
	alter.Flags().StringSliceVar(&key, "key", nil, "column by which mode upsert finds a row; repeat it, or a,b, for more")
	alter.Flags().BoolVar(&plan.isEmptyNormal, "accept-empty", false, "import a file without rows too; --accept-empty=false refuses it again")
	alter.PreRunE = func(command *cobra.Command, args []string) error {
		isGiven := len(args) == 2
		command.LocalFlags().VisitAll(func(flag *pflag.Flag) { isGiven = isGiven || flag.Changed })
		if !isGiven {
			return badUsage(seeHelp(command), "nothing to change")
		}
		return nil
	}
	alter.RunE = plan.shape.withHeaders(p, func(pool *sql.DB, command *cobra.Command, args []string, headers string) error {
		_, options, err := upload.StoreOptions(args[0], plan.values)
		if err != nil {
			return asFlag(err)
		}
		var target sql.Null[string]
		if len(args) == 2 {
			target = sql.Null[string]{V: args[1], Valid: true}
		}
		schedule := sql.Null[string]{V: plan.schedule, Valid: plan.schedule != "" || isOnRequest}
		deadline := sql.Null[float64]{V: plan.deadline.Seconds(), Valid: command.Flags().Changed("notify-deadline")}
		if _, err := pool.ExecContext(command.Context(), `
			select tinydevcrm.alter_source(
			           $1, $2, tinydevcrm._parse_headers($3), (
			               select (options - $10::text[]) || $11::jsonb
			                 from tinydevcrm.sources
			                where id = tinydevcrm._find_own_source($1)
			           ), $4, $5::numeric, make_interval(secs => $6), nullif($7, ''), $8::text[], $9::boolean)`,
			args[0], target, headers, schedule, plan.least(command), deadline, mode, pq.Array(key),
			sql.Null[bool]{V: plan.isEmptyNormal, Valid: command.Flags().Changed("accept-empty")},
			pq.Array(slices.Collect(maps.Keys(plan.values))), options); err != nil {
			return fmt.Errorf("%s: %w", command.CommandPath(), err)
		}
		fmt.Fprintf(p.stdout, "source %q is changed\n", args[0])
		return nil
	})
	return alter
}

// A sourceRow is one of tinydevcrm.source_status, as the list shows it.
type sourceRow struct {
	name, table, status, schedule, next, imported, lastRun, remark string
	rows                                                           sql.Null[int64]
	isTroubled                                                     bool
}

func (r *sourceRow) fields() []any {
	return []any{&r.name, &r.table, &r.status, &r.schedule, &r.next, &r.imported, &r.rows, &r.lastRun, &r.remark, &r.isTroubled}
}

func (p *program) listSources(pool *sql.DB, command *cobra.Command, _ []string) error {
	rows, err := db.Collect(command.Context(), pool, "list the sources", (*sourceRow).fields, `
		select name, table_name, status, coalesce(schedule, '-'),
		       coalesce(to_char(coalesce(next_attempt_at, next_due_at), 'YYYY-MM-DD HH24:MI:SSOF'), '-'),
		       coalesce(to_char(imported_at, 'YYYY-MM-DD HH24:MI:SSOF'), '-'), row_count, coalesce(last_run, '-'),
		       coalesce(error_message, url), is_troubled
		  from tinydevcrm.source_status
		 order by is_troubled desc, name`)
	if err != nil {
		return err
	}
	table := p.newList("there is no source; orchestrator source create makes one", "SOURCE", "TABLE", "STATUS", "SCHEDULE", "NEXT", "IMPORTED", "ROWS", "LAST RUN", "URL OR WHY")
	for _, r := range rows {
		count := "-"
		if r.rows.Valid {
			count = fmt.Sprint(r.rows.V)
		}
		table.row(r.name, r.table, alarming(r.status, r.isTroubled), r.schedule, r.next, r.imported, count, r.lastRun, db.ReadProblem(r.remark).Message)
	}
	return table.Flush()
}

// A runRow is one of tinydevcrm.source_runs. Its message is "-" for none, its advice what to do if the message has no hint.
type runRow struct{ due, status, attempts, bytes, rows, importNumber, message, advice string }

func (r *runRow) fields() []any {
	return []any{&r.due, &r.status, &r.attempts, &r.bytes, &r.rows, &r.importNumber, &r.message, &r.advice}
}

func (p *program) showSourceCommand() *cobra.Command {
	show := &cobra.Command{
		Use:     "show SOURCE",
		Short:   "Show the last runs of a source, and what to do when the last one failed",
		Example: "  orchestrator source show orders",
	}
	show.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		rows, err := db.Collect(command.Context(), pool, "list the runs", (*runRow).fields, `
			select to_char(created_at, 'YYYY-MM-DD HH24:MI:SSOF'), status, attempts::text, coalesce(byte_count::text, '-'),
			       coalesce(row_count::text, '-'), coalesce(import_number::text, '-'), coalesce(error_message, '-'),
			       coalesce(tinydevcrm._advise_run(error_code, error_message), '')
			  from tinydevcrm.source_runs
			 where source_id = tinydevcrm._find_own_source($1)
			 order by id desc
			 limit 20`, args[0])
		if err != nil {
			return err
		}
		table := p.newList("it has not run yet; orchestrator source run fetches it now", "DUE", "STATUS", "ATTEMPTS", "BYTES", "ROWS", "IMPORT", "WHY")
		for _, r := range rows {
			table.row(r.due, alarming(r.status, r.status == "failed"), r.attempts, r.bytes, r.rows, r.importNumber, db.ReadProblem(r.message).Message)
		}
		if err := table.Flush(); err != nil || len(rows) == 0 {
			return err
		}
		last := db.ReadProblem(rows[0].message)
		last.Hint = cmp.Or(last.Hint, rows[0].advice)
		if last.Detail != "" || last.Hint != "" {
			fmt.Fprintf(p.stdout, "\n%s\n", printableLines(last.String()))
		}
		return nil
	})
	return show
}

// sourceTroubles returns the sources that need attention, such as those that fail.
func sourceTroubles(ctx context.Context, pool *sql.DB) ([]string, error) {
	return db.Collect(ctx, pool, "read the status of sources", func(trouble *string) []any { return []any{trouble} }, `
		select format('source %s is %s%s', name, status, ': ' || split_part(error_message, E'\n  ', 1))
		  from tinydevcrm.source_status
		 where is_troubled
		 order by name`)
}
