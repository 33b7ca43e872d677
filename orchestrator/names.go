package main

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

const (
	// namesWithin bounds how long a shell, or an error, waits for names.
	namesWithin = 2 * time.Second
	// namesOf is an annotation of commands: what their name is one of, where the word in their Use does not say it.
	namesOf = "names of"
)

// What an argument or the value of an option can be the name of. The first ones are words in the Use of commands.
const (
	viewName         = "VIEW"
	subscriptionName = "SUBSCRIPTION"
	webhookName      = "WEBHOOK"
	emailName        = "EMAIL"
	sourceName       = "SOURCE"
	tableName        = "TABLE"
	scheduleWords    = "SCHEDULE"
	anyView          = "any materialized view"
	droppedView      = "dropped view"
	viewRule         = "rule of a view"
	subscriptionRule = "rules of a subscription"
	importMode       = "mode of an import"
	postFormat       = "format of posts"
	columnType       = "column=type"
	timeZone         = "time zone"
)

// queryOf gives the names of a kind that the caller may use, with a word on each; empty for what is no such kind.
func queryOf(kind string) string {
	const own = "owner = quote_ident(current_user)::regrole"
	switch kind {
	case viewName:
		return "select relation::text, notify_when from tinydevcrm.matviews order by 1"
	case anyView:
		return `select pg_class.oid::regclass::text, ''
		          from pg_class
		         where relkind = 'm' and pg_has_role(relowner, 'usage') and relnamespace <> 'tinydevcrm'::regnamespace
		         order by 1`
	case droppedView:
		return `select case when schema_name = any (current_schemas(false)) then quote_ident(name) else format('%I.%I', schema_name, name) end, ''
		          from tinydevcrm.dropped_matviews
		         order by dropped_at desc`
	case subscriptionName:
		return "select name, '' from tinydevcrm.subscriptions where " + own + " order by name"
	case webhookName, emailName:
		isEmail := map[string]string{webhookName: "<>", emailName: "="}[kind]
		return `select subscriptions.name, webhooks.format
		          from tinydevcrm.subscriptions
		          join tinydevcrm.webhooks
		            on webhooks.subscription_id = subscriptions.id
		         where webhooks.format ` + isEmail + " 'email' and subscriptions." + own + " order by 1"
	case sourceName:
		return "select name, table_name from tinydevcrm.sources where " + own + " order by name"
	case tableName:
		return "select relation::text, coalesce(source, '') from tinydevcrm._list_tables('') order by 1"
	case viewRule:
		return "select name, description from tinydevcrm.notify_rules order by rank"
	case subscriptionRule:
		return "select name, description from tinydevcrm.subscription_rules() order by rank"
	case importMode:
		return "select name, description from tinydevcrm.import_modes order by rank"
	case postFormat:
		return "select name, description from tinydevcrm.webhook_formats order by rank"
	case columnType:
		return "select type_name, '' from tinydevcrm.csv_types group by type_name order by min(rank)"
	case timeZone:
		return "select name, '' from pg_timezone_names order by name"
	}
	return ""
}

// A name is one that can be typed, and a word on it.
type name struct{ text, note string }

func (n *name) fields() []any { return []any{&n.text, &n.note} }

// A vocabulary is what an argument or an option takes: names of a kind, or words.
type vocabulary struct {
	kind  string
	words []string
}

// vocabularyOf is that of an option; false for one that takes anything.
func vocabularyOf(command *cobra.Command, flag string) (vocabulary, bool) {
	group := command.Parent().Name()
	switch flag {
	case "matview":
		return vocabulary{kind: viewName}, true
	case "notify-when":
		if group == "matview" {
			return vocabulary{kind: viewRule}, true
		}
		return vocabulary{kind: subscriptionRule}, true
	case "rule":
		return vocabulary{kind: viewRule}, true
	case "mode":
		return vocabulary{kind: importMode}, true
	case "table":
		return vocabulary{kind: tableName}, true
	case "type":
		return vocabulary{kind: columnType}, true
	case "time-zone":
		return vocabulary{kind: timeZone}, true
	case "schedule", "digest":
		return schedulesOf(command), true
	case "format":
		if group == "webhook" {
			return vocabulary{kind: postFormat}, true
		}
	}
	for _, option := range upload.Options() {
		if option.Words != nil && flag == flagOf(option.Name) {
			return vocabulary{words: option.Words}, true
		}
	}
	return vocabulary{}, false
}

// vocabularyAt is that of the argument at a place, from 0.
func vocabularyAt(command *cobra.Command, place int) (vocabulary, bool) {
	words := strings.Fields(command.Use)[1:]
	if place >= len(words) {
		return vocabulary{}, false
	}
	kind := strings.Trim(words[place], "[]")
	switch kind {
	case viewName:
		kind = cmp.Or(command.Annotations[namesOf], kind)
	case scheduleWords:
		return schedulesOf(command), true
	}
	return vocabulary{kind: kind}, queryOf(kind) != ""
}

// schedulesOf are examples of the schedules that a command takes. Only a view is refreshed on change, or more often than
// once a minute.
func schedulesOf(command *cobra.Command) vocabulary {
	words := []string{"10 minutes", "hourly", "daily at 7:00", "weekdays at 9:00", "monday at 7:00",
		"last day of the month at 7:00"}
	if command.Parent().Name() == "matview" {
		words = append([]string{"on change", "5 seconds"}, words...)
	}
	return vocabulary{kind: scheduleWords, words: words}
}

