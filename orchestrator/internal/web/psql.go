package web

import (
	"fmt"
	"strings"
)

// A dialect is how the file of an import is written.
type dialect struct {
	HasHeader                          bool
	Delimiter, Quote, Escape, Encoding string
	SkipLines                          int
}

// Headers are the columns of the table, as columns of a staging table for psql's \copy.
func (t table) Headers() string {
	columns := make([]string, len(t.Columns))
	for i, column := range t.Columns {
		columns[i] = identifier(column.Name) + " text"
	}
	return strings.Join(columns, ", ")
}

// CopyOptions are the options with which psql's \copy reads the table's file.
func (t table) CopyOptions() string {
	options := "format csv"
	if t.Dialect.HasHeader {
		options += ", header"
	}
	for _, option := range []struct{ name, value, usual string }{
		{"delimiter", t.Dialect.Delimiter, ","},
		{"quote", t.Dialect.Quote, `"`},
		{"escape", t.Dialect.Escape, t.Dialect.Quote},
		{"encoding", t.Dialect.Encoding, "UTF8"},
	} {
		if t.Dialect.Quote == "" && option.name == "escape" {
			continue
		}
		if t.Dialect.Quote == "" && option.name == "quote" {
			// \copy always has a quote: one that no text contains.
			options += `, quote e'\x01'`
			continue
		}
		if option.value != option.usual {
			options += fmt.Sprintf(", %s %s", option.name, literal(option.value))
		}
	}
	return options
}

// CopySource is what \copy reads: the file, or a program, because \copy cannot skip lines or decompress. It cannot
// read UTF-16 at all.
func (t table) CopySource() string {
	var commands []string
	if strings.HasSuffix(strings.ToLower(t.Source), ".gz") {
		commands = append(commands, "gzip -dc "+literal(t.Source))
	}
	if t.Dialect.SkipLines > 0 {
		commands = append(commands, fmt.Sprintf("tail -n +%d", t.Dialect.SkipLines+1))
	}
	if len(commands) == 0 {
		return literal(t.Source)
	}
	if len(commands) == 1 && t.Dialect.SkipLines > 0 {
		commands[0] += " " + literal(t.Source)
	}
	return "program " + literal(strings.Join(commands, " | "))
}

// ImportOptions are the arguments with which tinydevcrm.import_staging() repeats the import.
func (t table) ImportOptions() string {
	options := t.modeOptions()
	if t.DistributeBy != "" {
		options += ", distribute_by => " + literal(t.DistributeBy)
	}
	return options
}

func (t table) modeOptions() string {
	if t.Mode == "create" {
		// The table exists by now.
		return ", mode => 'replace'"
	}
	options := ", mode => " + literal(t.Mode)
	if len(t.UpsertKey) > 0 {
		keys := make([]string, len(t.UpsertKey))
		for i, key := range t.UpsertKey {
			keys[i] = literal(key)
		}
		options += fmt.Sprintf(", key => array[%s]", strings.Join(keys, ", "))
	}
	return options
}
