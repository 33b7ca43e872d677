package uploads

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// A field is an option of an upload. It has a list of choices, of which the first is the default, or takes a text.
type field struct {
	Name, Label, Placeholder string
	Choices                  []choice
}

type choice struct{ Value, Label string }

// groups are the options beyond table, mode and key, by topic.
func groups() []group {
	stop := choice{"", "stop: import nothing"}
	return []group{
		formatGroup(),
		{"How the file is written", []field{
			{"header", "First line", "", []choice{{"", "found in the file"}, {"yes", "names the columns"}, {"no", "is data"}}},
			{"columns", "Names of the columns", "from the file", nil},
			{"delimiter", "Delimiter", "from the file", nil},
			{"quote", "Quote", "from the file", nil},
			{"escape", "Escape within quotes", "from the file", nil},
			{"encoding", "Encoding", "from the file", nil},
		}},
		{"Lines that are not data", []field{
			{"skip", "Lines before the header", "from the file", nil},
			{"skip_after_header", "Lines to skip below the header", "0", nil},
			{"skip_end", "Lines to skip at the end", "0", nil},
			{"comment", "What begins comments", "none, or #", nil},
		}},
		{"Values", []field{
			{"type", "Types of columns", "zip=text; amount=numeric(10,2)", nil},
			{"null", "Texts that mean NULL", "the empty text", nil},
			{"quoted_empty", `What "" means`, "", []choice{{"", "the empty text"}, {"null", "NULL"}}},
			{"trim", "Blanks around values", "", []choice{{"", "belong to them"}, {"yes", "are left out"}}},
			{"file_column", "Column for the file's name", "none", nil},
			{"distribute_by", "Distribute by (Citus)", "a column", nil},
		}},
		{"What does not fit", []field{
			{"ragged", "Lines with too few or too many fields", "",
				[]choice{stop, {"pad", "fill up, or add columns"}, {"reject", "leave them out"}}},
			{"bad", "Lines with values that do not fit", "", []choice{stop, {"reject", "leave them out"}}},
			{"new_columns", "Columns that only the file has", "",
				[]choice{stop, {"add", "add them to the table"}, {"ignore", "ignore them"}}},
			{"missing_columns", "Columns that only the table has", "", []choice{stop, {"null", "are NULL"}}},
			{"keep_table", "The columns of a table that is replaced", "",
				[]choice{{"", "become those of the file"}, {"yes", "stay, with their types"}}},
			{"widen", "Values that a column of the table cannot hold", "",
				[]choice{stop, {"yes", "give the column a wider type"}}},
			{"reject_limit", "How many lines may be left out", "1000", nil},
		}},
	}
}

type group struct {
	Name   string
	Fields []field
}

// Groups are the other options beyond table, mode and key, by topic.
func (f *form) Groups() []group { return groups()[1:] }

// A shownGroup is a group with what is given.
type shownGroup struct {
	group
	*form
}

// With is a group with what is given.
func (f *form) With(g group) shownGroup { return shownGroup{g, f} }

// IsSet reports whether one of the options of a group is set.
func (f *form) IsSet(g group) bool {
	return slices.ContainsFunc(g.Fields, func(field field) bool { return f.Option(field.Name) != "" })
}

// Option is the text that was given for an option. The types that were chosen from the preview's lists are not in it:
// the lists show them.
func (f *form) Option(name string) string {
	values := slices.Clone(f.Options[name])
	if name == "type" && f.Preview != nil {
		for _, column := range f.Preview.Plan.Columns {
			values = slices.DeleteFunc(values, func(value string) bool {
				return slices.Contains(f.Types, strings.TrimPrefix(value, typeOption(column.Name, "")))
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
	choice
	IsChosen bool
}

// Columns are the columns of the preview.
func (f *form) Columns() []chooser {
	columns := make([]chooser, len(f.Preview.Plan.Columns))
	for i, column := range f.Preview.Plan.Columns {
		found := chooser{Column: column}
		for _, name := range f.Types {
			value := typeOption(column.Name, name)
			isChosen := slices.Contains(f.Options["type"], value)
			found.IsChosen = found.IsChosen || isChosen
			found.Choices = append(found.Choices, typeChoice{choice{value, name}, isChosen})
		}
		if !found.IsChosen {
			// It is the first of the list, as what was found.
			found.Choices = slices.DeleteFunc(found.Choices, func(other typeChoice) bool { return other.Label == column.Type })
		}
		columns[i] = found
	}
	return columns
}

// typeOption is the value of the option "type" for one column.
func typeOption(column, typeName string) string {
	if strings.ContainsAny(column, `;"`) || strings.TrimSpace(column) != column {
		column = pq.QuoteIdentifier(column)
	}
	return column + "=" + typeName
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

// optionInHint is an option of the command line, as hints name it, with its value if there is one.
const optionInHint = `--([a-z-]+)(?: ('[^']*'|[^\s,;.)]+(?:\.[^\s,;.)]+)*))?`

func optionOf(found []string) (name, value string) {
	return strings.ReplaceAll(found[1], "-", "_"), strings.Trim(found[2], "'")
}

// inWords is a hint with the labels of the form in place of the options of the command line.
func (f *form) inWords(hint string) string {
	pattern := regexp.MustCompile(optionInHint)
	return pattern.ReplaceAllStringFunc(hint, func(option string) string {
		name, value := optionOf(pattern.FindStringSubmatch(option))
		if said := f.remedyOf(name, value); value != "" && len(said) > 0 {
			return "“" + said[0].Label + "”"
		}
		for _, group := range groups() {
			for _, field := range group.Fields {
				if field.Name == name {
					return strings.Replace(option, "--"+strings.ReplaceAll(name, "_", "-"), "“"+field.Label+"”", 1)
				}
			}
		}
		return option
	})
}

// remediesOf are the remedies for a problem: the options of the command line that its hint names, with a value.
func (f *form) remediesOf(problem db.Problem) (remedies []remedy) {
	if problem.Code == nameTaken {
		for _, mode := range f.Modes[min(1, len(f.Modes)):] {
			if !mode.TakesKey {
				remedies = append(remedies, f.remedy("mode", mode.Name, "If the table exists: "+mode.Label))
			}
		}
	}
	for _, found := range regexp.MustCompile(optionInHint).FindAllStringSubmatch(problem.Hint, -1) {
		if name, value := optionOf(found); value != "" && f.choicesOf(name) == nil {
			remedies = append(remedies, f.remedyOf(name, value)...)
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
	for _, group := range groups() {
		for _, field := range group.Fields {
			if field.Name != name || name == "reject_limit" {
				continue
			}
			at := slices.IndexFunc(field.Choices, func(choice choice) bool { return choice.Value == value })
			switch {
			case field.Choices == nil:
				return []remedy{f.remedy(name, value, field.Label+": "+value)}
			case at >= 0:
				return []remedy{f.remedy(name, value, field.Label+": "+field.Choices[at].Label)}
			}
		}
	}
	return nil
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