// names are those of a vocabulary. They are for help only, so an error gives none.
func (p *program) names(ctx context.Context, of vocabulary) []name {
	switch {
	case of.words != nil:
		found := make([]name, len(of.words))
		for i, word := range of.words {
			found[i].text = word
		}
		return found
	case p.databaseURL == "":
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, namesWithin)
	defer cancel()
	pool, err := p.access().Open(ctx, 1)
	if err != nil {
		return nil
	}
	defer pool.Close()
	return namesIn(ctx, pool, of.kind)
}

func namesIn(ctx context.Context, pool *sql.DB, kind string) []name {
	found, err := db.Collect(ctx, pool, "list the names", (*name).fields, queryOf(kind))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(found, func(n name) bool { return printable(n.text) != n.text })
}

// complete lets shells complete the arguments and options of a command and its subcommands.
func (p *program) complete(command *cobra.Command) {
	for _, child := range command.Commands() {
		p.complete(child)
	}
	if command.HasSubCommands() || command.Parent() == nil || command.Parent().Name() == "completion" || command.Name() == "help" {
		return
	}
	if _, isName := vocabularyAt(command, 0); isName || !strings.Contains(command.Use, "FILE") && !strings.Contains(command.Use, "DIR") {
		command.ValidArgsFunction = func(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			of, isName := vocabularyAt(command, len(args))
			if !isName {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return p.completions(command.Context(), of, typed)
		}
	}
	command.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		of, isName := vocabularyOf(command, flag.Name)
		if !isName {
			return
		}
		// It fails only for an option that does not exist.
		_ = command.RegisterFlagCompletionFunc(flag.Name, func(command *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return p.completions(command.Context(), of, typed)
		})
	})
}

// completions are the names that begin with what is typed, with notes that shells show.
func (p *program) completions(ctx context.Context, of vocabulary, typed string) ([]string, cobra.ShellCompDirective) {
	directive := cobra.ShellCompDirectiveNoFileComp
	before, last := "", typed
	switch of.kind {
	case subscriptionRule: // of which there may be several
		if at := strings.LastIndexByte(typed, ','); at >= 0 {
			before, last = typed[:at+1], typed[at+1:]
		}
	case columnType:
		column, begun, isColumn := strings.Cut(typed, "=")
		if !isColumn {
			return nil, directive
		}
		before, last = column+"=", begun
	}
	p.password = db.NewPasswordCommand(p.passwordCommand)
	var found []string
	for _, one := range p.names(ctx, of) {
		if !strings.HasPrefix(one.text, last) {
			continue
		}
		if one.note != "" {
			found = append(found, before+one.text+"\t"+printable(one.note))
		} else {
			found = append(found, before+one.text)
		}
	}
	return found, directive
}

// suggest finds what a wrong name in a command line was meant to be: "Did you mean late_orders?", or which command lists
// the right ones, or nothing.
func (p *program) suggest(ctx context.Context, command *cobra.Command, err error) string {
	problem := db.Explain(err)
	// 42P01: there is no such relation.
	if !slices.Contains([]string{"TD001", "TD007", "42P01"}, problem.Code) {
		return ""
	}
	message := strings.ToLower(problem.Message) // SQL writes names that way
	look := func(of vocabulary, typed string) string {
		if of.kind == columnType {
			_, typed, _ = strings.Cut(typed, "=")
		}
		for part := range strings.SplitSeq(typed, ",") {
			// The error is about one of the names, which it repeats.
			if part = strings.TrimSpace(part); part == "" || !strings.Contains(message, strings.ToLower(part)) {
				continue
			}
			var known []string
			for _, one := range p.names(ctx, of) {
				known = append(known, one.text)
			}
			if similar := nearest(part, known); len(similar) > 0 && !slices.Contains(known, part) {
				return didYouMean(similar)
			}
			list := map[string]string{viewName: "matview list", tableName: "table list"}[of.kind]
			if list != "" && problem.Code == "42P01" && !slices.Contains(known, part) {
				return "orchestrator " + list + " lists those that there are."
			}
		}
		return ""
	}
	for place, arg := range command.Flags().Args() {
		if of, isName := vocabularyAt(command, place); isName && of.kind != scheduleWords {
			if hint := look(of, arg); hint != "" {
				return hint
			}
		}
	}
	hint := ""
	command.Flags().Visit(func(flag *pflag.Flag) {
		if command.Parent() == nil || hint != "" {
			return
		}
		if of, isName := vocabularyOf(command, flag.Name); isName && of.kind != scheduleWords {
			hint = look(of, flag.Value.String())
		}
	})
	return hint
}

// nearest are the known names that a typed one is probably meant to be: those with the fewest wrong characters, of which
// at most half may be wrong, and at most three. If there is none, it may be the beginning of a name.
func nearest(typed string, known []string) (names []string) {
	fewest := min(3, len([]rune(typed))/2)
	for _, one := range known {
		switch errors := levenshtein.ComputeDistance(strings.ToLower(typed), strings.ToLower(one)); {
		case errors < fewest:
			fewest, names = errors, []string{one}
		case errors == fewest:
			names = append(names, one)
		}
	}
	if len(names) == 0 && len(typed) > 2 {
		for _, one := range known {
			if strings.HasPrefix(strings.ToLower(one), strings.ToLower(typed)) {
				names = append(names, one)
			}
		}
	}
	return names[:min(3, len(names))]
}

func didYouMean(names []string) string {
	return fmt.Sprintf("Did you mean %s?", strings.Join(names, " or "))
}
