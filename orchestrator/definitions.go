package main

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	"github.com/lib/pq"
	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/definitions"
)

// errChanges ends plan with exit code 2 when something would change. It has been printed.
var errChanges = fmt.Errorf("%w", errSilent)

// A definitionError is an error of the files or of what they say. It is a failure, never a wrong command line, so that
// scripts can tell it from the exit code 2 of plan.
type definitionError struct{ error }

func (e definitionError) Unwrap() error { return e.error }

// aboutFiles is the help that the commands share.
const aboutFiles = `DIR has a file views/NAME.sql for each view, views/SCHEMA/NAME.sql for one of another schema than the first of the
search_path: settings as comments, an empty line, and the query. tinydevcrm.yaml has tables, sources and subscriptions.
Secrets are variables of the environment: ${NAME}.`

func (p *program) exportCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "export [DIR]",
		Short:   "Write your views, tracked tables, sources and subscriptions to files",
		Long:    "Write your views, tracked tables, sources and subscriptions to files, in this folder without DIR.\n\n" + aboutFiles,
		Example: "  orchestrator export crm\n  git -C crm diff",
	}
	command.RunE = p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		folder := "."
		if len(args) > 0 {
			folder = args[0]
		}
		return p.export(command.Context(), pool, folder)
	})
	return command
}

func (p *program) export(ctx context.Context, pool *sql.DB, folder string) error {
	keys, err := definitions.ReadKeys(ctx, pool)
	if err != nil {
		return err
	}
	found, err := db.Collect(ctx, pool, "read the definitions", func(d *definitions.Definition) []any {
		return []any{&d.Kind, &d.Name, &d.Schema, &d.Relname, db.JSON(&d.Values)}
	}, `
		select kind, name, coalesce(schema_name, ''), coalesce(relname, ''), definition
		  from tinydevcrm.export_definitions()`)
	if err != nil {
		return err
	}
	stale, err := definitions.Write(folder, keys, found)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%d definitions are in %s\n", len(found), printable(folder))
	for _, file := range stale {
		fmt.Fprintf(p.stderr, "%s is of no view that there is; apply would create it\n", printable(file))
	}
	return nil
}

// A change is a row of tinydevcrm.plan_definitions().
type change struct {
	action, kind, name, schema, relname string
	old, new                            map[string]json.RawMessage
}

func (c *change) fields() []any {
	return []any{&c.action, &c.kind, &c.name, &c.schema, &c.relname, db.JSON(&c.old), db.JSON(&c.new)}
}

func (p *program) planCommand() *cobra.Command {
	prunes := false
	command := &cobra.Command{
		Use:   "plan DIR",
		Short: "Show what apply would change; exit code 0 when nothing, 2 when something",
		Long: "Show what apply would change, as a diff of the files. Nothing changes.\n\n" + aboutFiles + "\n\n" +
			"The exit code is 0 when nothing would change, 2 when something would, 1 when that cannot be found, such as when a\n" +
			"file has an error, and 64 when the command line is wrong.",
		Example:     "  orchestrator plan crm\n  orchestrator plan crm --prune",
		Annotations: map[string]string{usageCode: "64"},
	}
	pruneFlag(command, &prunes)
	command.RunE = p.withFiles(func(ctx context.Context, pool *sql.DB, keys definitions.Keys, wanted []definitions.Wanted, document string) error {
		return p.plan(ctx, pool, keys, wanted, document, prunes)
	})
	return command
}

func pruneFlag(command *cobra.Command, prunes *bool) {
	command.Flags().BoolVar(prunes, "prune", false, "drop your views, sources and subscriptions that are not in the files; tables stay")
}

// withFiles gives a command the definitions of its folder, also as the JSON that the database reads.
func (p *program) withFiles(work func(context.Context, *sql.DB, definitions.Keys, []definitions.Wanted, string) error) func(*cobra.Command, []string) error {
	return p.query(func(pool *sql.DB, command *cobra.Command, args []string) error {
		ctx := command.Context()
		keys, err := definitions.ReadKeys(ctx, pool)
		if err != nil {
			return err
		}
		wanted, err := definitions.Read(args[0], keys, p.getenv)
		if err != nil {
			return definitionError{err}
		}
		document, err := json.Marshal(wanted)
		if err != nil {
			return fmt.Errorf("write the definitions as JSON: %w", err)
		}
		return work(ctx, pool, keys, wanted, string(document))
	})
}

