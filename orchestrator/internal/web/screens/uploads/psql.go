package uploads

import (
	"fmt"
	"strings"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

// A recipe is how an import is done in psql.
type recipe struct {
	Source, Table, Mode string
	UpsertKey           []string
	DistributeBy        string
	// Dialect is how the file is written; nil for an import from a staging table.
	Dialect *upload.Dialect
	Columns []upload.Column
}

// Headers are the columns of a staging table for psql's \copy.
func (r recipe) Headers() string {
	columns := make([]string, len(r.Columns))
	for i, column := range r.Columns {
		columns[i] = pq.QuoteIdentifier(column.Name) + " text"
	}
	return strings.Join(columns, ", ")
}

// CopyOptions are the options with which psql's \copy reads the file.
func (r recipe) CopyOptions() string {
	options := "format csv"
	if r.Dialect.HasHeader {
		options += ", header"
	}
	for _, option := range []struct{ name, value, usual string }{
		{"delimiter", r.Dialect.Delimiter, ","},
		{"quote", r.Dialect.Quote, `"`},
		{"escape", r.Dialect.Escape, r.Dialect.Quote},
		{"encoding", r.Dialect.Encoding, "UTF8"},
	} {
		if r.Dialect.Quote == "" && option.name == "escape" || option.name == "escape" && option.value == "" {
			continue
		}
		if r.Dialect.Quote == "" && option.name == "quote" {
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
func (r recipe) CopySource() string {
	var commands []string
	if strings.HasSuffix(strings.ToLower(r.Source), ".gz") {
		commands = append(commands, "gzip -dc "+kit.Literal(r.Source))
	}
	if r.Dialect.SkipLines > 0 {
		commands = append(commands, fmt.Sprintf("tail -n +%d", r.Dialect.SkipLines+1))
	}
	if len(commands) == 0 {
		return kit.Literal(r.Source)
	}
	if len(commands) == 1 && r.Dialect.SkipLines > 0 {
		commands[0] += " " + kit.Literal(r.Source)
	}
	return "program " + kit.Literal(strings.Join(commands, " | "))
}

// ImportOptions are the arguments of tinydevcrm.import_staging() that are not the usual ones.
func (r recipe) ImportOptions() string {
	var options string
	if r.Mode != "" && r.Mode != "create" {
		options += ", mode => " + kit.Literal(r.Mode)
	}
	if len(r.UpsertKey) > 0 {
		keys := make([]string, len(r.UpsertKey))
		for i, key := range r.UpsertKey {
			keys[i] = kit.Literal(key)
		}
		options += fmt.Sprintf(", key => array[%s]", strings.Join(keys, ", "))
	}
	if r.DistributeBy != "" {
		options += ", distribute_by => " + kit.Literal(r.DistributeBy)
	}
	return options
}
