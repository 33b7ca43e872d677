package tables

import (
	"fmt"
	"strings"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

// Headers are the columns of the table, as columns of a staging table for psql's \copy.
func (t *table) Headers() string {
	columns := make([]string, len(t.Rows.Columns))
	for i, column := range t.Rows.Columns {
		columns[i] = pq.QuoteIdentifier(column.Name) + " text"
	}
	return strings.Join(columns, ", ")
}

// CopyOptions are the options with which psql's \copy reads the file.
func (i imported) CopyOptions() string {
	options := "format csv"
	if i.Dialect.HasHeader {
		options += ", header"
	}
	for _, option := range []struct{ name, value, usual string }{
		{"delimiter", i.Dialect.Delimiter, ","},
		{"quote", i.Dialect.Quote, `"`},
		{"escape", i.Dialect.Escape, i.Dialect.Quote},
		{"encoding", i.Dialect.Encoding, "UTF8"},
	} {
		if i.Dialect.Quote == "" && option.name == "escape" {
			continue
		}
		if i.Dialect.Quote == "" && option.name == "quote" {
			// \copy always has a quote: one that no text contains.
			options += `, quote e'\x01'`
			continue
		}
		if option.value != option.usual {
			options += fmt.Sprintf(", %s %s", option.name, kit.Literal(option.value))
		}
	}
	return options
}

// CopySource is what \copy reads: the file, or a program, because \copy cannot skip lines or decompress. It cannot
// read UTF-16 at all.
func (i imported) CopySource() string {
	var commands []string
	if strings.HasSuffix(strings.ToLower(i.Source), ".gz") {
		commands = append(commands, "gzip -dc "+kit.Literal(i.Source))
	}
	if i.Dialect.SkipLines > 0 {
		commands = append(commands, fmt.Sprintf("tail -n +%d", i.Dialect.SkipLines+1))
	}
	if len(commands) == 0 {
		return kit.Literal(i.Source)
	}
	if len(commands) == 1 && i.Dialect.SkipLines > 0 {
		commands[0] += " " + kit.Literal(i.Source)
	}
	return "program " + kit.Literal(strings.Join(commands, " | "))
}

// ImportOptions are the arguments with which tinydevcrm.import_staging() repeats the import.
func (i imported) ImportOptions() string {
	options := i.modeOptions()
	if i.DistributeBy != "" {
		options += ", distribute_by => " + kit.Literal(i.DistributeBy)
	}
	return options
}

func (i imported) modeOptions() string {
	if i.Mode == "create" {
		// The table exists by now.
		return ", mode => 'replace'"
	}
	options := ", mode => " + kit.Literal(i.Mode)
	if len(i.UpsertKey) > 0 {
		keys := make([]string, len(i.UpsertKey))
		for place, key := range i.UpsertKey {
			keys[place] = kit.Literal(key)
		}
		options += fmt.Sprintf(", key => array[%s]", strings.Join(keys, ", "))
	}
	return options
}
