package uploads

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

// A recipe is how an import is done in psql, or else by the program.
type recipe struct {
	Source, Table, Mode string
	UpsertKey           []string
	DistributeBy        string
	// Dialect is how the file is written; nil for an import from a staging table.
	Dialect *upload.Dialect
	Columns []upload.Column
	// Options are those that were given for a preview; nil for an import of the log.
	Options url.Values
}

// IsInSQL reports whether psql alone can do it: \copy reads CSV, in encodings that the server knows, with delimiters of one
// character and without blanks around quotes, and it knows no other options than these.
func (r recipe) IsInSQL() bool {
	if r.Dialect == nil {
		return true
	}
	for option := range r.Options {
		if r.Options.Get(option) != "" && !slices.Contains(copyOptions(), option) {
			return false
		}
	}
	isOfServer := !strings.HasPrefix(r.Dialect.Encoding, "UTF16") && r.Dialect.Encoding != "MACINTOSH"
	isZip := r.Dialect.Members != nil || strings.EqualFold(path.Ext(r.Source), ".zip")
	return r.Dialect.Format == "csv" && !isZip && !r.Dialect.HasBlanks && len(r.Dialect.Delimiter) == 1 && isOfServer
}

// copyOptions are those of an upload that psql's commands follow.
func copyOptions() []string {
	return []string{"table", "mode", "key", "distribute_by", "format", "delimiter", "quote", "escape", "encoding", "skip"}
}

// Command is how the program does it.
func (r recipe) Command() string {
	options, file := r.Options, r.Source
	if options == nil {
		options = url.Values{"table": {r.Table}, "mode": {r.Mode}, "key": r.UpsertKey, "distribute_by": {r.DistributeBy},
			"sheet": {r.Dialect.Sheet}, "member": r.Dialect.Members}
		file = zipOf(r.Source, r.Dialect.Members)
	}
	if strings.HasPrefix(file, "-") {
		file = "./" + file
	}
	words := []string{"orchestrator upload", shellWord(file)}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		for _, value := range options[name] {
			if value != "" && value != "create" {
				words = append(words, "--"+strings.ReplaceAll(name, "_", "-"), shellWord(value))
			}
		}
	}
	return strings.Join(words, " ")
}

// zipOf is the zip that a file of the log was in: its name comes after that of the zip when it was asked for alone.
func zipOf(source string, members []string) string {
	if len(members) == 0 {
		return source
	}
	if zip, isIn := strings.CutSuffix(source, "/"+members[0]); isIn {
		return zip
	}
	if at := strings.Index(strings.ToLower(source), ".zip/"); at >= 0 {
		return source[:at+len(".zip")]
	}
	return source
}

// shellWord is a text as one word of a shell's command.
func shellWord(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
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

// unpackers are the commands that unpack a file, by the ending of its name.
func unpackers() map[string]string {
	return map[string]string{".gz": "gzip -dc ", ".zst": "zstd -dc ", ".bz2": "bzip2 -dc "}
}

// CopySource is what \copy reads: the file, or a program, because \copy cannot skip lines or decompress.
func (r recipe) CopySource() string {
	var commands []string
	if unpack := unpackers()[strings.ToLower(path.Ext(r.Source))]; unpack != "" {
		commands = append(commands, unpack+shellWord(r.Source))
	}
	if r.Dialect.SkipLines > 0 {
		commands = append(commands, fmt.Sprintf("tail -n +%d", r.Dialect.SkipLines+1))
	}
	if len(commands) == 0 {
		return kit.Literal(r.Source)
	}
	if len(commands) == 1 && r.Dialect.SkipLines > 0 {
		commands[0] += " " + shellWord(r.Source)
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
