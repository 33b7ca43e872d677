package upload

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

// readHeader determines the columns.
func (l *loader) readHeader(dialect Dialect) error {
	first, err := l.records.next()
	for err == nil && first.IsBlank() && !dialect.HasHeader && l.request.HasHeader == nil {
		first, err = l.records.next()
	}
	if errors.Is(err, io.EOF) {
		return errNoHeader
	}
	if err != nil {
		return explainRecord(err)
	}
	if problem := l.problems.of(first, len(first.Fields)); problem != "" {
		if l.request.Ragged != "pad" || first.IsBad {
			l.problems.note(first, problem)
			return l.problems.refusal()
		}
		l.problems.keep(first, problem, false)
	}
	l.header = make([]string, len(first.Fields))
	l.width = len(l.header)
	l.records.isOneColumn = l.width == 1
	if !dialect.HasHeader {
		l.ahead = first
		return l.nameColumns()
	}
	l.addNames(first)
	for range l.request.HeaderLines - 1 {
		if first, err = l.records.next(); errors.Is(err, io.EOF) {
			return errNoHeader
		}
		if err != nil {
			return explainRecord(err)
		}
		l.addNames(first)
	}
	if err := l.records.discard(l.request.SkipAfterHeader); err != nil {
		return explainRecord(err)
	}
	return l.nameColumns()
}

// addNames adds the cells of a line of the header to the names of the columns.
func (l *loader) addNames(record *records.Record) {
	for i, field := range record.Fields[:min(len(record.Fields), l.width)] {
		name := string(field.Text)
		if l.header[i] != "" && name != "" {
			name = " " + name
		}
		l.header[i] += name
	}
}

// nameColumns gives the columns the names of the request.
func (l *loader) nameColumns() error {
	if l.request.Columns == nil {
		return nil
	}
	if len(l.request.Columns) != l.width {
		return &db.UserError{
			Status: http.StatusUnprocessableEntity,
			Code:   "TD007",
			Message: fmt.Sprintf("%s with a name, but the first line has %s",
				words.Count(int64(len(l.request.Columns)), "column"), words.Count(int64(l.width), "field")),
			Hint: "Name each column of the file (--columns), in the order of the file.",
		}
	}
	l.header = l.request.Columns
	return nil
}