func (p *program) plan(ctx context.Context, pool *sql.DB, keys definitions.Keys, wanted []definitions.Wanted, document string, prunes bool) error {
	changes, err := db.Collect(ctx, pool, "plan the changes", (*change).fields, `
		select action, kind, name, coalesce(schema_name, ''), coalesce(relname, ''), coalesce(old, 'null'), coalesce(new, 'null')
		  from tinydevcrm.plan_definitions($1::jsonb, true)`, document)
	if err != nil {
		return definitionError{p.locate(ctx, pool, wanted, err)}
	}
	isLeft := func(c change) bool { return c.action == "drop" && !prunes }
	left := 0
	counts := make(map[string]int)
	for _, change := range changes {
		if isLeft(change) {
			left++
			continue
		}
		counts[change.action]++
		if err := p.printChange(keys, change); err != nil {
			return err
		}
	}
	if left > 0 {
		fmt.Fprintf(p.stdout, "%d more are not in the files and stay; --prune drops them\n", left)
	}
	if len(changes) == left {
		fmt.Fprintln(p.stdout, "nothing would change")
		return nil
	}
	fmt.Fprintf(p.stdout, "%d to create, %d to alter, %d to replace, %d to drop\n",
		counts["create"], counts["alter"], counts["replace"], counts["drop"])
	return errChanges
}

// printChange prints a change as a diff of its file.
func (p *program) printChange(keys definitions.Keys, c change) error {
	const none = "/dev/null"
	var texts, files [2]string
	for i, values := range []map[string]json.RawMessage{c.old, c.new} {
		files[i] = none
		if values == nil {
			continue
		}
		var err error
		files[i], texts[i], err = keys.Format(definitions.Definition{
			Kind: c.kind, Name: c.name, Schema: c.schema, Relname: c.relname, Values: values,
		})
		if err != nil {
			return err
		}
	}
	if files[0] != none {
		files[0] += " (database)"
	}
	fmt.Fprintf(p.stdout, "%s %s %s%s\n", c.action, c.kind, printable(c.name), consequences[c.action+" "+c.kind])
	for line := range strings.Lines(udiff.Unified(files[0], files[1], texts[0], texts[1])) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		for i, cell := range cells {
			cells[i] = printable(cell)
		}
		fmt.Fprintln(p.stdout, strings.Join(cells, "\t"))
	}
	fmt.Fprintln(p.stdout)
	return nil
}

// consequences are what a diff does not show.
var consequences = map[string]string{
	"replace source":       ": dropped and made again, with another table; its runs are forgotten",
	"replace subscription": ": dropped and made again; what waits to be delivered is lost",
	"drop view":            ": orchestrator matview restore makes it again",
	"drop subscription":    ": what waits to be delivered is lost",
}

func (p *program) applyCommand() *cobra.Command {
	prunes := false
	command := &cobra.Command{
		Use:   "apply DIR",
		Short: "Make views, tracked tables, sources and subscriptions what the files say",
		Long: "Make views, tracked tables, sources and subscriptions what the files say, all in one transaction. What is so already\n" +
			"stays as it is, with what has been recorded of it. Views are made after those that they read.\n\n" + aboutFiles,
		Example:     "  orchestrator apply crm\n  orchestrator apply crm --prune",
		Annotations: map[string]string{whenStopped: "stopped; nothing is changed"},
	}
	pruneFlag(command, &prunes)
	command.RunE = p.withFiles(func(ctx context.Context, pool *sql.DB, _ definitions.Keys, wanted []definitions.Wanted, document string) error {
		done, err := db.Collect(ctx, pool, "apply the definitions", func(row *[3]string) []any { return []any{&row[0], &row[1], &row[2]} },
			"select action, kind, name from tinydevcrm.apply_definitions($1::jsonb, $2)", document, prunes)
		if err != nil {
			return definitionError{p.locate(ctx, pool, wanted, err)}
		}
		past := map[string]string{"create": "created", "alter": "altered", "replace": "replaced", "drop": "dropped"}
		for _, row := range done {
			fmt.Fprintf(p.stdout, "%s %s is %s\n", row[1], printable(row[2]), past[row[0]])
		}
		if len(done) == 0 {
			fmt.Fprintln(p.stdout, "nothing has changed")
		}
		return nil
	})
	return command
}

func (p *program) checkCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "check DIR",
		Short: "Find all errors of the files, without running a query or changing anything",
		Long: "Find all errors of the files: queries that cannot be read or name what there is not, and bad settings. Runs no query\n" +
			"of theirs, makes nobody wait, and changes nothing. It does not find a query that fails only when it runs, two rows\n" +
			"of one key, and a view that cannot be refreshed on change or have a deadline, because its tables are not tracked.\n\n" + aboutFiles,
		Example: "  orchestrator check crm",
	}
	command.RunE = p.withFiles(func(ctx context.Context, pool *sql.DB, _ definitions.Keys, wanted []definitions.Wanted, document string) error {
		problems, err := db.Collect(ctx, pool, "check the definitions", (*problem).fields, `
			select kind, name, code, message, coalesce(detail, ''), coalesce(hint, '')
			  from tinydevcrm.check_definitions($1::jsonb)`, document)
		if err != nil {
			return definitionError{p.locate(ctx, pool, wanted, err)}
		}
		if len(problems) == 0 {
			fmt.Fprintf(p.stdout, "%d definitions have no error\n", len(wanted))
			return nil
		}
		names, err := nameWanted(ctx, pool, wanted)
		if err != nil {
			return err
		}
		for _, found := range problems {
			shown := p.place(ctx, pool, wanted, names, found)
			fmt.Fprintf(p.stderr, "error: %s\n", printableLines(shown.String()))
		}
		return errSilent
	})
	return command
}

