package uploads

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

// Groups are the other options beyond table, mode and key, by topic.
func (f *form) Groups() []parts.OptionGroup { return parts.FillOptions("upload-", f.Option)[1:] }

// Option is the text that was given for an option. The types that were chosen from the preview's lists are not in it:
// the lists show them.
func (f *form) Option(name string) string {
	values := slices.Clone(f.Options[name])
	if name == "type" && f.Preview != nil {
		for _, column := range f.Preview.Plan.Columns {
			values = slices.DeleteFunc(values, func(value string) bool {
				return slices.Contains(f.Types, strings.TrimPrefix(value, upload.TypeOption(column.Name, "")))
			})
		}
	}
	return strings.Join(values, "; ")
}

// A chooser is the list of types for a column.
type chooser struct {
	upload.Column
	// IsChosen means that one of the types was chosen.
	IsChosen bool
	Choices  []typeChoice
}

// Written is how its values are written: its form without the word for its type.
func (c chooser) Written() string {
	return strings.TrimPrefix(strings.TrimPrefix(c.Form, c.Type+" "), "number ")
}

type typeChoice struct {
	parts.Choice
	IsChosen bool
}

// Columns are the columns of the preview.
func (f *form) Columns() []chooser {
	columns := make([]chooser, len(f.Preview.Plan.Columns))
	for i, column := range f.Preview.Plan.Columns {
		found := chooser{Column: column}
		for _, name := range f.Types {
			value := upload.TypeOption(column.Name, name)
			isChosen := slices.Contains(f.Options["type"], value)
			found.IsChosen = found.IsChosen || isChosen
			found.Choices = append(found.Choices, typeChoice{parts.Choice{Value: value, Label: name}, isChosen})
		}
		if !found.IsChosen {
			// It is the first of the list, as what was found.
			found.Choices = slices.DeleteFunc(found.Choices, func(other typeChoice) bool { return other.Label == column.Type })
		}
		columns[i] = found
	}
	return columns
}

// readTypes reads the types and forms that can be chosen for a column, each once.
func readTypes(ctx context.Context, pool *sql.DB) (types []string, err error) {
	err = pool.QueryRowContext(ctx, `
		select array_agg(name order by list, rank)
		  from (
		    select 1 as list, min(rank) as rank, type_name as name
		      from tinydevcrm.csv_types
		     group by type_name
		    union all
		    select 2, rank, name
		      from tinydevcrm.csv_forms
		  ) as choices`).Scan(pq.Array(&types))
	if err != nil {
		return nil, fmt.Errorf("read the types of columns: %w", err)
	}
	return types, nil
}

// A remedy is a value of an option with which a refused file may get in.
type remedy struct{ Option, Value, Label, URL string }

// maxRemedies is of how many choices each is a remedy. More are only in the list of the form.
const maxRemedies = 6

// nameTaken is the SQLSTATE for a table that is there already.
const nameTaken = "TD004"

// remediesOf are the remedies for a problem: the options of the command line that its hint names, with a value.
func (f *form) remediesOf(problem db.Problem) (remedies []remedy) {
	if problem.Code == nameTaken {
		for _, mode := range f.Modes[min(1, len(f.Modes)):] {
			if !mode.TakesKey {
				remedies = append(remedies, f.remedy("mode", mode.Name, "If the table exists: "+mode.Label))
			}
		}
	}
	for _, hinted := range parts.HintedOptions(problem.Hint) {
		if hinted.Value != "" && f.choicesOf(hinted.Name) == nil {
			remedies = append(remedies, f.remedyOf(hinted.Name, hinted.Value)...)
		}
	}
	if choices := problem.Choices; choices != nil && len(choices.Values) <= maxRemedies {
		for _, choice := range choices.Values {
			remedies = append(remedies, f.remedy(choices.Option, choice.Value, choice.Label))
		}
	}
	if len(problem.Lines) == 0 {
		return remedies
	}
	// What repairs any lines comes after what the hint says about these.
	for _, value := range []string{"pad", "reject"} {
		isThere := func(other remedy) bool { return other.Option == "ragged" && other.Value == value }
		if !slices.ContainsFunc(remedies, isThere) {
			remedies = append(remedies, f.remedyOf("ragged", value)...)
		}
	}
	return remedies
}

// remedyOf is the remedy that sets an option; none when the form has no such option, or no such choice of it.
func (f *form) remedyOf(name, value string) []remedy {
	option, isThere := parts.FindOption(name)
	label := option.LabelOf(value)
	if !isThere || name == "reject_limit" || label == "" {
		return nil
	}
	return []remedy{f.remedy(name, value, label)}
}

// remedy leads to the form with an option set. The script does again at once what has failed.
func (f *form) remedy(name, value, label string) remedy {
	options := url.Values{}
	for option, values := range f.Options {
		options[option] = slices.Clone(values)
	}
	if name == "type" {
		options.Add(name, value)
	} else {
		options.Set(name, value)
	}
	return remedy{name, value, label, page + "?" + options.Encode() + "#" + part}
}
