package web

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lib/pq"
)

// An uploadField is an option of an upload that is written into the form.
type uploadField struct{ Name, Label, Placeholder string }

func uploadFields() []uploadField {
	return []uploadField{
		{"key", "Key", "id, or country,year"},
		{"type", "Types of columns", "zip=text; amount=numeric(10,2)"},
		{"null", "Text that means NULL", "the empty one"},
		{"delimiter", "Delimiter", "look"},
		{"quote", "Quote", "look"},
		{"escape", "Escape within quotes", "look"},
		{"encoding", "Encoding", "look"},
		{"skip", "Lines before the header", "look"},
		{"distribute_by", "Distribute by (Citus)", "a column"},
	}
}

// HasUploadOptions tells whether one of the options is set that are folded away.
func (p page) HasUploadOptions() bool {
	return p.Upload.Get("header")+p.Upload.Get("ragged") != "" ||
		slices.ContainsFunc(uploadFields(), func(field uploadField) bool { return p.UploadOption(field.Name) != "" })
}

// UploadOption is what was written for an option of the upload. Types that were chosen of the plan's
// lists are shown there.
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

// HasType tells whether a type was chosen for a column.
func (p page) HasType(column, typeName string) bool {
	return slices.Contains(p.Upload["type"], typeOption(column, typeName))
}

// HasAnyType tells whether one of the ladder's types was chosen for a column.
func (p page) HasAnyType(column string) bool {
	return slices.ContainsFunc(p.Types, func(typeName string) bool { return p.HasType(column, typeName) })
}

// typeOption is the upload's option "type" for one column.
func typeOption(column, typeName string) string {
	if strings.ContainsAny(column, `;"`) || strings.TrimSpace(column) != column {
		column = identifier(column)
	}
	return column + "=" + typeName
}

// fillTypes reads the types that a column of a table may get.
func (s *server) fillTypes(ctx context.Context, shown *page) error {
	if shown.Plan == nil {
		return nil
	}
	err := s.pool(ctx).QueryRowContext(ctx, `
		select array_agg(type_name order by rank)
		  from tinydevcrm.csv_types`).Scan(pq.Array(&shown.Types))
	if err != nil {
		return fmt.Errorf("read the types of columns: %w", err)
	}
	return nil
}