// A problem is a row of tinydevcrm.check_definitions().
type problem struct{ kind, name, code, message, detail, hint string }

func (p *problem) fields() []any {
	return []any{&p.kind, &p.name, &p.code, &p.message, &p.detail, &p.hint}
}

// nameWanted gives each definition the name by which the database calls it, which is how SQL writes it.
func nameWanted(ctx context.Context, pool *sql.DB, wanted []definitions.Wanted) ([]string, error) {
	schemas, names := make([]*string, len(wanted)), make([]string, len(wanted))
	for i, one := range wanted {
		schemas[i], names[i] = one.Schema, one.Name
	}
	shown, err := db.Collect(ctx, pool, "name the definitions", func(name *string) []any { return []any{name} }, `
		select tinydevcrm._shorten_name(coalesce(given.schema_name, current_schema()), given.name, current_schema())
		  from unnest($1::text[], $2::text[]) with ordinality as given (schema_name, name, place)
		 order by given.place`, pq.Array(schemas), pq.Array(names))
	for i, one := range wanted {
		if err == nil && one.Kind != "view" {
			shown[i] = one.Name
		}
	}
	return shown, err
}

// place says in which file a problem is, and in which line if that is known.
func (p *program) place(ctx context.Context, pool *sql.DB, wanted []definitions.Wanted, names []string, found problem) db.Problem {
	shown := db.Problem{
		Code:    found.code,
		Message: fmt.Sprintf("%s %s: %s", found.kind, found.name, found.message),
		Detail:  found.detail,
		Hint:    found.hint,
	}
	i := slices.IndexFunc(wanted, func(one definitions.Wanted) bool { return one.Kind == found.kind })
	for ; i >= 0 && i < len(wanted); i++ {
		if wanted[i].Kind == found.kind && names[i] == found.name {
			break
		}
	}
	if i < 0 || i == len(wanted) {
		return shown
	}
	line := wanted[i].Line
	if wanted[i].Query != "" {
		// The error came out of functions of ours, which lose the position. Reading the query alone finds it again, unless
		// it is about another view of the files.
		_, err := pool.ExecContext(ctx, "select tinydevcrm._check_query($1)", wanted[i].Query)
		if again := db.Explain(err); err != nil && again.Code == found.code && again.Message == found.message && again.Position > 0 {
			line = wanted[i].QueryLine + strings.Count(string([]rune(again.Query)[:again.Position-1]), "\n")
			shown.Detail = cmp.Or(shown.Detail, withoutLine(again.Detail))
		}
	}
	shown.Message = fmt.Sprintf("%s:%d: %s", wanted[i].File, line, shown.Message)
	return shown
}

// withoutLine removes the number of the line from a line with a mark below it, because it counts within the query.
func withoutLine(detail string) string {
	label, _, isMarked := strings.Cut(detail, ": ")
	if !isMarked || !strings.HasPrefix(label, "LINE ") {
		return detail
	}
	lines := strings.Split(detail, "\n")
	for i, line := range lines {
		lines[i] = line[min(len(line), len(label)+2):]
	}
	return strings.Join(lines, "\n")
}

// locate is place for an error whose message begins with kind and name.
func (p *program) locate(ctx context.Context, pool *sql.DB, wanted []definitions.Wanted, err error) error {
	var refused *pq.Error
	if !errors.As(err, &refused) {
		return err
	}
	names, nameErr := nameWanted(ctx, pool, wanted)
	if nameErr != nil {
		return err
	}
	for i, one := range wanted {
		message, isOf := strings.CutPrefix(refused.Message, one.Kind+" "+names[i]+": ")
		if isOf {
			shown := p.place(ctx, pool, wanted, names, problem{
				one.Kind, names[i], string(refused.Code), message, refused.Detail, refused.Hint,
			})
			return &db.UserError{
				Status: http.StatusUnprocessableEntity, Code: shown.Code, Message: shown.Message, Detail: shown.Detail, Hint: shown.Hint,
			}
		}
	}
	return err
}
