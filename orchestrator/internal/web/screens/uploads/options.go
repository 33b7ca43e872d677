package uploads

import (
	"slices"
	"strings"

	"github.com/lib/pq"
)

// A field is an option of an upload for which the form has a text field.
type field struct{ Name, Label, Placeholder string }

// Fields are the options with a text field.
func (f *form) Fields() []field {
	return []field{
		{"key", "Key", "id, or country,year"},
		{"type", "Types of columns", "zip=text; amount=numeric(10,2)"},
		{"null", "Texts that mean NULL", "the empty text"},
		{"delimiter", "Delimiter", "from the file"},
		{"quote", "Quote", "from the file"},
		{"escape", "Escape within quotes", "from the file"},
		{"encoding", "Encoding", "from the file"},
		{"skip", "Lines before the header", "from the file"},
		{"skip_after_header", "Lines to skip below the header", "0"},
		{"skip_end", "Lines to skip at the end", "0"},
		{"comment", "What begins comments", "none, or #"},
		{"columns", "Names of the columns", "from the file"},
		{"file_column", "Column for the file's name", "none"},
		{"distribute_by", "Distribute by (Citus)", "a column"},
	}
}

// A choice is an option of an upload for which the form has a list.
type choice struct {
	Name, Label string
	// Values are what it can be; the first, which is empty, is the default.
	Values []value
}

type value struct{ Value, Label string }

// Choices are the options with a list.
func (f *form) Choices() []choice {
	return []choice{
		{"header", "First line", []value{{"", "found in the file"}, {"yes", "names the columns"}, {"no", "is data"}}},
		{"ragged", "Lines with too few or too many fields",
			[]value{{"", "stop: import nothing"}, {"pad", "fill up, or add columns"}, {"reject", "leave them out"}}},
		{"bad", "Lines with values that do not fit", []value{{"", "stop: import nothing"}, {"reject", "leave them out"}}},
		{"new_columns", "Columns that only the file has",
			[]value{{"", "stop: import nothing"}, {"add", "add them to the table"}, {"ignore", "ignore them"}}},
		{"missing_columns", "Columns that only the table has", []value{{"", "stop: import nothing"}, {"null", "are NULL"}}},
		{"widen", "Values that a column of the table cannot hold",
			[]value{{"", "stop: import nothing"}, {"yes", "give the column a wider type"}}},
		{"quoted_empty", `What "" means`, []value{{"", "the empty text"}, {"null", "NULL"}}},
		{"trim", "Blanks around values", []value{{"", "belong to them"}, {"yes", "are left out"}}},
	}
}

// HasOptions reports whether one of the folded options is set.
func (f *form) HasOptions() bool {
	return slices.ContainsFunc(f.Choices(), func(choice choice) bool { return f.Options.Get(choice.Name) != "" }) ||
		slices.ContainsFunc(f.Fields(), func(field field) bool { return f.Option(field.Name) != "" })
}

// Option is the text that was typed for an option of the upload. The types that were chosen from the
// preview's lists are not in it: the lists show them.
func (f *form) Option(name string) string {
	values := slices.Clone(f.Options[name])
	if name == "type" && f.Plan != nil {
		for _, column := range f.Plan.Columns {
			values = slices.DeleteFunc(values, func(value string) bool {
				return slices.Contains(f.Types, strings.TrimPrefix(value, f.TypeOption(column.Name, "")))
			})
		}
	}
	return strings.Join(values, "; ")
}

// HasType reports whether this type was chosen for a column.
func (f *form) HasType(column, typeName string) bool {
	return slices.Contains(f.Options["type"], f.TypeOption(column, typeName))
}

// HasAnyType reports whether one of the ladder's types was chosen for a column.
func (f *form) HasAnyType(column string) bool {
	return slices.ContainsFunc(f.Types, func(typeName string) bool { return f.HasType(column, typeName) })
}

// TypeOption is the value of the upload's option "type" for one column.
func (f *form) TypeOption(column, typeName string) string {
	if strings.ContainsAny(column, `;"`) || strings.TrimSpace(column) != column {
		column = pq.QuoteIdentifier(column)
	}
	return column + "=" + typeName
}
