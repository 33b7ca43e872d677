package web

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lib/pq"
)

// An uploadField is an option of an upload for which the form has a text field.
type uploadField struct{ Name, Label, Placeholder string }

func uploadFields() []uploadField {
	return []uploadField{
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

// An uploadChoice is an option of an upload for which the form has a list.
type uploadChoice struct {
	Name, Label string
	// Values are what it can be; the first, which is empty, is the default.
	Values []uploadValue
}

type uploadValue struct{ Value, Label string }

func uploadChoices() []uploadChoice {
	return []uploadChoice{
		{"header", "First line", []uploadValue{{"", "found in the file"}, {"yes", "names the columns"}, {"no", "is data"}}},
		{"ragged", "Lines with too few or too many fields",
			[]uploadValue{{"", "stop: import nothing"}, {"pad", "fill up, or add columns"}, {"reject", "leave them out"}}},
		{"bad", "Lines with values that do not fit", []uploadValue{{"", "stop: import nothing"}, {"reject", "leave them out"}}},
		{"new_columns", "Columns that only the file has",
			[]uploadValue{{"", "stop: import nothing"}, {"add", "add them to the table"}, {"ignore", "ignore them"}}},
		{"missing_columns", "Columns that only the table has", []uploadValue{{"", "stop: import nothing"}, {"null", "are NULL"}}},
		{"widen", "Values that a column of the table cannot hold",
			[]uploadValue{{"", "stop: import nothing"}, {"yes", "give the column a wider type"}}},
		{"quoted_empty", `What "" means`, []uploadValue{{"", "the empty text"}, {"null", "NULL"}}},
		{"trim", "Blanks around values", []uploadValue{{"", "belong to them"}, {"yes", "are left out"}}},
	}
}

// HasUploadOptions reports whether one of the folded options is set.
func (p page) HasUploadOptions() bool {
	return slices.ContainsFunc(uploadChoices(), func(choice uploadChoice) bool { return p.Upload.Get(choice.Name) != "" }) ||
		slices.ContainsFunc(uploadFields(), func(field uploadField) bool { return p.UploadOption(field.Name) != "" })
}

// UploadOption is the text that was typed for an option of the upload. The types that were chosen from the
// preview's lists are not in it: the lists show them.
func (p page) UploadOption(name string) string {
	values := slices.Clone(p.Upload[name])
	if name == "type" && p.Plan != nil {
		for _, column := range p.Plan.Columns {
			values = slices.DeleteFunc(values, func(value string) bool {
				return slices.Contains(p.Types, strings.TrimPrefix(value, typeOption(column.Name, "")))
			})
		}
	}
	return strings.Join(values, "; ")
}

// HasType reports whether this type was chosen for a column.
func (p page) HasType(column, typeName string) bool {
	return slices.Contains(p.Upload["type"], typeOption(column, typeName))
}

// HasAnyType reports whether one of the ladder's types was chosen for a column.
func (p page) HasAnyType(column string) bool {
	return slices.ContainsFunc(p.Types, func(typeName string) bool { return p.HasType(column, typeName) })
}

// typeOption is the value of the upload's option "type" for one column.
func typeOption(column, typeName string) string {
	if strings.ContainsAny(column, `;"`) || strings.TrimSpace(column) != column {
		column = identifier(column)
	}
	return column + "=" + typeName
}

// fillTypes reads the types and forms that can be chosen for a column, each once.
func (s *server) fillTypes(ctx context.Context, shown *page) error {
	if shown.Plan == nil {
		return nil
	}
	err := s.pool(ctx).QueryRowContext(ctx, `
		select array_agg(name order by list, rank)
		  from (
		    select 1 as list, min(rank) as rank, type_name as name
		      from tinydevcrm.csv_types
		     group by type_name
		    union all
		    select 2, rank, name
		      from tinydevcrm.csv_forms
		  ) as choices`).Scan(pq.Array(&shown.Types))
	if err != nil {
		return fmt.Errorf("read the types of columns: %w", err)
	}
	return nil
}
