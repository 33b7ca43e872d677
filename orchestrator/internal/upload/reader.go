package upload

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// A namedReader reads the records of a file whose format names the columns. A CSV file has another way: see readHeader.
type namedReader interface {
	// Next returns a record with a field for each of Columns, io.EOF after the last, or an error of which each
	// UserError is for the user. The memory of a record is used again for the next.
	Next() (*records.Record, error)
	// Columns are those of the records so far, by first appearance. Next may add some at the end.
	Columns() []records.Column
	// Grows reports whether a record may lack columns, which are NULL in it then, and bring others.
	Grows() bool
	Close() error
}

// A fileFormat is a way of writing a table in a file.
type fileFormat struct {
	name, label string
	// isIt reports whether a file is written in this way, by its name and the beginning of its text. The first format
	// that says so is taken.
	isIt func(sample []byte, name string) bool
	// open is nil for CSV.
	open func(text io.Reader, request Request) (namedReader, error)
}

// fileFormats are all formats, and CSV as the last.
func fileFormats() []fileFormat {
	return []fileFormat{
		{"jsonl", "JSON lines", isJSONLines, openJSONLines},
		{"json", "JSON", isJSON, openJSONList},
		{"csv", "CSV", func([]byte, string) bool { return true }, nil},
	}
}

// formatNames are the values of the option format.
func formatNames() []string {
	var names []string
	for _, format := range fileFormats() {
		names = append(names, format.name)
	}
	return names
}

// findFormat finds in which format a file is, unless that is given.
func findFormat(sample []byte, name, given string) (fileFormat, error) {
	formats := fileFormats()
	at := slices.IndexFunc(formats, func(format fileFormat) bool {
		if given != "" {
			return format.name == given
		}
		return format.isIt(sample, strings.ToLower(name))
	})
	if at < 0 {
		return fileFormat{}, fmt.Errorf("no format %q", given)
	}
	return formats[at], nil
}

// openNamed reads the first record of a file that names its columns.
func (l *loader) openNamed(format fileFormat, text io.Reader) (Dialect, error) {
	var err error
	if l.named, err = format.open(text, l.request); err != nil {
		return Dialect{}, err
	}
	l.ahead, err = l.named.Next()
	if errors.Is(err, io.EOF) {
		return Dialect{}, &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: "the file has no records",
			Hint:    "Choose a file with at least one.",
		}
	}
	if err != nil {
		return Dialect{}, explainRecord(err)
	}
	l.header = nil
	for _, column := range l.named.Columns() {
		l.header = append(l.header, column.Name)
	}
	l.width = len(l.header)
	return Dialect{Format: format.name, Encoding: "UTF8"}, nil
}

// closeNamed ends the reader of the file before.
func (l *loader) closeNamed() error {
	if l.named == nil {
		return nil
	}
	closed := l.named
	l.noteJSON()
	l.named = nil
	return closed.Close()
}

// noteJSON notes which columns have had JSON, and which other values.
func (l *loader) noteJSON() {
	if l.named == nil {
		return
	}
	for i, column := range l.named.Columns() {
		if i < len(l.series.places) && l.series.places[i] >= 0 {
			at := &l.table.contents[l.series.places[i]]
			at.hasJSON = at.hasJSON || column.HasJSON
			at.hasOther = at.hasOther || column.HasOther
		}
	}
}

// declaredTypes are the types that the file declares, but for columns to which the request gives one.
func (l *loader) declaredTypes() map[string]string {
	if l.named == nil {
		return l.request.Types
	}
	count := make(map[string]int)
	for _, name := range l.series.header {
		count[name]++
	}
	types := make(map[string]string)
	for _, column := range l.named.Columns() {
		if column.Type != "" && count[column.Name] == 1 {
			types[column.Name] = column.Type
		}
	}
	maps.Copy(types, l.request.Types)
	return types
}
